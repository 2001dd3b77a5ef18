"""The organizations of the fake: created, changed, deleted, and listed."""

import json
from collections.abc import Callable, Mapping
from typing import Final, TypedDict

from .clock import Moment, to_iso, to_milliseconds
from .messages import JsonObject, Page, Refused, encode
from .state import WorkOSState
from .store import Item, ListQuery, Store

LONGEST_EXTERNAL_ID: Final = 64  # The documentation's limit; the schema's is 128.


class OrganizationChanges(TypedDict, total=False):
    """What an update may change; what is absent stays.

    A None in `metadata` removes its key, None for all of it removes all.
    """

    name: str
    external_id: str | None
    metadata: dict[str, str | None] | None


class Organizations:
    """All organizations. Thread-safe.

    Every change emits its event and announces it, unless it is asked not to: a change without an
    event is what only a snapshot can find.
    """

    def __init__(self, state: WorkOSState) -> None:
        self._state = state
        self._store = Store("Organization", unique=["external_id"])
        self.delete_dependents: Callable[[str, Moment | None, bool], None] = lambda *_: None
        state.has_organization = lambda identifier: self._store.find(identifier) is not None

    def create(
        self,
        *,
        name: str,
        external_id: str | None = None,
        metadata: Mapping[str, str] | None = None,
        organization_id: str | None = None,
        at: Moment | None = None,
        source: str = "dashboard",
        emits: bool = True,
        announces: bool = True,
    ) -> JsonObject:
        """Create an organization; Refused for bad values or an external id that is taken."""
        _check_name(name)
        _check_external_id(external_id)
        with self._state.lock:
            now = self._state.moment(at)
            fields: JsonObject = {
                "object": "organization",
                "id": organization_id or self._state.new_id("org", now),
                "name": name,
                "external_id": external_id,
                "metadata": _merged({}, metadata or {}),
                "domains": [],
                "created_at": to_iso(now),
                "updated_at": to_iso(now),
            }
            self._store.add(fields, encode(fields))
            if emits:
                self._state.emit_change(
                    "organization.created", fields, now, source=source, announces=announces
                )
            return fields

    def update(
        self,
        organization_id: str,
        changes: OrganizationChanges,
        *,
        at: Moment | None = None,
        source: str = "dashboard",
        emits: bool = True,
    ) -> JsonObject:
        """Change what is given; Refused as for a creation, and (404) if there is none.

        `updated_at` always moves on, and there is an event even if nothing else changes.
        """
        _check_changes(changes)
        with self._state.lock:
            old = self._store.get(organization_id).fields
            now = self._state.moment(at)
            updated_at = max(now, to_milliseconds(old["updated_at"]) + 1)
            new = {**old, **changes, "updated_at": to_iso(updated_at)}
            new["metadata"] = _merged(old["metadata"], changes.get("metadata", {}))
            self._store.replace(new, encode(new))
            if emits:
                previous = {name: old[name] for name in changes if old[name] != new[name]}
                self._state.emit_change(
                    "organization.updated", new, now, source=source, previous=previous
                )
            return new

    def delete(
        self,
        organization_id: str,
        *,
        at: Moment | None = None,
        source: str = "dashboard",
        emits: bool = True,
    ) -> None:
        """Delete an organization and all that is its own; Refused (404) if there is none.

        The event carries the whole organization as it last was, `updated_at` included.
        """
        with self._state.lock:
            self._store.get(organization_id)
            self.delete_dependents(organization_id, at, emits)
            fields = self._store.remove(organization_id).fields
            if emits:
                now = self._state.moment(at)
                self._state.emit_change("organization.deleted", fields, now, source=source)

    def show_domains(self, organization_id: str, domains: list[JsonObject]) -> None:
        """Show these domains in an organization from now on, without an event of its own."""
        with self._state.lock:
            item = self._store.find(organization_id)
            if item is not None:
                fields = {**item.fields, "domains": domains}
                self._store.replace(fields, encode(fields))

    def get(self, organization_id: str) -> Item:
        """Return one organization; Refused (404) if there is none."""
        with self._state.lock:
            return self._store.get(organization_id)

    def name_of(self, organization_id: str) -> str:
        """Return the name of an organization; Refused (404) if there is none."""
        return str(self.get(organization_id).fields["name"])

    def find(self, organization_id: str) -> JsonObject | None:
        """Return a copy of one organization, or None."""
        with self._state.lock:
            item = self._store.find(organization_id)
        return None if item is None else copied(item.fields)

    def get_by_external_id(self, external_id: str) -> Item:
        """Return one organization by its external id; Refused (404) if there is none."""
        with self._state.lock:
            return self._store.get_by("external_id", external_id)

    def page(self, query: ListQuery) -> Page:
        """Return one page of organizations."""
        with self._state.lock:
            return self._store.page(query)

    def all(self) -> list[JsonObject]:
        """Return copies of all organizations, oldest first."""
        with self._state.lock:
            return [copied(item.fields) for item in self._store]

    def __len__(self) -> int:
        with self._state.lock:
            return len(self._store)


def copied(fields: JsonObject) -> JsonObject:
    """Return a copy that is the caller's own."""
    copy: JsonObject = json.loads(encode(fields))
    return copy


def _check_name(name: object) -> None:
    if not isinstance(name, str) or not name:
        raise Refused.invalid("name", "name must be a non-empty string")


def _check_external_id(external_id: object) -> None:
    if external_id is None:
        return
    if not isinstance(external_id, str) or not external_id or not external_id.isascii():
        raise Refused.invalid("external_id", "external_id must be a non-empty ASCII string")
    if len(external_id) > LONGEST_EXTERNAL_ID:
        message = f"external_id must be shorter than or equal to {LONGEST_EXTERNAL_ID} characters"
        raise Refused.invalid("external_id", message)


def _check_changes(changes: OrganizationChanges) -> None:
    for name in changes:
        if name not in OrganizationChanges.__annotations__:
            raise Refused.invalid(name, f"property {name} should not exist")
    if "name" in changes:
        _check_name(changes["name"])
    _check_external_id(changes.get("external_id"))


def _merged(old: Mapping[str, str], changes: Mapping[str, str | None] | None) -> JsonObject:
    if changes is None:
        return {}
    if not isinstance(changes, Mapping):
        raise Refused.invalid("metadata", "metadata must be an object")
    return {name: value for name, value in {**old, **changes}.items() if value is not None}
