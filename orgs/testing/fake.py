"""The fake WorkOS: its state, its HTTP server and its webhook deliveries in one."""

from collections.abc import Sequence
from dataclasses import replace
from email.utils import formatdate
from typing import Final, Self

from .api import Api
from .controls import CONTROL_PATH, Controls, answer_control
from .deliveries import SIX_DELIVERIES, WebhookSender
from .faults import Faults
from .journal import Journal
from .limits import RateLimits
from .messages import Answer, Request
from .organizations import Organizations
from .resources import RESOURCES, Resources
from .server import Server
from .state import OnLostCursor, WorkOSState

THIRTY_DAYS: Final = 30 * 24 * 60 * 60.0


class FakeWorkOS(Controls):
    """A WorkOS of one's own, spoken to over HTTP at `base_url`, as a context or by start and stop.

    Port 0 takes any that is free. Durations are in seconds. `delivery_pauses` are those between
    the deliveries of one webhook, so there is one more of them; more than one `delivery_threads`
    deliver out of order. WorkOS's own limits would be 6,000 requests and 50 deletions a minute.

    Stopped and started again it is the same WorkOS at the same address: an outage.
    """

    def __init__(
        self,
        *,
        api_key: str = "sk_test_fake",
        port: int = 0,
        hold_back: float = 0.0,
        retention: float = THIRTY_DAYS,
        on_lost_cursor: OnLostCursor = "refuse",
        lost_cursor_status: int = 400,
        delivery_pauses: Sequence[float] = SIX_DELIVERIES,
        delivery_timeout: float = 5.0,
        delivery_threads: int = 1,
    ) -> None:
        self.api_key = api_key
        self._port = port
        self._server: Server | None = None
        self._webhooks = WebhookSender(
            pauses=delivery_pauses, timeout=delivery_timeout, threads=delivery_threads
        )
        publish = self._webhooks.publish
        self._state = WorkOSState(hold_back=hold_back, retention=retention, publish=publish)
        self._state.set_lost_cursor(on_lost_cursor, status=lost_cursor_status)
        resources = Resources(self._state)
        self._organizations = resources.of(Organizations)
        for name in RESOURCES:
            setattr(self, name, resources.by_name[name])
        self._api = Api(self._state, resources, api_key)
        self._faults = Faults()
        self._journal = Journal()
        self._limits = RateLimits()

    @property
    def base_url(self) -> str:
        """Where it answers; RuntimeError before the first start if the port is any."""
        if self._port == 0:
            raise RuntimeError("the fake has no address before it is started")
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> Self:
        """Listen and deliver; OSError if the port is taken, RuntimeError if it is running."""
        if self._server is not None:
            raise RuntimeError("the fake is running")
        self._server = Server(self._port, self._respond)
        self._port = self._server.port
        self._server.start()
        self._webhooks.start()
        return self

    def stop(self) -> None:
        """End all connections, deliveries and threads; safe to repeat."""
        if self._server is None:
            return
        self._webhooks.stop()
        self._server.close()
        self._server = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _respond(self, request: Request) -> Answer:
        if request.path.startswith(CONTROL_PATH):
            return answer_control(self, request)
        entry = self._journal.begin(request)
        answer = self._answer(request)
        entry["status"] = answer.status
        date = formatdate(self._state.now() / 1000, usegmt=True)
        return replace(answer, headers={"Date": date, **answer.headers})

    def _answer(self, request: Request) -> Answer:
        if (fault := self._faults.take(request)) is not None:
            return fault.answer(request, self._api.answer, self._wait)
        return self._limits.refuse(request) or self._api.answer(request)

    def _wait(self, seconds: float) -> None:
        if (server := self._server) is not None:
            server.stopping.wait(seconds)
