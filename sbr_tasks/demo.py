"""Generates synthetic clicks of a fictional shop, for demos, tests and benchmarks.

The shop is designed so that a sequence model has something to learn, and has to keep learning:

- Items are arranged in rings, one for each of a few dozen clusters. A visitor mostly walks a ring forwards, each at a pace of
  their own, so the next item depends on the last two clicks and their order, and not only on the last one.
- A session is about a pair of clusters. The partner of the first cluster is one of a few, so earlier clicks predict where a
  visitor goes from a ring. Partners change every few weeks.
- Items appear every day, draw most clicks while they are new, and fade at their own speed. Clusters come and go in fashion.
- Popularity is Zipf-like, session lengths have a long tail, evenings are busier than nights and Mondays than Saturdays.

The clicks of sessions that start on a day are a function of (seed, day, sessions per day) alone: files with the same `end`
share their last days, and a later `end` adds days to them.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cache, cached_property
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from sbr_tasks.days import from_us
from sbr_tasks.errors import SourceError, system_error

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]

DEMO_DAYS = 33
"""Days of a demo: enough for a window of 30 days that ends on any of the last 4 days."""

DEMO_SESSIONS_PER_DAY = 1_500

_DAY_MS = 86_400_000
_FIRST_ITEM_ID = 214_000_000
_ITEM_IDS = 1_000_000
_LINES_AT_ONCE = 500_000

# A session: ceil(lognormal) clicks, which has the median 2 and the mean 3.6 that YooChoose shows; lognormal pauses.
_MEDIAN_CLICKS, _SPREAD_OF_CLICKS, _MAX_CLICKS = 1.9, 1.0, 200
_MEDIAN_PAUSE_MS, _SPREAD_OF_PAUSES = 55_000, 1.1
_MIN_PAUSE_MS, _MAX_PAUSE_MS = 1_000, 25 * 60_000

# Share of sessions that start in each hour (UTC), and on each weekday from Monday, in hundredths of the mean.
_HOURS = (22, 12, 7, 5, 5, 8, 18, 34, 52, 66, 74, 76, 72, 70, 70, 72, 78, 88, 100, 112, 116, 102, 72, 42)
_WEEKDAYS = (112, 98, 96, 97, 93, 94, 110)

# Items: appeal ~ quantile ** -_ZIPF, faded by exp(-age / fade), sold out at the age of _FADES_SOLD fades.
_ZIPF = 0.8
_ITEMS = 2_500
_MIN_FADE, _MAX_FADE = 5.0, 40.0
_FADES_SOLD = 4
_MAX_AGE = int(_FADES_SOLD * _MAX_FADE)
_ITEMS_PER_CLUSTER = 40

# Shares of where the next click of a session goes; the rest goes to any item of the shop.
_SAME, _BACK, _ALONG_RING, _OTHER_CLUSTER, _SAME_CLUSTER = 0.04, 0.12, 0.44, 0.26, 0.06
_PACES = (1, 5, 9)
_STEP_WIDTH = 3
_PARTNERS = (0.24, 0.2, 0.17, 0.15, 0.13, 0.11)
_SEASON_DAYS = 21

_CATEGORY_TEXTS = ("0", "S", *(str(n) for n in range(1, 13)))
_NO_CATEGORY, _SPECIAL_OFFER = 0.5, 0.1


@dataclass(frozen=True)
class DemoSummary:
    """Summary of a file of demo clicks.

    Attributes:
        path: The file.
        clicks: Number of lines.
        sessions: Number of distinct sessions.
        items: Number of distinct items.
        first: Earliest instant, UTC.
        last: Latest instant, UTC.
    """

    path: Path
    clicks: int
    sessions: int
    items: int
    first: datetime
    last: datetime


@dataclass(frozen=True)
class DemoClicks:
    """Clicks, one per row; all arrays have the shape `(n_clicks,)`.

    Attributes:
        session_id: int64, above 0.
        clicked_at_ms: int64, milliseconds since 1970, UTC.
        item_id: int32.
        category: uint8, position in ("0", "S", "1", ..., "12").
    """

    session_id: Ints
    clicked_at_ms: Ints
    item_id: npt.NDArray[np.int32]
    category: npt.NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.session_id)

    def take(self, rows: slice | npt.NDArray[np.int64] | npt.NDArray[np.bool_]) -> DemoClicks:
        """The clicks of these rows, in the given order."""
        return DemoClicks(self.session_id[rows], self.clicked_at_ms[rows], self.item_id[rows], self.category[rows])


@dataclass(frozen=True)
class _Sessions:
    """Sessions that start on one day, by start; `at_ms[offsets[i]:offsets[i + 1]]` are the clicks of session i."""

    first_id: int
    offsets: Ints
    at_ms: Ints


@dataclass(frozen=True)
class _Catalogue:
    """Items on sale on one day, sorted by cluster and by place on its ring.

    Attributes:
        ids: Shape `(n_items,)`, int32.
        cluster: Shape `(n_items,)`.
        bounds: Shape `(n_clusters + 1,)`; cluster c is `ids[bounds[c]:bounds[c + 1]]`.
        reach: Shape `(n_items + 1,)`, running sum of the items' attraction, from 0.
        partners: Shape `(n_clusters, n_partners)`, clusters that sessions of a cluster may also be about.
    """

    ids: npt.NDArray[np.int32]
    cluster: Ints
    bounds: Ints
    reach: Floats
    partners: Ints

    def draw(self, low: Floats | float, high: Floats | float, u: Floats) -> Ints:
        """Positions of items, drawn by attraction between two values of `reach` with `u` uniform in [0, 1)."""
        positions = np.searchsorted(self.reach, low + u * (high - low), side="right") - 1
        return np.minimum(positions, len(self.ids) - 1)

    def draw_in(self, cluster: Ints, u: Floats) -> Ints:
        """Positions of items, drawn by attraction inside each of the clusters."""
        return self.draw(self.reach[self.bounds[cluster]], self.reach[self.bounds[cluster + 1]], u)


@dataclass(frozen=True)
class DemoShop:
    """A shop whose days can be drawn independently.

    Example:
        >>> clicks = DemoShop(seed=7, sessions_per_day=100).clicks_of(date(2020, 6, 30))

    Attributes:
        seed: Random seed; 0 or more.
        sessions_per_day: Mean over a week; a day has 93% to 112% of it.
        n_items: Approximate number of items on sale on a day. None: 2,500 for 1,500 sessions a day, 31,000 for 100,000.
    """

    seed: int = 42
    sessions_per_day: int = DEMO_SESSIONS_PER_DAY
    n_items: int | None = None

    def __post_init__(self) -> None:
        if self.seed < 0 or self.sessions_per_day < 1 or (self.n_items is not None and self.n_items < 1):
            raise ValueError(f"seed must be at least 0, sessions_per_day and n_items at least 1; got {self}.")

    @cached_property
    def _births_per_day(self) -> int:
        n_items = self.n_items or _ITEMS * (self.sessions_per_day / DEMO_SESSIONS_PER_DAY) ** 0.6
        mean_fade = (_MAX_FADE - _MIN_FADE) / np.log(_MAX_FADE / _MIN_FADE)
        return max(1, round(float(n_items / (_FADES_SOLD * mean_fade))))

    @cached_property
    def _n_clusters(self) -> int:
        return max(4, self._births_per_day * _MAX_AGE // (2 * _ITEMS_PER_CLUSTER))

    @cached_property
    def _salt(self) -> int:
        return int(np.random.SeedSequence(self.seed).generate_state(1, np.uint64)[0])

    def _uniform(self, field: int, *keys: Ints | int) -> Floats:
        """Uniform in [0, 1), a function of the seed, the field's number and the keys (broadcast): splitmix64's mixer."""
        mixed = np.array([self._salt], np.uint64)
        for key in (field, *keys):
            mixed = (mixed ^ np.atleast_1d(key).astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
            mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            mixed ^= mixed >> np.uint64(31)
        return (mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def clicks_of(self, day: date) -> DemoClicks:
        """The clicks of all sessions that start on a day, session by session; the last ones may be on the next day.

        Raises:
            ValueError: `day` is before 1970.
        """
        number = _day_number(day)
        sessions = self._sessions(number)
        rng = np.random.default_rng([self.seed, self.sessions_per_day, number, 1])
        catalogue = self._catalogue(number)
        position = _walk(catalogue, sessions, rng)
        n_sessions = len(sessions.offsets) - 1
        session_id = np.repeat(np.arange(n_sessions) + sessions.first_id, np.diff(sessions.offsets))
        kind = rng.random(len(position))
        category = (2 + catalogue.cluster[position] % 12).astype(np.uint8)
        category[kind < _NO_CATEGORY + _SPECIAL_OFFER] = _CATEGORY_TEXTS.index("S")
        category[kind < _NO_CATEGORY] = _CATEGORY_TEXTS.index("0")
        return DemoClicks(session_id, sessions.at_ms, catalogue.ids[position], category)

    def count_clicks(self, first: int, days: int) -> int:
        """Clicks of sessions that start on `days` days from day `first` (days since 1970), up to the end of the last day."""
        end_ms = (first + days) * _DAY_MS
        return sum(int((self._sessions(number).at_ms < end_ms).sum()) for number in range(first, first + days))

    def _sessions(self, number: int) -> _Sessions:
        before, after = (_sessions_before(n, self.sessions_per_day) for n in (number, number + 1))
        n_sessions = after - before
        rng = np.random.default_rng([self.seed, self.sessions_per_day, number, 0])
        share = np.concatenate([[0.0], np.cumsum(_HOURS)]) / sum(_HOURS)
        start_ms = np.interp(rng.random(n_sessions), share, np.linspace(0, _DAY_MS, len(share)))
        start_ms = np.sort(start_ms.astype(np.int64).clip(0, _DAY_MS - 1)) + number * _DAY_MS
        drawn = np.ceil(_MEDIAN_CLICKS * np.exp(_SPREAD_OF_CLICKS * rng.standard_normal(n_sessions)))
        offsets = np.concatenate([[0], np.cumsum(drawn.clip(1, _MAX_CLICKS).astype(np.int64))])
        pauses = _MEDIAN_PAUSE_MS * np.exp(_SPREAD_OF_PAUSES * rng.standard_normal(offsets[-1]))
        since = np.cumsum(pauses.clip(_MIN_PAUSE_MS, _MAX_PAUSE_MS).astype(np.int64))
        at_ms = since + np.repeat(start_ms - since[offsets[:-1]], np.diff(offsets))
        return _Sessions(before + 1, offsets, at_ms)

    def _catalogue(self, number: int) -> _Catalogue:
        births, n_clusters = self._births_per_day, self._n_clusters
        item = np.arange((number - _MAX_AGE) * births, (number + 1) * births) + 1
        age = number - (item - 1) // births
        fade = _MIN_FADE * (_MAX_FADE / _MIN_FADE) ** self._uniform(0, item)
        on_sale = age < _FADES_SOLD * fade
        item, age, fade = item[on_sale], age[on_sale], fade[on_sale]
        place = self._uniform(1, item) * n_clusters
        order = np.argsort(place)
        item, age, fade, place = item[order], age[order], fade[order], place[order]
        cluster = place.astype(np.int64)
        appeal = (self._uniform(2, item) + 1 / len(item)) ** -_ZIPF
        clusters = np.arange(n_clusters)
        period = 10 + 30 * self._uniform(3, clusters)
        fashion = np.exp(0.8 * np.sin(2 * np.pi * (number / period + self._uniform(4, clusters))))
        attraction = appeal * np.exp(-age / fade) * fashion[cluster]
        choices = np.arange(len(_PARTNERS))
        phase = (self._uniform(5, clusters[:, None], choices) * _SEASON_DAYS).astype(np.int64)
        season = (number + phase) // _SEASON_DAYS
        return _Catalogue(
            ids=(_FIRST_ITEM_ID + item % _ITEM_IDS).astype(np.int32),
            cluster=cluster,
            bounds=np.searchsorted(cluster, np.arange(n_clusters + 1)),
            reach=np.concatenate([[0.0], np.cumsum(attraction)]),
            partners=(self._uniform(6, clusters[:, None], choices, season) * n_clusters).astype(np.int64),
        )


def _walk(shop: _Catalogue, sessions: _Sessions, rng: np.random.Generator) -> Ints:
    """Catalogue positions of all clicks; all sessions take their next step at once, sorted by decreasing length."""
    lengths = np.diff(sessions.offsets)
    order = np.argsort(-lengths, kind="stable")
    starts, lengths = sessions.offsets[:-1][order], lengths[order]
    position = np.empty(sessions.offsets[-1], np.int64)
    n_sessions = len(order)
    if not n_sessions:
        return position
    current = shop.draw(0.0, float(shop.reach[-1]), rng.random(n_sessions))
    home = shop.cluster[current]
    partner = shop.partners[home, _choose(_PARTNERS, rng.random(n_sessions))]
    pace = np.array(_PACES)[rng.integers(len(_PACES), size=n_sessions)]
    previous = current
    position[starts] = current
    limits = np.cumsum([_SAME, _BACK, _ALONG_RING, _OTHER_CLUSTER, _SAME_CLUSTER])
    for step in range(1, int(lengths[0])):
        active = int(np.searchsorted(-lengths, -step))
        here, before = current[:active], previous[:active]
        kind = np.searchsorted(limits, rng.random(active), side="right")
        u = rng.random(active)
        cluster = shop.cluster[here]
        following = np.where(kind == 1, before, here)
        along = np.flatnonzero(kind == 2)
        following[along] = _along_ring(shop, here[along], pace[along], u[along])
        other = np.where(cluster == home[:active], partner[:active], home[:active])
        inside = np.flatnonzero((kind == 3) | (kind == 4))
        following[inside] = shop.draw_in(np.where(kind == 3, other, cluster)[inside], u[inside])
        anywhere = np.flatnonzero(kind == 5)
        following[anywhere] = shop.draw(0.0, float(shop.reach[-1]), u[anywhere])
        previous, current = here, following
        position[starts[:active] + step] = following
    return position


def _along_ring(shop: _Catalogue, position: Ints, pace: Ints, u: Floats) -> Ints:
    """One of the `_STEP_WIDTH` items `pace` places ahead on the ring, drawn by attraction."""
    cluster = shop.cluster[position]
    first, end = shop.bounds[cluster], shop.bounds[cluster + 1]
    nearest = first + (position - first + pace) % (end - first)
    return shop.draw(shop.reach[nearest], shop.reach[np.minimum(nearest + _STEP_WIDTH, end)], u)


def _choose(shares: tuple[float, ...], u: Floats) -> Ints:
    return np.searchsorted(np.cumsum(shares)[:-1], u, side="right")


def _day_number(day: date) -> int:
    number = (day - date(1970, 1, 1)).days
    if number < 0:
        raise ValueError(f"Demo clicks start on 1970-01-01 at the earliest; got {day}.")
    return number


def _sessions_before(number: int, sessions_per_day: int) -> int:
    """Sessions from 1970 to the start of a day: ids have no gaps, and 7 days in a row hold 7 * sessions_per_day."""
    weeks, weekday = divmod(number + 3, 7)  # 1970-01-01 was a Thursday
    return sessions_per_day * (700 * weeks + sum(_WEEKDAYS[:weekday])) // 100 - sessions_per_day * sum(_WEEKDAYS[:3]) // 100


def write_demo_clicks(
    out: Path,
    *,
    end: date,
    days: int = DEMO_DAYS,
    sessions_per_day: int | None = None,
    seed: int = 42,
    clicks: int | None = None,
    shuffle: bool = False,
    on_progress: Callable[[int], None] | None = None,
) -> DemoSummary:
    """Writes demo clicks in YooChoose's format: `SessionId,Timestamp,ItemId,Category`, no header, one file.

    Sessions start on the `days` days that end with `end`. Like a nightly export, the file has no clicks after the day `end`.
    The same arguments give the same bytes.

    Args:
        out: The file; an existing one is replaced atomically.
        end: The last day, UTC.
        days: Number of days, at least 1.
        sessions_per_day: Mean over a week; by default as many as `clicks` needs, or 1,500.
        seed: 0 or more.
        clicks: Exact number of lines; excess clicks are dropped from the start of the first days.
        shuffle: Whether lines are in random order instead of by session; it needs about 50 bytes of memory per line.
        on_progress: Called with the number of lines written so far, every 500,000 lines or more often.

    Raises:
        SourceError: The folder of `out` doesn't exist, `out` is a folder, or it could not be written.
        ValueError: An argument is out of bounds, or `sessions_per_day` gives fewer than `clicks` lines.
    """
    if days < 1 or (clicks is not None and clicks < 1):
        raise ValueError(f"days and clicks must be at least 1; got days={days}, clicks={clicks}.")
    if not out.parent.is_dir():
        raise SourceError(f"Demo clicks can't be written to {out}: there is no folder {out.parent}; create it first.")
    if out.is_dir():
        raise SourceError(f"Demo clicks can't be written to {out}: it is a folder; name a file in it.")
    first = _day_number(end - timedelta(days=days - 1))
    if clicks is not None and sessions_per_day is None:
        sessions_per_day = _sessions_for(clicks, first, days, seed)
    shop = DemoShop(seed, DEMO_SESSIONS_PER_DAY if sessions_per_day is None else sessions_per_day)
    excess = 0 if clicks is None else shop.count_clicks(first, days) - clicks
    if excess < 0:
        raise ValueError(f"{days} days of {shop.sessions_per_day} sessions have {-excess} clicks fewer than {clicks}.")
    parts = _by_day(shop, first, days, excess)
    return _write(out, _shuffled(parts, seed) if shuffle else parts, on_progress)


def _sessions_for(clicks: int, first: int, days: int, seed: int) -> int:
    """Sessions a day that give at least `clicks` clicks, and not many more."""
    longer_than = [_share_longer_than(n) for n in range(_MAX_CLICKS)]
    mean = sum(longer_than)
    variance = sum((2 * n + 1) * share for n, share in enumerate(longer_than)) - mean**2
    wanted = clicks - 2 * math.sqrt(variance * clicks / mean)
    sessions_per_day = max(1, math.ceil(wanted / (mean * days)))
    while DemoShop(seed, sessions_per_day).count_clicks(first, days) < clicks:
        sessions_per_day += max(1, sessions_per_day // 500)
    return sessions_per_day


def _share_longer_than(n_clicks: int) -> float:
    if not n_clicks:
        return 1.0
    return math.erfc(math.log(n_clicks / _MEDIAN_CLICKS) / (_SPREAD_OF_CLICKS * math.sqrt(2))) / 2


def _by_day(shop: DemoShop, first: int, days: int, excess: int) -> Iterator[DemoClicks]:
    end_ms = (first + days) * _DAY_MS
    for number in range(first, first + days):
        part = shop.clicks_of(date(1970, 1, 1) + timedelta(days=number))
        if number == first + days - 1:
            part = part.take(part.clicked_at_ms < end_ms)
        skipped = min(excess, len(part))
        excess -= skipped
        yield _without_first(part, skipped)


def _without_first(clicks: DemoClicks, n: int) -> DemoClicks:
    """Drops the first `n` clicks as whole sessions; the last of these sessions may keep its first clicks."""
    if n in (0, len(clicks)):
        return clicks.take(slice(n, None))
    start, end = np.searchsorted(clicks.session_id, [clicks.session_id[n], clicks.session_id[n] + 1]).tolist()
    return clicks.take(np.concatenate([np.arange(start, start + end - n), np.arange(end, len(clicks))]))


def _shuffled(parts: Iterator[DemoClicks], seed: int) -> Iterator[DemoClicks]:
    held = list(parts)
    columns = DemoClicks.__dataclass_fields__
    clicks = DemoClicks(**{name: np.concatenate([getattr(part, name) for part in held]) for name in columns})
    held.clear()
    order = np.random.default_rng([seed, len(clicks), 2]).permutation(len(clicks))
    for at in range(0, len(order), _LINES_AT_ONCE):
        yield clicks.take(order[at : at + _LINES_AT_ONCE])


def _write(out: Path, parts: Iterator[DemoClicks], on_progress: Callable[[int], None] | None) -> DemoSummary:
    written = 0
    seen = np.zeros(_ITEM_IDS, np.bool_)
    sessions, instants = _Range(), _Range()
    with _replacing(out) as file:
        for part in parts:
            for at in range(0, len(part), _LINES_AT_ONCE):
                chunk = part.take(slice(at, at + _LINES_AT_ONCE))
                file.write(_lines(chunk))
                written += len(chunk)
                seen[chunk.item_id - _FIRST_ITEM_ID] = True
                sessions.add(chunk.session_id)
                instants.add(chunk.clicked_at_ms)
                if on_progress:
                    on_progress(written)
        if not written:
            raise ValueError("With so few sessions a day, the chosen days have no clicks; use more days or sessions.")
    return DemoSummary(
        path=out,
        clicks=written,
        sessions=sessions.high - sessions.low + 1,  # ids have no gaps
        items=int(seen.sum()),
        first=from_us(instants.low * 1000),
        last=from_us(instants.high * 1000),
    )


@dataclass
class _Range:
    low: int = np.iinfo(np.int64).max
    high: int = 0

    def add(self, values: Ints) -> None:
        self.low, self.high = min(self.low, int(values.min())), max(self.high, int(values.max()))


@contextmanager
def _replacing(out: Path) -> Iterator[BinaryIO]:
    part = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            yield file
        part.replace(out)
    except OSError as error:
        raise SourceError(
            f"Demo clicks could not be written to {out} ({system_error(error)}). Free space or name another file (--out)."
        ) from error
    finally:
        part.unlink(missing_ok=True)


def _lines(clicks: DemoClicks) -> bytes:
    """The clicks as text, built as one matrix of bytes in which 0 marks the unused bytes of shorter lines."""
    days, in_day = np.divmod(clicks.clicked_at_ms, _DAY_MS)
    seconds, milliseconds = np.divmod(in_day, 1000)
    first_day = int(days.min())
    dates = np.arange(first_day, int(days.max()) + 1).astype("datetime64[D]")
    columns = [
        _digits(clicks.session_id),
        _text(","),
        _as_bytes(np.datetime_as_string(dates))[days - first_day],
        _text("T"),
        _clock()[seconds],
        _text("."),
        _digits(milliseconds, pad=3),
        _text("Z,"),
        _digits(clicks.item_id),
        _text(","),
        _as_bytes(np.array(_CATEGORY_TEXTS))[clicks.category],
        _text("\n"),
    ]
    n = len(clicks)
    lines = np.concatenate([np.broadcast_to(column, (n, column.shape[1])) for column in columns], axis=1)
    return bytes(lines[lines != 0])


def _digits(numbers: npt.NDArray[np.integer], pad: int = 1) -> Bytes:
    """Decimal digits, shape `(n, width)`; leading zeros beyond `pad` digits are 0 bytes."""
    width = max(pad, len(str(int(numbers.max()))))
    digits = np.empty((len(numbers), width), np.uint8)
    rest = numbers
    for column in range(width - 1, -1, -1):
        rest, digit = np.divmod(rest, 10)
        digits[:, column] = digit + ord("0")
    for column in range(width - pad):
        digits[numbers < 10 ** (width - 1 - column), column] = 0
    return digits


@cache
def _clock() -> Bytes:
    """`HH:MM:SS` of every second of a day, shape `(86_400, 8)`."""
    return _as_bytes(
        np.array([text[11:] for text in np.datetime_as_string(np.arange(86_400).astype("datetime64[s]")).tolist()])
    )


def _as_bytes(texts: npt.NDArray[np.str_]) -> Bytes:
    """ASCII codes, shape `(n, longest)`; 0 beyond the end of a shorter text."""
    return np.char.encode(texts, "ascii").view(np.uint8).reshape(len(texts), -1)


def _text(text: str) -> Bytes:
    return np.frombuffer(text.encode(), np.uint8)[None, :]
