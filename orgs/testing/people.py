"""Users, their memberships and roles in organizations, and invitations."""

from collections.abc import Mapping
from typing import Final

from .clock import Moment, to_iso, to_milliseconds
from .messages import Answer, JsonObject, Refused
from .resource import Resource, unset, without

_STATUSES: Final = frozenset({"active", "inactive", "pending"})


def _in_three_days(now: int) -> str:
    return to_iso(now + 3 * 24 * 60 * 60 * 1000)


class Users(Resource):
    """Users. Two that exist have different emails; the email of a deleted one is free again.

    Fields: email, email_verified, first_name, last_name, name, profile_picture_url, external_id,
    metadata, locale, last_sign_in_at. A user's memberships are deleted with the user, each with an
    event of its own.
    """

    name = "User"
    kind = "user"
    prefix = "user"
    path = ("user_management", "users")
    required = ("email",)
    defaults = {
        **unset("email", "first_name", "last_name", "name", "profile_picture_url", "external_id"),
        **unset("locale", "last_sign_in_at"),
        "email_verified": False,
        "metadata": {},
    }
    unique = ("email", "external_id")
    filters = {"email": "email", "organization_id": "organization_id"}

    def matches(self, fields: JsonObject, field: str, value: str) -> bool:
        if field != "organization_id":
            return super().matches(fields, field, value)
        memberships = self._world.of(Memberships).where("user_id", fields["id"])
        return any(membership["organization_id"] == value for membership in memberships)

    def delete_dependents(self, fields: JsonObject, *, at: Moment | None, emits: bool) -> None:
        self._world.of(Memberships).delete_where("user_id", fields["id"], at=at, emits=emits)


class Memberships(Resource):
    """Memberships of users in organizations: one of a user in an organization.

    Fields: user_id, organization_id, status (active, inactive or pending), role and roles (slugs;
    one follows from the other), directory_managed, custom_attributes. The API shows the user too,
    the events do not.
    """

    name = "Organization membership"
    kind = "organization_membership"
    prefix = "om"
    path = ("user_management", "organization_memberships")
    required = ("user_id", "organization_id")
    defaults = {
        **unset("user_id", "organization_id"),
        "status": "active",
        "role": {"slug": "member"},
        "roles": [{"slug": "member"}],
        "directory_managed": False,
        "custom_attributes": {},
    }
    references = {"user_id": "users", "organization_id": "organizations"}
    indexed = ("organization_id", "user_id")
    filters = {"organization_id": "organization_id", "user_id": "user_id", "statuses": "status"}
    controls = (*Resource.controls, "deactivate", "reactivate")

    def deactivate(self, id: str, *, at: Moment | None = None, emits: bool = True) -> JsonObject:
        """Make a membership inactive."""
        return self._change("updated", id, {"status": "inactive"}, at=at, emits=emits)

    def reactivate(self, id: str, *, at: Moment | None = None, emits: bool = True) -> JsonObject:
        """Make a membership active again."""
        return self._change("updated", id, {"status": "active"}, at=at, emits=emits)

    def completed(self, fields: JsonObject, now: int, old: JsonObject) -> JsonObject:
        if fields.get("status", "active") not in _STATUSES:
            raise Refused.invalid("status", f"status must be one of {sorted(_STATUSES)}")
        for other in self.where("user_id", fields.get("user_id", "")):
            if other["organization_id"] == fields.get("organization_id"):
                raise Refused(409, "conflict", "The user is already a member of the organization.")
        slugs = fields.get("roles") or ([fields["role"]] if "role" in fields else None)
        if slugs is None:
            return fields
        roles = [{"slug": slug} for slug in slugs]
        return {**fields, "role": roles[0], "roles": roles}

    def show(self, fields: JsonObject) -> JsonObject:
        user = self._world.of(Users).fetch(fields["user_id"])
        organization = self._world.by_name["organizations"].fetch(fields["organization_id"])
        return {**fields, "user": user, "organization_name": organization["name"]}

    def complete_query(self, query: Mapping[str, str]) -> Mapping[str, str]:
        """Want a user or an organization that exists; list active ones unless others are named."""
        if "user_id" not in query and "organization_id" not in query:
            message = "At least one of user_id and organization_id must be given."
            raise Refused.invalid("organization_id", message)
        self.check_references(query)
        statuses = query.get("statuses", "active")
        if not _STATUSES.issuperset(statuses.split(",")):
            raise Refused.invalid("statuses", f"statuses must be of {sorted(_STATUSES)}")
        return {**query, "statuses": statuses}

    def matches(self, fields: JsonObject, field: str, value: str) -> bool:
        if field == "status":
            return fields["status"] in value.split(",")
        return super().matches(fields, field, value)


class Roles(Resource):
    """Roles of the environment and, with an organization_id, of one organization.

    Fields: slug, organization_id, name, description, permissions, resource_type_slug. Their key is
    (organization, slug): a slug may come back after a deletion. Events show no id, and those of the
    environment's roles no name either. The listing has no pages.
    """

    name = "Role"
    kind = "role"
    prefix = "role"
    path = ("authorization", "roles")
    required = ("slug",)
    defaults = {
        **unset("slug", "name", "description"),
        "organization_id": "",  # of the environment
        "permissions": [],
        "resource_type_slug": "organization",
    }
    references = {"organization_id": "organizations"}
    indexed = ("organization_id",)

    def completed(self, fields: JsonObject, now: int, old: JsonObject) -> JsonObject:
        if "slug" not in fields:
            return fields
        organization_id = fields.get("organization_id") or ""
        if self._find(organization_id, fields["slug"]) is not None:
            raise Refused(409, "conflict", f"There is a role {fields['slug']} already.")
        name = fields["slug"].replace("-", " ").title()
        return {"name": name, **fields, "organization_id": organization_id}

    def show(self, fields: JsonObject) -> JsonObject:
        kind = "OrganizationRole" if fields["organization_id"] else "EnvironmentRole"
        return {**without(fields, "organization_id"), "type": kind}

    def answer(self, organization_id: str, slug: str | None = None) -> Answer:
        """Answer with a role or, without a slug, with all of them: an organization's come after
        the environment's, which it can use as well."""
        with self._state.lock:
            if organization_id:
                self.check_references({"organization_id": organization_id})
            if slug is not None:
                found = self._find(organization_id, slug)
                if found is None:
                    raise Refused(404, "entity_not_found", f"Role not found: '{slug}'.")
                return Answer.of_json(self.show(found))
            owners = dict.fromkeys(("", organization_id))
            roles = [self.show(role) for it in owners for role in self.where("organization_id", it)]
            return Answer.of_json({"object": "list", "data": roles})

    def event_type(self, change: str, fields: JsonObject) -> str | None:
        return f"{'organization_role' if fields['organization_id'] else 'role'}.{change}"

    def event_data(self, change: str, fields: JsonObject) -> JsonObject:
        if fields["organization_id"]:
            return {**without(fields, "id"), "object": "organization_role"}
        return without(fields, "id", "organization_id", "name", "description")

    def _find(self, organization_id: str, slug: str) -> JsonObject | None:
        roles = self.where("organization_id", organization_id)
        return next((role for role in roles if role["slug"] == slug), None)


class Invitations(Resource):
    """Invitations, by email, into an organization or none.

    Fields: email, organization_id, inviter_user_id, role_slug, expires_at (in three days). They
    are pending until they are accepted or revoked, or, without an event, expire. `token` and
    `accept_invitation_url` are secrets.
    """

    name = "Invitation"
    kind = "invitation"
    prefix = "invitation"
    path = ("user_management", "invitations")
    required = ("email",)
    defaults = {
        **unset("email", "organization_id", "inviter_user_id", "accepted_user_id", "role_slug"),
        **unset("expires_at", "accepted_at", "revoked_at"),
        "state": "pending",
    }
    references = {"organization_id": "organizations", "accepted_user_id": "users"}
    indexed = ("organization_id",)
    filters = {"email": "email", "organization_id": "organization_id"}
    emitted = ("created", "accepted", "revoked", "resent")
    controls = (*Resource.controls, "accept", "revoke", "resend")

    def accept(
        self, id: str, *, user_id: str | None = None, at: Moment | None = None, emits: bool = True
    ) -> JsonObject:
        """Accept an invitation, without making a membership of it."""
        accepted_at = to_iso(self._state.moment(at))
        changes = {"state": "accepted", "accepted_at": accepted_at, "accepted_user_id": user_id}
        return self._change("accepted", id, changes, at=at, emits=emits)

    def revoke(self, id: str, *, at: Moment | None = None, emits: bool = True) -> JsonObject:
        """Revoke an invitation."""
        changes = {"state": "revoked", "revoked_at": to_iso(self._state.moment(at))}
        return self._change("revoked", id, changes, at=at, emits=emits)

    def resend(self, id: str, *, at: Moment | None = None, emits: bool = True) -> JsonObject:
        """Send an invitation again: it is pending for three more days."""
        changes = {"state": "pending", "expires_at": _in_three_days(self._state.moment(at))}
        return self._change("resent", id, changes, at=at, emits=emits)

    def completed(self, fields: JsonObject, now: int, old: JsonObject) -> JsonObject:
        if "email" in fields and fields.get("expires_at") is None:
            return {**fields, "expires_at": _in_three_days(now)}
        return fields

    def show(self, fields: JsonObject) -> JsonObject:
        is_over = to_milliseconds(fields["expires_at"]) <= self._state.now()
        state = "expired" if fields["state"] == "pending" and is_over else fields["state"]
        return {**self.event_data("", fields), "state": state}

    def event_data(self, change: str, fields: JsonObject) -> JsonObject:
        token = f"token-of-{fields['id']}"
        return {**fields, "token": token, "accept_invitation_url": f"https://fake/{token}"}
