# `make help` lists what can be done here. Everything is set up on first use, in .venv, and not again until it changes.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL = $(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt
OUT ?= runs/demo

.DEFAULT_GOAL := help
.PHONY: help demo smoke test test-slow test-browser fuzz lint types docs dist bench clean

help: ## list these commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

$(VENV)/.venv:
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.run: $(VENV)/.venv pyproject.toml constraints.txt
	@echo "setting up $(VENV): this is done once"
	@$(INSTALL) -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.run
	@$(INSTALL) -e ".[dev]"
	@touch $@

demo: $(VENV)/.run ## the main job on the embedded model and text, about 6 minutes on two cores
	@$(BIN)/ks-lottery demo --out $(OUT)

smoke: $(VENV)/.run ## the same at its smallest, 1 to 2 minutes
	@$(BIN)/ks-lottery demo --budget smoke --out runs/smoke

test: $(VENV)/.dev ## all tests that take less than 10 minutes together
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest -m "not slow and not browser" -n 2 --dist loadfile

test-slow: $(VENV)/.dev ## the longer tests: the real model, several processes, fuzzers, kills, full disks
	$(BIN)/python -m pytest -m slow

test-browser: $(VENV)/.dev ## the report in a real browser: Debian's chromium, or the one that CHROMIUM names
	$(BIN)/python -m pytest -m browser tests/browser

fuzz: $(VENV)/.dev ## the fuzzers of the tests with 50 times as many, and random, examples
	KS_LOTTERY_FUZZ=50 $(BIN)/python -m pytest tests/fuzz

lint: $(VENV)/.dev ## style, format and import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(VENV)/.dev ## pyright, strict on src
	$(BIN)/pyright

docs: $(VENV)/.dev ## the documentation as a site, in site/; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

dist: $(VENV)/.dev ## wheel and sdist, their metadata checked, and the wheel tried alone in a new environment
	rm -rf dist
	$(BIN)/python -m build -q
	$(BIN)/python .ci/check_dist.py

BENCHMARKS = $(filter-out benchmarks/measuring.py benchmarks/stock_training.py benchmarks/recipe_text.py benchmarks/quantised_forms.py benchmarks/selector_comparison.py benchmarks/certify.py benchmarks/costly_pieces.py,$(wildcard benchmarks/*.py))

bench: $(VENV)/.dev ## every benchmark that takes minutes, each against a peer in one run
	@for script in $(BENCHMARKS); do echo "== $$script"; $(BIN)/python $$script || exit 1; done

clean: ## remove what was built here; runs and the cache of downloads stay
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis .import_linter_cache dist build site
