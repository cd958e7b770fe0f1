"""What the steps of a run return: the values that tasks pass on, `--json` prints, and a notebook shows."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

from pydantic import BaseModel, ConfigDict, Field, model_serializer

from sbr_tasks.clicks.ledger import Ledger
from sbr_tasks.registry.gate import Outcome
from sbr_tasks.store import Json
from sbr_tasks.summary import Result
from sbr_tasks.window.record import Window


class IngestedDay(Result):
    """What `Workspace.ingest_clicks` did.

    Attributes:
        day: The day of the run.
        clicks: Its clicks.
        ingested: Days whose clicks were stored now.
        empty: Days of which the source has no click.
        rows: Clicks that were stored now.
        rejected: Lines that were left out because they don't parse.
        ledger: What became of each line that was read; None if nothing was read.
        warnings: Sentences on days of which the source holds other clicks than are stored.
    """

    day: date
    clicks: int
    ingested: tuple[date, ...] = ()
    empty: tuple[date, ...] = ()
    rows: int = 0
    rejected: int = 0
    ledger: Ledger | None = None
    warnings: tuple[str, ...] = ()


class ValidatedDay(Result):
    """What `Workspace.validate_clicks` decided.

    Attributes:
        day: The day of the run.
        accepted: Days that were accepted now.
        quarantined: Days that went to quarantine now.
        missing: Days of the window without clicks.
        validation_day: The day that chooses the best epoch.
        warnings: Those of `day`.
    """

    day: date
    accepted: tuple[date, ...]
    quarantined: tuple[date, ...]
    missing: tuple[date, ...]
    validation_day: date
    warnings: tuple[str, ...]


class BuiltWindow(Result):
    """The window that `Workspace.build_window` built or found.

    Attributes:
        day: The day that it ends with.
        window: Its fingerprint, by which later steps name it.
        clicks: Clicks of train, validation and test.
        items: Distinct items to train on.
        train: Clicks of the part that is trained on.
        validation: Clicks of the part that chooses the best epoch.
        test: Clicks of the part that champion and challenger are compared on.
        refit: Clicks before the test day, training and validation together, cleansed like `train`.
        validation_day: The day of the validation part.
        record: All that is recorded of it.
    """

    day: date
    window: str
    clicks: int
    items: int
    train: int
    validation: int
    test: int
    refit: int
    validation_day: date
    record: Window = Field(exclude=True, repr=False)


class TrainedVersion(Result):
    """The version that `Workspace.train_gru4rec` trained or found.

    Attributes:
        day: Its day.
        window: The window that it was trained on.
        model_version: Its name.
        mlflow_version: MLflow's number of it.
        mlflow_url: Where MLflow's server shows it; None where MLflow is no server.
        n_epochs: Epochs that it was trained for.
        chosen_on: The day of the run that chose their number; None where none did.
        events_per_second: In the last of them.
        validation_recall_at_20: Of the training that chose, after as many epochs; None where another run chose.
        took_s: Seconds that the training took.
    """

    day: date
    window: str
    model_version: str
    mlflow_version: str
    mlflow_url: str | None
    n_epochs: int
    chosen_on: date | None
    events_per_second: int
    validation_recall_at_20: float | None
    took_s: float


class Scores(Result):
    """What `Workspace.evaluate_models` measured.

    Attributes:
        day: The test day.
        scores: `recall_at_20`, `mrr_at_20` and `n_events` of each version and baseline, by name.
    """

    day: date
    scores: Mapping[str, Mapping[str, float | None]]

    @model_serializer
    def _by_name(self) -> Json:
        return {"day": str(self.day), **self.scores}


class Decided(Result):
    """The decision on a version, by `Workspace.promote_if_better`.

    Attributes:
        day: The day of the run.
        model_version: The challenger.
        outcome: What became of it.
        reasons: Why, in sentences.
        champion: The champion as of now; None while there is none.
        log_entry: The decision's place in the promotion log; None where nothing was to be decided.
        promoted: Whether this run made the challenger the champion, and it still is.
    """

    day: date
    model_version: str
    outcome: Outcome
    reasons: tuple[str, ...]
    champion: str | None
    log_entry: int | None
    promoted: bool


class ChampionEvent(BaseModel):
    """A version that became champion, as the event of Airflow's asset names it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model_version: str
    day: date
    log_entry: int


class Announcement(Result):
    """What there is to announce of a decision.

    Attributes:
        event: The version that the decision made champion and that still is; None of any other.
        why: A sentence on that.
    """

    event: ChampionEvent | None
    why: str


class RolledBack(Result):
    """What `Workspace.roll_back` did.

    Attributes:
        model_version: The champion, again.
        day: Its day.
        log_entry: The rollback's place in the promotion log.
        retired: The version that was replaced.
        pinned: Whether the champion was pinned too.
    """

    model_version: str
    day: date
    log_entry: int
    retired: str
    pinned: bool


class Pinned(Result):
    """What `Workspace.pin` or `Workspace.unpin` did.

    Attributes:
        model_version: The champion.
        log_entry: The entry of the promotion log that says so.
        pinned: Whether it stays champion whatever the gate says.
        reason: Why; it may be empty where a pin ends.
    """

    model_version: str
    log_entry: int
    pinned: bool
    reason: str


class PublishedItems(Result):
    """The file that `Workspace.publish_next_items` wrote.

    Attributes:
        model_version: The champion.
        file: Where its best next items are.
    """

    model_version: str
    file: str


class Preview(Result):
    """What a source holds, by `Workspace.preview`.

    Attributes:
        lines: Lines that were read.
        clicks: Clicks in them.
        rejected: Lines that don't parse.
        filtered: Lines that `source.where` leaves out.
        first_day: The first day with clicks.
        last_days: The days that were checked.
        window_clicks: Clicks of the largest window that ends with one of them.
        seconds_per_day: About how long a run takes.
    """

    lines: int
    clicks: int
    rejected: int
    filtered: int
    first_day: date
    last_days: tuple[date, ...]
    window_clicks: int
    seconds_per_day: int


class Tuned(Result):
    """What `Workspace.tune` found.

    Attributes:
        file: The settings file that it wrote.
        trials: Settings that were tried.
        pruned: Those that were stopped early.
        present: `recall_at_20` and `mrr_at_20` of the present settings.
        best: Those of the best settings.
        changes: What differs in the best settings, by name.
    """

    file: str
    trials: int
    pruned: int
    present: Mapping[str, float]
    best: Mapping[str, float]
    changes: Json


class Retrained(Decided):
    """What `Workspace.retrain` did: the decision, with the results of the steps before it under their names.

    Attributes:
        report: Where the page of the run is.
    """

    ingest_clicks: IngestedDay
    validate_clicks: ValidatedDay
    build_window: BuiltWindow
    train_gru4rec: TrainedVersion
    evaluate_models: Scores
    report: str
