"""The steps of one job, from its admission to its end, on the simulated API server and clock."""

import asyncio
from collections.abc import AsyncIterator, Iterator, MutableMapping

import pytest
import structlog
from prometheus_client import REGISTRY
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs
from tests.fakes.many_facts import MAX_FINISHED_BYTES, finished_job, finished_pod, measured_memory
from tests.fakes.pod_statuses import EVICTING, PROXY, ended, status
from tests.fakes.simulated_pod_manager import (
    FENCE,
    REVISIONS,
    SimulatedPodManager,
    an_admit,
    run_scenario,
)

from phjob_core.api import REQUEUE_FINALIZER, Object
from phjob_core.lifecycle import Event
from phjob_core.messages import JobSeen, PodSeen
from phjob_core.planner import PendingCommand
from phjob_core.projection import project_job, project_pod
from phjob_core.resource import Resource
from phjob_pod_manager.log_archive.archiver import MAX_CONCURRENT_LOGS, MAX_DELETION_DELAY
from phjob_pod_manager.log_archive.store import ArchiveError
from phjob_pod_manager.reconciler import MAX_JOBS_AT_ONCE


async def admit(pod_manager: SimulatedPodManager) -> None:
    """Admit the job, remove the gate of its pod, and let the watch report the pod."""
    pod_manager.receive(FENCE, an_admit())
    await asyncio.sleep(10)
    assert pod_manager.job()["status"]["phase"] == "Preparing"
    pod_manager.observe_pod()
    await asyncio.sleep(1)


def time_out_start(pod_manager: SimulatedPodManager) -> None:
    """Send the janitor's command to requeue the job, because its pod did not start in time."""
    job = project_job(pod_manager.job())
    command = PendingCommand(Event.START_TIMEOUT, job.name, job.fence, "late")
    pod_manager.reconciler.on_command(job.uid, command)


def test_a_gated_pod_comes_before_the_admission_and_its_gate_is_removed_after_it() -> None:
    """The admission names the uid of the pod (spec.md, L3)."""

    async def scenario(pod_manager: SimulatedPodManager) -> list[str]:
        await admit(pod_manager)
        pod = pod_manager.pod()
        assert pod
        assert pod_manager.job()["status"]["podUID"] == pod["metadata"]["uid"]
        steps = []
        for change in pod_manager.store.changes:
            if change.before is None and change.plural == "pods":
                steps.append(f"pod, {len(change.object['spec']['schedulingGates'])} gate")
            elif change.plural == "pods":
                steps.append(f"{len(change.object['spec']['schedulingGates'])} gates")
            elif change.before is not None:
                steps.append(change.object["status"]["phase"])
        return steps

    assert run_scenario(scenario) == ["pod, 1 gate", "Preparing", "0 gates"]


def test_a_rejected_write_is_no_transition() -> None:
    """Another client wrote the same first: PhJob counts a rejected write, and no transition."""

    def counts() -> tuple[float, float]:
        transition = {"group": "phusers", "phase": "Running", "reason": "Started"}
        written = REGISTRY.get_sample_value("phjob_transitions_total", transition)
        operation = {"operation": "POD_RUNNING"}
        rejected = REGISTRY.get_sample_value("phjob_pod_manager_writes_rejected_total", operation)
        return written or 0, rejected or 0

    async def scenario(pod_manager: SimulatedPodManager) -> tuple[float, float]:
        await admit(pod_manager)
        running = {"name": "main", "state": {"running": {"startedAt": "2026-01-01T00:00:10Z"}}}
        pod_status = {"phase": "Running", "containerStatuses": [running]}
        pod_manager.store.set_status("pods", "job-1", pod_status)
        job_status = {**pod_manager.job()["status"], "phase": "Running", "reason": "Started"}
        pod_manager.store.set_status("phjobs", "job-1", job_status)
        written, rejected = counts()
        pod_manager.observe_pod()
        await asyncio.sleep(5)
        written_now, rejected_now = counts()
        return written_now - written, rejected_now - rejected

    assert run_scenario(scenario) == (0, 1)


def test_a_job_whose_pod_the_api_server_fails_to_create_is_requeued_and_never_admitted() -> None:
    """Its command is spent, so the session sends another one."""

    async def scenario(pod_manager: SimulatedPodManager) -> tuple[str, str, object]:
        pod_manager.api_faults.failing_writes["create", "pods"] = 0
        pod_manager.receive(FENCE, an_admit())
        await asyncio.sleep(30)
        status = pod_manager.job()["status"]
        return status["reason"], status["fence"], pod_manager.pod()

    assert run_scenario(scenario) == ("Requeued", an_admit().token, None)


def test_a_job_whose_image_was_just_deleted_waits() -> None:
    """The scheduler is about to learn of it. A job that was feasible does not fail (spec.md, Q10)."""

    async def scenario(pod_manager: SimulatedPodManager) -> dict[str, str]:
        pod_manager.store.remove("images", "base-notebook")
        pod_manager.receive(FENCE, an_admit())
        await asyncio.sleep(10)
        status = pod_manager.job()["status"]
        return {field: status[field] for field in ("phase", "message")}

    assert run_scenario(scenario) == {"phase": "Pending", "message": "image 'base-notebook' was deleted"}


def test_a_job_waits_while_the_pod_of_an_earlier_job_of_its_name_ends() -> None:
    """It blocks no other job, and that does not count as a requeue."""

    async def scenario(pod_manager: SimulatedPodManager) -> tuple[str, int, str]:
        await admit(pod_manager)
        pod = pod_manager.pod()
        assert pod
        pod_manager.store.bind("job-1", "node-1")
        pod_manager.store.remove("phjobs", "job-1")
        pod_manager.store.delete("pods", "job-1")
        pod_manager.store.create("phjobs", {**pod_manager.job("job-2"), "metadata": {"name": "job-1"}})
        second = pod_manager.job()
        pod_manager.reconciler.on_fact(project_job(second), from_snapshot=False)
        pod_manager.receive(an_admit(uid=second["metadata"]["uid"], number=2))
        await asyncio.sleep(10)
        status = pod_manager.job()["status"]
        return status["phase"], status["requeued"], status["message"]

    phase, requeued, message = run_scenario(scenario, jobs=2)
    assert (phase, requeued) == ("Pending", 0)
    assert "still ending" in message


def test_a_pod_that_is_created_late_never_starts() -> None:
    """No job names it, so it is deleted as soon as the watch reports it."""

    async def scenario(pod_manager: SimulatedPodManager) -> object:
        await admit(pod_manager)
        late = pod_manager.pod()
        assert late
        pod_manager.store.remove("pods", "job-1")
        pod_manager.observe_pod_gone(late)
        await asyncio.sleep(1)
        gated = {**late, "spec": {**late["spec"], "schedulingGates": [{"name": "primehub.io/admitted"}]}}
        pod_manager.store.create("pods", gated)
        pod_manager.observe_pod()
        await asyncio.sleep(10)
        return pod_manager.pod()

    assert run_scenario(scenario) is None


def outcome_of_removal(*, has_node: bool, observed: bool) -> tuple[str, str]:
    """Return phase and reason of a job whose pod another program removed before its start was observed."""

    async def scenario(pod_manager: SimulatedPodManager) -> tuple[str, str]:
        await admit(pod_manager)
        if has_node:
            pod_manager.store.bind("job-1", "node-1")
            pod_manager.observe_pod()
        pod = pod_manager.pod()
        assert pod
        pod_manager.store.remove("pods", "job-1")
        if observed:
            deleted = {**pod["metadata"], "deletionTimestamp": "2026-01-01T00:00:10Z"}
            pod_manager.observe_pod_gone({**pod, "metadata": deleted})
        else:
            reconciler = pod_manager.reconciler
            reconciler.on_snapshot_begin(dict.fromkeys(REVISIONS, pod_manager.store.revision))
            reconciler.on_fact(project_job(pod_manager.job()), from_snapshot=True)
            reconciler.on_snapshot_end()
        await asyncio.sleep(10)
        status = pod_manager.job()["status"]
        return status["phase"], status["reason"]

    return run_scenario(scenario)


def test_the_removal_of_a_pod_without_a_node_requeues_its_job() -> None:
    """Its last state proves that it never started (spec.md, L6)."""
    assert outcome_of_removal(has_node=False, observed=True) == ("Pending", "Requeued")


def test_the_removal_of_a_pod_without_proof_of_no_start_fails_its_job() -> None:
    """Its command may have run, and no command runs twice (spec.md, L6)."""
    assert outcome_of_removal(has_node=True, observed=True) == ("Failed", "PodDeleted")
    assert outcome_of_removal(has_node=False, observed=False) == ("Failed", "PodDeleted")


@pytest.mark.parametrize("requeue_limit", [None, 0])
@pytest.mark.parametrize("change", ["deleted", "cancelled"])
def test_a_job_that_is_deleted_or_cancelled_just_before_its_requeue_is_cancelled(
    change: str, requeue_limit: int | None
) -> None:
    """The watch of pods may be ahead of that of jobs, as after a foreground deletion (spec.md, Q5, L13)."""

    async def scenario(pod_manager: SimulatedPodManager) -> tuple[str, int]:
        store = pod_manager.store
        store.edit("phjobs", "job-1", requeueLimit=requeue_limit)
        await admit(pod_manager)
        pod = pod_manager.pod()
        assert pod
        if change == "cancelled":
            store.edit("phjobs", "job-1", cancel=True)
        else:
            finalizers = {"op": "add", "path": "/metadata/finalizers", "value": ["foregroundDeletion"]}
            store.patch("phjobs", "job-1", [finalizers])
            store.remove("phjobs", "job-1")
        store.remove("pods", "job-1")
        deleted = {**pod["metadata"], "deletionTimestamp": "2026-01-01T00:00:10Z"}
        pod_manager.observe_pod_gone({**pod, "metadata": deleted})
        await asyncio.sleep(10)
        status = pod_manager.job()["status"]
        return status["phase"], status["requeued"]

    assert run_scenario(scenario) == ("Cancelled", 0)


def test_a_requeue_keeps_the_pod_until_its_last_state_is_read() -> None:
    """The finalizer is added before the deletion, and removed after the write."""

    async def scenario(pod_manager: SimulatedPodManager) -> list[str]:
        await admit(pod_manager)
        began = len(pod_manager.store.changes)
        time_out_start(pod_manager)
        for _ in range(5):
            await asyncio.sleep(1)
            if pod_manager.pod():
                pod_manager.observe_pod()
        steps = []
        for change in pod_manager.store.changes[began:]:
            metadata = change.object["metadata"]
            if change.plural == "phjobs":
                steps.append(change.object["status"]["phase"])
            elif change.gone:
                steps.append("gone")
            elif change.plural == "pods":
                held = "held" if REQUEUE_FINALIZER in metadata.get("finalizers", ()) else "released"
                steps.append(f"{held}, deleting" if "deletionTimestamp" in metadata else held)
        return steps

    assert run_scenario(scenario) == ["held", "held, deleting", "Pending", "released, deleting", "gone"]


def write_event(pod_manager: SimulatedPodManager, reason: str) -> None:
    """Write an Event about the job's container, as its kubelet does."""
    pod = pod_manager.pod()
    assert pod
    involved = {"uid": pod["metadata"]["uid"], "fieldPath": "spec.containers{main}"}
    event = {"metadata": {"name": f"job-1.{reason}"}, "involvedObject": involved, "type": "Normal"}
    pod_manager.store.create("events", {**event, "reason": reason, "message": f"{reason} image"})


def late_start(pod_manager: SimulatedPodManager, *, spares_pulling: bool) -> None:
    """Send the janitor's command to requeue the job, maybe unless its image is being pulled."""
    job = project_job(pod_manager.job())
    command = PendingCommand(
        Event.START_TIMEOUT, job.name, job.fence, "late", spares_pulling=spares_pulling,
        message_if_pulling="not pulled in time",
    )  # fmt: skip
    pod_manager.reconciler.on_command(job.uid, command)


async def observe_requeue(pod_manager: SimulatedPodManager) -> tuple[str, str]:
    """Let the watch report the pod until the job is requeued. Returns the job's phase and message."""
    for _ in range(5):
        await asyncio.sleep(1)
        if pod_manager.pod():
            pod_manager.observe_pod()
    status = pod_manager.job()["status"]
    return status["phase"], status["message"]


def test_a_pod_whose_image_is_being_pulled_gets_more_time() -> None:
    """The janitor repeats its command. The pod is untouched, and each command costs one request."""

    async def scenario(pod_manager: SimulatedPodManager) -> tuple[tuple[str, str], int, object]:
        await admit(pod_manager)
        write_event(pod_manager, "Pulling")
        for _ in range(3):
            late_start(pod_manager, spares_pulling=True)
            await asyncio.sleep(30)
        pod = pod_manager.pod()
        assert pod
        status = pod_manager.job()["status"]
        commands = pod_manager.reconciler.debug_state()["pending_commands"]
        return (status["phase"], status["message"]), len(commands), pod["metadata"].get("finalizers")

    assert run_scenario(scenario) == (("Preparing", ""), 0, None)


def test_a_pod_whose_pull_has_just_ended_gets_time_to_start_once() -> None:
    """Otherwise it would be deleted in the moment in which it starts."""

    async def scenario(pod_manager: SimulatedPodManager) -> list[str]:
        await admit(pod_manager)
        write_event(pod_manager, "Pulling")
        late_start(pod_manager, spares_pulling=True)
        await asyncio.sleep(30)
        write_event(pod_manager, "Pulled")
        phases = []
        for _ in range(2):
            late_start(pod_manager, spares_pulling=True)
            phases.append((await observe_requeue(pod_manager))[0])
        return phases

    assert run_scenario(scenario) == ["Preparing", "Pending"]


def test_a_pull_that_takes_too_long_is_named_in_the_message() -> None:
    """With its remedy, and with what Kubernetes says."""

    async def scenario(pod_manager: SimulatedPodManager) -> tuple[str, str]:
        await admit(pod_manager)
        write_event(pod_manager, "Pulling")
        late_start(pod_manager, spares_pulling=False)
        return await observe_requeue(pod_manager)

    message = "not pulled in time; its image is still being pulled: Pulling: Pulling image"
    assert run_scenario(scenario) == ("Pending", message)


def test_a_pod_that_is_not_being_pulled_is_requeued_at_once() -> None:
    """The time of a pull is for pulls only."""

    async def scenario(pod_manager: SimulatedPodManager) -> tuple[str, str]:
        await admit(pod_manager)
        late_start(pod_manager, spares_pulling=True)
        return await observe_requeue(pod_manager)

    assert run_scenario(scenario) == ("Pending", "late")


def test_a_pod_that_starts_before_its_deletion_runs_on() -> None:
    """The deletion requires that the pod is unchanged since the finalizer was added."""

    async def scenario(pod_manager: SimulatedPodManager) -> tuple[str, object]:
        await admit(pod_manager)
        pod_manager.store.bind("job-1", "node-1")
        running = {"name": "main", "state": {"running": {"startedAt": "2026-01-01T00:00:09Z"}}}
        time_out_start(pod_manager)
        pod_manager.store.set_status("pods", "job-1", {"phase": "Running", "containerStatuses": [running]})
        await asyncio.sleep(5)
        pod_manager.observe_pod()
        await asyncio.sleep(5)
        pod = pod_manager.pod()
        assert pod
        return pod_manager.job()["status"]["phase"], pod["metadata"].get("finalizers") or None

    assert run_scenario(scenario) == ("Running", None)


def test_a_pod_that_was_created_after_its_jobs_end_is_deleted() -> None:
    """Only its job's record is left. Without the deletion, the pod would stay forever."""

    async def scenario(pod_manager: SimulatedPodManager) -> object:
        await admit(pod_manager)
        job = pod_manager.job()
        reclaimed = [{"op": "add", "path": "/status/reclaimed", "value": True}]
        pod_manager.store.patch("phjobs", "job-1", reclaimed)
        pod_manager.observe_job_gone(job)
        await asyncio.sleep(10)
        return pod_manager.pod()

    assert run_scenario(scenario) is None


def test_the_pod_of_a_deleted_job_is_left_to_the_garbage_collector() -> None:
    """Kubernetes deletes it (spec.md, L13)."""

    async def scenario(pod_manager: SimulatedPodManager) -> object:
        await admit(pod_manager)
        job = pod_manager.job()
        pod_manager.store.remove("phjobs", "job-1")
        pod_manager.observe_job_gone(job)
        await asyncio.sleep(10)
        return pod_manager.pod()

    assert run_scenario(scenario) is not None


@pytest.mark.parametrize("job_is_gone_first", [True, False])
def test_the_pod_that_outlives_its_job_as_an_orphan_is_deleted(*, job_is_gone_first: bool) -> None:
    """Its job was deleted with `--cascade=orphan`. The watches report that in either order (spec.md, L16)."""

    async def scenario(pod_manager: SimulatedPodManager) -> object:
        await admit(pod_manager)
        job = pod_manager.job()
        pod_manager.store.orphan_pod("job-1")
        pod_manager.store.remove("phjobs", "job-1")
        if not job_is_gone_first:
            pod_manager.observe_pod()
            await asyncio.sleep(10)
        pod_manager.observe_job_gone(job)
        await asyncio.sleep(10)
        if job_is_gone_first:
            pod_manager.observe_pod()
            await asyncio.sleep(10)
        return pod_manager.pod()

    assert run_scenario(scenario) is None


def test_an_orphan_is_kept_while_its_job_exists() -> None:
    """The watch of jobs may be behind. The API server has the job."""

    async def scenario(pod_manager: SimulatedPodManager) -> object:
        await admit(pod_manager)
        job = pod_manager.job()
        pod_manager.store.orphan_pod("job-1")
        pod_manager.observe_job_gone(job)
        pod_manager.observe_pod()
        await asyncio.sleep(10)
        return pod_manager.pod()

    assert run_scenario(scenario) is not None


def test_a_change_that_the_watch_omits_does_not_block_a_deletion() -> None:
    """An edit of the labels changes the resourceVersion, and nothing that concerns the job."""

    async def scenario(pod_manager: SimulatedPodManager) -> object:
        await admit(pod_manager)
        labels = [{"op": "add", "path": "/metadata/labels", "value": {}}]
        pod_manager.store.patch("pods", "job-1", labels)
        time_out_start(pod_manager)
        await asyncio.sleep(5)
        pod = pod_manager.pod()
        assert pod
        return project_pod(pod).deleting

    assert run_scenario(scenario) is True


def test_a_repeated_command_is_executed_once() -> None:
    """The janitor repeats its commands until it sees the effect."""

    async def scenario(pod_manager: SimulatedPodManager) -> int:
        await admit(pod_manager)
        for _ in range(5):
            time_out_start(pod_manager)
            await asyncio.sleep(1)
            if pod_manager.pod():
                pod_manager.observe_pod()
        requeued: int = pod_manager.job()["status"]["requeued"]
        return requeued

    assert run_scenario(scenario) == 1


SECRET = "Traceback: password=hunter2"


def end_job(
    *, phase: str, code: int, message: str = "", is_gone: bool = False
) -> tuple[dict[str, object], list[str], list[MutableMapping[str, object]]]:
    """Run a job whose container ends with this code and message, and whose pod is then perhaps gone.

    Returns its status, the kinds of objects that its end read, and the lines of the log.
    """
    gets: list[str] = []

    async def scenario(pod_manager: SimulatedPodManager) -> dict[str, object]:
        await admit(pod_manager)
        get = pod_manager.api.get

        async def counted_get(resource: Resource, name: str, *, cached: bool = False) -> Object | None:
            gets.append(resource.plural)
            return await get(resource, name, cached=cached)

        pod_manager.api.get = counted_get  # type: ignore[method-assign]
        times = {"startedAt": "2026-01-01T00:00:09Z", "finishedAt": "2026-01-01T00:00:10Z"}
        reason = "Error" if code else "Completed"
        terminated = {"exitCode": code, "reason": reason, "message": message, **times}
        container = {"name": "main", "state": {"terminated": terminated}}
        pod_manager.store.set_status("pods", "job-1", {"phase": phase, "containerStatuses": [container]})
        pod_manager.observe_pod()
        if is_gone:
            pod_manager.store.remove("pods", "job-1")
        await asyncio.sleep(10)
        status: dict[str, object] = dict(pod_manager.job()["status"])
        return status

    with capture_logs([merge_contextvars]) as lines:
        status = run_scenario(scenario)
    return status, gets, lines


@pytest.mark.usefixtures("default_logging")
def test_the_message_of_a_failed_job_quotes_its_pod_and_nothing_else_does() -> None:
    """The log of pod-manager has other readers than the job (spec.md, L4, E7)."""
    status, gets, lines = end_job(phase="Failed", code=1, message=f"{SECRET}\n")
    assert (status["phase"], status["reason"]) == ("Failed", "Error")
    assert status["message"] == f"exit code 1 (Error): {SECRET}"
    assert gets == ["pods"]
    assert "transition_written" in [line["event"] for line in lines]
    assert "hunter2" not in repr(lines)


def test_a_job_that_succeeds_reads_no_object_at_its_end() -> None:
    """The API server would have to answer one request more for every job."""
    status, gets, _ = end_job(phase="Succeeded", code=0, message=SECRET)
    assert (status["phase"], status["message"]) == ("Succeeded", "exit code 0")
    assert gets == []


def test_a_failed_job_whose_pod_is_gone_ends_with_what_is_known() -> None:
    """Somebody else was quicker than pod-manager."""
    status, _, _ = end_job(phase="Failed", code=1, message=SECRET, is_gone=True)
    assert (status["phase"], status["message"]) == ("Failed", "exit code 1 (Error)")


def test_an_event_about_a_killed_job_has_the_disruption_and_not_its_log() -> None:
    """An Event has other readers than the job, which quotes the log (spec.md, E2, L7)."""

    async def scenario(pod_manager: SimulatedPodManager) -> tuple[str, list[str]]:
        await admit(pod_manager)
        pod_manager.store.bind("job-1", "node-1")
        pod_manager.store.delete("pods", "job-1")
        state = ended(143, message=SECRET, finishedAt="2030-01-01T00:00:00Z")
        drained = {**status("Failed", state), "conditions": EVICTING}
        pod_manager.store.set_status("pods", "job-1", drained)
        pod_manager.observe_pod()
        await asyncio.sleep(10)
        events = [event["message"] for event in pod_manager.store.all("events")]
        return pod_manager.job()["status"]["message"], events

    message, events = run_scenario(scenario)
    text = "its pod was deleted while it ran: EvictionByEvictionAPI: Eviction API: evicting"
    assert message == f"{text}; exit code 143 (Error): {SECRET}"
    assert events == [f"{text}; exit code 143 (Error)"]


def test_the_log_of_a_job_is_stored_before_its_pod_is_deleted_because_a_sidecar_runs_on() -> None:
    """The job ends by its container `main`, and its log is gone with its pod (spec.md, L4, L14)."""
    archive = SlowArchive()

    async def scenario(pod_manager: SimulatedPodManager) -> list[tuple[str, bool]]:
        await admit(pod_manager)
        pod_manager.store.set_status("pods", "job-1", status("Running", ended(0, "Completed"), PROXY))
        pod_manager.observe_pod()
        found = []
        for _ in range(2):
            await asyncio.sleep(10)
            found.append((pod_manager.job()["status"]["phase"], pod_manager.is_pod_deleted()))
            archive.released.set()
        assert pod_manager.job()["status"]["logURL"] == "memory://job-1/1"
        return found

    assert run_scenario(scenario, archive=archive) == [("Succeeded", False), ("Succeeded", True)]


@pytest.fixture
def default_logging() -> Iterator[None]:
    """Configure logging as in a new process.

    Without this, a log level that another test of this process has configured would drop lines.
    """
    configuration = structlog.get_config()
    structlog.reset_defaults()
    yield
    structlog.configure(**configuration)


@pytest.mark.usefixtures("default_logging")
def test_every_line_of_the_log_about_a_job_names_it() -> None:
    """By name and uid. Lines about an admission have its token, too."""

    async def scenario(pod_manager: SimulatedPodManager) -> None:
        await admit(pod_manager)
        pod_manager.api_faults.failing_writes["patch", "pods"] = 0
        time_out_start(pod_manager)
        await asyncio.sleep(5)
        pod_manager.api_faults.failing_writes.clear()
        for _ in range(5):
            await asyncio.sleep(5)
            if pod_manager.pod():
                pod_manager.observe_pod()

    with capture_logs([merge_contextvars]) as lines:
        run_scenario(scenario)
    about_the_job = [line for line in lines if line["event"] != "fence_reached"]
    assert {(line.get("job"), line.get("uid")) for line in about_the_job} == {("job-1", "phjobs-1")}
    assert {line["event"] for line in about_the_job if line.get("fence") == an_admit().token} == {
        "pod_created", "job_admitted", "gate_removed",
    }  # fmt: skip
    assert {line["event"] for line in about_the_job} >= {"pod_deleted", "transition_written"}


def test_finished_jobs_take_little_memory_also_right_after_a_snapshot() -> None:
    """There is work for each of them then. A worker for each at once would take more than the jobs."""
    count = 3 * MAX_JOBS_AT_ONCE

    async def scenario(pod_manager: SimulatedPodManager) -> list[int]:
        reconciler = pod_manager.reconciler
        with measured_memory() as measured:
            reconciler.on_snapshot_begin(REVISIONS)
            for number in range(count):
                job = finished_job(number)
                reconciler.on_fact(job, from_snapshot=True)
                reconciler.on_fact(finished_pod(job), from_snapshot=True)
            reconciler.on_snapshot_end()
            await asyncio.sleep(1)
        state = reconciler.debug_state()
        assert (len(state["jobs"]), state["reconciling"]) == (count + 1, 0)
        return measured

    kept, peak = run_scenario(scenario)
    assert kept < count * MAX_FINISHED_BYTES
    assert peak < count * MAX_FINISHED_BYTES + MAX_JOBS_AT_ONCE * 10 * 2**10


class SlowArchive:
    """An archive that stores a log once the test lets it, or fails."""

    def __init__(self) -> None:
        self.error = ""
        self.released = asyncio.Event()
        self.began: list[str] = []
        self.stored: list[str] = []

    def url(self, job: JobSeen, pod: PodSeen) -> str:
        return f"memory://{job.name}/{pod.attempt}"

    async def put(self, job: JobSeen, _: PodSeen, chunks: AsyncIterator[bytes]) -> None:
        self.began.append(job.name)
        await self.released.wait()
        if self.error:
            raise ArchiveError(self.error)
        assert b"".join([chunk async for chunk in chunks]) == b""
        self.stored.append(job.name)


async def end_jobs(pod_manager: SimulatedPodManager, count: int) -> list[str]:
    """Admit so many jobs, and let their containers end. Returns the names of the jobs."""
    names = [f"job-{number}" for number in range(1, count + 1)]
    pod_manager.receive(FENCE, *(an_admit(name, number) for number, name in enumerate(names, 1)))
    await asyncio.sleep(30)
    times = {"startedAt": "2026-01-01T00:00:10Z", "finishedAt": "2026-01-01T00:00:20Z"}
    ended = {"name": "main", "state": {"terminated": {"exitCode": 0, "reason": "Completed", **times}}}
    for name in names:
        pod_manager.store.set_status("pods", name, {"phase": "Succeeded", "containerStatuses": [ended]})
        pod_manager.observe_pod(name)
    await asyncio.sleep(30)
    return names


def test_jobs_end_while_the_archive_is_slow() -> None:
    """Few logs are stored at once. The others wait, and no job waits for them."""
    archive, count = SlowArchive(), 3 * MAX_CONCURRENT_LOGS

    async def scenario(pod_manager: SimulatedPodManager) -> None:
        names = await end_jobs(pod_manager, count)
        assert {pod_manager.job(name)["status"]["phase"] for name in names} == {"Succeeded"}
        assert len(archive.began) == MAX_CONCURRENT_LOGS
        archive.released.set()
        await asyncio.sleep(60)
        assert sorted(archive.stored) == sorted(names)
        urls = {pod_manager.job(name)["status"]["logURL"] for name in names}
        assert urls == {f"memory://{name}/1" for name in names}

    run_scenario(scenario, jobs=count, archive=archive)


def test_the_error_of_the_archive_is_added_to_the_jobs_message_and_removed_again() -> None:
    """pod-manager keeps no message of a finished job, so it reads the message first."""
    archive = SlowArchive()
    archive.released.set()
    archive.error = "no such bucket"

    async def scenario(pod_manager: SimulatedPodManager) -> tuple[str, str]:
        await end_jobs(pod_manager, 1)
        failing = pod_manager.job()["status"]["message"]
        archive.error = ""
        await asyncio.sleep(MAX_DELETION_DELAY.total_seconds())
        for _ in range(10):
            pod_manager.reconciler.on_wakeup()
            await asyncio.sleep(30)
        return failing, pod_manager.job()["status"]["message"]

    failing, message = run_scenario(scenario, archive=archive)
    assert failing == "exit code 0; its log is not archived: no such bucket"
    assert message == "exit code 0"


def test_a_pod_whose_log_waits_too_long_for_its_turn_is_deleted() -> None:
    """A failing archive delays no deletion by more than 30 s (spec.md, L14)."""
    archive = SlowArchive()

    async def scenario(pod_manager: SimulatedPodManager) -> list[bool]:
        names = await end_jobs(pod_manager, MAX_CONCURRENT_LOGS + 1)
        (waiting,) = set(names) - set(archive.began)
        job = project_job(pod_manager.job(waiting))
        pod_manager.reconciler.on_command(job.uid, PendingCommand(Event.TTL_OVER, job.name, job.fence))
        found = []
        for _ in range(2):
            await asyncio.sleep(MAX_DELETION_DELAY.total_seconds() - 5)
            pod_manager.reconciler.on_wakeup()
            await asyncio.sleep(1)
            found.append(pod_manager.pod(waiting) is not None)
        return found

    assert run_scenario(scenario, jobs=MAX_CONCURRENT_LOGS + 1, archive=archive) == [True, False]
