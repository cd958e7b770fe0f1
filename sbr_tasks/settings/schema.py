"""The tree of settings: every key with its type, default, bounds and meaning."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import date
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from sbr_tasks.settings.formats import DATA_SETS, ClickFormat, LineFormat, parse_where

ChangedDays = Literal["take_grown", "warn", "take"]


def _several(value: Any) -> Any:
    """Lets the command line and the environment give a list without JSON: `failure,streak`, or a single value."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return [value] if type(value) is int else value


Several = BeforeValidator(_several)


def require_zone(name: str) -> str:
    """The name of a time zone.

    Raises:
        ValueError: There is no such zone.
    """
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise ValueError(f"no time zone is called {name!r}; use a name such as 'UTC' or 'Europe/Amsterdam'") from error
    return name


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SourceColumns(_Section):
    """Names of the columns of a `csv`, `jsonl` or `parquet` source; `events[].item` is a key of the objects in a JSON list."""

    session_id: str = "session_id"
    user_id: str | None = Field(
        None, description="Column of the user whose clicks source.session_gap cuts into sessions. Default: session_id."
    )
    item_id: str = "item_id"
    clicked_at: str = "clicked_at"
    time_offset: str | None = Field(None, description="Column of milliseconds to add to the time, where that is a date.")
    category: str | None = Field(None, description="Column of the category. Default: the category is empty.")


def _delimiter(value: Any) -> Any:
    """Lets a shell give a tab as a backslash and a t."""
    return "\t" if value == "\\t" else value


class SourceSettings(_Section):
    """Where the daily run finds new clicks, and how they are written there."""

    path: str | None = Field(None, description="A file, a folder, or a glob (plain or .gz); or one in s3://, gs://, az://.")
    options: dict[str, str] = Field({}, description="Options of the source's object store (endpoint, region), never secrets.")
    format: ClickFormat = Field("yoochoose", description="How the lines are laid out, or the name of a public data set.")
    columns: SourceColumns = Field(SourceColumns(), description="Column names for csv, jsonl and parquet.")
    delimiter: Annotated[str, BeforeValidator(_delimiter)] = Field(
        ",", min_length=1, max_length=1, description="Field separator of the csv format; \\t is a tab."
    )
    id_type: Literal["integer", "string"] = Field(
        "integer", description="Type of session and item ids: 64-bit non-negative integers, or strings."
    )
    time_unit: Literal["iso", "s", "ms", "us"] = Field(
        "iso",
        description="How csv, jsonl and parquet write the time: ISO-8601, or a number of this unit since 1970.",
    )
    timezone: str | None = Field(
        None, description="Zone of times that name none, such as Europe/Amsterdam. Default: such times are rejected."
    )
    earliest: date = Field(
        date(2000, 1, 1), ge=date(1970, 1, 1), description="Clicks before this day (UTC) are rejected as impossible."
    )
    where: str | None = Field(
        None,
        description="Which lines are clicks, such as event_type = view; also !=, and several joined by 'and'. Default: all.",
    )
    session_gap: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="Minutes without a click after which a new session of the same user starts. Default: sessions have ids.",
    )
    wait_minutes: int = Field(
        720,
        ge=0,
        description="Minutes that a scheduled run waits for the clicks of its day; 0: it fails at once, as other runs do.",
    )
    check_every_minutes: float = Field(5.0, gt=0, description="How often a waiting run looks at the source, in minutes.")
    settle_seconds: float = Field(
        60.0,
        ge=0,
        description="A local file that changed within this time may be half written and isn't read yet; 0: it is read at once.",
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_in_data_set(cls, given: Any) -> Any:
        """Adds the defaults of a public data set; given values take precedence."""
        name = given.get("format") if isinstance(given, Mapping) else None
        if not isinstance(name, str) or name not in DATA_SETS:
            return given
        defaults = DATA_SETS[name][1]
        filled = {**defaults, **given}
        if isinstance(given.get("columns"), Mapping):
            filled["columns"] = {**defaults.get("columns", {}), **given["columns"]}
        return filled

    @field_validator("delimiter")
    @classmethod
    def _delimiter_separates(cls, delimiter: str) -> str:
        if not delimiter.isascii() or delimiter in '"\r\n\0':
            raise ValueError("expected one ASCII character that is neither a quote nor the end of a line")
        return delimiter

    @field_validator("timezone")
    @classmethod
    def _zone_exists(cls, name: str | None) -> str | None:
        return name if name is None else require_zone(name)

    @field_validator("where")
    @classmethod
    def _where_is_understood(cls, text: str | None) -> str | None:
        if text is not None and not parse_where(text):
            raise ValueError("expected conditions such as event_type = view")
        return text

    @model_validator(mode="after")
    def _users_are_cut(self) -> Self:
        if self.columns.user_id is not None and self.session_gap is None:
            raise ValueError("columns.user_id names users; set session_gap to the minutes that separate their sessions")
        return self

    @property
    def line_format(self) -> LineFormat:
        """The format of the lines, also of a public data set."""
        return DATA_SETS[self.format][0] if self.format in DATA_SETS else self.format  # type: ignore[return-value]


class IngestSettings(_Section):
    """What an import does with bad lines and with days that are stored already."""

    max_rejected: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Share of a source's lines that may be rejected, and kept in a file, because they don't parse.",
    )
    changed_days: ChangedDays = Field(
        "take_grown",
        description="When to replace a stored day by the source's clicks. take_grown: if they contain all stored ones; "
        "warn: never; take: always.",
    )


Severity = Literal["critical", "warning", "off"]

EXPECTATIONS: Mapping[str, Severity] = {
    "columns": "critical",
    "times_in_day": "critical",
    "ids_present": "critical",
    "item_ids": "critical",
    "session_ids": "critical",
    "repeated_share": "critical",
    "repeated_clicks": "warning",
    "tied_clicks": "warning",
    "long_sessions": "warning",
    "top_session": "warning",
    "session_names": "warning",
    "session_spans": "warning",
    "volume": "warning",
    "new_items": "warning",
    "one_click_sessions": "warning",
    "session_lengths": "warning",
    "top_item": "warning",
    "hours": "warning",
}
"""The expectations of a day and their severities; docs/validation.md explains each name."""

STRUCTURAL = ("columns", "times_in_day", "ids_present", "item_ids")
"""Expectations without which a window would be wrong or can't be built: always critical."""


class ValidationSettings(_Section):
    """Thresholds of the Great Expectations suite."""

    severities: dict[str, Severity] = Field(
        {},
        description="Severity by name of an expectation: critical (quarantine), warning or off. The others keep their default.",
    )
    max_session_clicks: int = Field(1000, ge=1, description="Sessions with more clicks than this are warned about.")
    max_repeated_share: float = Field(
        0.2, ge=0, lt=1, description="A day goes to quarantine if a larger share of its clicks repeats session, item and time."
    )
    max_tied_share: float = Field(
        0.05,
        ge=0,
        lt=1,
        description="Share of clicks with the same time as the click before them, above which a day is warned about.",
    )
    max_session_hours: float = Field(
        24.0,
        gt=0,
        description="Sessions that last longer are counted, and warned about if they are more than 1% of the sessions.",
    )
    trailing_days: int = Field(28, ge=1, description="Number of days before a day whose facts it is compared with.")
    min_trailing_days: int = Field(3, ge=1, description="Minimum number of accepted days to compare a day with.")
    max_z: float = Field(5.0, gt=0, description="Robust z-score beyond which a fact is warned about.")
    volume_tolerance: float = Field(
        0.5, gt=0, description="Counts and session lengths within this share of the trailing median are never warned about."
    )
    share_tolerance: float = Field(
        0.05, gt=0, lt=1, description="Shares that differ by at most this from the trailing median are never warned about."
    )

    @field_validator("severities")
    @classmethod
    def _expectations_exist(cls, severities: dict[str, Severity]) -> dict[str, Severity]:
        for name, severity in severities.items():
            if name not in EXPECTATIONS:
                raise ValueError(f"no expectation is called {name!r}; expected one of {', '.join(EXPECTATIONS)}")
            if name in STRUCTURAL and severity != "critical":
                raise ValueError(f"{name} is always critical, because a window can't be built of days that break it")
        return severities

    def severity(self, name: str) -> Severity:
        """The severity of the expectation `name`."""
        return self.severities.get(name, EXPECTATIONS[name])


class WindowSettings(_Section):
    """What a training window holds."""

    days: int = Field(30, ge=3, le=3660, description="Length of the window in days; it ends with the day of the run.")
    cleanse: Literal["training", "window"] = Field(
        "training",
        description="What is cleansed. training: the clicks to train on; window: the whole window before it is split, as "
        "notebooks do. Then the test day influences which items are known, and scores are too high.",
    )
    shortest: int = Field(2, ge=2, description="Cleansing drops sessions with fewer clicks.")
    least_click: int = Field(5, ge=1, description="Cleansing drops items with fewer clicks.")
    longest: int | None = Field(1000, ge=2, description="Maximum clicks of a session to train on; null: no limit.")
    longest_action: Literal["drop", "cut"] = Field(
        "drop", description="What to do with longer sessions before cleansing; cut: keep their first `longest` clicks."
    )
    max_missing_days: int = Field(
        7, ge=0, description="Maximum number of days of the window that may be empty or in quarantine."
    )
    engine: Literal["memory", "spark"] = Field(
        "memory",
        description="Engine that builds windows; spark: for windows too large for one machine. Both give the same result.",
    )
    spark_master: str | None = Field(
        None,
        pattern=r"^(local(\[.+\])?|spark://.+|yarn|k8s://.+)$",
        description="Spark's master, such as spark://host:7077. Default: Airflow's connection spark_default, else local[*].",
    )
    spark_memory: str = Field(
        "2g", pattern="^[1-9][0-9]*[mgt]$", description="Memory of Spark's driver, and on a cluster of each executor."
    )

    @model_validator(mode="after")
    def _some_length_is_kept(self) -> Self:
        if self.longest is not None and self.longest < self.shortest:
            raise ValueError(
                f"no session has at least {self.shortest} clicks (shortest) and at most {self.longest} (longest); "
                "longest must not be below shortest"
            )
        return self


class ModelSettings(_Section):
    """GRU4Rec's hyperparameters, under their published names, and its read-out."""

    layers: Annotated[tuple[int, ...], Several] = Field((100,), min_length=1, description="Units of each GRU layer.")
    loss: Literal["cross-entropy", "bpr-max"] = Field("cross-entropy", description="Training loss.")
    batch_size: int = Field(64, ge=1, description="Sessions trained side by side (lanes).")
    n_epochs: int = Field(10, ge=1, description="Maximum number of epochs.")
    learning_rate: float = Field(0.1, gt=0, description="Step size of Adagrad.")
    momentum: float = Field(0.0, ge=0, lt=1, description="Share of the last step that is added to the next one.")
    dropout_p_embed: float = Field(0.4, ge=0, lt=1, description="Share of the item embedding that is dropped at the input.")
    dropout_p_hidden: float = Field(0.1, ge=0, lt=1, description="Share of the hidden state that is dropped.")
    constrained_embedding: bool = Field(True, description="Input and output share one embedding table.")
    embedding: Annotated[int, Field(ge=0)] | Literal["layersize"] = Field(
        0,
        description="Width of a separate input embedding (constrained_embedding off); layersize: as wide as the first layer; "
        "0: none, an item's row of the first layer's input weights is looked up.",
    )
    n_sample: int = Field(2048, ge=0, description="Negative items drawn per step, shared by the batch; 0: loss over all items.")
    sample_alpha: float = Field(0.5, ge=0, le=1, description="Negatives are drawn with probability ~ support ** sample_alpha.")
    logq: float = Field(
        1.0,
        ge=0,
        description="Strength of cross-entropy's correction (0: none): in training, logq * log of an item's support (targets) "
        "or of support ** sample_alpha (samples) is taken off its score.",
    )
    bpreg: float = Field(1.0, ge=0, description="Weight of the score regularisation of bpr-max.")
    elu_param: float = Field(0.5, ge=0, description="ELU on the scores of bpr-max, with this alpha (0: none).")
    readout: Literal["mixture", "plain"] = Field(
        "mixture",
        description="What is ranked. mixture: GRU4Rec's softmax mixed with co-visits and the session's own items; plain: "
        "GRU4Rec's scores, as in the papers.",
    )

    @field_validator("layers")
    @classmethod
    def _units_are_positive(cls, layers: tuple[int, ...]) -> tuple[int, ...]:
        if any(units < 1 for units in layers):
            raise ValueError("every layer needs at least 1 unit")
        return layers


class TrainingSettings(_Section):
    """How a model is trained, apart from its hyperparameters."""

    seed: int = Field(42, ge=0, lt=2**31, description="Random seed: random numbers are drawn from (seed, epoch, step).")
    patience: int = Field(3, ge=1, description="Epochs without a better validation Recall@20 before training stops.")
    validation_events: int = Field(
        500_000,
        ge=1,
        description="Approximate maximum number of events to validate an epoch on; on larger days, sessions are sampled.",
    )
    min_validation_events: int = Field(
        100,
        ge=1,
        description="Minimum number of validation events to choose the number of epochs and fit the read-out by. With fewer, "
        "those of the parent or the last version are used, else n_epochs and no read-out.",
    )
    choose_every: int = Field(
        3,
        ge=1,
        description="Number of consecutive days whose runs share a choice of epochs and read-out. Choosing takes a training of "
        "its own. At most a seventh of window.days.",
    )
    warm_start: Literal["off", "parent"] = Field(
        "off", description="parent: start from the weights of an earlier day's champion, if its layers and loss are the same."
    )
    warm_epochs: int = Field(3, ge=1, description="Maximum number of epochs of a warm start.")


class EvaluationSettings(_Section):
    """How models are scored."""

    batch_size: int = Field(512, ge=1, description="Number of sessions scored at a time.")


def _margin(value: Any) -> float | str:
    """A difference of metrics, or a share of the champion's score as a text such as `-1%`."""
    text = str(value).strip()
    try:
        number = float(text.removesuffix("%"))
    except ValueError:
        number = math.nan
    if isinstance(value, bool) or math.isnan(number):
        raise ValueError("expected a difference of metrics such as 0.001 or -0.002, or a share of the champion's score: '-1%'")
    if text.endswith("%"):
        if not -100 < number < math.inf:
            raise ValueError("a share must be above -100%, which would let every challenger pass")
        return f"{number:g}%"
    if not -1 < number <= 1:
        raise ValueError(f"metrics differ by 1 at most; for a share of the champion's score, write '{number:g}%'")
    return number


class VSkNNSettings(_Section):
    """The baseline V-SkNN of `sbr evaluate`."""

    k: int = Field(500, ge=1, description="Maximum number of neighbours.")
    sample_size: int = Field(1000, ge=1, description="Number of most recent sessions from which they are chosen.")


class VSTANSettings(_Section):
    """The baseline VSTAN of `sbr evaluate`.

    Names and defaults are session-rec's, the framework of Ludewig et al., which has no default for `k` and searches 100 to
    2000. For YooChoose they found by search, for Recall: k 2000, sample_size 10000, lambda_spw 4, lambda_snh 20,
    lambda_inh 0.5, lambda_ipw 1, lambda_idf 2; for MRR: 1500, 10000, 0.5, 5, 2, 2, 2 (session-rec,
    `conf/save/rsc15/window/window_rsc15_vstan.yml`).
    """

    k: int = Field(500, ge=1, description="Maximum number of neighbours.")
    sample_size: int = Field(5000, ge=1, description="Number of most recent sessions from which they are chosen.")
    lambda_spw: float = Field(
        1.02, gt=0, description="Decay of an item's weight in the similarity, in clicks before the session's last one."
    )
    lambda_snh: float = Field(5.0, gt=0, description="Decay of a past session's weight, in days before the most recent one.")
    lambda_inh: float = Field(2.05, gt=0, description="Decay of an item's weight in a neighbour, in clicks from the match.")
    lambda_ipw: float = Field(
        1.02, gt=0, description="Decay of a neighbour's weight, in clicks from the match to the session's last click."
    )
    lambda_idf: float = Field(5.0, ge=0, description="Weight of the inverse document frequency; 0: none.")


Baseline = Literal["popularity", "markov", "covisits"]
"""What every version is compared with; `covisits` has all of a model's read-out but GRU4Rec."""


class GateSettings(_Section):
    """When a challenger replaces the champion."""

    min_delta: Annotated[float | str, BeforeValidator(_margin)] = Field(
        0.0,
        description="Recall@20 and MRR@20 must both be better by more than this: a difference such as 0.001, or a share of the "
        "champion's score such as 1%. Negative: they may be worse by less than this, such as -0.002 or -1%.",
    )
    confidence: float | None = Field(
        None,
        gt=0.5,
        lt=1,
        description="If set, e.g. 0.95: the one-sided lower bounds of both differences at this level must exceed min_delta.",
    )
    baselines: Annotated[tuple[Baseline, ...], Several] = Field(
        ("popularity", "markov"),
        description="Baselines that a challenger must beat in both metrics. All are measured and shown.",
    )
    min_events: int = Field(100, ge=1, description="Minimum number of test events for a decision.")
    min_sessions: int = Field(20, ge=1, description="Minimum number of test sessions for a decision.")
    replace_unusable: bool = Field(
        False,
        description="Let a good challenger replace a champion whose files are lost or damaged, instead of failing the run.",
    )

    def margin(self, score: float) -> float:
        """By how much a challenger must be better than a champion with this score; negative: may be worse."""
        if isinstance(self.min_delta, str):
            return float(self.min_delta.removesuffix("%")) / 100 * score
        return self.min_delta


class ServingSettings(_Section):
    """What the serving copy returns."""

    k: int = Field(20, ge=1, description="Number of items that the SavedModel recommends for a session.")


OwnItems = Literal["allow", "hide_current", "hide"]


class RecommendSettings(_Section):
    """What a placement may show. A change needs no training; the gate scores under the same rule."""

    own_items: OwnItems = Field(
        "allow",
        description="Whether a session's own items may be recommended; hide_current: all but the last one; hide: none.",
    )
    exclude: str | None = Field(
        None,
        description="File of item ids that are never recommended, such as sold out ones: text with an id per line, or CSV or "
        "Parquet with a column item_id; or one in s3://, gs://, az://, read with store_options. Default: none.",
    )
    follow_itself: bool = Field(
        False,
        description="Whether publish_next_items may list an item among its own next items, if own_items allows it.",
    )


class MlflowSettings(_Section):
    """Where MLflow keeps model versions and metrics; by default inside a local store."""

    tracking_uri: str | None = Field(
        None, description="MLflow tracking and registry URI. Default: SQLite inside a local store."
    )
    artifact_root: str | None = Field(None, description="Folder or URI of MLflow's artifacts. Default: inside a local store.")
    pages_uri: str | None = Field(
        None, description="Where browsers reach MLflow's pages. Default: tracking_uri, if it is http. Empty: no links."
    )
    experiment: str = Field("daily_retrain", description="MLflow experiment of the training runs.")
    model_name: str = Field("gru4rec", description="Registered model whose versions the runs create.")


class UpkeepSettings(_Section):
    """What `sbr store gc` and the weekly DAG keep."""

    keep_days: int = Field(
        90, ge=0, description="Keep what the runs of the newest decided day, and of this many days before it, read and wrote."
    )
    grace_hours: float = Field(
        24.0, ge=0, description="Files younger than this are never removed: a run in progress may be about to publish them."
    )


AlertEvent = Literal["failure", "promotion", "streak", "quarantine", "deadline"]

SMTP_NOTIFIER = "airflow.providers.smtp.notifications.smtp.SmtpNotifier"

_SECRETS = ("password", "passwd", "secret", "token", "api_key", "webhook_url")


def _refuse_secret(argument: str) -> str:
    """Checks only the name of a notifier's argument, so that no message shows its value."""
    if any(secret in argument.lower() for secret in _SECRETS):
        raise ValueError("secrets belong in the Airflow connection of the notifier")
    return argument


NotifierArgument = Annotated[str, AfterValidator(_refuse_secret)]


class AlertSettings(_Section):
    """Alerts through an Airflow notifier. Its secrets are in its Airflow connection, never here."""

    on: Annotated[tuple[AlertEvent, ...], Several] = Field(
        (),
        description="Events to alert on: failure, promotion (rollbacks too), streak, quarantine, deadline. Default: none.",
    )
    recipients: Annotated[tuple[str, ...], Several] = Field((), description="E-mail addresses (with the default notifier).")
    notifier: str = Field(SMTP_NOTIFIER, description="Dotted path of the Airflow notifier's class.")
    arguments: dict[NotifierArgument, Any] = Field(
        {},
        description="Its keyword arguments; {{ alert.subject }}, {{ alert.text }}, {{ alert.html }} and {{ alert.link }} in "
        "templated ones are filled in.",
    )
    streak_days: int = Field(
        7,
        ge=1,
        description="Alert after this many days without a promotion, and again after each further period of that length.",
    )
    deadline_hours: float = Field(
        6.0, gt=0, description="Hours after queueing at which a run is late. Backfills are never late."
    )

    @model_validator(mode="after")
    def _mails_have_recipients(self) -> Self:
        if self.on and self.notifier == SMTP_NOTIFIER and not self.recipients:
            raise ValueError("e-mails need recipients; set alerts.recipients, or another alerts.notifier")
        return self


class Settings(_Section):
    """The whole tree."""

    store: str = Field("var/store", description="Where everything durable is kept: a folder, or an s3://, gs://, az:// URL.")
    store_options: dict[str, str] = Field({}, description="Options of an object store (endpoint, region, ...), never secrets.")
    scratch: str | None = Field(None, description="Folder for temporary files. Default: inside a local store.")
    timezone: str = Field("UTC", description="Zone whose midnights separate days.")
    source: SourceSettings = SourceSettings()
    ingest: IngestSettings = IngestSettings()
    validation: ValidationSettings = ValidationSettings()
    window: WindowSettings = WindowSettings()
    model: ModelSettings = ModelSettings()
    training: TrainingSettings = TrainingSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    vsknn: VSkNNSettings = VSkNNSettings()
    vstan: VSTANSettings = VSTANSettings()
    gate: GateSettings = GateSettings()
    serving: ServingSettings = ServingSettings()
    recommend: RecommendSettings = RecommendSettings()
    mlflow: MlflowSettings = MlflowSettings()
    upkeep: UpkeepSettings = UpkeepSettings()
    alerts: AlertSettings = AlertSettings()

    @field_validator("timezone")
    @classmethod
    def _zone_exists(cls, name: str) -> str:
        return require_zone(name)

    @property
    def zone(self) -> ZoneInfo:
        """The zone whose midnights separate days."""
        return ZoneInfo(self.timezone)
