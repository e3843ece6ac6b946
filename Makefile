# make demo: the main job on the embedded benchmark. make test: the tests. make check: all that must pass.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
LOWEST ?= .venv-lowest
ROOM ?= refine
SHARE ?= 0.1
LOWEST_EXTRAS := slurm,parallel,tensorboard,photographs,coco,parquet
# With these versions timm builds no transformer on the meta device, which one test uses.
LOWEST_WITHOUT := every_alias_builds
# What needs transformers, whose lowest version wants a newer huggingface-hub than the rest.
LOWEST_HF := hf_models target_places targets zero_shot
# That version calls the layers of a ViT by other names, and torch draws other weights for a SigLIP.
LOWEST_HF_WITHOUT := (test_target_of_the_small_relative and transformers/ViT) or SigLIP-gradcam
READY := $(VENV)/ready

.PHONY: demo test check check-lowest mutants fix docs benchmark help

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

check-lowest: ## the demo and a fast part of the tests with the lowest versions that pyproject.toml allows
	test -x $(LOWEST)/bin/python || $(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/python -m pip uninstall -q -y transformers # of an earlier time
	$(LOWEST)/bin/python .ci/lowest.py > $(LOWEST)/lowest.txt
	$(LOWEST)/bin/python -m pip install -q --editable '.[$(LOWEST_EXTRAS)]' pytest beartype --constraint $(LOWEST)/lowest.txt
	rm -rf $(LOWEST)/demo $(LOWEST)/trained
	$(LOWEST)/bin/python evaluate.py logger=none hydra.run.dir=$(LOWEST)/demo data.count=80
	$(LOWEST)/bin/python train.py recipe.pictures=256 recipe.pool=128 checked=20 hydra.run.dir=$(LOWEST)/trained
	OMP_NUM_THREADS=1 $(LOWEST)/bin/python -m pytest -m "not slow" -p no:cacheprovider -W default \
		-k "not $(LOWEST_WITHOUT)" $(LOWEST_HF:%=--ignore=tests/models/test_%.py) \
		tests/data tests/models tests/results tests/refine tests/runs tests/test_registry.py
	$(LOWEST)/bin/python -m pip install -q "$$(grep transformers $(LOWEST)/lowest.txt)"
	OMP_NUM_THREADS=1 $(LOWEST)/bin/python -m pytest -m "not slow" -p no:cacheprovider -W default \
		-k "not ($(LOWEST_HF_WITHOUT))" $(LOWEST_HF:%=tests/models/test_%.py)

mutants: $(READY) ## change the code of a room (ROOM=refine) in a share of places (SHARE=0.1): do the tests notice?
	$(BIN)/python -m pip install -q 'mutmut>=3.8'
	$(BIN)/python .ci/mutants.py $(ROOM) $(SHARE)

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
