# Every command runs in the checkout's own .venv; another active environment is neither used nor touched.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SUFFIXES:
.PHONY: help install check lint imports types test explain train robustness synthesize ground_truth doctor compare audit sweep report methods logbook benchmark tensorboard wheel docs oracle browser clean distclean

PYTHON ?= python3
ARGS ?=
# A further index of wheels: with that of PyTorch's CPU builds, torch comes without the libraries for GPUs.
TORCH_INDEX ?=
export TORCH_INDEX
RUN := .venv/bin/python
RUNTIME := .venv/.installed
DEVELOPMENT := .venv/.installed-dev

export NO_ALBUMENTATIONS_UPDATE := 1
unexport VIRTUAL_ENV PYTHONPATH PYTHONHOME CONDA_PREFIX CONDA_DEFAULT_ENV
unexport PIP_USER PIP_TARGET PIP_PREFIX PIP_REQUIRE_VIRTUALENV

# `make explain explainer=occlusion` would set a variable that nothing reads, and run with the default
UNREAD := $(foreach name,$(.VARIABLES),$(if $(filter command,$(firstword $(origin $(name)))),$(filter-out ARGS PYTHON TORCH_INDEX,$(name))))
ifneq ($(strip $(UNREAD)),)
$(error $(foreach name,$(UNREAD),$(name)=$(value $(name))) is read by no target; arguments of a command stand in ARGS: make $(firstword $(MAKECMDGOALS)) ARGS="$(strip $(foreach name,$(UNREAD),$(name)=$(value $(name))))")
endif

TAGGED = model=cifar_cnn 'ground_truth=[tag]' 'ground_truth.tag.shares=[0.5]' ground_truth.tag.label_noise=0.5 \
	ground_truth.tag.steps=600 optimization.lr=0.01

help: ## show this list
	@echo 'make <target> [ARGS="..."]: ARGS goes to the command, such as make explain ARGS="explainer=occlusion"'
	@awk -F ':.*## ' '/^[a-z_-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' Makefile

install: $(DEVELOPMENT) ## create .venv with the pinned versions (PYTHON=python3.12: this interpreter; TORCH_INDEX=URL: torch from this index)

explain: $(RUNTIME) ## explain images with one method
	$(RUN) src/explain.py $(ARGS)

train: $(RUNTIME) ## train a classifier and explain test images with it
	$(RUN) src/train.py $(ARGS)

robustness: $(RUNTIME) ## measure predictions and explanations under corruption
	$(RUN) src/robustness.py $(ARGS)

synthesize: $(RUNTIME) ## make fooling images or class visualizations
	$(RUN) src/synthesize.py $(ARGS)

doctor: $(RUNTIME) ## find out what is wrong with a classifier
	$(RUN) src/doctor.py $(ARGS)

compare: $(RUNTIME) ## find out whether two classifiers answer for the same reasons
	$(RUN) src/compare.py $(ARGS)

audit: $(RUNTIME) ## find out what a classifier uses besides the object (without ARGS: one that is trained on tagged images)
	$(RUN) src/audit.py $(or $(ARGS),$(TAGGED))

ground_truth: $(RUNTIME) ## judge explainers where the truth is known: networks trained on planted data
	$(RUN) src/ground_truth.py $(ARGS)

sweep: $(RUNTIME) ## explain the same images with every method
	$(RUN) src/explain.py -m 'explainer=glob(*)' $(ARGS)

report: $(RUNTIME) ## join the runs of a sweep: make report ARGS="runs=FOLDER"
	$(RUN) src/report.py $(ARGS)

tensorboard: $(RUNTIME) ## browse the runs in logbook/outputs
	$(RUN) -m tensorboard.main --logdir logbook/outputs $(ARGS)

methods: $(RUNTIME) ## measure which method is right on which network
	$(RUN) scripts/methods.py $(ARGS)

benchmark: $(RUNTIME) ## measure every method and metric beside its floor and its peers (ARGS="--full")
	$(RUN) scripts/benchmark.py $(ARGS)

logbook: $(RUNTIME) ## run the five studies and write their pages
	$(RUN) scripts/logbook.py $(ARGS)

test: $(DEVELOPMENT) ## run the tests and the examples in docstrings (pytest, two processes of one thread)
	$(RUN) -m pytest -n 2 $(ARGS)

check: lint imports types test ## what CI runs: lint, imports, types and test

lint: $(DEVELOPMENT) ## check style and formatting (ruff)
	$(RUN) -m ruff check
	$(RUN) -m ruff format --check

imports: $(DEVELOPMENT) ## check that a room imports only rooms below it (import-linter)
	PYTHONPATH=src .venv/bin/lint-imports --no-cache --no-logo

types: $(DEVELOPMENT) ## check the type annotations (mypy)
	$(RUN) -m mypy

oracle: $(DEVELOPMENT) ## install the reference implementations that some tests compare with
	@scripts/bootstrap "$(PYTHON)" '.[oracle]'
	$(RUN) -m pip install -q -c constraints.txt --no-deps quantus lxt

browser: $(DEVELOPMENT) ## install what the tests of report.html in a browser need (beside Chromium), and run them
	@scripts/bootstrap "$(PYTHON)" '.[browser]'
	$(RUN) -m pytest -m browser $(ARGS)

docs: $(DEVELOPMENT) ## build the documentation as a site into build/docs (Sphinx)
	@scripts/bootstrap "$(PYTHON)" '.[docs]'
	$(RUN) -m sphinx -q -W --keep-going -c docs . build/docs $(ARGS)
	@echo 'build/docs/index.html'

wheel: $(DEVELOPMENT) ## build the package into dist/
	@scripts/wheel $(RUN) dist

clean: ## remove caches and what was built
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage build dist src/*.egg-info
	find configs scripts src tests -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean ## remove caches and .venv
	rm -rf .venv

$(RUNTIME): pyproject.toml constraints.txt
	@echo 'Installing into .venv: the first time 3 to 5 minutes; on Linux about 2.5 GB to fetch, 6 GB on disk'
	@echo 'Without a GPU, an index of CPU builds of torch saves most of it: make install TORCH_INDEX=URL'
	@scripts/bootstrap "$(PYTHON)" .
	@touch $@

$(DEVELOPMENT): $(RUNTIME)
	@echo 'Installing the tools for tests and checks into .venv: less than a minute'
	@scripts/bootstrap "$(PYTHON)" '.[dev,launchers]'
	@touch $@
