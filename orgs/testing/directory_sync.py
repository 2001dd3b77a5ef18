"""Single sign-on connections, directories with what they hold, and organizations' domains."""

from collections.abc import Mapping
from typing import Any, Final

from .clock import Moment
from .messages import JsonObject, Refused
from .resource import Resource, unset, without

_IN_EVENTS: Final = {"linked": "active", "unlinked": "inactive"}
"""The states of a directory that events spell differently."""

_BY_ORGANIZATION: Final = {"organization_id": "organization_id"}


class Connections(Resource):
    """Single sign-on connections of organizations.

    Fields: organization_id, name, connection_type, state, domains (as text). A creation has an
    event only if the state is active, and `update` has none: no such event type exists.
    """

    name = "Connection"
    kind = "connection"
    prefix = "conn"
    path = ("connections",)
    required = ("name",)
    defaults = {
        **unset("organization_id", "name"),
        "connection_type": "OktaSAML",
        "state": "inactive",
        "domains": [],
    }
    references = {"organization_id": "organizations"}
    indexed = ("organization_id",)
    filters = _BY_ORGANIZATION | {"connection_type": "connection_type", "domain": "domains"}
    controls = (*Resource.controls, "activate", "deactivate")
    emitted = ("activated", "deactivated", "deleted")
    active_state = "active"

    def activate(self, id: str, *, at: Moment | None = None, emits: bool = True) -> JsonObject:
        """Make a connection active."""
        return self._change("activated", id, {"state": "active"}, at=at, emits=emits)

    def deactivate(self, id: str, *, at: Moment | None = None, emits: bool = True) -> JsonObject:
        """Make a connection inactive."""
        return self._change("deactivated", id, {"state": "inactive"}, at=at, emits=emits)

    def matches(self, fields: JsonObject, field: str, value: str) -> bool:
        if field == "domains":
            return value in fields["domains"]
        return super().matches(fields, field, value)

    def show(self, fields: JsonObject) -> JsonObject:
        status = "linked" if fields["state"] == "active" else "unlinked"
        domains = [
            {"object": "connection_domain", "id": f"conn_domain_{domain}", "domain": domain}
            for domain in fields["domains"]
        ]
        return {**fields, "domains": domains, "status": status}

    def event_data(self, change: str, fields: JsonObject) -> JsonObject:
        if change == "deleted":
            return without(fields, "domains")
        return {**self.show(fields), "external_key": f"key-of-{fields['id']}"}


class Directories(Resource):
    """Directories of organizations.

    Fields: organization_id, name, type, state (as the API spells it), domain. A creation has an
    event only if the state is linked, and `update` has none. Its users and groups are deleted with
    it, and that has no events.
    """

    name = "Directory"
    kind = "directory"
    prefix = "directory"
    path = ("directories",)
    required = ("name",)
    defaults = {
        **unset("organization_id", "name", "domain"),
        "type": "okta scim v2.0",
        "state": "linked",
    }
    references = {"organization_id": "organizations"}
    indexed = ("organization_id",)
    filters = _BY_ORGANIZATION | {"domain": "domain"}
    controls = (*Resource.controls, "activate")
    event_prefix = "dsync"
    emitted = ("activated", "deleted")
    active_state = "linked"

    def activate(self, id: str, *, at: Moment | None = None, emits: bool = True) -> JsonObject:
        """Link a directory."""
        return self._change("activated", id, {"state": "linked"}, at=at, emits=emits)

    def delete_dependents(self, fields: JsonObject, *, at: Moment | None, emits: bool) -> None:
        for kind in (DirectoryGroups, DirectoryUsers):
            self._world.of(kind).delete_where("directory_id", fields["id"], at=at, emits=False)

    def show(self, fields: JsonObject) -> JsonObject:
        return {**fields, "external_key": f"key-of-{fields['id']}"}

    def event_data(self, change: str, fields: JsonObject) -> JsonObject:
        shown = without(fields, "domain")
        if change == "deleted":
            return {**shown, "state": "deleting"}
        domain = fields["domain"]
        domains = [{"object": "organization_domain", "id": "org_domain_1", "domain": domain}]
        return {
            **shown,
            "state": _IN_EVENTS.get(fields["state"], fields["state"]),
            "external_key": f"key-of-{fields['id']}",
            "domains": domains if domain else [],
        }


class DirectoryResource(Resource):
    """What users and groups of directories have in common."""

    references = {"directory_id": "directories"}
    indexed = ("directory_id",)

    def completed(self, fields: JsonObject, now: int, old: JsonObject) -> JsonObject:
        if "directory_id" not in fields:
            return fields
        directory = self._world.of(Directories).fetch(fields["directory_id"])
        idp_id = f"idp-{self._state.new_id('id', now)}"
        return {"idp_id": idp_id, **fields, "organization_id": directory["organization_id"]}

    def complete_query(self, query: Mapping[str, str]) -> Mapping[str, str]:
        """Want a directory or what the others are in, which must exist."""
        one_of = [name for name in self.filters if name in query]
        if not one_of:
            names = " and ".join(self.filters)
            raise Refused.invalid("directory", f"At least one of {names} must be given.")
        kinds = {"directory": Directories, "group": DirectoryGroups, "user": DirectoryUsers}
        for name in one_of:
            self._world.of(kinds[name]).fetch(query[name])
        return query


class DirectoryUsers(DirectoryResource):
    """Users of directories.

    Fields: directory_id, email, first_name, last_name, name, job_title, username, state, role (a
    slug), custom_attributes, idp_id. Only listings show a user's groups.
    """

    name = "Directory user"
    kind = "directory_user"
    prefix = "directory_user"
    path = ("directory_users",)
    event_prefix = "dsync.user"
    required = ("directory_id",)
    defaults = {
        **unset("directory_id", "organization_id", "idp_id", "email", "first_name", "last_name"),
        **unset("name", "job_title", "username", "role"),
        "state": "active",
        "custom_attributes": {},
    }
    filters = {"directory": "directory_id", "group": "group"}

    def completed(self, fields: JsonObject, now: int, old: JsonObject) -> JsonObject:
        if fields.get("role") is not None:
            fields = {**fields, "role": {"slug": fields["role"]}}
        return super().completed(fields, now, old)

    def matches(self, fields: JsonObject, field: str, value: str) -> bool:
        return fields["id"] in self._world.of(DirectoryGroups).members(value)

    def show(self, fields: JsonObject) -> JsonObject:
        roles = [fields["role"]] if fields["role"] else []
        groups = self._world.of(DirectoryGroups).of_user(fields["id"])
        return {**fields, "roles": roles, "groups": groups, "raw_attributes": {}}

    def event_data(self, change: str, fields: JsonObject) -> JsonObject:
        return without(self.show(fields), "groups")

    def delete_dependents(self, fields: JsonObject, *, at: Moment | None, emits: bool) -> None:
        self._world.of(DirectoryGroups).forget(fields["id"])


class DirectoryGroups(DirectoryResource):
    """Groups of directories, and who is in them. Fields: directory_id, name, idp_id.

    The deletion of a group or of a user ends memberships without events of their own.
    """

    name = "Directory group"
    kind = "directory_group"
    prefix = "directory_group"
    path = ("directory_groups",)
    event_prefix = "dsync.group"
    required = ("directory_id", "name")
    defaults = unset("directory_id", "organization_id", "idp_id", "name")
    filters = {"directory": "directory_id", "user": "user"}
    controls = (*Resource.controls, "add_user", "remove_user", "members")

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._edges: dict[tuple[str, str], None] = {}
        """Group and user, in the order they were added."""

    def add_user(
        self, id: str, user_id: str, *, at: Moment | None = None, emits: bool = True
    ) -> None:
        """Put a user of the directory into a group."""
        with self._state.lock:
            self._edges[id, user_id] = None
            self._emit_edge("user_added", id, user_id, at, emits=emits)

    def remove_user(
        self, id: str, user_id: str, *, at: Moment | None = None, emits: bool = True
    ) -> None:
        """Take a user out of a group."""
        with self._state.lock:
            self._edges.pop((id, user_id), None)
            self._emit_edge("user_removed", id, user_id, at, emits=emits)

    def members(self, id: str) -> list[str]:
        """Return the ids of the users in a group, in the order they were added."""
        with self._state.lock:
            return [user_id for group_id, user_id in self._edges if group_id == id]

    def of_user(self, user_id: str) -> list[JsonObject]:
        """Return the groups that a user is in."""
        return [self.fetch(group_id) for group_id, member in self._edges if member == user_id]

    def forget(self, id: str) -> None:
        """End all that a group, or a user, has to do with the others, without events."""
        self._edges = {edge: None for edge in self._edges if id not in edge}

    def matches(self, fields: JsonObject, field: str, value: str) -> bool:
        return (fields["id"], value) in self._edges

    def delete_dependents(self, fields: JsonObject, *, at: Moment | None, emits: bool) -> None:
        self.forget(fields["id"])

    def _emit_edge(
        self, change: str, group_id: str, user_id: str, at: Moment | None, *, emits: bool
    ) -> None:
        group = self.fetch(group_id)
        users = self._world.of(DirectoryUsers)
        user = users.event_data(change, users.fetch(user_id))
        data = {"directory_id": group["directory_id"], "user": user, "group": group}
        if emits:
            self._state.emit_change(f"dsync.group.{change}", data, self._state.moment(at))


class Domains(Resource):
    """Domains of organizations, which the API shows inside them. Two may have the same.

    Fields: organization_id, domain, state, verification_strategy.
    """

    name = "Organization domain"
    kind = "organization_domain"
    prefix = "org_domain"
    path = ("organization_domains",)
    required = ("organization_id", "domain")
    defaults = {
        **unset("organization_id", "domain"),
        "state": "pending",
        "verification_strategy": "dns",
    }
    references = {"organization_id": "organizations"}
    indexed = ("organization_id",)
    controls = (*Resource.controls, "verify", "fail")
    emitted = ("created", "updated", "deleted", "verified", "verification_failed")

    def verify(self, id: str, *, at: Moment | None = None, emits: bool = True) -> JsonObject:
        """Find a domain verified."""
        return self._change("verified", id, {"state": "verified"}, at=at, emits=emits)

    def fail(self, id: str, *, at: Moment | None = None, emits: bool = True) -> JsonObject:
        """Give up the verification of a domain."""
        return self._change("verification_failed", id, {"state": "failed"}, at=at, emits=emits)

    def event_data(self, change: str, fields: JsonObject) -> JsonObject:
        if change == "verification_failed":
            reason = "domain_verification_period_expired"
            return {"reason": reason, "organization_domain": fields}
        return fields
