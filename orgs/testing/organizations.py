"""The organizations WorkOS has: kept, found by either id, and listed in pages."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from operator import attrgetter
from typing import Final

from .messages import JsonObject, Page, Refused, encode

_BY_SEQUENCE: Final = attrgetter("sequence")


@dataclass(frozen=True, slots=True)
class Organization:
    """One organization: its place in the order of creation, and the JSON it is served as."""

    sequence: int
    fields: JsonObject
    body: bytes

    @property
    def id(self) -> str:
        """WorkOS's id of it."""
        identifier: str = self.fields["id"]
        return identifier

    @property
    def external_id(self) -> str | None:
        """The id its owner's application knows it by."""
        external_id: str | None = self.fields["external_id"]
        return external_id


@dataclass(frozen=True, slots=True)
class OrganizationQuery:
    """What a listing asks for; at most one of `after` and `before` is set."""

    limit: int
    after: str | None = None
    before: str | None = None
    descending: bool = True


class Organizations:
    """All organizations, in the order they were created in. Not thread-safe."""

    def __init__(self) -> None:
        self._listed: list[Organization] = []
        self._by_id: dict[str, Organization] = {}
        self._by_external_id: dict[str, Organization] = {}
        # Outlives the organization: a listing goes on after one that was deleted meanwhile.
        self._sequences: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._listed)

    def __iter__(self) -> Iterator[Organization]:
        return iter(self._listed)

    def get(self, organization_id: str) -> Organization:
        """Return one by WorkOS's id; Refused (404) if there is none."""
        return _found(self._by_id.get(organization_id), organization_id)

    def find(self, organization_id: str) -> Organization | None:
        """Return one by WorkOS's id, or None."""
        return self._by_id.get(organization_id)

    def get_by_external_id(self, external_id: str) -> Organization:
        """Return one by its external id; Refused (404) if there is none."""
        return _found(self._by_external_id.get(external_id), external_id)

    def add(self, fields: JsonObject) -> Organization:
        """Put in a new one at the end; Refused if its external id is taken, ValueError its id."""
        if fields["id"] in self._by_id:
            message = f"there is an organization {fields['id']} already"
            raise ValueError(message)
        self._check_external_id_is_free(fields)
        organization = Organization(len(self._sequences), fields, encode(fields))
        self._sequences[organization.id] = organization.sequence
        self._listed.append(organization)
        self._index(organization)
        return organization

    def replace(self, fields: JsonObject) -> Organization:
        """Put a changed one in the place it has; Refused if its external id is taken."""
        old = self.get(fields["id"])
        self._check_external_id_is_free(fields)
        changed = Organization(old.sequence, fields, encode(fields))
        self._forget_external_id(old)
        self._listed[self._place_of(old)] = changed
        self._index(changed)
        return changed

    def remove(self, organization_id: str) -> Organization:
        """Take one out; Refused (404) if there is none."""
        organization = self.get(organization_id)
        self._forget_external_id(organization)
        del self._by_id[organization_id]
        del self._listed[self._place_of(organization)]
        return organization

    def page(self, query: OrganizationQuery) -> Page:
        """Return one page of the listing; Refused (400) for a cursor that never was one."""
        start, end = self._window(query)
        listed = self._listed[start:end]
        preceded, followed = start > 0, end < len(self._listed)
        if query.descending:
            listed.reverse()
            preceded, followed = followed, preceded
        return Page(
            bodies=[organization.body for organization in listed],
            before=listed[0].id if listed and preceded else None,
            after=listed[-1].id if listed and followed else None,
            last=listed[-1].id if listed else None,
        )

    def _window(self, query: OrganizationQuery) -> tuple[int, int]:
        """Return the first place of the page, counted from the oldest, and the one after it."""
        towards_newer = query.descending == (query.before is not None)
        cursor = query.before if query.before is not None else query.after
        if towards_newer:
            start = 0 if cursor is None else self._place_after(cursor)
            return start, min(start + query.limit, len(self._listed))
        end = len(self._listed) if cursor is None else self._place_before(cursor)
        return max(end - query.limit, 0), end

    def _place_after(self, cursor: str) -> int:
        return bisect_right(self._listed, self._sequence(cursor), key=_BY_SEQUENCE)

    def _place_before(self, cursor: str) -> int:
        return bisect_left(self._listed, self._sequence(cursor), key=_BY_SEQUENCE)

    def _place_of(self, organization: Organization) -> int:
        return bisect_left(self._listed, organization.sequence, key=_BY_SEQUENCE)

    def _sequence(self, cursor: str) -> int:
        try:
            return self._sequences[cursor]
        except KeyError:
            raise Refused(400, "invalid_cursor", f"Unknown cursor: '{cursor}'.") from None

    def _check_external_id_is_free(self, fields: JsonObject) -> None:
        holder = self._by_external_id.get(fields["external_id"])
        if holder is not None and holder.id != fields["id"]:
            message = "The external_id provided is already in use by another organization."
            raise Refused(400, "external_id_already_used", message)

    def _index(self, organization: Organization) -> None:
        self._by_id[organization.id] = organization
        if organization.external_id is not None:
            self._by_external_id[organization.external_id] = organization

    def _forget_external_id(self, organization: Organization) -> None:
        if organization.external_id is not None:
            del self._by_external_id[organization.external_id]


def _found(organization: Organization | None, identifier: str) -> Organization:
    if organization is None:
        message = f"Organization not found: '{identifier}'."
        raise Refused(404, "entity_not_found", message)
    return organization
