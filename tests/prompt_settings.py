"""The project's own settings, as in production, but that a cluster works off the schedules when it
starts: django-q2 does so once it has looked after its processes for 30 seconds, here in one go."""

from gram_sync.settings import *  # noqa: F403
from gram_sync.settings import Q_CLUSTER

Q_CLUSTER["guard_cycle"] = 30
