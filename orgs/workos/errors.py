"""Defines the errors of calls to WorkOS. Compare their kinds: two texts of one cause may differ."""

from orgs.domain.status import ReadError


class WorkOSError(Exception):
    """WorkOS could not be asked, or did not answer usefully. Trying again later may help.

    ``retry_after`` is how many seconds to wait before that, if it is known.
    """

    kind = ReadError.NOT_UNDERSTOOD

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class NotConfigured(WorkOSError):
    """There is no API key to ask with."""

    kind = ReadError.KEY_MISSING


class Misconfigured(WorkOSError):
    """No client can be built from the settings and the environment, whatever WorkOS does."""

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
    """A success that is not one (HTML, a truncated body, a page without a list), or a 404 that is
    not WorkOS's own."""


class Refused(WorkOSError):
    """Any other 4xx: WorkOS understood the request and does not accept it."""

    def __init__(self, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.code = code


class NotFound(Refused):
    """A 404 of WorkOS's own: there is no such object, or no such route in this environment."""


class ExternalIdConflict(Exception):
    """WorkOS has another ``external_id`` for the organization, or another organization for ours."""
