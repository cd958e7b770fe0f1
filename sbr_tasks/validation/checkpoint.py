"""Validation of days with Great Expectations: what passes is published for windows, what fails goes to quarantine."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from typing import Any

import pandas as pd
import pyarrow as pa

from sbr_tasks.clicks.catalog import ClickCatalog, DayState, Revision
from sbr_tasks.clicks.formats import click_schema
from sbr_tasks.days import describe_days, window_days
from sbr_tasks.errors import DayError
from sbr_tasks.progress import Progress
from sbr_tasks.settings import Settings
from sbr_tasks.store import Json, Store, to_json
from sbr_tasks.validation.suite import build_suite

logger = logging.getLogger(__name__)

_EXAMPLES = 5


@dataclass(frozen=True)
class Validated:
    """What a validation decided: the days by outcome, and the warnings of the accepted ones."""

    accepted: tuple[date, ...]
    quarantined: tuple[date, ...]
    warnings: dict[date, list[str]]


@dataclass(frozen=True)
class _Verdict:
    failures: list[str]
    warnings: list[str]
    result: Json
    data_docs: str


def validate_pending(store: Store, settings: Settings, days: Sequence[date] | None = None) -> Validated:
    """Validates the days that were imported but not decided on, in day order, and commits all decisions at once.

    A day that passes is compared with by the days after it.

    Args:
        store: Where the days lie.
        settings: Thresholds and the zone.
        days: The days to look at; None looks at all.
    """
    catalog = ClickCatalog(store)
    known = catalog.days()
    pending = [(day, state.pending) for day, state in known.items() if state.pending and (days is None or day in set(days))]
    accepted = {day: state.accepted for day, state in known.items() if state.accepted}
    decisions: dict[date, Json] = {}
    expect = _Expectations() if pending else None
    with Progress(f"Validating {len(pending)} days", len(pending), "days", logger) as progress:
        for day, revision in pending:
            assert revision is not None and expect is not None  # noqa: S101 (narrows the type)
            clicks = catalog.read(revision)
            verdict = expect.judge(day, clicks, trailing=_trailing(accepted, day, settings), settings=settings)
            decisions[day] = _publish(store, revision, verdict)
            if not verdict.failures:
                accepted[day] = revision
            progress.advance(1)
    if decisions:
        catalog.commit_validation(decisions, at=datetime.now(UTC).isoformat(timespec="seconds"))
    return _report(decisions)


def require_days(days: dict[date, DayState], settings: Settings, as_of: date) -> list[date]:
    """Checks that the accepted days of a window are enough to train and test on.

    Returns:
        The window's earlier days that are missing, because they are empty, in quarantine or were never ingested.

    Raises:
        DayError: `as_of` or the day before it has no accepted clicks, more than `window.max_missing_days` are missing, or
            days were removed and not ingested again.
    """
    window = window_days(as_of, settings.window.days)
    states = {day: days.get(day, DayState()) for day in window}
    for day, role in ((window[-1], "tested"), (window[-2], "validated")):
        if states[day].status != "accepted":
            raise DayError(f"The model of {as_of} is {role} on {day}, but {_why_missing(day, states[day])}")
    removed = [day for day, state in states.items() if state.status == "removed"]
    if removed:
        raise DayError(
            f"The clicks of {describe_days(removed)} were removed (`sbr store gc`), and the window of {as_of} needs them. "
            "Run the day again, from ingest_clicks on, or `sbr ingest` and `sbr validate`: they come from the source again."
        )
    missing = [day for day, state in states.items() if state.accepted is None]
    for day, state in states.items():
        if state.status != "accepted":
            logger.warning("%s", _why_missing(day, state))
    if len(missing) > settings.window.max_missing_days:
        raise DayError(
            f"{len(missing)} of the {len(window)} days of the window are missing ({describe_days(missing)}); "
            f"at most {settings.window.max_missing_days} may be. Ingest them, or raise window.max_missing_days."
        )
    return missing


def _why_missing(day: date, state: DayState) -> str:
    reasons = {
        "empty": f"{day} has no clicks in the source. Check that its file was delivered, then run the day again.",
        "unknown": f"{day} was never ingested. Run the day again, or ingest it with `sbr ingest`.",
        "incoming": f"{day} was ingested but not validated yet. Run `sbr validate`, or the day again.",
        "removed": "its clicks were removed (`sbr store gc`). Run the day again: it ingests them again.",
        "quarantined": f"{day} is in quarantine: {'; '.join(state.failures)}. Mend the source and run the day again.",
    }
    return reasons.get(state.status, f"{day} is {state.status}.")


def _trailing(accepted: dict[date, Revision], day: date, settings: Settings) -> list[Revision]:
    before = window_days(day, settings.validation.trailing_days + 1)[:-1]
    return [accepted[d] for d in before if d in accepted]


def _publish(store: Store, revision: Revision, verdict: _Verdict) -> Json:
    at = f"day={revision.day}/rev={revision.rev}"
    place = "quarantine" if verdict.failures else "clicks"
    file = store.publish(f"{place}/{at}/clicks.parquet", store.read(revision.file))
    result = store.publish(f"validation/{at}/result.json", to_json(verdict.result))
    docs = store.publish(f"validation/{at}/data_docs.html", verdict.data_docs.encode())
    return {
        "revision": replace(revision, file=file).as_dict(),
        "accepted": not verdict.failures,
        "failures": verdict.failures,
        "warnings": verdict.warnings,
        "result": result.key,
        "data_docs": docs.key,
    }


def _report(decisions: dict[date, Json]) -> Validated:
    validated = Validated(
        accepted=tuple(day for day, decision in decisions.items() if decision["accepted"]),
        quarantined=tuple(day for day, decision in decisions.items() if not decision["accepted"]),
        warnings={day: decision["warnings"] for day, decision in decisions.items() if decision["warnings"]},
    )
    if validated.accepted:
        logger.info("Accepted %s.", describe_days(validated.accepted))
    for day in validated.quarantined:
        logger.error("%s goes to quarantine: %s.", day, "; ".join(decisions[day]["failures"]))
    for day, warnings in validated.warnings.items():
        logger.warning("%s: %s.", day, "; ".join(warnings))
    return validated


class _Expectations:
    """Great Expectations, kept in memory: nothing of it is written but what `judge` returns."""

    def __init__(self) -> None:
        os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
        for name in ("great_expectations", "great_expectations.data_context.types.base"):
            logging.getLogger(name).setLevel(logging.WARNING)
        import great_expectations as gx
        from great_expectations.data_context.types.base import ProgressBarsConfig

        self._context = gx.get_context(mode="ephemeral")
        self._context.variables.progress_bars = ProgressBarsConfig(globally=False)
        asset = self._context.data_sources.add_pandas("clicks").add_dataframe_asset("day")
        self._batches = asset.add_batch_definition_whole_dataframe("day")

    def judge(self, day: date, clicks: pa.Table, *, trailing: Sequence[Revision], settings: Settings) -> _Verdict:
        """Validates one day's clicks."""
        import great_expectations as gx

        integer_ids = pa.types.is_integer(clicks.schema.field("session_id").type)
        wrong = _wrong_types(clicks.schema)
        frame = clicks.to_pandas()
        frame["session_clicks"] = frame.groupby("session_id", sort=False)["item_id"].transform("size")
        suite = build_suite(day, zone=settings.zone, integer_ids=integer_ids, trailing=trailing, settings=settings.validation)
        definition = gx.ValidationDefinition(name=f"clicks of {day}", data=self._batches, suite=self._context.suites.add(suite))
        result = self._context.validation_definitions.add(definition).run(
            batch_parameters={"dataframe": frame},
            result_format={"result_format": "SUMMARY", "partial_unexpected_count": _EXAMPLES},
        )
        _refuse_unchecked(day, result)
        unmet = [outcome for outcome in result.results if not outcome.success]
        critical = [outcome for outcome in unmet if outcome.expectation_config.severity.value == "critical"]
        return _Verdict(
            failures=[*wrong, *map(_sentence, critical)],
            warnings=[_sentence(outcome) for outcome in unmet if outcome not in critical],
            result=result.to_json_dict(),
            data_docs=_render(result),
        )


def _wrong_types(schema: pa.Schema) -> list[str]:
    """Great Expectations can't check types of columns with zones, so Arrow does."""
    if schema.remove_metadata() in (click_schema("integer"), click_schema("string")):
        return []
    found = ", ".join(f"{field.name}: {field.type}" for field in schema)
    return [f"The columns have the types of the data contract: found {found}"]


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
    result, rule = outcome.result, outcome.expectation_config.description
    if "unexpected_count" not in result:
        return f"{rule}: found {result.get('observed_value')}"
    examples = [str(value) for value in result.get("partial_unexpected_list", [])[:3] if not pd.isna(value) and value != ""]
    shown = f", such as {', '.join(examples)}" if examples else ""
    return f"{rule}: broken by {result['unexpected_count']:,} of {result['element_count']:,} clicks{shown}"


def _render(result: Any) -> str:
    from great_expectations.render.renderer.page_renderer import ValidationResultsPageRenderer
    from great_expectations.render.view import DefaultJinjaPageView

    page = ValidationResultsPageRenderer(run_info_at_end=True).render(result)
    return str(DefaultJinjaPageView().render(page))
