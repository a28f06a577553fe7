"""The attacks by what is kept: records that cannot be deleted, and logs.

Each function attacks, and checks what must hold besides the victim's jobs and the services' memory.
"""

from collections import Counter
from functools import partial
from pathlib import Path

from tests.hostile.arena import (
    ATTACKERS,
    HISTORY_LIMIT,
    LOUD_JOBS,
    PREFIX,
    RECORDS,
    Arena,
    accepted,
    attackers_job,
    creation,
    loud_log,
    loud_name,
)
from tests.hostile.scale import SCALE
from tests.hostile.victim import VICTIM
from tests.support.builders import a_job
from tests.support.waiting import eventually

FINALIZER = "mallory.example.com/keep"
KEPT = f"{PREFIX}kept"
HISTORY_SECONDS = 300
"""The time in which the history is looked through, which happens once a minute."""
LOG_LINE = f"2026-01-01T00:00:00Z stdout F {'x' * 990}\n"
"""A line of a log, in the format of a container runtime."""
LINES_AT_ONCE = 1024
REJECTED_JOBS = 50


def keep_records(arena: Arena) -> None:
    """Put a finalizer on finished jobs, so that they are never deleted, and older than all others.

    The API server refuses the user's finalizer. A tool of the administrator may have put it there.
    """
    job = attackers_job(KEPT, run_for="0.1s", ttlSecondsAfterFinished=1)
    refused = arena.send([creation({**job, "metadata": {**job["metadata"], "finalizers": [FINALIZER]}})])
    assert not accepted(refused), "the API server must refuse the finalizer of a user"
    arena.api.create(job)
    wait_until_record(arena, KEPT)
    created, finished = "2020-01-01T00:00:00Z", "2020-01-01T00:00:01Z"
    metadata = {"finalizers": [FINALIZER], "creationTimestamp": created}
    old = {"metadata": metadata, "status": {"finishTime": finished}}
    arena.etcd.copy_job(KEPT, SCALE.kept_records, old)
    try:
        wait_for_history(arena)
    finally:
        arena.etcd.delete("PhJob", KEPT)


def wait_for_history(arena: Arena) -> None:
    """Run more jobs of the victim than the history keeps, and wait until the oldest of them are deleted."""
    names = [f"{VICTIM}-old-{n:03}" for n in range(HISTORY_LIMIT + 10)]
    jobs = [
        a_job(name, group=RECORDS, user=VICTIM, run_for="0.1s", ttlSecondsAfterFinished=1) for name in names
    ]
    assert len(accepted(arena.send(map(creation, jobs), user=VICTIM))) == len(names)
    eventually(
        lambda: [*Counter(phases(arena, RECORDS)).items()] == [("Succeeded", HISTORY_LIMIT)],
        "the victim keeps the latest records, and those over the limit are deleted",
        within=HISTORY_SECONDS,
        diagnostics=lambda: Counter(phases(arena, RECORDS)),
    )


def leave_rejected_jobs(arena: Arena) -> None:
    """Submit jobs that cannot run, and leave them, also those of other attacks. They are soon gone.

    The unknown groups of all jobs have together no more records than one group that exists.
    """
    names = [f"{PREFIX}rejected-{n:06}" for n in range(REJECTED_JOBS)]
    jobs = [attackers_job(name, image="no-such-image") for name in names]
    assert len(accepted(arena.send(map(creation, jobs)))) == len(names)
    for prefix in ("rejected", "flood", "invented"):
        arena.wait_until_few_are_left(f"{PREFIX}{prefix}-", SCALE.rejected_jobs_left)


def wait_until_record(arena: Arena, name: str) -> None:
    """Wait until only the record of a job is left."""

    def is_reclaimed() -> bool:
        job = arena.api.get("PhJob", name)
        return bool(job and job["status"].get("reclaimed"))

    eventually(is_reclaimed, f"job {name} is reclaimed")


def phases(arena: Arena, group: str) -> list[str]:
    """Return the phase of each job of a group."""
    jobs = arena.api.list("PhJob", fieldSelector=f"spec.groupName={group}")["items"]
    return [job["status"]["phase"] for job in jobs]


def write_long_logs(arena: Arena) -> None:
    """Run jobs with long logs, more of them than are archived at once. The log archive stores them all."""
    size = SCALE.log_bytes // LOUD_JOBS
    with loud_log(arena.paths).open("w") as file:
        while file.tell() < size:
            file.write(LOG_LINE * LINES_AT_ONCE)
    names = [loud_name(number) for number in range(LOUD_JOBS)]
    jobs = [attackers_job(name, run_for="0.1s") for name in names]
    assert len(accepted(arena.send(map(creation, jobs)))) == LOUD_JOBS
    for name in names:
        url = eventually(partial(log_url, arena, name), f"the log of {name} is archived", within=300)
        length = Path(url.removeprefix("file://")).stat().st_size
        assert length > size * 0.9, f"the log of {name} must be complete; it has {length} bytes"
    assert {*phases(arena, ATTACKERS)} == {"Succeeded"}


def log_url(arena: Arena, name: str) -> str | None:
    """Return the URL of a job's archived log, if it is archived."""
    job = arena.api.get("PhJob", name)
    url: str | None = job["status"].get("logURL") if job else None
    return url
