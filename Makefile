# Everything a person or a machine does with this tree. Needs Python 3.11 or newer, make, and the package registry.

PYTHON ?= python3
WORKERS ?= 2
ARGS ?=

BIN := .venv/bin
INSTALLED := .venv/.installed
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
MAKEFLAGS += --no-print-directory

.DEFAULT_GOAL := help
.PHONY: help setup local test check fmt lock bench e2e clean

help: ## Show the targets.
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## / { printf "make %-7s %s\n", $$1, $$2 }' Makefile

setup: $(INSTALLED) ## Install the locked dependencies and this tree into .venv.

local: $(INSTALLED) ## Run three members on loopback; more in ARGS, for example ARGS="--members 5".
	@$(BIN)/wavekv local $(ARGS)

test: $(INSTALLED) ## Run the checks, then every test that needs no cluster (pytest options in ARGS).
	@status=0; $(MAKE) check || status=1; \
	$(BIN)/python -m pytest -n $(WORKERS) -m "not e2e" $(ARGS) || status=1; \
	exit $$status

check: $(INSTALLED) ## Run linter, formatter check, types and import contracts; change nothing.
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

fmt: $(INSTALLED) ## Format the code and apply the linter's safe fixes.
	@$(BIN)/ruff check --fix --quiet
	@$(BIN)/ruff format

bench: $(INSTALLED) ## Measure three real members and print a table (options in ARGS).
	@$(BIN)/python -m bench.figures $(ARGS)

e2e: ## Run the tests that need a Kubernetes cluster.
	@echo "end-to-end tests come with the operator; this version has none" >&2; exit 1

lock: ## Compile requirements.lock from pyproject.toml (needs uv).
	@PATH="$(CURDIR)/$(BIN):$$PATH"; \
	command -v uv >/dev/null || { echo "make lock needs uv: $(BIN)/python -m pip install uv" >&2; exit 1; }; \
	uv pip compile pyproject.toml --all-extras --group dev --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --no-header --quiet --output-file requirements.lock

clean: ## Remove caches and build output; .venv and the data of `make local` stay.
	@rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	@find sidecar operator tests bench -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp is written last, so an interrupted set-up is done again; the lock or the project changing makes it stale.
$(INSTALLED): requirements.lock pyproject.toml
	@command -v "$(PYTHON)" >/dev/null || { \
		echo "$(PYTHON) was not found; name a Python 3.11 or newer: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("WaveKV needs Python 3.11 or newer and $(PYTHON) is " \
		+ sys.version.split()[0] + "; name another: make PYTHON=/path/to/python3")'
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) cannot make virtual environments; install its venv package (on Debian python3-venv)" >&2; exit 1; }
	@test -x $(BIN)/python || { echo "creating .venv"; $(PYTHON) -m venv .venv; }
	@echo "installing the locked dependencies"
	@$(PIP) --require-hashes -r requirements.lock
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@
