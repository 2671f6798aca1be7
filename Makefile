# Two commands on a fresh machine with Python and make: `make demo` and `make test`.
UV := $(or $(shell command -v uv),.uv/bin/uv)
BIN := .venv/bin
.DEFAULT_GOAL := help

.PHONY: help
help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  \1\t/' | expand -t 12

# uv, where there is none
.uv/bin/uv:
	python3 -m venv .uv
	.uv/bin/pip install --quiet --disable-pip-version-check uv

.venv/installed: requirements.lock pyproject.toml | $(filter .uv/%,$(UV))
	$(UV) venv --quiet --allow-existing .venv
	VIRTUAL_ENV=.venv $(UV) pip sync --quiet --require-hashes --compile-bytecode requirements.lock
	VIRTUAL_ENV=.venv $(UV) pip install --quiet --no-deps --editable .
	touch $@

.PHONY: install
install: .venv/installed ## install everything into .venv

.PHONY: demo
demo: install ## train a VAE on digits, evaluate it, and draw what it has learnt
	@echo "In a minute, look at runs/demo/latent.png: what the model has learnt of handwritten digits."
	$(BIN)/pyro-vae train --optimizer Adam --step-size 3e-3 --samples 1e6 --hidden 200 --kl analytic --out runs/demo --overwrite
	$(BIN)/pyro-vae evaluate runs/demo

.PHONY: test
test: install ## run the tests, as many at a time as there are cores
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal

.PHONY: browser
browser: install ## test the explorer in a Chromium, CHROMIUM=PATH or the one on the path
	VIRTUAL_ENV=.venv $(UV) pip install --quiet --group browser
	CHROMIUM=$${CHROMIUM:-$$(command -v chromium || command -v chromium-browser || command -v google-chrome || echo none)} \
		OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m browser -rs tests/browser

.PHONY: docs
docs: install ## build the site into build/site, and run its tutorials
	OMP_NUM_THREADS=1 $(BIN)/python -m sphinx --fail-on-warning --keep-going --jobs 2 -d build/doctrees docs build/site
	@echo "Open build/site/index.html."

.PHONY: links
links: install ## look up the links that lead out of the site, with a network
	OMP_NUM_THREADS=1 $(BIN)/python -m sphinx -b linkcheck -d build/doctrees docs build/links

.PHONY: coverage
coverage: install ## run the tests and tell which lines they reach
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal --cov --cov-report term:skip-covered --cov-report xml

.PHONY: bench
bench: install ## measure what a step costs, beside Pyro, torch and NumPyro, into docs/results/benchmark
	VIRTUAL_ENV=.venv $(UV) pip install --quiet --group benchmark
	$(BIN)/python examples/benchmark.py 15 docs/results/benchmark
	$(BIN)/python examples/benchmark_scaling.py 15 docs/results/benchmark

.PHONY: gpu
gpu: ## test and measure on a GPU with what is installed, PYTHON=PATH or .venv's, into docs/results/gpu.md
	PYTHONPATH=.:$$PYTHONPATH $${PYTHON:-$(BIN)/python} -m pytest -rs tests/gpu
	PYTHONPATH=.:$$PYTHONPATH $${PYTHON:-$(BIN)/python} examples/benchmark_gpu.py 15 docs/results/gpu.md

.PHONY: lint
lint: install ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.PHONY: format
format: install ## mend style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: wheel
wheel: install ## build the wheel and prove it in a fresh environment outside the checkout
	rm -rf dist
	$(UV) build --quiet --wheel --out-dir dist
	UV=$(if $(filter .uv/%,$(UV)),$(abspath $(UV)),$(UV)) tests/prove_wheel.sh dist/*.whl

.PHONY: lock
lock: | $(filter .uv/%,$(UV)) ## pin the newest versions in requirements.lock
	$(UV) pip compile --quiet --universal --python-version 3.12 --generate-hashes --no-emit-index-url --no-header \
		--upgrade --group dev --output-file requirements.lock pyproject.toml
