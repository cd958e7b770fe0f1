"""How cleansing the test day affects the gate, and how much of a version's score remains the next morning.

    python -m benchmarks.next_morning [--clicks GLOB --format gru4rec] [--days 7] [--set KEY=VALUE]

Without `--clicks`, clicks are synthetic (`sbr demo-clicks`). A version is trained for each of the last days of the clicks and
for the day before them, in three ways:

    window      cleanse = window, least_click = 5: the whole window is cleansed before the split, as in notebooks
    training    cleanse = training, least_click = 5: what is trained on is cleansed, the test keeps all its sessions
    all items   cleanse = training, least_click = 1: every item of the training days is known

The first table compares the version of each day, the challenger, with that of the day before, the champion, on the same events.
The second scores each version on its own day and on the next one, on all events of both.
"""

from __future__ import annotations

import argparse
import logging
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

from tabulate import tabulate

from sbr_tasks.clicks.catalog import ClickCatalog
from sbr_tasks.clicks.ingest import ingest
from sbr_tasks.days import parse_day
from sbr_tasks.demo import write_demo_clicks
from sbr_tasks.evaluation.metrics import KNOWN_TARGETS
from sbr_tasks.registry.gate import COMPARED, Metrics
from sbr_tasks.registry.scoring import score_models
from sbr_tasks.registry.versions import train_version
from sbr_tasks.settings import Settings, load_settings, parse_overrides
from sbr_tasks.store import Store
from sbr_tasks.validation.validate_days import validate_pending
from sbr_tasks.window.build import window_for_day

WAYS: Mapping[str, Sequence[str]] = {
    "window": ("window.cleanse=window", "window.least_click=5"),
    "training": ("window.cleanse=training", "window.least_click=5"),
    "all items": ("window.cleanse=training", "window.least_click=1"),
}
_DAY = timedelta(days=1)


@dataclass(frozen=True)
class Way:
    """The versions of one way.

    Attributes:
        store: Where they are.
        settings: With which they were trained.
        versions: Names by day.
    """

    store: Store
    settings: Settings
    versions: Mapping[date, str]

    def scores(self, day: date, names: Sequence[str], *, cleanse: str) -> list[Metrics]:
        """What versions score on a day whose window is cleansed so; `training` keeps all its events."""
        window = self.settings.window.model_copy(update={"cleanse": cleanse})
        settings = self.settings.model_copy(update={"window": window})
        found = score_models(self.store, settings, window_for_day(self.store, settings, day), list(names))
        return [found[name].metrics for name in names]


def main() -> None:
    """Trains each way and prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clicks", help="A file or glob; synthetic clicks by default.")
    parser.add_argument("--format", default="yoochoose")
    parser.add_argument("--days", type=int, default=7)
    parser.add_argument("--set", action="append", default=[])
    options = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        clicks = options.clicks or str(Path(folder) / "clicks.dat")
        if not options.clicks:
            write_demo_clicks(Path(clicks), end=parse_day("2014-09-30"), days=40, sessions_per_day=1500, seed=42)
        source = [f"store={folder}/store", f"source.path={Path(clicks).absolute()}", f"source.format={options.format}"]
        store, days = prepare([*options.set, *source], options.days)
        gates, mornings = [], []
        for name, overrides in WAYS.items():
            way = train_days(store, load_settings(parse_overrides([*options.set, *source, *overrides])), days)
            print(f"{name}: {len(days)} versions are trained", flush=True)
            if name == "window":
                gates += gate_rows(f"{name}, its own test", way, cleanse="window")
            gates += gate_rows(f"{name}, all events", way, cleanse="training")
            mornings.append([name, *next_morning(way)])
    print("\nChallenger of the day against the version of the day before, on the same events:\n")
    headers = ["way", "day", "R@20", "champion", "change", "MRR@20", "champion", "change", "known", "champion"]
    formats = ("", "", ".3f", ".3f", "+.1%", ".3f", ".3f", "+.1%", ".2f", ".2f")
    print(tabulate(gates, headers=headers, floatfmt=formats, disable_numparse=[1]))
    print(f"\nEach of {len(days) - 1} versions on its own day and on the next, all events, means over the versions:\n")
    headers = ["way", "R@20 on D", "on D+1", "change", "MRR@20 on D", "on D+1", "change"]
    print(tabulate(mornings, headers=headers, floatfmt=("", ".4f", ".4f", "+.1%", ".4f", ".4f", "+.1%")))


def prepare(overrides: Sequence[str], n_days: int) -> tuple[Store, list[date]]:
    """Ingests and validates the clicks, and returns their last days, with the day before them."""
    settings = load_settings(parse_overrides(overrides))
    store = Store.open(settings)
    ingest(store, settings)
    validate_pending(store, settings)
    last = max(ClickCatalog(store).days())
    return store, [last - i * _DAY for i in reversed(range(n_days + 1))]


def train_days(store: Store, settings: Settings, days: Sequence[date]) -> Way:
    """Trains a version for each day, all from random weights."""
    versions = {day: train_version(store, settings, window_for_day(store, settings, day)).name for day in days}
    return Way(store, settings, versions)


def gate_rows(label: str, way: Way, *, cleanse: str) -> list[list[object]]:
    """One row a day: both metrics of the challenger and of the version of the day before, and the targets that each knows."""
    rows: list[list[object]] = []
    for before, day in zip(way.versions, list(way.versions)[1:], strict=False):
        new, old = way.scores(day, [way.versions[day], way.versions[before]], cleanse=cleanse)
        metrics = [value for name in COMPARED for value in (new[name], old[name], new[name] / old[name] - 1)]
        rows.append([label, str(day), *metrics, new[KNOWN_TARGETS], old[KNOWN_TARGETS]])
    return rows


def next_morning(way: Way) -> list[float]:
    """For both metrics, the mean over the versions on their own day and on the next, and the relative change."""
    found: list[float] = []
    *days, _ = way.versions
    for name in COMPARED:
        on_day, next_day = (
            sum(way.scores(day + later, [way.versions[day]], cleanse="training")[0][name] for day in days) / len(days)
            for later in (0 * _DAY, _DAY)
        )
        found += [on_day, next_day, next_day / on_day - 1]
    return found


if __name__ == "__main__":
    main()
