# Two commands matter: `make reproduce` and `make test`. Everything runs in .venv, made on first use.
PYTHON ?= python3
CORES  ?= all
CONFIG ?= workflow/config/default.yaml
# Folder that CONFIG names as results_dir
RESULTS ?= results
# A folder with data files, tried before the network: make reproduce DATA_MIRROR=FOLDER
DATA_MIRROR ?=

VENV      := .venv
BIN       := $(VENV)/bin
INSTALLED := $(VENV)/.installed
SNAKEMAKE := $(BIN)/snakemake --cores $(CORES)
UV        := .tools/bin/uv
LOCKING   := --generate-hashes --no-annotate --quiet --custom-compile-command 'make lock'
STUDY     := --configfile $(CONFIG) $(if $(DATA_MIRROR),--config data_mirror=$(DATA_MIRROR))

.PHONY: help reproduce paper smoke report test lint bench lock derived clean distclean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

reproduce: $(INSTALLED) ## recompute the paper's simulated results: figures, claims table, report
	$(SNAKEMAKE) $(STUDY)
	@test $(RESULTS)/report.html -nt $(RESULTS)/tables/claims.md || $(MAKE) --no-print-directory report
	@cat $(RESULTS)/tables/claims.md

paper: ## the paper's whole grid and all studies, on CPUs
	$(MAKE) --no-print-directory reproduce CONFIG=workflow/config/paper.yaml RESULTS=results/paper

smoke: $(INSTALLED) ## the whole chain on a tiny synthetic workload: no network, under a minute
	$(SNAKEMAKE) smoke

report: $(INSTALLED) ## write results/report.html from the results that are there
	$(BIN)/snakemake $(STUDY) --report $(RESULTS)/report.html

test: $(INSTALLED) ## run all tests
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

include sglang_patch/Makefile.inc

lint: $(INSTALLED) ## style, types and workflow checks
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/snakemake --lint
	$(BIN)/python -m marconi_core.derived

bench: $(INSTALLED) ## time the simulator beside the reference's CPU seconds
	$(BIN)/python benchmarks/bench.py $(if $(DATA_MIRROR),--data-mirror $(DATA_MIRROR))

lock: $(UV) lock-sglang ## resolve all dependencies into locks with hashes (this one: Linux, macOS, Windows; Python 3.11+)
	$(UV) pip compile pyproject.toml --extra dev --universal --python-version 3.11 \
	    $(LOCKING) --output-file requirements.lock

$(UV):
	test -x .tools/bin/python || $(PYTHON) -m venv .tools
	.tools/bin/python -m pip install --quiet uv

derived: $(INSTALLED) ## regenerate the files derived from code (schema, option table, environments)
	$(BIN)/python -m marconi_core.derived --write

clean: ## delete everything that is computed
	rm -rf results .snakemake

distclean: clean ## delete the environment and all caches too
	rm -rf $(VENV) $(SGLANG_VENV) .tools .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(INSTALLED): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed: make PYTHON=python3.11 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@
