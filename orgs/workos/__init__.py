"""Talks to WorkOS. Alone knows its SDK; never touches the database."""

from orgs.workos.client import *  # noqa: F403 - until the package is split
