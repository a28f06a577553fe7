"""What the commands answer to programs: the same as to people, as plain values. Pure.

It holds no job's command: that is for those who ask kubectl for the whole object.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from kubectl_phjob.answers import Answer
from kubectl_phjob.forecast import Estimate
from kubectl_phjob.look import Held, Look
from shared.messages import JobSeen
from shared.resources import rendered

Data = dict[str, Any]

_JOB = (
    "name", "uid", "user", "group", "phase", "reason", "message", "image", "instance_type", "created",
    "preparing_time", "start_time", "finish_time", "requeued", "requeue_after", "node", "log_url",
)  # fmt: skip


def job(seen: JobSeen) -> Data:
    """A job."""
    return {field: getattr(seen, field) for field in _JOB}


def group(phgroup: Mapping[str, Any]) -> Data:
    """A group, as its status has it."""
    status = phgroup.get("status") or {}
    return {"group": group_name(phgroup), **{key: value for key, value in status.items() if key != "fence"}}


def group_name(phgroup: Mapping[str, Any]) -> str:
    """A group's name, as jobs give it."""
    return str((phgroup.get("spec") or {}).get("groupName") or phgroup["metadata"]["name"])


def queue(look: Look, shown: Sequence[JobSeen], estimates: Mapping[str, Estimate]) -> Data:
    """A group's queue, with these of those that wait."""
    return {
        "group": look.facts.name,
        "waiting": len(look.line),
        "used": rendered(look.queue.ledger.group),
        "group_quota": rendered(look.queue.group_quota),
        "user_quota": rendered(look.queue.user_quota),
        "held": [held(one) for one in look.held()],
        "queue": [
            {
                "place": look.place(waits),
                "name": waits.name,
                "user": waits.user,
                "needs": rendered(look.request(waits)),
                "created": waits.created,
                "waits_for": look.waits_for(waits),
                "estimate": estimates[waits.uid],
            }
            for waits in shown
        ],
    }


def answer(given: Answer) -> Data:
    """Why a job waits."""
    return {
        "name": given.name,
        "user": given.user,
        "group": given.group,
        "phase": given.phase,
        "reason": given.reason,
        "cause": given.cause,
        "why": given.why,
        "since": given.since,
        "place": given.place,
        "waiting": given.waiting if given.place else None,
        "ahead": given.ahead,
        "ahead_in_all": given.ahead_in_all if given.place else None,
        "held": [held(one) for one in given.held],
        "lacks": given.lacks,
        "estimate": given.estimate,
        "next_step": given.next_step,
    }


def held(one: Held) -> Data:
    """What holds a part of the quota."""
    return {
        "name": one.name,
        "user": one.user,
        "kind": "notebook" if one.notebook else "job",
        "amounts": rendered(one.amounts),
        "since": one.since,
        "latest": one.latest,
    }
