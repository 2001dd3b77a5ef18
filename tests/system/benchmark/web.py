"""The URLs of the benchmark's web process: the project's own, and the view beside which it is
measured. One gunicorn serves both, so their set-up is the same."""

from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.urls import include, path
from django.views.decorators.csrf import csrf_exempt

from orgs.workos import tolerant_json

#: Paths below the root of the web process.
OURS = "webhooks/workos/"
BASELINE = "baseline/"

_INSERT = "INSERT INTO benchmark_webhook (id, type) VALUES (%s, %s)"


@csrf_exempt
def insert_one_row(request: HttpRequest) -> HttpResponse:
    """The least that a webhook's view can do: reads the body, inserts one row, and answers.

    No signature, no lock time-out, no look for a drain, no task; a transaction of one statement.
    """
    event = tolerant_json.loads(request.body)
    with connection.cursor() as cursor:
        cursor.execute(_INSERT, [event["id"], event["event"]])
    return HttpResponse(status=204)


urlpatterns = [path("", include("gram_sync.urls")), path(BASELINE, insert_one_row)]
