"""The organizations of the fake."""

from collections.abc import Mapping
from typing import Final, TypedDict

from .clock import Moment
from .directory_sync import Connections, Directories, Domains
from .messages import JsonObject, Refused
from .people import Invitations, Memberships, Roles
from .resource import Resource

LONGEST_EXTERNAL_ID: Final = 64  # The documentation's limit; the schema's is 128.

_ITS_OWN: Final = (Memberships, Roles, Invitations, Connections, Directories, Domains)
"""What is deleted with an organization, in this order."""


class OrganizationChanges(TypedDict, total=False):
    """What an update may change; what is absent stays.

    A None in `metadata` removes its key, None for all of it removes all.
    """

    name: str
    external_id: str | None
    metadata: dict[str, str | None] | None


class Organizations(Resource):
    """All organizations. Each shows its domains, which are resources of their own."""

    name = "Organization"
    kind = "organization"
    prefix = "org"
    path = ("organizations",)
    defaults = {"name": None, "external_id": None, "metadata": {}}
    unique = ("external_id",)

    def __len__(self) -> int:
        return len(self._store)

    def completed(self, fields: JsonObject, now: int, old: JsonObject) -> JsonObject:
        name = fields.get("name", old.get("name"))
        if not isinstance(name, str) or not name:
            raise Refused.invalid("name", "name must be a non-empty string")
        _check_external_id(fields.get("external_id"))
        changes = fields.get("metadata", {})
        if not isinstance(changes, Mapping | None):
            raise Refused.invalid("metadata", "metadata must be an object")
        merged = {} if changes is None else {**old.get("metadata", {}), **changes}
        metadata = {key: value for key, value in merged.items() if value is not None}
        return {**fields, "metadata": metadata, "domains": []}

    def show(self, fields: JsonObject) -> JsonObject:
        domains = self._world.of(Domains).where("organization_id", fields["id"])
        return {**fields, "domains": [dict(one) for one in domains]}

    def event_data(self, change: str, fields: JsonObject) -> JsonObject:
        return self.show(fields)

    def delete_dependents(self, fields: JsonObject, *, at: Moment | None, emits: bool) -> None:
        for kind in _ITS_OWN:
            owned = self._world.of(kind)
            owned.delete_where("organization_id", fields["id"], at=at, emits=emits)

    def fetch_by_external_id(self, external_id: str) -> JsonObject:
        """Return one organization by its external id; Refused (404) if there is none."""
        with self._state.lock:
            return self.show(self._store.get_by("external_id", external_id))


def _check_external_id(external_id: object) -> None:
    if external_id is None:
        return
    if not isinstance(external_id, str) or not external_id or not external_id.isascii():
        raise Refused.invalid("external_id", "external_id must be a non-empty ASCII string")
    if len(external_id) > LONGEST_EXTERNAL_ID:
        message = f"external_id must be shorter than or equal to {LONGEST_EXTERNAL_ID} characters"
        raise Refused.invalid("external_id", message)
