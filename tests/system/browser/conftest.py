"""Debian's Chromium, headless, at a web server of the suite's; without it the tests are skipped."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.test import Client
from pytest_django import Settings
from pytest_django.live_server_helper import LiveServer

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

_NAMES = ("chromium", "chromium-browser", "google-chrome")

#: It asks the network for this and that, which no test is about.
_QUIET = ("--disable-background-networking", "--disable-component-update", "--disable-sync")

#: All that a page may do: what is its own. Not even a style of its own, inside the page.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)

PHONE: Any = {"width": 390, "height": 844}
PASSWORD = "correct horse battery staple"


@pytest.fixture(scope="session")
def browser() -> Iterator["Browser"]:
    api = pytest.importorskip("playwright.sync_api", reason="`make browser` installs its driver")
    executable = next(filter(None, map(shutil.which, _NAMES)), None)
    if executable is None:
        pytest.skip("there is no Chromium; Debian's is in the package chromium")
    with pytest.MonkeyPatch.context() as patch:
        # The driver runs an event loop in this thread while we wait, and Django takes all that
        # follows here for asynchronous.
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
        with api.sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=executable, args=_QUIET)
            yield browser
            browser.close()


def with_a_policy(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    """Middleware: a strict Content-Security-Policy, as a careful project has one."""

    def respond(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        response.headers["Content-Security-Policy"] = POLICY
        return response

    return respond


class Desk:
    """A person with a browser: where they are, what they see, and what went wrong unseen."""

    def __init__(self, page: "Page", home: str) -> None:
        self.page = page
        self._home = home
        self.complaints: list[str] = []
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", self._see)

    def _hear(self, message: Any) -> None:
        # Chromium asks for an icon by itself, and the admin has none.
        if message.type in ("error", "warning") and "favicon" not in str(message.location):
            self.complaints.append(message.text)

    def _see(self, request: Any) -> None:
        if not request.url.startswith((self._home, "data:")):
            self.complaints.append(f"asked {request.url}")

    def go(self, path: str) -> None:
        self.page.goto(self._home + path)

    @property
    def path(self) -> str:
        return str(self.page.url).removeprefix(self._home)

    def tab_to(self, name: str) -> None:
        """Presses Tab until the link, field or button of this name has the focus."""
        focused = (
            "document.activeElement.innerText || document.activeElement.value"
            " || document.activeElement.name || ''"
        )
        seen = []
        for _ in range(60):
            self.page.keyboard.press("Tab")
            seen.append(str(self.page.evaluate(focused)).strip())
            # A stylesheet may show it in capitals.
            if seen[-1].casefold() == name.casefold():
                return
        raise AssertionError(f"{name} is not reached by Tab; these are: {seen}")

    def keep(self, name: str) -> None:
        """Takes a screenshot, if they are asked for: ``make browser SCREENSHOTS=folder``."""
        if folder := os.environ.get("SCREENSHOTS"):
            self.page.screenshot(path=Path(folder) / f"{name}.png")


@pytest.fixture
def desk(browser: "Browser", live_server: LiveServer, settings: Settings) -> Iterator[Desk]:
    settings.MIDDLEWARE = [f"{__name__}.{with_a_policy.__name__}", *settings.MIDDLEWARE]
    context = browser.new_context(viewport={"width": 1200, "height": 860}, color_scheme="light")
    desk = Desk(context.new_page(), live_server.url)
    yield desk
    context.close()
    assert desk.complaints == []


@pytest.fixture
def admin(transactional_db: None) -> User:
    return User.objects.create_superuser("admin", password=PASSWORD)


@pytest.fixture
def logged_in(desk: Desk, admin: User, settings: Settings) -> Desk:
    client = Client()
    client.force_login(admin)
    cookie = client.cookies[settings.SESSION_COOKIE_NAME]
    desk.page.context.add_cookies([{"name": cookie.key, "value": cookie.value, "url": desk._home}])
    return desk
