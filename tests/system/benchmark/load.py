"""Posts webhooks in an open loop: each at its time, whether or not earlier ones are answered.

A closed loop would send less while the server is slow, and so hide what its clients would see.
"""

import itertools
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from urllib.parse import urlsplit

from orgs.testing import sign
from tests.processes import status_of

_THREADS = 16


@dataclass(frozen=True, slots=True)
class Answered:
    """The status, and how long after its time the webhook was answered."""

    status: int | None
    seconds: float


def post_all(
    url: str, bodies: Sequence[bytes], *, secret: str, rate: float | None = None
) -> list[Answered]:
    """Posts each body, signed now, so many a second; without a rate, as fast as it goes."""
    signature_at = int(time.time() * 1000)
    signed = [(body, sign(secret, body, signature_at)) for body in bodies]
    began_at = time.perf_counter()
    times = (began_at + number / rate if rate else 0.0 for number in itertools.count())
    with ThreadPoolExecutor(_THREADS) as threads:
        return list(threads.map(lambda one: _post(url, *one), zip(signed, times, strict=False)))


def _post(url: str, signed: tuple[bytes, str], due_at: float) -> Answered:
    body, signature = signed
    time.sleep(max(due_at - time.perf_counter(), 0.0))
    began_at = due_at or time.perf_counter()
    address = urlsplit(url)
    headers = {"Content-Type": "application/json", "WorkOS-Signature": signature}
    # A connection each, as from many clients: one that is kept may be closed under a request.
    status = status_of(address.port or 80, "POST", address.path, body, headers)
    return Answered(status, time.perf_counter() - began_at)
