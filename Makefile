# Two commands on a fresh machine: make demo, make test.
PYTHON ?= python3
VENV := .venv

.PHONY: demo test test-slow lint clean

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

demo: $(VENV)/.installed
	$(VENV)/bin/wdistill run --output runs/demo --teacher-epochs 5 --eval-epochs 75

test: $(VENV)/.installed
	OMP_NUM_THREADS=1 $(VENV)/bin/pytest -n auto --dist loadfile

test-slow: $(VENV)/.installed
	$(VENV)/bin/pytest -m slow

lint: $(VENV)/.installed
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

clean:
	rm -rf $(VENV) runs dist build
