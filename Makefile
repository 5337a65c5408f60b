# Each target does all that is needed on a fresh machine with Python 3.11 or newer, then its job.
# Another Python: make test PYTHON=python3.13

PYTHON ?= python3
BIN := .venv/bin
# TensorFlow stands apart: where it is installed, torch's TensorBoard writer imports it.
BENCH_BIN := .venv-bench/bin

.PHONY: demo test check format bench docs clean

demo: .venv/installed
	$(BIN)/textwright demo

test: .venv/installed
	$(BIN)/python -m pytest --numprocesses auto --dist worksteal

check: .venv/installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: .venv/installed
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: .venv-bench/installed
	$(BENCH_BIN)/python benchmarks/speed.py recipes-lstm --out speed-recipes.json
	$(BENCH_BIN)/python benchmarks/speed.py wine-gpt --out speed-wine.json

docs: .venv/installed
	$(BIN)/python docs/make_cli.py

clean:
	rm -rf .venv .venv-bench

.venv/installed: EXTRAS := dev
.venv-bench/installed: EXTRAS := bench

# Compiled at once, on all cores, which pip does on one: where Python may not write bytecode itself
# (PYTHONDONTWRITEBYTECODE), every start would compile torch anew. A file that is edited later is
# compiled when it is imported. What cannot be compiled is for another Python, and nothing imports it.
.venv/installed .venv-bench/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("textwright needs Python 3.11 or newer, and $(PYTHON) is older. Name one: make PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	test -x $(@D)/bin/python || $(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --no-compile --constraint constraints.txt --editable '.[$(EXTRAS)]'
	@$(@D)/bin/python -m compileall -qq -j 0 -x "/(tests|transformers/models)/" $(@D)/lib src || true
	@touch $@
