# `make demo` and `make test` create .venv first and can be repeated; `make help` lists the rest.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
INSTALL := $(PIP) install --quiet --constraint constraints.txt
OLD_CORE := .venv-core-0.14.20
LOWEST := .venv-lowest
# Tests are independent: as many processes as cores, with one thread of torch each. A file's tests
# stay together, in the order of tests/conftest.py; slow ones do not, but for those of one group.
PYTEST := $(BIN)/python -m pytest --numprocesses logical --maxprocesses 8
BY_FILE := --dist loadfile --no-loadscope-reorder
TOOLS := .venv-tools
METADATA := pyproject.toml constraints.txt Makefile
# What needs no model and no other package than those that are installed with this one.
LOWEST_TESTS := tests/endurance $(addprefix tests/test_,$(addsuffix .py,atomic bad_inputs checks cli combine comparison \
	documentation embed embedding engine evaluate faults faults_serving files fit generate holdout \
	identity index_labels index_read loop objective options persistence \
	qa_dataset questions replacement search secrets service_errors sharing split store transforms \
	unlabelled audit))
LOWEST_ONLY := not TestFaiss and not TestSimilarity

.DEFAULT_GOAL := help
# Options for the benchmarks: make benchmark ARGS="--sets documentation"
ARGS ?=

.PHONY: help python demo benchmark bench notebooks test test-all lint typecheck unit slow interop \
	coverage soak lowest audit matrix package wheel-test check-workflows hooks clean

help: ## Show this list.
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "%-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

python:
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is missing. Install Python 3.10 or later, or name one: make PYTHON=/path/to/python" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "$(PYTHON) is $$($(PYTHON) -V), but 3.10 or later is needed. Name one: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "$(PYTHON) lacks the venv module. On Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }

$(VENV)/.installed: $(METADATA) | python
	@echo "Installing into $(VENV) (a few minutes the first time)"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install --quiet --upgrade pip
	@$(INSTALL) --editable '.[local]'
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@$(INSTALL) --group dev
	@touch $@

$(OLD_CORE)/.installed: $(METADATA) | python
	@echo "Installing into $(OLD_CORE), an environment with llama-index-core 0.14.20"
	@$(PYTHON) -m venv $(OLD_CORE)
	@$(OLD_CORE)/bin/python -m pip install --quiet --disable-pip-version-check "$$(grep '^torch==' constraints.txt)" llama-index-core==0.14.20 --editable .
	@touch $@

demo: $(VENV)/.installed ## Finetune and compare on the documentation of Python, numpy and torch.
	@$(BIN)/llama-index-adapters demo

benchmark: $(VENV)/.installed-dev ## Measure this package beside its peers; ARGS=--help explains.
	@$(BIN)/python -m benchmarks $(ARGS)

bench: $(VENV)/.installed-dev ## Measure speed and size beside LlamaIndex's own; ARGS=--help explains.
	@$(BIN)/python -m benchmarks.speed $(ARGS)

test: lint typecheck unit interop ## Check before a commit: style, types, quick tests, an older llama-index-core.

test-all: slow wheel-test check-workflows ## Run what `make test` leaves out: slow tests, notebooks, the built package.

lint: $(VENV)/.installed-dev ## Check style.
	$(BIN)/ruff check .
	$(BIN)/ruff check --preview --select DOC102,DOC202,DOC403 .
	$(BIN)/ruff format --check .

typecheck: $(VENV)/.installed-dev ## Check types.
	$(BIN)/mypy --strict

unit: $(VENV)/.installed-dev ## Run the quick tests, with the real local model among them.
	$(PYTEST) $(BY_FILE) -m "not slow"

slow: $(VENV)/.installed-dev ## Run the slow tests.
	$(PYTEST) --dist loadgroup -m slow

coverage: $(VENV)/.installed-dev ## Run all tests and write coverage.json; tests/branches.py compares two of them.
	$(PYTEST) $(BY_FILE) --cov=llama_index_adapters --cov-branch --cov-report=json --cov-report=

interop: $(OLD_CORE)/.installed ## Use what llama-index-core 0.14.20 generated.
	$(OLD_CORE)/bin/python tests/interop/check_core_0_14_20.py

$(VENV)/.installed-soak: $(VENV)/.installed-dev
	@$(INSTALL) --group soak
	@touch $@

$(LOWEST)/.installed: $(METADATA) constraints-lowest.txt | python
	@echo "Installing into $(LOWEST), an environment with the lowest versions"
	@$(PYTHON) -m venv $(LOWEST)
	@$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints-lowest.txt --editable . hypothesis pytest pytest-asyncio uvicorn
	@touch $@

soak: $(VENV)/.installed-soak ## Faults, kills, wrong inputs and fuzzing in full (about 20 minutes); writes docs/robustness.md.
	for section in faults kills inputs fuzz; do $(BIN)/python -m tests.endurance.soak $$section || exit 1; done
	$(BIN)/python -m tests.endurance.robustness_table

lowest: $(LOWEST)/.installed ## Test the lowest versions of all dependencies.
	$(LOWEST)/bin/python -m pytest -m "not local_model" -k "$(LOWEST_ONLY)" $(LOWEST_TESTS)

audit: $(VENV)/.installed-soak ## Compare the pinned versions with the known vulnerabilities (needs the network).
	@$(BIN)/python -m tests.audit

$(TOOLS)/.installed: $(METADATA) | python
	@echo "Installing into $(TOOLS), an environment with the tools that check the package"
	@$(PYTHON) -m venv $(TOOLS)
	@$(TOOLS)/bin/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	@$(TOOLS)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --group tools
	@touch $@

matrix: $(TOOLS)/.installed ## Run the tests on every Python from 3.10 to 3.13 that is there; ARGS go to pytest.
	$(TOOLS)/bin/nox --session tests $(if $(ARGS),-- $(ARGS))

package: $(TOOLS)/.installed ## Build wheel and sdist into dist and check both.
	$(TOOLS)/bin/nox --session package

wheel-test: $(TOOLS)/.installed ## Do what `package` does, and use the wheel without torch on the oldest and newest Python.
	$(TOOLS)/bin/nox --session wheel

check-workflows: $(TOOLS)/.installed ## Check workflows, dependabot, issue forms and citation (needs npm).
	$(TOOLS)/bin/nox --session workflows

hooks: $(VENV)/.installed-dev $(TOOLS)/.installed ## Check style and types before each commit from now on.
	$(TOOLS)/bin/pre-commit install

notebooks: $(VENV)/.installed-dev ## Run every notebook in full and keep the outputs; LLAMA_INDEX_ADAPTERS_DATA names the data.
	cd notebooks && ../$(BIN)/jupyter execute --inplace *.ipynb

clean: ## Remove the environments.
	rm -rf $(VENV) $(OLD_CORE) $(LOWEST) $(TOOLS) .nox dist
