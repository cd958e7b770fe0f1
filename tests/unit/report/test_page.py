"""The page of a run: what it says after each kind of decision, and where it is kept."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from sbr_tasks.clicks.ingest import ingest, ingest_missing
from sbr_tasks.days import day_in_words
from sbr_tasks.errors import RegistryError, TrackingError
from sbr_tasks.evaluation.comparison import Difference
from sbr_tasks.registry.gate import Outcome
from sbr_tasks.registry.log import Decision, PromotionLog
from sbr_tasks.registry.mlflow_projection import PAGE, MlflowProjection, version_url
from sbr_tasks.registry.promotion import repair_projections
from sbr_tasks.registry.versions import ModelVersion, train_version
from sbr_tasks.report.page import publish_page
from sbr_tasks.report.profile.build import profile_of_window
from sbr_tasks.settings import Settings
from sbr_tasks.store import Store
from sbr_tasks.validation.validate_days import validate_pending
from sbr_tasks.window.build import window_for_day
from sbr_tasks.window.record import Window, window_record
from tests.unit.days import Click, at, parquet_settings, write_parquet
from tests.unit.entries import decision_after, rollback_to
from tests.unit.report.pages import Page

pytestmark = pytest.mark.slow

D = date(2020, 6, 6)
BEFORE = D - timedelta(days=1)
SMALL = ("window.days=4", "window.least_click=1", "model.layers=[8]", "model.batch_size=16", "model.n_sample=8")
NEVER = re.compile(r"https?:")

Trained = tuple[Path, dict[date, tuple[Window, ModelVersion]]]


def settings_of(folder: Path, *overrides: str) -> Settings:
    return parquet_settings(folder, *SMALL, *overrides)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A store with the versions of two days, the second one trained under other settings; nothing is decided yet."""
    folder = tmp_path_factory.mktemp("report")
    for i in range(5):
        day = D - timedelta(days=i)
        clicks: list[Click] = [
            (int(f"{day:%m%d}{s:02d}"), (s + step) % 12, at(day, 100 * s + step)) for s in range(40 + i) for step in range(4)
        ]
        write_parquet(folder / "in" / f"{day}.parquet", clicks)
    found = {}
    for day, n_epochs in ((BEFORE, 1), (D, 2)):
        settings = settings_of(folder, f"model.n_epochs={n_epochs}")
        store = Store.open(settings)
        ingest(store, settings)
        validate_pending(store, settings)
        window = window_for_day(store, settings, day)
        found[day] = window, train_version(store, settings, window)
        profile_of_window(store, window)  # takes seconds, once for all pages
    return folder, found


@pytest.fixture
def shop(trained: Trained, tmp_path: Path) -> tuple[Store, Settings]:
    """A copy of the trained store, for one test to write to."""
    shutil.copytree(trained[0] / "store", tmp_path / "store")
    settings = settings_of(tmp_path)
    return Store.open(settings), settings


class Projection:
    """A stub of an MLflow that knows every version by the same number."""

    def __init__(self, *_: object) -> None:
        """Connects to nothing."""

    def number_of(self, name: str) -> str:
        return "7"

    def show_page(self, promotion: Decision) -> None:
        """Keeps nothing."""


@pytest.fixture
def no_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages are written without an MLflow, which takes seconds to begin."""
    monkeypatch.setattr("sbr_tasks.report.page.MlflowProjection", Projection)


Decide = Callable[..., Decision]


@pytest.fixture
def decide(shop: tuple[Store, Settings], trained: Trained) -> Decide:
    """Writes a decision on the version of a day into the log, as the gate would."""

    def write(day: date, outcome: Outcome, reason: str = "because") -> Decision:
        log = PromotionLog(shop[0])
        state = log.state()
        window, version = trained[1][day]
        scores = {f"{metric}_at_{k}": 0.25 for metric in ("recall", "mrr") for k in (1, 5, 10, 20)}
        knowledge = {"known_targets": 0.58, "known_inputs": 0.6, "recall_at_20_among_known": 0.25 / 0.58}
        metrics = scores | {"n_events": 120, "n_sessions": 40} | knowledge
        opponent = state.opponent_for(day)
        difference = Difference(0.03125, -0.0125, 0.0725, 0.875).as_dict()
        entry = decision_after(
            state,
            version.name,
            day,
            outcome,
            reasons=(reason,),
            challenger_metrics=metrics,
            opponent_metrics=metrics if opponent else None,
            differences=dict.fromkeys(("recall_at_20", "mrr_at_20"), difference) if opponent else {},
            baselines={"popularity": metrics | {"recall_at_20": 0.1, "mrr_at_20": 0.05}},
            window=window.fingerprint,
            actor="scheduled__x",
            at="2020-06-07T00:10:00+00:00",
            by_length={version.name: {"3-5": {"recall_at_20": 0.26, "mrr_at_20": 0.24, "n_events": 120}}},
        )
        log.create(entry)
        return entry

    return write


def page_of(shop: tuple[Store, Settings], day: date) -> tuple[Page, str]:
    html = shop[0].get(publish_page(*shop, day).key).decode()
    return Page(html), html


@pytest.mark.usefixtures("no_mlflow")
def test_page_of_a_promotion_has_intervals_slices_baselines_and_curve(shop: tuple[Store, Settings], decide: Decide) -> None:
    decide(BEFORE, Outcome.FIRST_CHAMPION)
    promotion = decide(D, Outcome.PROMOTE)
    page, html = page_of(shop, D)
    assert f"Promoted: {promotion.version} replaces {promotion.before} as champion." in page.text
    assert ["metric", "difference", "relative", "95% interval", "better in resamples"] in page.rows
    assert ["Recall@20", "+0.0312", "+12.5%", "-0.0125 to +0.0725", "88%"] in page.rows
    assert ["metric", "challenger", "champion", "popularity"] in page.rows
    assert ["Recall@20", "0.2500", "0.2500", "0.1000"] in page.rows
    assert ["Share of known targets", "58%", "58%", "58%"] in page.rows
    assert ["Recall@20 among known targets", "0.4310", "0.4310", "0.4310"] in page.rows
    assert ["3-5", "120", "0.2600", "0.2400"] in page.rows
    epochs = page.rows.index(["epoch", "loss", "Recall@20", "MRR@20", "events/s", "seconds"])
    assert [row[0] for row in page.rows[epochs + 1 : epochs + 4]] == ["1", "2", "item of the session"]
    assert html.count("<svg") == 2 + 1 + 3 + 2 + 7  # scores, differences, the learning curve, the read-out, clicks
    assert len(set(re.findall(r'\bid="([^"]+)"', html))) == len(re.findall(r'\bid="([^"]+)"', html))


@pytest.mark.usefixtures("no_mlflow")
def test_page_of_a_rejection_says_so_first_and_keeps_the_champion(shop: tuple[Store, Settings], decide: Decide) -> None:
    champion = decide(BEFORE, Outcome.FIRST_CHAMPION)
    rejected = decide(D, Outcome.KEEP_CHAMPION, "Recall@20 <0.1> does not beat 0.2.")
    page, html = page_of(shop, D)
    assert f"Not promoted: {rejected.version} is not better than {champion.version}, which stays champion." in page.text
    assert "Recall@20 &lt;0.1&gt; does not beat 0.2." in html
    assert f"Champion after this run: {champion.version}" in page.text


@pytest.mark.usefixtures("no_mlflow")
def test_page_says_what_changed_since_the_run_before(shop: tuple[Store, Settings], decide: Decide) -> None:
    decide(BEFORE, Outcome.FIRST_CHAMPION)
    assert "no earlier decision" in page_of(shop, BEFORE)[0].text
    decide(D, Outcome.PROMOTE)
    page, _ = page_of(shop, D)
    assert ["model.n_epochs", "1", "2"] in page.rows
    assert ["days", "2020-06-02 to 2020-06-05", "2020-06-03 to 2020-06-06", ""] in page.rows
    assert ["days whose clicks changed", "", "none", ""] in page.rows
    assert ["accepted clicks", "680", "664", "-2.4%"] in page.rows
    assert ["test events", "120", "120", "+0.0%"] in page.rows
    assert "package.numpy" not in page.text


@pytest.mark.usefixtures("no_mlflow")
def test_page_of_a_version_that_was_rolled_back_from_says_so(shop: tuple[Store, Settings], decide: Decide) -> None:
    first, second = decide(BEFORE, Outcome.FIRST_CHAMPION), decide(D, Outcome.PROMOTE)
    words = {"reason": "shelves were empty", "actor": "ann@shop", "at": "2020-06-08T09:00:00+00:00"}
    PromotionLog(shop[0]).create(rollback_to(first.version, BEFORE, before=second.version, **words))
    page, html = page_of(shop, D)
    text = " ".join(page.text.split())
    assert '<span class="badge back">Retired</span>' in html
    assert f"Rolled back to {first.version} Log entry 3, 8 June 2020, 09:00 UTC" in text
    assert f"shelves were empty Replaced {second.version}. By ann@shop" in text
    assert f"champion when this page was written: {first.version}" in text
    assert f"Rolled back to {first.version} Log entry 3" in " ".join(page_of(shop, BEFORE)[0].text.split())


@pytest.mark.usefixtures("no_mlflow")
def test_page_needs_nothing_from_other_hosts(shop: tuple[Store, Settings], decide: Decide) -> None:
    decide(BEFORE, Outcome.FIRST_CHAMPION)
    decide(D, Outcome.PROMOTE)
    page, html = page_of(shop, D)
    assert page.addresses
    assert [address for address in page.addresses if not address.startswith("#")] == []
    assert "<script" not in html
    assert "@import" not in html
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", html))


@pytest.mark.usefixtures("no_mlflow")
def test_page_links_to_the_version_on_an_mlflow_server_without_its_password(
    shop: tuple[Store, Settings], decide: Decide
) -> None:
    store, settings = shop
    decide(D, Outcome.FIRST_CHAMPION)
    server = settings.mlflow.model_copy(update={"tracking_uri": "https://ann:secret@mlflow.shop/", "model_name": "next items"})
    remote = settings.model_copy(update={"mlflow": server})
    url = "https://mlflow.shop/#/models/next%20items/versions/7"
    assert version_url(remote, "7") == url
    assert version_url(settings, "7") is None

    report = publish_page(store, remote, D)
    html = store.get(report.key).decode()
    assert [address for address in Page(html).addresses if NEVER.match(address)] == [url]
    assert "secret" not in html
    assert report.mlflow_url == url


def test_page_is_kept_with_the_version_and_repaired_with_it(
    shop: tuple[Store, Settings], decide: Decide, tmp_path: Path
) -> None:
    store, settings = shop
    promotion = decide(D, Outcome.KEEP_CHAMPION)
    report = publish_page(store, settings, D)
    assert kept_page(store, settings, promotion) == store.get(report.key)
    elsewhere = settings.mlflow.model_copy(update={"tracking_uri": f"sqlite:///{tmp_path / 'new.db'}"})
    anew = settings.model_copy(update={"mlflow": elsewhere})
    repair_projections(store, anew)
    assert kept_page(store, anew, promotion) == store.get(report.key)


def test_page_is_written_even_if_mlflow_is_out_of_reach(shop: tuple[Store, Settings], decide: Decide, tmp_path: Path) -> None:
    store, settings = shop
    promotion = decide(D, Outcome.KEEP_CHAMPION)
    database = tmp_path / "broken.db"
    database.write_bytes(b"this is no database, but a text that is longer than a header" * 20)
    broken = settings.mlflow.model_copy(update={"tracking_uri": f"sqlite:///{database}"})
    with pytest.raises(TrackingError) as caught:
        publish_page(store, settings.model_copy(update={"mlflow": broken}), D)
    where = store.where(promotion.page)
    assert str(caught.value).startswith(f"The page was written to {where}, but adding it to MLflow failed: MLflow at sqlite")
    assert promotion.version in store.get(promotion.page).decode()


@pytest.mark.usefixtures("no_mlflow")
def test_last_decision_of_the_day_is_shown_and_compared_with_the_one_before(
    shop: tuple[Store, Settings], decide: Decide
) -> None:
    decide(BEFORE, Outcome.FIRST_CHAMPION)
    decide(D, Outcome.KEEP_CHAMPION)
    forced = decide(D, Outcome.FORCED, "Forced regardless of the metrics: a test.")
    report = publish_page(*shop, D)
    assert (report.log_entry, report.outcome) == (forced.number, Outcome.FORCED)
    page = Page(shop[0].get(report.key).decode())
    assert f"Promoted by force: {forced.version}" in page.text
    assert f"Previous run: {day_in_words(BEFORE)}" in page.text  # not the decision before it on the same version


@pytest.mark.usefixtures("no_mlflow")
def test_lost_record_of_the_run_before_hides_only_what_it_held(
    shop: tuple[Store, Settings], decide: Decide, tmp_path: Path
) -> None:
    decide(BEFORE, Outcome.FIRST_CHAMPION)
    decide(D, Outcome.PROMOTE)
    shutil.rmtree(tmp_path / "store" / "windows" / f"day={BEFORE}")
    page, _ = page_of(shop, D)
    assert "window was removed" in page.text
    assert ["test events", "120", "120", "+0.0%"] in page.rows


def test_day_without_decision_is_a_sentence_that_tells_what_is_known(shop: tuple[Store, Settings], tmp_path: Path) -> None:
    store, settings = shop
    with pytest.raises(RegistryError) as caught:
        publish_page(store, settings, D)
    assert str(caught.value) == (
        f"There is no decision for {D} yet, so there is nothing to report. Run `sbr retrain --day {D}`."
    )
    bad = D + timedelta(days=1)
    write_parquet(tmp_path / "in" / "bad.parquet", [(None, 1, at(bad, 1)), (2, 2, at(bad, 2))])
    ingest(store, settings)
    validate_pending(store, settings)
    with pytest.raises(RegistryError, match=rf"Its clicks are in quarantine \(`sbr quarantine show {bad}`\): .*\. Run `sbr"):
        publish_page(store, settings, bad)


def test_command_prints_where_the_page_is(
    shop: tuple[Store, Settings],
    decide: Decide,
    command_line: Callable[..., tuple[int, str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store, _ = shop
    promotion = decide(D, Outcome.KEEP_CHAMPION)
    monkeypatch.setenv("SBR_STORE", store.url)
    code, out, _ = command_line("report", "--day", str(D))
    assert (code, out) == (0, f"{store.where(promotion.page)}\n")
    assert Path(out.strip()).is_file()
    code, out, _ = command_line("report", "--day", str(D), "--json")
    assert json.loads(out) == {
        "day": str(D),
        "report": store.where(promotion.page),
        "model_version": promotion.version,
        "outcome": "keep_champion",
        "log_entry": 1,
        "mlflow_version": "1",
        "mlflow_url": None,
    }


def kept_page(store: Store, settings: Settings, promotion: Decision) -> bytes:
    """The page among the files of the version's run in MLflow."""
    projection = MlflowProjection(store, settings)
    client, number = projection._client, projection.number_of(promotion.version)
    run_id = client.get_model_version(settings.mlflow.model_name, str(number)).run_id
    return Path(client.download_artifacts(str(run_id), PAGE)).read_bytes()


LEFT_OUT = "Clicks left out"


@pytest.mark.usefixtures("no_mlflow")
def test_clicks_that_the_run_left_out_are_on_its_page(shop: tuple[Store, Settings], decide: Decide, tmp_path: Path) -> None:
    store, settings = shop
    decide(D, Outcome.FIRST_CHAMPION)
    assert LEFT_OUT not in page_of(shop, D)[0].text  # what is stored already isn't worth a word
    early = D - timedelta(days=9)
    write_parquet(tmp_path / "in" / "late.parquet", [(1, 1, at(early, 1)), (1, 2, at(early, 2)), (2, 1, at(BEFORE, 1))])
    ingest_missing(store, settings, D)
    page, _ = page_of(shop, D)
    assert LEFT_OUT in page.text
    assert "3 lines read = 0 stored + 0 rejected + 3 left out" in page.text
    assert [str(early), "outside the window", "2", "\u2013"] in page.rows
    assert [str(BEFORE), "already stored and different", "1", "164"] in page.rows


@pytest.mark.usefixtures("no_mlflow")
@pytest.mark.parametrize("days_before", [1, 2])
def test_page_names_the_validation_day_unless_it_is_the_day_before(
    shop: tuple[Store, Settings], decide: Decide, monkeypatch: pytest.MonkeyPatch, days_before: int
) -> None:
    day = D - timedelta(days=days_before)

    def record(*which: Any) -> Window:
        window = window_record(*which)
        return window.model_copy(update={"validation_day": day})

    monkeypatch.setattr("sbr_tasks.report.stored.window_record", record)
    decide(D, Outcome.FIRST_CHAMPION)
    said = f"Validation day: {day_in_words(day)}" in page_of(shop, D)[0].text
    assert said is (days_before > 1)
