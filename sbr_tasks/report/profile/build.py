"""Builds a data profile once for the same inputs, and keeps it in the store."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import date
from zoneinfo import ZoneInfo

from tabulate import tabulate

from sbr_tasks.clicks.catalog import ClickCatalog, DayState
from sbr_tasks.clicks.columns import Columns
from sbr_tasks.clicks.commits import Revision
from sbr_tasks.days import describe_days, window_days
from sbr_tasks.errors import DamagedError, DayError
from sbr_tasks.plain_text import percent
from sbr_tasks.report.profile.numbers import LONG_HOURS, Cleansed, CleansedLevel, Numbers, ProfileBuilder
from sbr_tasks.settings import Settings
from sbr_tasks.store import Record, Store, code_version, fingerprint, kinds
from sbr_tasks.window.cleanse import MIN_CLICKS
from sbr_tasks.window.coded import Coder
from sbr_tasks.window.memory import cleanse_coded, cleanse_coded_by_levels, counts_of_coded
from sbr_tasks.window.record import Window

logger = logging.getLogger(__name__)

_LEVELS = range(1, 11)
_MAX_CLICKS_TO_CLEANSE = 50_000_000
"""Cleansing them takes about a gigabyte; more may be a window that Spark makes because this machine can't hold it."""


class ProfileInputs(Record):
    """What a profile is computed from; its fingerprint identifies them.

    Attributes:
        day: The last day of its window.
        days: Length of the window.
        shortest: Fewest clicks of a session that cleansing keeps.
        revisions: The revision of each day's clicks.
        missing_days: Days without accepted clicks.
        timezone: Time zone of the hours.
        code: Version of the code that builds profiles.
    """

    day: date
    days: int
    shortest: int
    revisions: Mapping[date, str]
    missing_days: tuple[date, ...]
    timezone: str
    code: str


class Profile(Record):
    """A published profile.

    Attributes:
        fingerprint: Identifies its inputs.
        inputs: Revisions, time zone and code.
        missing_days: Days without accepted clicks.
        numbers: The numbers that a modeller needs.
    """

    fingerprint: str
    inputs: ProfileInputs
    missing_days: tuple[date, ...]
    numbers: Numbers

    @property
    def key(self) -> str:
        """The key of its record in the store."""
        return kinds.PROFILE.key(day=self.inputs.day, profile=self.fingerprint)


def profile_window(store: Store, settings: Settings, day: date) -> Profile:
    """The profile of the accepted days of the window that ends with `day`, before cleansing.

    Raises:
        DayError: No day of the window was accepted.
        DamagedError: A day's file is missing or damaged.
    """
    days = ClickCatalog(store).days()
    all_days = window_days(day, settings.window.days)
    revisions = {day: state.accepted for day in all_days if (state := days.get(day)) and state.accepted}
    if not revisions:
        raise DayError(
            f"Expected accepted days from {all_days[0]} to {day} to profile, found none. "
            "Ingest and validate them first (`sbr ingest`, `sbr validate`)."
        )
    missing = [day for day in all_days if day not in revisions and days.get(day, DayState()).status != "closed"]
    if missing:
        logger.warning(
            "The profile is without %d of the %d days up to %s, which have no accepted clicks: %s.",
            len(missing), len(all_days), day, describe_days(missing),
        )  # fmt: skip
    return _profile(store, day, settings.window.days, settings.window.shortest, revisions, missing, settings.timezone)


def profile_of_window(store: Store, window: Window) -> Profile:
    """The profile of the clicks that a window was built from, even if other ones were accepted since.

    Raises:
        DamagedError: A revision, or its file, is missing or damaged.
    """
    days, inputs = ClickCatalog(store).days(), window.inputs
    revisions = {day: _find(days.get(day, DayState()), day, rev) for day, rev in sorted(inputs.revisions.items())}
    rules = inputs.window
    return _profile(store, window.day, rules.days, rules.shortest, revisions, window.missing_days, inputs.timezone)


def find_profile(store: Store, window: Window) -> Profile | None:
    """The stored profile of the clicks of a window; None if there is none. Unlike `profile_of_window`, it builds none.

    Raises:
        DamagedError: A profile's record is damaged.
    """
    keys = [key for key in store.keys(kinds.PROFILE.folder(day=window.day)) if kinds.PROFILE.parse(key)]
    inputs = (window.inputs.revisions, window.inputs.timezone)
    profiles = (store.get_record(key, Profile) for key in keys)
    return next((profile for profile in profiles if (profile.inputs.revisions, profile.inputs.timezone) == inputs), None)


def key_numbers(numbers: Numbers) -> dict[str, str]:
    """The few numbers that people ask for first, in words."""
    length, popularity, hours = numbers.session_length, numbers.popularity, numbers.hours
    quantiles = length.quantiles
    last = numbers.days[-1]
    busiest = max(range(24), key=hours.__getitem__)
    shown = {
        "days": f"{len(numbers.days):,}",
        "clicks": f"{numbers.clicks:,}",
        "sessions": f"{numbers.sessions:,}",
        "items": f"{numbers.items:,}",
        "clicks per session": f"{length.mean:.2f} on average, {length.longest:,} at most",
        "one-click sessions": percent(length.share_of_one_click),
        f"sessions longer than {LONG_HOURS} hours": percent(numbers.session_span.share_over_24_hours),
        **{f"{100 * float(q):g}% of sessions have at most": _clicks(most) for q, most in quantiles.items()},
        "clicks on the top 1% of items": percent(popularity.share_of_top_percent["1"]),
        "clicks on the top 10% of items": percent(popularity.share_of_top_percent["10"]),
        "busiest hour": f"{busiest:02d}:00, {percent(hours[busiest] / numbers.clicks)} of clicks",
    }
    if last.new_items is not None and last.clicks_on_new_items is not None:
        share = last.clicks_on_new_items / last.clicks
        shown[f"new items on {last.day}"] = f"{last.new_items:,}, {percent(share)} of the day's clicks"
    return shown


def _clicks(n: int) -> str:
    return f"{n:,} click" if n == 1 else f"{n:,} clicks"


def profile_table(profile: Profile) -> str:
    """The key numbers as a table for people, and what cleansing keeps."""
    numbers = profile.numbers
    missing = describe_days(profile.missing_days)
    shown = {**key_numbers(numbers), **({"missing days": missing} if missing else {})}
    table = tabulate(list(shown.items()), disable_numparse=True, tablefmt="plain")
    if numbers.cleansing is None:
        return table
    cleansing = tabulate(cleansing_rows(numbers), headers=CLEANSING_HEADERS, disable_numparse=True, stralign="right")
    return f"{table}\n\nClicks and items to train on that cleansing keeps, by window.least_click:\n\n{cleansing}"


CLEANSING_HEADERS = ("least_click", "clicks", "", "items", "")


def cleansing_rows(numbers: Numbers) -> list[tuple[str, ...]]:
    """For each `least_click`, the clicks and the items that cleansing keeps, as numbers and shares; empty where not counted."""
    cleansing = numbers.cleansing
    if cleansing is None:
        return []
    all_clicks, all_items = cleansing.clicks, cleansing.items
    return [
        (
            str(level.least_click),
            f"{level.clicks:,}",
            percent(level.clicks / max(1, all_clicks)),
            f"{level.items:,}",
            percent(level.items / max(1, all_items)),
        )
        for level in cleansing.levels
    ]


def _cleansing(catalog: ClickCatalog, day: date, revisions: Mapping[date, Revision], shortest: int) -> Cleansed | None:
    """What cleansing keeps of the clicks to train on, those before the validation day; None where they are too many."""
    earlier = sorted(each for each in revisions if each < day)
    before = [revisions[day] for day in earlier[:-1]]  # the last of them validates
    if not before or sum(revision.rows for revision in before) > _MAX_CLICKS_TO_CLEANSE:
        return None
    coder = Coder()
    for revision in before:
        coder.add(catalog.read(revision, Columns.CLICK, dictionaries=Columns.IDS))
    clicks, _ = cleanse_coded(coder.finish(), shortest=MIN_CLICKS, least_click=1)  # as a window drops sessions of one click
    counts = counts_of_coded(clicks)
    _, _, levels = cleanse_coded_by_levels(clicks, shortest=shortest, levels=_LEVELS)
    return Cleansed(
        clicks=counts.clicks,
        items=counts.items,
        levels=tuple(
            CleansedLevel(least_click=level.least_click, clicks=level.clicks, items=len(level.items)) for level in levels
        ),
    )


def _find(state: DayState, day: date, rev: str) -> Revision:
    if rev not in state.revisions:
        raise DamagedError(f"Expected a commit that names revision {rev} of {day}, which a window was built from; found none.")
    return state.revisions[rev]


def _profile(
    store: Store,
    day: date,
    n_days: int,
    shortest: int,
    revisions: Mapping[date, Revision],
    missing: Sequence[date],
    timezone: str,
) -> Profile:
    inputs = ProfileInputs(
        day=day,
        days=n_days,
        shortest=shortest,
        revisions={day: revision.rev for day, revision in revisions.items()},
        missing_days=tuple(missing),
        timezone=timezone,
        code=code_version("report/profile", "window"),
    )
    key = fingerprint(inputs.as_dict())
    return store.once(kinds.PROFILE.key(day=day, profile=key), Profile, lambda: _make(store, key, inputs, revisions))


def _make(store: Store, key: str, inputs: ProfileInputs, revisions: Mapping[date, Revision]) -> Profile:
    catalog, builder = ClickCatalog(store), ProfileBuilder(ZoneInfo(inputs.timezone))
    for day, revision in revisions.items():
        builder.add(day, catalog.read(revision, Columns.CLICK))
    cleansing = _cleansing(catalog, inputs.day, revisions, inputs.shortest)
    numbers = builder.numbers().model_copy(update={"cleansing": cleansing})
    logger.info("Profiled the clicks of the window of %s.", inputs.day)
    return Profile(fingerprint=key, inputs=inputs, missing_days=inputs.missing_days, numbers=numbers)
