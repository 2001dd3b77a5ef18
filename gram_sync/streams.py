"""Lets a program end in order where what it prints can't be written."""

import errno
import os
import sys
from collections.abc import Callable
from typing import NoReturn


def run_guarded(main: Callable[[], int | None]) -> NoReturn:
    """Run a program that may have been started without standard streams, on a full disk or into a
    pipe that nobody reads. Exit with what it returns; with a line where its output is lost."""
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            # Else the next file that is opened gets the number, and other people's output.
            os.dup2(os.open(os.devnull, os.O_RDWR), descriptor)
            setattr(sys, name, open(descriptor, "w" if descriptor else "r"))  # noqa: PTH123, SIM115
    try:
        try:
            sys.exit(main())
        finally:
            sys.stdout.flush()
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EPIPE):
            raise
        # Python would try once more at the very end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(f"The output can't be written: {error.strerror}")
