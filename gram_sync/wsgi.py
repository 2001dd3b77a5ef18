"""The web process's entry point, for gunicorn and other WSGI servers."""

import logging
import os

from django.core.wsgi import get_wsgi_application

from orgs.conf import described

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gram_sync.settings")

application = get_wsgi_application()

logging.getLogger("orgs.web").info("the web process starts: %s", described())
