"""System checks: settings that the mirror can't work with, each by name, with what to do.

Those tagged ``database`` query it: ``manage.py check --database default`` and ``migrate`` run them.
"""

import re
from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core import mail
from django.core.checks import CheckMessage, Error, Tags, Warning, register  # noqa: A004 - Django's
from django.core.exceptions import ImproperlyConfigured
from django.db import DEFAULT_DB_ALIAS, connections, router
from django.db import Error as DatabaseUnusable
from django.db.models import TextField

from orgs.conf import RANGES, SyncSettings, is_url, least_task_timeout, sync_settings
from orgs.db.figures import ORGANIZATION_COLUMNS
from orgs.domain.naming import one_line
from orgs.domain.resources import scopes_of
from orgs.services.maintenance import broken_schedules
from orgs.services.refusals import missing_grants
from orgs.services.webhook import MAX_BODY_BYTES
from orgs.workos import is_header_text

#: What each check says, and what to do about it. The ids are a contract.
# fmt: off
_TEXTS = {
    "E001": ("SECRET_KEY is not set.",
        "Set it to 50 or more random characters, the same for all processes; or set DEBUG=true."),
    "E002": ("WORKOS_API_KEY (WORKOS_SYNC['API_KEY']) is not set.",
        "Set it to the secret key of the environment: WorkOS dashboard, API Keys."),
    "E003": ("WORKOS_WEBHOOK_SECRET (WORKOS_SYNC['WEBHOOK_SECRETS']) is not set.",
        "Set it to the endpoint's signing secret: WorkOS dashboard, Webhooks."),
    "E004": ("WORKOS_API_KEY holds characters that no key has.",
        "Copy it again, without line breaks and quotes: WorkOS dashboard, API Keys."),
    "E005": ("{}.", "orgs.conf.SyncSettings has the keys of WORKOS_SYNC and their types."),
    "E006": ("WORKOS_SYNC[{!r}] is {!r}.", "It must be a {2} from {3:g} to {4:g}."),
    "E007": ("Q_CLUSTER['timeout'] is {!r}: a drain could be killed at work.",
        "Set it to {1} or more: DRAIN_DEADLINE, then a few calls to WorkOS and waits for locks."),
    "E008": ("Q_CLUSTER['retry'] is {!r}: a task could be delivered again while it runs.",
        "Set it to more than {1:g}, twice the timeout: waiting for a worker counts too."),
    "W009": ("Q_CLUSTER delivers a failing task again, for ever.",
        "Set 'ack_failures': True and 'max_attempts': 1. The schedule runs it again."),
    "E010": ("Q_CLUSTER['sync'] is on: schedules would run their tasks inside a transaction.",
        "Use it in tests alone. Elsewhere, remove it and run a worker."),
    "E011": ("The default database is not PostgreSQL, but {}.",
        "The mirror needs PostgreSQL: name one in DATABASES['default'], or set DATABASE_URL."),
    "E012": ("ATOMIC_REQUESTS is on for the default database.",
        "Turn it off: WorkOS must not be called inside a transaction. Decorate views with atomic."),
    "E013": ("The default database has OPTIONS['pool'].",
        "Remove it: the worker forks. CONN_MAX_AGE keeps connections, PgBouncer shares them."),
    "E014": ("The database can't be queried: {}",
        "Run PostgreSQL where the settings say, in a version that this Django supports."),
    "E016": ("The database's user lacks {}.", "As the owner: GRANT {} TO that user."),
    "W017": ("The worker has no schedule named {!r} that does what it should.",
        "Run `manage.py migrate`, which makes those that are missing and repairs the rest."),
    "E018": ("The default database has OPTIONS['server_side_binding'].",
        "Remove it: statements are sent together, which works only with values in them."),
    "E019": ("The database's encoding is {}, which can't hold every name.",
        "Move to one that is made with CREATE DATABASE … ENCODING 'UTF8'."),
    "E020": ("Django uses {}, because psycopg 3 can't be imported: it finds no libpq.",
        "Run `pip install 'psycopg[binary]'`, or install libpq. psycopg2 may stay beside it."),
    "E021": ("USE_TZ is off: times would have no zone.", "Set it to True. TIME_ZONE may be any."),
    "E022": ("DATABASE_ROUTERS does not leave {} in the default database.",
        "Let the routers return None for orgs and django_q, which are used there alone."),
    "E023": ("AUTOCOMMIT is off for the default database.", "Remove it: nothing would commit."),
    "E024": ("The default database has OPTIONS['isolation_level'].",
        "Remove it: who has waited for a lock must see what was committed meanwhile."),
    "W025": ("Q_CLUSTER['scheduler'] is off.", "Leave it on for one worker: it reads the events."),
    "W026": ("DATA_UPLOAD_MAX_MEMORY_SIZE refuses webhooks over {} bytes.",
        "Set it to {1} or more."),
    "E027": ("WORKOS_BASE_URL (WORKOS_SYNC['BASE_URL']) is not an address.",
        "Set it to https://api.workos.com, or leave it out."),
    "E028": ("{} is {!r} for the database's user, which psycopg can't read.",
        "Run: ALTER ROLE that user SET {0} = '{2}'. Then restart web and worker."),
    "E029": ("WORKOS_RESOURCES (WORKOS_SYNC['RESOURCES']) names {}, and not {}.",
        "Add {1}, or take {0} out: WorkOS lists {0} only for each {1}."),
    "E030": ("organization_metadata lacks {}.",
        "Add it: `manage.py sqlmigrate orgs 0001` says how."),
    "W031": ("Q_CLUSTER names no queue but Redis, whose package is not installed.",
        "Set 'orm': 'default', or install redis."),
}
# fmt: on


@register("orgs")
def check_settings(**kwargs: Any) -> list[CheckMessage]:
    """Return what is missing in the settings, is wrong, or can't be supported."""
    return [*_sync(), *_database(), *_project()]


@register("orgs", Tags.database)
def check_database(databases: Any = None, **kwargs: Any) -> list[CheckMessage]:
    """Return what only the database can say. Tables that are not there yet miss nothing."""
    if DEFAULT_DB_ALIAS not in (databases or ()) or _driver() != "psycopg":
        return []
    try:
        return list(_state())
    except DatabaseUnusable as error:
        return [_found("E014", one_line(error))]


def _found(number: str, *values: object) -> CheckMessage:
    """Return what that check says, with these values in its message and its hint."""
    kind = Warning if number.startswith("W") else Error
    text, remedy = (each.format(*values) for each in _TEXTS[number])
    return kind(text, hint=remedy, id=f"orgs.{number}")


def _if(**wrong: object) -> Iterator[CheckMessage]:
    """Yield what the checks say whose value is true."""
    return (_found(number) for number, is_wrong in wrong.items() if is_wrong)


# Settings -----------------------------------------------------------------------------------


def _sync() -> Iterator[CheckMessage]:
    try:
        current = sync_settings()
    except (AttributeError, TypeError) as error:
        yield _found("E005", one_line(error))
        return
    for name in current.resources:
        for scope in scopes_of(name).difference(current.resources):
            yield _found("E029", name, scope)
    url = str(current.base_url)
    has_host = re.fullmatch(r"https?://[^\s/:?#]\S*", url)
    yield from _if(E027=not (has_host and is_url(url, "http")))
    # Tests and development need no keys. Django's and pytest's runners make an outbox.
    if not settings.DEBUG and not hasattr(mail, "outbox"):
        secret_key = ""
        # Django raises for an empty one as soon as it is read.
        with suppress(ImproperlyConfigured):
            secret_key = settings.SECRET_KEY
        yield from _if(
            E001=not secret_key,
            E002=not current.api_key,
            E003=not current.webhook_secrets,
            E004=current.api_key and not is_header_text(current.api_key),
        )
    kinds = {name: type(getattr(SyncSettings(), name)) for name in RANGES}
    values = {name: getattr(current, name) for name in RANGES}
    numbers = {name: _number(values[name], kinds[name]) for name in RANGES}
    # Written so that NaN is outside too.
    outside = [name for name, (least, most) in RANGES.items() if not least <= numbers[name] <= most]
    for name in outside:
        kind = "whole number" if kinds[name] is int else "number"
        yield _found("E006", name.upper(), values[name], kind, *RANGES[name])
    if not outside:
        yield from _queue(least_task_timeout(current))


#: Without any of these, django-q2 takes Redis.
_QUEUES = ("orm", "broker_class", "iron_mq", "sqs", "mongo")


def _queue(least_timeout: int) -> Iterator[CheckMessage]:
    cluster: dict[str, Any] = getattr(settings, "Q_CLUSTER", None) or {}
    timeout, retry = _number(cluster.get("timeout")), _number(cluster.get("retry", 60))
    if not timeout >= least_timeout:
        yield _found("E007", cluster.get("timeout"), least_timeout)
    elif not retry > 2 * timeout:
        yield _found("E008", cluster.get("retry", 60), 2 * timeout)
    yield from _if(
        W009=not (cluster.get("ack_failures") or cluster.get("max_attempts")),
        # Tests run no scheduler, and the mirror's own tasks are queued all the same.
        E010=cluster.get("sync") and not hasattr(mail, "outbox"),
        W025=not cluster.get("scheduler", True),
        W031=not (find_spec("redis") or any(map(cluster.get, _QUEUES))),
    )


def _number(value: object, kind: type[float] = float) -> float:
    is_one = isinstance(value, int | kind) and not isinstance(value, bool)
    return value if is_one else float("nan")  # type: ignore[return-value]


def _project() -> Iterator[CheckMessage]:
    yield from _if(E021=not settings.USE_TZ)
    for model in [*apps.get_app_config("orgs").get_models(), apps.get_model("django_q.Schedule")]:
        aliases = {router.db_for_read(model), router.db_for_write(model)}
        if aliases != {DEFAULT_DB_ALIAS} or not router.allow_migrate_model(DEFAULT_DB_ALIAS, model):
            yield _found("E022", model._meta.label)
    limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
    if limit is not None and limit < MAX_BODY_BYTES:
        yield _found("W026", limit, MAX_BODY_BYTES)


# Database -----------------------------------------------------------------------------------


def _driver() -> str:
    """Return the driver's name, or the vendor's if it is not PostgreSQL. Imports neither."""
    connection: Any = connections[DEFAULT_DB_ALIAS]
    is_postgres = connection.vendor == "postgresql"
    return str(connection.Database.__name__ if is_postgres else connection.vendor)


def _database() -> Iterator[CheckMessage]:
    database = connections[DEFAULT_DB_ALIAS].settings_dict
    options = database.get("OPTIONS") or {}
    if (driver := _driver()) != "psycopg":
        yield _found("E020" if driver == "psycopg2" else "E011", driver)
    yield from _if(
        E012=database.get("ATOMIC_REQUESTS"),
        E013=options.get("pool"),
        E018=options.get("server_side_binding"),
        E023=not database.get("AUTOCOMMIT", True),
        E024=options.get("isolation_level"),
    )


def _state() -> Iterator[CheckMessage]:
    connection: Any = connections[DEFAULT_DB_ALIAS]
    connection.ensure_connection()
    reported = connection.connection.info.parameter_status
    if (encoding := reported("server_encoding")) != "UTF8":
        yield _found("E019", encoding)
    for name, known in (("DateStyle", "ISO"), ("IntervalStyle", "postgres")):
        if (style := reported(name)).partition(",")[0] != known:
            yield _found("E028", name, style, known)
    yield from (_found("E030", missing) for missing in _lacking())
    missing = missing_grants()
    yield from (_found("E016", grant) for grant in missing)
    # Without them, nothing else can be asked.
    yield from (_found("W017", name) for name in (() if missing else broken_schedules()))


def _lacking() -> Iterator[str]:
    """What Gram's table must have before the migrations that change it; none if there is none."""
    with connections[DEFAULT_DB_ALIAS].cursor() as cursor:
        cursor.execute(ORGANIZATION_COLUMNS)
        found = cursor.fetchall()
    is_unique = {name: unique for name, unique, _ in found}
    if is_unique:
        first = import_module("orgs.migrations.0001_organization").Migration.operations[0]
        texts = {it for it, field in first.fields if isinstance(field, TextField)}
        yield from (f"the column {it}" for it, _ in first.fields if it not in is_unique)
        others = {name for name, _, is_text in found if not is_text}
        yield from (f"the type text for {name}" for name in sorted(texts & others))
        keys = ("id", "slug", "workos_id")
        yield from (f"a unique index on ({key})" for key in keys if not is_unique.get(key))
