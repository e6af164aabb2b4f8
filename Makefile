# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/

.PHONY: demo test lint peers soak bench clean

# Installs the package once, and again when its dependencies change.
$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(RUN)python -m pip install --quiet --editable ".[dev]"
	touch $@

demo: $(VENV)/.installed
	$(RUN)dicom-ai-node demo

test: $(VENV)/.installed
	$(RUN)python -m pytest

lint: $(VENV)/.installed
	$(RUN)ruff check .
	$(RUN)ruff format --check .
	$(RUN)mypy
	$(RUN)lint-imports

# kill -9 of every process under load, 20 rounds: nothing lost, nothing twice.
soak: $(VENV)/.installed
	$(RUN)python -m tests.acceptance.kill_rounds --rounds 20

# Ours beside DCMTK and Orthanc, in one run, on a quiet machine.
bench: $(VENV)/.installed
	$(RUN)python benchmarks/ingest.py

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
