"""The promises that every history has to keep, whatever happens to the services.

The functions are pure. Each `..._violations` returns a sentence for each violation of its promise. They use
only the labels and the quantities of the product's code, so that they do not repeat its errors.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tests.support.history import WatchEvent

from phjob_core.labels import JOB_UID_LABEL, USER_LABEL, label_value
from phjob_core.quantities import parse

Object = Mapping[str, Any]
Amounts = dict[str, int]

ALLOWED_TRANSITIONS = {
    "": {"Pending"},
    "Pending": {"Preparing", "Failed", "Cancelled"},
    "Preparing": {"Pending", "Running", "Succeeded", "Failed", "Cancelled"},
    "Running": {"Succeeded", "Failed", "Cancelled"},
    "Succeeded": set(),
    "Failed": set(),
    "Cancelled": set(),
}
"""The phases that can follow each phase (spec.md, L1). A short job may skip Running (spec.md, L4).

A retry also leads from Running to Pending (spec.md, L17).
"""
ADMITTED_PHASES = {"Preparing", "Running"}
FINISHED_POD_PHASES = {"Succeeded", "Failed"}


def state_diagram_violations(events: Iterable[WatchEvent]) -> list[str]:
    """Return the transitions that are not in the state diagram."""
    phases: dict[str, str] = defaultdict(str)
    retries: dict[str, int] = defaultdict(int)
    violations = []
    for event in events:
        if event.kind != "PhJob" or event.gone:
            continue
        before, phases[event.uid] = phases[event.uid], event.phase
        retried = event.object["status"].get("retried", 0)
        is_retry = retried > retries[event.uid] and (before, event.phase) == ("Running", "Pending")
        retries[event.uid] = retried
        if event.phase not in {before, *ALLOWED_TRANSITIONS[before]} and not is_retry:
            transition = f"from {before or 'nothing'} to {event.phase}"
            violations.append(f"{event.name} went {transition} at r{event.revision}")
    return violations


def single_pod_violations(events: Iterable[WatchEvent]) -> list[str]:
    """Return the times at which a job had two live pods, or its command started again without a retry."""
    live: dict[str, set[str]] = defaultdict(set)
    started: dict[str, set[str]] = defaultdict(set)
    retries: dict[str, int] = defaultdict(int)
    violations = []
    for event in events:
        if event.kind == "PhJob":
            retries[event.uid] = event.object.get("status", {}).get("retried", 0)
        job = controlling_job(event)
        if not job:
            continue
        if event.gone or event.phase in FINISHED_POD_PHASES:
            live[job].discard(event.uid)
        else:
            live[job].add(event.uid)
        if len(live[job]) > 1:
            violations.append(f"{event.name} had {len(live[job])} live pods at r{event.revision}")
        if has_started(event) and event.uid not in started[job]:
            started[job].add(event.uid)
            if len(started[job]) > 1 + retries[job]:
                violations.append(f"{event.name} started again at r{event.revision}")
    return violations


def has_started(pod: WatchEvent) -> bool:
    """Return whether the command has started.

    A pod may also fail before, if its node rejects it. If a kubelet ends a pod before its container starts,
    it reports the container as terminated, without a start time.
    """
    containers = pod.object.get("status", {}).get("containerStatuses", ())
    states = [state for container in containers for state in container.get("state", {}).values()]
    return pod.phase in {"Running", "Succeeded"} or any(state.get("startedAt") for state in states)


def admission_order(events: Iterable[WatchEvent], group: str) -> list[str]:
    """Return the group's jobs in the order in which they first entered Preparing."""
    names: dict[str, None] = {}
    for event in events:
        if event.kind == "PhJob" and event.group == group and event.phase == "Preparing":
            names.setdefault(event.name)
    return list(names)


def creation_order(events: Iterable[WatchEvent], group: str) -> list[str]:
    """Return the group's jobs in the order of their creation (spec.md, Q1)."""
    first: dict[str, WatchEvent] = {}
    for event in events:
        if event.kind == "PhJob" and event.group == group:
            first.setdefault(event.uid, event)
    ordered = sorted(first.values(), key=lambda e: (e.object["metadata"]["creationTimestamp"], e.revision))
    return [event.name for event in ordered]


def order_violations(events: Iterable[WatchEvent], group: str) -> list[str]:
    """Return the jobs that entered Preparing after a later one (spec.md, Q1).

    A later one may overtake a job whose pod could not be created, which is requeued (spec.md, Q10).
    """
    events = list(events)
    positions = {name: position for position, name in enumerate(creation_order(events, group))}
    requeued = _requeued_before_admission(events)
    violations = []
    last = -1
    for name in admission_order(events, group):
        if positions[name] < last and name not in requeued:
            violations.append(
                f"{name}, number {positions[name]} of {group}, entered Preparing after number {last}"
            )
        last = max(last, positions[name])
    return violations


def _requeued_before_admission(events: Iterable[WatchEvent]) -> set[str]:
    """Return the jobs that were requeued before they first entered Preparing."""
    admitted, requeued = set[str](), set[str]()
    for event in events:
        if event.kind == "PhJob" and event.phase == "Preparing":
            admitted.add(event.name)
        elif event.kind == "PhJob" and event.object["status"].get("requeued") and event.name not in admitted:
            requeued.add(event.name)
    return requeued


def order_violations_by_user(events: Iterable[WatchEvent], group: str) -> list[str]:
    """Return the order violations among the jobs of each user.

    If the group has a user quota, a job may overtake jobs of other users that wait for it.
    """
    jobs = [event for event in events if event.kind == "PhJob" and event.group == group]
    users = dict.fromkeys(event.object["spec"]["userName"] for event in jobs)
    return [
        line
        for user in users
        for line in order_violations([e for e in jobs if e.object["spec"]["userName"] == user], group)
    ]


def quota_violations(
    events: Iterable[WatchEvent],
    group: str,
    *,
    user_quota: Mapping[str, Any] | None = None,
    group_quota: Mapping[str, Any] | None = None,
) -> list[str]:
    """Return the events after which the group or a user exceeded the quota."""
    violations = []
    for event, users in usages(events, group):
        violations += [
            f"{user} of {group} used {name} {used[name]} of {limit} after {event.describe()}"
            for user, used in users.items()
            for name, limit in (user_quota or {}).items()
            if used.get(name, 0) > parse(name, limit)
        ]
        for name, limit in (group_quota or {}).items():
            total = sum(used.get(name, 0) for used in users.values())
            if total > parse(name, limit):
                violations.append(f"{group} used {name} {total} of {limit} after {event.describe()}")
    return violations


def peak_usage(events: Iterable[WatchEvent], group: str, resource: str) -> int:
    """Return the most of a resource that the group used at any time."""
    totals = (sum(used.get(resource, 0) for used in users.values()) for _, users in usages(events, group))
    return max(totals, default=0)


def usages(events: Iterable[WatchEvent], group: str) -> Iterator[tuple[WatchEvent, dict[str, Amounts]]]:
    """Yield each event of the group, with the usage of each user after it.

    The users are label values.
    """
    usage = _Usage()
    for event in events:
        if event.kind == "PhJob" and event.group == group:
            usage.on_job(event)
        elif event.kind == "Pod" and event.group == label_value(group):
            usage.on_pod(event)
        else:
            continue
        yield event, usage.by_user()


class _Usage:
    """The usage of a group: pods that can run, and admitted jobs without such a pod (spec.md, Q3)."""

    def __init__(self) -> None:
        self._pods: dict[str, tuple[str, Amounts]] = {}
        self._jobs: dict[str, tuple[str, str, Amounts]] = {}
        self._ended_pods: set[str] = set()

    def on_job(self, event: WatchEvent) -> None:
        """Count the job while it is admitted. Its named pod replaces it."""
        self._jobs.pop(event.uid, None)
        if not event.gone and event.phase in ADMITTED_PHASES:
            status = event.object["status"]
            user = label_value(event.object["spec"]["userName"])
            self._jobs[event.uid] = status.get("podUID", ""), user, _amounts(status["resources"])

    def on_pod(self, event: WatchEvent) -> None:
        """Count the pod from the removal of its gate until no container of it can run."""
        self._pods.pop(event.uid, None)
        if event.gone or has_ended(event.object):
            self._ended_pods.add(event.uid)
        elif not is_gated(event.object):
            user = event.object["metadata"]["labels"].get(USER_LABEL, "")
            self._pods[event.uid] = user, _limits(event.object)

    def by_user(self) -> dict[str, Amounts]:
        """Return the usage of each user, by label value."""
        charges = list(self._pods.values())
        charges += [
            (user, amounts)
            for pod, user, amounts in self._jobs.values()
            if pod not in self._pods and pod not in self._ended_pods
        ]
        total: dict[str, Amounts] = {}
        for user, amounts in charges:
            of_user = total.setdefault(user, {})
            for name, amount in amounts.items():
                of_user[name] = of_user.get(name, 0) + amount
        return total


def is_gated(pod: Object) -> bool:
    """Return whether a scheduling gate keeps the pod from a node."""
    return bool(pod["spec"].get("schedulingGates"))


def has_ended(pod: Object) -> bool:
    """Return whether no container of the pod runs, or can start."""
    deleted_without_node = "deletionTimestamp" in pod["metadata"] and not pod["spec"].get("nodeName")
    return deleted_without_node or pod["status"].get("phase") in FINISHED_POD_PHASES


def controlling_job(event: WatchEvent) -> str:
    """Return the uid of the PhJob whose pod this is, or an empty string."""
    if event.kind != "Pod":
        return ""
    owners = event.object["metadata"].get("ownerReferences", ())
    if not owners:  # The garbage collector has removed it, because the job was deleted without its pod.
        return str(event.object["metadata"].get("labels", {}).get(JOB_UID_LABEL, ""))
    # A job's pod has its job's name. A third party has created any other pod that names a job as its owner.
    jobs = (o for o in owners if o["kind"] == "PhJob" and o.get("controller"))
    return next((str(o["uid"]) for o in jobs if o.get("name", event.name) == event.name), "")


def _limits(pod: Object) -> Amounts:
    (container,) = pod["spec"]["containers"]
    return _amounts(container.get("resources", {}).get("limits", {}))


def _amounts(limits: Mapping[str, Any]) -> Amounts:
    """Return the limits as numbers, with the sum of all kinds of GPUs as `gpu`."""
    amounts = {name: parse(name, quantity) for name, quantity in limits.items()}
    amounts["gpu"] = sum(n for name, n in amounts.items() if name.endswith("/gpu"))
    return amounts
