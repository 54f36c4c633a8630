PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed

.DEFAULT_GOAL := help
.PHONY: help demo run test soak fuzz lint bench clean

help:
	@echo "make demo   the whole system from nothing, on simulated or captured traffic"
	@echo "make run    the same on the live feed"
	@echo "make test   the test suite        make lint   ruff, formatting, types, layers"
	@echo "make soak   long chaos tests      make fuzz   a million generated messages for the decoder"
	@echo "make bench  all measurements      make clean  remove what was installed and stored"

# Every package is pinned and checked against its hash, so dependencies need no resolving (--no-deps).
$(INSTALLED): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(None if (3, 11) <= sys.version_info < (3, 14) else "txwatch needs Python 3.11, 3.12 or 3.13; try: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

test: $(INSTALLED)
	$(BIN)/python -m pytest

soak: $(INSTALLED)
	$(BIN)/python -m pytest -m soak

fuzz: $(INSTALLED)
	$(BIN)/python -m tests.wire.fuzz --count 1000000

bench: $(INSTALLED)
	$(BIN)/python -m benchmarks

lint: $(INSTALLED)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

clean:
	rm -rf $(VENV) .txwatch .mypy_cache .pytest_cache .ruff_cache .hypothesis *.egg-info

demo: $(INSTALLED)
	@$(BIN)/txwatch demo $(if $(CAPTURE),--capture=$(CAPTURE)) $(if $(SECONDS),--seconds=$(SECONDS)) $(if $(RATE),--rate=$(RATE))

run: $(INSTALLED)
	@$(BIN)/txwatch run
