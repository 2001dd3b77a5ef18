"""The resources of the fake beside organizations, by the names that its controls have."""

from collections.abc import Mapping
from typing import Final

from .clock import Moment
from .directory_sync import Connections, Directories, DirectoryGroups, DirectoryUsers, Domains
from .messages import Answer, Refused
from .organizations import Organizations
from .people import Invitations, Memberships, Roles, Users
from .resource import Resource, ResourceT
from .state import WorkOSState

RESOURCES: Final[Mapping[str, type[Resource]]] = {
    "users": Users,
    "memberships": Memberships,
    "roles": Roles,
    "invitations": Invitations,
    "connections": Connections,
    "directories": Directories,
    "directory_users": DirectoryUsers,
    "directory_groups": DirectoryGroups,
    "domains": Domains,
}

_OF_ORGANIZATIONS: Final = (
    "memberships",
    "roles",
    "invitations",
    "connections",
    "directories",
    "domains",
)
"""What is deleted with an organization, in this order."""


class Resources:
    """All resources; each finds the others here."""

    def __init__(self, state: WorkOSState, organizations: Organizations) -> None:
        self.organizations = organizations
        self.by_name = {name: kind(state, self) for name, kind in RESOURCES.items()}
        self._by_path = {resource.path: resource for resource in self.by_name.values()}
        organizations.delete_dependents = self._delete_of_organization

    def of(self, kind: type[ResourceT]) -> ResourceT:
        """Return the resource of a class."""
        return next(one for one in self.by_name.values() if isinstance(one, kind))

    def check_exists(self, kind: str, identifier: str) -> None:
        """Refuse (404) the id of something that does not exist."""
        if kind == "organizations":
            self.organizations.get(identifier)
        else:
            self.by_name[kind].fetch(identifier)

    def answer(self, segments: list[str], query: Mapping[str, str]) -> Answer:
        """Answer a GET of a resource; Refused (404) if there is no such route."""
        roles = self.of(Roles)
        match segments:
            case ["authorization", "roles", *slug] if len(slug) < 2:
                return roles.answer("", *slug)
            case ["authorization", "organizations", organization_id, "roles", *slug] if (
                len(slug) < 2
            ):
                return roles.answer(organization_id, *slug)
            case ["organization_domains"]:
                pass  # they are listed inside organizations alone
            case _:
                if (listed := self._by_path.get(tuple(segments))) is not None:
                    return Answer.of_page(listed.page(query))
                if (single := self._by_path.get(tuple(segments[:-1]))) is not None:
                    return Answer.of_json(single.fetch(segments[-1]))
        raise Refused(404, "not_found", "Not Found")  # as the official emulator has it

    def _delete_of_organization(self, organization_id: str, at: Moment | None, emits: bool) -> None:
        for name in _OF_ORGANIZATIONS:
            resource = self.by_name[name]
            resource.delete_where("organization_id", organization_id, at=at, emits=emits)
