"""Keeps secrets out of logs and error pages, whatever put them there."""

import os
from collections.abc import Iterator
from contextlib import suppress
from urllib.parse import quote, unquote, urlsplit

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.html import escape
from django.utils.safestring import SafeString
from django.views.debug import ExceptionReporter


def redact(text: str) -> str:
    """Return ``text`` with every configured secret replaced by asterisks."""
    # Shorter values are no secrets, and would mask harmless text everywhere.
    forms = {form for secret in _secrets() if len(secret) >= 6 for form in _forms(str(secret))}
    # Longest first: one may contain another.
    for form in sorted(forms, key=len, reverse=True):
        text = text.replace(form, "********")
    return text


class RedactingExceptionReporter(ExceptionReporter):
    """Django's error page and mail, without secrets: it hides settings, but not variables."""

    def get_traceback_html(self) -> SafeString:
        return SafeString(redact(super().get_traceback_html()))

    def get_traceback_text(self) -> SafeString:
        return SafeString(redact(super().get_traceback_text()))


def _secrets() -> Iterator[str]:
    # If no setting can be read, there is no secret, and it is that which is to be logged.
    with suppress(ImproperlyConfigured):
        yield from (settings.WORKOS_SYNC["API_KEY"], *settings.WORKOS_SYNC["WEBHOOK_SECRETS"])
        yield str(settings.DATABASES["default"].get("PASSWORD") or os.getenv("PGPASSWORD", ""))
        yield unquote(urlsplit(settings.Q_CLUSTER.get("redis", "")).password or "")
        # Last: Django raises for an empty one as soon as it is read.
        yield settings.SECRET_KEY


def _forms(secret: str) -> Iterator[str]:
    """As it is, in a URL, in a connection string, in a ``repr``, and any of these in HTML."""
    in_quotes = secret.replace("\\", "\\\\").replace("'", "\\'")
    for form in (secret, quote(secret, safe=""), in_quotes, repr(secret)[1:-1]):
        yield from (form, escape(form), escape(repr(form)[1:-1]))
