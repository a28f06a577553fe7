"""The queue rules of contract.md, Queueing 1 and 2, as naive as can be: the judge of the real queue."""

from collections import Counter
from dataclasses import dataclass

from scheduler.queue import Waiting
from shared.phjob import Reason
from shared.resources import Amounts


@dataclass
class Outcome:
    """Who goes, in order, and who is kept waiting by what."""

    admitted: list[str]
    reasons: dict[str, Reason]


def decide(
    waiting: list[Waiting], holds: list[tuple[str, Amounts]], user_quota: Amounts, group_quota: Amounts
) -> Outcome:
    """Walk over all waiting jobs, oldest first, and apply the rules one after the other."""
    users = {user: Counter[str]() for user in [job.user for job in waiting] + [user for user, _ in holds]}
    for user, amounts in holds:
        users[user].update(amounts)
    outcome = Outcome([], {})
    parked = set()
    for job in sorted(waiting, key=lambda job: job.place):
        if job.user in parked:
            continue
        group = sum(users.values(), Counter[str]())
        if any(
            users[job.user][r] + n > user_quota.get(r, n + users[job.user][r]) for r, n in job.request.items()
        ):
            parked.add(job.user)
            outcome.reasons[job.uid] = Reason.USER_QUOTA
        elif any(group[r] + n > group_quota.get(r, n + group[r]) for r, n in job.request.items()):
            outcome.reasons[job.uid] = Reason.GROUP_QUOTA
            break
        else:
            users[job.user].update(job.request)
            outcome.admitted.append(job.uid)
    return outcome
