# `make help` lists what there is. Everything sets itself up first: python3, make and git are all it takes.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps
LOCKED := --require-hashes --only-binary :all:
TESTS ?= tests
JOBS ?= $(shell echo $$(( $$(nproc 2>/dev/null || echo 2) + 1 )))  # a third of their time tests wait

.PHONY: help install install-dev demo demo-web docs up test test-long check audit bench bench-all mutation build lock clean

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/.run: requirements/run.txt requirements/build.txt pyproject.toml
	@echo "Setting up $(VENV) (about half a minute, once) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) $(LOCKED) -r requirements/run.txt
	@$(PIP) $(LOCKED) -r requirements/build.txt
	@$(PIP) --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.run requirements/dev.txt
	@echo "Adding the test tools ..."
	@$(PIP) $(LOCKED) -r requirements/dev.txt
	@touch $@

# An environment of its own that sees the other's packages, too: what it needs is of no use elsewhere.
$(VENV)-mutation/.done: $(VENV)/.dev requirements/mutation.txt
	@echo "Setting up $(VENV)-mutation ..."
	@$(BIN)/python -m venv $(VENV)-mutation
	@$(VENV)-mutation/bin/python -m pip install --quiet --disable-pip-version-check --no-deps $(LOCKED) -r requirements/mutation.txt
	@$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
	  > "$$($(VENV)-mutation/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/beside.pth"
	@touch $@

install: $(VENV)/.run ## Create .venv with .venv/bin/restante

install-dev: $(VENV)/.dev ## The same, with the test tools

demo: install ## One prompt through the HTTP API: answer, receipt, stop (offline)
	@$(BIN)/restante demo

demo-web: install ## One prompt with a web search, answered by Gemini (GEMINI_API_KEY; about four cents)
	@$(BIN)/restante demo --web-search

up: install ## Serve on 127.0.0.1:8000 (with GEMINI_API_KEY if set, else --offline)
	@if [ -n "$${GEMINI_API_KEY:-}$${GEMINI_API_KEY_FILE:-}$${RESTANTE_PROVIDER:-}" ]; then \
	  echo "make up: a provider is configured, so its models answer."; exec $(BIN)/restante up; \
	else \
	  echo "make up: no GEMINI_API_KEY, so the offline demonstration model answers (restante up --offline)."; \
	  exec $(BIN)/restante up --offline; \
	fi

test: install-dev ## The test suite (real PostgreSQL, real model, real HTTP)
	@$(BIN)/python -m pytest -n $(JOBS) --dist loadfile -m "not long" $(TESTS)

test-long: install-dev ## The long suites too: chaos, many seeds, a million rows, a soak of 20 minutes
	@$(BIN)/python -m pytest $(TESTS) $(if $(DATABASE_URL),--database-url "$(DATABASE_URL)") \
	  $(if $(DATABASE_CRASH),--database-crash "$(DATABASE_CRASH)")

check: install-dev ## ruff, mypy --strict, import-linter
	@$(BIN)/ruff format --check src tests bench
	@$(BIN)/ruff check src tests bench
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

audit: ## Whether a locked package has a known hole; says so where that cannot be asked
	@$(PYTHON) -m tests.security.audit

bench: install-dev ## What it costs: accept, end to end, start latency (two minutes)
	@$(BIN)/python -m bench --quick

bench-all: install-dev ## Everything, beside its peers (installed in a cache of their own), into docs/benchmarks.md
	@$(BIN)/python -m bench --all --peers --write

mutation: $(VENV)-mutation/.done ## Mistakes made on purpose in the code of money, each found by a test (hours; goes on where it was)
	@PYTHONPATH=src:. $(VENV)-mutation/bin/python -m tests.mutation $(MUTATION)

docs: install-dev ## The documentation on 127.0.0.1:8001, built strictly, anew as you write
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve --strict --dev-addr 127.0.0.1:8001

build: install-dev ## A wheel and an sdist in dist/
	@$(BIN)/python -m build --no-isolation --outdir dist .

lock: ## Compile requirements/*.txt anew (uv in a throw-away environment)
	@$(PYTHON) -m venv $(VENV)-lock
	@$(VENV)-lock/bin/python -m pip install --quiet --disable-pip-version-check uv
	@cd requirements && for name in run build dev fuzz mutation; do \
	  ../$(VENV)-lock/bin/uv pip compile $$name.in --excludes excludes.txt --universal --python-version 3.11 \
	    --generate-hashes --no-emit-index-url --no-header --no-annotate --quiet --output-file $$name.txt; done
	@rm -rf $(VENV)-lock

clean: ## Remove what was built
	@rm -rf $(VENV) $(VENV)-mutation mutants dist site .mypy_cache .pytest_cache .ruff_cache
