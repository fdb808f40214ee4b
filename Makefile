# `make demo` and `make test` install what they need, on a machine with Python 3.11+ and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
EXTRAS := app,postgresql,study,train,ray,remote,dev
export HF_HUB_OFFLINE ?= 1

.PHONY: setup demo docs tutorial test test-slow check format bench bench-drawbench bench-metrics bench-sampling coverage clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "evalkit needs Python 3.11 or newer. Choose one with PYTHON=..."; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$(EXTRAS)]'
	touch $(STAMP)

demo: setup
	$(BIN)/evalkit demo

# The API pages, build/docs/index.html; a warning is an error.
docs: setup
	$(BIN)/python -W error docs/api_pages.py

# Runs the tutorial's cells and keeps their output in it.
tutorial: setup
	cd docs && JUPYTER_PLATFORM_DIRS=1 ../$(BIN)/jupyter execute --inplace tutorial.ipynb

test: setup
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadgroup -m "not slow"

test-slow: setup
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadgroup -m slow

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: setup bench-sampling
	$(BIN)/python -m benchmarks.startup
	$(BIN)/python -m benchmarks.models.glide_tiny

# Coverage of the study's intervals (2 minutes; resumes), 275 simulated raters at once, with kills, on SQLite and
# on PostgreSQL (8 minutes each), false positives of interim looks, and the page itself. benchmarks/README.md lists all benchmarks.
bench-drawbench: setup
	$(BIN)/python -m benchmarks.study.coverage
	$(BIN)/python -m benchmarks.study.load --pause 1 --kill-raters 5
	$(BIN)/python -m benchmarks.study.load --pause 1 --kill-raters 5 --kill-database 2 --postgresql
	$(BIN)/python -m benchmarks.study.looks
	$(BIN)/python -m benchmarks.study.page_load
	$(BIN)/python -m benchmarks.study.page_load --kills 3

# Run it alone on the machine; an hour on two cores of 2 GHz, most of it in the three compared commands.
# BENCH="--images 50 --repeats 1" for a try.
bench-metrics: setup
	$(BIN)/python -m benchmarks.metrics.speed $(BENCH)

# Hours on one core; resumes.
coverage: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.metrics.coverage --out coverage_frechet.jsonl

# Speed of sampling, and how many steps suffice. Run it alone on the machine.
bench-sampling: setup
	$(BIN)/python -m benchmarks.sampling.speed
	$(BIN)/python -m benchmarks.sampling.glide_speed
	$(BIN)/python -m benchmarks.sampling.steps --plot docs/images/sampling-steps.png

clean:
	rm -rf $(VENV) build dist .mypy_cache .grimp_cache .pytest_cache .ruff_cache
