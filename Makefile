# Every action has a name. `make course` and `make test` set everything up by themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PROFILE ?= quick
DATA ?= phantom
ROOT ?=
CORES ?= $(shell getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)

# Large pages for the big arrays of numpy and torch, kept instead of given back after every step (Linux; ignored elsewhere).
MALLOC := glibc.malloc.mmap_threshold=2000000000:glibc.malloc.trim_threshold=4000000000:glibc.malloc.top_pad=268435456
export GLIBC_TUNABLES ?= glibc.malloc.hugetlb=1:$(MALLOC)

.DEFAULT_GOAL := help
.PHONY: help setup setup-browser course test bench lab app book figures badges kaggle-bundle lock clean

help:
	@echo "make course [PROFILE=smoke|quick|paper] [DATA=phantom|spider|spider-2d] [ROOT=path]   run every notebook"
	@echo "make test      run the tests              make bench    measure speed and memory"
	@echo "make lab       open JupyterLab            make app      a page in the browser for one scan"
	@echo "make book      notebooks, results and API as pages to read, with search, in build/book"
	@echo "make figures   renew the committed outputs and figures"
	@echo "make badges    renew badges and first cells   make kaggle-bundle [PROFILE=smoke|quick]   a zip for Kaggle without internet"
	@echo "make setup     only the environment       make lock     renew requirements.lock      make clean"
	@echo "make setup-browser   chromium for the browser tests, which are skipped without it (Debian, Ubuntu; needs root or sudo)"

setup: $(READY)

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "the kit needs Python 3.11 or newer: make PYTHON=python3.12 ..."'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	touch $@

# The browser tests drive the system's chromium. Their Python side, playwright, comes with `setup` and downloads no browser.
setup-browser: setup
	@if command -v chromium || command -v chromium-browser || command -v google-chrome; then exit 0; fi; \
	command -v apt-get > /dev/null || { echo "no apt-get here: install chromium with your system's own tool" >&2; exit 1; }; \
	[ "$$(id -u)" = 0 ] && as="" || as="sudo -n"; \
	$$as apt-get update --quiet && $$as apt-get install --quiet --yes --no-install-recommends chromium || \
	{ echo "chromium could not be installed: run 'sudo apt-get install chromium', or ask who runs this machine" >&2; exit 1; }

course: setup
	$(BIN)/spider-kit course --profile $(PROFILE) --data $(DATA) $(if $(ROOT),--root "$(ROOT)") --cores $(CORES)

# Tests in one process each first, side by side; then those that start servers, kernels and processes of their own.
test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(CORES) --dist loadfile tests/unit tests/data
	$(BIN)/python -m pytest --ignore tests/unit --ignore tests/data

bench: setup
	$(BIN)/python -m tests.benchmarks

lab: setup
	$(BIN)/jupyter lab --ip=127.0.0.1 notebooks

# A page on this machine alone: upload a scan, see its mask and measurements.
app: setup
	$(BIN)/spider-kit app

# Notebooks are shown as committed, none is run. Sphinx reads a page again only when it has changed.
book: setup
	@$(BIN)/python -c "import furo, myst_nb, sphinx" 2> /dev/null || $(BIN)/python -m pip install --quiet --editable ".[book]"
	$(BIN)/python -m book.sources build/book-sources
	MPLBACKEND=agg $(BIN)/python -m sphinx --quiet --jobs auto --conf-dir book build/book-sources build/book
	@echo "open build/book/index.html"

# The committed notebooks and figures are those of the quick profile on the phantom.
figures: setup
	$(BIN)/spider-kit course --profile quick --data phantom --cores $(CORES) --publish

# From [tool.spider-kit] in pyproject.toml.
badges: setup
	$(BIN)/spider-kit cloud badges

kaggle-bundle: setup
	$(BIN)/spider-kit cloud bundle --profile $(PROFILE)

lock:
	$(PYTHON) -m venv build/lock && build/lock/bin/pip install --quiet uv
	build/lock/bin/uv pip compile --quiet --universal --python-version 3.11 pyproject.toml --all-extras --no-annotate \
		--custom-compile-command "make lock" --output-file requirements.lock

# Trainings (runs/) and real or own data (data/) stay: nothing here brings them back.
clean:
	rm -rf build .snakemake .pytest_cache .hypothesis .ruff_cache data/stores data/phantom-smoke data/phantom-quick data/phantom-paper
