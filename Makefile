# Each target sets up what it needs: a virtual environment in .venv, nothing outside this folder.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
UV := $(shell command -v uv)
# Not editable: the end-to-end tests run the wheel, as users get it. Without uv, pip leaves compiling
# to the first import, since most modules of the libraries are never imported.
ifdef UV
CREATE := $(UV) venv --quiet --seed --python $(PYTHON)
INSTALL := $(UV) pip install --quiet --python $(BIN)/python \
    $(patsubst %,--reinstall-package %,xbtmigrate $(notdir $(wildcard plugins/*)))
else
CREATE := $(PYTHON) -m venv
INSTALL := $(BIN)/pip install --quiet --no-compile
endif
# The plugins that need neither torch nor Ray.
LIGHT := ./plugins/xbtmigrate-fastembed ./plugins/xbtmigrate-openai ./plugins/xbtmigrate-research
SITE := NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
# Empty is off: without bytecode files, each command of the tests would compile the libraries again.
export PYTHONDONTWRITEBYTECODE :=
# One thread a worker: two workers that each use every core wait for one another.
PYTEST := OMP_NUM_THREADS=1 XBTMIGRATE_INSTALLED=wheel $(BIN)/python -m pytest --numprocesses 2 --dist loadfile

.PHONY: demo install test test-long test-all coverage lint docs release clean

demo: $(BIN)/python  ## Migrate a small real collection, from its plan to its cutover
	$(INSTALL) .
	$(BIN)/xbtmigrate demo

install: $(BIN)/python  ## Everything needed to develop
	$(INSTALL) '.[dev]' $(addprefix ./,$(wildcard plugins/*))

test: $(BIN)/python  ## The tests, with a real Qdrant server; without torch
	$(INSTALL) '.[test]' $(LIGHT)
	$(PYTEST) -m "not long" tests $(LIGHT)

test-long: install  ## The long tests: torch, Ray, browser, faults, cluster, zoo
	$(PYTEST) -m long tests plugins
	$(BIN)/python -m tests.zoo --seeds 0-299 --seconds 300

test-all: test test-long  ## All tests, and some hours of drawn collections, kills and lost answers
	$(BIN)/python -m tests.zoo --seeds 300-2999 --seconds 10800
	$(BIN)/python -m tests.faults --seeds 0-199
	$(BIN)/python -m tests.faults --answers --apart 8

coverage: install  ## Branch coverage of all these tests, command line processes included
	$(PYTEST) --cov --cov-report= tests plugins
	$(BIN)/coverage report

lint: install  ## Style, types, the layers, and the links of the documentation
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(SITE)

docs: install  ## Generate the tables of docs/output.md, and the site in build/site
	$(BIN)/python docs/write_output.py
	$(SITE)

release: $(BIN)/python  ## Build wheel and source distribution in dist, and check both
	$(INSTALL) build check-wheel-contents twine
	rm -rf dist
	$(BIN)/python -m build --outdir dist .
	$(BIN)/twine check --strict dist/*
	$(BIN)/check-wheel-contents dist/*.whl

clean:
	rm -rf $(VENV) dist xbtmigrate-demo

$(BIN)/python:
	$(CREATE) $(VENV)
