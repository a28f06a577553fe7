"""The queue rules of spec.md, Q1 and Q2, written as naively as possible, to compare the real queue with."""

from collections import Counter
from dataclasses import dataclass

from phjob_core.api import Reason
from phjob_core.quantities import Amounts
from phjob_core.scheduling.queue import QueuedJob


@dataclass
class Outcome:
    """The admitted jobs in order, and the reasons of the jobs that block."""

    admitted: list[str]
    reasons: dict[str, Reason]


def decide(
    waiting: list[QueuedJob], charges: list[tuple[str, Amounts]], user_quota: Amounts, group_quota: Amounts
) -> Outcome:
    """Apply the rules to all waiting jobs, oldest first."""
    users = {user: Counter[str]() for user in [job.user for job in waiting] + [user for user, _ in charges]}
    for user, amounts in charges:
        users[user].update(amounts)
    outcome = Outcome([], {})
    blocked_users = set()
    for job in sorted(waiting, key=lambda job: job.key):
        if job.user in blocked_users:
            continue
        group = sum(users.values(), Counter[str]())
        if any(
            users[job.user][r] + n > user_quota.get(r, n + users[job.user][r]) for r, n in job.request.items()
        ):
            blocked_users.add(job.user)
            outcome.reasons[job.uid] = Reason.USER_QUOTA
        elif any(group[r] + n > group_quota.get(r, n + group[r]) for r, n in job.request.items()):
            outcome.reasons[job.uid] = Reason.GROUP_QUOTA
            break
        else:
            users[job.user].update(job.request)
            outcome.admitted.append(job.uid)
    return outcome
