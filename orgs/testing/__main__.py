"""Run a fake WorkOS until SIGTERM or SIGINT; prints its base URL when it is ready."""

import argparse
import math
import signal
from collections.abc import Sequence
from contextlib import suppress
from threading import Event

from .fake import FakeWorkOS


def main(argv: Sequence[str] | None = None) -> None:
    """Serve as the arguments say; exits 2 with a message if they can't be followed."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    if (arguments.webhook_url is None) != (arguments.webhook_secret is None):
        parser.error("--webhook-url and --webhook-secret need each other")
    try:
        workos = FakeWorkOS(
            api_key=arguments.api_key, port=arguments.port, hold_back=arguments.hold_back
        )
        if arguments.webhook_url is not None:
            workos.add_webhook_endpoint(url=arguments.webhook_url, secret=arguments.webhook_secret)
        workos.start()
    except (OSError, ValueError) as error:
        parser.error(str(error))
    stopped = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    print(workos.base_url, flush=True)  # noqa: T201 -- how whoever started it learns the address
    stopped.wait()
    workos.stop()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m orgs.testing", description=__doc__)
    parser.add_argument("--port", type=_port, default=0, help="any free one unless given")
    parser.add_argument("--api-key", type=_text, default="sk_test_fake")
    parser.add_argument("--hold-back", type=_seconds, default=0.0, metavar="SECONDS")
    parser.add_argument("--webhook-url", type=_text, metavar="URL")
    parser.add_argument("--webhook-secret", type=_text, metavar="SECRET")
    return parser


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text} is not a port")
    return int(text)


def _seconds(text: str) -> float:
    with suppress(ValueError):
        seconds = float(text)
        if 0 <= seconds < math.inf:
            return seconds
    raise argparse.ArgumentTypeError(f"{text} is not a number of seconds")


def _text(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("must not be empty")
    return text


if __name__ == "__main__":
    main()
