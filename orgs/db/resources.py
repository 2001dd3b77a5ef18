"""Loads, locks and writes the rows of the resources other than organizations.

Their SQL is made from the models: a resource is a declaration and a model, and no statement.
"""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cache, lru_cache
from operator import attrgetter
from typing import Any, NamedTuple, cast

from django.apps import apps
from django.db import connection

from orgs.db import sql
from orgs.db.rows import Intended, statement
from orgs.db.transactions import Statement, execute_together
from orgs.domain.resources import PLAIN, Resource
from orgs.domain.types import Observation, PlainRow
from orgs.models import WorkOSResource

#: With a deletion, ours write ``synced_at`` too. If that is older by more, another program has
#: marked the row as deleted, and not an event.
WRITTEN_WITHIN = timedelta(seconds=1)

_TEXTS = "text[]"
_TIME = "timestamp with time zone"


def model_of(resource: Resource) -> type[WorkOSResource]:
    """Return the model that has the resource's columns."""
    return cast("type[WorkOSResource]", apps.get_model("orgs", resource.model))


class Loaded(NamedTuple):
    """What the decisions about some observations rest on."""

    now: datetime
    """By the database's clock."""
    deleted_parents: dict[tuple[str, str], bool]
    """By resource and key, the parents that the observations name and that are deleted: whether an
    event said so, and not an absence."""
    rows: Mapping[Resource, list[PlainRow]]


def load(observed: Mapping[Resource, Sequence[Observation]], *, lock: bool) -> Loaded:
    """Return what is known of what was observed, in one round trip.

    ``lock`` locks the rows: the resources in the order of ``observed``, each in that of its keys.
    """
    parents = dict(_deleted_parents(observed))
    locking = " ORDER BY workos_id FOR NO KEY UPDATE" if lock else ""
    selected = [
        statement(_select(resource) + locking, sorted({o.workos_id for o in each if o.workos_id}))
        for resource, each in observed.items()
    ]
    statements = [Statement("SELECT clock_timestamp()", []), *parents.values(), *selected]
    ((now,),), *found = execute_together(statements)
    return Loaded(
        now,
        {
            (parent, key): by_event
            for parent, rows in zip(parents, found, strict=False)
            for key, by_event in rows
        },
        {
            resource: [_row(_typed(resource), values) for values in rows]
            for resource, rows in zip(observed, found[len(parents) :], strict=True)
        },
    )


def _deleted_parents(
    observed: Mapping[Resource, Sequence[Observation]],
) -> Iterator[tuple[str, Statement]]:
    keys: dict[str, set[str]] = {}
    for resource, observations in observed.items():
        for column, parent in resource.parents.items():
            for observation in observations:
                if observation.plain and (key := observation.plain.columns.get(column)):
                    keys.setdefault(parent, set()).add(key)
    for parent, named in keys.items():
        resource = PLAIN[parent]
        by_event = f"{_event_id(resource)} IS NOT NULL"
        text = (
            f"SELECT workos_id, {by_event} FROM {_table(resource)} "  # noqa: S608 - a model's table
            f"WHERE workos_id = ANY(%s::text[]) AND {resource.deleted_column} IS NOT NULL"
        )
        yield parent, statement(text, sorted(named))


def count_rows(resource: Resource) -> tuple[int, int]:
    """Return how many rows are present, and how many deleted."""
    deleted = f"count({resource.deleted_column})"
    text = f"SELECT count(*) - {deleted}, {deleted} FROM {_table(resource)}"  # noqa: S608
    ((counts,),) = execute_together([Statement(text, [])])
    present, absent = counts
    return present, absent


def upsert(resource: Resource, rows: Collection[PlainRow]) -> tuple[Statement, Intended]:
    """Return the statement that writes rows, and what it has to return of each by its key: whether
    it is deleted, its organization, and its typed columns, but for times.

    The freshness guard is in it too: two processes may insert the same key at the same time.
    """
    ordered = sorted(rows, key=attrgetter("key"))
    # In the order of ``PlainRow``, as far as they are columns.
    columns: list[Collection[Any]] = [*zip(*ordered, strict=True)][:6]
    keys, organizations, *_, deleted = columns
    compared: list[Collection[Any]] = [[at is not None for at in deleted], organizations]
    for name, kind in _typed(resource).items():
        # An array column is never NULL.
        default: Any = [] if kind == _TEXTS else None
        values = [row.columns.get(name, default) for row in ordered]
        columns.append([_as_array(*texts) for texts in values] if kind == _TEXTS else values)
        if kind != _TIME:
            compared.append(values)
    # Encoded at once, which was measured to cost a third of one by one.
    data = json.dumps([row.data or {} for row in ordered])
    intended = dict(zip(keys, zip(*compared, strict=True), strict=True))
    return Statement(_upsert(resource), [*map(sql.array, columns), data]), intended


@lru_cache
def _as_array(*texts: str) -> str:
    """Cached: many objects of a page have the same few roles."""
    return sql.array(texts)


def take_along(
    resource: Resource, keys: Collection[str], event_id: str | None
) -> list[tuple[Resource, Statement]]:
    """Return the statements that delete what the deletion of these objects deletes: WorkOS sends
    no events for that. Each returns key and organization of what was to be deleted, and True unless
    a trigger or a policy kept it."""
    named = sql.array(sorted(keys))
    values = [named, event_id, named]
    return [
        (child, Statement(_take_along(child, column), values))
        for child in PLAIN.values()
        for column, parent in child.parents.items()
        if parent == resource.name
    ]


def _take_along(child: Resource, column: str) -> str:
    # By an absence, a list may lift the tombstone; without an order, the id is never lost.
    later = 'greatest(workos_last_event_id, %s::text COLLATE "C")'
    which = f"{column} = ANY(%s::text[]) AND {child.deleted_column} IS NULL"
    return f"""
        WITH live AS (
            SELECT workos_id, workos_organization_id FROM {_table(child)} WHERE {which}
        ), deleted AS (
            UPDATE {_table(child)} SET
                workos_last_event_id = {"%s" if child.has_order else later},
                {child.deleted_column} = clock_timestamp(), synced_at = clock_timestamp()
            WHERE {which}
            RETURNING workos_id, workos_organization_id,
                {child.deleted_column} IS NOT NULL AS is_deleted
        )
        SELECT workos_id, max(workos_organization_id), bool_or(is_deleted)
        FROM (SELECT * FROM deleted UNION ALL SELECT *, false FROM live) AS found
        GROUP BY workos_id
    """  # noqa: S608 - put together from models


def derived(workos_ids: Collection[str]) -> Statement:
    """Return the statement that recomputes the derived columns of organizations, and returns those
    that a trigger or a policy kept wrong."""
    return statement(sql.DERIVE_ENABLED, sorted(workos_ids))


def find_wrong_derived(
    after: str = "", *, workos_ids: Collection[str], limit: int
) -> list[tuple[Any, ...]]:
    """Return Gram id, WorkOS id, and the old and new derived columns of those where they differ:
    ``limit`` at most, in order of the WorkOS ids ``after`` this one. Without ``workos_ids``: of all
    organizations."""
    ids = sql.array(sorted(workos_ids)) if workos_ids else None
    return execute_together([Statement(sql.WRONG_DERIVED, [after, ids, ids, limit])])[0]


@cache
def _select(resource: Resource) -> str:
    yesterday = "clock_timestamp() - interval '1 day'"
    columns = [
        "workos_id",
        "workos_organization_id",
        "NULL",  # when WorkOS made it, which no rule asks
        sql.believable("workos_updated_at"),
        "workos_last_event_id",
        sql.believable(resource.deleted_column, yesterday),
        sql.believable("synced_at"),
        "erased_at IS NOT NULL" if resource.is_personal else "false",
        f"coalesce({_is_marked(resource)}, false)",
    ]
    for name, kind in _typed(resource).items():
        columns.append(sql.readable(name) if kind == _TIME else name)
    selected = f"SELECT {', '.join(columns)} FROM {_table(resource)}"  # noqa: S608 - from models
    return f"{selected} WHERE workos_id = ANY(%s::text[])"


def _event_id(resource: Resource) -> str:
    """Return the event id, but NULL where another program has marked the row as deleted."""
    return f"CASE WHEN {_is_marked(resource)} THEN NULL ELSE workos_last_event_id END"


def _is_marked(resource: Resource) -> str:
    return f"{resource.deleted_column} > synced_at + interval '{WRITTEN_WITHIN}'"


def _row(names: Collection[str], values: Sequence[Any]) -> PlainRow:
    columns = dict(zip(names, values[9:], strict=True))
    return PlainRow._make((*values[:8], columns, None, values[8]))


@cache
def _upsert(resource: Resource) -> str:
    types = {
        "workos_id": "text",
        "workos_organization_id": "text",
        "workos_created_at": _TIME,
        "workos_updated_at": _TIME,
        "workos_last_event_id": "text",
        resource.deleted_column: _TIME,
        **_typed(resource),
    }
    # As texts: PostgreSQL would unnest all dimensions of an array of arrays.
    arrays = ", ".join(f"%s::{kind.removesuffix('[]')}[]" for kind in types.values())
    names = ", ".join((*types, "data"))
    values = [f"{name}::text[]" if kind == _TEXTS else name for name, kind in types.items()]
    kept = {
        "workos_created_at": "coalesce(excluded.workos_created_at, t.workos_created_at)",
        # An absence brings no data, and comes with an empty object.
        "data": "coalesce(nullif(excluded.data, '{}'), t.data)",
    }
    changes = ", ".join(
        f"{name} = {kept.get(name, f'excluded.{name}')}" for name in (*types, "data")[1:]
    )
    compared = [name for name, kind in _typed(resource).items() if kind != _TIME]
    is_deleted = f"{resource.deleted_column} IS NOT NULL"
    returned = ", ".join(["workos_id", is_deleted, "workos_organization_id", *compared])
    return f"""
        INSERT INTO {_table(resource)} AS t ({names})
        SELECT {", ".join(values)}, data
        FROM ROWS FROM (unnest({arrays}), jsonb_array_elements(%s::jsonb)) AS new ({names})
        ON CONFLICT (workos_id) DO UPDATE SET {changes}, synced_at = clock_timestamp()
        WHERE t.workos_last_event_id IS NULL OR excluded.workos_last_event_id IS NULL
            OR t.workos_last_event_id COLLATE "C" <= excluded.workos_last_event_id COLLATE "C"
        RETURNING {returned}
    """  # noqa: S608 - put together from models


@cache
def _typed(resource: Resource) -> Mapping[str, str]:
    """The typed columns, and PostgreSQL's types of them."""
    fields = {field.attname: field for field in model_of(resource)._meta.concrete_fields}
    return {name: str(fields[name].db_type(connection)) for name in resource.columns}


def _table(resource: Resource) -> str:
    return model_of(resource)._meta.db_table
