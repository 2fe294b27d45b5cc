# `make` alone lists what there is. Everything works from a clean checkout; what is missing is installed and said.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.ONESHELL:
MAKEFLAGS += --no-print-directory

BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest
PURE := model plan render effects engine commands contract
# The unit tests: what mirrors reconciler/, what holds the fakes equal to the real things, and the tests of the tests' own ground.
UNIT := $(wildcard tests/test_*.py $(addprefix tests/,$(PURE)))
# WITHOUT_DOCKER=1 leaves the tests that need Docker out; pytest says so in its first and last lines.
DOCKER_OPTION := $(if $(WITHOUT_DOCKER),--without-docker)
ARGS ?=
# Workers of `make test`: one has all tests that share this machine's Docker Engine, the other one the rest (tests/lanes.py).
WORKERS ?= 2
# BENCH=quick: the benches in minutes, with fewer repetitions.
BENCH ?= full

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: ## make .venv with this project and its development packages
	@tools/machine venv

.PHONY: docker
docker: ## install and start a Docker Engine if none answers (Debian, Ubuntu; as root)
	@tools/machine docker

.PHONY: docker-stop
docker-stop: ## stop the dockerd that `make docker` started by hand
	@tools/machine docker-stop

.PHONY: images
images: setup docker ## provide the images of the tests and the demo: pulled, or built where no registry is reachable
	@$(BIN)/python tools/images.py $(ARGS)

.PHONY: static
static: setup
	@echo "check: format, lint, types, layers"
	failed=
	$(BIN)/ruff format --check . || { failed=yes; echo "check: make format mends the format"; }
	$(BIN)/ruff check . || failed=yes
	$(BIN)/mypy || failed=yes
	MYPYPATH=tools $(BIN)/mypy --explicit-package-bases tools tests || failed=yes
	mkdir -p .cache
	$(BIN)/lint-imports --no-logo >.cache/lint-imports.log 2>&1 || { failed=yes; cat .cache/lint-imports.log; }
	tail -n 3 .cache/lint-imports.log | grep -E '^Contracts:' || true
	[ -z "$$failed" ]

.PHONY: check
check: static ## lint, types, layers and the unit tests: under two minutes, no Docker
	@tools/machine programs
	$(PYTEST) -n $(WORKERS) --quiet --without-docker -m "not slow" $(UNIT) $(ARGS)

.PHONY: format
format: setup ## format the code
	@$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.PHONY: test
test: static test-ground ## everything: check, simulation, integration with real Docker, nginx and Git (WITHOUT_DOCKER=1 leaves that out)
	@$(PYTEST) -n $(WORKERS) --ignore=tests/bench $(DOCKER_OPTION) -m "not cluster" --durations=25 $(ARGS)

.PHONY: test-cluster
test-cluster: test-ground ## faults and changes of several real servers, each with its own Docker daemon: forty minutes
	@$(PYTEST) --durations=25 tests/cluster $(ARGS)

.PHONY: test-ground
test-ground: setup
	@if [ -n "$(WITHOUT_DOCKER)" ]; then
	    echo "test: WITHOUT_DOCKER is set: the tests that need a Docker Engine are LEFT OUT"
	    tools/machine programs
	else
	    tools/machine integration
	    $(BIN)/python tools/images.py
	fi

.PHONY: simulate
simulate: setup ## the simulation for longer, on all cores: make simulate SEEDS=1000:2000 (first:last, exclusive; SCOPE=small)
	@$(BIN)/python -m tests.simulation $(if $(SEEDS),--seeds $(SEEDS)) $(if $(SCOPE),--scope $(SCOPE)) $(ARGS)

.PHONY: bench
bench: setup ## measure into bench/RESULTS.md: lost requests, cost of a pass, commit to live (BENCH=quick: minutes)
	@tools/machine integration quiet
	command -v wrk >/dev/null || tools/machine packages "the throughput bench" wrk
	$(BIN)/python tools/images.py
	BENCH=$(BENCH) $(PYTEST) --capture=no tests/bench $(ARGS)

.PHONY: schemas
schemas: setup ## write schemas/*.json from the models
	@$(BIN)/python tools/schemas.py

.PHONY: demo
demo: images ## the sample shop on this machine, with a change and its revert
	@$(BIN)/python tools/demo.py up

.PHONY: demo-down
demo-down: setup ## remove what the demo made
	@$(BIN)/python tools/demo.py down

.PHONY: demo-cluster
demo-cluster: setup ## three servers on this machine, each with its own Docker daemon, through changes and faults (as root)
	@tools/machine integration quiet
	PYTHONPATH=. $(BIN)/python tools/demo_cluster.py up

.PHONY: demo-cluster-down
demo-cluster-down: setup ## remove what the demo of several servers made
	@PYTHONPATH=. $(BIN)/python tools/demo_cluster.py down

.PHONY: install
install: ## install the daemon on this server as a systemd service (as root)
	@systemd/install $(ARGS)

.PHONY: uninstall
uninstall: ## remove the program and its units; state, settings and containers stay
	@systemd/install --remove $(ARGS)

.PHONY: clean
clean: ## remove caches, build results and leftovers of killed tests (the virtual environment stays)
	@if [ -x $(BIN)/python ]; then $(BIN)/python tools/leftovers.py; fi
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist *.egg-info .cache/images
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
