"""Webhooks: who signed them, and which event they announce."""

import hmac
import json
import time

import pytest

from orgs.domain.naming import content_id
from orgs.testing import sign
from orgs.workos import is_signed, is_well_formed_signature, parse_announcement

NOW = 1_800_000_000_000
BODY = b'{"id": "event_1"}'


def signed(body: bytes = BODY, *, later: int = 0) -> str:
    return sign("whsec_right", body, NOW + later)


SIGNED, RIGHT = signed(), ("whsec_right",)


@pytest.fixture(autouse=True)
def _now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: NOW / 1000)


@pytest.mark.parametrize(
    ("body", "signature", "secrets", "expected"),
    [
        pytest.param(BODY, SIGNED, RIGHT, True, id="right"),
        pytest.param(BODY, SIGNED, ("whsec_old", "whsec_right"), True, id="one of two secrets"),
        pytest.param(b"\xff", signed(b"\xff"), RIGHT, True, id="no text"),
        pytest.param(BODY, SIGNED, (), False, id="no secret"),
        pytest.param(BODY, SIGNED, ("whsec_wrong",), False, id="another secret"),
        pytest.param(BODY + b" ", SIGNED, RIGHT, False, id="another body"),
        pytest.param(BODY, SIGNED.replace("t=18", "t=17"), RIGHT, False, id="another time"),
        pytest.param(BODY, signed(later=-180_000), RIGHT, True, id="3 minutes"),
        pytest.param(BODY, signed(later=-180_001), RIGHT, False, id="too old"),
        pytest.param(BODY, signed(later=180_001), RIGHT, False, id="too new"),
    ],
)
def test_is_signed(body: bytes, signature: str, secrets: tuple[str, ...], expected: bool) -> None:
    assert is_signed(body, signature, secrets) is expected


@pytest.mark.parametrize(
    "signature",
    [
        pytest.param("", id="none"),
        pytest.param(SIGNED.replace(", ", ","), id="no blank"),
        pytest.param(SIGNED + "\n", id="a line more"),
        pytest.param(f"t={NOW}, v1={'é' * 64}", id="not ASCII"),
        pytest.param(f"t={'٣' * 13}, v1={'0' * 64}", id="other digits"),
        pytest.param(f"t={'9' * 400}, v1={'0' * 64}", id="a time without end"),
        pytest.param(f"t=, v1={'0' * 64}", id="no time"),
        pytest.param(f"t={NOW}, v1={'0' * 63}", id="short"),
    ],
)
def test_a_header_that_is_no_signature_signs_nothing(signature: str) -> None:
    assert not is_well_formed_signature(signature)
    assert not is_signed(BODY, signature, ("whsec_right",))


def test_a_wrong_signature_may_be_well_formed() -> None:
    assert is_well_formed_signature(sign("whsec_wrong", BODY, NOW))


def test_nothing_but_the_constant_time_comparison_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    signatures = [sign(secret, BODY, NOW) for secret in ("whsec_right", "whsec_wrong")]

    def verdicts(comparison: bool) -> list[bool]:
        monkeypatch.setattr(hmac, "compare_digest", lambda *_: comparison)
        return [is_signed(BODY, signature, ("whsec_right",)) for signature in signatures]

    assert verdicts(comparison=True) == [True, True]
    assert verdicts(comparison=False) == [False, False]


def an_event(**fields: object) -> bytes:
    return json.dumps({"id": "event_1", "event": "x", **fields}).encode()


ANNOUNCED = ("event_1", "x", "organization", None, None)
CREATED = "organization.created"
ACME = ("event_1", CREATED, "organization", "org_1", "org_1")
ENDLESS = b'{"id": "event_1", "event": "x", "data": %s}' % (b"[" * 9_000 + b"]" * 9_000)
#: In place of an id that can't be a key: as in the stream.
HASHED = (content_id(an_event(id="e" * 300)), *ANNOUNCED[1:])


@pytest.mark.parametrize(
    ("body", "announcement"),
    [
        pytest.param(an_event(event=CREATED, data={"id": "org_1"}), ACME, id="an event"),
        pytest.param(an_event(), ANNOUNCED, id="no data"),
        pytest.param(an_event(data={"id": "o" * 300}), ANNOUNCED, id="an endless id"),
        pytest.param(
            an_event(event="e" * 300), ("event_1", "e" * 300, *ANNOUNCED[2:]), id="its type"
        ),
        pytest.param(an_event(id="e" * 300), HASHED, id="an endless id of the event"),
        pytest.param(ENDLESS, ANNOUNCED, id="endless data"),
    ],
)
def test_a_webhooks_body_announces(body: bytes, announcement: tuple[str | None, ...]) -> None:
    announced = parse_announcement(body)

    assert announced is not None
    assert announced.event is not None
    about = (announced.resource, announced.workos_id, announced.workos_organization_id)
    assert (announced.event.id, announced.event.type, *about) == announcement


def test_what_is_no_event_announces_nothing() -> None:
    no_json = (b"", b"{", b"\xff\xfe", b"[" * 100_000, b"1" * 5_000)
    no_id = (b"[]", b'{"event": "x"}', an_event(id="a\0"))
    no_type = (b'{"id": "event_1"}', an_event(event="\0"))

    for body in (*no_json, *no_id, *no_type):
        assert parse_announcement(body) is None, body[:20]
