# Everything one does with this project. `make` alone lists the targets.
.DEFAULT_GOAL := help
SHELL := bash
.SHELLFLAGS := -euo pipefail -c

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
# For a soak: its seed, how long its faults go on, and a bug to plant (campaigns/sabotage).
SEED ?= 1
# `make test REDIS=cluster`, `make soak REDIS=cluster`: on a Redis Cluster.
REDIS ?=
MINUTES ?= 2
PLANT ?=
# How many tests run at once, each with servers of its own. A process that dies ends the run: it
# says what it was at, where a replaced one would leave the others waiting.
WORKERS ?= 2
PYTEST := $(BIN)/pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder --max-worker-restart 0

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# One environment for everything; recreated when a lock changes.
$(VENV)/.dev: requirements/dev.lock pyproject.toml
	@$(PYTHON) tools/check_python.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation \
	  --config-settings editable_mode=compat -e .
	@touch $@

# What running needs, without the tools of developers.
$(VENV)/.local: requirements/local.lock pyproject.toml
	@$(PYTHON) tools/check_python.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/local.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation \
	  --config-settings editable_mode=compat -e .
	@touch $@

# What generates human load, beside that.
$(VENV)/.load: requirements/load.lock $(VENV)/.local
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/load.lock
	@touch $@

# What builds the book, beside that.
$(VENV)/.docs: requirements/docs.lock $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/docs.lock
	@touch $@

.PHONY: demo
demo: $(VENV)/.local ## run a whole sale on real servers (ARGS="--buyers 20000 --stock 50", SECURE=1; CLUSTER=1: two of each stage, 4 buckets)
	$(if $(SECURE),SECKILL_LOCAL_SECURE=$(SECURE)) $(if $(CLUSTER),SECKILL_LOCAL_CLUSTER=$(CLUSTER) SECKILL_LOCAL_REPLICAS=$(or $(REPLICAS),2)) $(BIN)/seckill demo $(ARGS)

.PHONY: up
up: $(VENV)/.local ## start the stores and the mesh, and keep them running (REPLICAS=2: two of each; SECURE=1: with mTLS; CLUSTER=1: on a Redis Cluster)
	$(if $(SECURE),SECKILL_LOCAL_SECURE=$(SECURE)) $(if $(CLUSTER),SECKILL_LOCAL_CLUSTER=$(CLUSTER)) $(BIN)/seckill up $(if $(REPLICAS),--replicas $(REPLICAS))

.PHONY: down
down: $(VENV)/.local ## stop what `make up` started; the data stays
	$(BIN)/seckill down

.PHONY: pages
pages: $(VENV)/.local ## build the pages into build/web, for a CDN or SECKILL_EDGE_WEB_DIRECTORY
	$(BIN)/python -m edge.pages build/web

.PHONY: packages
packages: ## install what tests need and no wheel brings: a browser, stores with TLS, Spin (Debian, as root)
	$(PYTHON) -m tools.debian browser stores models

# What cannot be installed is named, and the tests that need it are left out.
.PHONY: test
test: $(VENV)/.dev ## run all tests on servers of their own (ARGS="-k relay"; REDIS=cluster: on a Redis Cluster)
	-@$(PYTHON) -m tools.debian browser stores models
	$(if $(REDIS),SECKILL_TEST_REDIS=$(REDIS)) $(PYTEST) $(ARGS)

.PHONY: test-fast
test-fast: $(VENV)/.dev ## run the tests that take less than ten seconds each
	-@$(PYTHON) -m tools.debian browser stores models
	$(PYTEST) -m "not slow" $(ARGS)

.PHONY: screens
screens: $(VENV)/.dev ## take pictures of the pages into docs/screens (ARGS="yours paid")
	$(PYTHON) -m tools.debian browser fonts
	$(BIN)/python -m tests.pages.screens $(ARGS)

.PHONY: soak
soak: $(VENV)/.dev ## run faults and buyers drawn from a seed against the whole mesh (MINUTES=2 SEED=7, REDIS=cluster)
	$(BIN)/python -m campaigns.soak --minutes $(MINUTES) --seed $(SEED) --plant "$(PLANT)" $(if $(REDIS),--redis $(REDIS))

.PHONY: soak-check
soak-check: $(VENV)/.dev ## plant every known bug and see that the checker catches it (half an hour)
	$(BIN)/python -m campaigns.soak.check $(ARGS)

.PHONY: proof
proof: $(VENV)/.dev ## see that each fault test fails when what it guards is off (half an hour; ARGS="relay")
	$(BIN)/python -m campaigns.proof $(ARGS)

.PHONY: bench
bench: $(VENV)/.dev ## measure against baselines, write bench/results/latest.json (needs Go; ARGS="--quick")
	$(BIN)/python -m bench $(ARGS)

PROFILE ?= spike
USERS ?= 500
RATE ?= 20
.PHONY: flow
flow: $(VENV)/.load ## run human visits through the edge of `make up` (PROFILE=spike USERS=500, PROFILE=tail RATE=20)
	$(BIN)/python -m bench.flow $(PROFILE) $(if $(filter tail,$(PROFILE)),$(RATE),$(USERS)) $(ARGS)

.PHONY: attacks
attacks: $(VENV)/.dev ## let one address attack, see what an honest buyer notices; writes bench/results/attacks.json
	$(BIN)/python -m bench.attacks $(ARGS)

.PHONY: bots
bots: $(VENV)/.dev ## let people and attackers come to sales, gate off and on; writes bench/results/bots.json
	$(BIN)/python -m bench.bots $(ARGS)

.PHONY: preflight-check
preflight-check: $(VENV)/.dev ## compare forecasts of `seckill preflight` with real runs; writes bench/results/preflight.json
	$(BIN)/python -m bench.preflight $(ARGS)

.PHONY: scale-check
scale-check: $(VENV)/.dev ## compare the scale model with real runs of one and two of each; writes bench/results/scale.json
	$(BIN)/python -m bench.scale $(ARGS)

.PHONY: capacity
capacity: $(VENV)/.dev ## say what 100,000 attempts a second take, by the scale model (ARGS="--attempts 50000 --price 0.04")
	$(BIN)/python -m bench.scale.capacity $(ARGS)

.PHONY: pages-cost
pages-cost: $(VENV)/.dev ## let fifty browsers look at pages, see what it costs purchases; writes bench/results/pages.json
	$(BIN)/python -m bench.pages $(ARGS)

.PHONY: k8s-test
k8s-test: $(VENV)/.dev ## install the chart on the cluster of KUBECONFIG, sell while it breaks (docs/kubernetes.md)
	$(BIN)/python -m campaigns.k8s $(ARGS)

.PHONY: compose-test
compose-test: $(VENV)/.dev ## bring compose.yaml up with stand-ins for the stores, buy, restart, take it down
	$(BIN)/python -m campaigns.compose $(ARGS)

.PHONY: lint
lint: $(VENV)/.dev verify ## check style, types, layers, contracts, generated files, chart and edge
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/buf lint
	$(BIN)/python -m tools.check_breaking
	$(BIN)/python -m tools.check_chart
	$(BIN)/python -m tools.check_edge
	$(BIN)/python -m tools.check_observability

.PHONY: format
format: $(VENV)/.dev ## bring the code into shape
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

.PHONY: generate
generate: $(VENV)/.dev ## generate the stubs from protos/, docs/reference and dashboards from the code
	$(BIN)/python -m tools.generate
	$(BIN)/python -m tools.reference
	$(BIN)/python -m tools.observability.dashboards

.PHONY: verify
verify: $(VENV)/.dev ## fail if a generated file is stale, or a setting or metric has no meaning
	$(BIN)/python -m tools.generate --check
	$(BIN)/python -m tools.reference --check
	$(BIN)/python -m tools.observability.dashboards --check

.PHONY: docs
docs: $(VENV)/.docs ## build the book into build/site, strictly: every link leads somewhere
	$(BIN)/python -m tools.book
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

.PHONY: lock
lock: $(VENV)/.dev ## pin the newest versions that requirements/*.in allow
	cd requirements && for set in runtime local dev load docs; do \
	  ../$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	    --no-emit-index-url --no-emit-find-links --no-header $$set.in -o $$set.lock; done

.PHONY: tools
tools: ## build all Go tools into .tools/bin (needs Go); also `make grpcurl`, `make ghz`, `make helm`
	$(PYTHON) -m tools.install

GO_TOOLS := grpcurl ghz helm
.PHONY: $(GO_TOOLS)
$(GO_TOOLS):
	$(PYTHON) -m tools.install $@
