# The verbs of the project; `make help` lists them. PYTHON chooses the interpreter that .venv is made from.
PYTHON ?= python3
BIN := .venv/bin
# TORCH=cpu gets the small CPU build of torch on Linux, where the default is the CUDA build.
TORCH ?=
# One thread: on a shared machine it is several times faster, and the numbers are steadier.
TEST_ENV := OMP_NUM_THREADS=1 TQDM_DISABLE=1

.PHONY: help lab fetch test test-all test-slow test-browser notebooks homework badges bench clean

help: ## list the verbs
	@grep -hE '^[a-z-]+:.*## ' Makefile | sed -E 's/^([a-z-]+):.*## /\1	/' | expand -t 16

lab: .venv/.lab ## open the course: install what is missing, get the models, start JupyterLab
	@$(BIN)/llmlab fetch --all --quiet
	@$(BIN)/llmlab lab

fetch: .venv/.lab ## get the embedded models and stop
	@$(BIN)/llmlab fetch --all

test: .venv/.test ## style, types, unit tests, and every notebook against its stored outputs
	@$(BIN)/llmlab fetch --all --quiet
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(TEST_ENV) $(BIN)/python -m pytest -m "not slow and not browser"
	$(TEST_ENV) $(BIN)/python -m tests.tools.notebooks test

test-all: test test-slow test-browser ## test, and what is slow or needs more: Colab imitation, real browser

test-slow: .venv/.test ## the slow tests alone
	$(TEST_ENV) $(BIN)/python -m pytest -m "slow and not browser"

test-browser: .venv/.test ## the tests in a real JupyterLab in a real Chromium (installs nothing; says what is missing)
	$(TEST_ENV) $(BIN)/python -m pytest -m browser

notebooks: .venv/.test ## run every notebook twice and write its outputs back in normal form
	$(TEST_ENV) $(BIN)/python -m tests.tools.notebooks execute

# nbgrader puts menus into the JupyterLab that it is installed beside: it gets a place of its own.
homework: .venv/.test .venv/nbgrader ## make the students' homework and answer_key/ from the solved notebooks, with nbgrader
	.venv/nbgrader/bin/python -m tests.tools.homework
	$(TEST_ENV) $(BIN)/python -m tests.tools.notebooks execute notebooks/homework/release/*/*.ipynb

.venv/nbgrader: .venv/.python constraints.txt
	$(PYTHON) -m venv $@
	$@/bin/python -m pip install -q --disable-pip-version-check -c constraints.txt nbgrader
	@touch $@

badges: .venv/.test ## write the project's address (pyproject.toml) into badges and set-up cells
	$(BIN)/python -m tests.tools.notebooks badges

bench: .venv/.test ## measure the figures of the README's table on this machine (drawing: in Chromium, if it is there)
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[browser,bench]'
	$(TEST_ENV) $(BIN)/python -m tests.tools.bench
	$(TEST_ENV) $(BIN)/python -m tests.tools.bench_llm --threads 1 --processor --out llmlab/data_files/llm_speed.csv

clean: ## remove what the verbs made here (the models' cache stays: `llmlab models` says where)
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -prune -exec rm -rf {} +
	find . -name .ipynb_checkpoints -prune -exec rm -rf {} +

.venv/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "llmlab needs Python 3.11 or newer; choose one with: make PYTHON=python3.12 …"; exit 1; }
	$(PYTHON) -m venv .venv
ifeq ($(TORCH),cpu)
	$(BIN)/python -m pip install -q uv
	$(BIN)/uv pip install --python $(BIN)/python --torch-backend=cpu $$(grep '^torch==' constraints.txt)
endif
	@touch $@

.venv/.lab: .venv/.python pyproject.toml constraints.txt
	@echo "Installing what the course needs: a few minutes, once."
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[lab]'
	@touch $@

.venv/.test: .venv/.lab
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[lab,test]'
	@touch $@
