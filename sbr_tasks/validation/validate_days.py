"""Validates days with Great Expectations: windows may read days that pass, days that fail go to quarantine."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa

from sbr_tasks.clicks.catalog import ClickCatalog, DayState
from sbr_tasks.clicks.columns import Columns
from sbr_tasks.clicks.commits import Judgement, Revision
from sbr_tasks.clicks.formats import is_click_schema
from sbr_tasks.days import describe_days, window_days
from sbr_tasks.errors import DamagedError, DayError, StoreError, first_line
from sbr_tasks.progress import Progress
from sbr_tasks.settings import Settings
from sbr_tasks.store import FileRecord, Json, Store, kinds, to_json
from sbr_tasks.validation.data_docs import render_page, render_refusal
from sbr_tasks.validation.facts import distinct_items, measure, session_times, share_of_long, share_of_new
from sbr_tasks.validation.gx import great_expectations
from sbr_tasks.validation.limits import Limit, limits, shown_id
from sbr_tasks.validation.suite import click_frame, click_suite, fact_suite
from sbr_tasks.validation.trailing import Compared, compare_facts

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

_EXAMPLES = 5
_SESSION_DAYS = 7
"""Days before a day that are searched for earlier clicks of its sessions."""


@dataclass(frozen=True)
class Validated:
    """What a validation decided: the accepted days, the failures of quarantined days, and the warnings, by day."""

    accepted: tuple[date, ...]
    failures: dict[date, list[str]]
    warnings: dict[date, list[str]]

    @property
    def quarantined(self) -> tuple[date, ...]:
        """The days that failed."""
        return tuple(self.failures)


@dataclass(frozen=True)
class _Measured:
    """A day's facts, and its items and sessions, for later days to compare with."""

    facts: Json
    items: pa.Array
    sessions: pa.Table


@dataclass(frozen=True)
class _Verdict:
    failures: list[str]
    warnings: list[str]
    failed: list[str]
    result: Json
    data_docs: str


def validate_pending(store: Store, settings: Settings, days: Sequence[date] | None = None) -> Validated:
    """Validates the days that were imported but not validated yet, in day order, and commits all decisions at once.

    Later days are compared with the days that pass.

    Args:
        store: The store with the days.
        settings: `validation` and `timezone` are used.
        days: The days to validate; None validates all.

    Raises:
        DayError: Days were split in another time zone than the setting; nothing was decided.
    """
    catalog = ClickCatalog(store)
    states = catalog.days()
    pending = [(day, state.pending) for day, state in states.items() if state.pending and (days is None or day in set(days))]
    _require_zone({day: states[day].timezone for day, _ in pending}, settings.timezone)
    history = _History(store, states, settings)
    decisions: dict[date, Judgement] = {}
    expect = _Expectations() if pending else None
    with Progress(f"Validating {len(pending)} days", len(pending), "days", logger) as progress:
        for day, revision in pending:
            assert revision is not None and expect is not None  # noqa: S101 (narrows the type)
            verdict, measured = _judge(catalog.read(revision), day, history, expect, settings)
            decisions[day] = _publish(store, revision, verdict, measured)
            if not verdict.failures:
                history.accept(revision, decisions[day], measured)
            progress.advance(1)
    decisions = dict(catalog.commit_validation(decisions, at=datetime.now(UTC).isoformat(timespec="seconds")))
    return Validated(
        accepted=tuple(day for day, judged in decisions.items() if judged.accepted),
        failures={day: list(judged.failures) for day, judged in decisions.items() if not judged.accepted},
        warnings={day: list(judged.warnings) for day, judged in decisions.items() if judged.warnings},
    )


def _judge(
    clicks: pa.Table, day: date, history: _History, expect: _Expectations, settings: Settings
) -> tuple[_Verdict, _Measured | None]:
    """The verdict on a day's clicks. A day whose clicks make the validation itself raise goes to quarantine."""
    try:
        clicks.validate(full=True)
        wrong = _wrong_types(clicks.schema)
        measured = None if wrong else history.measure(day, clicks)
        facts = measured.facts if measured else {}
        compared: list[Compared | Limit] = [
            *compare_facts(facts, history.facts_before(day), settings.validation),
            *limits(facts, settings.validation),
        ]
        return expect.judge(day, clicks, wrong=wrong, facts=facts, compared=compared, settings=settings), measured
    except (MemoryError, StoreError):  # not caused by the clicks
        raise
    except Exception as error:
        logger.exception("The validation of %s failed", day)
        return _refused(day, error), None


def _refused(day: date, error: Exception) -> _Verdict:
    """The verdict on a day that can't be validated."""
    failure = f"The clicks can't be validated: {type(error).__name__}: {first_line(error)}"
    return _Verdict(
        failures=[failure],
        warnings=[],
        failed=["columns"],
        result={"success": False, "results": [], "facts": {}, "error": failure},
        data_docs=render_refusal(day, failure),
    )


def _require_zone(zones: Mapping[date, str], zone: str) -> None:
    for other in sorted(set(zones.values()) - {zone}):
        days = [day for day, zone_of_day in zones.items() if zone_of_day == other]
        raise DayError(
            f"Expected days that begin at midnight in {zone} (setting timezone), found some that were ingested with {other}: "
            f"{describe_days(days)}. Ingest them again, or set timezone to {other}; nothing was decided."
        )


class _History:
    """The facts, items and sessions of accepted days, from the records of their validation, without reading their clicks."""

    def __init__(self, store: Store, states: Mapping[date, DayState], settings: Settings) -> None:
        self._store = store
        self._settings = settings
        self._accepted = {day: state.accepted for day, state in states.items() if state.accepted}
        self._decisions = {day: states[day].decided[revision.rev] for day, revision in self._accepted.items()}
        self._items: dict[date, pa.Table] = {}
        self._sessions: dict[date, pa.Table] = {}

    def accept(self, revision: Revision, judged: Judgement, measured: _Measured | None) -> None:
        """Adds a day, for later days to compare with."""
        day = revision.day
        self._accepted[day], self._decisions[day] = revision, judged
        self._items.pop(day, None)
        self._sessions.pop(day, None)
        if measured is not None:
            self._items[day] = pa.table({Columns.ITEM: measured.items})
            self._sessions[day] = measured.sessions

    def measure(self, day: date, clicks: pa.Table) -> _Measured:
        """The facts of a day, with its distinct items and its sessions."""
        validation = self._settings.validation
        facts, items, sessions = measure(clicks, day, self._settings.zone), distinct_items(clicks), session_times(clicks)
        seen = self._tables("items", self._items, self._before(day, validation.trailing_days))
        if len(seen) >= validation.min_trailing_days:
            facts = replace(
                facts, new_items=share_of_new(items, [table.column(Columns.ITEM).combine_chunks() for table in seen])
            )
        earlier = self._tables("sessions", self._sessions, self._before(day, _SESSION_DAYS))
        if earlier:
            share, longest = share_of_long(sessions, earlier, validation.max_session_hours)
            facts = replace(facts, long_sessions=share, longest_session_id=longest)
        return _Measured(facts.as_dict(), items, sessions.select([Columns.SESSION, "first_us"]))

    def facts_before(self, day: date) -> list[Json]:
        """The facts of the accepted days before `day`; those of a day that couldn't be measured are its counts only."""
        facts = []
        for earlier in self._before(day, self._settings.validation.trailing_days):
            revision = self._accepted[earlier]
            volume = {"clicks": revision.rows, "sessions": revision.sessions, "items": revision.items}
            facts.append(volume | dict(self._decisions[earlier].facts))
        return facts

    def _before(self, day: date, n_days: int) -> list[date]:
        return [earlier for earlier in window_days(day, n_days + 1)[:-1] if earlier in self._decisions]

    def _tables(self, kind: Literal["items", "sessions"], kept: dict[date, pa.Table], days: Sequence[date]) -> list[pa.Table]:
        """The items or sessions of some days, without days that have none. `kept` is a cache, reduced to these days."""
        for day in [day for day in kept if day not in days]:
            del kept[day]
        for day in days:
            file = getattr(self._decisions[day], kind)
            if day in kept or file is None:
                continue
            try:
                kept[day] = self._store.read_table(file)
            except DamagedError as error:
                logger.warning("Comparing without the %s of %s: %s", kind, day, error)
        return [kept[day] for day in days if day in kept]


def _publish(store: Store, revision: Revision, verdict: _Verdict, measured: _Measured | None) -> Judgement:
    at = {"day": revision.day, "rev": revision.rev}
    result = store.publish(kinds.VALIDATION.key(**at, path="result.json"), to_json(verdict.result))
    docs = store.publish(kinds.VALIDATION.key(**at, path="data_docs.html"), verdict.data_docs.encode())

    def publish(name: str, table: pa.Table) -> FileRecord:
        return store.publish_table(kinds.VALIDATION.key(**at, path=f"{name}.parquet"), table)

    return Judgement(
        rev=revision.rev,
        accepted=not verdict.failures,
        failures=tuple(verdict.failures),
        warnings=tuple(verdict.warnings),
        failed=tuple(verdict.failed),
        facts=measured.facts if measured else {},
        result=result.key,
        data_docs=docs.key,
        items=publish("items", pa.table({Columns.ITEM: measured.items})) if measured else None,
        sessions=publish("sessions", measured.sessions) if measured else None,
    )


def log_validated(validated: Validated) -> None:
    """Logs the decisions of a validation."""
    if validated.accepted:
        logger.info("Accepted %s.", describe_days(validated.accepted))
    for day, failures in validated.failures.items():
        logger.error("%s goes to quarantine: %s.", day, "; ".join(failures))
    for day, warnings in validated.warnings.items():
        logger.warning("%s: %s.", day, "; ".join(warnings))


class _Expectations:
    """Great Expectations with an in-memory context; it writes no files."""

    def __init__(self) -> None:
        os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
        for name in ("great_expectations", "great_expectations.data_context.types.base"):
            logging.getLogger(name).setLevel(logging.WARNING)
        gx = great_expectations()
        from great_expectations.data_context.types.base import (
            DataContextConfig,
            InMemoryStoreBackendDefaults,
            ProgressBarsConfig,
        )

        # The default context creates a temporary folder for Data Docs, which nobody would use.
        project = DataContextConfig(
            store_backend_defaults=InMemoryStoreBackendDefaults(), progress_bars=ProgressBarsConfig(globally=False)
        )
        self._context = gx.get_context(mode="ephemeral", project_config=project)
        source = self._context.data_sources.add_pandas("clicks")
        self._batches = {
            name: source.add_dataframe_asset(name).add_batch_definition_whole_dataframe(name) for name in ("day", "facts")
        }

    def judge(
        self,
        day: date,
        clicks: pa.Table,
        *,
        wrong: list[str],
        facts: Json,
        compared: Sequence[Compared | Limit],
        settings: Settings,
    ) -> _Verdict:
        """Validates one day's clicks and facts.

        Args:
            day: The day.
            clicks: Its clicks.
            wrong: Sentences on columns of the wrong type.
            facts: The day's facts.
            compared: Facts that are compared with earlier days or with limits.
            settings: `validation` and `timezone` are used.
        """
        import pandas as pd
        from great_expectations.core import ExpectationSuiteValidationResult

        integer_ids = pa.types.is_integer(clicks.schema.field(Columns.SESSION).type)
        suite = click_suite(day, zone=settings.zone, integer_ids=integer_ids, settings=settings.validation)
        result = self._run(day, "day", click_frame(clicks, settings.validation.max_session_clicks), suite)
        outcomes = list(result.results)
        if compared:
            row = pd.DataFrame({one.fact: [float(one.value)] for one in compared})
            outcomes += self._run(day, "facts", row, fact_suite(day, compared, settings.validation)).results
        unmet = _without_weaker([outcome for outcome in outcomes if not outcome.success])
        critical = [outcome for outcome in unmet if outcome.expectation_config.severity.value == "critical"]
        failures = [*wrong, *map(_sentence, critical)]
        warnings = [_sentence(outcome) for outcome in unmet if outcome not in critical]
        whole = ExpectationSuiteValidationResult(
            success=not unmet and not wrong,
            results=outcomes,
            suite_name=result.suite_name,
            statistics=_statistics(len(outcomes), len(unmet)),
            meta=result.meta,
        )
        failed = [*(["columns"] if wrong else []), *(outcome.expectation_config.meta["name"] for outcome in critical)]
        return _Verdict(
            failures=failures,
            warnings=warnings,
            failed=list(dict.fromkeys(failed)),
            result=whole.to_json_dict() | {"facts": facts},
            data_docs=render_page(whole, day=day, failures=failures, warnings=warnings, facts=facts),
        )

    def _run(self, day: date, asset: str, frame: pd.DataFrame, suite: Any) -> Any:
        gx = great_expectations()
        definition = gx.ValidationDefinition(name=suite.name, data=self._batches[asset], suite=self._context.suites.add(suite))
        result = self._context.validation_definitions.add(definition).run(
            batch_parameters={"dataframe": frame},
            result_format={"result_format": "SUMMARY", "partial_unexpected_count": _EXAMPLES},
        )
        _refuse_unchecked(day, result)
        return result


def _without_weaker(unmet: list[Any]) -> list[Any]:
    """Unmet expectations, without one that a stricter expectation on the same clicks implies."""
    names = {outcome.expectation_config.meta["name"] for outcome in unmet}
    weaker = "repeated_clicks" if "repeated_share" in names else None
    return [outcome for outcome in unmet if outcome.expectation_config.meta["name"] != weaker]


def _statistics(evaluated: int, unmet: int) -> Json:
    return {
        "evaluated_expectations": evaluated,
        "successful_expectations": evaluated - unmet,
        "unsuccessful_expectations": unmet,
        "success_percent": 100 * (evaluated - unmet) / evaluated if evaluated else None,
    }


def _wrong_types(schema: pa.Schema) -> list[str]:
    """Checked with Arrow, because Great Expectations can't check the type of times with a zone."""
    if is_click_schema(schema):
        return []
    types = ", ".join(f"{field.name}: {field.type}" for field in schema)
    return [f"The columns have the types of the data contract: found {types}"]


def _refuse_unchecked(day: date, result: Any) -> None:
    for outcome in result.results:
        info = outcome.exception_info or {}
        details = [info, *(value for value in info.values() if isinstance(value, dict))]
        for detail in details:
            if detail.get("raised_exception"):
                raise DayError(
                    f"{day} could not be validated: {outcome.expectation_config.type} raised {detail['exception_message']}"
                )


def _sentence(outcome: Any) -> str:
    import pandas as pd

    result, rule = outcome.result, outcome.expectation_config.description
    if outcome.expectation_config.kwargs.get("batch_id", "").endswith("facts"):
        return str(rule)
    if "unexpected_count" not in result:
        return f"{rule}: found {result.get('observed_value')}"
    values = dict.fromkeys(value for value in result.get("partial_unexpected_list", []) if not pd.isna(value) and value != "")
    shown = f", such as {'; '.join(shown_id(value) for value in list(values)[:3])}" if values else ""
    return f"{rule}: broken by {result['unexpected_count']:,} of {result['element_count']:,} clicks{shown}"
