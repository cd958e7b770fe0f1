"""Writing the page of a version: one HTML file that says what its run decided and on what grounds."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from sbr_tasks.clicks.catalog import ClickCatalog, DayState
from sbr_tasks.errors import RegistryError, TrackingError
from sbr_tasks.registry.log import Decision, PromotionLog
from sbr_tasks.registry.mlflow_projection import MlflowProjection, version_url
from sbr_tasks.report.render import MlflowLink, version_html
from sbr_tasks.report.version import keep_verdict, version_page
from sbr_tasks.settings import Settings
from sbr_tasks.store import Json, Store


@dataclass(frozen=True)
class Report:
    """A page that was written.

    Attributes:
        key: Its key in the store.
        decision: The decision that it shows.
        mlflow_version: MLflow's number of the version, whose run has the page among its files; None where MLflow can't show it.
        mlflow_url: Where MLflow's server shows the version; None where MLflow is no server.
    """

    key: str
    decision: Decision
    mlflow_version: str | None
    mlflow_url: str | None

    def as_dict(self, store: Store) -> Json:
        """The report as the step and the command line return it."""
        return {
            "day": str(self.decision.day),
            "report": store.where(self.key),
            "model_version": self.decision.version,
            "outcome": self.decision.outcome.value,
            "log_entry": self.decision.number,
            "mlflow_version": self.mlflow_version,
            "mlflow_url": self.mlflow_url,
        }


def publish_page(store: Store, settings: Settings, day: date, decision: Decision | None = None) -> Report:
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
    report = Report(decision.page, decision, number, version_url(settings, number) if number else None)
    page = version_page(store, decision.version, decision=decision, is_written=True)
    mlflow = MlflowLink(f"Version {number} of {settings.mlflow.model_name} in MLflow", report.mlflow_url) if number else None
    store.replace(report.key, version_html(page, settings, mlflow=mlflow).encode())
    where = store.where(report.key)
    if fault:
        raise TrackingError(f"The page was written to {where}, but adding it to MLflow failed: {fault}") from fault
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
