"""Importing Great Expectations beside an installed Spark."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow


def test_great_expectations_leaves_spark_alone_and_the_process_alive() -> None:
    program = """
import sys
from sbr_tasks.validation.gx import great_expectations
gx = great_expectations()
gx.ExpectationSuite(name="none", expectations=[gx.expectations.ExpectColumnToExist(column="item_id")])
found = "pyspark" in sys.modules
import pyspark
print("spark was imported:", found)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout == "spark was imported: False\n", done.stderr
    assert "FutureWarning" not in done.stderr


def test_great_expectations_is_imported_after_spark_as_well() -> None:
    program = """
import pyspark.sql
from sbr_tasks.validation.gx import great_expectations
gx = great_expectations()
import sys
print(gx.__name__, sys.modules["pyspark.sql"] is pyspark.sql)
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout == "great_expectations True\n", done.stderr
