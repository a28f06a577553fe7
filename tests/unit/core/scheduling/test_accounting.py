from typing import Any

import pytest
from tests.fakes.facts import START, a_job, a_pod, later

from phjob_core.api import Phase, PodPhase
from phjob_core.gpus import GpuResources
from phjob_core.labels import label_value
from phjob_core.messages import JobSeen, PodSeen
from phjob_core.scheduling.accounting import Accounting, Reservation, TrackedJob
from phjob_core.scheduling.eligibility import PodResources
from phjob_core.scheduling.queue import GroupQueue, QueuedJob

LIMITS = {"nvidia.com/gpu": 1}
GROUP, USER = label_value("phusers"), label_value("bob")


class Books:
    """An `Accounting`, and the queues of its groups."""

    def __init__(self) -> None:
        self.queues: dict[str, GroupQueue] = {}
        self.accounting = Accounting(
            lambda label: self.queues.setdefault(label, GroupQueue()), GpuResources()
        )

    def holders(self, group: str = GROUP) -> set[str]:
        """The holders that are charged to the group."""
        queue = self.queues.get(group)
        return {holder for holder, _ in queue.ledger.charges()} if queue else set()


def waiting(**fields: Any) -> TrackedJob:
    return TrackedJob(a_job(**fields), resources=PodResources(LIMITS))


def reserved() -> TrackedJob:
    """A job whose admission is decided, and not observed."""
    job = waiting(fence="f")
    job.reservation = Reservation("token", "f")
    return job


def admitted(**fields: Any) -> TrackedJob:
    """A job whose admission is observed, and names the pod `pod`."""
    phase = {"phase": Phase.PREPARING, "fence": "token", "pod_uid": "pod", "resources": LIMITS}
    return TrackedJob(a_job(**{**phase, **fields}), resources=PodResources(LIMITS))


def its_pod(job: TrackedJob, **fields: Any) -> PodSeen:
    return a_pod(job.seen, **{"uid": "pod", "fence": "token", "limits": LIMITS, **fields})


def seen_as(job: TrackedJob, **changes: Any) -> JobSeen:
    job.seen = later(job.seen, **changes)
    return job.seen


def test_a_pending_job_is_not_charged() -> None:
    """It uses nothing."""
    books = Books()
    books.accounting.update_job(waiting())
    assert books.holders() == set()


def test_a_job_is_charged_from_the_decision_to_admit_it() -> None:
    """Otherwise its room would be given away before its admission is observed."""
    books, job = Books(), reserved()
    books.accounting.update_job(job)
    assert books.holders() == {job.seen.uid}
    assert books.queues[GROUP].ledger.used_by(USER) == {"nvidia.com/gpu": 1, "gpu": 1}


def test_a_charged_job_is_not_in_its_queue() -> None:
    """It could be admitted a second time there."""
    books, job = Books(), admitted()
    queue = books.queues[GROUP] = GroupQueue()
    queue.add(QueuedJob(job.seen.uid, USER, {}, (1, START, 1, job.seen.name)))
    books.accounting.update_job(job)
    assert queue.jobs == {}


def test_a_gated_pod_is_charged_when_its_job_names_it() -> None:
    """Its gate may be removed at any moment; before, the reservation is charged."""
    books, job = Books(), reserved()
    gated = its_pod(job, gated=True)
    books.accounting.update_job(job)
    books.accounting.update_pod(gated, job)
    assert books.holders() == {job.seen.uid}
    job.reservation = None
    seen_as(job, phase=Phase.PREPARING, fence="token", pod_uid="pod")
    books.accounting.update_job(job)
    assert books.holders() == {"pod"}


def test_a_pod_without_a_gate_is_charged_before_its_admission_is_observed() -> None:
    """Only a pod that an admission names loses its gate."""
    books, job = Books(), reserved()
    books.accounting.update_job(job)
    books.accounting.update_pod(its_pod(job), job)
    assert books.holders() == {"pod"}


def test_a_pod_of_an_older_admission_is_charged_beside_the_job() -> None:
    """It may run until its deletion is complete."""
    books, job = Books(), admitted()
    books.accounting.update_job(job)
    books.accounting.update_pod(its_pod(job, uid="older", fence="earlier"), job)
    assert books.holders() == {job.seen.uid, "older"}


@pytest.mark.parametrize(
    ("end", "is_free"),
    [
        ({"phase": PodPhase.SUCCEEDED}, True),
        ({"phase": PodPhase.FAILED, "start_time": START}, True),
        ({"phase": PodPhase.FAILED, "reason": "OutOfcpu"}, False),
        ({"deleting": True}, False),
    ],
)
def test_the_end_of_a_pod_frees_its_room_only_if_it_started(end: dict[str, Any], *, is_free: bool) -> None:
    """A job whose pod never started is requeued, and is the next one in its queue (spec.md, Q3)."""
    books, job = Books(), admitted()
    books.accounting.update_job(job)
    books.accounting.update_pod(its_pod(job), job)
    books.accounting.update_pod(its_pod(job, **end), job)
    assert books.holders() == (set() if is_free else {job.seen.uid})


def test_a_requeue_frees_the_room() -> None:
    """The job is Pending again."""
    books, job = Books(), admitted()
    books.accounting.update_job(job)
    books.accounting.update_pod(its_pod(job, deleting=True), job)
    seen_as(job, phase=Phase.PENDING, pod_uid="")
    books.accounting.update_job(job)
    assert books.holders() == set()


def test_a_notebook_is_charged_by_its_labels_with_or_without_a_gate() -> None:
    """It belongs to no job, so its labels are all that is known (spec.md, Q3)."""
    books = Books()
    notebook = a_pod(a_job(), uid="notebook", job_uid="", gated=True, limits=LIMITS)
    assert books.accounting.update_pod(notebook, None) == {GROUP}
    assert books.holders() == {"notebook"}
    assert books.accounting.remove_pod("notebook", None) == {GROUP}
    assert books.holders() == set()


def test_a_pod_is_charged_to_the_group_of_its_job_whatever_its_labels_are() -> None:
    """A user may edit the labels (spec.md, Q3)."""
    books, job = Books(), admitted()
    books.accounting.update_job(job)
    books.accounting.update_pod(its_pod(job, group="other", user="other"), job)
    assert (books.holders(), books.holders("other")) == ({"pod"}, set())


def test_a_notebook_that_changes_its_group_is_charged_to_the_new_one_only() -> None:
    """Both groups decide again."""
    books = Books()
    notebook = a_pod(a_job(), uid="notebook", job_uid="", limits=LIMITS)
    books.accounting.update_pod(notebook, None)
    assert books.accounting.update_pod(notebook.model_copy(update={"group": "other"}), None) == {
        GROUP,
        "other",
    }
    assert (books.holders(), books.holders("other")) == (set(), {"notebook"})


def test_a_pod_that_is_observed_before_its_job_is_charged_and_then_belongs_to_it() -> None:
    """Jobs and pods come from two watches."""
    books, job = Books(), admitted()
    books.accounting.update_pod(its_pod(job), None)
    assert books.holders() == {"pod"}
    books.accounting.update_job(job)
    assert books.holders() == {"pod"}
    assert job.pod is not None


def test_the_end_of_an_older_pod_before_the_job_is_observed_leaves_the_later_one() -> None:
    """Two pods of one job may be observed before the job itself."""
    books, job = Books(), admitted()
    older = its_pod(job, uid="older", fence="earlier")
    books.accounting.update_pod(older, None)
    books.accounting.update_pod(its_pod(job), None)
    books.accounting.update_pod(older.model_copy(update={"phase": PodPhase.FAILED}), None)
    assert books.holders() == {"pod"}
    books.accounting.update_job(job)
    assert job.pod is not None
    assert job.pod.uid == "pod"


def test_the_pod_of_a_deleted_job_is_charged_until_it_is_over() -> None:
    """Its container may run for its grace period."""
    books, job = Books(), admitted()
    books.accounting.update_job(job)
    books.accounting.update_pod(its_pod(job), job)
    books.accounting.remove_job(job)
    assert books.holders() == {"pod"}
    books.accounting.update_pod(its_pod(job, phase=PodPhase.FAILED), None)
    assert books.holders() == set()
    assert books.accounting.get_pod("pod") is None


def test_the_unseen_pod_of_a_deleted_job_is_charged_until_all_facts_up_to_its_admission_are_known() -> None:
    """It may appear late; one that has not appeared by then is gone."""
    books, job = Books(), admitted()
    books.accounting.update_job(job)
    books.accounting.remove_job(job)
    assert books.holders() == {"pod"}
    assert books.accounting.on_pods_synced(job.seen.resource_version - 1) == set()
    assert books.accounting.on_pods_synced(job.seen.resource_version) == {GROUP}
    assert books.holders() == set()


def test_an_unseen_pod_that_appears_is_charged_as_itself() -> None:
    """It counts in the group that its job named, whatever its labels are."""
    books, job = Books(), admitted()
    books.accounting.update_job(job)
    books.accounting.remove_job(job)
    books.accounting.update_pod(its_pod(job, group="other"), None)
    assert (books.holders(), books.holders("other")) == ({"pod"}, set())
    books.accounting.on_pods_synced(10**9)
    assert books.holders() == {"pod"}


def test_a_deleted_job_has_no_unseen_pod_if_all_facts_about_pods_are_known() -> None:
    """Its pod would have been observed."""
    books, job = Books(), admitted()
    books.accounting.on_pods_synced(job.seen.resource_version)
    books.accounting.update_job(job)
    books.accounting.remove_job(job)
    assert books.holders() == set()


def test_a_job_that_is_deleted_before_its_admission_is_observed_was_never_admitted() -> None:
    """All states of a job are observed, so its last state is known."""
    books, job = Books(), reserved()
    books.accounting.update_job(job)
    books.accounting.remove_job(job)
    assert books.holders() == set()


def test_the_pod_of_a_finished_job_of_the_snapshot_is_charged_until_its_state_is_known() -> None:
    """The snapshot lists jobs before pods."""
    books = Books()
    seen = a_job(phase=Phase.CANCELLED, pod_uid="pod", resources=LIMITS)
    books.accounting.charge_unseen_pod(seen)
    assert books.holders() == {"pod"}
    books.accounting.on_pods_synced(seen.resource_version)
    assert books.holders() == set()


def test_a_pod_of_a_finished_job_that_is_known_already_is_not_charged_twice() -> None:
    """A pod that was observed is charged by its own state, and is not released without it."""
    books = Books()
    seen = a_job(phase=Phase.CANCELLED, pod_uid="pod", resources=LIMITS)
    pod = a_pod(seen, uid="pod", limits={"nvidia.com/gpu": 2})
    books.accounting.update_pod(pod, None)
    books.accounting.charge_unseen_pod(seen)
    assert books.accounting.on_pods_synced(seen.resource_version) == set()
    assert books.queues[GROUP].ledger.used_by(USER) == {"nvidia.com/gpu": 2, "gpu": 2}


def test_the_end_of_an_older_pod_leaves_the_charge_of_the_named_one() -> None:
    """The older one was deleted after a requeue, and its end is observed late."""
    books, job = Books(), admitted()
    books.accounting.update_job(job)
    books.accounting.update_pod(its_pod(job, uid="older", fence="earlier"), job)
    books.accounting.update_pod(its_pod(job), job)
    books.accounting.update_pod(its_pod(job, uid="older", fence="earlier", phase=PodPhase.FAILED), job)
    assert books.holders() == {"pod"}
    assert job.pod is not None
    assert job.pod.uid == "pod"


def test_a_deleted_pod_that_did_not_start_leaves_the_room_to_its_job() -> None:
    """The job is about to be requeued, or to fail. Its deletion may be reported twice."""
    books, job = Books(), admitted()
    books.accounting.update_job(job)
    books.accounting.update_pod(its_pod(job), job)
    assert books.accounting.remove_pod("pod", job) == {GROUP}
    assert books.accounting.remove_pod("pod", job) == set()
    assert books.accounting.get_pod("pod") is None
    assert books.holders() == {job.seen.uid}
