# The targets that people and CI call. What they do is in dev/ (the local stack) and tests/.

.DEFAULT_GOAL := help
.PHONY: help up down demo test check docs pictures simulate faults soak bench

# An option counts only if it is given on this command line: a KUBECONFIG that the shell has exported,
# maybe from `make up`, doesn't mean a cluster of one's own.
given = $(if $(filter command,$(firstword $(origin $(1)))),$(2) '$(subst ','\'',$($(1)))')
state = $(call given,STATE,--state)
options = $(state) $(call given,NODE,--node) $(call given,NODES,--nodes) $(call given,REPLICAS,--replicas) \
	$(call given,SETTINGS,--settings) \
	$(call given,BROKER,--broker) $(call given,KUBECONFIG,--kubeconfig)

# uv trusts the certificates that this machine trusts.
export UV_SYSTEM_CERTS ?= 1
run = @uv="$$(dev/bootstrap)" && "$$uv" sync --locked --quiet && "$$uv" run --no-sync

help:
	@echo 'make up      bring up a whole PhJob on this machine; eval "$$(make -s up)" points kubectl at it'
	@echo '             (again: starts what has died, leaves the rest alone)'
	@echo 'make down    end it and delete its data; its logs stay'
	@echo 'make demo    show what PhJob does, on a stack of its own that is gone afterwards'
	@echo 'make test    run all tests'
	@echo 'make check   run the linters and type checks'
	@echo 'make simulate SEEDS=n FIRST=seed   run the services on a simulated cluster that breaks in n ways'
	@echo 'make faults  break every part of a real stack while jobs run, and write docs/faults.md (an hour)'
	@echo 'make soak MINUTES=30 SEED=1   break a real stack every few seconds while jobs come and go'
	@echo 'make bench SCALE=full|small ONLY=scenario   measure on a stack of its own, and hold it against the bounds'
	@echo 'make docs    make what comes from the code: tables of ARCHITECTURE.md, Grafana dashboards'
	@echo 'make pictures  draw dashboards and screens of a run into docs/pictures'
	@echo
	@echo 'Options:     STATE=dir         where the stack lives (.local); each STATE is a stack of its own'
	@echo '             NODE=real|kwok    run containers (default as root on Linux), or only play them'
	@echo '             NODES=n           how many nodes KWOK plays (1)'
	@echo '             REPLICAS=n        how many processes of each service (1); the second stands by'
	@echo "             SETTINGS=file     the services' settings; when changed, 'make up' restarts them"
	@echo '             BROKER=url        use this RabbitMQ instead of one of our own'
	@echo '             KUBECONFIG=file   use this cluster instead of one of our own'
	@echo '             What is not given again stays as it was until make down.'
	@echo 'Environment: PHJOB_CACHE       where programs are kept that are built once (~/.cache/phjob)'

up:
	$(run) python -m dev up $(options)

down:
	$(run) python -m dev down $(state)

demo:
	$(run) python -m dev demo $(options)

test:
	$(run) python -m dev install
	$(run) pytest --numprocesses=2 --dist=loadgroup

check:
	$(run) ruff check
	$(run) ruff format --check
	$(run) mypy
	$(run) lint-imports

docs:
	$(run) python -m dev docs

pictures:
	$(run) env PHJOB_PICTURES=docs/pictures pytest tests/e2e/test_monitoring.py tests/e2e/test_screens.py

SEEDS ?= 2000
FIRST ?= 1
simulate:
	$(run) python -m tests.simulation $(FIRST) $(SEEDS)

faults:
	$(run) python -m dev install
	$(run) env PHJOB_FAULTS=docs/faults.md pytest -v tests/faults/test_matrix.py

MINUTES ?= 30
SEED ?= 1
soak:
	$(run) python -m dev install
	$(run) env PHJOB_SOAK_MINUTES=$(MINUTES) PHJOB_SOAK_SEED=$(SEED) pytest --log-cli-level=INFO tests/faults/test_soak.py

SCALE ?= full
bench:
	$(run) python -m tests.benchmarks --scale $(SCALE) $(if $(ONLY),--only $(ONLY))
