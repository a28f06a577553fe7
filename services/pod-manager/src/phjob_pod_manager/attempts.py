"""The attempts in a job's status: what became of its last pods (spec.md, L18). Pure.

An attempt is described in the write that ends it, so that it costs no write. The URL of its log is added by
the write that records the log.
"""

from datetime import datetime
from typing import Any

from phjob_core.api import Phase
from phjob_core.messages import JobSeen, PodSeen
from phjob_pod_manager.timestamps import rfc3339

MAX_ATTEMPTS = 5
"""The number of attempts in a status, the latest."""


def describe_attempt(job: JobSeen, pod: PodSeen | None, reason: str, now: datetime) -> dict[str, Any]:
    """Return the entry of the attempt that ends now. `pod` is its pod, if that is known.

    A container that still runs, or whose end nobody has seen, ends now and has no exit code.
    """
    entry: dict[str, Any] = {"podUID": pod.uid if pod else job.pod_uid, "reason": reason}
    started = (pod.start_time if pod else None) or job.start_time
    finished = (pod.finish_time if pod else None) or now
    if node := pod.node if pod else job.node if job.phase is Phase.RUNNING else "":
        entry["nodeName"] = node
    if started:
        entry["startTime"] = rfc3339(started)
    entry["finishTime"] = rfc3339(finished)
    if pod and pod.exit_code is not None:
        entry["exitCode"] = pod.exit_code
    number = pod.attempt if pod else job.requeued + job.retried + 1
    if job.log_url.endswith(f"/{job.uid}/attempt-{number}.log"):
        entry["logURL"] = job.log_url
    return entry


def append_attempt(job: JobSeen, entry: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the operations that add an entry to the job's attempts, and drop the oldest beyond the bound."""
    if not job.attempts:
        return [{"op": "add", "path": "/status/attempts", "value": [entry]}]
    drop = [{"op": "remove", "path": "/status/attempts/0"}] if job.attempts >= MAX_ATTEMPTS else []
    return [*drop, {"op": "add", "path": "/status/attempts/-", "value": entry}]


def set_attempt_log(job: JobSeen, url: str) -> list[dict[str, Any]]:
    """Return the operations that add the URL of a log to its attempt, if the attempt has ended.

    The log of an attempt that has not ended is described with the attempt.
    """
    if not job.attempts or job.phase.admitted:
        return []
    return [{"op": "add", "path": f"/status/attempts/{job.attempts - 1}/logURL", "value": url}]
