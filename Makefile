# Every command a newcomer needs. `make` alone prints this list.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
IMAGE ?= byoa-sagemaker
ENGINE ?= process

help: ## print this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv: .venv/.complete ## the environment .venv with the locked packages

.venv/.complete: requirements/dev.txt scripts/make_venv.sh
	@scripts/make_venv.sh "$(PYTHON)"

demo: venv ## train on real data, serve, and predict once (ENGINE=docker: in the image)
	@scripts/demo.sh "$(ENGINE)" "$(IMAGE)"

test: venv ## the quick tests, in minutes: units, formats, one test a promise
	@scripts/test.sh

test-all: venv ## all tests with coverage; the Docker half where an engine answers
	@BYOA_IMAGE="$(IMAGE)" scripts/test.sh --all

image: ## build IMAGE:full and IMAGE:slim; makes a base image where none can be pulled
	@scripts/image.sh "$(IMAGE)"

lint: venv ## formatting, lint, types, shell scripts, Dockerfile
	@scripts/lint.sh

bench: venv ## measure this server beside its peers (QUICK=1: in 3 minutes; BENCH=--help: more)
	@.venv/bin/python -m benchmarks $(if $(QUICK),--quick) $(BENCH)

bench-train: venv ## measure CSV to a trained model beside pandas and AWS's way (BENCH=--help: more)
	@.venv/bin/python -m benchmarks.training $(BENCH)

bench-mme: venv ## measure many models in one server (QUICK=1; ENGINE=mms; BENCH=--help: more)
	@.venv/bin/python -m benchmarks.multi_model $(if $(QUICK),--quick) $(if $(filter mms,$(ENGINE)),--engine mms) $(BENCH)

contract: venv ## regenerate docs/contract.md and docs/settings.md from code, rules and tests
	@.venv/bin/python -m scripts.contract_table
	@.venv/bin/python -m scripts.settings_table

lock: venv ## regenerate requirements/*.txt from requirements/*.in
	@scripts/lock.sh

.PHONY: help venv demo test test-all image lint bench bench-train bench-mme contract lock
