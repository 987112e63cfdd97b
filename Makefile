# Each target sets up what it needs: a virtual environment in .venv, nothing outside this folder.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PLUGINS := $(wildcard plugins/*)

.PHONY: demo test test-all lint docs install clean

demo: $(BIN)/python  ## Run the whole path on a small real collection
	$(BIN)/pip install --quiet '.[train]'
	$(BIN)/xbtmigrate demo

install: $(BIN)/python  ## Everything needed to develop
	$(BIN)/pip install --quiet --editable '.[test]' $(addprefix --editable ./,$(PLUGINS))

test: install  ## All tests, with a real Qdrant server
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile tests plugins

test-all: test  ## The same, and some hours of drawn collections, kills and lost answers
	$(BIN)/python -m tests.zoo --seeds 0-2999 --seconds 10800
	$(BIN)/python -m tests.faults --seeds 0-199
	$(BIN)/python -m tests.faults --answers --apart 8

lint: install  ## Style, types and the layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: install  ## Generate the tables of docs/output.md from xbtmigrate/documents/
	$(BIN)/python docs/write_output.py

clean:
	rm -rf $(VENV) xbtmigrate-demo

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
