"""Translates WorkOS's webhooks, and what monitoring asks, into one call of a service each.

No session and no user is read: none of these needs one, and ``healthz`` no database either.
"""

import logging

from django.db import Error as DatabaseUnusable
from django.http import HttpRequest, HttpResponse, JsonResponse, UnreadablePostError
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST, require_safe

from orgs.domain.status import Problem
from orgs.monitoring.metrics import CONTENT_TYPE, exposition
from orgs.services.status import current_status
from orgs.services.webhook import Receipt, receive_webhook

logger = logging.getLogger(__name__)

MAX_BODY_BYTES = 1024 * 1024

_STATUS = {
    Receipt.ACCEPTED: 204,
    Receipt.NOT_AN_EVENT: 400,
    Receipt.NOT_SIGNED: 401,
    # WorkOS tries again later, and by then it may be set.
    Receipt.NOT_CONFIGURED: 503,
}


@csrf_exempt
@require_POST
def workos_webhook(request: HttpRequest) -> HttpResponse:
    """WorkOS's doorbell. Whatever a client sends, the answer is not a 500."""
    length = _announced_length(request)
    if length is None:
        return HttpResponse(status=400)
    if length > MAX_BODY_BYTES:
        return HttpResponse(status=413)
    try:
        body = _body(request)
        if len(body) > MAX_BODY_BYTES:
            return HttpResponse(status=413)
        signature = request.headers.get("WorkOS-Signature", "")
        receipt = receive_webhook(body, signature)
    except UnreadablePostError:
        return HttpResponse(status=400)
    except DatabaseUnusable:
        logger.exception("a webhook could not be taken; WorkOS will send it again")
        return HttpResponse(status=503)
    if receipt is Receipt.NOT_CONFIGURED:
        logger.error("a webhook came, and WORKOS_WEBHOOK_SECRET is not set")
    if receipt is Receipt.NOT_SIGNED and signature:
        # Who sends none has not even tried to be WorkOS.
        logger.warning(
            "a webhook's signature does not fit: WORKOS_WEBHOOK_SECRET is not its endpoint's, this "
            "machine's clock is wrong, or it is forged"
        )
    if receipt is Receipt.NOT_AN_EVENT:
        logger.warning("a webhook is signed, and is no event: WorkOS's dashboard shows what it was")
    return HttpResponse(status=_STATUS[receipt])


@never_cache
@require_safe
def healthz(_: HttpRequest) -> HttpResponse:
    """Whether this process answers."""
    return HttpResponse("ok\n", content_type="text/plain")


@never_cache
@require_safe
def readyz(_: HttpRequest) -> HttpResponse:
    """Whether the mirror is current: 200, or 503 with what is wrong. Warnings alone are 200."""
    status = current_status()
    answer = {"ready": status.is_ready, "problems": [_told(p) for p in status.problems]}
    return JsonResponse(answer, status=200 if status.is_ready else 503)


@never_cache
@require_safe
def metrics(_: HttpRequest) -> HttpResponse:
    """The figures for Prometheus; what is wrong alone, if that is why there are none."""
    status = current_status()
    return HttpResponse(exposition(status.problems, status.figures), content_type=CONTENT_TYPE)


def _told(problem: Problem) -> dict[str, str]:
    # Without its detail, which may hold ids: anyone may ask.
    return {
        "code": problem.code,
        "severity": problem.severity,
        "sentence": problem.sentence,
        "remedy": problem.remedy,
    }


def _announced_length(request: HttpRequest) -> int | None:
    """The body's length in bytes; None if it isn't a number, on which Django would raise."""
    try:
        return int(request.META.get("CONTENT_LENGTH") or 0)
    except ValueError:
        return None


def _body(request: HttpRequest) -> bytes:
    """The body. Django takes one that comes in chunks, without a length, for an empty one."""
    if "CONTENT_LENGTH" in request.META or not request.META.get("wsgi.input_terminated"):
        return request.body
    try:
        chunked: bytes = request.META["wsgi.input"].read(MAX_BODY_BYTES + 1)
    except Exception as error:
        # Each server has exceptions of its own for chunks that are none.
        raise UnreadablePostError(*error.args) from error
    return chunked
