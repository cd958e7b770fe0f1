"""Splits and cleanses windows that are too large for one machine: Spark runs the code of `cleanse.py`.

Spark reads the days' Parquet files and writes each part to files in the scratch folder, in the order in which it is published.
On a cluster, both folders must have the same path on every machine. No Python runs on the workers.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import re
import shutil
import subprocess
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import narwhals as nw
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sbr_tasks.clicks.columns import Columns
from sbr_tasks.errors import SparkError, WindowError
from sbr_tasks.settings import WindowSettings
from sbr_tasks.window.cleanse import Keep, cleanse, cleanse_by_levels, counts_of, in_order, limit_length, split
from sbr_tasks.window.parts import Cleansing, Split, levels_to_try
from sbr_tasks.window.ragged import Int64s
from sbr_tasks.window.sessions import Catalog
from sbr_tasks.window.stages import Stages

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

LOCAL = "local[*]"
_MAX_WAIT_S = 5.0
_ROWS_AT_ONCE = 1 << 20
_PATTERN = re.compile(r"[{}\[\]*?\\]")
"""Characters that Spark reads as a pattern in file names."""
_ESCAPED = r"\\\g<0>"

_QUIET = """rootLogger.level = error
rootLogger.appenderRef.stderr.ref = stderr
appender.stderr.type = Console
appender.stderr.name = stderr
appender.stderr.target = SYSTEM_ERR
appender.stderr.layout.type = PatternLayout
appender.stderr.layout.pattern = %d{HH:mm:ss} Spark %p %c{1}: %m%n%ex{3}
logger.python.name = org.apache.spark.api.python.PythonGatewayServer
logger.python.level = error
"""


@dataclass(frozen=True)
class SparkPart:
    """A part of a window, as Spark wrote it; see `Part`."""

    files: Sequence[Path]
    of_files: pa.Schema
    n_clicks: int
    n_sessions: int
    span_us: tuple[int, int] | None
    catalog: Catalog
    support: Int64s

    @classmethod
    def of(cls, folder: Path, schema: pa.Schema) -> SparkPart:
        """Computes the counts of a part, in one pass over its files."""
        files = sorted(folder.glob("part-*.parquet"))
        n_clicks = n_sessions = 0
        spans: list[int] = []
        last_session: Any = None
        ids, counts = [pa.array([], schema.field(Columns.ITEM).type)], [np.empty(0, np.int64)]
        for table in _tables(files, schema, _ROWS_AT_ONCE):
            n_clicks += len(table)
            sessions = table.column(Columns.SESSION).chunk(0)
            n_sessions += pc.not_equal(sessions[1:], sessions[:-1]).true_count + (sessions[0] != last_session)
            last_session = sessions[-1]
            times = table.column(Columns.TIME).cast(pa.int64()).to_numpy()
            spans += [int(times.min()), int(times.max())]
            counted = table.column(Columns.ITEM).chunk(0).value_counts()
            ids.append(counted.field("values"))
            counts.append(counted.field("counts").to_numpy())
        items = pa.concat_arrays(ids).dictionary_encode()
        support = np.bincount(items.indices.to_numpy(), np.concatenate(counts), len(items.dictionary)).astype(np.int64)
        order = pc.array_sort_indices(items.dictionary)
        span = (min(spans), max(spans)) if spans else None
        catalog = Catalog(items.dictionary.take(order))
        return cls(files, schema, n_clicks, n_sessions, span, catalog, support[order.to_numpy()])

    @property
    def schema(self) -> pa.Schema:
        """The schema of `tables`."""
        return self._coded(self.of_files.empty_table()).schema

    def tables(self, rows: int) -> Iterator[pa.Table]:
        """The clicks in order, in tables of `rows` clicks; the last one may be shorter."""
        return map(self._coded, _tables(self.files, self.of_files, rows))

    def _coded(self, clicks: pa.Table) -> pa.Table:
        at = clicks.column_names.index(Columns.ITEM)
        return clicks.set_column(at, Columns.CODE, pc.index_in(clicks.column(at), value_set=self.catalog.array))


def split_on_spark(
    files: Sequence[Path],
    schema: pa.Schema,
    window: WindowSettings,
    *,
    validation_start_us: int,
    test_start_us: int,
    scratch: Path,
    stages: Stages,
) -> Split:
    """Splits and cleanses clicks on Spark; see `cleanse.py`.

    Args:
        files: Parquet files of clicks, verified, each with `session_id` and `item_id` of the same types.
        schema: The schema of the clicks: `session_id`, `item_id`, `clicked_at`.
        window: The settings.
        validation_start_us: Where the validation day starts, microseconds since 1970.
        test_start_us: Where the test day starts.
        scratch: Folder for the parts, which must exist until they are published.
        stages: Records how long starting Spark, cleansing and splitting take.

    Raises:
        WindowError: Spark or Java isn't installed.
        SparkError: Spark can't be started or reached, or fails.
    """
    with ExitStack() as until_split:
        with stages("start"):
            session = until_split.enter_context(spark_session(window, scratch))
        keep = keep_on(session)
        clicks, parts = _read(session, files), dict[str, SparkPart]()

        def write(name: str, part: nw.LazyFrame[Any]) -> None:
            in_order(part).to_native().write.parquet(f"file://{scratch / name}")
            parts[name] = SparkPart.of(scratch / name, schema)

        if window.cleanse == "window":
            with stages("cleanse"):
                clicks, cleansing = _cleanse(clicks, window, None, keep)
        with stages("split"):
            split_clicks = split(clicks, validation_start_us=validation_start_us, test_start_us=test_start_us, keep=keep)
        if window.cleanse == "training":
            with stages("cleanse"):  # before the passes over `train`, which release the clicks that both need
                split_clicks["refit"], _ = _cleanse(split_clicks["refit"], window, None, keep_on(session))
        with stages("split"):
            train = split_clicks.pop("train")
            for name, part in split_clicks.items():
                write(name, part)
        if window.cleanse == "training":
            with stages("cleanse"):
                train, cleansing = _cleanse(train, window, parts["test"], keep)
        else:
            with stages("cleanse"):
                train = keep(train)
                _, passes = cleanse(train, shortest=window.shortest, least_click=window.least_click)
                cleansing = replace(cleansing, fair_items=passes[-1].items)
        with stages("split"):
            write("train", train)
        return Split(parts, cleansing)


def _cleanse(
    clicks: nw.LazyFrame[Any], window: WindowSettings, test: SparkPart | None, keep: Keep
) -> tuple[nw.LazyFrame[Any], Cleansing]:
    """Limits the length of sessions and cleanses; see `memory.cleanse_part`."""
    before, too_long, levels = counts_of(clicks), None, [window.least_click]
    if window.longest is not None:
        clicks, too_long = limit_length(clicks, longest=window.longest, action=window.longest_action)
    if test is not None:
        support = clicks.group_by("item").agg(clicks=nw.len()).collect().to_arrow()
        item_ids = support.column("item").combine_chunks()
        levels = list(levels_to_try(item_ids, support.column("clicks").to_numpy(), test, window.least_click))
    kept, passes, counted = cleanse_by_levels(
        clicks,
        levels,
        lambda remaining, least_click: cleanse(remaining, shortest=window.shortest, least_click=least_click, keep=keep),
        lambda remaining: remaining.select("item").unique().collect().to_arrow().column("item").combine_chunks(),
    )
    return kept, Cleansing(before, too_long, passes, counted)


@contextmanager
def spark_session(window: WindowSettings, scratch: Path) -> Iterator[SparkSession]:
    """Yields a Spark session, then stops it and its Java process, so that the next one may have other memory.

    If this process has an active session, that one is used, and isn't stopped.

    Args:
        window: `spark_master` and `spark_memory` are used.
        scratch: Folder for the files of a local Spark.

    Raises:
        WindowError: Spark or Java isn't installed.
        SparkError: Spark can't be started or reached, or fails in the `with` block.
    """
    _require_spark()
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException
    from pyspark.sql import SparkSession

    master = window.spark_master or LOCAL
    active = session = SparkSession.getActiveSession()
    logging.getLogger("py4j").setLevel(logging.WARNING)  # it logs each connection
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "PySpark does not yet fully support pandas", FutureWarning)  # no pandas in use
            if session is None:
                builder = SparkSession.builder.master(master)
                for name, value in _properties(master, window.spark_memory, scratch).items():
                    builder = builder.config(name, value)
                session = builder.getOrCreate()
            yield session
    except (PySparkException, Py4JError, ConnectionError) as error:
        raise SparkError(
            f"Spark ({master}, {window.spark_memory} of memory) failed: {_what_failed(error)}. Nothing was stored. "
            "If memory was short, raise window.spark_memory. A cluster must be in reach, and see the folders of the store "
            f"and of the setting scratch ({scratch.parent}) where this machine does. Spark needs Java 17 or newer."
        ) from error
    finally:
        if active is None:
            _end_spark(session)


def keep_on(session: SparkSession) -> Keep:
    """Returns a function that caches a frame without its lineage, and releases the frames it cached before.

    Without it, Spark would start each pass from the files and plan all previous passes again.
    """
    kept_before: list[Any] = []

    def keep(frame: nw.LazyFrame[Any]) -> nw.LazyFrame[Any]:
        context = session.sparkContext._jsc
        others = set(context.getPersistentRDDs())
        kept: nw.LazyFrame[Any] = nw.from_native(frame.to_native().localCheckpoint())
        for rdd in kept_before:
            rdd.unpersist()
        kept_before[:] = [rdd for number, rdd in context.getPersistentRDDs().items() if number not in others]
        return kept

    return keep


def _read(session: SparkSession, files: Sequence[Path]) -> nw.LazyFrame[Any]:
    from pyspark.sql import functions as spark

    paths = [f"file://{_PATTERN.sub(_ESCAPED, str(file))}" for file in files]
    columns = (
        spark.col(Columns.SESSION).alias("session"),
        spark.col(Columns.ITEM).alias("item"),
        spark.unix_micros(Columns.TIME).alias("clicked_at"),
        # Clicks with equal times are of one day, so of one file, whose rows are in the order of the source.
        spark.col("_metadata.row_index").alias("place"),
    )
    clicks: nw.LazyFrame[Any] = nw.from_native(session.read.parquet(*paths).select(*columns))
    return clicks


def _tables(files: Sequence[Path], schema: pa.Schema, rows: int) -> Iterator[pa.Table]:
    """The clicks of the files in order; each column of a table is one chunk, as in `Sessions`."""
    waiting = schema.empty_table()
    for file in files:
        with pq.ParquetFile(file) as clicks:
            for batch in clicks.iter_batches(rows, columns=["session", "item", "clicked_at"]):
                waiting = pa.concat_tables([waiting, pa.Table.from_arrays(batch.columns, schema.names).cast(schema)])
                while len(waiting) >= rows:
                    yield waiting.slice(0, rows).combine_chunks()
                    waiting = waiting.slice(rows)
    if len(waiting):
        yield waiting.combine_chunks()


def _properties(master: str, memory: str, scratch: Path) -> dict[str, str]:
    logs = scratch / "log4j2.properties"
    logs.write_text(_QUIET)
    properties = {
        "spark.app.name": "sbr window",
        "spark.driver.memory": memory,
        "spark.executor.memory": memory,
        "spark.driver.extraJavaOptions": f'"-Dlog4j2.configurationFile={logs.as_uri()}"',
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.warehouse.dir": (scratch / "warehouse").as_uri(),
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
    }
    if not master.startswith("local"):
        return properties
    loopback = {"spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1"}
    return properties | loopback | {"spark.local.dir": str(scratch / "shuffle")}


def _require_spark() -> None:
    java_home = os.environ.get("JAVA_HOME")
    java = Path(java_home, "bin", "java") if java_home else Path("java")
    lacking = []
    if importlib.util.find_spec("pyspark") is None:
        lacking.append("the package pyspark (pip install 'sbr-tasks[spark]')")
    if shutil.which(java) is None:
        lacking.append("Java 17 or newer (in Debian the package openjdk-17-jre-headless, elsewhere set JAVA_HOME)")
    if lacking:
        raise WindowError(
            f"window.engine is 'spark', but this machine lacks {' and '.join(lacking)}. "
            "Install what is lacking, or set window.engine to 'memory'."
        )


def _what_failed(error: Exception) -> str:
    """The line of an error that names the cause; the first line of a Java error only names the call."""
    from py4j.protocol import Py4JJavaError
    from pyspark import SparkContext
    from pyspark.errors import PySparkException

    gateway = SparkContext._gateway
    if gateway and gateway.proc and not isinstance(error, Py4JJavaError | PySparkException):  # not raised by Java
        with suppress(subprocess.TimeoutExpired):
            code = gateway.proc.wait(_MAX_WAIT_S)
            return f"its Java process ended with code {code} (-9: the system ended it, most often for want of memory)"
    lines = str(error).strip().splitlines() or [type(error).__name__]
    is_java = lines[0].startswith("An error occurred while calling") and len(lines) > 1
    return lines[is_java].removeprefix(": ").rstrip(".")


def _end_spark(session: SparkSession | None) -> None:
    """Stops the session and its Java process, which pyspark would reuse with the same memory."""
    from py4j.protocol import Py4JError
    from pyspark import SparkContext

    with suppress(Py4JError, ConnectionError):  # Java may have died
        if session:
            session.stop()
    gateway = SparkContext._gateway
    SparkContext._gateway = SparkContext._jvm = SparkContext._active_spark_context = None
    if gateway and gateway.proc:  # under spark-submit, Java is the parent
        gateway.shutdown()
        gateway.proc.stdin.close()
        gateway.proc.wait()
