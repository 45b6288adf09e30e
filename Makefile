# Needs Python 3.11 or newer and make. Everything is installed inside this folder, and only when pyproject.toml changed.

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test test-slow lint types bench clean

VENV  := .venv
BENCH := .venv-bench
PIP   := -m pip install --quiet --disable-pip-version-check

# The Python to build the environments with. Empty: the first of PYTHONS that is new enough.
PYTHON  ?=
PYTHONS := python3 python3.14 python3.13 python3.12 python3.11 python

# More arguments for pytest, as in: make test ARGS="tests/test_layers.py -x"
ARGS ?=

# Processes that share the tests: as many as there are cores; 0 for a debugger, as in: make test JOBS=0 ARGS="--pdb"
JOBS ?= auto

# The libraries that `make bench` compares with. A CPU-only PyTorch is a far smaller download where pip is told to use it.
PEERS ?= torch jax

# The folder with the large data sets (mnist/, fashion-mnist/). Tests that need it say so and are skipped without it.
CHAINRULE_DATA ?= $(abspath $(wildcard ../shared/data))
WITH_DATA := $(if $(CHAINRULE_DATA),CHAINRULE_DATA='$(CHAINRULE_DATA)')

help:
	@echo 'make demo       train a network on the bundled digits and show the result'
	@echo 'make test       run the tests, on all cores (JOBS=0: in one process; more arguments for pytest: ARGS="...")'
	@echo 'make test-slow  run the slow tests (large data sets: CHAINRULE_DATA=/path/to/data)'
	@echo 'make lint       check style and formatting'
	@echo 'make types      check types'
	@echo 'make bench      measure speed against PyTorch and JAX, in an environment of its own'
	@echo 'make clean      remove the environments and caches (runs/ stays)'
	@echo 'Another Python: make test PYTHON=/path/to/python3'

demo: $(VENV)/.installed-cli
	@echo '==> chainrule fit digits'
	@$(VENV)/bin/chainrule fit digits

test: $(VENV)/.installed-dev
	@echo '==> running the tests (without the slow ones)'
	@$(WITH_DATA) $(VENV)/bin/python -m pytest -n $(JOBS) $(ARGS)

test-slow: $(VENV)/.installed-dev
	@echo '==> running the slow tests, data in $(or $(CHAINRULE_DATA),no folder: CHAINRULE_DATA is not set)'
	@$(WITH_DATA) $(VENV)/bin/python -m pytest -n $(JOBS) -m slow $(ARGS)

lint: $(VENV)/.installed-dev
	@echo '==> checking style'
	@$(VENV)/bin/python -m ruff check .
	@echo '==> checking formatting'
	@$(VENV)/bin/python -m ruff format --check .

types: $(VENV)/.installed-dev
	@echo '==> checking types'
	@$(VENV)/bin/python -m mypy

bench: $(BENCH)/.installed-bench
	@echo '==> running the benchmarks'
	@$(BENCH)/bin/python -m benchmarks $(ARGS)

clean:
	@echo '==> removing environments and caches'
	@rm -rf $(VENV) $(BENCH) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find src tests examples benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

# Installed as a link to the sources ("editable"), so a change of the code needs no new installation. The stamps say
# what an environment holds; whoever has the developers' tools has what the demo needs.
$(VENV)/.installed-cli: pyproject.toml | $(VENV)/.created
	@echo '==> installing chainrule and what its command needs into $(VENV) (once, about a minute)'
	@$(VENV)/bin/python $(PIP) --editable '.[cli]'
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(VENV)/.created
	@echo '==> installing chainrule and its test tools into $(VENV) (once, about a minute)'
	@$(VENV)/bin/python $(PIP) --editable '.[dev]'
	@touch $(VENV)/.installed-cli $@

$(BENCH)/.installed-bench: pyproject.toml | $(BENCH)/.created
	@echo '==> installing chainrule and $(PEERS) into $(BENCH) (once, some minutes)'
	@$(BENCH)/bin/python $(PIP) --editable '.[cli]' $(PEERS)
	@touch $@

# A new environment; one that already works is kept.
%/.created:
	@found=; \
	for name in $(or $(PYTHON),$(PYTHONS)); do \
	    if "$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then found=$$name; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
	    echo 'error: chainrule needs Python 3.11 or newer. Tried:' >&2; \
	    for name in $(or $(PYTHON),$(PYTHONS)); do \
	        echo "    $$name: $$("$$name" --version 2>/dev/null || echo 'not found or does not run')" >&2; \
	    done; \
	    echo 'Install one (https://www.python.org/downloads/) or name it: make ... PYTHON=/path/to/python3' >&2; \
	    exit 1; \
	fi; \
	if "$*/bin/python" -m pip --version >/dev/null 2>&1; then touch $@; exit 0; fi; \
	if ! "$$found" -c 'import venv, ensurepip' >/dev/null 2>&1; then \
	    echo "error: $$found ($$("$$found" --version)) has no working venv module, which builds the environment." >&2; \
	    echo 'On Debian and Ubuntu: sudo apt install python3-venv. Elsewhere install the complete Python.' >&2; \
	    exit 1; \
	fi; \
	echo "==> creating $* with $$found ($$("$$found" --version))"; \
	"$$found" -m venv --clear $* && touch $@
