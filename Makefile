# Two commands: `make demo` and `make test`. Each does all the set-up: it needs Python 3.11 (to 3.13) and make.

SHELL := /bin/sh
VENV := .venv
BIN = $(VENV)/bin
# The first interpreter that starts and is new enough; `make test PYTHON=/path/to/python3` chooses another.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null \
	&& { echo $$p; break; }; done)

.PHONY: demo test test-all test-the-tests bench chaos soak flake trials reliability venv lint types imports unit wheel clean

demo: venv
	$(BIN)/python examples/flights_etl.py

test: lint types imports unit wheel

# The suite on every other supported Python that this machine has; says which it did not find.
test-all: test
	$(BIN)/python tools/other_pythons.py 3.12 3.13

# Switches off one protection after the other and demands that a test fails; `make test-the-tests ARGS="R3 R5"` for some.
test-the-tests: venv
	$(BIN)/python tools/test_the_tests.py $(ARGS)

# Measures us and every peer of the extra `bench`, in under half an hour. `make bench ARGS=--quick` only sees whether it
# all works (`ARGS=--help` tells the rest), `WORKFLOWS=DIR` takes recorded DAGs, `DOCS=1` rewrites docs/performance.md.
bench: VENV := .venv-bench
bench: EXTRAS := bench,examples
bench: venv
	$(BIN)/python -m benchmarks $(if $(WORKFLOWS),--workflows '$(WORKFLOWS)') $(if $(DOCS),--docs) $(ARGS)

# Rewrites the tables of docs/reliability.md from the promises and the tests.
reliability: venv
	$(BIN)/python tools/reliability.py

# Random pipelines while their processes are killed, stopped and starved, on processes for ten minutes and on the virtual
# clock; before that each call of a kind that a run makes fails once, in each process (`--no-exhaustion` skips it).
# `make chaos ARGS='--seed 7 --minutes 1'`. A failed trial says how to have the same faults again.
chaos: venv
	$(BIN)/python -m tools.chaos $(ARGS)

# 10,000 runs in one process, which must not grow by them.
soak: venv
	$(BIN)/python -m tools.soak $(ARGS)

# The tests of processes and races 50 times as the machine is and 50 times on one starved core, the whole suite 3 and 3.
flake: venv
	$(BIN)/python -m tools.flake $(ARGS)

# Measures the figures of docs/reliability.md, e.g. `make trials ARGS='--figure F3 --trials 300 --starved'`.
trials: venv
	$(BIN)/python -m tools.trials $(ARGS)

venv:
	@test -n "$(PYTHON)" || { echo "no Python 3.11 to 3.13 with venv found; say PYTHON=..."; exit 1; }
	@$(PYTHON) tools/environment.py $(VENV) $(EXTRAS)

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: venv
	$(BIN)/mypy

imports: venv
	$(BIN)/lint-imports

unit: venv
	$(BIN)/python -m pytest -n 4 --dist loadfile --max-worker-restart 0

# Builds the wheel and runs a pipeline from it in an empty environment.
wheel: venv
	$(BIN)/python tools/wheel_check.py

clean:
	rm -rf $(VENV) .venv-* build dist out .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
