# Needs git, make and Python 3.11 or later. `make` alone lists the targets.

PYTHON ?= python3
PY := .venv/bin/python
READY := .venv/.ready
RUNTIME_LOCK := requirements/runtime.txt
DEV_LOCK := requirements/dev.txt
BUILD_LOCK := requirements/build.txt
BENCH_LOCK := requirements/bench.txt
BENCH_READY := .venv/.bench
BENCH_SERVERS := redis-server rabbitmq-server mosquitto mosquitto-clients postgresql

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

.PHONY: help
help: ## this list
	@grep -E '^[a-z-]+:.*## ' $(firstword $(MAKEFILE_LIST)) | \
	  while IFS= read -r line; do printf '  make %-14s %s\n' "$${line%%:*}" "$${line#*## }"; done

.PHONY: demo
demo: $(READY) ## real conversations between real accounts, through a server of its own
	@$(PY) -m examples.demo

.PHONY: test
test: $(READY) ## every test; ARGS='-k name' picks some
	$(PY) -m pytest $(ARGS)

.PHONY: torture
torture: $(READY) ## kill, stop and cut off real processes, and judge what clients saw; SECONDS=600 ROUNDS=4 SEED=7
	$(PY) -m tests.torture.torture $(if $(SECONDS),--seconds $(SECONDS)) $(if $(ROUNDS),--rounds $(ROUNDS)) \
	  $(if $(SEED),--seed $(SEED)) $(ARGS)

.PHONY: check
check: $(READY) ## format, lint, types, who imports whom, and whether the JSON Schemas are the types'
	$(PY) -m ruff format --check --output-format concise .
	$(PY) -m ruff check --output-format concise .
	$(PY) -m mypy
	.venv/bin/lint-imports
	$(PY) tools/schemas.py --check

.PHONY: format
format: $(READY) ## write the code as `check` wants it
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

.PHONY: schemas
schemas: $(READY) ## write schemas/ anew from the types in restante/wire
	$(PY) tools/schemas.py

.PHONY: bench
bench: $(BENCH_READY) ## Restante beside what would be used instead, about an hour; ARGS='--peers redis --only send'
	$(PY) -m benchmarks.bench $(ARGS)

.PHONY: bench-quick
bench-quick: $(BENCH_READY) ## the same in less than ten minutes, results in dist/bench-quick
	$(PY) -m benchmarks.bench --quick $(ARGS)

# Debian starts what it installs as services, on their usual ports; the benchmarks use servers of their own.
.PHONY: bench-peers
bench-peers: $(BENCH_READY) ## install the servers that `bench` compares with: Debian's packages, as root
	@command -v apt-get >/dev/null || { echo "There is no apt-get here. \`make bench\` measures those of these that" \
	  "are on the PATH, and says which are not: redis-server, rabbitmq-server, mosquitto, mosquitto_pub, postgres." >&2; exit 1; }
	@[ "$$(id -u)" = 0 ] || { echo "Only root may install them:  sudo apt-get install $(BENCH_SERVERS)" >&2; exit 1; }
	apt-get update -q
	DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $(BENCH_SERVERS)
	@echo "Debian runs them as services too. They are not needed:"
	@echo "  systemctl disable --now redis-server rabbitmq-server mosquitto postgresql"

.PHONY: bench-replay
bench-replay: $(READY) ## all 243,046 messages, each compared with what was written
	$(PY) -m benchmarks.replay $(ARGS)

.PHONY: power
power: $(READY) ## cut the power under the databases; CUTS=20000 says how often, SEED=7 where to begin
	$(PY) -m tests.disk.cuts --cuts $(or $(CUTS),2000) --seed $(or $(SEED),0) $(ARGS)

.PHONY: simulate
simulate: $(READY) ## whole clusters in virtual time, all going wrong; SEEDS=10000 says how many, FIRST=7 from which on
	$(PY) -m tests.simulation.run --jobs 0 --seeds $(or $(SEEDS),1000) --first $(or $(FIRST),0) $(ARGS)

.PHONY: faults
faults: $(READY) ## plant every fault in a core, and see which seed of the simulation finds it
	$(PY) -m tests.simulation.run --jobs 0 --faults $(ARGS)

.PHONY: fuzz
fuzz: $(READY) ## hostile inputs by the million; ARGS='--inputs 10000000 --seed 7'
	$(PY) -m tests.attack.fuzz $(ARGS)

.PHONY: fuzz-sockets
fuzz-sockets: $(READY) ## the same at a real server, over loopback; ARGS='--seconds 600'
	$(PY) -m tests.attack.flood $(ARGS)

.PHONY: fuzz-guided
fuzz-guided: $(READY) ## atheris looks for ways through the decoders (it is installed for this; CPython 3.11 to 3.13)
	@$(PY) -c 'import atheris' 2>/dev/null || $(PY) -m pip install --quiet --disable-pip-version-check atheris
	$(PY) -m tests.attack.guided $(or $(ARGS),-max_total_time=60)

.PHONY: up
up: ## the three services in containers, until `docker compose down`
	docker compose up --wait --build

.PHONY: lock
lock: ## pin the requirements anew (needs uv; UPGRADE=1 takes the newest)
	@command -v uv >/dev/null || { echo "make lock needs uv on the PATH; nothing else here does." >&2; exit 1; }
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	  $(if $(UPGRADE),--upgrade) pyproject.toml --output-file $(RUNTIME_LOCK)
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	  $(if $(UPGRADE),--upgrade) --extra dev --constraint $(RUNTIME_LOCK) pyproject.toml --output-file $(DEV_LOCK)
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	  $(if $(UPGRADE),--upgrade) --extra bench --constraint $(DEV_LOCK) pyproject.toml --output-file $(BENCH_LOCK)
	echo hatchling | uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-header --constraint $(DEV_LOCK) - --output-file $(BUILD_LOCK)

.PHONY: clean
clean: ## remove all that these targets made: .venv, caches, dist
	rm -rf .venv dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A .venv that still runs is kept and brought up to date; one whose Python has moved or gone is made anew.
$(READY): $(DEV_LOCK) pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Restante needs Python 3.11 or later, and '$(PYTHON)' is not that." \
	       "Say which one to use: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@rm -f $@
	@$(PY) -c 'import pip, sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 \
	  || $(PYTHON) -m venv --clear .venv
	@echo "Installing into .venv …"
	@$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r $(DEV_LOCK)
	@$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

# What the benchmarks' peers need comes on top, and only for them: no test and no check does.
$(BENCH_READY): $(BENCH_LOCK) $(READY)
	@echo "Installing the peers' clients into .venv …"
	@$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r $(BENCH_LOCK)
	@touch $@
