from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fakes.facts import a_job, a_pod, at
from tests.fakes.objects import a_pod_object
from tests.fakes.pod_statuses import CASES, Case
from tests.fakes.random_pods import metadata_changes, statuses
from tests.fakes.small_executor import SmallExecutor

from phjob_core.api import Phase, PodPhase
from phjob_core.lifecycle import Event
from phjob_core.messages import PodSeen
from phjob_core.pod_reading import PodReading, Quotes
from phjob_core.pod_status import TABLE, describe_end, state_of
from phjob_core.projection import project_pod


def pod_of(case: Case) -> dict[str, Any]:
    """Return the pod of a case, which has a node."""
    pod = a_pod_object(case.status, **case.metadata)
    pod["spec"] |= {"nodeName": "node-1", **case.spec}
    return pod


@pytest.mark.parametrize(
    ("case", "job"),
    [pytest.param(case, job, id=f"{job}: {case.name}") for case in CASES for job in case.jobs],
)
def test_each_status_that_a_kubelet_writes_has_its_event_and_its_message(case: Case, job: str) -> None:
    """The statuses are those of Kubernetes' source and of public reports (spec.md, L4 to L7)."""
    pod = pod_of(case)
    seen = project_pod(pod)
    row = state_of(seen, is_preparing=job == "Preparing")
    assert row.event is case.event, row.name
    if row.event not in (None, Event.POD_RUNNING):
        assert describe_end(row.event, seen, PodReading(pod).quotes) == case.message


def test_each_row_of_the_table_has_a_case() -> None:
    """A row that no real status reaches would be dead, or wrong."""
    reached = {
        state_of(project_pod(pod_of(case)), is_preparing=job == "Preparing").name
        for case in CASES
        for job in case.jobs
    }
    without_kubelet = {
        "failed before its start",  # Another program writes Failed and nothing else.
        "waits: its image is still being pulled",  # An Event of the pod shows that, not its status.
        "waits: a volume cannot be mounted",  # The same.
    }
    assert {row.name for row in TABLE} - reached == without_kubelet


def test_a_pod_that_failed_without_any_reason_says_so() -> None:
    """Another program wrote its phase."""
    job = a_job(fence="s#1")
    pod = a_pod(job, phase=PodPhase.FAILED)
    assert state_of(pod, is_preparing=True).event is Event.POD_FAILED_UNSTARTED
    assert describe_end(Event.POD_FAILED_UNSTARTED, pod) == "the pod failed (no reason given)"
    assert describe_end(Event.POD_FAILED, pod) == "the pod failed (no reason given)"


def test_the_fact_of_an_older_watcher_has_the_same_event() -> None:
    """It has neither the pod's own reason nor the mark of a start."""
    job = a_job(fence="s#1")
    failed = a_pod(job, phase=PodPhase.FAILED, exit_code=137, reason="OOMKilled", start_time=at(1))
    assert state_of(failed, is_preparing=True).event is Event.POD_FAILED
    assert describe_end(Event.POD_FAILED, failed) == "exit code 137 (OOMKilled)"
    drained = a_pod(job, phase=PodPhase.FAILED, exit_code=137, reason="ContainerStatusUnknown")
    assert state_of(drained, is_preparing=True).event is Event.POD_FAILED_UNSTARTED


def test_a_traceback_ends_the_message_with_its_error() -> None:
    """The first lines of a traceback of more than 2 kB do not say why (spec.md, L4)."""
    traceback = "Traceback (most recent call last):\n" + "  File train.py\n" * 140 + "OutOfMemoryError: CUDA"
    pod = a_pod_object(
        {
            "phase": "Failed",
            "containerStatuses": [
                {
                    "name": "main",
                    "state": {"terminated": {"exitCode": 1, "reason": "Error", "message": traceback}},
                }
            ],
        }
    )
    assert len(traceback) > 2048
    message = describe_end(Event.POD_FAILED, project_pod(pod), PodReading(pod).quotes)
    assert message.startswith("exit code 1 (Error): ")
    assert message.endswith("\nOutOfMemoryError: CUDA")


def test_quotes_without_the_log_have_only_what_the_node_says() -> None:
    """Others than the job's user may read an Event."""
    assert Quotes("full", "password=x").without_log() == Quotes("full")


@given(status=statuses(), metadata=metadata_changes(), is_preparing=st.booleans())
def test_no_pod_status_whatever_makes_the_table_fail(
    status: Any, metadata: dict[str, Any], *, is_preparing: bool
) -> None:
    """Other programs may write anything into a status (spec.md, L4)."""
    pod = {**a_pod_object(**metadata), "status": status}
    seen = project_pod(pod)
    row = state_of(seen, is_preparing=is_preparing)
    reading = PodReading(pod)
    assert len(reading.message) <= 2048
    if row.event:
        assert len(describe_end(row.event, seen, reading.quotes)) <= 4096
    if seen.never_started:
        assert not seen.started


@given(
    st.lists(st.tuples(statuses(), metadata_changes()), max_size=6),
    st.sampled_from(["Succeeded", "Failed", "removal"]),
    statuses(),
    st.data(),
)
def test_every_pod_ends_its_job_or_sends_it_back(
    seen: list[tuple[Any, dict[str, Any]]], end: str, last: Any, data: st.DataObject
) -> None:
    """Whatever was reported before, a job never waits for a pod that is over (spec.md, L4 to L7)."""
    executor = SmallExecutor()
    for status, metadata in seen:
        executor.observe(status, metadata)
        if data.draw(st.booleans()):
            executor.time_out_start()
    if end == "removal":
        executor.remove_pod()
    else:
        executor.observe({**(last if isinstance(last, dict) else {}), "phase": end}, {})
    assert executor.job.phase.final or executor.job.phase is Phase.PENDING
    assert executor.pod is None or "primehub.io/requeue" not in executor.pod["metadata"]["finalizers"]


def test_a_pod_whose_job_ended_by_main_is_deleted() -> None:
    """An injected sidecar would hold the job's quota for good (spec.md, L4)."""
    executor = SmallExecutor()
    (case,) = (case for case in CASES if case.name == "succeeded, and an injected sidecar runs on")
    executor.observe(case.status, {})
    assert executor.job.phase is Phase.SUCCEEDED
    assert executor.pod
    assert "deletionTimestamp" in executor.pod["metadata"]
    assert not project_pod(executor.pod).over


def test_a_command_that_started_never_runs_again() -> None:
    """No case in which the container ran is a requeue (spec.md, L6)."""
    for case in CASES:
        seen: PodSeen = project_pod(pod_of(case))
        if seen.started:
            assert not seen.never_started, case.name
            assert state_of(seen, is_preparing=True).event is not Event.POD_FAILED_UNSTARTED, case.name
