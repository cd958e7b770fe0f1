"""Which errors Airflow retries."""

from __future__ import annotations

import pytest

from sbr_tasks import errors
from sbr_tasks.airflow.retries import RetryTransientErrors

TRANSIENT = {"StoreError", "AlreadyExistsError", "TrackingError", "SparkError", "OSError", "MemoryError"}
ERRORS = [found for found in vars(errors).values() if isinstance(found, type)] + [OSError, MemoryError]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
def test_only_transient_errors_are_retried(error: type[Exception]) -> None:
    decision = RetryTransientErrors().evaluate(error("what to do"), 1, 3)
    expected = ("default", None) if error.__name__ in TRANSIENT else ("fail", "what to do")
    assert (decision.action.value, decision.reason) == expected
