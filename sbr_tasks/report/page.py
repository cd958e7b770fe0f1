"""Writing the page of a version: one HTML file that says what its run decided and on what grounds."""

from __future__ import annotations

from datetime import date

from pydantic import Field

from sbr_tasks.clicks.catalog import ClickCatalog, DayState
from sbr_tasks.errors import RegistryError, TrackingError
from sbr_tasks.registry.gate import Outcome
from sbr_tasks.registry.log import Decision, PromotionLog
from sbr_tasks.registry.mlflow_projection import MlflowProjection, version_url
from sbr_tasks.report.render import MlflowLink, version_html
from sbr_tasks.report.version import keep_verdict, version_page
from sbr_tasks.settings import Settings
from sbr_tasks.store import Store
from sbr_tasks.summary import Result


class WrittenReport(Result):
    """The page of a version that was written.

    Attributes:
        day: The day of the run.
        report: Where the page is.
        model_version: The version that it is about.
        outcome: What became of it.
        log_entry: The decision's place in the promotion log; 0 where nothing was decided.
        mlflow_version: MLflow's number of the version, whose run has the page among its files; None where MLflow can't show it.
        mlflow_url: Where MLflow's server shows the version; None where MLflow is no server.
        key: The page's key in the store.
    """

    day: date
    report: str
    model_version: str
    outcome: Outcome
    log_entry: int
    mlflow_version: str | None
    mlflow_url: str | None
    key: str = Field(exclude=True, repr=False)


def publish_page(store: Store, settings: Settings, day: date, decision: Decision | None = None) -> WrittenReport:
    """Writes the page of a decision, and adds it to the version in MLflow.

    Args:
        store: Has the records, and takes the page.
        settings: Say where MLflow is.
        day: The day of the run.
        decision: The decision, or the verdict of a run that wasn't to promote (`promotion.preview_decision`). None: the
            day's last one.

    Raises:
        RegistryError: Nothing was decided for that day.
        TrackingError: MLflow can't be used; the page was written to the store anyway.
    """
    entries = PromotionLog(store).entries()
    decided = [entry for entry in entries if isinstance(entry, Decision) and entry.day == day]
    decision = decision or (decided[-1] if decided else None)
    if decision is None:
        raise RegistryError(_nothing_decided(day, ClickCatalog(store).days().get(day, DayState())))
    number, fault = None, None
    try:
        projection = MlflowProjection(store, settings)
        number = projection.number_of(decision.version)
    except TrackingError as error:
        fault = error
    if not decision.number:
        keep_verdict(store, decision)
    report = WrittenReport(
        day=decision.day,
        report=store.where(decision.page),
        model_version=decision.version,
        outcome=decision.outcome,
        log_entry=decision.number,
        mlflow_version=number,
        mlflow_url=version_url(settings, number) if number else None,
        key=decision.page,
    )
    page = version_page(store, decision.version, decision=decision, is_written=True)
    mlflow = MlflowLink(f"Version {number} of {settings.mlflow.model_name} in MLflow", report.mlflow_url) if number else None
    store.replace(report.key, version_html(page, settings, mlflow=mlflow).encode())
    if fault:
        raise TrackingError(f"The page was written to {report.report}, but adding it to MLflow failed: {fault}") from fault
    projection.show_page(decision)
    return report


def _nothing_decided(day: date, state: DayState) -> str:
    """That there is nothing to report, and why, as far as the day's clicks tell."""
    reason = ""
    if state.quarantined:
        reason = f" Its clicks are in quarantine (`sbr quarantine show {day}`): {'; '.join(state.failures)}."
    elif state.empty:
        reason = " The source had no clicks on that day."
    return (
        f"There is no decision for {day} yet, so there is nothing to report.{reason.replace('..', '.')} "
        f"Run `sbr retrain --day {day}`."
    )
