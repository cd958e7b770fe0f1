"""### Retrains GRU4Rec on the newest day of clicks and promotes the version if it is better

One run a day, for the day before. The run for day D ingests and validates the clicks of D (and of any missing day of its
window), builds the window of 30 days, trains a challenger, scores challenger and champion on the same sessions of D, and
promotes the challenger if it is better. *Not promoted* is a success; *could not decide* is a failure.

**Which day?** Scheduled and backfill runs use the start of their data interval. Manual runs need `day`. Runs may come in any
order and side by side; a repeated run reuses work already done. Airflow names a run after the end of its interval:
`backfill__2014-09-30T00:00:00+00:00` is the run for 29 September.

**Parameters** (*Trigger*; empty: the default from the settings). The form rejects invalid values; the task `resolve_day`
rejects invalid combinations and explains why.

| | |
|---|---|
| `day` | day to retrain for (`YYYY-MM-DD`); required for a single run, empty in a backfill |
| `promote` | `gate`: promote if the gate finds it better; `never`: only train, score and report; \
`force`: promote regardless of the metrics |
| `reason` | reason for a forced promotion, kept in the promotion log; required with `force`, not allowed without |
| `n_epochs`, `batch_size`, `learning_rate`, `loss`, `seed`, `warm_start`, `window_days` | settings for this run only: \
the run trains a version of its own, and the decision lists them |

**Past days**: choose *Trigger*, *Backfill*, and the first and last day; with 1 active run they run in order. *All Runs* also
repeats days that are done, which is quick where nothing changed. Parameters of a backfill apply only if *Override parameters on
existing runs* is ticked, even to new runs. With `promote` *Never*, a backfill scores past days and never changes the champion.

**When a task fails**, the log line *Task failed with exception* says what was found and what to do (key `w` wraps lines). Fix
it, then clear the task to continue the run. Errors that a retry can't fix fail at once; others (a store or server that is
unreachable) are retried three times within two minutes.

| task | possible causes |
|---|---|
| `resolve_day` | no day, or parameters that don't go together: trigger again |
| `ingest_clicks` | the source is missing, or has no clicks of D (a scheduled run waits first, `source.wait_minutes`) |
| `validate_clicks` | D is in quarantine: see *Data Docs of the day*, fix the source, and clear from `ingest_clicks` on |
| `build_window` | too many days are missing, or cleansing left nothing |
| `train_gru4rec` | the loss is no longer finite: lower the learning rate. Interrupted training resumes after its last epoch |
| `promote_if_better` | the champion can't be used: restore its files, or roll back |

A task marked as successful by hand has no result, so the tasks that need it fail at once and say so. Clear it to continue.

A task that stays *scheduled* may be waiting for a slot in its pool (`training`, `promotion`; see *Admin*, *Pools*).
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from airflow.sdk import CronDataIntervalTimetable, PokeReturnValue, TaskGroup, dag, task

from sbr_tasks.airflow.alerts import deadline, require_notifier
from sbr_tasks.airflow.assets import CHAMPION, announce
from sbr_tasks.airflow.defaults import DEFAULT_ARGS
from sbr_tasks.airflow.links import DATA_DOCS, MLFLOW, REPORT, with_links
from sbr_tasks.airflow.parameters import trigger_form
from sbr_tasks.airflow.runs import names_of, resolve_run, result_of, run_request, run_step, run_workspace
from sbr_tasks.airflow.sensors import polling, wait_for_clicks
from sbr_tasks.airflow.spark import spark_overrides
from sbr_tasks.settings import load_settings

SETTINGS = load_settings()
require_notifier(SETTINGS)


@dag(
    schedule=CronDataIntervalTimetable("@daily", timezone=SETTINGS.timezone),
    start_date=datetime(1995, 1, 1, tzinfo=SETTINGS.zone),
    catchup=False,
    max_active_runs=2,  # a nightly run never waits for a manual one; more would share the same processors
    params=trigger_form(),
    tags=["recommendations", "gru4rec", "daily"],
    doc_md=__doc__,
    default_args=DEFAULT_ARGS,
    deadline=deadline(SETTINGS),
)
def daily_retrain() -> None:
    """Connects the steps; the work is in `sbr_tasks.workspace`."""

    @task(execution_timeout=timedelta(minutes=5))
    def resolve_day() -> str:
        """Resolves the day of the run; rejects parameters that don't go together."""
        return resolve_run()

    @task.sensor(mode="reschedule", execution_timeout=timedelta(hours=2), **polling(SETTINGS.source))
    def ingest_clicks(day: str) -> PokeReturnValue:
        """Ingests the day, and missing days of its window, in one pass; a scheduled run waits for its clicks."""
        day = result_of("resolve_day", day)
        workspace = run_workspace()
        return wait_for_clicks(day, SETTINGS.source, lambda: run_step(workspace.ingest_clicks, day))

    @task(execution_timeout=timedelta(hours=2))
    def validate_clicks(ingested: dict[str, Any]) -> dict[str, Any]:
        """Accepts or quarantines each ingested day with Great Expectations; fails if the day is bad."""
        day = result_of("ingest_clicks", ingested)["day"]
        return run_step(run_workspace().validate_clicks, day)

    @task(execution_timeout=timedelta(hours=1))
    def build_window(validated: dict[str, Any]) -> dict[str, Any]:
        """Cleanses the days of the window and splits them into training, validation and test sessions."""
        day = result_of("validate_clicks", validated)["day"]
        return run_step(run_workspace(spark_overrides(SETTINGS.window)).build_window, day)

    @task(execution_timeout=timedelta(hours=12), pool="training", queue="training")
    def train_gru4rec(window: dict[str, Any]) -> dict[str, Any]:
        """Trains the challenger and registers it as a version."""
        window = result_of("build_window", window)
        return run_step(run_workspace().train_gru4rec, window["day"], window["window"])

    @task(execution_timeout=timedelta(hours=4))
    def evaluate_models(challenger: dict[str, Any]) -> dict[str, Any]:
        """Scores challenger, champion and baselines on the same events of the day."""
        names = names_of(challenger)
        return run_step(run_workspace().evaluate_models, *names)

    @task(execution_timeout=timedelta(hours=1), pool="promotion")
    def promote_if_better(challenger: dict[str, Any]) -> dict[str, Any]:
        """Writes the decision, with its reasons, into the promotion log."""
        names = names_of(challenger)
        return run_step(run_workspace().promote_if_better, *names, run_request().wish)

    @task(execution_timeout=timedelta(minutes=5), outlets=[CHAMPION])
    def announce_champion(decision: dict[str, Any]) -> dict[str, Any]:
        """Updates the asset `champion` if this run's version is the champion; otherwise it is skipped."""
        result = run_step(run_workspace().champion_event, result_of("promote_if_better", decision))
        return announce(result["event"], otherwise=result["why"])

    @task(execution_timeout=timedelta(hours=1))
    def write_report(challenger: dict[str, Any]) -> dict[str, Any]:
        """Writes the page of this run."""
        names = names_of(challenger)
        return run_step(run_workspace().write_report, *names, run_request().wish)

    day = resolve_day()
    with TaskGroup("clicks", prefix_group_id=False, tooltip="From the source to accepted days"):
        validated = with_links(validate_clicks(ingest_clicks(day)), DATA_DOCS)
    with TaskGroup("model", prefix_group_id=False, tooltip="From accepted days to a scored challenger"):
        window = build_window(validated)
        challenger = with_links(train_gru4rec(window), REPORT, MLFLOW)
        evaluated = with_links(evaluate_models(challenger), REPORT)
    with TaskGroup("decision", prefix_group_id=False, tooltip="From scores to the champion, and the page that explains it"):
        decided = with_links(promote_if_better(challenger), REPORT)
        announce_champion(decided)
        reported = with_links(write_report(challenger), REPORT, DATA_DOCS, MLFLOW)
    evaluated >> decided >> reported


daily_retrain()
