# Everything one does with this project. `make` alone lists the targets.
.DEFAULT_GOAL := help
SHELL := bash
.SHELLFLAGS := -euo pipefail -c

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
# Of a soak: its seed, how long its faults go on, and a bug to plant (tests/faults/sabotage).
SEED ?= 1
MINUTES ?= 2
PLANT ?=

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# One environment for everything; made anew when a lock changes.
$(VENV)/.dev: requirements/dev.lock pyproject.toml
	@$(PYTHON) tools/check_python.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

# What running needs, without the tools of developers.
$(VENV)/.local: requirements/local.lock pyproject.toml
	@$(PYTHON) tools/check_python.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/local.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

# What generates human load, beside that.
$(VENV)/.load: requirements/load.lock $(VENV)/.local
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/load.lock
	@touch $@

.PHONY: demo
demo: $(VENV)/.local ## run a whole sale on real servers (ARGS="--buyers 20000 --stock 50")
	$(BIN)/seckill demo $(ARGS)

.PHONY: up
up: $(VENV)/.local ## start the stores and the mesh, and keep them running
	$(BIN)/seckill up

.PHONY: down
down: $(VENV)/.local ## stop what `make up` started; the data stays
	$(BIN)/seckill down

.PHONY: test
test: $(VENV)/.dev ## run all tests on servers of their own (ARGS="-k relay")
	$(BIN)/pytest $(ARGS)

.PHONY: test-fast
test-fast: $(VENV)/.dev ## run the tests that take less than ten seconds each
	$(BIN)/pytest -m "not slow" $(ARGS)

.PHONY: soak
soak: $(VENV)/.dev ## faults and buyers drawn from a seed, against the whole mesh (MINUTES=2 SEED=7)
	$(BIN)/python -m tests.soak --minutes $(MINUTES) --seed $(SEED) --plant "$(PLANT)"

.PHONY: soak-check
soak-check: $(VENV)/.dev ## plant every known bug and see that the checker catches it (half an hour)
	$(BIN)/python -m tests.soak.check $(ARGS)

.PHONY: proof
proof: $(VENV)/.dev ## see that each fault test fails when what it guards is off (half an hour; ARGS="relay")
	$(BIN)/python -m tests.faults.proof $(ARGS)

.PHONY: bench
bench: $(VENV)/.dev ## measure against baselines, write bench/results/latest.json (needs Go; ARGS="--quick")
	$(BIN)/python -m bench $(ARGS)

PROFILE ?= spike
USERS ?= 500
RATE ?= 20
.PHONY: flow
flow: $(VENV)/.load ## humans through the edge of `make up` (PROFILE=spike USERS=500, PROFILE=tail RATE=20)
	$(BIN)/python -m bench.flow $(PROFILE) $(if $(filter tail,$(PROFILE)),$(RATE),$(USERS)) $(ARGS)

.PHONY: lint
lint: $(VENV)/.dev verify ## check style, types, contracts, generated files, chart and edge
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/buf lint
	$(BIN)/python -m tools.check_breaking
	$(BIN)/python -m tools.check_chart
	$(BIN)/python -m tools.check_edge

.PHONY: format
format: $(VENV)/.dev ## bring the code into shape
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

.PHONY: generate
generate: $(VENV)/.dev ## generate the stubs from protos/
	$(BIN)/python -m tools.generate

.PHONY: verify
verify: $(VENV)/.dev ## fail where a generated file is stale
	$(BIN)/python -m tools.generate --check

.PHONY: lock
lock: $(VENV)/.dev ## pin the newest versions that requirements/*.in allow
	cd requirements && for set in runtime local dev load; do \
	  ../$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	    --no-emit-index-url --no-emit-find-links --no-header $$set.in -o $$set.lock; done

.PHONY: tools
tools: ## build ghz, grpcurl and helm into .tools/bin (needs Go)
	$(PYTHON) -m tools.install
