# make run             the service, on http://127.0.0.1:8000 unless HOST and PORT say otherwise
# make demo            the service with fake data, and an app that uses it, on http://127.0.0.1:8001
# make test            all tests, on SQLite and on PostgreSQL
# make test-fast       without PostgreSQL and slow tests, in about a minute
# make test-reference  the fast tests of the resources, with the reference renderer
# make clients         the tests of the TypeScript client; needs Node.js 20 or later
# make sdks            generate SDKs in four languages, compile them, and use each (3 to 10 minutes)
# make bench           compare the speed of the service with that of other servers (about 25 minutes)
# make contract        lint the contract, compare it with the last release, and the service with it (about 3 minutes)
# make check           lint, types, imports, and whether openapi.yaml is current

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
FLASK := $(BIN)/flask --app wsgi
# Variables of another project or of the shell that would change what the commands do, or how fast.
unexport $(filter FLASK_% PIP_CONSTRAINT PIP_DRY_RUN PIP_PREFIX PIP_PYTHON PIP_REQUIREMENT PIP_ROOT PIP_TARGET \
	PIP_USER PYTHONDONTWRITEBYTECODE PYTHONHOME PYTHONINSPECT PYTHONOPTIMIZE PYTHONPATH PYTHONSAFEPATH \
	PYTHONWARNINGS, $(.VARIABLES))
export FLASK_SKIP_DOTENV := 1
# Flask would read .env in this folder or above it, in UTF-8 only. api/config.py reads the one in this folder.
SKIP_DOTENV = $(BIN)/python -c "import site; open(site.getsitepackages()[0] + '/microblog.pth', \
	'w').write('import os; os.environ[\'FLASK_SKIP_DOTENV\'] = \'1\'')"
COVERAGE := --cov --cov-report=term
CONTRACT_TOOLS := tests/contract/tools
NODE_TOOLS := $(CONTRACT_TOOLS)/node_modules
# How long `make contract` sends random requests, for each database.
FUZZ_SECONDS ?= 120
FASTIFY := benchmarks/compare/fastify
RESOURCES := $(patsubst api/%/routes.py,%,$(wildcard api/*/routes.py))
# A lock file lists everything: with --no-deps, exactly that is installed and no newer release.
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps --requirement
LOCK := $(BIN)/uv pip compile --quiet --universal --no-header --generate-hashes --python-version 3.11 --upgrade
PIP_CHECK := -m pip check --quiet --disable-pip-version-check

.PHONY: run demo test test-fast test-reference clients sdks bench contract check format openapi lock clean

run: $(VENV)/run
	@$(FLASK) db upgrade
	@exec $(FLASK) serve

demo: $(VENV)/run
	@exec env -u FLASK_APP -u FLASK_DEBUG $(BIN)/python -m examples.demo

test: $(VENV)/test
	$(BIN)/pytest $(COVERAGE)

test-fast: $(VENV)/test
	$(BIN)/pytest --fast

test-reference: $(VENV)/test
	RENDERER=reference $(BIN)/pytest --fast $(addprefix tests/,$(RESOURCES)) tests/rendering

clients: $(VENV)/run
	cd clients/typescript && npm ci --no-audit --no-fund && npm test

# SDKS="go java" chooses some of them.
sdks: $(VENV)/test $(VENV)-sdks/installed
	@$(BIN)/python -m sdks.run $(SDKS)

bench: $(VENV)-bench/installed $(FASTIFY)/node_modules
	@$(VENV)-bench/bin/python -m benchmarks.bench

contract: $(VENV)/test $(VENV)-contract/installed $(NODE_TOOLS)/installed
	FUZZ_SECONDS=$(FUZZ_SECONDS) $(BIN)/pytest $(wildcard $(CONTRACT_TOOLS)/check_*.py)

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
	$(LOCK) pyproject.toml --output-file requirements.lock
	$(LOCK) pyproject.toml --extra tracing --output-file requirements-tracing.lock
	$(LOCK) pyproject.toml --extra test --extra tracing --output-file requirements-test.lock
	$(LOCK) pyproject.toml --extra bench --output-file requirements-bench.lock
	$(LOCK) --group contract --output-file requirements-contract.lock
	$(LOCK) --group sdks --output-file requirements-sdks.lock

clean:
	rm -rf $(VENV) $(VENV)-* $(NODE_TOOLS) $(FASTIFY)/node_modules sdks/build clients/typescript/node_modules clients/typescript/dist \
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

# The tools of `make bench`, `make contract` and `make sdks`.
$(VENV)-%/installed: requirements-%.lock | $(VENV)/python
	@echo "Installing the tools of make $* ..."
	@$(BIN)/python -m venv $(@D)
	@$(@D)/bin/python $(PIP_INSTALL) requirements-$*.lock
	@$(@D)/bin/python $(PIP_CHECK)
	@touch $@

$(NODE_TOOLS)/installed: $(CONTRACT_TOOLS)/package-lock.json
	@npm ci --prefix $(CONTRACT_TOOLS) --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

# Without Node, Fastify is left out. better-sqlite3 is compiled, with the headers beside Node, if npm finds no
# binary of it.
$(FASTIFY)/node_modules: $(FASTIFY)/package-lock.json
	@! node --version >/dev/null 2>&1 || { echo "Installing Fastify ..."; \
		npm_config_nodedir=$$(dirname $$(dirname $$(command -v node))) \
		npm ci --prefix $(FASTIFY) --no-audit --no-fund --loglevel=error || rm -rf $@; }
