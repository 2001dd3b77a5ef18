"""Tags and filters of the admin's pages."""

import re
from datetime import datetime
from typing import Any

from django import template
from django.db import connection
from django.template.context import RequestContext
from django.utils.html import conditional_escape
from django.utils.safestring import SafeString, mark_safe

from orgs.domain.status import in_words
from orgs.services.status import current_status

register = template.Library()


@register.inclusion_tag("admin/orgs/sync_status_line.html", takes_context=True)
def sync_status_line(context: RequestContext) -> dict[str, Any]:
    """One line that says how the sync is, for people who may look at the cursor."""
    # Django imports every app's tags, in projects without its admin too.
    from orgs.admin.base import may_view  # noqa: PLC0415
    from orgs.admin.status import headline  # noqa: PLC0415

    request = context["request"]
    if not may_view(request, "synccursor"):
        return {}
    # Under ATOMIC_REQUESTS the page has a transaction already, and the status wants its own.
    is_alone = not connection.in_atomic_block
    return {"is_shown": True, "headline": headline(current_status()) if is_alone else None}


@register.filter
def ago(moment: datetime | None, now: datetime) -> str:
    """How long before ``now`` that was, or how long after it will be."""
    if moment is None:
        return "never"
    return f"{in_words(now - moment)} ago" if moment <= now else f"in {in_words(moment - now)}"


_MARKED = re.compile(r"`([^`]+)`|\*([^*]+)\*")


@register.filter
def marked(text: str) -> SafeString:
    """``text`` with commands in backquotes and *words of the admin's* as HTML."""
    html = _MARKED.sub(
        lambda match: f"<code>{match[1]}</code>" if match[1] else f"<em>{match[2]}</em>",
        conditional_escape(text),
    )
    return mark_safe(html)  # noqa: S308 - escaped before the tags were put in
