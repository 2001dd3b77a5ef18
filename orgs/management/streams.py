"""Lets a program end in order where what it prints can't be written."""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from django.core.management.base import BaseCommand


@contextmanager
def guarded_streams() -> Iterator[None]:
    """Run a program that may have been started without standard streams, on a full disk or into a
    pipe that nobody reads. Where its output is lost, exit with 1 and a line that says so."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            # At the start of a program, this file gets the number of the stream. Else the next one
            # that is opened would, and other people's output. Children inherit it.
            stream = open(os.devnull, mode)  # noqa: PTH123, SIM115
            os.set_inheritable(stream.fileno(), True)  # noqa: FBT003
            setattr(sys, name, stream)
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EPIPE):
            raise
        # Python would try once more at the very end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(f"The output can't be written: {error.strerror}")


class GuardedCommand(BaseCommand):
    """A command that ends in order so, whichever project's ``manage.py`` runs it."""

    def run_from_argv(self, argv: list[str]) -> None:
        with guarded_streams():
            # A new one: this one may have been made without streams.
            BaseCommand.run_from_argv(type(self)(), argv)
