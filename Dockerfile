# One image for the web process, the worker (python manage.py sync_worker) and commands
# (python manage.py migrate --noinput). It has no embedded PostgreSQL: DATABASE_URL names one.
FROM python:3.13-slim

WORKDIR /srv/gram-sync
ENV PYTHONUNBUFFERED=1

COPY requirements.txt ./
RUN pip install --no-cache-dir --require-hashes --requirement requirements.txt
COPY manage.py ./
COPY orgs orgs
COPY gram_sync gram_sync
# The file system may be read-only from here on.
RUN python -m compileall -q orgs gram_sync && DEBUG=true python manage.py check

USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s CMD ["python", "-c", "import http.client; web = http.client.HTTPConnection('localhost', 8000, timeout=2); web.request('GET', '/healthz'); raise SystemExit(web.getresponse().status != 200)"]
CMD ["gunicorn", "gram_sync.wsgi", "--config", "python:gram_sync.gunicorn", "--bind", "0.0.0.0:8000"]
