"""Alerts: a failure, a promotion, a streak of days without one, a quarantine, a late run.

Pure functions of the records, which know neither sender nor recipients.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime

from markupsafe import Markup, escape

from sbr_tasks.days import day_in_words
from sbr_tasks.errors import first_line
from sbr_tasks.evaluation.metrics import metric_title
from sbr_tasks.registry.gate import COMPARED
from sbr_tasks.registry.log import Decision, Entry, Rollback
from sbr_tasks.report.words import headline
from sbr_tasks.validation.quarantine import QuarantinedDay

_MAX_SUBJECT_LENGTH = 160


@dataclass(frozen=True)
class Alert:
    """A message.

    Attributes:
        subject: One line.
        lines: What happened and what to do, in sentences.
        numbers: The numbers that a reader needs first, by name.
        link: The page to look at, if there is one.
    """

    subject: str
    lines: tuple[str, ...]
    numbers: Mapping[str, str]
    link: str | None = None

    def __post_init__(self) -> None:
        """Keeps the subject to one line: a mail header can't hold more."""
        line = " ".join(self.subject.split())
        shown = line if len(line) <= _MAX_SUBJECT_LENGTH else f"{line[: _MAX_SUBJECT_LENGTH - 1]}…"
        object.__setattr__(self, "subject", shown)

    @property
    def text(self) -> str:
        """The message as plain text."""
        numbers = [f"{name}: {value}" for name, value in self.numbers.items()]
        return "\n".join([*self.lines, *([""] if numbers else []), *numbers, *(["", self.link] if self.link else [])])

    @property
    def html(self) -> str:
        """The message as HTML; what the records say is escaped."""
        paragraphs = Markup("").join(Markup("<p>{}</p>\n").format(line) for line in self.lines)
        rows = Markup("").join(
            Markup('<tr><td style="padding-right:1em">{}</td><td>{}</td></tr>\n').format(name, value)
            for name, value in self.numbers.items()
        )
        link = Markup('<p><a href="{0}">{0}</a></p>\n').format(self.link) if self.link else ""
        return str(paragraphs + Markup("<table>\n{}</table>\n").format(rows) + escape(link))


def failure_alert(*, dag: str, task: str, run: str, attempt: int, error: BaseException | str | None, link: str) -> Alert:
    """A task failed and won't be retried.

    Args:
        dag: Its DAG.
        task: The task.
        run: The run's id.
        attempt: How many times it was tried.
        error: Why; None where its process was killed before it could say so.
        link: The task's page.
    """
    why = _sentence(error) if error else "The process ended without an error message: it was killed, or its machine failed."
    return Alert(
        subject=f"{dag}: {task} failed: {first_line(error) if isinstance(error, BaseException) else why}",
        lines=(f"Task {task} of {dag} failed.", why, "Fix the cause, then clear the task to continue the run."),
        numbers={"run": run, "attempts": str(attempt)},
        link=link,
    )


def promotion_alert(decision: Decision, *, page: str, link: str) -> Alert:
    """A version became champion.

    Args:
        decision: The decision.
        page: Where the page of the run is, or will be.
        link: The page of the task that decided.
    """
    return Alert(
        subject=headline(decision),
        lines=(headline(decision), *decision.reasons),
        numbers=_numbers(decision) | {"report": page},
        link=link,
    )


def rollback_alert(rollback: Rollback, *, link: str) -> Alert:
    """A person rolled back to an earlier champion."""
    return Alert(
        subject=f"Rolled back: {rollback.version} replaces {rollback.before} as champion.",
        lines=(
            f"{rollback.version} is champion again. {rollback.before} is retired and can never be promoted again.",
            f"Reason: {rollback.reason}",
        ),
        numbers={"log entry": str(rollback.number), "by": rollback.actor, "at": rollback.at},
        link=link,
    )


def streak_alert(entries: Sequence[Entry], decision: Decision, *, days: int, page: str, link: str) -> Alert | None:
    """No version was promoted for a number of days, or a multiple of it; None if one was.

    Days are counted from the day of the last promoted version; after a rollback, from the newest decided day; without a
    champion, from the day before the first decision. There is no alert for a day that isn't the newest decided one, as in a
    backfill, or if an earlier decision already completed the streak.

    Args:
        entries: The promotion log.
        decision: The decision that may complete the streak.
        days: The length of a streak that is worth an alert.
        page: Where the page of the run is, or will be.
        link: The page of the task that decided.
    """
    earlier = entries[: decision.number - 1]
    decided = [entry.day for entry in earlier if isinstance(entry, Decision)]
    if decision.outcome.moves_champion or (decided and decision.day <= max(decided)):
        return None
    since = _last_moved(earlier) or date.fromordinal(min([*decided, decision.day]).toordinal() - 1)
    length = (decision.day - since).days
    before = (max([since, *decided]) - since).days
    if length // days <= before // days:
        return None
    rejected = [entry for entry in [*earlier, decision] if isinstance(entry, Decision) and since < entry.day <= decision.day]
    return Alert(
        subject=f"No promotion for {length} days; {_champion(decision)}.",
        lines=(
            f"No version was promoted in the {length} days up to {day_in_words(decision.day)}. Decisions: {len(rejected)}.",
            f"Last decision: {headline(decision)}",
            *decision.reasons,
        ),
        numbers=_numbers(decision) | {"report": page},
        link=link,
    )


def quarantine_alert(days: Sequence[QuarantinedDay], *, failure: BaseException | str | None, link: str) -> Alert:
    """Clicks of some days went into quarantine.

    Args:
        days: At least one.
        failure: Why the run failed because of it; None where it continues without these days.
        link: The page of the task that validated.
    """
    names = ", ".join(str(row.day) for row in days)
    clicks = {f"clicks of {row.day}": f"{row.clicks:,}" for row in days}
    return Alert(
        subject=f"In quarantine: {names}{'; the run failed' if failure else ''}",
        lines=(
            *(f"{row.day}: {'; '.join(row.failures)}" for row in days),
            _sentence(failure) if failure else "The run continues without these clicks.",
            "`sbr quarantine show DAY` shows examples. Fix the source and rerun the day, or release the day with "
            "`sbr quarantine release DAY --reason ...`.",
        ),
        numbers=clicks,
        link=link,
    )


def late_alert(*, dag: str, run: str, state: str, queued_at: str, deadline: datetime | str, link: str) -> Alert:
    """A run was not done by its deadline.

    Args:
        dag: Its DAG.
        run: The run's id.
        state: What it was doing then: `queued`, `running`, `failed`.
        queued_at: When it was queued.
        deadline: When it should have been done.
        link: The run's page.
    """
    what = "failed before its deadline" if state == "failed" else f"is late and still {state}"
    return Alert(
        subject=f"{dag}: {run} {what}",
        lines=(f"Run {run} of {dag} {what}. It has made no decision yet, so the champion is unchanged.",),
        numbers={"state": state, "queued at": queued_at, "deadline": str(deadline)},
        link=link,
    )


def _last_moved(entries: Sequence[Entry]) -> date | None:
    """The day from which a streak counts; None while no version was ever promoted."""
    for n, entry in reversed(list(enumerate(entries))):
        if isinstance(entry, Rollback):
            return max(earlier.day for earlier in entries[: n + 1])
        if isinstance(entry, Decision) and entry.outcome.moves_champion:
            return entry.day
    return None


def _champion(decision: Decision) -> str:
    return f"the champion is still {decision.champion}" if decision.champion else "there is no champion yet"


def _numbers(decision: Decision) -> dict[str, str]:
    opponent = decision.opponent_metrics or {}
    numbers = {"day": str(decision.day)}
    for metric in COMPARED:
        if metric in decision.challenger_metrics:
            old = f" (champion {opponent[metric]:.4f})" if metric in opponent else ""
            numbers[metric_title(metric)] = f"{decision.challenger_metrics[metric]:.4f}{old}"
        if metric in decision.differences:
            by = decision.differences[metric]
            interval = f"95% interval {by['lower']:+.4f} to {by['upper']:+.4f}"
            numbers[f"{metric_title(metric)}, difference"] = f"{by['value']:+.4f} ({interval})"
    if "n_events" in decision.challenger_metrics:
        numbers["test events"] = f"{int(decision.challenger_metrics['n_events']):,}"
    return numbers | {"champion": decision.champion or "none yet", "log entry": str(decision.number), "run": decision.actor}


def _sentence(error: BaseException | str) -> str:
    if isinstance(error, str):
        return error
    text = str(error).strip()
    return text if text.endswith(".") else f"{type(error).__name__}: {text}" if text else type(error).__name__
