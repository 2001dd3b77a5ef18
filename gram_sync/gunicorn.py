"""How gunicorn serves the web process; GUNICORN_CMD_ARGS can say otherwise."""

import os

from gram_sync.logs import configuration

# Read by what keeps secrets out of its logs; the time-out is the web process's alone.
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gram_sync.settings")
os.environ.setdefault("STATEMENT_TIMEOUT_SECONDS", "15")

# As all of Django's: gunicorn's own would be the only lines that are no JSON.
logconfig_dict = configuration("INFO")

# Requests wait for the database and not for the processor, so threads do; a second process keeps
# answering while one is replaced.
worker_class = "gthread"
workers = 2
threads = 4

# How long requests may take after the signal to stop. WorkOS gives up on one after 5 seconds.
graceful_timeout = 10

# Its place is one for each user: it would be shared by every gunicorn of that user.
control_socket_disable = True
