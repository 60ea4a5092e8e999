# Every target does its own set-up in .venv: a clone, Python >= 3.11 and make are enough.
#
#   make demo ARGS="--for 30s"     passes ARGS on to `heartline demo`
#   make PYTHON=/path/to/python3   uses that interpreter for .venv
#
# The tools and the tests are installed only for the targets that need them, so that the demo
# starts sooner. A stamp file in .venv says what is installed; a changed lock installs again.

SHELL      := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS  += --no-print-directory

VENV   := .venv
BIN    := $(VENV)/bin
PYTHON ?=
ARGS   ?=
TESTS  ?=

PIP     = $(BIN)/python -m pip --disable-pip-version-check --quiet
COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
          --no-emit-index-url --custom-compile-command "make lock" pyproject.toml

# The tiers that run in this process carry the coverage gate, but for property tests that reach
# nothing more: the tracer costs them half as much again. The others start brokers, workers and
# browsers.
TRACED := tests/unit tests/golden tests/oracle $(addprefix tests/property/,test_evicted.py test_journal.py \
          test_state_log.py test_window_structures.py)
PLAIN  := $(filter-out $(TRACED),$(wildcard tests/property/test_*.py))
IMPURE := tests/simulation tests/integration tests/chaos tests/browser

# `make bench BENCHES=windows ARGS=--short` runs one of them, quickly.
BENCHES ?= fold windows throughput freshness checkpoint recovery

# `make simulate-faults SEEDS=200` is a short one. All cores are used.
SEEDS ?= 10000
FIRST ?= 0

.PHONY: help demo test chaos simulate-faults lint format bench lock clean

help:  ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-15s %s\n", $$1, $$2}'

demo: $(VENV)/.runtime  ## Everything on this machine: broker, worker, simulator, live view (ARGS="--for 30s")
	@$(BIN)/heartline demo $(ARGS)

test: $(if $(strip $(TESTS)),$(VENV)/.development,lint)  ## Lint, every test tier, coverage of the core (TESTS=path runs only that)
ifneq ($(strip $(TESTS)),)
	@$(BIN)/python -m pytest $(TESTS) $(ARGS)
else
	@echo '== unit, golden and property tests, with branch coverage'
	@$(BIN)/python -m pytest -n auto --cov --cov-report= --hypothesis-profile=ci $(TRACED) $(ARGS)
	@echo '== property tests, without it'
	@$(BIN)/python -m pytest -n auto --dist loadgroup --hypothesis-profile=ci $(PLAIN) $(ARGS)
	@echo '== coverage of the shell (reported, not gated)'
	@$(BIN)/python -m coverage report --include='agents/*' --fail-under=0
	@echo '== coverage of the core (gated: see pyproject.toml)'
	@$(BIN)/python -m coverage report
	@echo '== integration and browser tests, in lanes side by side (about five minutes)'
	@$(BIN)/python tests/lanes.py $(wildcard $(IMPURE)) -- $(ARGS)
endif

chaos: $(VENV)/.development  ## Kills, pauses, rebalances, brokers that die, on Apache Kafka: every count stays exact (20 minutes)
	@$(BIN)/python -m pytest tests/chaos --durations=0 $(ARGS)

lint: $(VENV)/.development  ## ruff, formatting, mypy --strict, import rules
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

format: $(VENV)/.development  ## Format the code and apply the safe fixes
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: $(VENV)/.development  ## What an event costs, and how soon it shows (BENCHES=windows ARGS=--short)
	@for one in $(BENCHES); do echo "== $$one"; $(BIN)/python -m bench.$$one $(ARGS); done

simulate-faults: $(VENV)/.development  ## The engine under seeded faults in virtual time (SEEDS=10000, FIRST=0)
	@$(BIN)/python -m tests.simulation.seeds --seeds $(SEEDS) --first $(FIRST) $(ARGS)

lock: $(VENV)/.development  ## Resolve the dependencies again (ARGS=--upgrade for newer versions)
	@$(COMPILE) --group build $(ARGS) --output-file requirements.lock
	@$(COMPILE) --group build --group dev $(ARGS) --constraint requirements.lock --output-file requirements-dev.lock

clean:  ## Remove .venv, caches and what builds leave behind
	@rm -rf $(VENV) .cache .coverage* .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build dist htmlcov *.egg-info
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# ------------------------------------------------------------------------------------- set-up

# An interpreter counts only if it runs and can make a virtual environment: a shim of a version
# manager or a Debian without python3-venv is on the path and does neither.
$(BIN)/python:
	@for candidate in $(PYTHON) $(if $(PYTHON),,python3.13 python3.12 python3.11 python3 python3.14 python); do \
	    if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
	        found="$$candidate"; \
	        if "$$candidate" -c 'import ensurepip, venv' >/dev/null 2>&1; then usable="$$candidate"; break; fi; \
	    fi; \
	done; \
	if [ -z "$${found:-}" ]; then \
	    echo 'Heartline needs Python 3.11 or newer, and none was found$(if $(PYTHON), as $(PYTHON)).' >&2; \
	    echo 'Install it, or name one that you have: make $(or $(MAKECMDGOALS),demo) PYTHON=/path/to/python3' >&2; \
	    exit 1; \
	elif [ -z "$${usable:-}" ]; then \
	    echo "$$found has no venv module, so .venv can't be made." >&2; \
	    echo 'On Debian and Ubuntu: apt-get install python3-venv' >&2; \
	    exit 1; \
	fi; \
	echo "Making $(VENV) with $$usable ($$("$$usable" --version))"; \
	"$$usable" -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(VENV)/.runtime: requirements.lock pyproject.toml | $(BIN)/python
	@echo 'Installing what Heartline runs on (once; takes about a minute)'
	@$(PIP) install --require-hashes -r requirements.lock
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.development: requirements-dev.lock $(VENV)/.runtime
	@echo 'Installing what the tests and tools need (once)'
	@$(PIP) install --no-compile --require-hashes -r requirements-dev.lock
	@touch $@
