"""Tags and filters of the admin's pages."""

import json
import re
from contextlib import suppress
from datetime import datetime
from typing import Any

from django import template
from django.db import connection
from django.http import HttpRequest
from django.template.context import RequestContext
from django.urls import NoReverseMatch, reverse
from django.utils.html import conditional_escape, format_html
from django.utils.safestring import SafeString, mark_safe

from orgs.domain.naming import storable
from orgs.domain.status import Severity, Status, in_words
from orgs.monitoring import runbook_section
from orgs.services.status import current_status

register = template.Library()

_MARKED = re.compile(r"`+(?:sql\n)?(?P<code>[^`]+)`+|\*\*(?P<strong>[^*]+)\*\*|\*(?P<em>[^*]+)\*")


def _may_view(request: HttpRequest, model: str, app: str = "orgs") -> bool:
    return any(request.user.has_perm(f"{app}.{verb}_{model}") for verb in ("view", "change"))


@register.inclusion_tag("admin/orgs/sync_status_line.html", takes_context=True)
def sync_status_line(context: RequestContext) -> dict[str, Any]:
    """One line that says how the sync is, for people who may look at the cursor."""
    if not _may_view(context["request"], "synccursor"):
        return {}
    # Under ATOMIC_REQUESTS the page has a transaction already, and the status wants its own.
    is_alone = not connection.in_atomic_block
    return {"is_shown": True, "status": current_status() if is_alone else None}


@register.filter
def headline(status: Status) -> str:
    """Return the status in a few words."""
    errors = sum(problem.severity is Severity.ERROR for problem in status.problems)
    counts = ((errors, "act on now"), (len(status.problems) - errors, "look into"))
    parts = [f"{n} thing{'' if n == 1 else 's'} to {what}" for n, what in counts if n]
    return ", ".join(parts) or "current, and nothing is wrong"


@register.simple_tag(takes_context=True)
def rows(context: RequestContext, text: Any, model: str, query: str, app: str = "orgs") -> str:
    """Return a link to these rows of a table; the text alone if the person may not see them."""
    with suppress(NoReverseMatch):  # the admin does not show that table
        if _may_view(context["request"], model, app):
            url = reverse(f"admin:{app}_{model}_changelist")
            return format_html('<a href="{}?{}">{}</a>', url, query, text)
    return conditional_escape(text)


@register.filter
def ago(moment: datetime | None, now: datetime) -> str:
    """Return how long before ``now`` that was, or how long after it will be."""
    if moment is None:
        return "never"
    return f"{in_words(now - moment)} ago" if moment <= now else f"in {in_words(moment - now)}"


@register.filter
def marked(text: str) -> SafeString:
    """Return ``text`` as HTML, with `commands`, *words of the admin's* and **strong ones** marked
    as such."""
    html = _MARKED.sub(
        lambda match: f"<{match.lastgroup}>{match[match.lastgroup or 0]}</{match.lastgroup}>",
        conditional_escape(text),
    )
    return mark_safe(html)  # noqa: S308 - escaped before the tags were put in


@register.filter
def runbook(code: str) -> list[str]:
    """Return the paragraphs and items of lists of the runbook's section about a problem."""
    return re.split(r"\n\n|\n(?=- )", runbook_section(code))


@register.filter
def indented(payload: str) -> str:
    """Return JSON to be read by a person; as it is, if it isn't JSON or is nested too deeply."""
    with suppress(ValueError, RecursionError):
        payload = json.dumps(json.loads(payload), indent=2, ensure_ascii=False)
    # JSON can hold a lone surrogate, a page can't.
    return storable(payload)
