"""Loads, locks and writes the rows of the resources beside organizations.

Their SQL is made from the models: a resource is a declaration and a model, and no statement.
"""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any, NamedTuple, cast

from django.apps import apps
from django.contrib.postgres.fields import ArrayField
from django.db import models

from orgs.db import sql
from orgs.db.rows import Intended, statement
from orgs.db.transactions import Statement, execute_together
from orgs.domain.plain import parent_keys
from orgs.domain.resources import PLAIN, Resource, children_of
from orgs.domain.types import Observation, PlainRow
from orgs.models import WorkOSResource


def model_of(resource: Resource) -> type[WorkOSResource]:
    """Return the model that has the resource's columns."""
    return cast("type[WorkOSResource]", apps.get_model("orgs", resource.model))


class Loaded(NamedTuple):
    """What the decisions about some observations rest on."""

    now: datetime
    """By the database's clock."""
    deleted_parents: set[tuple[str, str]]
    """As resource and key, the parents that the observations name and that are deleted."""
    rows: Mapping[Resource, list[PlainRow]]


def load(observed: Mapping[Resource, Sequence[Observation]], *, lock: bool) -> Loaded:
    """Return what is known of what was observed, in one round trip.

    ``lock`` locks the rows: the resources in the order of ``observed``, each in that of its keys.
    """
    parents = list(_parents(observed))
    selected = [_selected(resource, each, lock=lock) for resource, each in observed.items()]
    statements = [Statement("SELECT clock_timestamp()", []), *(s for _, s in parents), *selected]
    ((now,),), *found = execute_together(statements)
    pairs = zip(parents, found, strict=False)
    return Loaded(
        now,
        {(parent, key) for (parent, _), rows in pairs for (key,) in rows},
        {
            resource: [_row(resource, values) for values in rows]
            for resource, rows in zip(observed, found[len(parents) :], strict=True)
        },
    )


def _selected(resource: Resource, observations: Sequence[Observation], *, lock: bool) -> Statement:
    text = _select(resource) + (" ORDER BY workos_id FOR NO KEY UPDATE" if lock else "")
    return statement(text, sorted({o.workos_id for o in observations if o.workos_id}))


def _parents(
    observed: Mapping[Resource, Sequence[Observation]],
) -> Iterator[tuple[str, Statement]]:
    keys: dict[str, set[str]] = {}
    for resource, observations in observed.items():
        for parent, named in parent_keys(resource, observations).items():
            keys.setdefault(parent, set()).update(named)
    for parent, named in keys.items():
        resource = PLAIN[parent]
        text = (
            f"SELECT workos_id FROM {_table(resource)} "  # noqa: S608 - a model's table
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


def upsert(resource: Resource, rows: Collection[PlainRow]) -> Statement:
    """Return the statement that writes rows, and returns what ``intended`` says of them.

    The freshness guard is in it too: two processes may insert the same key at the same time.
    """
    columns = [*_common(resource), *_typed(resource)]
    ordered = sorted(rows, key=lambda row: row.key)
    return Statement(
        _upsert(resource), [json.dumps([_json(resource, r, columns) for r in ordered])]
    )


def intended(resource: Resource, rows: Collection[PlainRow]) -> Intended:
    """Return, by key, what a row has to have once it is written: whether it is deleted, its
    organization, and its typed columns, but for times."""
    found = ((row, _values(resource, row)) for row in rows)
    return {
        row.key: (
            row.deleted_at is not None,
            row.organization_id,
            *map(values.get, _compared(resource)),
        )
        for row, values in found
    }


def take_along(
    resource: Resource, keys: Collection[str], event_id: str | None
) -> list[tuple[Resource, Statement]]:
    """Return the statements that delete what the deletion of these objects deletes: WorkOS sends
    no events for that. Each returns key and organization of what it deleted."""
    return [
        (
            child,
            Statement(
                f"UPDATE {_table(child)} "  # noqa: S608 - a model's table
                f"SET {child.deleted_column} = clock_timestamp(), synced_at = clock_timestamp(), "
                f"workos_last_event_id = {_event_of_parent(child)} "
                f"WHERE {column} = ANY(%s::text[]) AND {child.deleted_column} IS NULL "
                "RETURNING workos_id, workos_organization_id",
                [event_id, sql.array(sorted(keys))],
            ),
        )
        for child, column in children_of(resource.name)
    ]


def _event_of_parent(child: Resource) -> str:
    """By an absence, a list may lift the tombstone; without an order, the id is never lost."""
    later = 'greatest(workos_last_event_id, %s::text COLLATE "C")'
    return later if not child.has_order else "%s"


def derived(workos_ids: Collection[str]) -> Statement:
    """Return the statement that recomputes the derived columns of organizations."""
    return statement(sql.DERIVE_ENABLED, sorted(workos_ids))


def derived_differently(workos_ids: Collection[str]) -> list[tuple[Any, ...]]:
    """Return Gram id, WorkOS id, and the old and new derived columns of those where they differ."""
    return execute_together([statement(sql.DERIVED_DIFFERENTLY, sorted(workos_ids))])[0]


@cache
def _select(resource: Resource) -> str:
    columns = ", ".join(["workos_id", *_times(resource), *_others(resource)])
    return f"SELECT {columns} FROM {_table(resource)} WHERE workos_id = ANY(%s::text[])"  # noqa: S608


def _times(resource: Resource) -> list[str]:
    yesterday = "clock_timestamp() - interval '1 day'"
    return [
        sql.readable("workos_created_at"),
        sql.believable("workos_updated_at"),
        sql.believable(resource.deleted_column, yesterday),
        sql.believable("synced_at"),
    ]


def _others(resource: Resource) -> list[str]:
    erased = "erased_at IS NOT NULL" if resource.is_personal else "false"
    typed = [sql.readable(n) if kind == "timestamptz" else n for n, kind in _types(resource)]
    return ["workos_organization_id", "workos_last_event_id", erased, *typed]


def _row(resource: Resource, values: Sequence[Any]) -> PlainRow:
    key, created_at, updated_at, deleted_at, synced_at, organization, event, erased, *typed = values
    return PlainRow(
        key=key,
        organization_id=organization,
        created_at=created_at,
        updated_at=updated_at,
        last_event_id=event,
        deleted_at=deleted_at,
        synced_at=synced_at,
        is_erased=erased,
        columns=dict(zip(_typed(resource), typed, strict=True)),
    )


@cache
def _upsert(resource: Resource) -> str:
    table = _table(resource)
    types = {**_common(resource), **dict(_types(resource))}
    names = ", ".join(types)
    recordset = ", ".join(f"{name} {kind}" for name, kind in types.items())
    # An absence brings no data; the insertion above has put an empty object in its place.
    kept = {"data": "coalesce(nullif(excluded.data, '{}'), t.data)"}
    changes = ", ".join(
        f"{name} = {kept.get(name, f'excluded.{name}')}" for name in types if name != "workos_id"
    )
    values = ", ".join("coalesce(new.data, '{}')" if n == "data" else f"new.{n}" for n in types)
    is_deleted = f"{resource.deleted_column} IS NOT NULL"
    returned = ", ".join(["workos_id", is_deleted, "workos_organization_id", *_compared(resource)])
    return f"""
        INSERT INTO {table} AS t ({names})
        SELECT {values} FROM jsonb_to_recordset(%s::jsonb) AS new ({recordset})
        ON CONFLICT (workos_id) DO UPDATE SET {changes}, synced_at = clock_timestamp()
        WHERE t.workos_last_event_id IS NULL OR excluded.workos_last_event_id IS NULL
            OR t.workos_last_event_id COLLATE "C" <= excluded.workos_last_event_id COLLATE "C"
        RETURNING {returned}
    """  # noqa: S608 - put together from models


def _json(resource: Resource, row: PlainRow, columns: Iterable[str]) -> dict[str, Any]:
    common = {
        "workos_id": row.key,
        "workos_organization_id": row.organization_id,
        "workos_created_at": row.created_at,
        "workos_updated_at": row.updated_at,
        "workos_last_event_id": row.last_event_id,
        resource.deleted_column: row.deleted_at,
        "data": row.data,
    }
    values = {**_values(resource, row), **common}
    return {name: _as_json(values.get(name)) for name in columns}


def _values(resource: Resource, row: PlainRow) -> dict[str, Any]:
    return {**{name: [] for name, kind in _types(resource) if kind.endswith("[]")}, **row.columns}


def _as_json(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


def _common(resource: Resource) -> dict[str, str]:
    return {
        "workos_id": "text",
        "workos_organization_id": "text",
        "workos_created_at": "timestamptz",
        "workos_updated_at": "timestamptz",
        "workos_last_event_id": "text",
        resource.deleted_column: "timestamptz",
        "data": "jsonb",
    }


def _compared(resource: Resource) -> list[str]:
    return [name for name, kind in _types(resource) if kind != "timestamptz"]


def _typed(resource: Resource) -> list[str]:
    return [name for name, _ in _types(resource)]


@cache
def _types(resource: Resource) -> tuple[tuple[str, str], ...]:
    return tuple(_column_types(resource))


def _column_types(resource: Resource) -> Iterator[tuple[str, str]]:
    fields = {field.attname: field for field in model_of(resource)._meta.concrete_fields}
    for name in resource.columns:
        match fields[name]:
            case ArrayField():
                yield name, "text[]"
            case models.BooleanField():
                yield name, "boolean"
            case models.DateTimeField():
                yield name, "timestamptz"
            case _:
                yield name, "text"


def _table(resource: Resource) -> str:
    return model_of(resource)._meta.db_table
