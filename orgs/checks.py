"""System checks: what has to be set before the mirror can run for real.

Those tagged ``database`` ask it: ``manage.py check --database default`` and ``migrate`` run them.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register  # noqa: A004 - Django's
from django.core.exceptions import ImproperlyConfigured
from django.db import DEFAULT_DB_ALIAS, NotSupportedError, connections
from django.db import Error as DatabaseUnusable

from orgs.conf import RANGES, SyncSettings, least_task_timeout, sync_settings
from orgs.domain.naming import one_line
from orgs.services.maintenance import broken_schedules, missing_grants
from orgs.workos import is_header_text

#: The oldest that Django 5.2 works with. The SQL here needs 12: date_trunc with a time zone.
LEAST_POSTGRES = 14


@register("orgs")
def required_settings(
    app_configs: Sequence[AppConfig] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """With DEBUG off, nothing may be missing that the mirror can't do without."""
    current = _sync_settings()
    return [] if settings.DEBUG or current is None else list(_missing(current))


@register("orgs")
def sound_settings(
    app_configs: Sequence[AppConfig] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """``WORKOS_SYNC`` has no key that does not exist, and no number that makes no sense."""
    try:
        current = sync_settings()
    except TypeError as error:
        hint = "The keys are the fields of orgs.conf.SyncSettings, in upper case."
        return [Error(f"{error}.", hint=hint, id="orgs.E005")]
    return list(_out_of_range(current))


@register("orgs")
def task_queue(app_configs: Sequence[AppConfig] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """django-q2 ends no task that is at work, and runs none beside itself."""
    current = _sync_settings()
    if current is None or list(_out_of_range(current)):
        return []
    return list(_misfits(getattr(settings, "Q_CLUSTER", {}), current))


@register("orgs")
def database_settings(
    app_configs: Sequence[AppConfig] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """The database is one that the services' transactions and locks work with."""
    return list(_unfit(connections[DEFAULT_DB_ALIAS].settings_dict))


@register("orgs", Tags.database)
def database_state(
    app_configs: Sequence[AppConfig] | None = None,
    databases: Sequence[str] | None = None,
    **kwargs: Any,
) -> list[CheckMessage]:
    """What only the database itself can say. Tables that are not there yet miss nothing."""
    if DEFAULT_DB_ALIAS not in (databases or ()):
        return []
    try:
        return list(_state(DEFAULT_DB_ALIAS))
    except NotSupportedError as error:
        return [_too_old(one_line(error))]
    except DatabaseUnusable as error:
        return [
            Error(
                f"The database can't be asked: {one_line(error)}",
                hint="See whether PostgreSQL runs and is where the settings say.",
                id="orgs.E014",
            )
        ]


# Settings -----------------------------------------------------------------------------------


def _sync_settings() -> SyncSettings | None:
    """The settings; None if they can't be read, which ``sound_settings`` tells of."""
    try:
        return sync_settings()
    except TypeError:
        return None


def _missing(current: SyncSettings) -> Iterator[CheckMessage]:
    if not _has_secret_key():
        yield Error(
            "SECRET_KEY is not set.",
            hint="Set it to 50 or more random characters, the same for web, worker and commands; "
            "or set DEBUG=true to try things out.",
            id="orgs.E001",
        )
    if not current.api_key:
        yield Error(
            "WORKOS_API_KEY is not set.",
            hint="Set it to the secret key of the environment: WorkOS dashboard, API Keys.",
            id="orgs.E002",
        )
    elif not is_header_text(current.api_key):
        yield Error(
            "WORKOS_API_KEY holds characters that no key has.",
            hint="Copy it again, without line breaks and quotes: WorkOS dashboard, API Keys.",
            id="orgs.E004",
        )
    if not current.webhook_secrets:
        yield Error(
            "WORKOS_WEBHOOK_SECRET is not set.",
            hint="Set it to the endpoint's signing secret: WorkOS dashboard, Webhooks.",
            id="orgs.E003",
        )


def _has_secret_key() -> bool:
    try:
        return bool(settings.SECRET_KEY)
    except ImproperlyConfigured:
        # Django raises for an empty one as soon as it is read.
        return False


def _out_of_range(current: SyncSettings) -> Iterator[CheckMessage]:
    for name, (least, most) in RANGES.items():
        value = getattr(current, name)
        # Written so that NaN is out of range too.
        if not (isinstance(value, int | float) and least <= value <= most):
            yield Error(
                f"WORKOS_SYNC[{name.upper()!r}] is {value!r}.",
                hint=f"It must be a number from {least:g} to {most:g}.",
                id="orgs.E006",
            )


# django-q2 ----------------------------------------------------------------------------------


def _misfits(cluster: Mapping[str, Any], current: SyncSettings) -> Iterator[CheckMessage]:
    timeout = cluster.get("timeout")
    retry = cluster.get("retry", 60)
    least = least_task_timeout(current)
    if not timeout or timeout < least:
        yield Error(
            f"Q_CLUSTER['timeout'] is {timeout}: a drain could be killed at work.",
            hint=f"Set it to {least} or more: DRAIN_DEADLINE, and a few calls to WorkOS and waits "
            "for locks after it.",
            id="orgs.E007",
        )
    if timeout and retry <= 2 * timeout:
        yield Error(
            f"Q_CLUSTER['retry'] is {retry}: a task could be delivered again while it runs.",
            hint=f"Set it to more than {2 * timeout}, twice the timeout: it counts from the moment "
            "a task is fetched, its wait for a worker included.",
            id="orgs.E008",
        )
    if not cluster.get("ack_failures") and not cluster.get("max_attempts"):
        yield Warning(
            "Q_CLUSTER delivers a task that fails again and again, for ever.",
            hint="Set 'ack_failures': True and 'max_attempts': 1. The schedule rings again.",
            id="orgs.W009",
        )
    if cluster.get("sync"):
        yield Error(
            "Q_CLUSTER['sync'] is on: tasks would run inside the webhook.",
            hint="Remove it; run `manage.py qcluster`.",
            id="orgs.E010",
        )


# Database -----------------------------------------------------------------------------------


def _unfit(database: Mapping[str, Any]) -> Iterator[CheckMessage]:
    if connections[DEFAULT_DB_ALIAS].vendor != "postgresql":
        yield Error(
            "The default database is not PostgreSQL.",
            hint="The mirror's statements and locks are PostgreSQL's: set DATABASE_URL.",
            id="orgs.E011",
        )
    if database.get("ATOMIC_REQUESTS"):
        yield Error(
            "ATOMIC_REQUESTS is on for the default database.",
            hint="Turn it off: a webhook rings for what it has committed, and calls to WorkOS must "
            "not happen inside a transaction. Decorate views that need one with atomic.",
            id="orgs.E012",
        )
    if (database.get("OPTIONS") or {}).get("pool"):
        yield Error(
            "The default database has OPTIONS['pool'].",
            hint="Remove it: the worker forks, and its children would share connections. "
            "CONN_MAX_AGE keeps connections; a proxy such as PgBouncer shares them.",
            id="orgs.E013",
        )
    if (database.get("OPTIONS") or {}).get("server_side_binding"):
        yield Error(
            "The default database has OPTIONS['server_side_binding'].",
            hint="Remove it: the statements of a page are sent together, which PostgreSQL takes "
            "only if their values are in them.",
            id="orgs.E018",
        )


def _state(alias: str) -> Iterator[CheckMessage]:
    connection = connections[alias]
    connection.ensure_connection()
    version = connection.pg_version  # type: ignore[attr-defined]
    if version < LEAST_POSTGRES * 10_000:
        yield _too_old(f"It is PostgreSQL {version // 10_000}")
    encoding = connection.connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        yield Error(
            f"The database's encoding is {encoding}, which can't hold every name.",
            hint="Move to one that is made with CREATE DATABASE … ENCODING 'UTF8'.",
            id="orgs.E019",
        )
    for grant in missing_grants(using=alias):
        yield Error(
            f"The database's user lacks {grant}.",
            hint=f"As the table's owner: GRANT {grant} TO the user that DATABASE_URL names.",
            id="orgs.E016",
        )
    for name in broken_schedules(using=alias):
        yield Warning(
            f"The worker has no schedule named {name!r} that does what it should.",
            hint="Run `manage.py migrate`, which makes those that are missing and mends the rest.",
            id="orgs.W017",
        )


def _too_old(what: str) -> CheckMessage:
    return Error(
        f"The database is too old. {what}.",
        hint=f"The mirror needs PostgreSQL {LEAST_POSTGRES} or newer, as Django does.",
        id="orgs.E015",
    )
