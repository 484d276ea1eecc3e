PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
GCS := .venv-gcs
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.DEFAULT_GOAL := help
.PHONY: help venv demo standalone test test-quick test-slow compat compat-oldest check bench bench-kills bench-lists bench-waiting bench-workers import-time build clean docs fuzz services screenshots stores stores-gcs

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

venv: $(VENV)/.dev  ## Make .venv with everything for development

demo: $(VENV)/.runtime  ## Export, wait, download and verify, offline
	$(BIN)/python scripts/demo.py

standalone: $(VENV)/.runtime  ## Airflow with its UI, the examples and the emulated services
	$(BIN)/python scripts/standalone.py

test: $(VENV)/.dev  ## Run the tests; choose some with ARGS="-k name"
	$(BIN)/python -m pytest $(ARGS)

test-quick: $(VENV)/.dev  ## Run the tests that start no Airflow and nothing else that is large
	$(BIN)/python -m pytest -m 'not slow and not airflow' $(ARGS)

test-slow: $(VENV)/.dev  ## Run the others, but for those that start a whole Airflow
	$(BIN)/python -m pytest -m '(slow or airflow) and not deployment' $(ARGS)

compat: $(VENV)/.dev  ## Run the tests on every Airflow and Python supported; ARGS="2.11 3.3/3.13", "--jobs 2"
	$(BIN)/python scripts/compat.py $(ARGS)

compat-oldest: $(VENV)/.dev  ## The oldest Airflow in short
	$(BIN)/python scripts/compat.py --quick

screenshots: $(VENV)/.dev  ## Take the pictures of the UI in docs/images anew
	TASKDL_SCREENSHOTS=1 $(BIN)/python -m pytest tests/ui

stores: $(VENV)/.dev stores-gcs  ## Run what is promised on every store: disk, S3, Azure, and Google's in its own environment
	$(BIN)/python -m pytest tests/stores $(ARGS)

stores-gcs: $(GCS)/.dev
	TASKDL_STORES=gcs $(GCS)/bin/python -m pytest tests/stores $(ARGS)

services:  ## Install, as root, what the largest tests start: Chromium, PostgreSQL, Redis (Debian), Azurite (npm), moto
	apt-get -q -o Acquire::Retries=5 update
	DEBIAN_FRONTEND=noninteractive apt-get -q -o Acquire::Retries=5 install -y --no-install-recommends chromium postgresql redis-server \
		$$(command -v npm >/dev/null || echo npm)
	npm install --no-audit --no-fund --no-package-lock --prefix .services azurite@3
	$(PYTHON) -m venv .services/moto
	.services/moto/bin/python -m pip --disable-pip-version-check --quiet install 'moto[s3,server]>=5,<6'

fuzz: $(VENV)/.dev  ## Fuzz for long; TASKDL_FUZZ_EXAMPLES=500000, TASKDL_FUZZ_SEED=7, ARGS="-k names"
	TASKDL_FUZZ_EXAMPLES=$${TASKDL_FUZZ_EXAMPLES:-100000} TASKDL_FUZZ_SEED=$${TASKDL_FUZZ_SEED:-$$(date +%s)} \
		$(BIN)/python -m pytest --timeout 0 tests/fuzz $(ARGS)

check: $(VENV)/.dev  ## Lint, format, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.dev  ## Measure beside other tools and write docs/performance.md; ARGS="--quick", "--only 1,3"
	$(BIN)/python -m benchmarks $(ARGS)

bench-kills: $(VENV)/.dev  ## Kill transfers at random moments and count what comes twice
	$(BIN)/python -m benchmarks.kills $(ARGS)

bench-waiting: $(VENV)/.dev  ## Measure thousands of waiting tasks and write docs/waiting.md; ARGS="--quick", "--runs 3"
	$(BIN)/python -m benchmarks.waiting $(ARGS)

bench-lists: $(VENV)/.dev  ## Count the requests of a thousand waits that share lists, and write docs/waiting.md; ARGS="--quick"
	$(BIN)/python -m benchmarks.lists $(ARGS)
	$(BIN)/python -m benchmarks.waiting --report

bench-workers: $(VENV)/.dev  ## Measure two Celery workers against one and write docs/workers.md; ARGS="--quick", "--runs 1"
	$(BIN)/python -m benchmarks.workers $(ARGS)

docs: $(VENV)/.dev  ## Build the documentation into build/site; wants Python 3.11 or later
	$(BIN)/python -m sphinx -W --keep-going -q docs build/site
	@echo "file://$(CURDIR)/build/site/index.html"

import-time: $(VENV)/.dev  ## Show what a DAG file pays for our imports
	@AIRFLOW_HOME=$(CURDIR)/airflow-home $(BIN)/python -c 'from time import perf_counter as now; from airflow.sdk import *; start = now(); \
	import airflow_provider_taskdl.sensors.download_link, airflow_provider_taskdl.operators.download; \
	print(f"{(now() - start) * 1000:.0f} ms on top of airflow.sdk")'

build: $(VENV)/.dev  ## Build wheel and sdist into dist/
	$(BIN)/python -m build

clean:  ## Remove everything that make made
	rm -rf $(VENV) $(GCS) .venv-compat .services .demo airflow-home build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis

# The stamps: what is installed already is not looked at again until the lists of packages change.
$(VENV)/.runtime: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "$(PYTHON) is missing or older than 3.10; name another: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
		{ rm -rf $(VENV); echo "No virtual environment can be made; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@echo "Installing Airflow and what it needs into $(VENV): once, for some minutes"
	@$(PIP) install --upgrade 'pip>=25.1'
	@$(PIP) install -c constraints.txt -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime
	@echo "Installing what development needs into $(VENV): once, for some minutes"
	@$(PIP) install -c constraints.txt -e '.[s3]' --group dev
	@touch $@

$(GCS)/.dev: $(VENV)/.dev constraints-gcs.txt
	@$(PYTHON) -m venv $(GCS)
	$(BIN)/python scripts/environments.py pip install --quiet --python $(GCS)/bin/python -c constraints-gcs.txt -e '.[gcs]' --group gcs
	@touch $@
