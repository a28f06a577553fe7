"""The attacks by number or size: each floods the services with more than they may hold.

Each function attacks, and checks what must hold besides the victim's jobs and the services' memory.
"""

from tests.hostile.arena import (
    ATTACKERS,
    CPU_OF_ATTACKERS,
    PREFIX,
    Arena,
    accepted,
    attackers_job,
    change,
    creation,
    deletion,
)
from tests.hostile.scale import SCALE
from tests.support.api import Object
from tests.support.metrics import exposed_at, samples_at

SIZES = (262_000, 196_000, 131_000, 65_536, 65_000, 32_768, 32_000, 16_384, 8_192, 8_000, 4_096, 1_024, 0)
"""The sizes that the attacker tries for a command or for annotations, in bytes."""
NOTE = "dev.primehub.io/note"
"""An annotation that the installation lets users set."""
ESCAPED = "<"
"""A character that takes six bytes in the JSON of the API server."""
JOBS_AT_A_TIME = 2 * CPU_OF_ATTACKERS
"""The number of the attacker's jobs that fit into the quota of their group."""
MAX_METRICS_BYTES = 1024**2
EDITED_JOBS = 20
MAX_FACTS_PER_JOB = 8
"""The most facts about a job that runs, ends and is cleaned up while nobody edits it."""


def submit_largest_jobs_and_restart(arena: Arena) -> None:
    """Submit the largest jobs that the API server accepts. Then restart every service."""
    command, note = largest(arena)
    jobs = (large_job(f"{PREFIX}large-{n:06}", command, note) for n in range(SCALE.large_jobs))
    stored = accepted(arena.send(map(creation, jobs)))
    assert len(stored) > SCALE.large_jobs // 2, "most of the jobs must be stored"
    arena.restart_services()


def largest(arena: Arena) -> tuple[int, int]:
    """Return the largest command, and the largest annotation besides it, that the API server accepts."""
    command = next(size for size in SIZES if is_stored(arena, size, 0))
    return command, next(size for size in SIZES if is_stored(arena, command, size))


def is_stored(arena: Arena, command: int, note: int) -> bool:
    """Return whether the API server stores a job of this size."""
    name = arena.unique_name(f"{PREFIX}probe")
    return bool(accepted(arena.send([creation(large_job(name, command, note))])))


def large_job(name: str, command: int, note: int) -> Object:
    """Return a job with a command and an annotation of these sizes in bytes."""
    job = attackers_job(name, command=ESCAPED * max(command, 1))
    job["metadata"]["annotations"][NOTE] = ESCAPED * note
    return job


def flood_the_queue(arena: Arena) -> None:
    """Submit far more jobs than may wait. Those over the limit fail, and the message has the number."""
    names = [f"{PREFIX}flood-{n:06}" for n in range(SCALE.pending_jobs)]
    stored = accepted(arena.send(map(creation, map(attackers_job, names)), rate=SCALE.requests_per_second))
    arena.wait_until_judged(ATTACKERS, SCALE.max_pending_per_user)
    limit = SCALE.max_pending_per_user
    if len(stored) > limit + JOBS_AT_A_TIME:
        (failed,) = arena.api.list(
            "PhJob", fieldSelector=f"spec.groupName={ATTACKERS},status.phase=Failed", limit="1"
        )["items"]
        assert failed["status"]["reason"] == "TooManyPending", failed["status"]
        assert str(limit) in failed["status"]["message"], failed["status"]


def invent_group_names(arena: Arena) -> None:
    """Submit jobs to groups that do not exist, each to another. No metric has their names."""
    names = (f"{PREFIX}invented-{n:06}" for n in range(SCALE.group_names))
    jobs = (attackers_job(name, group=name) for name in names)
    stored = accepted(arena.send(map(creation, jobs), rate=SCALE.requests_per_second))
    for service in arena.installed.components:
        exposed = exposed_at(arena.metrics_url(service))
        invented = [line for line in exposed.splitlines() if f"{PREFIX}invented" in line]
        assert not invented, f"{service} exposes {len(invented)} lines with invented names: {invented[0]}"
        assert len(exposed) < MAX_METRICS_BYTES, f"{service} exposes {len(exposed)} bytes"
    assert stored, "the API server must store jobs of unknown groups, which the scheduler refuses"
    assert not arena.etcd.count("Pod", PREFIX), "no such job may have a pod"


def edit_for_nothing(arena: Arena) -> None:
    """Change again and again what no service reads.

    Most of these changes reach no service.
    """
    names = pending_jobs(arena, "edit")
    before, victims = facts_about_jobs(arena), arena.submitted_by_the_victim()
    edits = (
        change(names[n % len(names)], str(n), {"spec": {"displayName": f"edit {n}"}})
        for n in range(SCALE.edits)
    )
    done = accepted(arena.send(edits, rate=SCALE.requests_per_second))
    assert len(done) > SCALE.edits // 2, "most of the changes must be accepted"
    told = facts_about_jobs(arena) - before
    others = MAX_FACTS_PER_JOB * (arena.submitted_by_the_victim() - victims + JOBS_AT_A_TIME)
    assert told < len(done) // 2 + others, (
        f"{told:.0f} facts about jobs were published for {len(done)} changes; up to {others} are of others"
    )


def edit_deadlines(arena: Arena) -> None:
    """Change again and again the deadline of waiting jobs, which the janitor reads."""
    names = pending_jobs(arena, "deadline")
    edits = (
        change(names[n % len(names)], str(n), {"spec": {"activeDeadlineSeconds": 1000 + n}})
        for n in range(SCALE.edits)
    )
    done = accepted(arena.send(edits, rate=SCALE.requests_per_second))
    assert len(done) > SCALE.edits // 2, "most of the changes must be accepted"


def create_and_delete(arena: Arena) -> None:
    """Submit jobs, and delete each of them a moment later."""
    names = [f"{PREFIX}churn-{n:06}" for n in range(SCALE.deleted_jobs)]
    requests = (request for name in names for request in (creation(attackers_job(name)), deletion(name)))
    done = accepted(arena.send(requests, rate=SCALE.requests_per_second))
    assert len(done) > SCALE.deleted_jobs, "jobs must be created and deleted"
    arena.send(map(deletion, names))  # A deletion may have arrived before its creation.
    arena.wait_until_few_are_left(f"{PREFIX}churn-")


def pending_jobs(arena: Arena, kind: str) -> list[str]:
    """Submit jobs that wait behind those that use up the group's quota. Returns the names of some of them."""
    names = [f"{PREFIX}{kind}-{n:06}" for n in range(JOBS_AT_A_TIME + EDITED_JOBS)]
    stored = accepted(arena.send(map(creation, map(attackers_job, names))))
    assert len(stored) == len(names)
    arena.wait_until_running(ATTACKERS, JOBS_AT_A_TIME)
    return names[-EDITED_JOBS:]


def facts_about_jobs(arena: Arena) -> float:
    """Return how many facts about jobs the watcher has published."""
    return samples_at(arena.metrics_url("watcher"), "phjob_watcher_facts_total")[("JobSeen",)]
