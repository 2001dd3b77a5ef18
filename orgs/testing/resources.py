"""All resources of the fake, by the names that its controls have, and the routes to them."""

from collections.abc import Mapping
from typing import Final

from .directory_sync import Connections, Directories, DirectoryGroups, DirectoryUsers, Domains
from .messages import Answer, Refused
from .organizations import Organizations
from .people import Invitations, Memberships, Roles, Users
from .resource import Resource, World
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
"""Those that have controls of their own: all but organizations."""


class Resources(World):
    """All resources; each finds the others here."""

    def __init__(self, state: WorkOSState) -> None:
        kinds: Mapping[str, type[Resource]] = {"organizations": Organizations, **RESOURCES}
        self.by_name = {name: kind(state, self) for name, kind in kinds.items()}
        self._by_path = {resource.path: resource for resource in self.by_name.values()}

    def answer(self, segments: list[str], query: Mapping[str, str]) -> Answer:
        """Answer a GET of a resource; Refused (404) if there is no such route."""
        match segments:
            case ["authorization", "roles", *slug] if len(slug) < 2:
                return self.of(Roles).answer("", *slug)
            case ["authorization", "organizations", organization_id, "roles", *slug] if (
                len(slug) < 2
            ):
                return self.of(Roles).answer(organization_id, *slug)
            case ["organizations", "external_id", external_id]:
                return Answer.of_json(self.of(Organizations).fetch_by_external_id(external_id))
            case ["organization_domains"]:
                pass  # they are listed inside organizations alone
            case _:
                if (listed := self._by_path.get(tuple(segments))) is not None:
                    return Answer.of_page(listed.page(query))
                if (single := self._by_path.get(tuple(segments[:-1]))) is not None:
                    return Answer.of_json(single.fetch(segments[-1]))
        raise Refused(404, "not_found", "Not Found")  # as the official emulator has it
