"""The page of a database that does not answer: where to look, and no traceback."""

import logging

from django.db import Error, InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.utils.deprecation import MiddlewareMixin

from orgs.domain.naming import one_line

logger = logging.getLogger(__name__)

#: A standby or a read-only database; no grant; a table or a column that a migration is yet to make.
_STATES = frozenset({"25006", "42501", "42P01", "42703"})


class DatabaseUnavailableMiddleware(MiddlewareMixin):
    """Answer 503 where the database did not give what a view needs."""

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        state = getattr(exception.__cause__, "sqlstate", None)
        is_about_all = isinstance(exception, Error) and state in _STATES
        if not (is_about_all or isinstance(exception, OperationalError | InterfaceError)):
            return None
        logger.error("%s could not be answered: %s", one_line(request.path), one_line(exception))
        # Without PostgreSQL's own words: who sees it may not be logged in. Without the request: its
        # context processors ask the database.
        return HttpResponse(render_to_string("unavailable.html"), status=503)
