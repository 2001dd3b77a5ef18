"""What the lists can be narrowed down to."""

from typing import Any, ClassVar

from django.contrib import admin
from django.db import models
from django.http import HttpRequest

from orgs.domain.types import (
    EVENT_OUTCOMES,
    EventType,
)
from orgs.models import ExternalIdWriteBack, Organization, OrganizationQuerySet, WorkOSEvent


class _YesNoFilter(admin.SimpleListFilter):
    """Whether an organization is one of those ``matching``, a queryset of the model's."""

    yes: ClassVar[str]
    no: ClassVar[str]

    def matching(self, organizations: OrganizationQuerySet) -> OrganizationQuerySet:
        raise NotImplementedError

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("yes", self.yes), ("no", self.no)]

    def queryset(
        self, request: HttpRequest, queryset: models.QuerySet[Organization]
    ) -> models.QuerySet[Organization]:
        if self.value() not in ("yes", "no"):
            return queryset
        # Not NOT IN: PostgreSQL can't make an anti-join of that, and it is slow on many rows.
        same = self.matching(Organization.objects.filter(pk=models.OuterRef("pk")))
        matches = models.Exists(same)
        return queryset.filter(matches if self.value() == "yes" else ~matches)


class LinkedFilter(_YesNoFilter):
    title, parameter_name = "link", "linked"
    yes, no = "Linked to WorkOS", "Not linked"

    def matching(self, organizations: OrganizationQuerySet) -> OrganizationQuerySet:
        return organizations.linked()


class DisabledFilter(_YesNoFilter):
    title, parameter_name = "state", "disabled"
    yes, no = "Disabled", "Not disabled"

    def matching(self, organizations: OrganizationQuerySet) -> OrganizationQuerySet:
        return organizations.disabled()


class WriteBackFilter(_YesNoFilter):
    title, parameter_name = "write-back", "write_back"
    yes, no = "Write-back pending", "No write-back pending"

    def matching(self, organizations: OrganizationQuerySet) -> OrganizationQuerySet:
        return organizations.awaiting_write_back()


class OutcomeFilter(admin.SimpleListFilter):
    title, parameter_name = "outcome", "outcome"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        outcomes = [(outcome.value, outcome.value.capitalize()) for outcome in EVENT_OUTCOMES]
        return [("unseen", "Announced, not yet seen"), *outcomes]

    def queryset(
        self, request: HttpRequest, queryset: models.QuerySet[WorkOSEvent]
    ) -> models.QuerySet[WorkOSEvent]:
        if self.value() == "unseen":
            return queryset & WorkOSEvent.objects.announced_and_unseen()
        return queryset.filter(outcome=self.value()) if self.value() in EVENT_OUTCOMES else queryset


class AnnouncementFilter(admin.SimpleListFilter):
    """Webhooks that were lost, and webhooks whose events were."""

    title, parameter_name = "webhook", "webhook"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [
            ("none", "Listed, but no webhook came"),
            ("alone", "A webhook came, but it was never listed"),
        ]

    def queryset(
        self, request: HttpRequest, queryset: models.QuerySet[WorkOSEvent]
    ) -> models.QuerySet[WorkOSEvent]:
        match self.value():
            case "none":
                return queryset & WorkOSEvent.objects.unannounced()
            case "alone":
                return queryset & WorkOSEvent.objects.missing()
        return queryset


class TypeFilter(admin.SimpleListFilter):
    """The types that are followed; asking the ledger which there are would read all of it."""

    title, parameter_name = "type", "type"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [
            *((event_type.value, event_type.value) for event_type in EventType),
            ("other", "other"),
        ]

    def queryset(
        self, request: HttpRequest, queryset: models.QuerySet[WorkOSEvent]
    ) -> models.QuerySet[WorkOSEvent]:
        if self.value() == "other":
            return queryset.exclude(type__in=list(EventType))
        return queryset.filter(type=self.value()) if self.value() in list(EventType) else queryset


class WaitingFilter(admin.SimpleListFilter):
    title, parameter_name = "state", "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("waiting", "Waiting for the next attempt"), ("conflict", "Conflict, for a person")]

    def queryset(
        self, request: HttpRequest, queryset: models.QuerySet[ExternalIdWriteBack]
    ) -> models.QuerySet[ExternalIdWriteBack]:
        match self.value():
            case "conflict":
                return queryset & ExternalIdWriteBack.objects.conflicts()
            case "waiting":
                return queryset.filter(next_attempt_at__isnull=False)
        return queryset
