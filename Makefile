# `make run` and `make test` set everything up by themselves: the packages of requirements.lock go into .venv, everything else
# goes into var/.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

UV_VERSION := 0.13.9
PY := .venv/bin/python
export PYTHONUTF8 := 1
# Keep the environment of another Airflow or project out of the commands below.
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV
# Each Airflow task is a new process: without bytecode, it spends more time compiling TensorFlow and the rest than working.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup run stop lint docs check test test-long test-stack soak format lock audit bench bench-gru4rec clean

help: ## Show all targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile

setup: .venv/.ready ## Install the locked packages into .venv (other targets do this when needed)

.venv/.ready: requirements.lock pyproject.toml tools/find_python.sh
	@python=$$(sh tools/find_python.sh) && \
	echo "Setting up .venv with $$("$$python" --version) ..." && \
	rm -f .venv/.ready && \
	{ [ -x .venv/bin/uv ] && $(PY) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null \
	  || { rm -rf .venv && "$$python" -m venv .venv && $(PY) -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION); }; } && \
	.venv/bin/uv pip install --quiet --python $(PY) --require-hashes -r requirements.lock && \
	.venv/bin/uv pip install --quiet --python $(PY) --no-deps --no-build-isolation -e . && \
	$(PY) -m compileall -q sbr_tasks && \
	touch .venv/.ready

run: setup ## Retrain for three days in a real Airflow (CLICKS=, FORMAT=, DAYS=, ONESHOT=1, PORT=)
	@$(PY) -m tools.airflow_local run

stop: ## Shut down the Airflow of `make run`
	@if [ -x $(PY) ]; then $(PY) -m tools.airflow_local stop; else echo "Nothing was set up here, so nothing runs."; fi

lint: setup ## Style, spelling, terms, types and the direction of imports
	@.venv/bin/ruff check --quiet .
	@.venv/bin/ruff format --check --quiet .
	@.venv/bin/typos --format brief
	@$(PY) -m tools.check_terms
	@.venv/bin/mypy
	@.venv/bin/lint-imports --no-logo

docs: setup ## Build the docs site into var/site; a dead link fails
	@NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build

# A worker more than there are cores, since those whose tests start an Airflow mostly wait for it.
WORKERS = $$(($$(getconf _NPROCESSORS_ONLN) + 1))
# Counting lines costs about half as much again as the tests themselves, so only CI does it: `make test COVERAGE=1`.
COUNT_LINES := $(if $(COVERAGE),--cov --cov-report=term:skip-covered)

check: lint ## lint and the quick unit tests
	@$(PY) -m pytest -q -n auto -m "not slow" tests/unit

test: lint docs ## lint, docs and all tests but the long ones (COVERAGE=1: also lines of sbr_tasks that no test runs)
	@$(PY) -m pytest $(COUNT_LINES) -n $(WORKERS)

test-long: lint docs ## lint, docs and all tests
	@$(PY) -m pytest --long -n auto tests/unit tests/golden tests/dags tests/e2e
	@$(PY) -m pytest --long tests/integration tests/stack

test-stack: setup ## The production stack without containers: start, a day, security, faults (needs PostgreSQL, Redis)
	@$(PY) -m pytest --long tests/stack

soak: setup ## 14 simulated days on the production stack, with faults: memory, disk, decisions (needs PostgreSQL, Redis)
	@$(PY) -m benchmarks.soak

format: setup ## Format the code
	@.venv/bin/ruff check --fix .
	@.venv/bin/ruff format .

lock: setup ## Pin the newest versions that pyproject.toml allows
	@.venv/bin/uv pip compile pyproject.toml --group dev --extra spark --extra stack --universal --python-version 3.11 --upgrade \
	  --generate-hashes --no-emit-index-url --no-annotate --no-header --quiet -o requirements.lock

audit: setup ## Check the locked packages for known vulnerabilities
	@$(PY) -m tools.audit

bench: setup ## Run the benchmarks, each against a peer in the same run
	@$(PY) -m benchmarks.run

bench-gru4rec: setup ## Benchmark GRU4Rec's training and evaluation (TRAIN=file in GRU4Rec's format)
	@$(PY) -m benchmarks.gru4rec $(if $(TRAIN),--train "$(TRAIN)")

clean: stop ## Remove .venv and var/
	rm -rf .venv var
