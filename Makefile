# One command each, the same for people and CI.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

.PHONY: run test check lint format lock clean help chaos deliveries faults attack deploy-drain bench-parse bench-memory bench-latency bench-relay bench-loop bench-congestion

help:            ## what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

run: $(VENV)/.run ## install and start everything on this machine
	@$(BIN)/ingest up

test: $(VENV)/.dev ## install, check and run the whole suite
	@$(MAKE) --no-print-directory check
	@$(BIN)/python -m tests.browser
	@$(BIN)/pytest --numprocesses 3 --dist loadfile -m "not alone"  # many of them wait: three keep two cores busy
	@$(BIN)/pytest -m alone

check: $(VENV)/.dev ## lint, types and architecture
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

format: $(VENV)/.dev ## let ruff put the code in order
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

chaos: $(VENV)/.dev ## 200 documents while workers and Redis are killed under them
	@$(BIN)/python -m tests.chaos

deliveries: $(VENV)/.dev ## 1,000 documents with three webhook endpoints each, workers and couriers killed meanwhile
	@$(BIN)/python -m tests.deliveries $(if $(DOCUMENTS),--documents $(DOCUMENTS))

faults: $(VENV)/.dev ## two minutes of faults between web nodes and Redis, at random; SEED=n for the same again
	@$(BIN)/python -m tests.faults $(if $(SEED),--seed $(SEED))

attack: $(VENV)/.dev ## everything that is tried from outside to get what one may not have
	@$(BIN)/python -m tests.attack

deploy-drain: $(VENV)/.dev ## a rolling deploy under 3,000 viewers
	@$(BIN)/python -m tests.deploys

bench-parse: $(VENV)/.dev ## pages per second of each engine, beside a plain pdfplumber loop
	@$(BIN)/python -m bench.parse_speed $(if $(PDF),--pdf $(PDF))

bench-memory: $(VENV)/.dev ## what a worker's processes hold at most, on a document of 10,000 pages
	@$(BIN)/python -m bench.parse_memory $(if $(PAGES),--pages $(PAGES))

bench-latency: $(VENV)/.dev ## from a worker's write to 1,000 viewers, beside a peer and the floor
	@$(BIN)/python -m bench.relay_latency

bench-relay: $(VENV)/.bench ## the relay at its limits, beside nchan, flask-sse, sse-starlette and the floor; QUICK=1 takes a minute
	@$(BIN)/python -m bench.relay_scale $(if $(QUICK),--quick,--out bench/results)

bench-loop: $(VENV)/.dev ## how long a web process's event loop is held: 10,000 viewers, a gigabyte, a long result
	@$(BIN)/python -m bench.loop_hold

bench-congestion: $(VENV)/.dev ## 200 of 2,000 viewers do not read: what the others notice, and what each of them takes
	@$(BIN)/python -m bench.congestion

LOCK = $(BIN)/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --custom-compile-command "make lock"

lock: $(VENV)/.dev ## resolve the dependencies again, into requirements/
	@$(LOCK) pyproject.toml -o requirements/run.txt
	@$(LOCK) --group build -o requirements/build.txt
	@$(LOCK) pyproject.toml --group dev -c requirements/run.txt -c requirements/build.txt -o requirements/dev.txt
	@$(LOCK) --group bench -c requirements/run.txt -o requirements/bench.txt

clean:           ## forget the environment and all data
	@rm -rf $(VENV) var test-artifacts

$(BIN)/python:
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.run: requirements/run.txt requirements/build.txt pyproject.toml | $(BIN)/python
	@echo "installing ..."
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/run.txt -r requirements/build.txt
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: requirements/dev.txt $(VENV)/.run
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@touch $@

$(VENV)/.bench: requirements/bench.txt $(VENV)/.dev
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bench.txt
	@touch $@
