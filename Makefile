# Two commands for a fresh machine with Python 3.11+ and make: `make demo` and `make test`.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c constraints.txt -e ".[dev]"
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

pins:  ## make constraints.txt anew from a clean resolve, and show what changed
	@$(PYTHON) -m venv --clear .pins && .pins/bin/pip install --quiet packaging
	@.pins/bin/python tests/dependencies/versions.py pins

# The whole suite on other versions than the pinned ones, each in a venv of its own, made anew. There a warning of
# somebody else's code is listed at the end; one of ours stays an error.
WARNINGS = default\nerror:::(compose|hub|storage|migrations|tests)[.]
define test_in
	@$(1)/bin/pip list --format=freeze
	@for mark in $(LEFT_OUT); do echo "leaving out the tests marked '$$mark' (not available here)"; done
	@OMP_NUM_THREADS=1 PYTEST_ADDOPTS="-o 'filterwarnings=$$(printf '%b' "$(WARNINGS)")'" $(1)/bin/python -m pytest -n $(WORKERS) \
		--dist loadfile -m "$(call join_and,$(LEFT_OUT))" $(PYTEST_ARGS)
endef

test-newest:  ## all tests on the newest versions that pyproject.toml allows; then what is newer still
	$(PYTHON) -m venv --clear .newest
	.newest/bin/pip install --quiet -e ".[dev]"
	$(call test_in,.newest)
	@.newest/bin/python tests/dependencies/versions.py beyond

test-oldest: LEFT_OUT += standin
test-oldest:  ## all tests on the lower bounds of pyproject.toml
	$(PYTHON) -m venv --clear .oldest
	.oldest/bin/pip install --quiet packaging
	.oldest/bin/python tests/dependencies/versions.py oldest > .oldest/lower-bounds.txt
	.oldest/bin/pip install --quiet -c .oldest/lower-bounds.txt -e ".[dev]"
	$(call test_in,.oldest)

check: install  ## ruff and mypy
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

conformance: install  ## the core set with older Hugging Face clients, each in a venv of its own
	@$(BIN)/python tests/conformance/run.py

clean:
	rm -rf $(VENV) .pins .newest .oldest .conformance mixhub-demo

.PHONY: install demo demo-all test pins test-newest test-oldest check conformance clean
