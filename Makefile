# Two commands matter: `make reproduce` and `make test`. Everything runs in .venv, made on first use.
PYTHON ?= python3
CORES  ?= all
CONFIG ?= workflow/config/default.yaml
# Folder that CONFIG names as results_dir
RESULTS ?= results
# A folder with data files, tried before the network: make reproduce DATA_MIRROR=FOLDER
DATA_MIRROR ?=
# Interpreters whose packages an archive carries: make archive WHEELS="python3.11 python3.12"
WHEELS ?=

VENV      := .venv
BIN       := $(VENV)/bin
INSTALLED := $(VENV)/.installed
SLURM_VENV := .venv-slurm
WHEEL_VENV := .venv-wheels
SNAKEMAKE := $(BIN)/snakemake --cores $(CORES)
UV        := .tools/bin/uv
PIP_AUDIT := .tools/bin/pip-audit
# An unpacked archive may carry the packages of the lock.
OFFLINE   := $(if $(wildcard wheels/*.whl),--no-index --find-links wheels)
LOCKING   := --generate-hashes --no-annotate --quiet --custom-compile-command 'make lock'
STUDY     := --configfile $(CONFIG) $(if $(DATA_MIRROR),--config data_mirror=$(DATA_MIRROR))

.PHONY: help reproduce paper smoke report test test-faults test-slurm test-wheels lint audit bench bench-scaling fuzz lock derived archive clean distclean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

reproduce: $(INSTALLED) ## recompute the paper's simulated results: figures, claims table, report
	$(SNAKEMAKE) $(STUDY)
	@test -f $(RESULTS)/report.html && ! find $(RESULTS)/figures $(RESULTS)/tables -newer $(RESULTS)/report.html | grep -q . \
	    || $(MAKE) --no-print-directory report
	@sed '/^## Stand-ins/,$$d' $(RESULTS)/tables/claims.md
	@echo 'Stand-ins and findings: $(RESULTS)/tables/claims.md; all figures: $(RESULTS)/report.html'

paper: ## the paper's whole grid and all studies, on CPUs
	$(MAKE) --no-print-directory reproduce CONFIG=workflow/config/paper.yaml RESULTS=results/paper

smoke: $(INSTALLED) ## the whole chain on a tiny synthetic workload: no network, one to two minutes
	$(SNAKEMAKE) smoke

report: $(INSTALLED) ## write results/report.html from the results that are there
	$(BIN)/snakemake $(STUDY) --report $(RESULTS)/report.html

test: $(INSTALLED) ## run all tests
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

test-faults: $(INSTALLED) ## kill the workflow at 20 random moments, fill its disk, run it twice at once: many minutes
	$(BIN)/python -m pytest tests/faults/kills.py tests/faults/pipelines.py

test-slurm: $(SLURM_VENV)/.installed ## run the workflow on a Slurm cluster of one node, started here
	$(SLURM_VENV)/bin/python -m pytest tests/slurm

test-wheels: $(INSTALLED) ## build our wheels, run all tests on them in an environment and a folder without the sources
	rm -rf $(WHEEL_VENV) && $(PYTHON) -m venv $(WHEEL_VENV) && mkdir $(WHEEL_VENV)/tree
	$(BIN)/python -m marconi_core.release wheels $(WHEEL_VENV)/dist
	$(WHEEL_VENV)/bin/python -m pip install --quiet $(OFFLINE) --require-hashes -r requirements.lock
	$(WHEEL_VENV)/bin/python -m pip install --quiet --no-index --no-deps $(WHEEL_VENV)/dist/*.whl
	tar -cf - $(foreach path,.git .venv* .tools .snakemake *_cache wheels dist results marconi_core sglang_patch/marconi_sglang,\
	    --exclude='./$(path)') . | tar -xf - -C $(WHEEL_VENV)/tree
	cd $(WHEEL_VENV)/tree && ../bin/python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

include sglang_patch/Makefile.inc

lint: $(INSTALLED) ## style, types and workflow checks
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/snakemake --lint
	$(BIN)/python -m marconi_core.derived

# An audit that cannot be made says so and passes; the servers' locks stay as they were when SGLang appeared.
audit: $(INSTALLED) ## known vulnerabilities of the packages that are locked
	@test -x $(PIP_AUDIT) || $(MAKE) --no-print-directory $(PIP_AUDIT) || true
	@$(BIN)/python -m marconi_core.release audit --pip-audit $(PIP_AUDIT) requirements.lock tests/patch/requirements.txt

bench: $(INSTALLED) ## time the simulator beside the reference's CPU seconds
	$(BIN)/python benchmarks/bench.py $(if $(DATA_MIRROR),--data-mirror $(DATA_MIRROR))

bench-scaling: $(INSTALLED) ## time and memory from a thousand requests to a million (minutes, 2 GB of disk)
	$(BIN)/python benchmarks/scaling.py $(if $(DATA_MIRROR),--data-mirror $(DATA_MIRROR))

# Only this needs atheris, which is for Linux and few Pythons: it is no dependency. FUZZ names targets, FUZZ_SECONDS the time for each.
fuzz: $(INSTALLED) ## search for input that a reader mishandles, guided by coverage: make fuzz [FUZZ=jsonl] [FUZZ_SECONDS=60]
	test -d .tools/atheris || $(BIN)/python -m pip install --quiet --target .tools/atheris atheris
	PYTHONPATH=.tools/atheris $(BIN)/python -m tests.fuzz $(FUZZ) --seconds $(or $(FUZZ_SECONDS),60)

lock: $(UV) lock-sglang ## resolve all dependencies into locks with hashes (this one: Linux, macOS, Windows; Python 3.11+)
	$(UV) pip compile pyproject.toml --extra dev --universal --python-version 3.11 \
	    $(LOCKING) --output-file requirements.lock
	$(UV) pip compile pyproject.toml --extra dev --extra slurm --constraint requirements.lock --universal --python-version 3.11 \
	    $(LOCKING) --output-file tests/slurm/requirements.lock

archive: $(INSTALLED) ## write the one file to deposit: dist/marconi-artifact-VERSION.tar.gz
	$(BIN)/python -m marconi_core.release archive dist --wheels $(WHEELS)

$(UV) $(PIP_AUDIT):
	test -x .tools/bin/python || $(PYTHON) -m venv .tools
	.tools/bin/python -m pip install --quiet $(@F)

derived: $(INSTALLED) ## regenerate the files derived from code (schema, option table, environments)
	$(BIN)/python -m marconi_core.derived --write

clean: ## delete everything that is computed
	rm -rf results .snakemake

distclean: clean ## delete the environment and all caches too
	rm -rf $(VENV) $(SGLANG_VENV) $(SLURM_VENV) $(WHEEL_VENV) .tools .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(INSTALLED): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed: make PYTHON=python3.11 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $(OFFLINE) --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

# Snakemake imports all plug-ins at every start, so this one is kept from the other environment.
$(SLURM_VENV)/.installed: tests/slurm/requirements.lock
	test -x $(SLURM_VENV)/bin/python || $(PYTHON) -m venv $(SLURM_VENV)
	$(SLURM_VENV)/bin/python -m pip install --quiet --require-hashes -r tests/slurm/requirements.lock
	$(SLURM_VENV)/bin/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@
