"""The checks of gated notebooks against the cluster at that time (spec.md, Q14).

Their usage is part of `replay`, and `admissions` checks the quotas after each of their admissions.
"""

from collections.abc import Iterator

from tests.simulation.replay import MAX_REACTION_SECONDS, JobHistory, NotebookHistory, Replay
from tests.simulation.store import Change
from tests.support.promises import is_gated


def violations(replay: Replay, change: Change) -> Iterator[str]:
    """Return each waiting notebook that the admission of a job or of another notebook overtakes.

    `replay` is the cluster right before the change.
    """
    metadata = change.object["metadata"]
    if change.gone or change.before is None:
        return
    admitted: NotebookHistory | JobHistory | None = None
    if change.plural == "pods" and is_gated(change.before) and not is_gated(change.object):
        admitted = replay.notebooks.get(metadata["uid"])
    elif change.plural == "phjobs":
        phases = change.before["status"]["phase"], change.object["status"]["phase"]
        admitted = replay.jobs[metadata["uid"]] if phases == ("Pending", "Preparing") else None
    if admitted is None or admitted.waiting_since is None:
        return
    for other in replay.notebooks.values():
        if _is_overtaken(replay, other, admitted):
            yield f"{metadata['name']} was admitted before {other.name}, which waited before it"


def _is_overtaken(replay: Replay, other: NotebookHistory, admitted: NotebookHistory | JobHistory) -> bool:
    """Return whether the notebook must be admitted first."""
    if other.group != admitted.group or other.waiting_since is None or admitted.waiting_since is None:
        return False
    # A watch may be late. The scheduler may then have known the one, and not the other.
    if other.waiting_since[0] + MAX_REACTION_SECONDS > admitted.waiting_since[0]:
        return False
    if isinstance(admitted, NotebookHistory) and admitted.queue_key < other.queue_key:
        return False
    return not _may_have_lacked_user_quota(replay, other, admitted)


def _may_have_lacked_user_quota(
    replay: Replay, other: NotebookHistory, admitted: NotebookHistory | JobHistory
) -> bool:
    """Return whether the notebook's user may have lacked quota, which lets other users go on."""
    return other.user != admitted.user and any(
        usage.user_quota for usage in replay.usages_since(other.group, 0)
    )
