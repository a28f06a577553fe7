# The targets that people and CI call. dev/ (the local stack) and tests/ implement them.

.DEFAULT_GOAL := help
.PHONY: help up down demo test unit integration oldest e2e ends check docs pictures simulate faults hostile soak bench

# An option counts only if it is given on this command line. Without this, a KUBECONFIG that the shell exports, such as
# that of `make up`, would be taken for a cluster of the user's own.
given = $(if $(filter command,$(firstword $(origin $(1)))),$(2) '$(subst ','\'',$($(1)))')
state = $(call given,STATE,--state)
options = $(state) $(call given,NODE,--node) $(call given,NODES,--nodes) $(call given,REPLICAS,--replicas) \
	$(call given,SETTINGS,--settings) \
	$(call given,BROKER,--broker) $(call given,KUBECONFIG,--kubeconfig)

# Let uv trust the certificates that this machine trusts.
export UV_SYSTEM_CERTS ?= 1
run = @uv="$$(dev/bootstrap)" && "$$uv" sync --locked --quiet && "$$uv" run --no-sync

help:
	@echo 'Run PhJob on this machine:'
	@echo '  make up           start a cluster, RabbitMQ and the services; start again what has ended'
	@echo '                    eval "$$(make -s up)" also sets KUBECONFIG for kubectl'
	@echo '  make down         end them and delete their data; the logs stay'
	@echo '  make demo         show queues, cancel and requeue on a stack of its own, and remove it'
	@echo
	@echo 'Test it:'
	@echo '  make unit         run the unit tests (seconds; they need no other program)'
	@echo '  make check        run the linters and type checks, and build the documentation site'
	@echo '  make integration  test each part with a real API server and RabbitMQ'
	@echo '  make oldest       test custom resources and chart on Kubernetes 1.31 and newer (builds its API server once)'
	@echo '  make e2e          test whole installations, real faults and attacks'
	@echo '  make test         run all tests'
	@echo '  make ends         end jobs on a real node in every way (cancel, full disk, drain, restarts, lost node,'
	@echo '                    sidecars), and show each change of each job and pod'
	@echo '  make simulate     run the services on a simulated cluster with random faults'
	@echo '                    SEEDS=n      number of runs (2000)      FIRST=n  first seed (1)'
	@echo '                    WORLD=name   late-creations, third-party-deletion or unauthorized: this fault only'
	@echo '  make faults       break every part of a real stack while jobs run; write docs/faults.md (90 minutes)'
	@echo '  make hostile      let one user attack the others in full; write docs/performance/hostile.md (1 to 2 hours)'
	@echo '                    ONLY=text    attacks whose names contain this text only'
	@echo '  make soak         break a real stack every few seconds while jobs run'
	@echo '                    MINUTES=n    duration (30)              SEED=n   seed of the faults (1)'
	@echo '  make bench        measure on a stack of its own, and compare with the bounds'
	@echo '                    SCALE=name   full (default) or small    ONLY=name  one scenario only'
	@echo
	@echo 'Generate files:'
	@echo '  make docs         write docs/reference and the Grafana dashboards'
	@echo '  make pictures     write docs/pictures: dashboards and screens of a run'
	@echo
	@echo 'Options of make up (in brackets: the default). They apply until make down, unless given again:'
	@echo '  STATE=dir         folder of the stack (.local); each folder is another stack; also for make down'
	@echo '  NODE=real|kwok    real containers (as root on Linux), or pods that KWOK simulates; also for make demo'
	@echo '  NODES=n           number of simulated nodes (1)'
	@echo '  REPLICAS=n        processes of each service (1); one is active, the others are on standby'
	@echo '  SETTINGS=file     settings file of the services; make up restarts them if it has changed'
	@echo '  BROKER=url        AMQP URL of a RabbitMQ to use instead of a new one'
	@echo '  KUBECONFIG=file   kubeconfig of a cluster to use instead of a new one'
	@echo 'Environment:'
	@echo '  PHJOB_CACHE=dir   folder of the programs that are built once per machine (~/.cache/phjob)'

up:
	$(run) python -m dev up $(options)

down:
	$(run) python -m dev down $(state)

demo:
	$(run) python -m dev demo $(call given,NODE,--node)

pytest = pytest --numprocesses=2 --dist=loadgroup

test:
	$(run) python -m dev install
	$(run) $(pytest)

unit:
	$(run) $(pytest) tests/unit --cov

integration:
	$(run) python -m dev install
	$(run) $(pytest) tests/contracts tests/integration

oldest:
	$(run) env PHJOB_OLDEST=1 pytest -v tests/integration/test_kubernetes_versions.py

e2e:
	$(run) python -m dev install
	$(run) $(pytest) tests/e2e tests/faults tests/hostile

ends_of = tests/e2e/test_real_signals.py tests/e2e/test_real_ends.py tests/e2e/test_real_retry.py \
	tests/e2e/test_lost_node.py tests/e2e/test_real_security.py

ends:
	$(run) env PHJOB_SHOW=1 pytest --capture=no -v $(ends_of)

check:
	$(run) ruff check
	$(run) ruff format --check
	$(run) mypy
	$(run) lint-imports
	$(run) env NO_MKDOCS_2_WARNING=1 mkdocs build --strict --quiet

docs:
	$(run) python -m dev docs

pictures:
	$(run) env PHJOB_PICTURES=docs/pictures pytest tests/e2e/test_monitoring.py tests/e2e/test_screens.py

SEEDS ?= 2000
FIRST ?= 1
simulate:
	$(run) python -m tests.simulation $(FIRST) $(SEEDS) $(if $(WORLD),--world $(WORLD))

faults:
	$(run) python -m dev install
	$(run) env PHJOB_FAULTS=docs/faults.md pytest -v tests/faults/test_matrix.py

hostile = docs/performance/hostile.md
hostile:
	$(run) python -m dev install
	$(run) env PHJOB_HOSTILE=$(hostile) pytest -v tests/hostile $(if $(ONLY),-k '$(ONLY)')
	$(if $(ONLY),,$(run) python -m tests.hostile.memory $(hostile) .local/hostile)

MINUTES ?= 30
SEED ?= 1
soak:
	$(run) python -m dev install
	$(run) env PHJOB_SOAK_MINUTES=$(MINUTES) PHJOB_SOAK_SEED=$(SEED) pytest --log-cli-level=INFO tests/faults/test_soak.py

SCALE ?= full
bench:
	$(run) python -m tests.benchmarks --scale $(SCALE) $(if $(ONLY),--only $(ONLY))
