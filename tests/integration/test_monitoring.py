"""What monitoring asks, through Django with its middleware; and what is kept beside it."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from prometheus_client.parser import text_string_to_metric_families
from pytest_django import Settings

import orgs
from orgs.domain.status import ProblemCode, ReadError, Severity
from orgs.domain.types import (
    Outcome,
)
from orgs.models import ExternalIdWriteBack, SyncCursor, WorkOSEvent
from orgs.services.schedules import ensure_schedules
from orgs.services.stream import drain_to_end
from orgs.testing import FakeWorkOS
from tests.builders import an_announcement, an_organization_row, minutes

MONITORING = Path(orgs.__file__).parent / "monitoring"

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None,
    reason="promtool is not installed (Debian: apt install prometheus)",
)


def promtool(*arguments: str, text: str | None = None) -> str:
    result = subprocess.run(
        ["promtool", *arguments],
        cwd=MONITORING,
        input=text,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    told = result.stdout + result.stderr
    assert result.returncode == 0, told
    return told


@pytest.fixture
def a_current_mirror(workos: FakeWorkOS, database: None) -> FakeWorkOS:
    ensure_schedules(using="default")
    workos.create_organization(name="Acme", external_id="gram-1")
    drain_to_end()
    SyncCursor.objects.update(reconciled_at=WorkOSEvent.objects.get().processed_at)
    return workos


def samples(client: Client) -> dict[tuple[str, ...], float]:
    """Every sample of /metrics, by its name and the values of its labels."""
    response = client.get("/metrics")
    assert response.status_code == 200
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(response.content.decode())
        for sample in family.samples
    }


# healthz ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_database")
@pytest.mark.parametrize("address", ["/healthz", "/healthz/"])
def test_the_process_answers_whatever_the_database_does(client: Client, address: str) -> None:
    response = client.get(address)

    assert (response.status_code, response.content) == (200, b"ok\n")


@pytest.mark.usefixtures("database")
def test_a_health_check_asks_the_database_nothing(client: Client) -> None:
    with CaptureQueriesContext(connection) as queries:
        client.get("/healthz")

    assert len(queries) == 0


@pytest.mark.parametrize("address", ["/healthz", "/readyz", "/metrics"])
def test_another_method_than_get_is_405(client: Client, address: str) -> None:
    assert client.post(address).status_code == 405


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize("address", ["/healthz", "/readyz", "/metrics"])
def test_nothing_is_cached_and_no_session_is_begun(client: Client, address: str) -> None:
    response = client.get(address)

    assert "no-store" in response.headers["Cache-Control"]
    assert not response.cookies


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize("address", ["/healthz", "/readyz", "/metrics"])
def test_monitoring_is_not_sent_to_https(client: Client, settings: Settings, address: str) -> None:
    settings.SECURE_SSL_REDIRECT = True

    assert client.get(address).status_code != 301
    assert client.get("/admin/login/").status_code == 301


# readyz -------------------------------------------------------------------------------------


@pytest.mark.usefixtures("a_current_mirror")
def test_a_current_mirror_is_ready(client: Client) -> None:
    response = client.get("/readyz")

    assert (response.status_code, response.json()) == (200, {"ready": True, "problems": []})


@pytest.mark.usefixtures("a_current_mirror")
def test_a_warning_alone_leaves_it_ready(client: Client) -> None:
    SyncCursor.objects.update(reconciled_at=None)

    response = client.get("/readyz")

    assert (response.status_code, response.json()["ready"]) == (200, True)
    assert [problem["code"] for problem in response.json()["problems"]] == ["snapshot_old"]


@pytest.mark.usefixtures("a_current_mirror")
def test_what_is_wrong_is_503_with_what_to_do(client: Client) -> None:
    an_announcement("event_9", ago=minutes(2))

    response = client.get("/readyz")

    assert response.status_code == 503
    (problem,) = response.json()["problems"]
    assert problem["code"] == "announcements_overdue"
    assert problem["severity"] == Severity.ERROR
    assert "1 announced event" in problem["sentence"]
    assert "manage.py reconcile_workos" in problem["remedy"]


@pytest.mark.usefixtures("no_database")
def test_without_a_database_it_is_not_ready(client: Client) -> None:
    response = client.get("/readyz")

    assert response.status_code == 503
    assert [problem["code"] for problem in response.json()["problems"]] == ["database_unusable"]
    assert "/nowhere" not in response.content.decode()


@pytest.mark.usefixtures("a_current_mirror")
@pytest.mark.parametrize("address", ["/readyz", "/metrics"])
def test_no_name_no_id_and_no_payload_is_shown(client: Client, address: str) -> None:
    told = "S3cr3t"
    an_organization_row(f"{told}-id", name=f"{told} Ltd", workos_id=f"org_{told}")
    ExternalIdWriteBack.objects.create(
        organization_id=f"{told}-id",
        workos_id=f"org_{told}",
        requested_at=datetime.now(UTC) - minutes(90),
        last_error=f"{told} is refused",
    )
    WorkOSEvent.objects.update(
        outcome=Outcome.PARKED, payload=told, error=told, workos_organization_id=told
    )
    SyncCursor.objects.update(last_error=told, failures=1, drained_at=None)

    answer = client.get(address).content.decode()

    for code in ("cursor_old", "events_parked", "write_backs_failing"):
        assert code in answer
    assert told not in answer


# metrics ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("a_current_mirror")
def test_the_figures_are_exposed(client: Client) -> None:
    an_announcement("event_9", ago=minutes(2))
    an_organization_row("gram-2")

    told = samples(client)

    assert told["gram_sync_problem", "announcements_overdue", "error"] == 1
    assert told["gram_sync_problem", "cursor_old", "error"] == 0
    assert told["gram_sync_announcements_unseen",] == 1
    assert 119 < told["gram_sync_oldest_announcement_age_seconds",] < 1000
    assert told["gram_sync_events_last_day", "created"] == 1
    assert told["gram_sync_events_last_day", "stale"] == 0
    assert told["gram_sync_organizations", "linked"] == 1
    assert told["gram_sync_organizations", "unlinked"] == 1
    drained_at = SyncCursor.objects.get().drained_at
    assert drained_at is not None
    assert told["gram_sync_last_drain_timestamp_seconds",] == drained_at.timestamp()


@pytest.mark.usefixtures("a_current_mirror")
def test_why_reads_fail_and_what_was_repaired_is_exposed(client: Client) -> None:
    SyncCursor.objects.update(failures=1, last_trouble=ReadError.KEY_REFUSED, last_drift=3)

    told = samples(client)

    kinds = [kind for kind in ReadError if told["gram_sync_read_trouble", kind]]
    assert kinds == [ReadError.KEY_REFUSED]
    assert told["gram_sync_last_snapshot_drift",] == 3


@pytest.mark.usefixtures("a_current_mirror")
def test_trouble_that_is_over_is_not_exposed(client: Client) -> None:
    """A release before this one leaves the kind as it was."""
    SyncCursor.objects.update(failures=0, last_trouble=ReadError.KEY_REFUSED)

    assert samples(client)["gram_sync_read_trouble", "key_refused"] == 0


@pytest.mark.usefixtures("database")
def test_what_never_was_is_zero_and_a_latency_of_nothing_is_left_out(client: Client) -> None:
    told = samples(client)

    assert told["gram_sync_last_drain_timestamp_seconds",] == 0
    assert ("gram_sync_webhook_latency_seconds", "50") not in told


@pytest.mark.usefixtures("a_current_mirror")
def test_each_scrape_reads_anew(client: Client) -> None:
    before = samples(client)["gram_sync_organizations", "unlinked"]
    an_organization_row("gram-2")

    assert samples(client)["gram_sync_organizations", "unlinked"] == before + 1


@pytest.mark.usefixtures("no_database")
def test_without_a_database_the_metrics_are_what_is_wrong(client: Client) -> None:
    told = samples(client)

    assert {name for name, *_ in told} == {"gram_sync_problem"}
    assert [labels for labels, value in told.items() if value] == [
        ("gram_sync_problem", "database_unusable", "error")
    ]


@needs_promtool
@pytest.mark.usefixtures("a_current_mirror")
def test_names_and_units_are_prometheuss(client: Client) -> None:
    WorkOSEvent.objects.update(announced_at=WorkOSEvent.objects.get().processed_at)

    promtool("check", "metrics", text=client.get("/metrics").content.decode())


# Alert rules and dashboard ------------------------------------------------------------------


def expressions() -> Iterator[str]:
    """Every expression that Grafana's dashboard asks."""
    dashboard: dict[str, Any] = json.loads((MONITORING / "dashboard.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            yield target["expr"]


@pytest.mark.usefixtures("a_current_mirror")
def test_rules_and_dashboard_use_what_is_exposed(client: Client) -> None:
    WorkOSEvent.objects.update(announced_at=WorkOSEvent.objects.get().processed_at)
    exposed = {name for name, *_ in samples(client)}
    used = set()
    for file in MONITORING.iterdir():
        used |= set(re.findall(r"\bgram_sync_[a-z0-9_]+", file.read_text()))

    assert used
    assert used - exposed == set()


def test_every_problem_has_an_alert() -> None:
    rules = (MONITORING / "alerts.yml").read_text()

    alerted = re.findall(r'gram_sync_problem\{code=~?"([\w|]+)"\}', rules)

    assert {code for codes in alerted for code in codes.split("|")} == set(ProblemCode)
    assert "absent(gram_sync_problem)" in rules


def test_the_dashboard_is_one() -> None:
    dashboard = json.loads((MONITORING / "dashboard.json").read_text())

    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids) > 10
    assert all(panel["title"] and panel["targets"] for panel in dashboard["panels"])


@needs_promtool
def test_the_rules_are_valid_and_alert_as_they_should() -> None:
    promtool("check", "rules", "alerts.yml")
    promtool("test", "rules", "alerts_test.yml")


@needs_promtool
def test_the_dashboards_expressions_are_valid(tmp_path: Path) -> None:
    rules = [
        {"record": f"dashboard:expression:{number}", "expr": expression}
        for number, expression in enumerate(expressions())
    ]
    file = tmp_path / "rules.yml"
    # JSON is YAML.
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))

    assert f"{len(rules)} rules found" in promtool("check", "rules", str(file))
