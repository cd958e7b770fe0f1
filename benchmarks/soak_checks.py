"""What a soak must show, as functions of its samples: decisions in the log, and samples of memory and disk after each day."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from statistics import median

MB = 2**20

MEMORY_SHARE, MEMORY_FLOOR = 0.1, 32 * MB
"""A service may grow by this share over the last seven days, or by the floor where that is more: allocators keep free pages."""

DISK_FACTOR, DISK_FLOOR = 1.25, 4 * MB
"""The second week may add this many times what the first added, plus the floor: a database grows in steps of pages.
That it grows at all is as it should be: every decision stays in the log, with its version."""

WEEK = 7
_AT_AN_END = 3


@dataclass(frozen=True)
class Sample:
    """What was held after a day, when nothing was active.

    Attributes:
        memory: Bytes by service, its processes together; a page that several share is divided among them.
        disk: Bytes by what they are.
    """

    memory: Mapping[str, int]
    disk: Mapping[str, int]


def decision_faults(decided: Sequence[date], expected: Collection[date]) -> list[str]:
    """A sentence for each day that isn't decided exactly once.

    Args:
        decided: The day of each decision of the log; a day that was decided twice is there twice.
        expected: The days that were run.
    """
    counts = Counter(decided)
    missing = [f"{day} has no decision in the promotion log; expected one." for day in sorted(expected) if not counts[day]]
    doubled = [f"{day} has {n} decisions in the promotion log; expected one." for day, n in sorted(counts.items()) if n > 1]
    unknown = [f"{day} has a decision in the promotion log, but was not run." for day in sorted(set(counts) - set(expected))]
    return missing + doubled + unknown


def retention_faults(held: Collection[date], newest: date, most: int) -> list[str]:
    """A sentence if the store holds clicks of more days than the runs that are kept need.

    Args:
        held: The days whose clicks the store holds after it was cleared.
        newest: The last day that was run.
        most: How many days, `newest` included, the windows of the kept runs have.
    """
    old = sorted(day for day in held if (newest - day).days >= most)
    return [f"After store_upkeep of {newest} clicks of {most} days may be held; those of {old[0]} still are."] if old else []


def growth_of_memory(samples: Sequence[Sample]) -> dict[str, tuple[float, float]]:
    """Bytes of each service at both ends of the last seven days: medians of their first and of their last three samples.

    Empty for fewer than seven samples. A service that a sample lacks is left out.
    """
    if len(samples) < WEEK:
        return {}
    last = samples[-WEEK:]
    services = set.intersection(*(set(sample.memory) for sample in last))
    return {
        name: (
            median(sample.memory[name] for sample in last[:_AT_AN_END]),
            median(sample.memory[name] for sample in last[-_AT_AN_END:]),
        )
        for name in sorted(services)
    }


def memory_faults(samples: Sequence[Sample]) -> list[str]:
    """A sentence for each service that grew over the last seven days by more than `MEMORY_SHARE` and `MEMORY_FLOOR`."""
    return [
        f"{name} grew from {before / MB:.0f} to {after / MB:.0f} MB of memory over the last {WEEK} days; "
        f"at most {MEMORY_SHARE:.0%} or {MEMORY_FLOOR / MB:.0f} MB are allowed."
        for name, (before, after) in growth_of_memory(samples).items()
        if after - before > max(MEMORY_SHARE * before, MEMORY_FLOOR)
    ]


def growth_of_disk(start: Sample, samples: Sequence[Sample]) -> dict[str, tuple[int, int]]:
    """Bytes that the first and the second week added, by what they are; empty before two weeks are over.

    Args:
        start: Before the first day.
        samples: After each day; only the first 14 count.
    """
    if len(samples) < 2 * WEEK:
        return {}
    first, second = samples[WEEK - 1].disk, samples[2 * WEEK - 1].disk
    return {name: (first[name] - start.disk[name], second[name] - first[name]) for name in start.disk}


def disk_faults(start: Sample, samples: Sequence[Sample]) -> list[str]:
    """A sentence for each kind of file that grew in the second week by more than the first week's growth allows."""
    return [
        f"{name} grew by {second / MB:.1f} MB in the second week and by {first / MB:.1f} MB in the first; "
        f"at most {DISK_FACTOR} times that and {DISK_FLOOR / MB:.0f} MB more are allowed."
        for name, (first, second) in growth_of_disk(start, samples).items()
        if second > DISK_FACTOR * max(first, 0) + DISK_FLOOR
    ]
