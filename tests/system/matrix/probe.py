"""Runs inside a host project: uses the app in every way there is, and prints what failed as JSON.

    python probe.py PREFIX < a webhook: its body, its signature

It is run by the host project's own Python, which has nothing but the wheel and what that requires.
"""

import json
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout, suppress
from functools import partial
from html import unescape
from io import StringIO
from typing import Any
from urllib.parse import parse_qs, urljoin, urlsplit

import django

#: What our own code does and Django will not allow any more.
warnings.filterwarnings("error", module=r"orgs(\.|$)")
django.setup()

from django.apps import apps  # noqa: E402 - needs the settings
from django.core.management import call_command, get_commands  # noqa: E402
from django.test import Client  # noqa: E402
from django.urls import get_script_prefix, reverse  # noqa: E402

MOST_PAGES = 400

failures: list[str] = []


def attempt(what: str, do: Callable[[], Any]) -> Any:
    """Return what ``do`` returns; note what it raises."""
    try:
        return do()
    except (Exception, SystemExit):  # noqa: BLE001 - whatever it is, it is a failure
        failures.append(f"{what}: {traceback.format_exc()[-1_500:]}")
        return None


def command(*arguments: str, **options: Any) -> str:
    """Return what the command prints."""
    out = StringIO()
    attempt(" ".join(arguments), lambda: call_command(*arguments, stdout=out, **options))
    return out.getvalue()


def expect(what: str, got: object, *wanted: object) -> None:
    if got not in wanted:
        failures.append(f"{what}: {got!r}, not {' or '.join(map(repr, wanted))}")


# The admin ----------------------------------------------------------------------------------


def attributes(tag: str) -> dict[str, str]:
    return {name: unescape(value) for name, value in re.findall(r'([\w-]+)="([^"]*)"', tag)}


def forms_of(page: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Where each form is posted to, and its fields: once for each button and bulk action."""
    for head, content in re.findall(r"<form\b([^>]*)>(.*?)</form>", page, re.DOTALL):
        form = attributes(head)
        if form.get("method", "").lower() != "post":
            continue
        fields: dict[str, str] = {}
        actions = "".join(re.findall(r'<select name="action".*?</select>', content, re.DOTALL))
        choices = [("action", value) for value in re.findall(r'<option value="(.+?)"', actions)]
        for tag in map(attributes, re.findall(r"<(?:input|button)\b[^>]*>", content)):
            name, value, type_ = (tag.get(it, "") for it in ("name", "value", "type"))
            if type_ in ("submit", ""):
                choices.append((name, value))
            elif name and type_ != "search":
                # The first of several boxes.
                fields.setdefault(name, value)
        yield from ((form.get("action", ""), {**fields, name: value}) for name, value in choices)


def visit(client: Client, url: str, data: dict[str, str] | None) -> Any:
    """Return the answer; a server takes the script's name from the path."""
    path = f"/{url.removeprefix(get_script_prefix())}"
    return client.get(path) if data is None else client.post(path, data)


def crawl(client: Client, start: str) -> int:
    """Follow every link and press every button below ``start`` that is this app's."""
    waiting: list[tuple[str, dict[str, str] | None]] = [(start, None), (f"{start}?q=acme", None)]
    seen = set()
    pages = 0
    while waiting and pages < MOST_PAGES:
        url, data = waiting.pop()
        # A token is another each time, and which row is chosen, or how a list is sorted and
        # filtered, makes no other page.
        chosen = sorted((k, v) for k, v in (data or {}).items() if k in ("action", "_confirmed"))
        address = urlsplit(url)
        asked = parse_qs(address.query)
        key = (address.path, *asked, str(chosen if data else None))
        # One filter at a time: there are more combinations of them than pages.
        if key in seen or len(asked) > 1 or "/jsi18n/" in url:
            continue
        seen.add(key)
        pages += 1
        response = attempt(f"{url} {data}", partial(visit, client, url, data))
        if response is None:
            continue
        if response.status_code not in (200, 302):
            failures.append(f"{url} {data}: {response.status_code}")
        if response.status_code != 200 or "text/html" not in response.headers["Content-Type"]:
            continue
        page = response.content.decode(response.charset)
        for link in re.findall(r'<a\b[^>]*?\bhref="([^"]*)"', page):
            address = urlsplit(urljoin(url, unescape(link)))
            if not address.netloc and address.path.startswith(start):
                waiting.append((f"{address.path}?{address.query}".rstrip("?"), None))
        # Not the header's: it logs out.
        forms = [(urljoin(url, action), form) for action, form in forms_of(page)]
        waiting += [(action, form) for action, form in forms if action.startswith(start)]
    return pages


def use_the_admin() -> int:
    from django.contrib.auth import get_user_model  # noqa: PLC0415 - not in every project

    users = get_user_model()
    staff = users._default_manager.create_superuser(**{users.USERNAME_FIELD: "admin@shop.example"})
    client = Client(headers={"host": "localhost"})
    client.force_login(staff)
    index = reverse("admin:index")
    expect(index, visit(client, index, None).status_code, 200)
    return crawl(client, f"{index}orgs/")


# All of it ----------------------------------------------------------------------------------


def use_the_web(prefix: str, body: str, signature: str) -> dict[str, Any]:
    client = Client(
        headers={"host": "localhost"}, enforce_csrf_checks=True, raise_request_exception=False
    )
    for slash in ("", "/"):
        posted = client.post(
            f"{prefix}webhooks/workos{slash}",
            body,
            content_type="application/json",
            headers={"WorkOS-Signature": signature},
        )
        expect("the webhook", posted.status_code, 204)
    for name in ("healthz", "metrics"):
        expect(name, client.get(f"{prefix}{name}").status_code, 200)
    readyz = client.get(f"{prefix}readyz")
    expect("readyz", readyz.status_code, 200, 503)
    return readyz.json() if readyz.status_code in (200, 503) else {}


def main() -> None:
    prefix = sys.argv[1]
    body, signature = sys.stdin.read().split("\n")
    command("migrate", verbosity=0)
    command("check", "--database", "default", "--fail-level", "WARNING", stderr=StringIO())
    command("makemigrations", "orgs", "--check", "--dry-run")
    for name in sorted(name for name, app in get_commands().items() if app == "orgs"):
        with suppress(SystemExit), redirect_stdout(StringIO()):
            call_command(name, "--help")

    from orgs import models, tasks  # noqa: PLC0415 - in any order

    use_the_web(prefix, body, signature)
    for task in (tasks.sync_events, tasks.push_external_ids, tasks.prune, tasks.reconcile):
        attempt(task.__name__, task)
    command("reconcile_workos")
    json.loads(command("reconcile_workos", "--check", "--format", "json") or "{}")
    for options in (["--events-only"], ["--replay-parked"], ["--org", "gram-1"], ["--dry-run"]):
        command("reconcile_workos", *options)
    ready = use_the_web(prefix, body, signature)
    rows = models.Organization.objects.order_by("name").values_list("id", "name")
    found = {
        "rows": list(rows),
        "errors": [p["code"] for p in ready.get("problems", ()) if p["severity"] == "error"],
        "from": models.__file__,
        "pages": 0,
    }
    if apps.is_installed("django.contrib.admin"):
        found["pages"] = attempt("the admin", use_the_admin)
    sys.stdout.write(f"{json.dumps({**found, 'failures': failures})}\n")


if __name__ == "__main__":
    main()
