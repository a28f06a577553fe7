from datetime import datetime
from typing import Any

from tests.fakes.facts import START, a_job, a_pod, later

from phjob_core.api import Phase, PodPhase
from phjob_core.kinds import KINDS
from phjob_core.lifecycle import Event
from phjob_core.messages import JobGone, JobSeen, NodeGone, NodeSeen, PodGone, PodSeen
from phjob_core.planner import LogState, PendingCommand
from phjob_pod_manager.store import MAX_PROOFS, JobStore


def job_gone(job: JobSeen) -> JobGone:
    return JobGone(uid=job.uid, name=job.name, resource_version=job.resource_version + 1, group=job.group)


def pod_gone(pod: PodSeen, *, never_started: bool = False) -> PodGone:
    return PodGone(
        uid=pod.uid, name=pod.name, resource_version=pod.resource_version + 1, group=pod.group,
        job_uid=pod.job_uid, never_started=never_started,
    )  # fmt: skip


def a_node(revision: int, *, lost_since: datetime | None = None) -> NodeSeen:
    return NodeSeen(uid="uid-node-1", name="node-1", resource_version=revision, lost_since=lost_since)


def a_store(*facts: JobSeen | PodSeen) -> JobStore:
    """Return a store with these jobs and pods."""
    store = JobStore()
    for fact in facts:
        if isinstance(fact, JobSeen):
            assert store.upsert_job(fact)
        else:
            assert store.upsert_pod(fact)
    return store


def a_running_job(**fields: Any) -> tuple[JobSeen, PodSeen]:
    """Return a Running job and its named pod."""
    job = a_job(phase=Phase.RUNNING, fence="s#1", pod_uid="pod-of-uid-job-1", **fields)
    return job, a_pod(job, node="node-1")


def test_an_older_state_of_a_job_is_no_change() -> None:
    """The watch reports pod-manager's own writes again."""
    job = a_job()
    store = a_store(later(job, phase=Phase.PREPARING))
    assert not store.upsert_job(job)
    cached = store.jobs.get(job.uid)
    assert cached
    assert cached.phase is Phase.PREPARING


def test_the_end_of_a_pod_that_is_gone_a_moment_later_still_counts() -> None:
    """A kubelet reports the end of a drained pod, and removes the pod at once (spec.md, L17)."""
    job, pod = a_running_job()
    ended = pod.model_copy(
        update={"resource_version": pod.resource_version + 10, "phase": PodPhase.FAILED, "exit_code": 143}
    )
    store = a_store(job, pod, ended)
    store.remove_pod(pod_gone(ended))
    assert store.job_state(job, LogState(), admitting=False).pod == ended
    pending = later(job, phase=Phase.PENDING)
    store.upsert_job(pending)
    assert store.job_state(pending, LogState(), admitting=False).pod is None
    again = later(pending, phase=Phase.RUNNING, fence="s#2", pod_uid="another")
    store.upsert_job(again)
    assert store.job_state(again, LogState(), admitting=False).pod is None


def test_a_pod_that_ran_when_it_was_last_seen_proves_nothing_when_it_is_gone() -> None:
    """Its command may still run on a lost node."""
    job, pod = a_running_job()
    store = a_store(job, pod)
    store.remove_pod(pod_gone(pod))
    assert store.job_state(job, LogState(), admitting=False).pod is None


def test_the_proofs_of_no_start_are_bounded() -> None:
    """A user can create jobs and delete them before their pods start, again and again."""
    store = a_store()
    gated = {"gated": True, "deleting": True}
    for number in range(MAX_PROOFS + 10):
        pod = a_pod(a_job(f"job-{number}"), **gated)
        store.upsert_pod(pod)
        store.remove_pod(pod_gone(pod, never_started=True))
    assert len(vars(store)["_never_started"]) == MAX_PROOFS


def test_a_deleted_job_leaves_its_pod_and_no_command() -> None:
    """The pod has to be cleaned up; a command has no job any longer."""
    job, pod = a_running_job()
    store = a_store(job, pod)
    store.set_command(job.uid, PendingCommand(Event.OVER_DEADLINE, job.name, job.fence))
    assert store.remove_job(job_gone(job))
    assert store.pending_command(job.uid) is None
    assert store.job_uids() == [job.uid]
    assert store.pod_of(job.uid) == pod
    assert not store.remove_job(job_gone(job)), "it is known already"


def test_a_job_has_the_latest_of_its_pods() -> None:
    """A pod that was created late can be reported beside the named one."""
    job, pod = a_running_job()
    late = a_pod(job, uid="late")
    store = a_store(job, pod, late)
    assert store.pod_of(job.uid) == late
    assert store.remove_pod(pod_gone(late))
    assert store.pod_of(job.uid) is None


def test_a_pod_that_only_claims_to_be_the_jobs_is_ignored() -> None:
    """A job's pod has the job's name; its labels and owner are written by anyone who creates pods."""
    job = a_job()
    store = a_store(job)
    assert not store.upsert_pod(a_pod(job, name="another"))
    assert store.pod_of(job.uid) is None
    assert not store.upsert_pod(a_pod(job, uid="notebook", job_uid=""))


def test_the_proof_of_no_start_counts_for_the_named_pod_only() -> None:
    """The end of a stray pod proves nothing about the named one (spec.md, L6)."""
    job, pod = a_running_job()

    def never_started(*ends: PodGone) -> bool:
        store = a_store(job, pod, a_pod(job, uid="stray"))
        for end in ends:
            store.remove_pod(end)
        return store.job_state(job, LogState(), admitting=False).never_started

    stray = a_pod(job, uid="stray")
    assert not never_started(pod_gone(pod))
    assert never_started(pod_gone(pod, never_started=True))
    assert not never_started(pod_gone(stray, never_started=True))
    assert never_started(pod_gone(pod, never_started=True), pod_gone(stray, never_started=True))


def test_a_node_affects_the_jobs_on_it_when_its_state_changes() -> None:
    """A job on a lost node keeps its phase, and gets another reason (spec.md, L12)."""
    job, pod = a_running_job()
    store = a_store(job, pod)
    assert store.upsert_node(a_node(1)) == []
    assert store.upsert_node(a_node(2, lost_since=START)) == [job.uid]
    assert store.is_node_lost(pod)
    assert store.upsert_node(a_node(3, lost_since=START)) == [], "it was lost before"
    assert store.upsert_node(a_node(4)) == [job.uid]
    assert not store.is_node_lost(pod)


def test_a_deleted_node_is_not_lost() -> None:
    """Kubernetes ends its pods itself."""
    job, pod = a_running_job()
    store = a_store(job, pod)
    store.upsert_node(a_node(1, lost_since=START))
    store.remove_node(NodeGone(uid="uid-node-1", name="node-1", resource_version=2))
    assert not store.is_node_lost(pod)


def test_a_stale_command_is_dropped_for_good() -> None:
    """A node that is lost a second time has its full grace period again."""
    job, pod = a_running_job()
    store = a_store(job, pod)
    store.upsert_node(a_node(1, lost_since=START))
    command = PendingCommand(Event.NODE_LOST_TOO_LONG, job.name, job.fence)
    store.set_command(job.uid, command)
    assert store.pending_command(job.uid) == command
    store.upsert_node(a_node(2))
    assert store.pending_command(job.uid) is None
    store.upsert_node(a_node(3, lost_since=START))
    assert store.pending_command(job.uid) is None


def test_a_command_can_come_before_its_job() -> None:
    """The queues of the janitor and the watcher are different ones."""
    store = JobStore()
    command = PendingCommand(Event.HISTORY_OVER, "job-1", "")
    store.set_command("uid-job-1", command)
    assert store.pending_command("uid-job-1") == command
    assert store.job_uids() == ["uid-job-1"]
    assert store.job_name("uid-job-1") == "job-1"
    store.drop_command("uid-job-1")
    assert store.job_uids() == []
    assert store.job_name("uid-job-1") == ""


def test_a_snapshot_discards_everything_older_than_itself() -> None:
    """Objects that it does not contain were deleted, and their last states were not observed."""
    job, pod = a_running_job()
    store = a_store(job, pod)
    store.remove_pod(pod_gone(pod, never_started=True))
    store.upsert_node(a_node(1, lost_since=START))
    store.reset(dict.fromkeys((kind.plural for kind in KINDS), pod.resource_version + 10))
    assert store.job_uids() == []
    assert store.upsert_job(job, from_snapshot=True)
    state = store.job_state(job, LogState(), admitting=False)
    assert (state.pod, state.never_started, state.node_lost) == (None, False, False)
