"""Each kind of record in the store, as a golden file: its fields and the types of its values.

`pytest tests/golden --update-golden` rewrites the files; their diff shows what a change does to the records.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from sbr_tasks.demo import write_demo_clicks
from sbr_tasks.upkeep.clear import remove_day, remove_unneeded
from sbr_tasks.validation.closing import commit_closing, commit_opening
from sbr_tasks.validation.quarantine import commit_release
from sbr_tasks.wish import Wish
from sbr_tasks.workspace import Workspace

GOLDEN = Path(__file__).parent / "records"
KINDS = {
    "commits/clicks/": "commit",
    "promotions/": "promotion_log",
    "windows/": "window",
    "profiles/": "profile",
    "models/": "version",
    "evaluations/": "evaluation",
    "serving/published/": "serving_copy",
}
"""Names of the kinds of records, by the folders that hold them."""
MASKS = (
    (r"\d{4}-\d\d-\d\dT.*", "<time>"),
    (r"\d{4}-\d\d-\d\d-[0-9a-f]{8}", "<version>"),
    (r"\d{4}-\d\d-\d\d", "<day>"),
    (r"\b[0-9a-f]{12,64}\b", "<hash>"),
    (r"^\d+$", "<id>"),
    (r"^\d+(\.\d+)+$", "<release>"),
    (r"\b\d{8}\b", "<number>"),
    (r".* .*", "<text>"),
)
LAST = date(2020, 6, 30)
SETTINGS = {"store": "store", "source.path": "in", "source.settle_seconds": 0, "window.days": 4, "window.least_click": 2}
SETTINGS |= {"model.layers": [16], "model.n_epochs": 2, "upkeep.grace_hours": 0}


def masked(text: str) -> str:
    """A text without what changes from run to run and from machine to machine."""
    for pattern, name in MASKS:
        text = re.sub(pattern, name, text)
    return text


def shape_of(value: Any) -> Any:
    """A JSON value with types instead of numbers, and one element instead of each list of equals."""
    if isinstance(value, dict):
        return {masked(name) if "-" in name else name: shape_of(part) for name, part in value.items()}
    if isinstance(value, list):
        return list({json.dumps(shape): shape for shape in map(shape_of, value)}.values())
    return masked(value) if isinstance(value, str) else "null" if value is None else type(value).__name__


def kind_of(key: str, record: dict[str, Any]) -> str | None:
    """The name of the golden file of a record; None for a file that is no record."""
    for folder, kind in KINDS.items():
        if key.startswith(folder):
            subkind = record.get("kind") or ("removed" if key.endswith("removed.json") else "")
            return f"{kind}_{subkind}".rstrip("_")
    return None


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The shapes of the records of a small shop to which everything happened that leaves a record, by kind."""
    folder = tmp_path_factory.mktemp("golden")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for module in ("wish", "workspace"):
            patch.setattr(f"sbr_tasks.{module}.current_user", lambda: "anna")
        (folder / "in").mkdir()
        write_demo_clicks(folder / "in" / "clicks.dat", end=LAST, days=7, sessions_per_day=80)
        twice = LAST - timedelta(days=3)
        lines = (folder / "in" / "clicks.dat").read_text().splitlines()
        (folder / "in" / "again.dat").write_text("\n".join(line for line in lines if f",{twice}T" in line) + "\n")
        workspace = Workspace.open(SETTINGS)
        settings, store = workspace.settings, workspace.store
        champion = workspace.retrain(LAST - timedelta(days=1), Wish("force", "first release"))
        commit_release(store, settings, twice, reason="nothing is wrong with it", actor="anna")
        workspace.retrain(LAST, Wish("force", "newer clicks"))
        workspace.roll_back(str(champion.champion), "the newer one repeats itself")
        workspace.pin("sale")
        workspace.unpin("the sale is over")
        now = datetime.now(UTC)
        commit_closing(store, LAST + timedelta(days=1), reason="stocktaking", actor="anna", now=now)
        commit_opening(store, LAST + timedelta(days=1), reason="it took an hour", actor="anna", now=now)
        remove_day(store, LAST - timedelta(days=4), reason="bots", now=now)
        remove_unneeded(store, settings, keep_days=0, now=now + timedelta(days=1), is_confirmed=True)
        shapes: dict[str, Any] = {}
        for key in sorted(store.keys("")):
            if key.endswith(".json"):
                record = json.loads(store.get(key).replace(str(folder).encode(), b"<folder>"))
                if kind := kind_of(key, record):
                    shapes[kind] = shape_of(record)
    return shapes


def test_each_kind_of_record_is_as_its_golden_file(records: dict[str, Any], request: pytest.FixtureRequest) -> None:
    if request.config.getoption("--update-golden"):
        for kind, shape in records.items():
            (GOLDEN / f"{kind}.json").write_text(json.dumps(shape, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    golden = {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in GOLDEN.glob("*.json")}
    assert sorted(records) == sorted(golden)
    for kind, shape in records.items():
        assert shape == golden[kind], f"tests/golden/records/{kind}.json"
