# Two commands are all that anyone needs: `make run` and `make test`.
# Each sets itself up from nothing in .venv, with Python 3.10 or later, make and a package index.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Real trainers have environments of their own: they are large, and verl wants older parts than the others.
TRAINERS := .venv-trainers
VERL := .venv-verl
PIP := -m pip install --quiet --disable-pip-version-check
# Overrides for the training run: make run ARGS="trainer.val_only=true"
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help run test check bench bench-trainers test-trainers clean

help:
	@echo "make run            a small real training run that announces all its phases; leaves training.log"
	@echo "make test           the tests, in random order, with branch coverage"
	@echo "make check          ruff and mypy --strict"
	@echo "make bench          phasewatch beside its peers: what it costs, and how far its ETAs are off"
	@echo "make bench-trainers what it adds to a step of real trainers"
	@echo "make test-trainers  the long tests against real trainers"
	@echo "make clean          remove what these commands made"

# tee -i outlives Ctrl-C, so that the last banners of an interrupted run are seen; the run's own exit code is kept.
run: $(VENV)/run.stamp
	@( $(BIN)/python examples/train_grpo.py $(ARGS); echo $$? > $(VENV)/run.status ) | tee -i training.log; exit $$(cat $(VENV)/run.status)

test: $(VENV)/test.stamp
	$(BIN)/python -m coverage run -m pytest
	$(BIN)/python -m coverage report

check: $(VENV)/check.stamp
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

bench: $(VENV)/bench.stamp
	$(BIN)/python benchmarks/compare.py $(ARGS)
	$(BIN)/python benchmarks/eta.py $(ARGS)

bench-trainers: $(TRAINERS)/stamp $(VERL)/stamp
	@status=0; $(TRAINERS)/bin/python benchmarks/trainers.py transformers trl lightning keras $(ARGS) || status=1; \
		$(VERL)/bin/python benchmarks/trainers.py verl verl_v1 $(ARGS) || status=1; exit $$status

test-trainers: $(VENV)/test.stamp $(TRAINERS)/stamp $(VERL)/stamp
	$(BIN)/python -m pytest -m long
	$(TRAINERS)/bin/python -m pytest -m trainers --ignore tests/integrations/test_verl.py -k "not snippet_of_verl"
	$(VERL)/bin/python -m pytest -m trainers tests/integrations/test_verl.py tests/test_docs.py -k "test_verl or snippet_of_verl"

# One stamp for each group of dependencies: `make run` installs only what it runs.
$(VENV)/%.stamp: pyproject.toml | $(BIN)/python
	$(BIN)/python $(PIP) --editable . --group $*
	@touch $@

$(TRAINERS)/stamp: pyproject.toml | $(BIN)/python
	$(BIN)/python -m venv $(TRAINERS)
	$(TRAINERS)/bin/python $(PIP) --upgrade "pip>=25.1"
	$(TRAINERS)/bin/python $(PIP) --editable . --group trainers
	@touch $@

# verl asks for engines that need a GPU; what its trainer needs is in the group.
$(VERL)/stamp: pyproject.toml | $(BIN)/python
	$(BIN)/python -m venv $(VERL)
	$(VERL)/bin/python $(PIP) --upgrade "pip>=25.1"
	$(VERL)/bin/python $(PIP) --no-deps verl==0.9.1
	$(VERL)/bin/python $(PIP) --editable . --group verl
	@touch $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "phasewatch needs Python 3.10 or later; say which: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@# Groups of dependencies came with pip 25.1.
	$(BIN)/python $(PIP) --upgrade "pip>=25.1"

clean:
	rm -rf $(VENV) $(TRAINERS) $(VERL) training.log checkpoints .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache
