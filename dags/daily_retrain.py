"""### Retrains GRU4Rec on the newest day of clicks and promotes the model if it is better

One run a day, for the day before. A run for day D ingests and validates the clicks of D (and of any day of its window that is
missing), builds the window of 30 days, trains a challenger, lets challenger and champion recommend for the same sessions of D,
and promotes the challenger if it is better. *Not promoted* is a success; *could not decide* is a failure.

**Which day?** Scheduled and backfill runs: the day at which their data interval starts. Runs by hand need `day`. Runs may
come in any order and side by side; a run that is repeated finds what is done already. Airflow names a run by the end of its
interval: `backfill__2014-09-30T00:00:00+00:00` is the run for 29 September.

**Parameters** (*Trigger*; empty: as the settings say). The form rejects invalid values; `resolve_day` rejects invalid
combinations and explains why.

| | |
|---|---|
| `day` | the day (`YYYY-MM-DD`) whose clicks are new; needed by hand, left empty in a backfill |
| `promote` | `gate`: if the gate finds it better; `never`: train, score and report only; `force`: whatever the metrics |
| `reason` | why it is forced, for the promotion log; needed with `force`, refused without |
| `n_epochs`, `batch_size`, `learning_rate`, `loss`, `seed`, `warm_start`, `window_days` | settings of this run only: they \
make a version of their own, and the decision names them |

**Past days**: *Trigger*, *Backfill*, the first and the last day; with 1 active run, in order. *All Runs* repeats days
that are done, which costs little where nothing changed. Parameters of a backfill count only if *Override parameters on existing
runs* is ticked, for new runs too; `promote` *Never* then scores past days and moves nothing.

**When a task fails**, the line *Task failed with exception* of its log says what was found and what to do
(key `w` wraps lines); then clear the task to resume the run.
What is the same at every try fails at once; all else (a store or a server out of reach) is tried three more times within two
minutes.

| task | what it may be |
|---|---|
| `resolve_day` | no day, or parameters that don't go together: trigger again |
| `ingest_clicks` | the source is absent, or has no clicks of D (a scheduled run waits first, `source.wait_minutes`) |
| `validate_clicks` | D is in quarantine: see its *Data Docs of the day*, correct it, clear from `ingest_clicks` on |
| `build_window` | too many days are missing, or cleansing left nothing |
| `train_gru4rec` | the loss is no longer finite: lower the learning rate. A stopped training resumes after its last epoch |
| `promote_if_better` | the champion can't be used: restore its files, or roll back |

A task that is marked as a success by hand returns nothing: the tasks that need its result fail at once and say so. Clear it.

A task that stays *scheduled* may wait for a free slot of its pool (`training`, `promotion`; *Admin*, *Pools*).
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from airflow.sdk import CronDataIntervalTimetable, PokeReturnValue, TaskGroup, dag, get_current_context, task
from airflow.sdk.exceptions import AirflowSkipException
from sbr_alerts import deadline
from sbr_dag_parts import CHAMPION, DEFAULT_ARGS, spark_overrides, waits
from sbr_run_parts import asked, resolve_run, result_of, run_as_asked, trigger_form
from sbr_task_links import DATA_DOCS, MLFLOW, REPORT, VERSION, with_links

from sbr_tasks import steps
from sbr_tasks.report.notifier import notifier_of
from sbr_tasks.settings import load_settings

SETTINGS = load_settings()
if SETTINGS.alerts.on:
    notifier_of(SETTINGS.alerts)  # a misspelt one is an error of this file, and not found out when a run fails


@dag(
    schedule=CronDataIntervalTimetable("@daily", timezone=SETTINGS.timezone),
    start_date=datetime(1995, 1, 1, tzinfo=SETTINGS.zone),
    catchup=False,
    max_active_runs=2,  # a nightly run never waits for a retrain by hand; more would share the same processors
    params=trigger_form(),
    tags=["recommendations", "gru4rec", "daily"],
    doc_md=__doc__,
    default_args=DEFAULT_ARGS,
    deadline=deadline(SETTINGS),
)
def daily_retrain() -> None:
    """Wires the steps; the work is in `sbr_tasks.steps`."""

    @task(execution_timeout=timedelta(minutes=5))
    def resolve_day() -> str:
        """The day whose clicks are new to this run; refuses what the trigger form couldn't."""
        return resolve_run()

    @task.sensor(mode="reschedule", execution_timeout=timedelta(hours=2), **waits(SETTINGS.source))
    def ingest_clicks(day: str) -> PokeReturnValue:
        """Reads the day, and days of its window that were never ingested, in one pass; a scheduled run waits for its clicks."""
        day = result_of("resolve_day", day)
        is_scheduled = get_current_context()["dag_run"].run_type == "scheduled"
        ingested = run_as_asked(steps.ingest_clicks_once_there if is_scheduled else steps.ingest_clicks, day)
        return PokeReturnValue(ingested is not None, ingested)

    @task(execution_timeout=timedelta(hours=2))
    def validate_clicks(ingested: dict[str, Any]) -> dict[str, Any]:
        """Accepts or quarantines each ingested day with Great Expectations; fails if the day is bad."""
        return run_as_asked(steps.validate_clicks, result_of("ingest_clicks", ingested)["day"])

    @task(execution_timeout=timedelta(hours=1))
    def build_window(validated: dict[str, Any]) -> dict[str, Any]:
        """Cleanses the days of the window and splits them into training, validation and test sessions."""
        day = result_of("validate_clicks", validated)["day"]
        return run_as_asked(steps.build_window, day, overrides=spark_overrides(SETTINGS.window))

    @task(execution_timeout=timedelta(hours=12), pool="training", queue="training")
    def train_gru4rec(window: dict[str, Any]) -> dict[str, Any]:
        """Trains the challenger and registers it as a model version."""
        window = result_of("build_window", window)
        return run_as_asked(steps.train_gru4rec, window["day"], window["window"])

    @task(execution_timeout=timedelta(hours=4))
    def evaluate_models(challenger: dict[str, Any]) -> dict[str, Any]:
        """Scores challenger, champion and baselines on the same events of the day."""
        return run_as_asked(steps.evaluate_models, *names_of(challenger))

    @task(execution_timeout=timedelta(hours=1), pool="promotion")
    def promote_if_better(challenger: dict[str, Any]) -> dict[str, Any]:
        """Writes the decision, with its reasons, into the promotion log."""
        named = {"run": get_current_context()["run_id"], "force": asked().reason, "is_asked": asked().promote != "never"}
        return run_as_asked(steps.promote_if_better, *names_of(challenger), **named)

    @task(execution_timeout=timedelta(minutes=5), outlets=[CHAMPION])
    def announce_champion(decision: dict[str, Any]) -> dict[str, Any]:
        """Updates the asset `champion` if this run's model is the champion; else it is skipped, and nothing downstream runs."""
        found = run_as_asked(steps.champion_event, result_of("promote_if_better", decision))
        if found["event"] is None:
            raise AirflowSkipException(found["why"])
        get_current_context()["outlet_events"][CHAMPION].extra.update(found["event"])
        return found["event"]

    @task(execution_timeout=timedelta(hours=1))
    def write_report(challenger: dict[str, Any]) -> dict[str, Any]:
        """Writes the page of this run."""
        named = {"run": get_current_context()["run_id"], "is_asked": asked().promote != "never"}
        return run_as_asked(steps.write_report, *names_of(challenger), **named)

    day = resolve_day()
    with TaskGroup("clicks", prefix_group_id=False, tooltip="From the source to accepted days"):
        validated = with_links(validate_clicks(ingest_clicks(day)), DATA_DOCS)
    with TaskGroup("model", prefix_group_id=False, tooltip="From accepted days to a scored challenger"):
        window = build_window(validated)
        challenger = with_links(train_gru4rec(window), VERSION, MLFLOW)
        evaluated = with_links(evaluate_models(challenger), REPORT)
    with TaskGroup("decision", prefix_group_id=False, tooltip="From scores to the champion, and the page that explains it"):
        decided = with_links(promote_if_better(challenger), REPORT, VERSION)
        announce_champion(decided)
        reported = with_links(write_report(challenger), REPORT, VERSION, DATA_DOCS, MLFLOW)
    evaluated >> decided >> reported


def names_of(challenger: dict[str, Any]) -> tuple[str, str, str]:
    """What the later steps know a challenger by: day, window and version."""
    challenger = result_of("train_gru4rec", challenger)
    return challenger["day"], challenger["window"], challenger["model_version"]


daily_retrain()
