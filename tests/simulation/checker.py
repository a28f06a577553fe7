"""The checks of a simulated run, on the history of the store.

`tests.support.promises` has the promises that real runs have to keep, too. Here they are checked for all
groups. `admissions` and `outcomes` compare each step of a service with what really happened.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tests.simulation import admissions, notebooks, outcomes, retries
from tests.simulation.broker import Broker
from tests.simulation.loop import seconds, time_of_day
from tests.simulation.nodes import Start
from tests.simulation.replay import FINAL_PHASES, NotebookHistory, Replay, Usage, pod_charge
from tests.simulation.scenario import Scenario
from tests.simulation.store import Change, Store, job_of
from tests.support import promises
from tests.support.history import WatchEvent

from phjob_core.labels import GROUP_LABEL


def events(changes: Sequence[Change]) -> list[WatchEvent]:
    """Return the history of all jobs and of the pods in pools, as real runs record it."""
    kinds = {"phjobs": "PhJob", "pods": "Pod"}
    return [
        WatchEvent(
            change.revision, kinds[change.plural], change.gone, dict(change.object), time_of_day(change.at)
        )
        for change in changes
        if change.plural == "phjobs" or (change.plural == "pods" and _is_in_pool(change.object))
    ]


def violations(
    store: Store, scenario: Scenario, starts: Sequence[Start], ends: Mapping[str, float]
) -> Iterator[str]:
    """Return each violation of a promise, at any revision.

    `starts` are those that the nodes recorded, and `ends` when the command of each pod ended.
    """
    changes = store.changes
    history = events(changes)
    yield from promises.state_diagram_violations(history)
    yield from promises.single_pod_violations(history)
    yield from fence_violations(history)
    replay, outcome_checker = Replay(), outcomes.OutcomeChecker(scenario, starts)
    rejected = admissions.Rejected.of(store)
    for change in changes:
        yield from admissions.violations(replay, change, scenario, rejected)
        yield from outcome_checker.violations(replay, change)
        yield from outcomes.condition_violations(change)
        yield from retries.violations(replay, change, scenario)
        yield from notebooks.violations(replay, change)
        replay.apply(change)
        yield from admissions.quota_violations(replay, change, scenario)
    yield from retries.start_violations(replay, starts, ends)
    yield from outcome_checker.excess_writes(replay, changes[-1].at)


def fence_violations(history: list[WatchEvent]) -> Iterator[str]:
    """Return each admission with a token used before, or of a replaced session.

    The other promises rely on that (design/consistency.md, The fence). A broken fence rarely breaks them,
    because two sessions mostly decide the same.
    """
    admitted: dict[str, str] = {}
    phases: dict[str, str] = {}
    sessions: dict[str, list[str]] = {}
    for event in history:
        if event.kind != "PhJob":
            continue
        status = event.object["status"]
        before, phases[event.uid] = phases.get(event.uid, ""), event.phase
        if event.phase != "Preparing" or before == "Preparing":
            continue
        token = status["fence"]
        if token in admitted:
            yield f"{event.name} was admitted with token {token}, which {admitted[token]} has already"
        admitted[token] = event.name
        session, shard = token.partition("#")[0], token.partition("-")[0]
        of_shard = sessions.setdefault(shard, [])
        if session in of_shard[:-1]:
            yield f"{event.name} was admitted by session {session}, after session {of_shard[-1]} had begun"
        elif session not in of_shard:
            of_shard.append(session)


def unfinished_jobs(store: Store) -> list[str]:
    """Return the names of the jobs that are in no final phase."""
    return [
        job["metadata"]["name"] for job in store.all("phjobs") if job["status"]["phase"] not in FINAL_PHASES
    ]


def admissible_jobs(replay: Replay, now: float) -> set[tuple[str, str]]:
    """Return each group's job that has to be admitted now, and its fence.

    Source: spec.md, Q2.
    """
    found = set()
    for group, usages in replay.usages.items():
        usage, blocked_users = usages[-1], set[str]()
        users = {*usage.admitted, *usage.others}
        total = {name: sum(usage.used_by(user, name) for user in users) for name in usage.group_quota}
        waiting = [job for job in replay.jobs.values() if job.is_waiting and job.spec["groupName"] == group]
        if not all(job.is_key_certain for job in waiting):
            continue  # design/consistency.md, Known limits: another job of the same second may be first.
        notebook, fits = _admissible_notebook(replay, group, usage, total, blocked_users)
        if notebook:
            if fits:
                found.add((notebook.name, ""))
            continue
        for job in sorted(waiting, key=lambda job: job.queue_key):
            request, user = replay.request(job.latest), job.spec["userName"]
            after = job.status.get("requeueAfter")
            if request is None or user in blocked_users or (after and seconds(after) > now):
                continue
            if any(
                usage.used_by(user, n) + request.get(n, 0) > limit for n, limit in usage.user_quota.items()
            ):
                blocked_users.add(user)
                continue
            if all(total[n] + request.get(n, 0) <= limit for n, limit in usage.group_quota.items()):
                found.add((job.latest["metadata"]["name"], job.status["fence"]))
            break
    return found


def _admissible_notebook(
    replay: Replay, group: str, usage: Usage, total: Mapping[str, int], blocked_users: set[str]
) -> tuple[NotebookHistory | None, bool]:
    """Return the first waiting notebook of a group that no user quota blocks, and whether it fits.

    Notebooks are ahead of all jobs (spec.md, Q14). Adds the users that lack user quota to `blocked_users`.
    """
    waiting = [
        (uid, one) for uid, one in replay.notebooks.items() if one.waiting_since and one.group == group
    ]
    for uid, notebook in sorted(waiting, key=lambda item: item[1].queue_key):
        request, user = pod_charge(replay.pods[uid]), notebook.user
        if user in blocked_users:
            continue
        if any(usage.used_by(user, n) + request.get(n, 0) > limit for n, limit in usage.user_quota.items()):
            blocked_users.add(user)
            continue
        return notebook, all(total[n] + request.get(n, 0) <= limit for n, limit in usage.group_quota.items())
    return None, False


def dead_letters(broker: Broker) -> Iterator[str]:
    """Return each dead letter, because every message of a run can be processed."""
    for envelope, reason in broker.dead_letters:
        yield f"{type(envelope.message).__name__} of {envelope.publisher} was dead-lettered: {reason}"


def _is_in_pool(pod: Any) -> bool:
    """Return whether the pod counts in a group, by its label or as a job's pod."""
    return GROUP_LABEL in (pod["metadata"].get("labels") or {}) or bool(job_of(pod))
