# Everything a person or a machine does with this tree. Needs Python 3.11 or newer, make, and the package registry.

PYTHON ?= python3
WORKERS ?= 2
ARGS ?=
REGISTRY ?=
SEEDS ?= 0..100
TAG ?= $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
BASE_IMAGE ?= python:3.11-slim-bookworm

BIN := .venv/bin
INSTALLED := .venv/.installed
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
MAKEFLAGS += --no-print-directory

.DEFAULT_GOAL := help
.PHONY: help setup local test check fmt sim lock sbom audit bench bench-engine bench-replication kill-loop soak fuzz images manifests e2e clean

help: ## Show the targets.
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "make %-17s %s\n", $$1, $$2 }' Makefile

setup: $(INSTALLED) ## Install the locked dependencies and this tree into .venv.

local: $(INSTALLED) ## Run three members on loopback; more in ARGS, for example ARGS="--members 5".
	@$(BIN)/wavekv local $(ARGS)

test: $(INSTALLED) ## Run the checks, then every test that needs no cluster (pytest options in ARGS).
	@status=0; $(MAKE) check || status=1; \
	$(BIN)/python -m pytest -n $(WORKERS) -m "not e2e" $(ARGS) || status=1; \
	exit $$status

check: $(INSTALLED) ## Run linter, formatter check, types and import contracts, all of them; change nothing.
	@failed=""; for tool in "ruff check" "ruff format --check" mypy "lint-imports --no-logo"; do \
		$(BIN)/$$tool || failed="$$failed, $$tool"; \
	done; test -z "$$failed" || { echo "make check: failed: $${failed#, }" >&2; exit 1; }

fmt: $(INSTALLED) ## Format the code and apply the linter's safe fixes.
	@$(BIN)/ruff check --fix --quiet
	@$(BIN)/ruff format

sim: $(INSTALLED) ## Simulate clusters: make sim SEEDS=0..1000 (docs/simulation.md; more in ARGS, for example ARGS="--hours 1000").
	@$(BIN)/python -m tests.simulation --seeds $(SEEDS) $(ARGS)

bench: $(INSTALLED) ## Measure three real members and print a table (options in ARGS).
	@$(BIN)/python -m bench.figures $(ARGS)

bench-engine: $(INSTALLED) ## Measure the disk engine beside redis-server (options in ARGS).
	@$(BIN)/python -m bench.engine $(ARGS)

bench-replication: $(INSTALLED) ## Measure how members keep up with each other (options in ARGS).
	@$(BIN)/python -m bench.replication $(ARGS)

kill-loop: $(INSTALLED) ## Kill a member under load 200 times and check every acknowledged write (options in ARGS).
	@$(BIN)/python -m bench.kill_loop $(ARGS)

soak: $(INSTALLED) ## Run three members among honest and hostile clients: make soak ARGS="--minutes 60".
	@$(BIN)/python -m bench.soak $(ARGS)

e2e: $(INSTALLED) ## Run the tests that need a Kubernetes cluster (docs/end-to-end.md; pytest options in ARGS).
	@$(BIN)/python -m pytest -v -m e2e tests/e2e $(ARGS)

images: ## Build both images: make images REGISTRY=registry.example.org/team (also TAG, BASE_IMAGE); push them yourself.
	@test -n "$(REGISTRY)" || { echo "say where the images belong: make images REGISTRY=registry.example.org/team" >&2; exit 1; }
	@if docker info >/dev/null 2>&1; then tool="docker build"; \
	elif command -v buildah >/dev/null; then tool="buildah build"; \
	else echo "make images needs a running Docker, or buildah" >&2; exit 1; fi; \
	case "$(BASE_IMAGE)" in *@sha256:*) ;; *) echo "the base $(BASE_IMAGE) is not pinned by a digest (docs/supply-chain.md)" >&2 ;; esac; \
	for target in sidecar operator; do \
		$$tool --build-arg BASE_IMAGE=$(BASE_IMAGE) --target $$target --tag $(REGISTRY)/wavekv-$$target:$(TAG) . || exit 1; \
	done

manifests: $(INSTALLED) ## Write manifests/ and the chart's CRD anew, from the code and the chart (needs Helm or Go).
	@$(BIN)/python -m wavekv_operator crd > manifests/crd.yaml
	@cp manifests/crd.yaml charts/wavekv-operator/files/crd.yaml
	@{ printf '%s\n' "# The whole installation, for all namespaces; rendered from the chart by make manifests. Give your registry:" \
		"#   sed 's|REGISTRY/|registry.example.org/team/|' manifests/install.yaml | kubectl apply -f -" \
		"# It lets the operator read and change every Secret of the cluster; the chart's watchNamespaces narrows that." \
		"apiVersion: v1" "kind: Namespace" "metadata:" "  name: wavekv-system" \
		"  labels:" "    pod-security.kubernetes.io/enforce: restricted" && \
	.ci/helm template wavekv-operator charts/wavekv-operator --namespace wavekv-system --kube-version 1.29.0 \
		--set image.repository=REGISTRY/wavekv-operator --set memberImage.repository=REGISTRY/wavekv-sidecar \
		--set watchAllNamespaces=true; \
	} > manifests/install.yaml

fuzz: $(INSTALLED) ## Fuzz what strangers send and store: make fuzz ARGS="--seconds 60" (needs Atheris; docs/fuzzing.md).
	@$(BIN)/python -m tests.fuzz $(ARGS)

lock: ## Compile requirements.lock and what each image takes from it (needs uv).
	@PATH="$(CURDIR)/$(BIN):$$PATH"; \
	command -v uv >/dev/null || { echo "make lock needs uv: $(BIN)/python -m pip install uv" >&2; exit 1; }; \
	compile="uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-header --quiet"; \
	$$compile --all-extras --group dev --output-file requirements.lock && \
	$$compile --no-annotate --constraint requirements.lock --output-file requirements-member.lock && \
	$$compile --no-annotate --constraint requirements.lock --extra operator --output-file requirements-operator.lock

sbom: $(INSTALLED) ## Write what both images are made of, as CycloneDX, to build/sbom.
	@$(BIN)/python .ci/sbom.py --base "$(BASE_IMAGE)"

audit: $(INSTALLED) ## Look up the locked dependencies in a data base of vulnerabilities, where one is reachable.
	@$(BIN)/python .ci/audit.py

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
