"""The attacks, as a list: what the attacker does, and what must hold.

The attacker is one person with the role `phjob-submitter`, who is a member of one group. During each attack,
the jobs of another user go on, and no service is killed, ends or reaches its memory limit.
"""

from collections.abc import Callable
from dataclasses import dataclass

from tests.hostile import floods, records, tricks
from tests.hostile.arena import LOUD_JOBS, Arena
from tests.hostile.scale import SCALE


@dataclass(frozen=True)
class Attack:
    """One attack."""

    name: str
    does: str
    """What the attacker does."""
    holds: str
    """What must hold besides the victim's jobs and the memory of the services."""
    run: Callable[[Arena], None]
    """Attacks, and checks what must hold."""
    restarts: bool = False
    """True if all services restart meanwhile, so that the victim's jobs wait for that, too."""


ATTACKS = [
    Attack(
        "the largest jobs",
        f"submits {SCALE.large_jobs} jobs with the largest command and annotations that are accepted, full "
        "of characters that JSON escapes; then every service restarts",
        "every service is ready again",
        floods.submit_largest_jobs_and_restart,
        restarts=True,
    ),
    Attack(
        "a full queue",
        f"submits {SCALE.pending_jobs} jobs",
        f"at most {SCALE.max_pending_per_user} wait, and the others fail with `TooManyPending`",
        floods.flood_the_queue,
    ),
    Attack(
        "invented groups",
        f"submits a job to each of {SCALE.group_names} groups that do not exist",
        "no metric has such a name, and no job has a pod",
        floods.invent_group_names,
    ),
    Attack(
        "edits of a title",
        f"changes `displayName` of {floods.EDITED_JOBS} waiting jobs {SCALE.edits} times",
        "most of the changes reach no service",
        floods.edit_for_nothing,
    ),
    Attack(
        "edits of a deadline",
        f"changes `activeDeadlineSeconds` of {floods.EDITED_JOBS} waiting jobs {SCALE.edits} times",
        "-",
        floods.edit_deadlines,
    ),
    Attack(
        "submit and delete",
        f"submits {SCALE.deleted_jobs} jobs and deletes each of them at once",
        "all of them are gone",
        floods.create_and_delete,
    ),
    Attack(
        "records that stay",
        f"has {SCALE.kept_records} finished jobs with a finalizer, older than all others",
        "users cannot set a finalizer, and the history of another group is still limited",
        records.keep_records,
    ),
    Attack(
        "rejected jobs",
        "submits jobs that cannot run, and leaves them, also those of the attacks above",
        f"at most {SCALE.rejected_jobs_left} records are left a few minutes later",
        records.leave_rejected_jobs,
    ),
    Attack(
        "long logs",
        f"writes {SCALE.log_bytes // 1024**2} MiB of logs in {LOUD_JOBS} jobs",
        "the log archive has all of them",
        records.write_long_logs,
    ),
    Attack(
        "names of other workloads",
        "submits jobs that are named like a notebook and like pods of a StatefulSet",
        "these workloads can create their pods",
        tricks.take_names,
    ),
    Attack(
        "instructions to add-ons",
        f"annotates a job with {len(tricks.COMMANDS_TO_ADDONS)} instructions to programs of the cluster",
        "the pod has none of them",
        tricks.instruct_addons,
    ),
    Attack(
        "terminal codes",
        "writes terminal codes into `displayName` and into the last words of a failing job",
        "`kubectl phjob` shows others no control character",
        tricks.write_to_terminals,
    ),
    Attack(
        "the group of everyone",
        "submits jobs to the group `everyone`, which has no quota",
        "none of them gets a pod",
        tricks.submit_to_everyone,
    ),
]
"""All attacks, in the order of the results."""
