# The two commands of the house are `make demo` and `make test`; `make help` lists the rest.
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LIBRARY ?= sample
BROKER ?= redis
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: help setup demo serve fleet services test check lint proto proto-check audit lock clean

help: ## list these targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: $(VENV)/.ready ## create the environment with pinned dependencies

$(VENV)/.ready: pyproject.toml requirements.lock
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet "pip>=25.1"
	$(BIN)/python -m pip install --quiet --constraint requirements.lock torch==2.13.0
	$(BIN)/python -m pip install --quiet --constraint requirements.lock --group dev
	$(BIN)/python -m pip install --quiet --constraint requirements.lock --no-deps --editable .
	touch $@

demo: setup ## import a real library and search it by words and by structure (LIBRARY=full for all of it)
	$(BIN)/python -m deploy.demo --library $(LIBRARY)

serve: setup ## serve what the demo imported until stopped, on 127.0.0.1:50051 (gRPC) and http://127.0.0.1:8080 (portal, REST)
	ATOMAS_DATA_DIR=$${ATOMAS_DATA_DIR:-var/demo} $(BIN)/python -m server

fleet: setup services ## run a whole fleet of local processes on loopback until stopped (BROKER=redis or rabbitmq)
	$(BIN)/python -m deploy.fleet --broker $(BROKER)

services: ## install the real servers that the tests start on loopback
	deploy/install-test-services.sh

test: setup services ## the whole test suite
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

check: setup lint proto-check ## lint, types, import rules, stub freshness

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	PYTHONPATH=. $(BIN)/lint-imports

.venv-proto/.ready: proto/requirements.txt
	test -x .venv-proto/bin/python || $(PYTHON) -m venv .venv-proto
	.venv-proto/bin/python -m pip install --quiet --requirement proto/requirements.txt
	touch $@

proto: .venv-proto/.ready ## regenerate the client's stubs from the contract
	PATH=$(CURDIR)/.venv-proto/bin:$$PATH .venv-proto/bin/python proto/generate.py

proto-check: .venv-proto/.ready ## prove that the committed stubs are fresh
	PATH=$(CURDIR)/.venv-proto/bin:$$PATH .venv-proto/bin/python proto/generate.py --check

.venv-audit/.ready:
	test -x .venv-audit/bin/python || $(PYTHON) -m venv .venv-audit
	.venv-audit/bin/python -m pip install --quiet "pip-audit>=2.9,<3"
	touch $@

audit: .venv-audit/.ready ## look the pinned packages up in PyPI's advisories; needs a network
	.venv-audit/bin/pip-audit --requirement requirements.lock --no-deps --disable-pip

lock: ## pin what the environment holds now
	{ echo "# Every package of the environment, pinned by \`make lock\`; used as pip constraints."; \
	  $(BIN)/python -m pip freeze --exclude-editable | grep -v -e '^-e' -e ' @ ' -e '^torch=='; echo "torch==2.13.0"; } | LC_ALL=C sort -f -u > requirements.lock

clean: ## remove environments, caches and the demo's data
	rm -rf .venv .venv-proto .venv-audit .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache var
