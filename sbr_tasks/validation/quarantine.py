"""Days in quarantine: what is wrong with them, and a person's decision to use one anyway."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, date, datetime, tzinfo
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sbr_tasks.clicks.catalog import ClickCatalog, DayState
from sbr_tasks.clicks.columns import Columns
from sbr_tasks.clicks.commits import Override, Revision
from sbr_tasks.clicks.formats import is_click_schema
from sbr_tasks.days import day_interval_us
from sbr_tasks.errors import DayError, first_line
from sbr_tasks.settings import Settings
from sbr_tasks.store import Store
from sbr_tasks.summary import Result
from sbr_tasks.wish import require_reason


class QuarantinedDay(Result):
    """A day whose newest clicks are in quarantine.

    Attributes:
        day: The day.
        rev: The revision of these clicks.
        clicks: Their number.
        failures: Sentences on what is wrong with them.
        accepted_rev: The revision that windows read; None if there is none.
    """

    day: date
    rev: str
    clicks: int
    failures: tuple[str, ...]
    accepted_rev: str | None


class QuarantineDetails(Result):
    """Details of a day that is in quarantine or was released from it.

    Attributes:
        day: The day.
        status: Whether it is still in quarantine.
        rev: The revision of its clicks.
        clicks: Their number.
        failures: Sentences on what is wrong with them.
        warnings: Sentences on what is unusual.
        facts: The day's facts, by name.
        examples: Unexpected values, by expectation.
        released: The release; None while it is in quarantine.
        file: Where its clicks are.
        result: Where Great Expectations' result is.
        data_docs: Where the page that shows it is.
    """

    day: date
    status: Literal["quarantined", "released"]
    rev: str
    clicks: int
    failures: tuple[str, ...]
    warnings: tuple[str, ...]
    facts: Mapping[str, Any]
    examples: Mapping[str, tuple[Any, ...]]
    released: Override | None
    file: str
    result: str
    data_docs: str


def quarantine_rows(store: Store) -> list[QuarantinedDay]:
    """The days whose newest clicks are in quarantine, oldest first."""
    return [
        QuarantinedDay(
            day=day,
            rev=state.quarantined.rev,
            clicks=state.quarantined.rows,
            failures=tuple(state.failures),
            accepted_rev=state.accepted.rev if state.accepted else None,
        )
        for day, state in ClickCatalog(store).days().items()
        if state.status == "quarantined" and state.quarantined
    ]


def describe_quarantined(store: Store, day: date) -> QuarantineDetails:
    """Details of a day that is in quarantine or was released from it.

    Raises:
        DayError: The day isn't in quarantine and wasn't released.
    """
    state = ClickCatalog(store).days().get(day, DayState())
    released = state.released if state.status == "accepted" else None
    revision = state.accepted if released else _quarantined(day, state)
    assert revision is not None  # noqa: S101 (narrows the type)
    judged = state.decided[revision.rev]
    result = json.loads(store.get_published(judged.result))
    examples = {
        outcome["expectation_config"]["description"]: values
        for outcome in result["results"]
        if not outcome["success"]
        and (values := outcome["result"].get("partial_unexpected_list"))
        and "observed_value" not in outcome["result"]
    }
    return QuarantineDetails(
        day=day,
        status="released" if released else "quarantined",
        rev=revision.rev,
        clicks=revision.rows,
        failures=judged.failures,
        warnings=judged.warnings,
        facts=judged.facts,
        examples=examples,
        released=released,
        file=store.where(revision.file.key),
        result=store.where(judged.result),
        data_docs=store.where(judged.data_docs),
    )


def commit_release(store: Store, settings: Settings, day: date, *, reason: str, actor: str) -> Revision:
    """Accepts a day's clicks that are in quarantine, on a person's word.

    The release is a commit of its own. It is shown wherever the day is used, also when the same clicks are ingested again.

    Args:
        store: The store with the day.
        settings: The zone of its midnights.
        day: The day.
        reason: Why its clicks may be used.
        actor: Who releases it.

    Returns:
        The revision.

    Raises:
        DayError: The day isn't in quarantine, or its clicks would make a window wrong.
        ReasonError: The reason is blank.
    """
    reason = require_reason(reason, "A release from quarantine")
    catalog = ClickCatalog(store)
    revision = _quarantined(day, catalog.days().get(day, DayState()))
    broken = what_breaks_windows(catalog.read(revision), day, settings.zone)
    if broken:
        raise DayError(
            f"{day} can't be released, because a window can't hold its clicks: {'; '.join(broken)}. "
            "Correct the source and run the day again."
        )
    at = datetime.now(UTC).isoformat(timespec="seconds")
    catalog.commit_release(revision, actor=actor, reason=reason, at=at)
    return revision


def what_breaks_windows(clicks: pa.Table, day: date, zone: tzinfo) -> list[str]:
    """Sentences on why a window can't contain some clicks, even if a person accepts them; empty if it can.

    It can't contain other columns, missing ids or times, times outside the day, or item ids that the serving model would read
    as padding (negative or empty).
    """
    if not is_click_schema(clicks.schema):
        return [f"its columns are {', '.join(f'{field.name}: {field.type}' for field in clicks.schema)}"]
    try:
        clicks.validate(full=True)
    except pa.ArrowInvalid as error:
        return [f"its columns hold values that are not valid ({first_line(error)})"]
    missing = {name: clicks.column(name).null_count for name in Columns.CLICK}
    start, end = day_interval_us(day, zone)
    times = clicks.column(Columns.TIME).drop_null().cast(pa.int64()).to_numpy()
    outside = int(np.count_nonzero((times < start) | (times >= end)))
    items = clicks.column(Columns.ITEM)
    is_padding = pc.less(items, 0) if pa.types.is_integer(items.type) else pc.equal(items, "")
    padding = pc.sum(is_padding).as_py() or 0
    broken = [f"{count:,} clicks have no {name}" for name, count in missing.items() if count]
    broken += [f"{outside:,} clicks are outside the day"] if outside else []
    return broken + ([f"{padding:,} clicks have an item_id that is negative or empty"] if padding else [])


def _quarantined(day: date, state: DayState) -> Revision:
    if state.status != "quarantined" or state.quarantined is None:
        raise DayError(f"{day} isn't in quarantine: it is {state.status}. `sbr quarantine list` shows the days that are.")
    return state.quarantined
