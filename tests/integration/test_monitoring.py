"""What monitoring asks, through Django with its middleware; and what is kept beside it."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from django.core.management import get_commands, load_command_class
from django.test import Client
from prometheus_client.parser import text_string_to_metric_families
from pytest_django import Settings

import orgs
from orgs.domain.status import DATABASE_TEXTS, RULES, SEVERITIES, ProblemCode, ReadError
from orgs.domain.types import ConflictKind, Outcome
from orgs.models import ExternalIdWriteBack, SyncCursor, WorkOSConflict, WorkOSEvent
from orgs.monitoring import runbook_section
from orgs.services.maintenance import ensure_schedules
from orgs.services.stream import drain_to_end
from orgs.testing import FakeWorkOS
from tests.builders import an_announcement, an_organization_row, minutes
from tests.processes import PROJECT, run

MONITORING = Path(orgs.__file__).parent / "monitoring"

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None,
    reason="promtool is not installed (Debian: apt install prometheus)",
)


def promtool(*arguments: str, text: str | None = None) -> str:
    result = run(["promtool", *arguments], cwd=MONITORING, input=text)
    output = result.stdout + result.stderr
    assert result.returncode == 0, output
    return output


@pytest.fixture
def a_current_mirror(workos: FakeWorkOS, database: None) -> FakeWorkOS:
    ensure_schedules()
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


@pytest.mark.usefixtures("a_current_mirror")
@pytest.mark.parametrize("address", ["/healthz", "/readyz", "/metrics"])
def test_a_probe_needs_nothing_else(client: Client, settings: Settings, address: str) -> None:
    required = "django.contrib.auth.middleware.LoginRequiredMiddleware"
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, required]
    settings.SECURE_SSL_REDIRECT = True

    response = client.get(address)

    assert response.status_code == 200
    assert "no-store" in response.headers["Cache-Control"]
    assert not response.cookies
    assert client.post(address).status_code == 405
    assert client.get("/admin/login/").status_code == 301
    assert client.post("/webhooks/workos/", secure=True).status_code == 401, "without a login too"


# readyz -------------------------------------------------------------------------------------


@pytest.mark.usefixtures("a_current_mirror")
def test_a_warning_leaves_a_current_mirror_ready_and_an_error_does_not(client: Client) -> None:
    current = client.get("/readyz")
    an_announcement("event_9", ago=minutes(2))
    warned = client.get("/readyz")
    problem_seen_after = datetime.now(UTC)
    SyncCursor.objects.update(drained_at=None)
    wrong = client.get("/readyz")

    assert (current.status_code, current.json()) == (200, {"ready": True, "problems": []})
    assert (warned.status_code, warned.json()["ready"]) == (200, True)
    assert (wrong.status_code, wrong.json()["ready"]) == (503, False)
    (problem,) = warned.json()["problems"]
    announced_at = WorkOSEvent.objects.get(id="event_9").announced_at
    assert announced_at is not None
    assert problem.pop("sentence").startswith("1 announced event is not in the stream")
    assert "`manage.py reconcile_workos --events-only`" in problem.pop("remedy")
    assert problem == {
        "code": "announcements_overdue",
        "severity": "warning",
        "since": announced_at.isoformat(),
        "runbook": "orgs/monitoring/runbook.md#announcements_overdue",
    }
    # No table says it: since this process saw it.
    assert wrong.json()["problems"][0]["since"] >= problem_seen_after.isoformat()


@pytest.mark.usefixtures("no_database")
def test_without_a_database_it_is_alive_not_ready_and_has_no_figures(client: Client) -> None:
    alive = [client.get(address).content for address in ("/healthz", "/healthz/")]
    response = client.get("/readyz")
    exposed = samples(client)

    assert alive == [b"ok\n"] * 2
    assert response.status_code == 503
    assert [problem["code"] for problem in response.json()["problems"]] == ["database_unusable"]
    assert "/nowhere" not in response.content.decode()
    assert {name for name, *_ in exposed} == {"gram_sync_problem", "gram_sync_build_info"}
    problems = [labels for labels, value in exposed.items() if value and "problem" in labels[0]]
    assert problems == [("gram_sync_problem", "database_unusable", "error")]


@pytest.mark.usefixtures("a_current_mirror")
@pytest.mark.parametrize("address", ["/readyz", "/metrics"])
def test_no_name_no_id_and_no_payload_is_shown(client: Client, address: str) -> None:
    secret = "S3cr3t"
    an_organization_row(f"{secret}-id", name=f"{secret} Ltd", workos_id=f"org_{secret}")
    since = datetime.now(UTC) - minutes(90)
    write_back = {"workos_id": f"org_{secret}", "last_error": f"{secret} is refused"}
    ExternalIdWriteBack.objects.create(
        organization_id=f"{secret}-id", requested_at=since, **write_back
    )
    WorkOSConflict.objects.create(workos_organization_id=secret, kind=secret, reason=secret)
    WorkOSEvent.objects.update(
        outcome=Outcome.PARKED, payload=secret, error=secret, workos_organization_id=secret
    )
    SyncCursor.objects.update(
        last_error=secret, snapshot_trouble=secret, snapshot_error_kind=secret, last_trouble=secret
    )

    answer = client.get(address).content.decode()

    for code in ("events_parked", "write_backs_failing", "conflicts", "snapshot_incomplete"):
        assert code in answer
    assert secret not in answer


# metrics ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("a_current_mirror")
def test_the_figures_are_exposed(client: Client) -> None:
    an_announcement("event_9", ago=minutes(2))
    an_organization_row("gram-2")
    an_organization_row("gram-3", workos_id="org_3", disabled_at=datetime.now(UTC))
    WorkOSConflict.objects.create(workos_organization_id="org_9", kind=ConflictKind.ROW_CLAIMED)
    SyncCursor.objects.update(
        failures=1, last_trouble=ReadError.KEY_REFUSED, last_drift=3, last_failed=4
    )

    exposed = samples(client)

    expected: dict[tuple[str, ...], float] = {
        ("problem", "key_refused", "error"): 1,
        ("problem", "conflicts", "warning"): 1,
        ("problem", "cursor_old", "error"): 0,
        ("build_info", orgs.__version__): 1,
        ("announcements_unseen",): 1,
        ("events_last_day", "created"): 1,
        ("events_last_day", "stale"): 0,
        ("organizations", "linked"): 1,
        ("organizations", "unlinked"): 1,
        ("organizations", "disabled"): 1,
        ("organizations_disabled_here",): 1,
        ("conflicts", "row_claimed"): 1,
        ("conflicts", "other_external_id"): 0,
        ("read_trouble", "key_refused"): 1,
        ("read_trouble", "unavailable"): 0,
        ("last_snapshot_drift",): 3,
        ("last_snapshot_failed",): 4,
        ("webhooks_refused",): 0,
        ("queue_length",): 0,
    }
    assert {key: exposed[f"gram_sync_{key[0]}", *key[1:]] for key in expected} == expected
    assert 119 < exposed["gram_sync_oldest_announcement_age_seconds",] < 1000
    drained_at = SyncCursor.objects.get().drained_at
    assert drained_at is not None
    assert exposed["gram_sync_last_drain_timestamp_seconds",] == drained_at.timestamp()
    # An error that is over, of which an older release leaves the kind as it was.
    SyncCursor.objects.update(failures=0)
    an_organization_row("gram-4")
    again = samples(client)
    assert again["gram_sync_read_trouble", "key_refused"] == 0
    assert again["gram_sync_organizations", "unlinked"] == 2


@pytest.mark.usefixtures("database")
def test_what_never_was_is_zero_and_a_latency_of_nothing_is_left_out(client: Client) -> None:
    exposed = samples(client)

    assert exposed["gram_sync_last_drain_timestamp_seconds",] == 0
    assert ("gram_sync_webhook_latency_seconds", "50") not in exposed


@needs_promtool
@pytest.mark.usefixtures("a_current_mirror")
def test_names_and_units_are_prometheuss(client: Client) -> None:
    WorkOSEvent.objects.update(announced_at=WorkOSEvent.objects.get().processed_at)

    promtool("check", "metrics", text=client.get("/metrics").content.decode())


# Alert rules and dashboard ------------------------------------------------------------------


def expressions() -> Iterator[str]:
    """Every expression that Grafana's dashboard asks."""
    dashboard: dict[str, Any] = json.loads((MONITORING / "dashboard.json").read_text())
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids) > 10
    for panel in dashboard["panels"]:
        assert panel["title"]
        assert panel["targets"]
        for target in panel["targets"]:
            yield target["expr"]


@pytest.mark.usefixtures("a_current_mirror")
def test_rules_and_dashboard_use_what_is_exposed(client: Client) -> None:
    WorkOSEvent.objects.update(announced_at=WorkOSEvent.objects.get().processed_at)
    exposed = {name for name, *_ in samples(client)}
    used = set()
    assert all("gram_sync_" in expression for expression in expressions())
    for file in filter(Path.is_file, MONITORING.iterdir()):
        used |= set(re.findall(r"\bgram_sync_[a-z0-9_]+", file.read_text()))

    assert used
    assert used - exposed == set()


def test_every_problem_has_an_alert_that_calls_for_errors_alone() -> None:
    first, *rules = (MONITORING / "alerts.yml").read_text().split("- alert: ")[1:]
    alerted = set()
    for rule in rules:
        pattern = r'gram_sync_problem\{code=~?"([\w|]+)",severity="(\w+)"\}'
        for codes, severity in re.findall(pattern, rule):
            assert f"severity: {'page' if severity == 'error' else 'ticket'}" in rule
            assert 'runbook: "orgs/monitoring/runbook.md#{{ $labels.code }}"' in rule
            alerted |= {(code, severity) for code in codes.split("|")}

    assert alerted == SEVERITIES
    assert "expr: absent(gram_sync_problem)" in first


def test_the_runbook_has_a_section_for_each_problem_and_no_other() -> None:
    text = (MONITORING / "runbook.md").read_text()

    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == list(ProblemCode)
    errors, both, warnings = (
        set(re.findall(r"\(#(\w+)\)", index))
        for index in re.findall(r"^(?:Errors|Warnings).*?\n\n", text, re.MULTILINE | re.DOTALL)
    )
    listed = {(code, "error") for code in errors | both}
    assert listed | {(code, "warning") for code in warnings | both} == SEVERITIES
    for code in ProblemCode:
        section = runbook_section(code)
        severity = "|".join(sorted({found for known, found in SEVERITIES if known is code}))
        said = "|".join(sorted(set(re.findall(r"\*\*(error|warning)", section.lower()))))
        assert severity == said, code
        assert [f"**{part}.**" in section for part in ("Cause", "Do", "Over")] == [True] * 3, code


def test_the_runbooks_commands_read_the_service_s_file_as_systemd_does(tmp_path: Path) -> None:
    text = (MONITORING / "runbook.md").read_text()
    file = tmp_path / "service.env"
    file.write_text(
        "DATABASE_URL=postgresql://u:p@there:5432/name?sslmode=require&connect_timeout=3\n"
        "SECRET_KEY=it's-$HOME-a \"key\n"
    )
    (command,) = re.findall(r"`cd /srv/gram-sync && (.*?) …`", text)
    for written, here in (("/etc/gram-sync.env", str(file)), (".venv/bin/python", sys.executable)):
        command = command.replace(written, here)
    script = "from django.conf import settings as s; d = s.DATABASES['default']; "
    script += "print(d['HOST'], d['OPTIONS'], s.SECRET_KEY)"

    printed = subprocess.check_output(
        ["sh", "-c", f'{command} shell --no-imports -c "$0"', script],
        cwd=PROJECT,
        env={"PATH": os.environ["PATH"]},
        text=True,
    )

    assert printed.startswith("there ")
    assert "'sslmode': 'require'" in printed
    assert printed.endswith("it's-$HOME-a \"key\n")
    assert not re.search(r'"\$|&& \. ', text), "no variable is set in the shell of who reads this"


def test_every_command_that_people_are_told_to_run_is_one() -> None:
    told = [rule.remedy for rule in RULES] + [remedy for _, remedy in DATABASE_TEXTS.values()]
    text = " ".join(told + (MONITORING / "runbook.md").read_text().split())
    commands = set(re.findall(r"`manage\.py ([a-z][^`|]+?)(?: \|[^`]*)?`", text))

    assert len(commands) >= 8
    for name, *arguments in map(str.split, commands):
        parser = load_command_class(get_commands()[name], name).create_parser("manage.py", name)
        parser.parse_args(arguments)


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
