"""A person at the admin: logs in with some permissions, reads pages and fills in their forms."""

import re
from html.parser import HTMLParser
from typing import Any

import pytest
from django.contrib.admin.utils import quote
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse

from orgs.domain.types import ConflictKind, Outcome
from orgs.models import ExternalIdWriteBack, Organization, WorkOSConflict, WorkOSEvent
from tests.builders import NOON

#: The services open transactions of their own, which they refuse inside a test's.
durable = pytest.mark.django_db(transaction=True)

EVENTS = "/admin/orgs/workosevent/"
ORGANIZATIONS = "/admin/orgs/organization/"
OUTBOX = "/admin/orgs/externalidwriteback/"
CURSOR = "/admin/orgs/synccursor/"
CONFLICTS = "/admin/orgs/workosconflict/"
LISTS = [ORGANIZATIONS, EVENTS, OUTBOX, CONFLICTS]

#: Django's test client gives its responses a ``context`` that their class does not know.
Response = Any


def a_client(*permissions: str, enforce_csrf_checks: bool = False, sees: str = "") -> Client:
    """A member of the staff with these permissions, who sees the tables that ``sees`` matches."""
    user, _ = User.objects.get_or_create(username="staff", is_staff=True)
    ours = Permission.objects.filter(content_type__app_label="orgs")
    user.user_permissions.set(
        [*ours.filter(codename__in=permissions), *ours.filter(codename__regex=f"^view_{sees}")]
    )
    client = Client(enforce_csrf_checks=enforce_csrf_checks)
    client.force_login(user)
    return client


def a_ledger_row(event_id: str = "event_1", **columns: Any) -> WorkOSEvent:
    return WorkOSEvent.objects.create(
        **{
            "id": event_id,
            "type": "organization.updated",
            "workos_organization_id": "org_1",
            "occurred_at": NOON,
            "processed_at": NOON,
            "outcome": Outcome.UPDATED,
            **columns,
        }
    )


def a_parked_event(event_id: str = "event_1", **columns: Any) -> WorkOSEvent:
    parked = {"outcome": Outcome.PARKED, "error": "data.name is wrong", "payload": '{"name": null}'}
    return a_ledger_row(event_id, **{**parked, **columns})


def a_write_back(organization: Organization, **columns: Any) -> ExternalIdWriteBack:
    return ExternalIdWriteBack.objects.create(
        organization=organization, workos_id=organization.workos_id or "", **columns
    )


def a_conflict(workos_id: str = "org_1", **columns: Any) -> WorkOSConflict:
    values = {"kind": ConflictKind.OTHER_EXTERNAL_ID, "reason": "WorkOS has theirs", **columns}
    return WorkOSConflict.objects.create(workos_organization_id=workos_id, **values)


def page_of(row: Any, page: str = "change") -> str:
    name = f"admin:{row._meta.app_label}_{row._meta.model_name}_{page}"
    return reverse(name, args=[quote(row.pk)])


def read(client: Client, url: str) -> str:
    response = client.get(url)
    assert response.status_code == 200
    return response.content.decode()


def text_of(page: str) -> str:
    """What a page says, without its tags."""
    return " ".join(re.sub(r"<[^>]+>", " ", page).split())


def said(response: Response) -> list[tuple[str, str]]:
    return [(message.level_tag, message.message) for message in response.context["messages"]]


def listed(response: Response) -> list[str]:
    """The keys of the rows that a list shows, in its order."""
    assert response.status_code == 200
    return [row.pk for row in response.context["cl"].result_list]


class FormFields(HTMLParser):
    """What a browser posts of a page's forms, with every row of a list ticked."""

    def __init__(self) -> None:
        super().__init__()
        self.fields: dict[str, list[str]] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {"value": "on", **dict(attrs)}
        is_ticked = "checked" in given or given.get("name") == "_selected_action"
        is_left_out = given.get("type") == "checkbox" and not is_ticked
        if tag == "input" and given.get("name") and not is_left_out:
            value = re.sub("\r\n|\r|\n", "\r\n", str(given["value"]))
            self.fields.setdefault(str(given["name"]), []).append(value)


def fields_of(response: Response) -> dict[str, list[str]]:
    """The fields of a page's forms, as a browser would post them."""
    form = FormFields()
    form.feed(response.content.decode())
    return form.fields


def form_of(response: Response) -> dict[str, str]:
    """The fields of a page on which a row can be changed."""
    buttons = ("_save", "_continue")
    fields = fields_of(response).items()
    return {name: value for name, (value, *_) in fields if name not in buttons}


def choose(client: Client, table: str, action: str, *ids: str, from_row: bool = False) -> Response:
    """What follows an action on ticked rows of a list, or on a row's own page."""
    ticked: dict[str, Any] = {"action": f"{action}_selected", "_selected_action": ids}
    if from_row:
        ticked["from_row"] = "yes"
    return client.post(table, ticked, follow=True)


def asks(response: Response) -> bool:
    """Return True if the page asks whether it really should."""
    return b'name="confirmed"' in response.content


def confirm(client: Client, response: Response) -> Response:
    """What follows a yes."""
    return client.post(response.request["PATH_INFO"], fields_of(response), follow=True)


def carry_out(client: Client, table: str, action: str, *ids: str, **how: Any) -> Response:
    """What follows an action, and a yes if the answer is a question."""
    response = choose(client, table, action, *ids, **how)
    return confirm(client, response) if asks(response) else response
