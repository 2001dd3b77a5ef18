"""The page of a database that does not answer: where to look, and no traceback."""

import logging

from django.db import Error, InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse
from django.utils.deprecation import MiddlewareMixin

from orgs.domain.naming import one_line

logger = logging.getLogger(__name__)

# Without PostgreSQL's own words: who sees it may not be logged in.
_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>The database does not answer</title></head>
<body><h1>The database does not answer</h1>
<p>It can't be reached, refuses, or did not answer in time. <a href="/readyz">/readyz</a> says what
is wrong and what to do; the web process's log has PostgreSQL's own words.</p>
<p>If nothing is wrong there, another program may hold a lock on one of Django's own tables:
<code>SELECT pid, application_name, xact_start, query FROM pg_stat_activity
WHERE xact_start &lt; now() - interval '1 minute'</code> shows who.</p></body></html>
"""

#: A standby or a read-only database; no grant; a table or a column that a migration is yet to make.
_STATES = frozenset({"25006", "42501", "42P01", "42703"})


class DatabaseUnavailableMiddleware(MiddlewareMixin):
    """Answer 503 where the database did not give what a view needs."""

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        state = getattr(exception.__cause__, "sqlstate", None)
        is_about_all = isinstance(exception, OperationalError | InterfaceError) or (
            isinstance(exception, Error) and state in _STATES
        )
        if not is_about_all:
            return None
        logger.error("%s could not be answered: %s", one_line(request.path), one_line(exception))
        return HttpResponse(_PAGE, status=503)
