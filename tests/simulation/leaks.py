"""The leak check at the end of a run: services and queues hold nothing that no longer exists.

The services report their state through `debug_state`.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from tests.simulation.broker import Broker
from tests.simulation.replay import FINAL_PHASES
from tests.simulation.store import FINISHED_POD_PHASES, Object, Store, job_of

from phjob_core.labels import GROUP_LABEL
from phjob_janitor.handler import JanitorHandler
from phjob_pod_manager.handler import PodManagerHandler
from phjob_runtime.consumer import Consumer
from phjob_scheduler.handler import SchedulerHandler
from phjob_watcher.service import Watcher

MAX_MESSAGE_AGE_SECONDS = 20.0
"""The maximum time that a message stays in a queue while no fault occurs."""


State = Mapping[str, Any]
"""The answer of a service's `debug_state`."""


def leaks(store: Store, broker: Broker, now: float) -> Iterator[str]:
    """Return everything that queues and active consumers still hold, after all jobs have ended."""
    for queue in broker.queues.values():
        for message in (*(message for _, message in queue.ready), *queue.unacked.values()):
            if now - message.arrived_at > MAX_MESSAGE_AGE_SECONDS:
                yield f"{queue.name} still holds {message.envelope.message!r} of {message.arrived_at:.1f} s"
        if queue.consumers:
            yield from _leaks_of_consumer(queue.consumers[0].receiver, store)
    yield from _wrong_group_statuses(store)
    yield from _pods_without_job(store)
    yield from _pods_of_finished_jobs(store)


def _leaks_of_consumer(receiver: object, store: Store) -> Iterator[str]:
    """Return the leaks of a queue's active consumer."""
    match receiver:
        case Watcher() as watcher:
            yield from _leaks_of_watcher(watcher.debug_state(), store)
        case Consumer(handler=SchedulerHandler() as scheduler):
            yield from _leaks_of_scheduler(scheduler.debug_state(), store)
        case Consumer(handler=PodManagerHandler() as pod_manager):
            yield from _leaks_of_pod_manager(pod_manager.debug_state(), store)
        case Consumer(handler=JanitorHandler() as janitor):
            yield from _leaks_of_janitor(janitor.debug_state(), store)


def _leaks_of_watcher(state: State, store: Store) -> Iterator[str]:
    for plural, names in state["objects"].items():
        existing = {
            item["metadata"]["name"] for item in store.all(plural) if _is_observed(plural, item, store)
        }
        if {*names} != existing:
            yield f"the watcher holds {plural} {sorted(names)}, but {sorted(existing)} exist"


def _leaks_of_scheduler(state: State, store: Store) -> Iterator[str]:
    for uid, name in state["jobs"].items():
        yield f"the scheduler holds job {name} ({uid})"
    live = {
        pod["metadata"]["uid"]
        for pod in store.all("pods")
        if pod["status"]["phase"] not in FINISHED_POD_PHASES
    }
    for label, holders in state["charges"].items():
        for holder in holders:
            if holder not in live:
                yield f"the scheduler's ledger of {label} charges {holder}"


def _leaks_of_pod_manager(state: State, store: Store) -> Iterator[str]:
    if state["in_flight"] or state["queued_commands"]:
        yield f"pod-manager still executes commands: {state['queued_commands']}"
    if state["reconciling"] or state["executing"]:
        yield f"pod-manager has {state['reconciling']} + {state['executing']} running workers"
    yield from _missing("pod-manager holds job", state["jobs"], _unreclaimed_jobs(store))
    yield from _missing(
        "pod-manager holds pod", state["pods"], {pod["metadata"]["uid"] for pod in store.all("pods")}
    )
    for uid in state["pending_commands"]:
        yield f"pod-manager holds a command for {uid}"


def _leaks_of_janitor(state: State, store: Store) -> Iterator[str]:
    unreclaimed = _unreclaimed_jobs(store)
    yield from _missing("the janitor holds job", state["jobs"], unreclaimed)
    for uid in {*state["observed"], *state["outstanding"]} - unreclaimed:
        yield f"the janitor holds an observation or a command of {uid}"


def _wrong_group_statuses(store: Store) -> Iterator[str]:
    """Return each group whose status shows jobs or usage, because all jobs have ended."""
    for group in store.all("phgroups"):
        status = group["status"]
        if any(status.get(field) != 0 for field in ("pending", "preparing", "running")) or status["used"]:
            yield f"the status of group {group['metadata']['name']} is {status}"


def _pods_without_job(store: Store) -> Iterator[str]:
    """Return each pod that outlives its job, by whose deletion its command lost its deadline and its TTL."""
    jobs = {job["metadata"]["uid"] for job in store.all("phjobs")}
    for pod in store.all("pods"):
        if job_of(pod) and job_of(pod) not in jobs:
            yield f"the pod {pod['metadata']['name']} is {pod['status']['phase']}, but its job is deleted"


def _pods_of_finished_jobs(store: Store) -> Iterator[str]:
    """Return each pod that a sidecar keeps running, so that it holds quota for good."""
    unfinished = {
        job["metadata"]["uid"] for job in store.all("phjobs") if job["status"]["phase"] not in FINAL_PHASES
    }
    for pod in store.all("pods"):
        is_over = pod["status"]["phase"] in FINISHED_POD_PHASES or "deletionTimestamp" in pod["metadata"]
        if job_of(pod) and job_of(pod) not in unfinished and not is_over:
            yield f"the pod {pod['metadata']['name']} runs on, but its job has ended"


def _missing(holds: str, held: Mapping[str, str], existing: set[str]) -> Iterator[str]:
    """Return a sentence for each held object that does not exist."""
    return (f"{holds} {name} ({uid})" for uid, name in held.items() if uid not in existing)


def _unreclaimed_jobs(store: Store) -> set[str]:
    return {job["metadata"]["uid"] for job in store.all("phjobs") if not job["status"]["reclaimed"]}


def _is_observed(plural: str, item: Object, store: Store) -> bool:
    """Return whether the watcher has a fact about the object."""
    if plural == "phjobs":
        return not item["status"]["reclaimed"]
    if plural != "pods":
        return True
    if GROUP_LABEL in (item["metadata"].get("labels") or {}):
        return True
    return bool(job_of(item))  # A third party removed the label of its group.
