"""What the resources of the fake have in common: create, update, delete, get, list."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol, TypeVar

from .clock import Moment, to_iso, to_milliseconds
from .messages import JsonObject, Page, Refused
from .organizations import Organizations, copied
from .parameters import PAGING, check_names, list_query
from .state import WorkOSState
from .store import Store

ResourceT = TypeVar("ResourceT", bound="Resource")


class World(Protocol):
    """Finds the resources that another one needs."""

    organizations: Organizations

    def of(self, kind: type[ResourceT]) -> ResourceT:
        """Return the resource of a class."""

    def check_exists(self, kind: str, identifier: str) -> None:
        """Refuse (404) the id of something that does not exist."""


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
    required: ClassVar[tuple[str, ...]]
    defaults: ClassVar[JsonObject]
    """The fields that may be given, and what they are otherwise."""
    references: ClassVar[Mapping[str, str]] = {}
    """Fields that hold the id of something that must exist, and which kind that is."""
    unique: ClassVar[Sequence[str]] = ()
    indexed: ClassVar[Sequence[str]] = ()
    filters: ClassVar[Mapping[str, str]] = {}
    """Parameters of the listing, and the field that each one compares."""
    events: ClassVar[Mapping[str, str]] = {}
    """The type of the event after each kind of change; without one, there is none."""
    controls: ClassVar[tuple[str, ...]] = ("create", "update", "delete", "get", "all")
    """The methods that other processes may call."""

    def __init__(self, state: WorkOSState, world: World) -> None:
        self._state = state
        self._world = world
        self._store = Store(self.name, unique=self.unique, indexed=self.indexed)

    def create(
        self,
        *,
        id: str | None = None,  # noqa: A002 -- WorkOS's word
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
                **self.completed(fields, now),
                "created_at": to_iso(now),
                "updated_at": to_iso(now),
            }
            self._store.add(new)
            self._after_change("created", new, now, emits=emits, announces=announces)
            return copied(self.show(new))

    def update(
        self,
        id: str,  # noqa: A002 -- WorkOS's word
        *,
        at: Moment | None = None,
        emits: bool = True,
        **changes: Any,
    ) -> JsonObject:
        """Change the fields given, and return it as the API shows it."""
        return self._change("updated", id, changes, at=at, emits=emits)

    def delete(
        self,
        id: str,  # noqa: A002 -- WorkOS's word
        *,
        at: Moment | None = None,
        emits: bool = True,
    ) -> None:
        """Delete one, and what can't be without it. The event shows it as it last was."""
        with self._state.lock:
            fields = self._store.get(id).fields
            self.delete_dependents(fields, at=at, emits=emits)
            self._store.remove(id)
            self._after_change("deleted", fields, self._state.moment(at), emits=emits)

    def get(self, id: str) -> JsonObject | None:  # noqa: A002 -- WorkOS's word
        """Return one as the API shows it, or None."""
        with self._state.lock:
            item = self._store.find(id)
            return None if item is None else copied(self.show(item.fields))

    def all(self) -> list[JsonObject]:
        """Return all as the API shows them, oldest first."""
        with self._state.lock:
            return [copied(self.show(item.fields)) for item in self._store]

    # For the other resources and the API.

    def fetch(self, identifier: str) -> JsonObject:
        """Return one as the API shows it; Refused (404) if there is none."""
        with self._state.lock:
            return self.show(self._store.get(identifier).fields)

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
                self._world.check_exists(kind, fields[name])

    def delete_where(self, field: str, value: str, *, at: Moment | None, emits: bool) -> None:
        """Delete all with a value of an indexed field."""
        for fields in self.where(field, value):
            self.delete(fields["id"], at=at, emits=emits)

    def where(self, field: str, value: str) -> Sequence[JsonObject]:
        """Return the fields of those with a value of an indexed field."""
        return [item.fields for item in self._store.where(field, value)]

    # What a resource may do its own way.

    def completed(self, fields: JsonObject, now: int) -> JsonObject:
        """Return the fields that are kept for those that were given."""
        return fields

    def show(self, fields: JsonObject) -> JsonObject:
        """Return what the API shows."""
        return fields

    def event_type(self, change: str, fields: JsonObject) -> str | None:
        """Return the type of a change's event; None if it has no event."""
        return self.events.get(change)

    def event_data(self, change: str, fields: JsonObject) -> JsonObject:
        """Return what the event of a change shows."""
        return fields

    def matches(self, fields: JsonObject, field: str, value: str) -> bool:
        """Return True if a filter of the listing lets one through."""
        return bool(fields[field] == value)

    def complete_query(self, query: Mapping[str, str]) -> Mapping[str, str]:
        """Return what is listed for a query; refuse a listing that WorkOS would not give."""
        return query

    def after_change(self, fields: JsonObject) -> None:
        """Do what else belongs to a change, before its event."""

    def delete_dependents(self, fields: JsonObject, *, at: Moment | None, emits: bool) -> None:
        """Delete what can't be without an object that is about to be deleted."""

    # The caller holds the lock.

    def _change(
        self, change: str, identifier: str, changes: JsonObject, *, at: Moment | None, emits: bool
    ) -> JsonObject:
        with self._state.lock:
            self._check(changes, creates=False)
            old = self._store.get(identifier).fields
            now = self._state.moment(at)
            updated_at = max(now, to_milliseconds(old["updated_at"]) + 1)
            new = {**old, **self.completed(changes, now), "updated_at": to_iso(updated_at)}
            self._store.replace(new)
            previous = {name: old[name] for name in self.defaults if old[name] != new[name]}
            self._after_change(change, new, now, emits=emits, previous=previous)
            return copied(self.show(new))

    def _after_change(
        self,
        change: str,
        fields: JsonObject,
        now: int,
        *,
        emits: bool,
        announces: bool = True,
        previous: JsonObject | None = None,
    ) -> None:
        self.after_change(fields)
        event_type = self.event_type(change, fields) if emits else None
        if event_type is not None:
            data = self.event_data(change, fields)
            self._state.emit_change(event_type, data, now, previous=previous, announces=announces)

    def _check(self, fields: JsonObject, *, creates: bool) -> None:
        check_names(fields, frozenset(self.defaults))
        for name in self.required:
            if fields.get(name, not creates or None) is None:
                raise Refused.invalid(name, f"{name} should not be empty")
        self.check_references(fields)


def without(fields: JsonObject, *names: str) -> JsonObject:
    """Return the fields but for some."""
    return {name: value for name, value in fields.items() if name not in names}
