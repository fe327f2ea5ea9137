# Two commands for a fresh machine with Python 3.11+ and make: `make demo` and `make test`.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -e ".[dev]"
	@touch $@

install: $(VENV)/installed

demo: install  ## publish, search one held-out task, compare, export (see README)
	@$(BIN)/mixhub demo

demo-all: install  ## the same comparison over every held-out task
	@$(BIN)/mixhub demo --all

# What this machine cannot run is left out by marker, and said.
ifeq ($(wildcard ../shared/data),)
LEFT_OUT += shared
endif
ifeq ($(shell command -v nvidia-smi 2>/dev/null),)
LEFT_OUT += gpu
endif
ifneq ($(shell d=$$(mktemp -d); mount -t tmpfs -o size=64k mixhub $$d 2>/dev/null && umount $$d && echo yes; rmdir $$d),yes)
LEFT_OUT += mount
endif
join_and = $(if $(word 2,$(1)),not $(firstword $(1)) and $(call join_and,$(wordlist 2,9,$(1))),$(if $(1),not $(1)))

# Test processes; a file's tests stay in one of them.
WORKERS ?= 2

test: install  ## all tests
	@for mark in $(LEFT_OUT); do echo "make test: leaving out the tests marked '$$mark' (not available on this machine)"; done
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile -m "$(call join_and,$(LEFT_OUT))" $(PYTEST_ARGS)

check: install  ## ruff and mypy
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

conformance: install  ## the core set with older Hugging Face clients, each in a venv of its own
	@$(BIN)/python tests/conformance/run.py

clean:
	rm -rf $(VENV) .conformance mixhub-demo

.PHONY: install demo demo-all test check conformance clean
