# The few commands a person types. Each target sets up what it needs by itself, once.
# Needs: Python 3.11 and make. Node 24 and Java 17 come as pinned wheels into .venv.

STAGE  ?= sandbox
PYTHON ?= $(firstword $(shell command -v python3.11 python3 python 2>/dev/null))

UV     := .venv/bin/uv
BIN    := $(CURDIR)/.venv/bin
CDK    := npx --no-install cdk
CONTEXT = -c stage=$(STAGE)

# The pinned Node and tools win over whatever the machine has; the CDK CLI sends nothing home.
export PATH := $(BIN):$(PATH)
export CDK_DISABLE_CLI_TELEMETRY := true
export PYTHONUNBUFFERED := 1

.DEFAULT_GOAL := help
.PHONY: help synth demo rollout test test-deep check lint definition cost diagram operations tables bench curate replay quotas bootstrap deploy release verify-aws destroy cloud cloud-down shell iam-report lock clean

help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# --- what a reader runs ---------------------------------------------------------------------------------------------

synth: .venv/.synth node_modules/.package-lock.json ## templates of every stack into cdk.out (STAGE=production for the other stage)
	@$(CDK) synth --quiet --no-notices $(CONTEXT)
	@echo "Templates: cdk.out/*.template.json (stage $(STAGE))"

demo: .venv/.local .venv-cloud/.installed node_modules/.package-lock.json ## the main job on real flights, deployed into the embedded cloud; report in out/demo
	@$(BIN)/python -m local.demo $(ARGS)

rollout: .venv/.local .venv-cloud/.installed node_modules/.package-lock.json ## three deployments under load: good, slow, failing; picture in out/rollout
	@$(BIN)/python -m local.rollout $(ARGS)

curate: .venv/.local ## the Spark job alone (ARGS="--raw out/raw --out out/lake --schema flights")
	@$(BIN)/python -m local.spark $(ARGS)

cost: .venv/.synth ## what each stack costs, idle and with a model in service (both stages, or the STAGE that is given)
	@$(BIN)/python -m tools.cost $(if $(filter file,$(origin STAGE)),,--stage $(STAGE)) $(ARGS)

# --- what a maintainer runs -----------------------------------------------------------------------------------------

test: lint ## lint, strict types, and every fast test with branch coverage
	@$(BIN)/python -m pytest -m "not deep" -n auto --no-loadscope-reorder --cov --cov-report=term-missing:skip-covered $(ARGS)

test-deep: .venv/.dev .venv-cloud/.installed node_modules/.package-lock.json ## the exhaustive tests too
	@$(BIN)/python -m pytest -n auto --no-loadscope-reorder $(ARGS)

check: lint ## lint, strict types, import layers, and the static checks of the templates and the definitions
	@$(BIN)/python -m pytest -m "not deep" tests/stacks tests/pipeline/test_definition.py

lint: .venv/.dev .venv-cloud/.installed node_modules/.package-lock.json
	@$(BIN)/ruff check --quiet . && $(BIN)/ruff format --check --quiet .
	@$(BIN)/lint-imports > /dev/null || $(BIN)/lint-imports
	@$(BIN)/mypy

definition: .venv/.dev ## rebuild the committed pipeline definitions with the SageMaker SDK
	@$(BIN)/python -m pipeline.definition

operations: .venv/.dev .venv-cloud/.installed ## rewrite docs/operations.md: what the embedded cloud implements, and for whom
	@$(BIN)/python -m tools.operations

diagram: .venv/.synth node_modules/.package-lock.json ## redraw docs/diagrams/flow.svg from the templates
	@$(BIN)/python -m tools.diagram

tables: .venv/.synth node_modules/.package-lock.json ## rewrite the tables of docs/serving.md from the rules, the rollouts and the prices
	@$(BIN)/python -m tools.tables

bench: .venv/.dev .venv-cloud/.installed .venv-bench/.installed node_modules/.package-lock.json ## speed and memory, each beside a peer in the same run; into out/bench
	@$(BIN)/python -m benchmarks.run $(ARGS)

# --- what an engineer with an AWS account runs ----------------------------------------------------------------------

quotas: .venv/.local ## read-only: does the account's quota allow the endpoint, doubled during a rollout?
	@$(BIN)/python -m tools.quotas --stage $(STAGE) $(ARGS)

bootstrap: synth ## once per account and region: CDK's own bucket and roles
	@$(CDK) bootstrap --app cdk.out --no-notices $(ARGS)

replay: .venv/.local ## real flights with faults into a folder, a bucket or a stream (ARGS="--to out/raw")
	@$(BIN)/python -m tools.replay $(ARGS)

deploy: synth ## deploy every stack of STAGE into the account of your credentials
	@$(CDK) deploy --all --app cdk.out --no-notices $(ARGS)

release: .venv/.local ## the approved model in service again, after Serving was made anew (ARGS="--dry-run", "--package ARN", "--none")
	@$(BIN)/python -m tools.release --stage $(STAGE) $(ARGS)

verify-aws: .venv/.local ## read-only checks of the deployed system
	@$(BIN)/python -m tools.verify_aws --stage $(STAGE) $(ARGS)

destroy: .venv/.local node_modules/.package-lock.json ## list, empty and remove what a deployment and its runs created
	@$(BIN)/python -m tools.destroy --stage $(STAGE) $(ARGS)

# --- the embedded cloud: the same commands as against AWS, on 127.0.0.1 ----------------------------------------------

cloud: .venv/.local .venv-cloud/.installed node_modules/.package-lock.json ## start the embedded cloud on 127.0.0.1 (PORT=4566)
	@$(BIN)/python -m local.cloud up $(if $(PORT),--port $(PORT)) $(ARGS)

cloud-down: .venv/.local ## stop it; nothing of it stays
	@$(BIN)/python -m local.cloud down $(ARGS)

shell: .venv/.local ## a shell in which aws, npx cdk and boto3 talk to it
	@$(BIN)/python -m local.cloud shell $(ARGS)

iam-report: .venv/.local .venv-cloud/.installed ## what each deployed role used there, and what no run has shown
	@.venv-cloud/bin/python -m local.cloud.iam_report $(ARGS)

# --- environments ---------------------------------------------------------------------------------------------------

$(UV):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null || \
	  { echo "Python 3.11 is needed, and '$(PYTHON)' is not it. Install it, or: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "Setting up .venv ..."
	@$(PYTHON) -m venv --clear .venv || \
	  { echo "Python's venv module is missing: on Debian, apt-get install python3.11-venv" >&2; exit 1; }
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-uv.txt

INSTALL = $(UV) pip install --quiet --python $(BIN)/python --require-hashes --compile-bytecode

.venv/.synth: requirements.txt | $(UV)
	@echo "Installing what synth needs (AWS CDK, Node 24): about half a minute ..."
	@$(INSTALL) -r requirements.txt
	@touch $@

.venv/.local: requirements-local.txt .venv/.synth
	@echo "Installing what a local run needs (Spark, Java 17, XGBoost, boto3): about half a minute ..."
	@$(INSTALL) -r requirements-local.txt
	@touch $@

.venv/.dev: requirements-dev.txt .venv/.synth
	@echo "Installing what tests and checks need (SageMaker SDK, linters): about a minute ..."
	@$(INSTALL) -r requirements-dev.txt
	@touch $@ .venv/.local

.venv-cloud/.installed: requirements-cloud.txt | $(UV)
	@echo "Installing the embedded cloud (MiniStack, the AWS CLI) into its own environment ..."
	@test -x .venv-cloud/bin/python || $(PYTHON) -m venv --without-pip .venv-cloud
	@$(UV) pip install --quiet --python .venv-cloud/bin/python --require-hashes --compile-bytecode -r requirements-cloud.txt
	@touch $@

.venv-bench/.installed: requirements-bench.txt | $(UV)
	@echo "Installing the model server that ours is measured beside (MLServer) into its own environment ..."
	@test -x .venv-bench/bin/python || $(PYTHON) -m venv --without-pip .venv-bench
	@$(UV) pip install --quiet --python .venv-bench/bin/python --require-hashes --no-deps --compile-bytecode -r requirements-bench.txt
	@touch $@

node_modules/.package-lock.json: package-lock.json .venv/.synth
	@echo "Installing the CDK CLI ..."
	@$(BIN)/npm ci --loglevel=error
	@touch $@

lock: $(UV) ## pin again, after a change to a requirements*.in
	@for name in -uv -dev -cloud -bench "" -local; do \
	  $(UV) pip compile --quiet --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	    --annotation-style line $$(test "$$name" = "" -o "$$name" = -local && echo "-c requirements-dev.txt") \
	    requirements$$name.in -o requirements$$name.txt || exit 1; done

clean: ## remove what was built; leaves the environments
	@rm -rf cdk.out out .cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .coverage* spark-warehouse
