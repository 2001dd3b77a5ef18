"""The cells: one configuration of a host project each, and what is to become of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

#: The mirror's part of INSTALLED_APPS alone.
_BARE = """
INSTALLED_APPS = ["django.contrib.postgres", "django_q", "orgs"]
MIDDLEWARE = TEMPLATES = []
"""

_AUTH = "django.contrib.auth.middleware"

_IMPORTS = """
from django.conf.urls.i18n import i18n_patterns
from django.contrib import admin
from django.urls import include, path

"""

_URLS = """
urlpatterns = [path("admin/", admin.site.urls), path("mirror/", include("orgs.urls"))]
"""

_URLS_WITHOUT_ADMIN = """
from django.urls import include, path

urlpatterns = [path("mirror/", include("orgs.urls"))]
"""

_ROUTER = """
class Router:
    \"\"\"Only the shop's own app is elsewhere.\"\"\"

    def db_for_read(self, model, **hints):
        return "other" if model._meta.app_label == "shop" else None

    db_for_write = db_for_read

    def allow_migrate(self, db, app_label, **hints):
        return (db == "other") == (app_label == "shop")
"""

OTHER_SQLITE = """
sqlite = "django.db.backends.sqlite3"
DATABASES["other"] = {"ENGINE": sqlite, "NAME": BASE_DIR / "other.sqlite3"}
"""

_PERSON = """
import uuid

from django.contrib.auth.models import AbstractBaseUser, BaseUserManager, PermissionsMixin
from django.db import models


class People(BaseUserManager):
    def create_superuser(self, email):
        return self.create(email=email, is_staff=True, is_superuser=True)


class Person(AbstractBaseUser, PermissionsMixin):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    email = models.TextField(unique=True)
    is_staff = models.BooleanField(default=False)
    is_active = True
    objects = People()
    USERNAME_FIELD = "email"
"""

_FORMATS = """
DATE_FORMAT = r"j \\d\\e F"
DATETIME_FORMAT = "P, j. F Y"
SHORT_DATETIME_FORMAT = "y/n/j"
DECIMAL_SEPARATOR = "·"
THOUSAND_SEPARATOR = "\\N{NO-BREAK SPACE}"
NUMBER_GROUPING = (3, 2, 0)
FIRST_DAY_OF_WEEK = 6
"""


_DUMMY_CACHE = "django.core.cache.backends.dummy.DummyCache"

_HASHED = """
from django.conf import global_settings

hashed = "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"
STORAGES = {**global_settings.STORAGES, "staticfiles": {"BACKEND": hashed}}
"""

_ADMIN = """
from django.contrib import admin
from django.contrib.admin.apps import AdminConfig

class Site(admin.AdminSite):
    def __init__(self):
        super().__init__(name="backoffice")

class Config(AdminConfig):
    default_site = "shop.admin.Site"
"""


@dataclass(frozen=True, slots=True)
class Cell:
    """A configuration: what is appended to the settings and URLs, and which files there are."""

    name: str
    settings: str = ""
    urls: str = _IMPORTS + _URLS
    files: Mapping[str, str] = field(default_factory=dict)
    prepare: str = ""
    """A command of manage.py, before the project is used."""
    prefix: str = "/mirror/"
    finds: frozenset[str] = frozenset()
    """The checks that name what can't be supported; empty: all of it works."""
    packages: tuple[str, ...] = ()
    in_ci: bool = False

    @property
    def has_admin(self) -> bool:
        """Return whether its URLs have the admin."""
        return "admin.site.urls" in self.urls


#: What works: every command, task, view and admin page.
SUPPORTED = [
    Cell("plain", in_ci=True),
    Cell(
        "without the admin",
        'INSTALLED_APPS.remove("django.contrib.admin")\n',
        urls=_URLS_WITHOUT_ADMIN,
        in_ci=True,
    ),
    Cell("nothing but orgs", _BARE, urls=_URLS_WITHOUT_ADMIN),
    Cell("everybody must log in", f'MIDDLEWARE.append("{_AUTH}.LoginRequiredMiddleware")\n'),
    Cell("clocks that change", 'TIME_ZONE = "Europe/Berlin"\n'),
    Cell(
        "far in the east",
        'TIME_ZONE = "Pacific/Chatham"\nDATABASES["default"]["TIME_ZONE"] = "America/St_Johns"\n',
    ),
    Cell(
        "another language",
        'LANGUAGE_CODE = "de"\nUSE_THOUSAND_SEPARATOR = True\n'
        'MIDDLEWARE.insert(2, "django.middleware.locale.LocaleMiddleware")\n',
    ),
    Cell("right to left", 'LANGUAGE_CODE = "ar"\n'),
    Cell("not translated", "USE_I18N = False\n"),
    Cell(
        "formats of its own",
        'FORMAT_MODULE_PATH = "shop.formats"\nUSE_THOUSAND_SEPARATOR = True\n',
        files={"shop/formats/__init__.py": "", "shop/formats/en/formats.py": _FORMATS}
        | {"shop/formats/en/__init__.py": ""},
    ),
    Cell(
        "two template engines",
        'TEMPLATES[0]["OPTIONS"]["string_if_invalid"] = "INVALID %s"\n'
        'other = "django.template.backends.dummy.TemplateStrings"\n'
        'TEMPLATES.insert(0, {"BACKEND": other, "APP_DIRS": True})\n',
    ),
    Cell("no cache", f'CACHES = {{"default": {{"BACKEND": "{_DUMMY_CACHE}"}}}}\n'),
    Cell(
        "sessions in cookies",
        'SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"\n'
        'MESSAGE_STORAGE = "django.contrib.messages.storage.cookie.CookieStorage"\n'
        "CSRF_USE_SESSIONS = True\n",
    ),
    Cell(
        "two databases and a router",
        OTHER_SQLITE + 'DATABASE_ROUTERS = ["shop.router.Router"]\n',
        files={"shop/router.py": _ROUTER},
    ),
    Cell("two databases and no router", OTHER_SQLITE),
    Cell("no slashes appended", "APPEND_SLASH = False\n"),
    Cell("below a path", 'FORCE_SCRIPT_NAME = "/app"\n'),
    Cell("small keys", 'DEFAULT_AUTO_FIELD = "django.db.models.SmallAutoField"\n'),
    Cell("development", 'DEBUG = True\nINTERNAL_IPS = ["127.0.0.1"]\n'),
    # In which Django's admin has no word for an ellipsis.
    Cell(
        "another charset",
        'DEFAULT_CHARSET = "latin-1"\nINSTALLED_APPS.remove("django.contrib.admin")\n',
        urls=_URLS_WITHOUT_ADMIN,
    ),
    Cell("hashed static files", _HASHED, prepare="collectstatic --no-input"),
    Cell(
        "users of its own",
        'INSTALLED_APPS.append("people")\nAUTH_USER_MODEL = "people.Person"\n',
        files={"people/models.py": _PERSON},
        prepare="makemigrations people",
    ),
    Cell(
        "an admin of its own",
        'INSTALLED_APPS[0] = "shop.admin.Config"\n',
        files={"shop/admin.py": _ADMIN},
    ),
    Cell(
        "below a language and a name space",
        'MIDDLEWARE.insert(2, "django.middleware.locale.LocaleMiddleware")\n',
        urls=_IMPORTS
        + 'urlpatterns = i18n_patterns(path("back/office/", admin.site.urls)) + [path("hooks/", '
        'include("orgs.urls", namespace="mirror"))]\n',
        prefix="/hooks/",
    ),
    Cell(
        "the queue in another database",
        'DATABASES["queue"] = DATABASES["default"] | {"TEST": {"MIRROR": "default"}}\n'
        'Q_CLUSTER["orm"] = "queue"\n',
    ),
    Cell("no key, in development", 'DEBUG = True\nWORKOS_SYNC["ENVIRONMENT_ID"] = None\n'),
]

#: What can't be supported, and the check that says so.
UNSUPPORTED = [
    Cell(
        "SQLite",
        'DATABASES["default"] = {"ENGINE": "django.db.backends.sqlite3", "NAME": "db"}\n',
        finds=frozenset({"orgs.E011"}),
        in_ci=True,
    ),
    Cell(
        "psycopg2",
        'os.environ["PSYCOPG_IMPL"] = "c"  # which is not installed\n',
        packages=("psycopg2-binary",),
        finds=frozenset({"orgs.E020"}),
    ),
    Cell("no time zones", "USE_TZ = False\n", finds=frozenset({"orgs.E021"})),
    Cell(
        "a router for orgs",
        OTHER_SQLITE + 'DATABASE_ROUTERS = ["shop.router.Router"]\n',
        files={"shop/router.py": _ROUTER.replace('"shop"', '"orgs"')},
        finds=frozenset({"orgs.E022"}),
    ),
    Cell(
        "keys that are None",
        'WORKOS_SYNC |= {"API_KEY": None, "WEBHOOK_SECRETS": None}\n',
        finds=frozenset({"orgs.E002", "orgs.E003"}),
    ),
    Cell(
        "a request in a transaction",
        'DATABASES["default"]["ATOMIC_REQUESTS"] = True\n',
        finds=frozenset({"orgs.E012"}),
    ),
]
