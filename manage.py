#!/usr/bin/env python
"""Django's command line for gram-sync."""

import os
import sys

from django.core.exceptions import ImproperlyConfigured
from django.core.management import execute_from_command_line
from django.db import InterfaceError, OperationalError


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gram_sync.settings")
    try:
        execute_from_command_line(sys.argv)
    except ImproperlyConfigured as error:
        sys.exit(f"gram-sync is not configured: {error}")
    except (OperationalError, InterfaceError) as error:
        sys.exit(f"The database can't be used: {' '.join(str(error).split())}")


if __name__ == "__main__":
    main()
