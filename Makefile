# Every target sets up what it needs in .venv; nothing but Python, make and git has to be here.
SHELL := bash
export PATH := $(CURDIR)/.venv/bin:$(PATH)
.DEFAULT_GOAL := help
.PHONY: help setup demo repro publish ui check format test slow server-test chaos chaos-short bench readme lock clean

help: ## Show the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

setup: ## Make .venv, pinned and compiled
	@scripts/set-up

demo: setup ## Run the whole pipeline on the bundled digits: minutes, no network
	@resblock run digits

repro: setup ## Run the whole study of params.yaml (CIFAR-10: hours on a CPU)
	@resblock run

publish: setup ## Put CIFAR-10's weights into published/, which git holds: at most 80 MB
	dvc push --remote published --glob 'results/cifar10/trainings/**/weights.npz'
	@du -sh published

ui: setup ## Compare the runs in MLflow
	@resblock ui

check: setup ## Format, lint, types
	ruff format --check .
	ruff check .
	pyright

format: setup ## Format the code
	ruff format .
	ruff check --fix .

test: check ## Run every check and test that CI runs
	@# One more than two cores: some tests wait. Files as they come: the long ones, of whole pipelines, first.
	scripts/in-memory pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder

slow: setup ## Run the slow tests too: many kills, full disks (half an hour)
	pytest -m slow

server-test: setup ## Test a team's server: MLflow, PostgreSQL and S3 as real processes
	pytest -m server

chaos: setup ## Break things while a small study runs, a hundred times (about an hour)
	python -m tests.chaos --write

chaos-short: setup ## Eight such faults (minutes)
	python -m tests.chaos --short

readme: setup ## Write docs/findings.md and the README's tables and pictures from the results
	python scripts/readme.py

bench: setup .venv-bench/ready ## Measure speed against Keras and PyTorch, and fixed costs (hours, nothing else running)
	python -m benchmarks speed
	python -m benchmarks epoch
	python -m benchmarks side-by-side
	python -m benchmarks looks
	python -m benchmarks fixed
	python -m benchmarks pictures
	python -m benchmarks profile
	python -m benchmarks document

.venv-bench/ready: benchmarks/requirements.txt # PyTorch, the peer, apart from what the project needs
	python -m venv --clear .venv-bench
	.venv-bench/bin/python -m pip --disable-pip-version-check --quiet install --requirement benchmarks/requirements.txt
	touch $@

lock: setup ## Write requirements.lock anew (needs uv)
	uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes --upgrade \
	    --no-emit-index-url --no-header --no-annotate --quiet --output-file requirements.lock

clean: ## Remove the environment and caches; results and checkpoints stay
	rm -rf .venv .venv-bench .pytest_cache .ruff_cache .hypothesis data/downloads
	find src tests benchmarks scripts -name __pycache__ -type d -prune -exec rm -rf {} +
