# Everything a person does with gram-sync. All that a target needs it makes by itself, in .venv/ and
# .data/; a machine needs Python 3.11 to 3.14 and make. PYTHON=/path/to/python picks another Python.

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
UNFINISHED := $(VENV)/.unfinished

# The whole suite in a few processes, each with a database of its own: four also on fewer processors,
# because tests of processes mostly wait. The browser has a target of its own.
WHOLE := --numprocesses 4 --ignore tests/system/browser

# What would send an installation elsewhere, or other code or settings in here, or have each of many
# processes compile all code anew.
unexport DJANGO_SETTINGS_MODULE PIP_PREFIX PIP_REQUIRE_VIRTUALENV PIP_TARGET PIP_USER \
	PYTHONDONTWRITEBYTECODE PYTHONHOME PYTHONPATH PYTHONSAFEPATH VIRTUAL_ENV

.DEFAULT_GOAL := help
.PHONY: help demo serve run test coverage matrix browser chaos mutants bench lint format requirements stop clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(INSTALLED) ## play a day between a fake WorkOS and the mirror; 0 if both agree
	@$(BIN)/python -m gram_sync.demo

serve: $(INSTALLED) ## the same, then stay, with the admin to look around in
	@$(BIN)/python -m gram_sync.demo --stay

run: $(INSTALLED) ## web and worker against the real WorkOS (WORKOS_API_KEY, WORKOS_WEBHOOK_SECRET)
	@$(BIN)/python -m gram_sync.run

test: $(INSTALLED) ## all tests; with ARGS="tests/unit -x" just those
	@$(BIN)/python -m pytest $(if $(strip $(ARGS)),$(ARGS),$(WHOLE))

coverage: $(INSTALLED) ## unit and integration tests, and the gate: 95 % of lines and branches
	@$(BIN)/python -m pytest --cov $(WHOLE) tests/unit tests/integration

matrix: $(INSTALLED) ## the wheel in other Django projects, over Python 3.11 to 3.14 and Django 5.2 to 6.1
	@MATRIX=1 $(BIN)/python -m pytest tests/system/matrix -p no:randomly

chaos: $(INSTALLED) ## break everything on purpose; with ROUNDS=1000 for long, with SEED=7 a plan again
	@$(BIN)/python -m tests.system.chaos --rounds $(or $(strip $(ROUNDS)),30) \
		$(if $(strip $(SEED)),--seed $(strip $(SEED)))

mutants: $(INSTALLED) ## mutation tests of the rules, and the safety lines of SQL and locks; ONLY=lease some
	@$(if $(strip $(ONLY)),,$(BIN)/mutmut run --max-children 2)
	@$(BIN)/python -m tests.system.mutants $(if $(strip $(ONLY)),--only "$(strip $(ONLY))")

bench: $(INSTALLED) ## how fast it is, beside what it replaces; with ARGS="--only apply --scale 0.1" a part
	@$(BIN)/python -m tests.system.benchmark $(ARGS)

browser: $(INSTALLED) ## the admin in Debian's Chromium; with SCREENSHOTS=folder keeps pictures of it
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null \
		|| command -v google-chrome >/dev/null || { \
		echo "There is no Chromium. On Debian and Ubuntu: apt install chromium" >&2; exit 1; }
	@$(BIN)/python -m pip install --quiet --no-input --disable-pip-version-check \
		--require-hashes --requirement tests/system/browser/requirements.txt
	@$(BIN)/python -m pytest tests/system/browser

# Settings as in production, so that the deployment check has nothing to find. The database is never
# asked: nothing listens on port 1.
lint: export ENV_FILE := /dev/null
lint: export DEBUG := false
lint: export HTTPS_ONLY := true
lint: export ALLOWED_HOSTS := gram.example
lint: export SECRET_KEY := for-the-deployment-check-alone-0123456789-abcdefghijklmnop
lint: export WORKOS_API_KEY := sk_for_the_deployment_check
lint: export WORKOS_WEBHOOK_SECRET := for_the_deployment_check
lint: export DATABASE_URL := postgresql://nobody@127.0.0.1:1/none
lint: $(INSTALLED) ## format, lint, types, borders between modules, migrations, deployment settings
	@$(BIN)/python -m ruff check
	@$(BIN)/python -m ruff format --check
	@$(BIN)/python -m mypy
	@$(BIN)/python -c 'from importlinter.cli import lint_imports_command as run; run()' \
		--no-logo
	@$(BIN)/python -W 'ignore:Got an error checking a consistent migration history' \
		manage.py makemigrations --check --dry-run
	@$(BIN)/python manage.py check --deploy --fail-level WARNING

format: $(INSTALLED) ## format, and fix what lint can fix
	@$(BIN)/python -m ruff check --fix-only
	@$(BIN)/python -m ruff format

# The pins stay as they are unless pyproject.toml or UPGRADE=1 asks for others.
requirements: $(INSTALLED) ## write requirements.txt and requirements-dev.txt from pyproject.toml
	@$(BIN)/python -m pip install --quiet --no-input --disable-pip-version-check uv==0.13.9
	@$(COMPILE) --extra service pyproject.toml -o requirements.txt
	@$(COMPILE) --extra service --extra dev pyproject.toml -o requirements-dev.txt

COMPILE = $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-strip-extras \
	$(if $(UPGRADE),--upgrade)

stop: ## stop the embedded PostgreSQL
	@if [ -f $(INSTALLED) ]; then $(BIN)/python -m gram_sync.embedded_postgres stop; \
		else echo "nothing was set up here, so nothing runs"; fi

clean: stop ## remove .venv/ and caches; what the embedded PostgreSQL holds, in .data/, stays
	@rm -rf $(VENV) .coverage .coverage.* .hypothesis .import_linter_cache .mypy_cache \
		.pytest_cache .ruff_cache htmlcov
	@find . -name .data -prune -o -type d -name __pycache__ -exec rm -rf {} +

# Set-up -------------------------------------------------------------------------------------

# A Python that is gone, or moved, leaves a virtual environment that only looks installed.
ifneq ($(shell $(BIN)/python -c 'print(1)' 2>/dev/null),1)
.PHONY: $(INSTALLED)
endif

# A Python counts only if it runs: a version manager's shim may exist and do nothing but complain. And
# it must be able to make a virtual environment with pip: Debian leaves that to another package. What
# was interrupted half-way is made anew. requirements-dev.txt has all of requirements.txt.
$(INSTALLED): requirements.txt requirements-dev.txt
	@if [ -f $(UNFINISHED) ] || ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
		found= bare=; \
		if [ -n "$$PYTHON" ]; then set -- "$$PYTHON"; \
			else set -- python3.13 python3.14 python3.12 python3.11 python3; fi; \
		for python; do \
			"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 \
				|| continue; \
			if "$$python" -c 'import ensurepip, venv' >/dev/null 2>&1; \
				then found=$$python; break; else bare=$${bare:-$$python}; fi; \
		done; \
		if [ -z "$$found" ] && [ -n "$$bare" ]; then \
			echo "$$bare can't make virtual environments: its venv and ensurepip modules are" \
				"missing. On Debian and Ubuntu: apt install python3-venv" >&2; \
			exit 1; \
		elif [ -z "$$found" ]; then \
			echo "gram-sync needs Python 3.11 or newer, and none of these is one that runs:" \
				"$$*." \
				"If you have one, name it: make PYTHON=/path/to/python …" >&2; \
			exit 1; \
		fi; \
		echo "Making $(VENV) with $$("$$found" --version) …"; \
		rm -rf $(VENV) && mkdir $(VENV) && touch $(UNFINISHED) && "$$found" -m venv $(VENV); \
	fi
	@echo "Installing requirements-dev.txt into $(VENV); the first time may take a minute or two …"
	@touch $(UNFINISHED)
	@$(BIN)/python -m pip install --quiet --no-input --disable-pip-version-check \
		--require-hashes --requirement requirements-dev.txt
	@mv $(UNFINISHED) $@ && touch $@
