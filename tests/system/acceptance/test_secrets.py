"""No secret and no payload in what real processes say, though they say all they can, and errors
come from everywhere."""

from contextlib import AbstractContextManager
from pathlib import Path

import httpx2
import pytest
from django.conf import settings as django_settings
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client

from orgs.models import ExternalIdWriteBack, WorkOSEvent
from orgs.testing import FakeWorkOS
from tests.builders import a_signature
from tests.concurrency import wait_until
from tests.processes import WEBHOOK_SECRET, a_cluster, a_web_process, database_url, environment_for
from tests.triggers import a_constraint, changed, renamed

pytestmark = pytest.mark.usefixtures("database")

PAYLOAD = "Unspeakable"
WEBHOOKS = "/webhooks/workos/"


@pytest.fixture
def password() -> str:
    """The database's; one that it does not ask for, if it asks for none."""
    given = connection.get_connection_params().get("password")
    return str(given or "database-password-of-the-test")


def nobody_can_be_read() -> AbstractContextManager[None]:
    """An error of the data itself, which is no failure of the whole database."""
    return changed(
        "CREATE VIEW auth_user AS SELECT id, password, last_login, is_superuser, username, "
        "first_name, last_name, email, 1 / (id - id) = 1 AS is_staff, is_active, date_joined "
        "FROM gone",
        "DROP VIEW auth_user",
    )


def a_session() -> str:
    client = Client()
    client.force_login(User.objects.create_superuser("admin"))
    return f"sessionid={client.cookies['sessionid'].value}"


def test_no_secret_and_no_payload_is_ever_logged(
    workos: FakeWorkOS, password: str, tmp_path: Path
) -> None:
    environment = environment_for(
        workos,
        DJANGO_SETTINGS_MODULE="tests.loud_settings",
        DATABASE_URL=database_url(password=password),
    )
    web_log, cluster_log = tmp_path / "web.log", tmp_path / "cluster.log"
    session = a_session()

    with (
        a_constraint(f"name <> '{PAYLOAD} 3'"),
        a_web_process(environment, web_log) as port,
        cluster_log.open("wb") as output,
        a_cluster(environment, output),
    ):
        live_a_whole_life(workos, port)
        url = f"http://127.0.0.1:{port}"
        body = b'{"id": "event_x", "event": "organization.updated", "data": {}}'
        headers = {"WorkOS-Signature": a_signature(body)}
        with renamed("workos_event"):
            unavailable = httpx2.post(url + WEBHOOKS, content=body, headers=headers, timeout=60)
        with renamed("auth_user"), nobody_can_be_read():
            failed = httpx2.get(f"{url}/admin/", headers={"Cookie": session}, timeout=60)
        headers["WorkOS-Signature"] = "t=1, v1=2"
        forged = httpx2.post(url + WEBHOOKS, content=PAYLOAD.encode(), headers=headers, timeout=60)

    answers = [unavailable, failed, forged]
    assert [answer.status_code for answer in answers] == [503, 500, 401]
    web, cluster = web_log.read_text(), cluster_log.read_text()
    assert "Traceback" in web
    assert "Internal Server Error: /admin/" in web
    assert '"level": "DEBUG", "logger": "httpcore2' in cluster
    assert "WorkOS refused the API key" in cluster
    assert "write-backs failed" in cluster
    assert "parked event_" in cluster
    assert "violates check constraint" in cluster
    said = web + cluster + "".join(answer.text for answer in answers)
    secrets = [workos.api_key, WEBHOOK_SECRET, str(django_settings.SECRET_KEY), password, PAYLOAD]
    assert [secret for secret in secrets if secret in said] == []


def live_a_whole_life(workos: FakeWorkOS, port: int) -> None:
    """Events that are applied, parked by us and refused by PostgreSQL, a revoked key, and a
    write-back that fails, all by webhooks."""
    echo = {"message": f"bad key {workos.api_key}"}
    workos.misbehave("status", status=401, body=echo)
    workos.misbehave("status", method="PUT", path="/organizations", status=500, body=echo)
    workos.add_webhook_endpoint(url=f"http://127.0.0.1:{port}{WEBHOOKS}", secret=WEBHOOK_SECRET)
    workos.create_organization(name=f"{PAYLOAD} 1")
    workos.emit({"event": "organization.created", "data": {"id": "org_2", "name": f"{PAYLOAD} 2"}})
    workos.create_organization(name=f"{PAYLOAD} 3")
    wait_until(lambda: WorkOSEvent.objects.parked().count() == 2, "two events are parked")
    wait_until(lambda: ExternalIdWriteBack.objects.exclude(last_error="").exists(), "a push failed")
