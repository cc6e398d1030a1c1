.DEFAULT_GOAL := help
SHELL := bash
# Some machines set it: each process that a test starts would compile the worker, Ansible's plugins and the tests anew.
unexport PYTHONDONTWRITEBYTECODE
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PROGRAMS := $(VENV)/.programs
include make/infra.mk
include make/ci.mk

.PHONY: help
help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

$(READY): requirements/dev.txt requirements/bridge.txt pyproject.toml scripts/setup.sh
	@PYTHON=$(PYTHON) bash scripts/setup.sh $(VENV)
	@touch $@

.PHONY: setup
setup: $(READY) $(INFRA) ## Create .venv with everything that is needed, Ansible too (done by the other targets)

$(PROGRAMS): $(READY) tests/programs.sh
	@bash tests/programs.sh $(BIN)
	@touch $@

.PHONY: demo
demo: $(READY) ## Watch four try-ons become pictures in the sandbox (KEEP=1 leaves it running)
	@$(BIN)/python -m tests.demo $(if $(KEEP),--keep) $(ARGS)

.PHONY: try
try: $(READY) ## Serve a page on 127.0.0.1 to try the size estimates with: photo or camera, height and weight
	@$(BIN)/python -m tests.try_page $(ARGS)

# Four at once, also on two cores: half of the time a test waits.
.PHONY: test
test: $(INFRA) $(PROGRAMS) ## Run all tests: real Valkey, PostgreSQL and worker processes; no Docker, no root needed
	@$(BIN)/pytest --numprocesses $(or $(JOBS),4) --dist worksteal $(ARGS)

.PHONY: real
real: $(INFRA) $(PROGRAMS) ## Start, ask and kill the stack's own programs as they are rendered; tells which were real (`make images` first; ALL=1: all must be)
	@PROGRAMS=images $(BIN)/pytest -m '' tests/real tests/roles/test_{monitoring,stack}.py tests/alerts/test_{rules,panels}.py $(ARGS)

.PHONY: openapi
openapi: $(READY) ## Write docs/openapi.json again, after a change of the size API
	@$(BIN)/wearon-worker schema --format openapi >docs/openapi.json

.PHONY: bench
bench: $(READY) ## Measure speed, memory and start (ARGS="generation burst images sizing start rest growth outage backlog lanes bucket scaling --json --quick")
	@$(BIN)/python -m tests.bench $(ARGS)

.PHONY: gpu-check
gpu-check: $(READY) ## Compare the pose model on the GPU with the CPU (needs requirements/gpu.txt and a GPU): rate, latency, differences
	@$(BIN)/python -m tests.bench.gpu_check $(ARGS)

.PHONY: accuracy
accuracy: $(READY) ## How far the size API is off (DATA=<folder with images/ and truth.csv>; default: the tests' pictures)
	@$(BIN)/python -m tests.bench.accuracy $(DATA) $(ARGS)

.PHONY: chaos
chaos: $(READY) ## Kill, freeze and cut off workers while they work, at length; prints what became of every session
	@CHAOS=full $(BIN)/pytest tests/chaos $(ARGS)

.PHONY: lint
lint: $(INFRA) lint-ci ## ruff, mypy --strict, yamllint, shellcheck; the workflows by actionlint and zizmor
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/yamllint --strict .
	@git ls-files '*.sh' .ci/run | xargs $(BIN)/shellcheck

.PHONY: format
format: $(READY) ## Let ruff rewrite the code
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

.PHONY: dashboards
dashboards: $(READY) ## Write Grafana's dashboards anew from scripts/dashboards
	@$(BIN)/python -m scripts.dashboards roles/grafana/files/dashboards

.PHONY: requirements
requirements: $(READY) ## Refresh requirements/*.txt from pyproject.toml (ARGS=--upgrade for newer versions)
	@bash scripts/requirements.sh $(ARGS)

.PHONY: clean
clean: ## Remove .venv and caches
	@rm -rf $(VENV) .cache .pytest_cache .mypy_cache .ruff_cache
