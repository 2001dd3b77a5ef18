"""What the resources of the fake have in common: create, update, delete, get, list."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, TypeVar

from .clock import Moment, to_iso, to_milliseconds
from .messages import JsonObject, Page, Refused, encode
from .parameters import PAGING, check_names, list_query
from .state import WorkOSState
from .store import Store

ResourceT = TypeVar("ResourceT", bound="Resource")


class World:
    """Finds the resources that another one needs."""

    by_name: Mapping[str, "Resource"]

    def of(self, kind: type[ResourceT]) -> ResourceT:
        """Return the resource of a class."""
        return next(one for one in self.by_name.values() if isinstance(one, kind))


class Resource:
    """The objects of one kind. Thread-safe; what is returned is the caller's own copy.

    Changes are made as by an administrator in the dashboard. A moment (`at`) is a datetime or an
    ISO 8601 text, now by default. A change that does not `emits` has no event: only a listing
    shows it. Raises Refused as the API would, with 404 for what does not exist.
    """

    name: ClassVar[str]
    """What error messages call it."""
    kind: ClassVar[str]
    """Its `object`."""
    prefix: ClassVar[str]
    path: ClassVar[tuple[str, ...]]
    """Where it is listed; its id follows where one of them is read."""
    required: ClassVar[tuple[str, ...]] = ()
    defaults: ClassVar[JsonObject]
    """The fields that may be given, and what they are otherwise."""
    references: ClassVar[Mapping[str, str]] = {}
    """Fields that hold the id of something that must exist, and which resource that is of."""
    unique: ClassVar[Sequence[str]] = ()
    indexed: ClassVar[Sequence[str]] = ()
    filters: ClassVar[Mapping[str, str]] = {}
    """Parameters of the listing, and the field that each one compares."""
    event_prefix: ClassVar[str] = ""
    """What the types of its events begin with; its kind unless given."""
    emitted: ClassVar[Sequence[str]] = ("created", "updated", "deleted")
    """The changes that have an event, of the type that the prefix and the change make."""
    active_state: ClassVar[str | None] = None
    """The event of a creation in this state is that of an activation."""
    controls: ClassVar[tuple[str, ...]] = ("create", "update", "delete", "get", "all")
    """The methods that other processes may call."""

    def __init__(self, state: WorkOSState, world: World) -> None:
        self._state = state
        self._world = world
        self._store = Store(self.name, unique=self.unique, indexed=self.indexed)

    def create(
        self,
        *,
        id: str | None = None,
        at: Moment | None = None,
        emits: bool = True,
        announces: bool = True,
        **fields: Any,
    ) -> JsonObject:
        """Create one, and return it as the API shows it; without a webhook unless it `announces`.

        `help` of the class lists the fields.
        """
        with self._state.lock:
            self._check(fields, creates=True)
            now = self._state.moment(at)
            new: JsonObject = {
                "object": self.kind,
                "id": id or self._state.new_id(self.prefix, now),
                **copied(self.defaults),
                **self.completed(fields, now, {}),
                "created_at": to_iso(now),
                "updated_at": to_iso(now),
            }
            self._store.add(new)
            self._emit("created", new, now, emits=emits, announces=announces)
            return copied(self.show(new))

    def update(
        self, id: str, *, at: Moment | None = None, emits: bool = True, **changes: Any
    ) -> JsonObject:
        """Change the fields given, and return it as the API shows it.

        `updated_at` always moves on, and there is an event even if nothing else changes.
        """
        return self._change("updated", id, changes, at=at, emits=emits)

    def delete(self, id: str, *, at: Moment | None = None, emits: bool = True) -> None:
        """Delete one, and what can't be without it. The event shows it as it last was."""
        with self._state.lock:
            self.delete_dependents(self._store.get(id), at=at, emits=emits)
            fields = self._store.remove(id)
            self._emit("deleted", fields, self._state.moment(at), emits=emits)

    def get(self, id: str) -> JsonObject | None:
        """Return one as the API shows it, or None."""
        with self._state.lock:
            fields = self._store.find(id)
            return None if fields is None else copied(self.show(fields))

    def all(self) -> list[JsonObject]:
        """Return all as the API shows them, oldest first."""
        with self._state.lock:
            return [copied(self.show(fields)) for fields in self._store]

    # For the other resources and the API.

    def fetch(self, identifier: str) -> JsonObject:
        """Return one as the API shows it; Refused (404) if there is none."""
        with self._state.lock:
            return self.show(self._store.get(identifier))

    def page(self, query: Mapping[str, str]) -> Page:
        """Return a page of the listing."""
        check_names(query, PAGING | self.filters.keys())
        with self._state.lock:
            query = self.complete_query(query)
            filters = {self.filters[name]: query[name] for name in self.filters if name in query}
            index = next((field for field in filters if field in self.indexed), None)
            where = None if index is None else (index, filters.pop(index))

            def wanted(fields: JsonObject) -> bool:
                return all(self.matches(fields, *one) for one in filters.items())

            narrowed = list_query(query, where=where, wanted=wanted if filters else None)
            return self._store.page(narrowed, self.show)

    def check_references(self, fields: Mapping[str, Any]) -> None:
        """Refuse (404) an id of something that does not exist."""
        for name, kind in self.references.items():
            if fields.get(name):
                self._world.by_name[kind].fetch(fields[name])

    def delete_where(self, field: str, value: str, *, at: Moment | None, emits: bool) -> None:
        """Delete all with a value of an indexed field."""
        for fields in self._store.where(field, value):
            self.delete(fields["id"], at=at, emits=emits)

    def where(self, field: str, value: str) -> Sequence[JsonObject]:
        """Return the fields of those with a value of an indexed field."""
        return self._store.where(field, value)

    # What a resource may do its own way.

    def completed(self, fields: JsonObject, now: int, old: JsonObject) -> JsonObject:
        """Return the fields that are kept for those that were given; `old` is empty at first."""
        return fields

    def show(self, fields: JsonObject) -> JsonObject:
        """Return what the API shows."""
        return fields

    def event_type(self, change: str, fields: JsonObject) -> str | None:
        """Return the type of a change's event; None if it has no event."""
        if change == "created" and self.active_state is not None:
            change = "activated" if fields["state"] == self.active_state else change
        return f"{self.event_prefix or self.kind}.{change}" if change in self.emitted else None

    def event_data(self, change: str, fields: JsonObject) -> JsonObject:
        """Return what the event of a change shows."""
        return fields

    def matches(self, fields: JsonObject, field: str, value: str) -> bool:
        """Return True if a filter of the listing lets one through."""
        return bool(fields[field] == value)

    def complete_query(self, query: Mapping[str, str]) -> Mapping[str, str]:
        """Return what is listed for a query; refuse a listing that WorkOS would not give."""
        return query

    def delete_dependents(self, fields: JsonObject, *, at: Moment | None, emits: bool) -> None:
        """Delete what can't be without an object that is about to be deleted."""

    # The caller holds the lock, but for the first.

    def _change(
        self, change: str, identifier: str, changes: JsonObject, *, at: Moment | None, emits: bool
    ) -> JsonObject:
        with self._state.lock:
            self._check(changes, creates=False)
            old = self._store.get(identifier)
            now = self._state.moment(at)
            updated_at = max(now, to_milliseconds(old["updated_at"]) + 1)
            new = {**old, **self.completed(changes, now, old), "updated_at": to_iso(updated_at)}
            self._store.replace(new)
            previous = {name: old[name] for name in self.defaults if old[name] != new[name]}
            self._emit(change, new, now, emits=emits, previous=previous)
            return copied(self.show(new))

    def _emit(
        self, change: str, fields: JsonObject, now: int, *, emits: bool, **options: Any
    ) -> None:
        event_type = self.event_type(change, fields) if emits else None
        if event_type is not None:
            data = self.event_data(change, fields)
            self._state.emit_change(event_type, data, now, **options)

    def _check(self, fields: JsonObject, *, creates: bool) -> None:
        check_names(fields, frozenset(self.defaults))
        for name in self.required:
            if fields.get(name, not creates or None) is None:
                raise Refused.invalid(name, f"{name} should not be empty")
        self.check_references(fields)


def copied(fields: JsonObject) -> JsonObject:
    copy: JsonObject = json.loads(encode(fields))
    return copy


def unset(*names: str) -> JsonObject:
    """Return fields that are None unless they are given."""
    return dict.fromkeys(names)


def without(fields: JsonObject, *names: str) -> JsonObject:
    return {name: value for name, value in fields.items() if name not in names}
