"""### Retrains GRU4Rec on the newest day of clicks and promotes the model if it is better

One run a day, for the day before. A run for day D ingests and validates the clicks of D (and of any day of its 30-day window
that is missing), builds the window, trains a challenger, lets challenger and champion recommend for the same sessions of D,
and promotes the challenger if it is better. *Not promoted* is a success; *could not decide* is a failure.

**Which day?** Scheduled and backfill runs: the day at which their data interval starts. A run triggered by hand needs the
parameter `day` (`{"day": "2020-06-30"}`) and is refused without it. Runs may come in any order and side by side; a run that is
repeated finds what is done already. Past days: *Trigger*, *Run Backfill*; with one active run at a time, in order.

**When a task fails**, the last line of its log says what was found and what to do; then clear the task, and the run goes on.
`ingest_clicks`: the source is absent, or has no clicks of D (a scheduled run waits for them first, `source.wait_minutes`).
`validate_clicks`: D or D-1 is in quarantine; mend the source and clear from `ingest_clicks` on. `build_window`: too many days
are missing, or cleansing left nothing. What is the same at every try fails at once; all else (a store or a server out of
reach, say) is tried three more times within two minutes.

Settings come from `sbr.toml` or `SBR_*` variables of the workers' environment.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from airflow.sdk import CronDataIntervalTimetable, Param, PokeReturnValue, dag, get_current_context, task
from airflow.sdk.exceptions import AirflowSkipException
from sbr_alerts import deadline
from sbr_dag_parts import CHAMPION, DEFAULT_ARGS, spark_overrides, waits

from sbr_tasks import steps
from sbr_tasks.settings import load_settings

SETTINGS = load_settings()
DAY_HELP = "The day (YYYY-MM-DD) whose clicks are new. Manual runs need it; other runs know their day."


@dag(
    schedule=CronDataIntervalTimetable("@daily", timezone=SETTINGS.timezone),
    start_date=datetime(1995, 1, 1, tzinfo=SETTINGS.zone),
    catchup=False,
    max_active_runs=2,  # a nightly run never waits for a retrain by hand; more would share the same processors
    params={"day": Param(None, type=["null", "string"], format="date", title="Day", description=DAY_HELP)},
    tags=["recommendations", "gru4rec", "daily"],
    doc_md=__doc__,
    default_args=DEFAULT_ARGS,
    deadline=deadline(SETTINGS),
)
def daily_retrain() -> None:
    """Wires the steps; the work is in `sbr_tasks.steps`."""

    @task(execution_timeout=timedelta(minutes=5))
    def resolve_day() -> str:
        """The day whose clicks are new to this run."""
        context = get_current_context()
        run = context["dag_run"]
        # A backfill's logical date is the start of its interval, except where it takes over a manual run of that date: Airflow
        # then keeps the manual run's interval, which lies a day earlier.
        return steps.resolve_day(context["params"]["day"], run.run_type.value, run.logical_date)

    @task.sensor(mode="reschedule", execution_timeout=timedelta(hours=2), **waits(SETTINGS.source))
    def ingest_clicks(day: str) -> PokeReturnValue:
        """Reads the day, and days of its window that were never ingested, in one pass; a scheduled run waits for its clicks."""
        is_scheduled = get_current_context()["dag_run"].run_type == "scheduled"
        ingested = steps.ingest_clicks_once_there(day) if is_scheduled else steps.ingest_clicks(day)
        return PokeReturnValue(ingested is not None, ingested)

    @task(execution_timeout=timedelta(hours=2))
    def validate_clicks(day: str) -> dict[str, Any]:
        """Accepts or quarantines each ingested day with Great Expectations; fails if the day or the one before is bad."""
        return steps.validate_clicks(day)

    @task(execution_timeout=timedelta(hours=1))
    def build_window(day: str) -> dict[str, Any]:
        """Cleanses the 30 days that end with the day and splits them into training, validation and test sessions."""
        return steps.build_window(day, overrides=spark_overrides(SETTINGS.window))

    @task(execution_timeout=timedelta(hours=12))
    def train_gru4rec(day: str, window: str) -> dict[str, Any]:
        """Trains the challenger and registers it as a model version."""
        return steps.train_gru4rec(day, window)

    @task(execution_timeout=timedelta(hours=4))
    def evaluate_models(day: str, window: str, model_version: str) -> dict[str, Any]:
        """Scores challenger, champion and baselines on the same events of the day."""
        return steps.evaluate_models(day, window, model_version)

    @task(execution_timeout=timedelta(hours=1))
    def promote_if_better(day: str, window: str, model_version: str) -> dict[str, Any]:
        """Writes the decision, with its reasons, into the promotion log."""
        return steps.promote_if_better(day, window, model_version, run=get_current_context()["run_id"])

    @task(execution_timeout=timedelta(minutes=5), outlets=[CHAMPION])
    def announce_champion(decision: dict[str, Any]) -> None:
        """Updates the asset `champion` if this run promoted its model; is skipped if not, so that nothing downstream runs."""
        if not decision["promoted"]:
            raise AirflowSkipException(f"{decision['outcome']}: the champion stays {decision['champion']}.")
        event = {"model_version": decision["champion"], "day": decision["day"], "log_entry": decision["log_entry"]}
        get_current_context()["outlet_events"][CHAMPION].extra.update(event)

    @task(execution_timeout=timedelta(hours=1))
    def write_report(day: str) -> dict[str, Any]:
        """Writes the page of this run."""
        return steps.write_report(day)

    day = resolve_day()
    window = build_window(day)
    challenger = train_gru4rec(day, window["window"])
    evaluated = evaluate_models(day, window["window"], challenger["model_version"])
    decided = promote_if_better(day, window["window"], challenger["model_version"])
    ingest_clicks(day) >> validate_clicks(day) >> window
    announce_champion(decided)
    evaluated >> decided >> write_report(day)


daily_retrain()
