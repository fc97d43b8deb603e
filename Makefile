# Everything from nothing but Python 3.11+: no root, one virtual environment.
#
#   make demo    the main job, told as a story        make lint    format, lint, types, imports
#   make test    all tests, with coverage floors      make bench   build/bench.json and a table
#   make system-test    the same against the real bluetoothd: root, Debian 12, docs/system-tests.md
#   make deb     a package for this Debian release, and a wheel for laptops: build/deb
#   make bench-fleet    5000 gateways against one mosquitto; five minutes, needs mosquitto
#   make prove-tests    takes each remedy out in turn: its test must then fail; takes a while
#
# PYTHON=python3.12 make test    chooses another interpreter
# make test JOBS=0               tests one by one; a number: so many at a time
# make pictures                  redraws docs/pictures (needs Chromium)
# make docs                      rewrites docs/{commands,configuration,status}.md
# make lock                      renews the pinned versions (needs uv)

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test system-test prove-tests lint bench bench-fleet deb format docs pictures lock clean

help:
	@sed -n '/^#/!q;s/^# \{0,1\}//p' Makefile

demo: $(VENV)/.demo
	$(BIN)/gatewayd demo

JOBS := auto
# Without dbus-daemon the tests of the BlueZ adapter are skipped, so its lines cannot count.
COMMA := ,
UNTESTED := $(if $(shell command -v dbus-daemon 2>/dev/null),,$(COMMA)gatewayd/adapters/bluez/*)

test: $(VENV)/.dev
	rm -f .coverage .coverage.*
	$(BIN)/python -m tests.run --numprocesses $(JOBS) --dist worksteal --cov --cov-report=
	$(BIN)/python -m coverage report --include='firmware_proto/*,gatewayd/core/*' --fail-under=100
	$(BIN)/python -m coverage report --omit='firmware_proto/*,gatewayd/core/*$(UNTESTED)' --fail-under=90

system-test: $(VENV)/.dev
	$(PYTHON) -m tests.system.suite

prove-tests: $(VENV)/.dev
	$(BIN)/python -m tests.system.prove

lint: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.dev
	@mkdir -p build
	$(BIN)/python -m tests.bench build/bench.json

bench-fleet: $(VENV)/.dev
	@mkdir -p build
	$(BIN)/python -m tests.bench.bench_fleet build/bench-fleet.json

deb: $(VENV)/.demo
	systemd/debian/build

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(VENV)/.dev
	$(BIN)/python -m tests.support.reference

pictures: $(VENV)/.dev
	$(BIN)/python -m tests.support.pictures

clean:
	rm -rf $(VENV) build .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache \
	    .import_linter_cache

# --- environments ------------------------------------------------------------
# A stamp per set of packages. Every file that pip fetches must have a pinned
# hash; the project itself is then linked in without asking an index anything.

$(VENV)/.demo: requirements-demo.txt pyproject.toml | $(BIN)/pip
	$(PIP) install --require-hashes --requirement requirements-demo.txt
	$(PIP) install --no-deps --no-build-isolation --no-index --editable .
	@touch $@

# bluezero without what it asks for: tests run it under Debian's Python, which has that compiled.
$(VENV)/.dev: requirements-dev.txt requirements-bench.txt pyproject.toml | $(BIN)/pip
	$(PIP) install --require-hashes --requirement requirements-dev.txt
	$(PIP) install --require-hashes --no-deps --requirement requirements-bench.txt
	$(PIP) install --no-deps --no-build-isolation --no-index --editable .
	@touch $@ $(VENV)/.demo # what tests need includes what the demo needs

$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "error: Python 3.11 or newer is needed; '$(PYTHON)' is missing or older" >&2; \
	    echo "hint: name another one, for example: make PYTHON=python3.12 demo" >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	    echo "error: '$(PYTHON)' cannot make virtual environments (no ensurepip)" >&2; \
	    echo "hint: on Debian, Ubuntu and Raspberry Pi OS: sudo apt install python3-venv" >&2; \
	    exit 2; }
	$(PYTHON) -m venv $(VENV)

# --- pinned versions -----------------------------------------------------------
PINNED := --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
    --no-annotate --custom-compile-command 'make lock'
COMPILE := uv pip compile pyproject.toml $(PINNED)

lock:
	@command -v uv >/dev/null || { echo "error: uv is not installed" >&2; \
	    echo "hint: https://docs.astral.sh/uv/" >&2; exit 2; }
	$(COMPILE) --upgrade --extra demo --group dev --output-file requirements-dev.txt
	$(COMPILE) --upgrade --extra demo --group build --constraint requirements-dev.txt \
	    --output-file requirements-demo.txt
	$(COMPILE) --upgrade --extra bluez --extra serial --extra relay --extra pkcs11 \
	    --extra web \
	    --constraint requirements-dev.txt --output-file requirements-gateway.txt
	uv pip compile --group bench --no-deps $(PINNED) --upgrade --output-file requirements-bench.txt
