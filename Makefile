# make search   searches on the bundled digits        make search ARGS="--epochs 5"
# make test     runs the tests and the examples       make test ARGS="-k space"
# make lint     format, lint, types
# Each makes the environment that it needs in .venv, once.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
CODE := metanas search_spaces tests benchmarks

.PHONY: search test lint clean

search: $(VENV)/installed
	$(BIN)/metanas search $(ARGS)

test: $(VENV)/installed-test
	$(BIN)/python -m pytest $(ARGS)

lint: $(VENV)/installed-lint
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/ruff check $(CODE)
	$(BIN)/mypy

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "metanas needs Python >= 3.11, $(PYTHON) is older: make $(MAKECMDGOALS) PYTHON=python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV) || { rm -f $@; exit 1; }  # half an environment would pass for a whole one

$(VENV)/installed: pyproject.toml | $(BIN)/python
	@echo "installing into $(VENV): torch is large, so the first time takes a while"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/installed-test: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $@ $(VENV)/installed

$(VENV)/installed-lint: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test,lint]'
	@touch $@ $(VENV)/installed $(VENV)/installed-test

clean:
	rm -rf $(VENV) dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
