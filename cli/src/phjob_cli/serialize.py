"""Converts jobs, groups and explanations to plain values for `-o json` and `-o yaml`. Pure.

The values hold no job's command; `kubectl get phj NAME -o yaml` shows the whole object.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from phjob_cli.explanation import Explanation
from phjob_cli.forecast import Estimate
from phjob_cli.snapshot import Allocation, GroupSnapshot
from phjob_core.messages import JobSeen
from phjob_core.quantities import render_all

Data = dict[str, Any]

_JOB_FIELDS = (
    "name", "uid", "user", "group", "phase", "reason", "message", "image", "instance_type", "created",
    "preparing_time", "start_time", "finish_time", "requeued", "retried", "requeue_after", "node", "log_url",
)  # fmt: skip


def job(seen: JobSeen) -> Data:
    """Return a job's fields."""
    return {field: getattr(seen, field) for field in _JOB_FIELDS}


def group(phgroup: Mapping[str, Any]) -> Data:
    """Return a group's name and status."""
    status = phgroup.get("status") or {}
    return {"group": group_name(phgroup), **{key: value for key, value in status.items() if key != "fence"}}


def group_name(phgroup: Mapping[str, Any]) -> str:
    """Return a group's name, as jobs give it."""
    return str((phgroup.get("spec") or {}).get("groupName") or phgroup["metadata"]["name"])


def queue(snapshot: GroupSnapshot, shown: Sequence[JobSeen], estimates: Mapping[str, Estimate]) -> Data:
    """Return a group's queue, with the pending jobs in `shown`."""
    return {
        "group": snapshot.facts.name,
        "waiting": len(snapshot.pending),
        "used": render_all(snapshot.queue.ledger.group_usage),
        "group_quota": render_all(snapshot.queue.group_quota),
        "user_quota": render_all(snapshot.queue.user_quota),
        "held": [allocation(one) for one in snapshot.allocations()],
        "waiting_notebooks": [
            {
                "name": notebook.name,
                "user": notebook.user,
                "needs": notebook.needs,
                "created": notebook.created,
                "waits_for": notebook.waits_for,
            }
            for notebook in snapshot.waiting_notebooks()
        ],
        "queue": [
            {
                "place": snapshot.position(pending),
                "name": pending.name,
                "user": pending.user,
                "needs": render_all(snapshot.request(pending)),
                "created": pending.created,
                "waits_for": snapshot.waits_for(pending),
                "estimate": estimates[pending.uid],
            }
            for pending in shown
        ],
    }


def explanation(given: Explanation) -> Data:
    """Return why a job waits."""
    return {
        "name": given.name,
        "user": given.user,
        "group": given.group,
        "phase": given.phase,
        "reason": given.reason,
        "cause": given.cause,
        "why": given.detail,
        "since": given.since,
        "place": given.position,
        "waiting": given.pending if given.position else None,
        "ahead": given.ahead,
        "ahead_in_all": given.ahead_in_all if given.position else None,
        "held": [allocation(one) for one in given.allocations],
        "lacks": given.short_resources,
        "estimate": given.estimate,
        "next_step": given.next_step,
    }


def allocation(given: Allocation) -> Data:
    """Return the part of the quota that a job or a notebook holds."""
    return {
        "name": given.name,
        "user": given.user,
        "kind": "notebook" if given.is_notebook else "job",
        "amounts": render_all(given.amounts),
        "since": given.since,
        "latest": given.latest_end,
    }
