"""What went against the promises in a simulated run, told by the store's own history.

The promises themselves are `tests.support.promises`, which real runs are held against, too. Here they are
applied to all groups, and what services still hold in the end is compared with what there is.
"""

from collections.abc import Iterator
from typing import Any

from tests.simulation.broker import Broker
from tests.simulation.loop import moment
from tests.simulation.scenario import Scenario
from tests.simulation.store import Change, Store
from tests.support import promises
from tests.support.history import Event

from pod_manager.handlers import Handlers as PodManager
from scheduler.handlers import Handlers as Scheduler
from shared.consumer import Consumer
from shared.labels import GROUP_LABEL, label_value
from watcher.handlers import Watcher

FINAL = ("Succeeded", "Failed", "Cancelled")
STALE_SECONDS = 20.0
"""How long a message may lie in a queue when all is well."""


def events(changes: list[Change]) -> list[Event]:
    """The history of jobs and of pods that count, as real runs record it."""
    kinds = {"phjobs": "PhJob", "pods": "Pod"}
    return [
        Event(change.revision, kinds[change.plural], change.gone, dict(change.object), moment(change.at))
        for change in changes
        if change.plural == "phjobs"
        or (change.plural == "pods" and GROUP_LABEL in (change.object["metadata"].get("labels") or {}))
    ]


def violations(history: list[Event], scenario: Scenario) -> Iterator[str]:
    """What must never have been, at no revision."""
    yield from promises.against_state_diagram(history)
    yield from promises.against_one_pod_a_job(history)
    yield from against_the_fence(history)
    yield from against_pods(history)
    for group in scenario.groups:
        quotas = {"user_quota": group.user_quota, "group_quota": group.group_quota}
        yield from promises.over_quota(history, group.name, **quotas)
        judge = promises.out_of_order_by_user if group.user_quota else promises.out_of_order
        yield from judge(history, group.name)


def against_the_fence(history: list[Event]) -> Iterator[str]:
    """An admission's name is used once; and once a session has admitted, none before it does so any more.

    That is what the other promises rest on (ARCHITECTURE.md, The fence). Where it is broken they are,
    too, but seldom: two sessions mostly decide the same.
    """
    admitted: dict[str, str] = {}
    preparing: dict[str, str] = {}
    sessions: dict[str, list[str]] = {}
    for event in history:
        if event.kind != "PhJob":
            continue
        status = event.object["status"]
        before, preparing[event.uid] = preparing.get(event.uid, ""), event.phase
        if event.phase != "Preparing" or before == "Preparing":
            continue
        token = status["fence"]
        if token in admitted:
            yield f"{event.name} was admitted as {token}, which was {admitted[token]}'s already"
        admitted[token] = event.name
        session, shard = token.partition("#")[0], token.partition("-")[0]
        of_shard = sessions.setdefault(shard, [])
        if session in of_shard[:-1]:
            yield f"{event.name} was admitted by session {session}, after session {of_shard[-1]} had begun"
        elif session not in of_shard:
            of_shard.append(session)


def against_pods(history: list[Event]) -> Iterator[str]:
    """No job fails because somebody deleted its pod: here nobody does, but our services for a reason."""
    for event in history:
        if event.kind == "PhJob" and event.object["status"]["reason"] == "PodDeleted":
            yield f"{event.name} failed, for its pod was deleted: {event.object['status'].get('message')}"


def unfinished(store: Store) -> list[str]:
    """The jobs that are in no final phase."""
    return [job["metadata"]["name"] for job in store.all("phjobs") if job["status"]["phase"] not in FINAL]


def could_go(store: Store, history: list[Event], scenario: Scenario, now: float) -> set[tuple[str, str]]:
    """The jobs (and their fences) that the rule lets go now (contract.md, Queueing 2)."""
    found = set()
    for group in scenario.groups:
        usages = list(promises.usages(history, group.name))
        used = usages[-1][1] if usages else {}
        jobs = [job for job in store.all("phjobs") if job["spec"]["groupName"] == group.name]
        waiting = [job for job in jobs if _waits(job, now)]
        waiting.sort(key=lambda job: int(job["metadata"]["uid"].removeprefix("phjobs-")))
        parked = set()
        for job in waiting:
            user = label_value(job["spec"]["userName"])
            wants = int(job["spec"]["instanceType"][-1])
            limit = group.user_quota.get("gpu")
            if user in parked:
                continue
            if limit is not None and used.get(user, {}).get("gpu", 0) + wants > limit:
                parked.add(user)
                continue
            total = sum(of_user.get("gpu", 0) for of_user in used.values())
            if total + wants <= group.group_quota["gpu"]:
                found.add((job["metadata"]["name"], job["status"]["fence"]))
            break
    return found


def _waits(job: Any, now: float) -> bool:
    status = job["status"]
    if status["phase"] != "Pending" or job["spec"].get("cancel"):
        return False
    after = status.get("requeueAfter")
    return after is None or after <= moment(now).strftime("%Y-%m-%dT%H:%M:%SZ")


def leaks(store: Store, broker: Broker, now: float) -> Iterator[str]:
    """What services and queues still hold when nothing is left to do."""
    for queue in broker.queues.values():
        lying = [message for _, message in queue.ready] + list(queue.unacked.values())
        for message in lying:
            if now - message.at > STALE_SECONDS:
                yield f"{queue.name} still holds {message.envelope.message!r} of {message.at:.1f} s"
        if queue.consumers:
            yield from _held(queue.consumers[0].reader, store)
    yield from _reported_wrongly(store)


def failures(broker: Broker) -> Iterator[str]:
    """What a service could not handle: here nobody sends what can't be."""
    for envelope, reason in broker.dead:
        yield f"{type(envelope.message).__name__} of {envelope.publisher} was buried: {reason}"


def _held(reader: object, store: Store) -> Iterator[str]:
    """What an active consumer knows that is not so."""
    match reader:
        case Watcher():
            yield from _mirrored_wrongly(reader, store)
        case Consumer(_handler=Scheduler() as scheduler):
            yield from _counted_wrongly(scheduler, store)
        case Consumer(_handler=PodManager() as pod_manager):
            yield from _not_done(pod_manager, store)


def _reported_wrongly(store: Store) -> Iterator[str]:
    """Nothing waits or runs any more, and every group says so."""
    for group in store.all("phgroups"):
        said = group["status"]
        if any(said.get(field) != 0 for field in ("pending", "preparing", "running")) or said["used"]:
            yield f"group {group['metadata']['name']} says {said}"


def _mirrored_wrongly(watcher: Watcher, store: Store) -> Iterator[str]:
    for kind, mirror in watcher._mirrors.items():
        known = {fact.name for fact in mirror.facts()}
        there = {item["metadata"]["name"] for item in store.all(kind) if _mirrored(kind, item)}
        if known != there:
            yield f"the watcher's mirror of {kind} holds {known}, there is {there}"


def _counted_wrongly(scheduler: Scheduler, store: Store) -> Iterator[str]:
    mind = scheduler._admission
    live = {pod["metadata"]["uid"] for pod in store.all("pods") if pod["status"]["phase"] not in FINAL}
    for uid, job in mind.jobs.items():
        yield f"the scheduler holds job {uid}: {job}"
    for name, queue in mind.groups.items():
        for holder, _ in queue.ledger.holders():
            if holder not in live:
                yield f"the scheduler's ledger of {name} holds {holder}"


def _not_done(pod_manager: PodManager, store: Store) -> Iterator[str]:
    orders, jobs = pod_manager._orders, pod_manager._jobs
    if orders._under_way or orders._waiting:
        yield f"pod-manager still writes {orders._waiting}"
    if len(jobs._lanes) or len(orders._lanes):
        yield "pod-manager's lanes are not at rest"
    standing = {job["metadata"]["uid"] for job in store.all("phjobs") if not job["status"]["reclaimed"]}
    for job in jobs._known.jobs:
        if job.uid not in standing:
            yield f"pod-manager holds job {job.name}"
    pods = {pod["metadata"]["uid"] for pod in store.all("pods")}
    for pod in jobs._known.pods:
        if pod.uid not in pods:
            yield f"pod-manager holds pod {pod.name}"
    for uid in jobs._known._wishes:
        yield f"pod-manager holds a wish for {uid}"


def _mirrored(kind: str, item: Any) -> bool:
    if kind == "phjobs":
        return not item["status"]["reclaimed"]
    return kind != "pods" or GROUP_LABEL in (item["metadata"].get("labels") or {})
