"""The promises that every history must keep, whatever was done to the services. Pure.

Each function returns what went against its promise, one sentence each; nothing returned is good.
Of the product's own code only the names of labels and the reading of quantities are used.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tests.support.history import Event

from shared.labels import USER_LABEL, label_value
from shared.resources import parse

Object = Mapping[str, Any]
Amounts = dict[str, int]

MOVES = {
    "": {"Pending"},
    "Pending": {"Preparing", "Failed", "Cancelled"},
    "Preparing": {"Pending", "Running", "Succeeded", "Failed", "Cancelled"},
    "Running": {"Succeeded", "Failed", "Cancelled"},
    "Succeeded": set(),
    "Failed": set(),
    "Cancelled": set(),
}
"""Seed, State Diagram; Preparing to Succeeded or Failed at once: contract.md, Lifecycle."""
ADMITTED = {"Preparing", "Running"}
FINISHED = {"Succeeded", "Failed"}
FENCE = "primehub.io/fence"


def against_state_diagram(events: Iterable[Event]) -> list[str]:
    """Every job moves along the state diagram."""
    phases: dict[str, str] = defaultdict(str)
    wrong = []
    for event in events:
        if event.kind != "PhJob" or event.gone:
            continue
        before, phases[event.uid] = phases[event.uid], event.phase
        if event.phase not in {before, *MOVES[before]}:
            move = f"from {before or 'nothing'} to {event.phase}"
            wrong.append(f"{event.name} went {move} at r{event.revision}")
    return wrong


def against_one_pod_a_job(events: Iterable[Event]) -> list[str]:
    """A job never has two live pods, and its command never starts twice."""
    live: dict[str, set[str]] = defaultdict(set)
    started: dict[str, set[str]] = defaultdict(set)
    wrong = []
    for event in events:
        job = owner(event)
        if not job:
            continue
        if event.gone or event.phase in FINISHED:
            live[job].discard(event.uid)
        else:
            live[job].add(event.uid)
        if len(live[job]) > 1:
            wrong.append(f"{event.name} had {len(live[job])} live pods at r{event.revision}")
        if _ran(event) and event.uid not in started[job]:
            started[job].add(event.uid)
            if len(started[job]) > 1:
                wrong.append(f"{event.name} started again at r{event.revision}")
    return wrong


def _ran(pod: Event) -> bool:
    """Whether the command was started, to run to an end.

    A pod may also fail before, when its node does not take it; and a kubelet that ends a pod before its
    container began says that this was terminated, without a start. A container that starts when its pod's
    deletion is under way is killed by that: it counts only if it succeeds nevertheless.
    """
    if "deletionTimestamp" in pod.object["metadata"] and pod.phase != "Succeeded":
        return False
    containers = pod.object.get("status", {}).get("containerStatuses", ())
    states = [state for container in containers for state in container.get("state", {}).values()]
    return pod.phase in {"Running", "Succeeded"} or any(state.get("startedAt") for state in states)


def entered_preparing(events: Iterable[Event], group: str) -> list[str]:
    """The names of the group's jobs as they first entered Preparing."""
    names: dict[str, None] = {}
    for event in events:
        if event.kind == "PhJob" and event.group == group and event.phase == "Preparing":
            names.setdefault(event.name)
    return list(names)


def created(events: Iterable[Event], group: str) -> list[str]:
    """The names of the group's jobs in the order of their creation (contract.md, Queueing 1)."""
    first: dict[str, Event] = {}
    for event in events:
        if event.kind == "PhJob" and event.group == group:
            first.setdefault(event.uid, event)
    ordered = sorted(first.values(), key=lambda e: (e.object["metadata"]["creationTimestamp"], e.revision))
    return [event.name for event in ordered]


def out_of_order(events: Iterable[Event], group: str) -> list[str]:
    """Jobs enter Preparing in the order of their creation (seed, FAQ)."""
    events = list(events)
    places = {name: place for place, name in enumerate(created(events, group))}
    wrong = []
    last = -1
    for name in entered_preparing(events, group):
        if places[name] < last:
            wrong.append(f"{name}, number {places[name]} of {group}, entered Preparing after number {last}")
        last = max(last, places[name])
    return wrong


def out_of_order_by_user(events: Iterable[Event], group: str) -> list[str]:
    """The same for each user by himself: where users have a quota, one may be passed over for its want."""
    jobs = [event for event in events if event.kind == "PhJob" and event.group == group]
    users = dict.fromkeys(event.object["spec"]["userName"] for event in jobs)
    return [
        line
        for user in users
        for line in out_of_order([e for e in jobs if e.object["spec"]["userName"] == user], group)
    ]


def over_quota(
    events: Iterable[Event],
    group: str,
    *,
    user_quota: Mapping[str, Any] | None = None,
    group_quota: Mapping[str, Any] | None = None,
) -> list[str]:
    """Neither the group nor one of its users ever uses more than the quota, at no revision."""
    wrong = []
    for event, users in usages(events, group):
        wrong += [
            f"{user} of {group} used {name} {used[name]} of {limit} after {event.line()}"
            for user, used in users.items()
            for name, limit in (user_quota or {}).items()
            if used.get(name, 0) > parse(name, limit)
        ]
        for name, limit in (group_quota or {}).items():
            total = sum(used.get(name, 0) for used in users.values())
            if total > parse(name, limit):
                wrong.append(f"{group} used {name} {total} of {limit} after {event.line()}")
    return wrong


def most_used(events: Iterable[Event], group: str, resource: str) -> int:
    """The most that the group ever used at a time."""
    totals = (sum(used.get(resource, 0) for used in users.values()) for _, users in usages(events, group))
    return max(totals, default=0)


def usages(events: Iterable[Event], group: str) -> Iterator[tuple[Event, dict[str, Amounts]]]:
    """What each user of the group (by label value) uses after each event that concerns it."""
    usage = _Usage()
    for event in events:
        if event.kind == "PhJob" and event.group == group:
            usage.job(event)
        elif event.kind == "Pod" and event.group == label_value(group):
            usage.pod(event)
        else:
            continue
        yield event, usage.by_user()


class _Usage:
    """Unfinished pods, and admitted jobs whose pod is not there yet (contract.md, Queueing 3)."""

    def __init__(self) -> None:
        self._pods: dict[str, tuple[str, str, Amounts]] = {}
        self._jobs: dict[str, tuple[str, str, Amounts]] = {}
        self._ended: set[tuple[str, str]] = set()

    def job(self, event: Event) -> None:
        """Count the job while it is admitted."""
        self._jobs.pop(event.uid, None)
        if not event.gone and event.phase in ADMITTED:
            status = event.object["status"]
            user = label_value(event.object["spec"]["userName"])
            self._jobs[event.uid] = status["fence"], user, _charged(status["resources"])

    def pod(self, event: Event) -> None:
        """Count the pod until it is finished."""
        self._pods.pop(event.uid, None)
        metadata = event.object["metadata"]
        if not event.gone and event.phase not in FINISHED:
            user = metadata["labels"].get(USER_LABEL, "")
            self._pods[event.uid] = owner(event), user, _limits(event.object)
        elif not event.gone:
            self._ended.add((owner(event), metadata.get("annotations", {}).get(FENCE, "")))

    def by_user(self) -> dict[str, Amounts]:
        """The sums."""
        with_pod = {job for job, _, _ in self._pods.values()}
        held = [(user, amounts) for _, user, amounts in self._pods.values()]
        held += [
            (user, amounts)
            for uid, (fence, user, amounts) in self._jobs.items()
            if uid not in with_pod and (uid, fence) not in self._ended
        ]
        total: dict[str, Amounts] = {}
        for user, amounts in held:
            of_user = total.setdefault(user, {})
            for name, amount in amounts.items():
                of_user[name] = of_user.get(name, 0) + amount
        return total


def owner(event: Event) -> str:
    """The uid of the PhJob that controls the pod; empty for any other object."""
    owners = event.object["metadata"].get("ownerReferences", ()) if event.kind == "Pod" else ()
    # A job's pod has its name; whatever else says that it is a job's was made by somebody else.
    ours = (o for o in owners if o["kind"] == "PhJob" and o.get("controller"))
    return next((str(o["uid"]) for o in ours if o.get("name", event.name) == event.name), "")


def _limits(pod: Object) -> Amounts:
    (container,) = pod["spec"]["containers"]
    return _charged(container.get("resources", {}).get("limits", {}))


def _charged(limits: Mapping[str, Any]) -> Amounts:
    """As numbers, and every GPU also as `gpu`."""
    amounts = {name: parse(name, quantity) for name, quantity in limits.items()}
    amounts["gpu"] = sum(n for name, n in amounts.items() if name.endswith("/gpu"))
    return amounts
