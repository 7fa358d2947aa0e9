# make run             the service, on http://127.0.0.1:8000 unless HOST and PORT say otherwise
# make demo            the service with fake data, and an app that uses it, on http://127.0.0.1:8001
# make test            all tests, on SQLite and on PostgreSQL
# make test-fast       without PostgreSQL and slow tests, in less than a minute
# make test-reference  the fast tests of the resources, with the reference renderer
# make clients         the tests of the TypeScript client; needs Node.js 20 or later
# make sdks            generate SDKs in four languages, compile them, and use each (3 to 10 minutes)
# make bench           compare the speed of the service with that of other servers (about 15 minutes)
# make check           lint, types, imports, and whether openapi.yaml is current

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
FLASK := $(BIN)/flask --app wsgi
# Variables of another project or of the shell that would change what the commands do.
unexport $(filter FLASK_% PIP_CONSTRAINT PIP_DRY_RUN PIP_PREFIX PIP_PYTHON PIP_REQUIREMENT PIP_ROOT PIP_TARGET \
	PIP_USER PYTHONHOME PYTHONINSPECT PYTHONOPTIMIZE PYTHONPATH PYTHONSAFEPATH PYTHONWARNINGS, $(.VARIABLES))
export FLASK_SKIP_DOTENV := 1
# Flask would read .env in this folder or above it, in UTF-8 only. api/config.py reads the one in this folder.
SKIP_DOTENV = $(BIN)/python -c "import site; open(site.getsitepackages()[0] + '/microblog.pth', \
	'w').write('import os; os.environ[\'FLASK_SKIP_DOTENV\'] = \'1\'')"
BENCH := .venv-bench
SDK_TOOLS := .venv-sdks
RESOURCES := $(patsubst api/%/routes.py,%,$(wildcard api/*/routes.py))
# A lock file lists everything: with --no-deps, exactly that is installed and no newer release.
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps --requirement
PIP_CHECK := -m pip check --quiet --disable-pip-version-check

.PHONY: run demo test test-fast test-reference clients sdks bench check format openapi lock clean

run: $(VENV)/run
	@$(FLASK) db upgrade
	@exec $(FLASK) serve

demo: $(VENV)/run
	@exec env -u FLASK_APP -u FLASK_DEBUG $(BIN)/python -m examples.demo

test: $(VENV)/test
	$(BIN)/pytest --cov --cov-report=term

test-fast: $(VENV)/test
	$(BIN)/pytest --fast

test-reference: $(VENV)/test
	RENDERER=reference $(BIN)/pytest --fast $(addprefix tests/,$(RESOURCES)) tests/rendering

clients: $(VENV)/run
	cd clients/typescript && npm ci --no-audit --no-fund && npm test

# SDKS="go java" chooses some of them.
sdks: $(VENV)/test $(SDK_TOOLS)/installed
	@$(BIN)/python -m sdks.run $(SDKS)

bench: $(BENCH)/installed
	@$(BENCH)/bin/python -m benchmarks.bench

check: $(VENV)/test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(FLASK) openapi --output $(VENV)/openapi.yaml
	diff openapi.yaml $(VENV)/openapi.yaml || { echo "openapi.yaml is not current: run make openapi"; exit 1; }

format: $(VENV)/test
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

openapi: $(VENV)/run
	$(FLASK) openapi --output openapi.yaml
	$(BIN)/python clients/python/generate_operations.py

# The newest versions that pyproject.toml allows, for every platform, by hash.
lock: $(VENV)/test
	$(BIN)/uv pip compile --quiet --universal --no-header --generate-hashes --python-version 3.11 \
		pyproject.toml --output-file requirements.lock --upgrade
	$(BIN)/uv pip compile --quiet --universal --no-header --generate-hashes --python-version 3.11 \
		pyproject.toml --extra test --output-file requirements-test.lock --upgrade
	$(BIN)/uv pip compile --quiet --universal --no-header --generate-hashes --python-version 3.11 \
		pyproject.toml --extra bench --output-file requirements-bench.lock --upgrade
	$(BIN)/uv pip compile --quiet --universal --no-header --generate-hashes --python-version 3.11 \
		sdks/requirements.txt --output-file sdks/requirements.lock --upgrade

clean:
	rm -rf $(VENV) $(BENCH) $(SDK_TOOLS) sdks/build clients/typescript/node_modules clients/typescript/dist \
		.mypy_cache .pytest_cache .ruff_cache .import_linter_cache .coverage .hypothesis

$(VENV)/python:
	@test -w . || { echo "Cannot write in this folder: $(CURDIR)"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Microblog needs Python 3.11 or later; $(PYTHON) is $$($(PYTHON) --version 2>&1)." \
			"Name another one: make run PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/run: requirements.lock | $(VENV)/python
	@echo "Installing what the service needs ..."
	@$(BIN)/python $(PIP_INSTALL) requirements.lock
	@$(BIN)/python $(PIP_CHECK)
	@$(SKIP_DOTENV)
	@touch $@

$(VENV)/test: requirements-test.lock | $(VENV)/run
	@echo "Installing what the tests need ..."
	@$(BIN)/python $(PIP_INSTALL) requirements-test.lock
	@$(BIN)/python $(PIP_CHECK)
	@touch $@

$(BENCH)/installed: requirements-bench.lock | $(VENV)/python
	@echo "Installing what the comparisons need ..."
	@$(BIN)/python -m venv $(BENCH)
	@$(BENCH)/bin/python $(PIP_INSTALL) requirements-bench.lock
	@$(BENCH)/bin/python $(PIP_CHECK)
	@touch $@

$(SDK_TOOLS)/installed: sdks/requirements.lock | $(VENV)/python
	@echo "Installing the generators of SDKs ..."
	@$(BIN)/python -m venv $(SDK_TOOLS)
	@$(SDK_TOOLS)/bin/python $(PIP_INSTALL) sdks/requirements.lock
	@$(SDK_TOOLS)/bin/python $(PIP_CHECK)
	@touch $@
