"""The suite. Nobody's .env may lead it, or what it starts, to a database or a WorkOS."""

import os

os.environ["ENV_FILE"] = os.devnull
