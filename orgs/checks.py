"""System checks: what has to be set before the mirror can run for real."""

from collections.abc import Iterator, Sequence
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, register
from django.core.exceptions import ImproperlyConfigured

from orgs.conf import sync_settings
from orgs.workos import is_header_text


@register("orgs")
def required_settings(
    app_configs: Sequence[AppConfig] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """With DEBUG off, nothing may be missing that the mirror can't do without."""
    return [] if settings.DEBUG else list(_missing())


def _missing() -> Iterator[CheckMessage]:
    current = sync_settings()
    if not _has_secret_key():
        yield Error(
            "SECRET_KEY is not set.",
            hint="Set it to 50 or more random characters, the same for web, worker and commands; "
            "or set DEBUG=true to try things out.",
            id="orgs.E001",
        )
    if not current.api_key:
        yield Error(
            "WORKOS_API_KEY is not set.",
            hint="Set it to the secret key of the environment: WorkOS dashboard, API Keys.",
            id="orgs.E002",
        )
    elif not is_header_text(current.api_key):
        yield Error(
            "WORKOS_API_KEY holds characters that no key has.",
            hint="Copy it again, without line breaks and quotes: WorkOS dashboard, API Keys.",
            id="orgs.E004",
        )
    if not current.webhook_secrets:
        yield Error(
            "WORKOS_WEBHOOK_SECRET is not set.",
            hint="Set it to the endpoint's signing secret: WorkOS dashboard, Webhooks.",
            id="orgs.E003",
        )


def _has_secret_key() -> bool:
    try:
        return bool(settings.SECRET_KEY)
    except ImproperlyConfigured:
        # Django raises for an empty one as soon as it is read.
        return False
