"""The Models page in Airflow's navigation: what it shows to whom, and what one can do there."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from benchmarks.seeded_history import seed_history
from sbr_tasks.registry.log import Pin, PromotionLog, Rollback, fold
from sbr_tasks.registry.recommend import recommend_items
from sbr_tasks.registry.versions import load_model, load_version
from sbr_tasks.store import Store
from tests.integration.airflow.conftest import Platform
from tests.integration.conftest import NEW
from tests.integration.history import entries_of, store_of
from tests.integration.shops import run_days
from tools.wait import wait_for

from .conftest import PageOf, keep_screen

if TYPE_CHECKING:
    from playwright.sync_api import Browser, FrameLocator, Page


N_DAYS = 60
LAST = date(2026, 11, 27)
DIRECT, PLUGIN = "/sbr-models/", "/plugin/models"
ROUTES = ["", "?items=1", "version?name=x", "stale?name=x", "data-docs/2026-11-27", "static/overview.js"]


@pytest.fixture
def seeded(platform: Platform, tmp_path: Path) -> Iterator[Store]:
    """Airflow works on a store with two months of decisions, whose models were never trained."""
    store = Store(str(tmp_path / "store"))
    seed_history(store, LAST, N_DAYS)
    with platform.using(tmp_path, tmp_path / "clicks.dat"):
        yield store


@pytest.fixture(scope="module")
def two_champions(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shop with two trained versions, of which the newer one is champion."""
    folder = tmp_path_factory.mktemp("champions") / "shop"
    shutil.copytree(trained, folder)
    run_days(folder, retrain=[NEW])
    assert len(fold(entries_of(folder)).were_champion) == 2
    return folder


@pytest.fixture
def shop(platform: Platform, two_champions: Path, demo_clicks: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of that shop, which Airflow works on."""
    folder = tmp_path / "shop"
    shutil.copytree(two_champions, folder)
    with platform.using(folder, demo_clicks):
        yield folder


def models_frame(page: Page) -> FrameLocator:
    return page.frame_locator('iframe[title="Models"]')


def settled(page: Page, url: str) -> None:
    """Opens the page itself, without Airflow around it, and waits until it shows all it will."""
    page.goto(url, wait_until="networkidle")


def test_nothing_is_shown_without_a_login(platform: Platform, browser: Browser, seeded: Store) -> None:
    name = quote(str(PromotionLog(seeded).state().champion))
    stranger = browser.new_context(base_url=platform.airflow.url)
    forged = browser.new_context(base_url=platform.airflow.url, extra_http_headers={"Authorization": "Bearer forged"})
    for route in [*ROUTES, f"version?name={name}"]:
        answer = stranger.request.get(f"{DIRECT}{route}")
        assert answer.status == 401, route
        assert "2026-11" not in answer.text(), route
        assert forged.request.get(f"{DIRECT}{route}").status in (401, 403), route
    for route in ("docs", "openapi.json"):
        assert stranger.request.get(f"{DIRECT}{route}").status in (401, 404), route
    stranger.close()
    forged.close()


def test_the_navigation_leads_to_champion_history_and_decisions(page_of: PageOf, seeded: Store) -> None:
    entries = PromotionLog(seeded).entries()
    champion = str(fold(entries).champion)
    page = page_of("admin")
    hosts = set[str]()
    page.on("request", lambda request: hosts.add(request.url.split("/")[2] if "//" in request.url else ""))
    page.goto("/")
    page.get_by_role("link", name="Models", exact=True).click()
    frame = models_frame(page)
    frame.locator("#champion .name").get_by_text(champion).wait_for()
    assert page.url.endswith(f"{PLUGIN}{DIRECT}")  # so that somebody may pass the address on
    assert frame.locator("#plots svg").count() == 2
    promoted = sum(getattr(entry, "outcome", None) is not None and entry.outcome.moves_champion for entry in entries)
    assert frame.locator("#plots svg").first.locator(".mark").count() == promoted
    assert frame.locator("#decisions").get_by_text(f"10 of {len(entries)} decisions").count() == 1
    keep_screen(page, "models")

    frame.get_by_role("link", name="Rolled back to 1").click()
    frame.locator("#decisions").get_by_text("1 of 1 decision").wait_for()
    assert frame.locator("#decisions").get_by_text("The shop's editors saw sold-out items").count() == 1
    frame.locator("#decisions").scroll_into_view_if_needed()
    keep_screen(page, "models-decisions")
    assert hosts <= {page.url.split("/")[2], ""}


def test_the_chart_is_explored_with_keys_pointer_and_ranges(page_of: PageOf, seeded: Store) -> None:
    page = page_of("viewer")
    settled(page, DIRECT)
    newest = PromotionLog(seeded).entries()[-1]
    chart = page.get_by_role("slider", name="Day")
    assert newest.version in str(chart.get_attribute("aria-valuetext"))
    chart.focus()
    page.keyboard.press("ArrowLeft")
    assert "26 November 2026" in str(chart.get_attribute("aria-valuetext"))
    assert page.locator(".tip").get_by_text("26 November 2026").is_visible()
    page.keyboard.press("Escape")
    assert not page.locator(".tip").is_visible()

    page.get_by_role("button", name="14 days").click()
    points = page.locator("#plots svg").first.locator(".dot.challenger")
    assert points.count() == 15
    box = page.locator("#plots svg").first.bounding_box()
    assert box is not None
    x, y = box["x"], box["y"] + box["height"] / 2
    page.mouse.move(x + box["width"] * 0.3, y)
    assert page.locator(".tip").is_visible()
    page.mouse.down()
    page.mouse.move(x + box["width"] * 0.7, y, steps=4)
    page.mouse.up()
    assert 2 <= points.count() < 10
    keep_screen(page, "models-chart-zoomed")
    chart.focus()
    page.keyboard.press("-")
    page.keyboard.press("End")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name=newest.version).wait_for()


def test_a_decision_leads_to_its_versions_page(page_of: PageOf, shop: Path) -> None:
    name = entries_of(shop)[-1].version
    page = page_of("viewer")
    page.goto(PLUGIN)
    models_frame(page).locator("#decisions").get_by_role("link", name=name).first.click()
    frame = models_frame(page)
    frame.get_by_role("heading", name=name).wait_for()
    titles = [
        "Decision",
        "Comparison",
        "By session length",
        "What changed since the previous run",
        "Learning curve",
        "Read-out",
    ]
    for title in [*titles, "Window", "Validation", "Data profile, before cleansing", "Settings and lineage"]:
        frame.get_by_role("heading", name=title, exact=True).first.wait_for()
    n_epochs = len(load_version(store_of(shop), name).curve)
    assert frame.get_by_role("region", name="Epochs").locator("tbody tr").count() == n_epochs
    assert frame.locator("#training svg").count() == 3
    assert frame.locator("#readout svg").count() == 2
    assert frame.locator(".gallery svg").count() == 7
    keep_screen(page, "version")
    page.reload()  # the address of the version, with Airflow around it, is one that may be passed on
    models_frame(page).get_by_role("heading", name=name).wait_for()

    with page.context.expect_page() as opened:
        models_frame(page).get_by_role("link", name=f"Data Docs of {name[:10]}").first.click()
    opened.value.get_by_text(name[:10]).first.wait_for(state="attached")


def test_a_decisions_run_is_opened_in_airflow_itself(page_of: PageOf, seeded: Store) -> None:
    entry = PromotionLog(seeded).entries()[-1]
    page = page_of("viewer")
    page.goto(PLUGIN)
    models_frame(page).get_by_role("link", name=entry.actor).first.click()
    page.wait_for_url(f"**/dags/daily_retrain/runs/{quote(entry.actor, safe='')}**")


def test_a_session_gets_what_champion_and_another_version_recommend(page_of: PageOf, shop: Path) -> None:
    store = store_of(shop)
    older, newer = (entry.version for entry in entries_of(shop))
    known = [set(load_model(store, load_version(store, name)).index.ids.tolist()) for name in (older, newer)]
    session = [str(item) for item in sorted(known[0] & known[1])[:2]]
    page = page_of("viewer")
    page.goto(PLUGIN)
    frame = models_frame(page)
    frame.get_by_label("Item ids of a session").fill(", ".join([*session, "999"]))
    frame.get_by_label("Compare with").select_option(older)
    frame.get_by_label("Items", exact=True).fill("5")
    frame.get_by_role("button", name="Recommend").click()
    columns = frame.locator(".column")
    columns.nth(1).wait_for()
    for column, name in ((columns.nth(0), newer), (columns.nth(1), older)):
        expected = recommend_items(store, [*session, "999"], k=5, name=name)
        assert column.locator("h3 a").inner_text() == name
        assert column.locator("li code").all_inner_texts() == [str(item) for item in expected.items]
        assert "999" in column.locator(".note").inner_text()
    frame.locator("#try").scroll_into_view_if_needed()
    keep_screen(page, "recommend")

    frame.get_by_label("Item ids of a session").fill("shoe")
    frame.get_by_role("button", name="Recommend").click()
    frame.get_by_text("Expected non-negative 64-bit integers as item ids").first.wait_for()
    page.goto(f"{DIRECT}version?name={older}&items={session[0]}#try")
    assert page.locator(".column h3 a").all_inner_texts() == [newer, older]


def test_an_op_rolls_back_with_a_reason(page_of: PageOf, platform: Platform, shop: Path) -> None:
    older, newer = (entry.version for entry in entries_of(shop))
    page = page_of("op")
    with platform.publishing_nothing():
        page.goto(PLUGIN)
        frame = models_frame(page)
        frame.get_by_role("button", name="Roll back …").click()
        dialog = frame.get_by_role("dialog", name="Roll back")
        dialog.get_by_role("button", name="Roll back").click()
        assert len(entries_of(shop)) == 2  # it asks for a reason first
        dialog.get_by_label("Reason").fill("Sold-out items stand first.")
        keep_screen(page, "rollback")
        dialog.get_by_role("button", name="Roll back").click()
        dialog.get_by_text("Done.").wait_for(timeout=120_000)
        keep_screen(page, "rollback-done")
        dialog.get_by_role("button", name="Close").click()
        frame.locator("#champion .name").get_by_text(older).wait_for()
    entry = entries_of(shop)[-1]
    assert isinstance(entry, Rollback)
    assert (entry.version, entry.before, entry.reason) == (older, newer, "Sold-out items stand first.")
    run = platform.airflow.api.get(f"dags/rollback_champion/dagRuns/{quote(entry.actor, safe='')}")
    assert (run["triggering_user_name"], run["conf"]) == (
        "op",
        {"to": older, "reason": "Sold-out items stand first.", "pin": False},
    )
    logged = platform.airflow.api.get("eventLogs", dag_id="rollback_champion", event="trigger_dag_run")["event_logs"]
    assert any(one["owner"] == "op" and "Sold-out items stand first." in one["extra"] for one in logged)


def test_an_op_pins_the_champion_and_unpins_it(page_of: PageOf, platform: Platform, seeded: Store) -> None:
    page = page_of("op")
    page.goto(PLUGIN)
    frame = models_frame(page)
    for action, reason in (("Pin", "The sale."), ("Unpin", "The sale is over.")):
        frame.get_by_role("button", name=f"{action} …").click()
        dialog = frame.get_by_role("dialog", name=action)
        dialog.get_by_label("Reason").fill(reason)
        keep_screen(page, action.lower())
        dialog.get_by_role("button", name=action, exact=True).click()
        dialog.get_by_text("Done.").wait_for(timeout=120_000)
        dialog.get_by_role("button", name="Close").click()
        frame.locator("#champion .name").wait_for()
        entry = PromotionLog(seeded).entries()[-1]
        assert isinstance(entry, Pin)
        assert (entry.is_on, entry.reason) == (action == "Pin", reason)
        shown = frame.locator("#pin")
        wait_for(lambda shown=shown, n=int(entry.is_on): shown.count() == n)
        assert not entry.is_on or reason in shown.inner_text()
    run = platform.airflow.api.get(f"dags/pin_champion/dagRuns/{quote(entry.actor, safe='')}")
    assert run["triggering_user_name"] == "op"


def test_a_viewer_reads_but_cannot_roll_back(page_of: PageOf, platform: Platform, seeded: Store) -> None:
    before = PromotionLog(seeded).entries()
    page = page_of("viewer")
    page.goto(PLUGIN)
    frame = models_frame(page)
    frame.locator("#champion .name").wait_for()
    assert frame.get_by_role("button", name="Roll back").count() == frame.get_by_role("button", name="Pin").count() == 0
    conf = {"to": before[0].version, "reason": "no right to"}
    answer = page.request.post("/api/v2/dags/rollback_champion/dagRuns", data={"logical_date": None, "conf": conf})
    assert answer.status == 403
    assert PromotionLog(seeded).entries() == before


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_serious(page_of: PageOf, shop: Path, theme: str) -> None:
    from axe_playwright_python.sync_playwright import Axe

    newest = entries_of(shop)[-1].version
    page = page_of("op")
    page.add_init_script(f"localStorage.setItem('theme', '{theme}')")
    for url, name in ((DIRECT, "models"), (f"{DIRECT}version?name={newest}", "version")):
        settled(page, url)
        assert page.locator("html").get_attribute("data-theme") == theme
        if name == "models":
            page.get_by_label("Item ids of a session").fill("1")
            page.get_by_role("button", name="Recommend").click()
            page.locator(".column").nth(1).wait_for()
            page.get_by_role("slider").focus()
            _require_no_violation(Axe().run(page).response, f"{url} ({theme})")
            page.get_by_role("button", name="Roll back …").click()
        _require_no_violation(Axe().run(page).response, f"{url} ({theme})")


def _require_no_violation(response: dict[str, Any], where: str) -> None:
    found = [one for one in response["violations"] if one["impact"] in ("serious", "critical")]
    assert not found, [(where, one["id"], [node["html"][:200] for node in one["nodes"]]) for one in found]


def test_the_page_follows_airflows_theme(page_of: PageOf, seeded: Store) -> None:
    page = page_of("viewer")
    page.add_init_script("localStorage.setItem('theme', 'dark')")
    page.goto(PLUGIN)
    frame = models_frame(page)
    frame.locator("#champion .name").wait_for()
    assert frame.locator("html").get_attribute("data-theme") == "dark"
    keep_screen(page, "models-dark")
    page.evaluate("document.documentElement.classList.replace('dark', 'light')")
    frame.locator("html[data-theme=light]").wait_for(state="attached")


def test_reasons_are_no_strip_beside_the_figures_in_a_window_of_800_pixels(page_of: PageOf, seeded: Store) -> None:
    page = page_of("viewer")
    page.set_viewport_size({"width": 800, "height": 900})
    settled(page, DIRECT)
    widths = page.locator(".rows [role=cell]:last-child").evaluate_all("found => found.map((one) => one.clientWidth)")
    assert widths and min(widths) > 400


def test_pages_fit_a_narrow_screen(page_of: PageOf, shop: Path) -> None:
    newest = entries_of(shop)[-1].version
    page = page_of("viewer")
    page.set_viewport_size({"width": 400, "height": 900})
    for url, name in ((DIRECT, "models-narrow"), (f"{DIRECT}version?name={newest}", "version-narrow")):
        settled(page, url)
        assert page.evaluate("document.documentElement.scrollWidth") <= 400
        keep_screen(page, name, full=True)


def test_what_cannot_be_shown_is_said_in_a_sentence(page_of: PageOf, platform: Platform, seeded: Store, tmp_path: Path) -> None:
    page = page_of("viewer")
    settled(page, f"{DIRECT}version?name=2026-11-27-00000000")
    assert "There is no model version '2026-11-27-00000000'" in page.get_by_role("alert").inner_text()
    seeded.replace("promotions/00000002.json", b"{}")
    settled(page, DIRECT)
    assert "promotions/00000002.json is damaged" in page.get_by_role("alert").inner_text()
    keep_screen(page, "models-damaged")
    with platform.using(tmp_path / "new", tmp_path / "clicks.dat"):
        settled(page, DIRECT)
        assert page.get_by_text("There is no champion yet").is_visible()
        assert page.get_by_text("No decisions yet.").is_visible()
        assert page.locator("#decisions code").inner_text().endswith("/new/store/promotions")
        keep_screen(page, "models-empty")
