# make demo: the main job on the embedded benchmark. make test: the tests. make check: all that must pass.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready

.PHONY: demo test check fix docs benchmark help

demo: $(READY) ## guided backpropagation with and without class competition, on critters
	rm -rf runs/demo # a finished run is never overwritten otherwise
	$(BIN)/python evaluate.py hydra.run.dir=runs/demo

test: $(READY) ## all tests
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist worksteal

check: $(READY) ## lint, types, imports, tests
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(MAKE) test

fix: $(READY) ## format the code and mend what the linter can
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

docs: $(READY) ## the pages and the API reference, in site/; warnings are errors
	$(BIN)/mkdocs build

benchmark: $(READY) ## speed of the engine beside bare passes and Captum, in one run
	$(BIN)/python benchmarks/attribution.py
	$(BIN)/python benchmarks/passes.py
	$(BIN)/python benchmarks/perturbation.py

help: ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /: /'

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; name one: make PYTHON=python3.12"; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --editable '.[dev]'
	touch $(READY)
