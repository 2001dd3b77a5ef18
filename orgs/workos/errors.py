"""Defines the errors of calls to WorkOS. Compare their kinds: two texts of one cause may differ."""

from orgs.domain.status import ReadError


class WorkOSError(Exception):
    """WorkOS could not be asked, or did not answer usefully.

    ``retry_after``: seconds to wait before trying again, if known. ``code``: WorkOS's own, if any.
    """

    kind = ReadError.NOT_UNDERSTOOD

    def __init__(
        self, message: str, *, retry_after: float | None = None, code: str | None = None
    ) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.code = code


class NotConfigured(WorkOSError):
    """There is no API key to ask with."""

    kind = ReadError.KEY_MISSING


class Misconfigured(WorkOSError):
    """No request can be sent with these settings and this environment, whatever WorkOS does."""

    kind = ReadError.CLIENT_MISCONFIGURED


class Unavailable(WorkOSError):
    """No answer, a time-out, a 5xx, or a 4xx that is about the moment."""

    kind = ReadError.UNAVAILABLE


class RateLimited(WorkOSError):
    """A 429, the pause that an earlier one asked for, or a request budget that is used up."""

    kind = ReadError.RATE_LIMITED


class Unauthorized(WorkOSError):
    """A 401 or 403: the API key is wrong, revoked, or may not do this."""

    kind = ReadError.KEY_REFUSED


class BrokenAnswer(WorkOSError):
    """Not what was asked for: a 200 of HTML, a page without a list, a gateway's 404."""


class Refused(WorkOSError):
    """Any other 4xx: WorkOS understood the request and does not accept it."""


class NotFound(Refused):
    """A 404 in WorkOS's own words."""


#: Those that would be the same for every object.
SAME_FOR_ALL = NotConfigured, Misconfigured, Unauthorized, RateLimited


class ExternalIdConflict(Exception):
    """WorkOS has another ``external_id`` for the organization, or ours for another organization."""
