"""The admin in a real browser: with a keyboard, on a phone, in the dark, under a strict policy."""

import re

import pytest
from django.apps import apps
from django.contrib.admin import site
from django.contrib.auth.models import User
from django_q.models import OrmQ

from orgs.models import Organization, WorkOSEvent
from orgs.services.queue import RECONCILE
from orgs.testing import FakeWorkOS
from tests.system.browser.conftest import PASSWORD, PHONE, Desk
from tests.system.browser.day import INITECH, UMBRELLA, a_day

STATUS = "/admin/orgs/synccursor/"
SNAPSHOT = f"{STATUS}snapshot/"
PARKED = "/admin/orgs/workosevent/?outcome=parked"
ORGANIZATIONS = "/admin/orgs/organization/"
UMBRELLAS_PAGE = f"{ORGANIZATIONS}gram-umbrella/change/"


@pytest.fixture(autouse=True)
def a_mirror(transactional_db: None) -> None:
    a_day()


def test_a_person_logs_in_reads_what_is_wrong_and_has_a_snapshot_taken_by_keyboard_alone(
    desk: Desk, admin: User
) -> None:
    page = desk.page

    desk.go("/")
    # A page has its focus only when the browser draws it, which may be after it is loaded.
    page.locator("#id_username:focus").wait_for()
    page.keyboard.type(admin.username)
    page.keyboard.press("Tab")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Overview").wait_for()
    desk.keep("index")
    desk.tab_to("Sync status")
    page.keyboard.press("Enter")

    page.get_by_role("heading", name="Sync status").wait_for()
    assert desk.path == STATUS
    assert page.get_by_text("3 things to look into.").is_visible()
    assert page.get_by_role("heading", name="Look into it: 1 event is parked").is_visible()
    assert page.get_by_role("img", name="Events by outcome and hour").is_visible()
    assert page.get_by_role("img", name="From the first webhook to the row").is_visible()
    desk.keep("status")
    page.get_by_role("heading", name="The last 24 hours").scroll_into_view_if_needed()
    page.mouse.wheel(0, 500)
    desk.tab_to("The same as a table")
    page.keyboard.press("Enter")
    assert page.get_by_role("columnheader", name="created").is_visible()
    desk.go(STATUS)
    desk.tab_to("Take a snapshot now")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Take a snapshot now").wait_for()
    desk.keep("snapshot")
    desk.tab_to("Yes: Take a snapshot now")
    page.keyboard.press("Enter")

    page.get_by_text("Enqueued: Take a snapshot now").wait_for()
    assert desk.path == STATUS
    assert [queued.task["func"] for queued in OrmQ.objects.all()] == [RECONCILE]


def test_a_person_searches_for_an_organization_and_reads_its_history(logged_in: Desk) -> None:
    page = logged_in.page

    logged_in.go(ORGANIZATIONS)
    page.get_by_role("textbox", name="Search").fill("umbr")
    page.keyboard.press("Enter")
    page.get_by_text("1 result").wait_for()
    logged_in.keep("search")
    page.get_by_role("link", name="Umbrella").click()

    page.get_by_role("heading", name="What WorkOS said of it").wait_for()
    assert logged_in.path.startswith(UMBRELLAS_PAGE)
    assert page.get_by_role("row", name="organization.updated").count() > 5
    page.get_by_role("button", name="Save", exact=True).scroll_into_view_if_needed()
    logged_in.keep("organization")


def test_a_person_replays_a_parked_event_by_keyboard_alone(
    logged_in: Desk, workos: FakeWorkOS
) -> None:
    workos.create_organization(id=INITECH, name="Initech, renamed", external_id="gram-initech")
    page = logged_in.page

    logged_in.go(PARKED)
    page.locator("#result_list tbody a").first.focus()
    page.keyboard.press("Enter")
    page.get_by_text("data.name: expected text, found null").wait_for()
    logged_in.keep("parked")
    logged_in.tab_to("Apply what WorkOS says now …")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Apply what WorkOS says now: 1 WorkOS event").wait_for()
    logged_in.keep("confirmation")
    logged_in.tab_to("Yes: Apply what WorkOS says now")
    page.keyboard.press("Enter")

    page.get_by_text("Applied what WorkOS says now (updated)").wait_for()
    logged_in.keep("replayed")
    assert not WorkOSEvent.objects.parked().exists()
    assert Organization.objects.get(id="gram-initech").name == "Initech, renamed"


def test_a_person_reconciles_one_organization_at_a_phone(
    logged_in: Desk, workos: FakeWorkOS
) -> None:
    workos.create_organization(
        id=UMBRELLA, name="Umbrella Corporation", external_id="gram-umbrella"
    )
    page = logged_in.page
    page.set_viewport_size(PHONE)

    logged_in.go(UMBRELLAS_PAGE)
    page.get_by_role("button", name="Reconcile with WorkOS").click()
    page.get_by_text('name: "Umbrella" → "Umbrella Corporation"').wait_for()
    logged_in.keep("reconcile-phone")
    page.get_by_role("button", name="Yes: Reconcile with WorkOS").click()

    page.get_by_text("updated gram-umbrella").wait_for()
    assert logged_in.path == UMBRELLAS_PAGE
    assert Organization.objects.get(id="gram-umbrella").name == "Umbrella Corporation"


#: By how much a list's table is wider than its place.
OVERFLOW = "(e => e ? e.scrollWidth - e.clientWidth : 0)(document.querySelector('.results'))"
MODELS = filter(site.is_registered, apps.get_app_config("orgs").get_models())
LISTS = [f"/admin/orgs/{model._meta.model_name}/" for model in MODELS]


@pytest.mark.parametrize("width", [1280, PHONE["width"]])
@pytest.mark.parametrize("path", ["/admin/", SNAPSHOT, UMBRELLAS_PAGE, *LISTS, PARKED])
def test_no_page_and_no_table_is_wider_than_the_screen(
    path: str, width: int, logged_in: Desk
) -> None:
    logged_in.page.set_viewport_size({"width": width, "height": 800})

    logged_in.go(path)

    assert logged_in.page.evaluate("document.documentElement.scrollWidth") <= width
    assert logged_in.page.evaluate(OVERFLOW) <= 0
    logged_in.keep(f"{width}-{'-'.join(re.findall('[a-z]+', path))}")


def test_in_the_dark_the_status_is_dark(logged_in: Desk) -> None:
    page = logged_in.page
    page.emulate_media(color_scheme="dark")

    logged_in.go(STATUS)

    page.get_by_role("img", name="Events by outcome and hour").scroll_into_view_if_needed()
    background = page.evaluate(
        "getComputedStyle(document.querySelector('.sync-state')).backgroundColor"
    )
    assert background == "rgb(33, 33, 33)"
    logged_in.keep("status-dark")
