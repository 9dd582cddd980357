# Everything starts here. Each target makes what it needs, says what it does, and says how long each part took.
#
#   make demo              train the example, draw its learning curves, write its report
#   make test              every check there is
#   make test VENV=path    the same, in an environment that exists already
#
# The recipes are in scripts/dev.py (Python's standard library only).

VENV ?= .venv
export PYTHON
DEV = sh scripts/with_python.sh "$(VENV)" scripts/dev.py --venv "$(VENV)"

.DEFAULT_GOAL := help
.PHONY: help demo test test-fast test-sanitize test-resume lint format bench docs wheel clean env build

help: ## this list
	@echo "fulmen: make <target> [VENV=path of an existing environment]"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' Makefile | awk -F'|' '{printf "%-18s %s\n", $$1, $$2}'

demo: ## train on handwritten digits, test, predict; learning curves and demo_out/report.html (about a minute)
	@$(DEV) demo

test: ## every check: Rust and Python format, lints, types, unit, parity, contract, slow and distributed tests
	@$(DEV) test

test-fast: ## Python tests without the slow and the distributed ones
	@$(DEV) test-fast

test-sanitize: ## the core's unsafe code (gathering, buffers, threads) under Miri; needs rustup's nightly toolchain
	@$(DEV) test-sanitize

test-resume: ## stop trainings at every step in every way, go on, compare with those that never stopped
	@$(DEV) test-resume

lint: ## cargo fmt and clippy, ruff, mypy
	@$(DEV) lint

format: ## rewrite Rust and Python sources in the project's format
	@$(DEV) format

bench: ## cost of a step, of a batch and of the import, beside the hand-written loop, the stock loader and Lightning
	@$(DEV) bench

docs: ## API pages of the Rust crates; runs every example of README and docs/
	@$(DEV) docs

wheel: ## a release wheel in dist/
	@$(DEV) wheel

env: ## only the environment: .venv with every dependency
	@$(DEV) env

build: ## only the environment and a release build of the core
	@$(DEV) build

clean: ## remove the environment, build outputs and caches (never an environment named with VENV=)
	@sh scripts/with_python.sh "" scripts/dev.py clean
