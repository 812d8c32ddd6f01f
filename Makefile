# Two commands on a fresh machine: make demo, make test.
PYTHON ?= python3
VENV := .venv
PYTEST := $(VENV)/bin/pytest
PARALLEL := -n auto --dist loadfile

.PHONY: demo test test-slow test-all coverage lint clean

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

demo: $(VENV)/.installed
	$(VENV)/bin/wdistill run --output runs/demo --teacher-epochs 5 --eval-epochs 75

test: $(VENV)/.installed
	$(PYTEST) $(PARALLEL)

test-slow: $(VENV)/.installed
	$(PYTEST) -m slow

test-all: $(VENV)/.installed
	$(PYTEST) $(PARALLEL) -m "not benchmark"

coverage: $(VENV)/.installed
	$(PYTEST) $(PARALLEL) --cov=wdistill --cov-report=term:skip-covered

lint: $(VENV)/.installed
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/mypy --explicit-package-bases tests/benchmarks/*.py

clean:
	rm -rf $(VENV) runs dist build
