"""Shows the resources other than organizations, by their declarations and models."""

import json
from collections.abc import Iterator
from typing import Any, ClassVar

from django.contrib import admin
from django.contrib.admin.utils import label_for_field, lookup_field
from django.db.models import Q
from django.http import HttpRequest
from django.utils.html import format_html

from orgs.admin.base import Rows, TableAdmin, choice_filter, indexed, link, shown, unindexed
from orgs.conf import sync_settings
from orgs.db.resources import model_of
from orgs.domain.naming import is_storable, storable
from orgs.domain.resources import PLAIN, Resource
from orgs.models import Organization, WorkOSUser

#: The states that can be chosen in a list; rows in any other are under "other".
_STATES = {
    "organization_domain": "pending verified failed",
    "connection": "active inactive validating",
    "directory": "active linked inactive unlinked",
    "membership": "active inactive pending",
    "invitation": "pending accepted expired revoked",
    "directory_user": "active inactive suspended",
}

#: Text columns, beside keys, that a search looks into.
_SEARCHED = {"domain", "name", "slug", "email", "first_name", "last_name", "external_id"}

_ON_ORGANIZATION = ("organization_domain", "connection", "directory", "membership", "role")
_MOST_SHOWN = 50


class ResourceAdmin(TableAdmin):
    """The table of one resource: read-only, and in the admin's index if the settings name it."""

    resource: ClassVar[Resource]
    prefetch = "workos_organization"
    ordering = ["workos_id"]
    search_help_text = "Key, name or address, or a part of one; or the whole id of an organization"

    def get_model_perms(self, request: HttpRequest) -> dict[str, bool]:
        is_followed = self.resource.name in sync_settings().resources
        return super().get_model_perms(request) if is_followed else {}

    def get_queryset(self, request: HttpRequest) -> Rows:
        return super().get_queryset(request).defer("data")

    def get_search_results(self, request: HttpRequest, queryset: Rows, search_term: str) -> Any:
        term = search_term.strip()
        if is_storable(term):
            names = {*indexed(self.model), "workos_organization"}
            keys = [f.attname for f in self.opts.fields if f.name in names]
            same = Q(*[(key, term) for key in keys], _connector=Q.OR)
            if (found := queryset.filter(same)).exists():
                return found.order_by(unindexed("workos_id")), False
        return super().get_search_results(request, queryset, search_term)

    @admin.display(description="organization")
    def organization(self, row: Any) -> str:
        if (found := row.workos_organization) is None:
            return shown(row.workos_organization_id)
        return link("organization", found.pk, found.name)

    @admin.display(description="data")
    def indented_data(self, row: Any) -> str:
        text = storable(json.dumps(row.data, indent=2, ensure_ascii=False))
        return format_html('<pre class="payload" tabindex="0">{}</pre>', shown(text))


def _admin_of(resource: Resource) -> type[ResourceAdmin]:
    """Return the table of a resource; its columns are the model's."""
    model = model_of(resource)
    rows = model.objects  # type: ignore[attr-defined]
    typed = [f.name for f in model._meta.fields if f.attname in resource.columns]
    columns = ["workos_id", "organization", *typed, resource.deleted_column]
    elsewhere = {*columns, "workos_organization", "data"}
    others = [f.name for f in model._meta.fields if f.name not in elsewhere]
    present = {resource.deleted_column: None}
    deleted = ("yes", "Yes", rows.exclude(**present)), ("no", "No", rows.filter(**present))
    filters = [choice_filter("deleted", *deleted)]
    if states := _STATES.get(resource.name, "").split():
        column = "status" if "status" in resource.columns else "state"
        other = rows.exclude(**{f"{column}__in": states})
        chosen = [(state, state, rows.filter(**{column: state})) for state in states]
        filters.append(choice_filter(column, *chosen, ("other", "other", other)))
    declared = {
        "resource": resource,
        "columns": " ".join(columns),
        "sections": {"": " ".join([*columns, *others]), "What WorkOS shows": "indented_data"},
        "list_filter": filters,
        "search_fields": ["workos_id", *(name for name in typed if name in _SEARCHED)],
    }
    return type(f"{model.__name__}Admin", (ResourceAdmin,), declared)


for _resource in PLAIN.values():
    admin.site.register(model_of(_resource), _admin_of(_resource))


def resources_of(organization: Organization, request: HttpRequest) -> Iterator[dict[str, Any]]:
    """Yield what belongs to an organization, of the tables that the person may see."""
    for name in _ON_ORGANIZATION:
        table: Any = admin.site.get_model_admin(model_of(PLAIN[name]))
        if not organization.workos_id or not table.has_view_permission(request):
            continue
        present = {table.resource.deleted_column: None, "workos_organization": organization}
        found = table.get_queryset(request).filter(**present).order_by(unindexed("workos_id"))
        rows = list(found[: _MOST_SHOWN + 1])
        if not rows and name not in sync_settings().resources:
            continue
        columns = [column for column in table.list_display[:-1] if column != "organization"]
        headings: list[Any] = [label_for_field(column, table.model, table) for column in columns]
        cells = [
            [link(table.opts.model_name, row.pk)]
            + [lookup_field(column, row, table)[2] for column in columns[1:]]
            for row in rows[:_MOST_SHOWN]
        ]
        if name == "membership" and request.user.has_perm("orgs.view_workosuser"):
            users = WorkOSUser.objects.in_bulk([row.workos_user_id for row in rows])
            headings.append("email")
            for row, of_row in zip(rows, cells, strict=False):
                of_row.append(shown(getattr(users.get(row.workos_user_id), "email", None)))
        has_more = len(rows) > _MOST_SHOWN
        yield {"opts": table.opts, "headings": headings, "rows": cells, "has_more": has_more}
