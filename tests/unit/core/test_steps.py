from tests.fakes.facts import a_job, a_pod

from phjob_core.lifecycle import Event
from phjob_core.steps import (
    ApplyEvent,
    DeletePod,
    DeleteRecord,
    HoldPod,
    MarkReclaimed,
    ReleasePod,
    Step,
    StoreLog,
    Ungate,
    requires_no_pod,
)


def test_a_step_that_would_be_wrong_with_a_pod_requires_that_there_is_none() -> None:
    """pod-manager asks the API server before it takes such a step, because the watch may be behind."""
    pod = a_pod(a_job())
    without_pod: list[Step] = [ApplyEvent(Event.POD_VANISHED), MarkReclaimed(), DeleteRecord()]
    with_pod: list[Step] = [DeletePod(pod), HoldPod(pod), ReleasePod(pod), StoreLog(pod), Ungate(pod)]
    assert all(requires_no_pod(planned) for planned in without_pod)
    assert not any(requires_no_pod(planned) for planned in with_pod)
