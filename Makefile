# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/
# Three at a time on two cores, for tests wait as much as they compute; each on a thread of its own.
WORKERS ?= 3

.PHONY: demo check test coverage lint formats soak soak-audit attacks bench bundle clean

# Install the package once, and again when its dependencies change: what a user needs, and for
# the tests what a developer needs beside it.
$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(RUN)python -m pip install --quiet --editable .
	touch $@

$(VENV)/.developing: pyproject.toml $(VENV)/.installed
	$(RUN)python -m pip install --quiet --editable ".[dev]"
	touch $@

demo: $(VENV)/.installed
	$(RUN)dicom-ai-node demo

test: $(VENV)/.developing
	OMP_NUM_THREADS=1 $(RUN)python -m pytest --numprocesses $(WORKERS) --dist worksteal

# Before every commit: what needs no process and no peer, in a minute and a half on two cores.
check: lint
	OMP_NUM_THREADS=1 $(RUN)python -m pytest tests/unit -q -m "not slow" --numprocesses 2 --dist worksteal

# The unit tests again, and which lines and branches they and the processes that they start reach.
coverage: $(VENV)/.developing
	OMP_NUM_THREADS=1 $(RUN)python -m pytest tests/unit -q --numprocesses $(WORKERS) --dist worksteal \
		--cov --cov-report=term:skip-covered

# The formats of the tree in BEFORE and of this one, and how they differ.
formats: $(VENV)/.developing
	rm -rf build/formats
	mkdir -p build/formats
	$(RUN)python -m tests.acceptance.formats --tree $(BEFORE) --out build/formats/before
	$(RUN)python -m tests.acceptance.formats --tree . --out build/formats/now --old build/formats/before
	$(RUN)python -m tests.acceptance.formats --compare build/formats/before build/formats/now

lint: $(VENV)/.developing
	$(RUN)ruff check .
	$(RUN)ruff format --check .
	$(RUN)mypy
	$(RUN)lint-imports

# kill -9 of every process under load, 20 rounds: nothing lost, nothing twice.
soak: $(VENV)/.developing
	$(RUN)python -m tests.acceptance.kill_rounds --rounds 20

# An Orthanc of 2,000 studies, audited by C-GET, C-MOVE and DICOMweb, and killed ten times.
soak-audit: $(VENV)/.developing
	$(RUN)python -m tests.acceptance.audit_orthanc --kills 10

# Peers that want to keep others out, on loopback, while DCMTK's echoscu and storescu knock.
attacks: $(VENV)/.developing
	$(RUN)python -m tests.acceptance.attacks
	$(RUN)python -m tests.acceptance.attack_headers
	$(RUN)python -m tests.acceptance.attack_pixels

# Ours beside DCMTK and Orthanc, in one run, on a quiet machine.
bench: $(VENV)/.developing
	$(RUN)python -m benchmarks.ingest --write
	$(RUN)python -m benchmarks.decode --write
	$(RUN)python -m benchmarks.infer --write
	$(RUN)python -m benchmarks.queue --write
	$(RUN)python -m benchmarks.end_to_end --write
	$(RUN)python -m benchmarks.audit --write
	$(RUN)python -m benchmarks.memory --write
	$(RUN)python -m benchmarks.startup --write
	$(RUN)python -m benchmarks.series --write
	$(RUN)python -m benchmarks.report > docs/performance.md

# The shipped bundle, end to end: about thirteen hours on two cores.
bundle: $(VENV)/.developing
	$(RUN)python -m pip install --quiet --editable ".[train]"
	$(RUN)python -m training train --config training/configs/first.toml
	$(RUN)python -m training train --config training/configs/second.toml
	$(RUN)python -m training train --config training/configs/third.toml
	$(RUN)python -m training train --config training/configs/fourth.toml
	$(RUN)python -m training train --config training/configs/fifth.toml
	$(RUN)python -m training train --config training/configs/sixth.toml
	$(RUN)python -m training build_bundle --config training/configs/sixth.toml --average-with runs/fifth --version 1.4 --tau auto --caution 2 --bundle runs/chest-age-sex-1.4
	$(RUN)python -m training train --config training/configs/eighth.toml
	$(RUN)python -m training train --config training/configs/ninth.toml
	$(RUN)python -m training build_bundle --config training/configs/ninth.toml --version 1.5 --average-with runs/ninth --average-with runs/chest-age-sex-1.4 --tau 0.4 --caution 2 --bundle runs/chest-age-sex-1.5
	$(RUN)python -m training train --config training/configs/tenth.toml
	$(RUN)python -m training train --config training/configs/eleventh.toml
	$(RUN)python -m training build_bundle --config training/configs/eleventh.toml --version 1.6 --average-with runs/tenth --average-with runs/tenth --tau 0.7 --caution 2
	$(RUN)python -m training person --write --no-ranks
	-$(RUN)python -m training parity
	$(RUN)python -m training evaluate --config training/configs/eleventh.toml --write
	$(RUN)python -m training phantom

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
