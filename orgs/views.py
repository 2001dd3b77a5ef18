"""Translates WorkOS's webhooks, and what monitoring asks, into one call of a service each.

No session and no user is read: none of these needs one, and ``healthz`` no database either.
"""

import logging
from datetime import UTC

from django.contrib.auth.decorators import login_not_required
from django.core.exceptions import RequestDataTooBig
from django.db import Error
from django.http import HttpRequest, HttpResponse, JsonResponse, UnreadablePostError
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST, require_safe
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from orgs.db.errors import describe
from orgs.domain.status import Problem
from orgs.monitoring.metrics import StatusCollector
from orgs.services.status import current_status
from orgs.services.webhook import MAX_BODY_BYTES, Receipt, receive_webhook

logger = logging.getLogger(__name__)

_STATUS = {
    Receipt.ACCEPTED: 204,
    Receipt.NOT_AN_EVENT: 400,
    Receipt.NOT_SIGNED: 401,
    # WorkOS tries again later, and by then it may be set.
    Receipt.NOT_CONFIGURED: 503,
}


@login_not_required
@csrf_exempt
@require_POST
def workos_webhook(request: HttpRequest) -> HttpResponse:
    """Take WorkOS's notification that an event exists. Whatever is sent, the answer is no 500."""
    try:
        body = _body(request)
        if body is None:
            return HttpResponse(status=413)
        signature = request.headers.get("WorkOS-Signature", "")
        receipt = receive_webhook(body, signature)
    except UnreadablePostError:
        return HttpResponse(status=400)
    except RequestDataTooBig:  # in chunks, which ASGI has read before
        return HttpResponse(status=413)
    except Error as error:
        said = describe(error)
        logger.error("a webhook could not be stored; WorkOS will send it again: %s", said)  # noqa: TRY400
        return HttpResponse(status=503)
    if receipt is Receipt.NOT_CONFIGURED:
        logger.error("a webhook was refused, because WORKOS_WEBHOOK_SECRET is not set")
    if receipt is Receipt.NOT_SIGNED and signature:
        # Who sends none has not even tried to be WorkOS.
        logger.warning(
            "the signature of a webhook does not match: WORKOS_WEBHOOK_SECRET is not its "
            "endpoint's, this machine's clock is wrong, or it is forged"
        )
    if receipt is Receipt.NOT_AN_EVENT:
        logger.warning("a signed webhook is not an event: WorkOS's dashboard shows what it is")
    return HttpResponse(status=_STATUS[receipt])


@login_not_required
@never_cache
@require_safe
def healthz(_: HttpRequest) -> HttpResponse:
    """Answer that this process answers."""
    return HttpResponse("ok\n", content_type="text/plain")


@login_not_required
@never_cache
@require_safe
def readyz(_: HttpRequest) -> HttpResponse:
    """Answer 200 if the mirror is current, else 503 with what is wrong; 200 for warnings alone."""
    status = current_status()
    problems = [_as_json(problem) for problem in status.problems]
    answer = {"ready": status.is_ready, "problems": problems}
    return JsonResponse(answer, status=200 if status.is_ready else 503)


@login_not_required
@never_cache
@require_safe
def metrics(_: HttpRequest) -> HttpResponse:
    """Answer the figures for Prometheus; what is wrong alone, if that is why there are none."""
    figures = generate_latest(StatusCollector(current_status()))
    # What is written is this too, and every Prometheus reads it.
    return HttpResponse(figures, content_type=CONTENT_TYPE_PLAIN_0_0_4)


def _as_json(problem: Problem) -> dict[str, str | None]:
    # Without its detail, which may hold ids: anyone may ask.
    return {
        "code": problem.code,
        "severity": problem.severity,
        "since": problem.since.astimezone(UTC).isoformat() if problem.since else None,
        "sentence": problem.sentence,
        "remedy": problem.remedy,
        "runbook": f"orgs/monitoring/runbook.md#{problem.code}",
    }


def _body(request: HttpRequest) -> bytes | None:
    """Return the body, or None if it is too long. Raises ``UnreadablePostError``.

    Django takes a body that comes in chunks, without a length, for an empty one.
    """
    try:
        length = int(request.META.get("CONTENT_LENGTH") or 0)
    except ValueError as error:
        raise UnreadablePostError(*error.args) from error
    if length > MAX_BODY_BYTES:
        return None
    if "CONTENT_LENGTH" in request.META or not request.META.get("wsgi.input_terminated"):
        return request.body
    try:
        body: bytes = request.META["wsgi.input"].read(MAX_BODY_BYTES + 1)
    except Exception as error:
        # Each server has exceptions of its own for malformed chunks.
        raise UnreadablePostError(*error.args) from error
    return body if len(body) <= MAX_BODY_BYTES else None
