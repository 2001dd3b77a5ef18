"""The project's settings, read from an environment, and docs/settings.md, compared with it."""

import os
import re
import runpy
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import environ
import pytest
from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured

from orgs.conf import RANGES, SyncSettings
from orgs.domain.resources import NAMES, event_types

PROJECT = Path(__file__).parents[2]

#: Read by programs other than the settings.
ELSEWHERE = {"HOST", "PORT", "ENV_FILE"}

Read = Callable[..., dict[str, Any]]


class Environment(dict[str, str]):
    """Notes each variable that the settings' own code asks for."""

    names: set[str]

    def get(self, name: str, default: Any = None) -> Any:
        if sys._getframe(1).f_globals["__name__"].startswith("gram_sync"):
            self.names.add(name)
        return super().get(name, default)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Read:
    """Read the settings anew from these variables; ``NAMES`` are all that were asked for."""

    def read(**variables: str) -> dict[str, Any]:
        environment = Environment({"ENV_FILE": os.devnull, **variables})
        environment.names = set()
        monkeypatch.setattr(os, "environ", environment)
        monkeypatch.setattr(environ.Env, "ENVIRON", environment)
        found = runpy.run_path(str(PROJECT / "gram_sync" / "settings.py"))
        return {**found, "NAMES": environment.names}

    return read


# What is read -------------------------------------------------------------------------------

KEEPALIVES = {"keepalives_idle": 15, "keepalives_interval": 5, "keepalives_count": 3}
LIMITS = {"connect_timeout": 3, **KEEPALIVES, "tcp_user_timeout": 30_000}


def test_without_a_variable_there_are_defaults(read: Read) -> None:
    found = read()

    assert found["DATABASES"]["default"]["ENGINE"] == "gram_sync.embedded_postgres"
    assert found["WORKOS_SYNC"]["BASE_URL"] == "https://api.workos.com"
    assert found["Q_CLUSTER"]["orm"] == "default"
    assert found["CSRF_TRUSTED_ORIGINS"] == []
    assert found["STATIC_ROOT"] == PROJECT / ".data" / "static"


def test_a_setting_is_read_from_the_environment(read: Read) -> None:
    found = read(
        DATABASE_URL="postgres://u:p@db/gram?options=-c%20jit%3Doff",
        STATEMENT_TIMEOUT_SECONDS="1.5",
        WORKOS_WEBHOOK_SECRET="one, two,,",
        WORKOS_API_KEY="$HOME",
        PAGE_SIZE="7",
        HOLD_BACK_SECONDS="2.5",
        ALLOWED_HOSTS="a.example, b.example",
        CSRF_TRUSTED_ORIGINS="https://a.example:8443",
        REDIS_URL="redis://:pass%2Fword@queue:6379/1",
    )

    database, sync = found["DATABASES"]["default"], found["WORKOS_SYNC"]
    limits = "-c jit=off -c statement_timeout=1500 -c lock_timeout=300"
    assert database["OPTIONS"] == {**LIMITS, "options": limits}
    assert (database["CONN_MAX_AGE"], database["CONN_HEALTH_CHECKS"]) == (600, True)
    assert (sync["WEBHOOK_SECRETS"], sync["API_KEY"]) == (("one", "two"), "$HOME")
    assert (sync["PAGE_SIZE"], sync["HOLD_BACK_WINDOW"]) == (7, 2.5)
    assert found["ALLOWED_HOSTS"][:2] == ["a.example", "b.example"]
    # Whoever starts a process, and who watches it, asks it on its own machine.
    assert found["ALLOWED_HOSTS"][2:] == ["localhost", "127.0.0.1", "[::1]"]
    assert found["CSRF_TRUSTED_ORIGINS"] == ["https://a.example:8443"]
    redis, _, options = found["Q_CLUSTER"]["redis"].partition("?")
    assert redis == "redis://:pass%2Fword@queue:6379/1"
    assert options == "socket_connect_timeout=2&socket_timeout=3"
    assert "orm" not in found["Q_CLUSTER"]


def test_behind_a_pooler_nothing_outlasts_a_transaction(read: Read) -> None:
    found = read(DATABASE_URL="postgres://u:p@db/gram", DATABASE_POOLER="Transaction")

    database = found["DATABASES"]["default"]
    assert database["OPTIONS"] == {**LIMITS, "prepare_threshold": None}
    assert database["DISABLE_SERVER_SIDE_CURSORS"]


def test_the_file_is_read(read: Read, tmp_path: Path) -> None:
    (tmp_path / "settings").write_text("WORKERS='1'")

    assert read(ENV_FILE=str(tmp_path / "settings"))["Q_CLUSTER"]["workers"] == 1


@pytest.mark.parametrize("url", ["queue:6379", "redis://:pa[ss@queue", "redis://:pa/ss@queue"])
def test_a_redis_is_a_url(read: Read, url: str) -> None:
    said = "REDIS_URL must begin with redis://, rediss:// or unix://, and have %XX for special"
    with pytest.raises(ImproperlyConfigured, match=f"^{said} characters$"):
        read(REDIS_URL=url)


def test_a_drain_ends_long_before_the_workers_time_out() -> None:
    cluster = django_settings.Q_CLUSTER

    assert django_settings.WORKOS_SYNC["DRAIN_DEADLINE"] * 2 < cluster["timeout"]
    assert cluster["retry"] > 2 * cluster["timeout"]
    assert cluster["bulk"] == 1
    assert cluster["save_limit"] == -1
    assert not {"sync", "guard_cycle"} & cluster.keys()


# docs/settings.md ---------------------------------------------------------------------------


def rows(*, of_events: bool = False) -> list[list[str]]:
    """Return the cells of a table's rows, of the settings or of the events, without the outer marks
    of code."""
    page = (PROJECT / "docs" / "settings.md").read_text()
    lines = page.split("\n## Events by resource\n")[of_events].splitlines()
    table = [line for line in lines if line.startswith("| `")]
    return [
        [cell.strip().strip("`") for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in table
    ]


def in_words(default: object) -> str:
    """Return a default as the table has it."""
    if isinstance(default, tuple):
        return ",".join(default) or "none"
    return f"{default:g}" if isinstance(default, int | float) else str(default) or "none"


def test_each_key_of_the_app_is_there_with_its_default_and_its_range() -> None:
    documented = {key: (default, span) for _, key, default, span, _ in rows() if key}

    spans = {name: f"{least} to {most}" for name, (least, most) in RANGES.items()}
    assert documented == {
        name.upper(): (in_words(getattr(SyncSettings(), name)), spans.get(name, ""))
        for name in (field.name for field in fields(SyncSettings))
    }


def test_each_variable_of_the_service_is_there(read: Read) -> None:
    documented = [name for name, *_ in rows()]

    assert len(documented) == len(set(documented))
    assert set(documented) - ELSEWHERE == read()["NAMES"] - ELSEWHERE


def test_each_number_of_the_service_is_there_with_its_range() -> None:
    code = "".join(path.read_text() for path in (PROJECT / "gram_sync").rglob("*.py"))
    numbers = re.findall(r'number\("(\w+)", .*?, least=(\w+), most=(\w+)\)', code)

    documented = {name: span for name, key, _, span, _ in rows() if span and not key}
    assert documented == {name: f"{least} to {int(most)}" for name, least, most in numbers}


def test_each_resource_is_there_with_its_events() -> None:
    documented = {name: tuple(events.split("`, `")) for name, events in rows(of_events=True)}

    assert documented == {name: event_types([name]) for name in NAMES}


@pytest.mark.parametrize("name", sorted(ELSEWHERE))
def test_what_is_read_elsewhere_is_read(name: str) -> None:
    code = "".join(path.read_text() for path in (PROJECT / "gram_sync").rglob("*.py"))

    assert f'("{name}"' in code
