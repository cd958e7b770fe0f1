"""The window on Spark against the engine in memory: the same rows, in the same order, in the same bytes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import narwhals as nw
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.records import accepted_unseen
from sbr_tasks.clicks.catalog import ClickCatalog
from sbr_tasks.clicks.ingest import ingest
from sbr_tasks.demo import write_demo_clicks
from sbr_tasks.errors import DamagedError, SparkError, WindowError
from sbr_tasks.settings import Settings, WindowSettings, load_settings, parse_overrides
from sbr_tasks.store import Store
from sbr_tasks.window import build
from sbr_tasks.window.build import window_for_day
from sbr_tasks.window.cleanse import cleanse, in_order, limit_length, split
from sbr_tasks.window.data import read_window
from sbr_tasks.window.memory import cleanse_coded, in_order_coded, limit_coded, split_coded
from sbr_tasks.window.record import Window
from sbr_tasks.window.spark import keep_on, spark_session
from tests.unit.days import at, parquet_settings, write_parquet
from tests.unit.window.test_build import DAYS, OVERRIDES, D, shop
from tests.unit.window.test_coded import Clicks, coded, rows, small_clicks, table

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

SHORT_LIVED = "-XX:TieredStopAtLevel=1"
"""Java's option to start sooner and compile less than it does for long work."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (shutil.which("java") or os.environ.get("JAVA_HOME")),
        reason="no Java on this machine (Debian: openjdk-17-jre-headless)",
    ),
]

ON_SPARK = ("window.engine=spark", "window.spark_master=local[1]")


@pytest.fixture(scope="module")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    """One Spark for this file, which windows that are built meanwhile use as well: starting one takes seconds."""
    window = WindowSettings(engine="spark", spark_master="local[1]", spark_memory="512m")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAVA_TOOL_OPTIONS", SHORT_LIVED)
        with spark_session(window, tmp_path_factory.mktemp("spark")) as session:
            session.conf.set("spark.sql.shuffle.partitions", 2)  # more than one, so that order isn't luck
            session.conf.set("spark.sql.adaptive.enabled", "false")
            yield session


def accepted(settings: Settings, days: list[date] | None = None) -> Store:
    """A store with some or all days of the source, accepted without being looked at."""
    store = Store.open(settings)
    decisions = {revision.day: accepted_unseen(revision) for revision in ingest(store, settings, days=days).revisions}
    ClickCatalog(store).commit_validation(decisions, at="2020-07-01T00:00:00+00:00")
    return store


def built_by_both(store: Store, overrides: list[str], day: date) -> tuple[Window, Window]:
    """The window as each engine makes it of nothing, with its files verified."""
    made = []
    for engine in ("window.engine=memory", "window.engine=spark"):
        for key in store.keys("windows"):
            store.delete(key)
        made.append(window_for_day(store, load_settings(parse_overrides([*overrides, engine])), day))
        for part in made[-1].parts.values():
            store.read(part.file)
    return made[0], made[1]


@settings(max_examples=6)
@given(
    clicks=small_clicks,
    names=st.sampled_from([int, "{:x}-é".format]),
    shortest=st.integers(2, 3),
    least_click=st.integers(1, 4),
    longest=st.integers(3, 6),
    action=st.sampled_from(["drop", "cut"]),
)
def test_both_engines_keep_the_same_rows_in_the_same_order(
    spark: SparkSession,
    clicks: Clicks,
    names: Any,
    shortest: int,
    least_click: int,
    longest: int,
    action: Literal["drop", "cut"],
) -> None:
    named = [(names(session), names(item), at_us) for session, item, at_us in clicks]
    placed = [(*click, place) for place, click in enumerate(named)]
    bounds = {"validation_start_us": 60, "test_start_us": 80}
    expected = split_coded(coded(table(named, pa.int64() if names is int else pa.string())), **bounds)
    limited, expected_loss = limit_coded(expected["train"], longest=longest, action=action)
    expected["train"], expected_passes = cleanse_coded(limited, shortest=shortest, least_click=least_click)

    ids = "long" if names is int else "string"
    frame = nw.from_native(spark.createDataFrame(placed, f"session {ids}, item {ids}, clicked_at long, place long"))
    parts = split(frame, **bounds, keep=keep_on(spark))
    found = {name: in_order(parts[name]).collect().rows() for name in ("validation", "test", "refit")}
    train, loss = limit_length(parts["train"], longest=longest, action=action)
    train, passes = cleanse(train, shortest=shortest, least_click=least_click, keep=keep_on(spark))
    found["train"] = in_order(train).collect().rows()
    assert (loss, passes) == (expected_loss, expected_passes)
    assert found == {name: rows(in_order_coded(part)) for name, part in expected.items()}


@pytest.mark.usefixtures("spark")
def test_clicks_with_equal_times_keep_the_order_of_the_source(tmp_path: Path) -> None:
    items = [5, 1, 9, 1, 7, 3]
    clicks = [(s, items[(s + i) % 6], at(day, 60 * s)) for day in DAYS for s in range(40) for i in range(4)]
    write_parquet(tmp_path / "in" / "clicks.parquet", [(1000 * t.day + s, item, t) for s, item, t in clicks])
    source = [f"store={tmp_path / 'store'}", f"source.path={tmp_path / 'in'}", "source.format=parquet"]
    in_memory, on_spark = built_by_both(
        accepted(load_settings(parse_overrides([*OVERRIDES, *source]))), [*OVERRIDES, *source], D
    )
    assert on_spark == in_memory
    data = read_window(Store.open(load_settings(parse_overrides(source))), in_memory, load_settings().zone)
    assert data.test.item_ids.tolist() == [items[(s + i) % 6] for s in range(40) for i in range(4)]


@pytest.mark.usefixtures("spark")
def test_real_clicks_give_the_same_window(shared_data: Path, tmp_path: Path) -> None:
    source = [f"source.path={shared_data / 'bolcom-serenade'}/t*.txt", "source.format=gru4rec"]
    overrides = [f"store={tmp_path / 'store'}", *source, "window.least_click=2"]
    in_memory, on_spark = built_by_both(accepted(load_settings(parse_overrides(overrides))), overrides, date(2020, 6, 29))
    assert on_spark == in_memory
    assert on_spark.part_clicks == 111_104
    assert [level.least_click for level in on_spark.cleansing.levels] == [1, 2]


@pytest.mark.usefixtures("spark")
def test_window_that_is_cleansed_as_a_whole_is_the_same_too(tmp_path: Path) -> None:
    write_parquet(tmp_path / "in" / "clicks.parquet", shop())
    overrides = [*OVERRIDES, f"store={tmp_path / 'store'}", f"source.path={tmp_path / 'in'}", "source.format=parquet"]
    in_memory, on_spark = built_by_both(
        accepted(load_settings(parse_overrides(overrides))), [*overrides, "window.cleanse=window"], D
    )
    assert on_spark == in_memory


@pytest.mark.usefixtures("spark")
def test_generated_clicks_with_long_sessions_give_the_same_window(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "_ROW_GROUP", 1_000)
    write_demo_clicks(tmp_path / "clicks.dat", days=5, end=date(2014, 9, 30), sessions_per_day=300)
    overrides = [f"store={tmp_path / 'store'}", f"source.path={tmp_path / 'clicks.dat'}", "window.days=5"]
    overrides += ["window.longest=12", "window.longest_action=cut", "timezone=Europe/Amsterdam"]
    in_memory, on_spark = built_by_both(accepted(load_settings(parse_overrides(overrides))), overrides, date(2014, 9, 30))
    assert on_spark == in_memory
    assert on_spark.cleansing.too_long.sessions > 0


@pytest.mark.usefixtures("spark")
def test_store_that_is_no_folder_and_string_ids_give_the_same_window(tmp_path: Path) -> None:
    write_parquet(tmp_path / "in" / "clicks.parquet", shop("SKU-{:03d}".format))
    overrides = [*OVERRIDES, f"store={tmp_path.as_uri()}/store", f"scratch={tmp_path / 'an odd [scratch] {folder}'}"]
    overrides += [f"source.path={tmp_path / 'in'}", "source.format=parquet", "source.id_type=string"]
    (tmp_path / "store").mkdir()
    in_memory, on_spark = built_by_both(accepted(load_settings(parse_overrides(overrides))), overrides, D)
    assert on_spark == in_memory
    assert on_spark.part_clicks == 11


@pytest.mark.usefixtures("spark")
def test_engine_is_no_input_of_a_window(tmp_path: Path) -> None:
    write_parquet(tmp_path / "in" / "clicks.parquet", shop())
    store = accepted(parquet_settings(tmp_path))
    window = window_for_day(store, parquet_settings(tmp_path, *OVERRIDES), D)
    elsewhere = parquet_settings(tmp_path, *OVERRIDES, *ON_SPARK, "window.spark_memory=7g")
    assert window_for_day(store, elsewhere, D) == window


@pytest.mark.usefixtures("spark")
def test_damaged_day_is_refused_before_spark_reads_it(tmp_path: Path) -> None:
    write_parquet(tmp_path / "in" / "clicks.parquet", shop())
    store = accepted(parquet_settings(tmp_path))
    (file,) = tmp_path.glob(f"store/clicks/day={DAYS[1]}/rev=*/*.parquet")
    other = next(tmp_path.glob(f"store/clicks/day={DAYS[0]}/rev=*/*.parquet"))
    file.write_bytes(other.read_bytes())
    with pytest.raises(DamagedError, match="is damaged: its record says"):
        window_for_day(store, parquet_settings(tmp_path, *OVERRIDES, *ON_SPARK), D)


@pytest.mark.usefixtures("spark")
def test_ids_of_different_types_and_nothing_to_train_on_are_refused_as_in_memory(tmp_path: Path) -> None:
    write_parquet(tmp_path / "in" / "clicks.parquet", shop())
    store = accepted(parquet_settings(tmp_path))
    with pytest.raises(WindowError, match=r"cleansing .* left 0, and none to train on"):
        window_for_day(store, parquet_settings(tmp_path, *OVERRIDES, *ON_SPARK, "window.least_click=6"), D)
    write_parquet(tmp_path / "in" / "clicks.parquet", [("a", "x", at(D, 1)), ("a", "y", at(D, 2))])
    mixed = parquet_settings(tmp_path, "source.id_type=string", "ingest.changed_days=take")
    accepted(mixed, [D])
    with pytest.raises(WindowError, match="Expected ids of one type on all days"):
        window_for_day(store, parquet_settings(tmp_path, *OVERRIDES, *ON_SPARK), D)


@pytest.mark.usefixtures("spark")
def test_what_spark_could_not_do_is_said_in_a_sentence(tmp_path: Path) -> None:
    window = WindowSettings(spark_master="local[1]", spark_memory="3g")
    with pytest.raises(SparkError) as caught, spark_session(window, tmp_path / "scratch" / "spark-1") as session:
        session.read.parquet(f"file://{tmp_path}/nowhere")
    assert str(caught.value) == (
        "Spark (local[1], 3g of memory) failed: [PATH_NOT_FOUND] Path does not exist: "
        f"file:{tmp_path}/nowhere. SQLSTATE: 42K03. Nothing was stored. If memory was short, raise window.spark_memory. "
        "A cluster must be in reach, and see the folders of the store and of the setting scratch "
        f"({tmp_path}/scratch) where this machine does. Spark needs Java 17 or newer."
    )


def test_missing_packages_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(WindowError) as caught, spark_session(WindowSettings(), tmp_path):
        pass
    assert str(caught.value) == (
        "window.engine is 'spark', but this machine lacks the package pyspark (pip install 'sbr-tasks[spark]') and Java 17 or "
        "newer (in Debian the package openjdk-17-jre-headless, elsewhere set JAVA_HOME). Install what is lacking, or set "
        "window.engine to 'memory'."
    )


LIFE = """
import json, sys
from pathlib import Path
import psutil
from pyspark.sql import SparkSession
from sbr_tasks.errors import SparkError
from sbr_tasks.settings import WindowSettings
from sbr_tasks.window.spark import spark_session

def java():
    return [process for process in psutil.Process().children(recursive=True) if process.name() == "java"]

def megabytes(session):
    return session.sparkContext._jvm.java.lang.Runtime.getRuntime().maxMemory() >> 20

def started(memory):
    return spark_session(WindowSettings(spark_master="local[1]", spark_memory=memory), Path(sys.argv[1]))

def gone():
    return not java() and SparkSession.getActiveSession() is None

found = {}
with started("512m") as session:
    (process,) = java()
    listening = [at.laddr.ip.removeprefix("::ffff:") for at in process.net_connections() if at.status == "LISTEN"]
    found["listening"] = sorted(set(listening))
    found["page"], found["zone"] = session.sparkContext.uiWebUrl, session.conf.get("spark.sql.session.timeZone")
    found["megabytes"] = [megabytes(session)]
found["gone"] = [gone()]
try:
    with started("700m") as session:
        found["megabytes"].append(megabytes(session))
        java()[0].kill()
        session.range(3).count()
except SparkError as error:
    found["error"] = str(error)
found["gone"].append(gone())
print(json.dumps(found))
"""


def test_spark_has_the_memory_that_was_set_and_is_gone_after_use_even_if_it_was_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", LIFE, str(tmp_path)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SPARK_")}
    environment["JAVA_TOOL_OPTIONS"] = SHORT_LIVED
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found.pop("error").startswith("Spark (local[1], 700m of memory) failed: its Java process ended with code -9 ")
    listening = {"listening": ["127.0.0.1"], "page": None, "zone": "UTC"}
    assert found == listening | {"megabytes": [512, 700], "gone": [True, True]}
