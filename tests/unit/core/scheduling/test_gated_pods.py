from datetime import timedelta
from typing import Any

import pytest
from tests.fakes.facts import (
    START,
    a_group,
    a_job,
    a_notebook,
    an_image,
    an_instance_type,
    at,
    pod_later,
)

from phjob_core.api import Notebooks, PodPhase, Reason
from phjob_core.labels import label_value
from phjob_core.messages import Admit, AdmitPod, Command, ExplainPod, GroupSeen
from phjob_core.scheduling.engine import SchedulingEngine
from phjob_core.scheduling.gated_pods import is_gated_pod

LABEL = label_value("phusers")
QUOTA = {"gpu": 4}
A_MINUTE = timedelta(minutes=1)


def an_engine(
    group: GroupSeen | None = None, notebooks: Notebooks = "first", *, started: bool = True
) -> SchedulingEngine:
    """An engine that knows the whole catalog, and a group that may use four GPUs, as may each user."""
    engine = SchedulingEngine("session", notebooks=notebooks)
    engine.on_catalog_synced(10**9, START)
    for gpus in (1, 2, 4):
        engine.catalog.instance_types[f"gpu-{gpus}"] = an_instance_type(f"gpu-{gpus}", gpus)
    engine.catalog.images["base-notebook"] = an_image()
    engine.on_group(group or a_group(user_quota=QUOTA, group_quota=QUOTA), START)
    if started:
        engine.start(START)
    return engine


def admitted(commands: list[Command]) -> list[str]:
    return [command.name for command in commands if isinstance(command, Admit | AdmitPod)]


def admission(commands: list[Command]) -> AdmitPod:
    (command,) = commands
    assert isinstance(command, AdmitPod)
    return command


def gpus(engine: SchedulingEngine, label: str = LABEL) -> int:
    """The GPUs that a group uses."""
    return engine.queues[label].ledger.group_usage.get("gpu", 0)


def explanations(engine: SchedulingEngine, seconds: float) -> list[tuple[str, str, str]]:
    """What is to be written about gated pods at this time."""
    commands = engine.on_wakeup(at(seconds))
    return [(one.name, one.reason, one.message) for one in commands if isinstance(one, ExplainPod)]


@pytest.mark.parametrize(
    "changes",
    [
        {"gated": False},
        {"job_uid": "uid-job-1"},
        {"group": ""},
        {"deleting": True},
        {"phase": PodPhase.FAILED},
    ],
    ids=["has lost its gate", "is of a job", "is of no group", "is being deleted", "has failed"],
)
def test_only_a_pod_of_the_pool_that_can_still_start_waits(changes: dict[str, Any]) -> None:
    assert is_gated_pod(a_notebook())
    assert not is_gated_pod(a_notebook(**changes))


def test_there_are_no_commands_before_the_snapshot_is_complete() -> None:
    engine = an_engine(started=False)
    assert engine.on_pod(a_notebook(), START) == []
    assert admitted(engine.start(START)) == ["jupyter-bob"]


def test_a_gated_pod_holds_nothing_before_its_admission_and_is_charged_once_from_then_on() -> None:
    """First as a reservation, then as a pod without a gate, until it is over."""
    engine = an_engine()
    job = a_job(instance_type="gpu-4")
    (command,) = engine.on_job(job, START)
    notebook = a_notebook(gpus=3)
    assert engine.on_pod(notebook, START) == []
    assert gpus(engine) == 4
    decided = admission(engine.on_job_gone(job.uid, START))
    assert (decided.uid, decided.fence, decided.token) == (notebook.uid, "", "session#2")
    assert gpus(engine) == 3
    running = pod_later(notebook, gated=False, fence=decided.token, node="node-1")
    assert engine.on_pod(running, START) == []
    assert gpus(engine) == 3
    engine.on_pod_gone(running.uid, running.name, "", START)
    assert LABEL not in engine.queues or gpus(engine) == 0
    assert command.name == job.name


def test_an_edit_of_a_pod_that_is_about_to_start_changes_nothing() -> None:
    """The hub may write annotations at any time."""
    engine = an_engine()
    notebook = a_notebook(gpus=3)
    admission(engine.on_pod(notebook, START))
    assert engine.on_pod(pod_later(notebook), START) == []
    assert gpus(engine) == 3


def test_a_notebook_that_goes_first_waits_before_all_jobs_and_none_overtakes_it() -> None:
    """An interactive pod does not wait behind jobs, and small jobs cannot starve it (spec.md, Q14)."""
    engine = an_engine()
    running = a_job("running", instance_type="gpu-2")
    engine.on_job(running, START)
    engine.on_job(a_job("older", instance_type="gpu-4", user="lin"), START)
    assert admitted(engine.on_pod(a_notebook(gpus=3, created=at(9)), at(9))) == []
    assert admitted(engine.on_job(a_job("small", instance_type="gpu-1", user="pan"), at(9))) == []
    assert admitted(engine.on_job_gone(running.uid, at(9))) == ["jupyter-bob"]


def test_a_notebook_that_queues_has_its_place_by_its_creation() -> None:
    engine = an_engine(notebooks="queue")
    running = a_job("running", instance_type="gpu-4")
    engine.on_job(running, START)
    engine.on_job(a_job("before", instance_type="gpu-4", created=at(1), user="lin"), at(1))
    engine.on_pod(a_notebook(gpus=1, created=at(2)), at(2))
    before = admitted(engine.on_job_gone(running.uid, at(3)))
    assert before == ["before"]


def test_a_user_over_the_user_quota_keeps_only_their_own_pods_waiting() -> None:
    engine = an_engine(a_group(user_quota={"gpu": 1}, group_quota=QUOTA))
    assert admitted(engine.on_pod(a_notebook("jupyter-bob"), START)) == ["jupyter-bob"]
    assert admitted(engine.on_pod(a_notebook("jupyter-bob--second"), START)) == []
    assert admitted(engine.on_pod(a_notebook("jupyter-lin", user="lin"), START)) == ["jupyter-lin"]
    (explained, *_) = explanations(engine, 2)
    assert explained == (
        "jupyter-bob--second", Reason.USER_QUOTA, "user quota: gpu 1 of 1 used, needs 1",
    )  # fmt: skip


def test_a_pod_that_can_never_fit_blocks_nobody_and_is_told_so_until_the_quota_is_raised() -> None:
    engine = an_engine()
    assert engine.on_pod(a_notebook(gpus=5), START) == []
    assert admitted(engine.on_job(a_job(), START)) == ["job-1"]
    told = "this pod needs gpu 5, but the user quota is 4"
    assert explanations(engine, 2) == [("jupyter-bob", Reason.OVER_QUOTA, told)]
    assert explanations(engine, 60) == []
    raised = a_group(user_quota={"gpu": 9}, group_quota={"gpu": 9})
    assert admitted(engine.on_group(raised, at(70))) == ["jupyter-bob"]


def test_a_pod_of_an_unknown_group_waits_for_its_phgroup() -> None:
    """Without one, no quota would hold it back."""
    engine = an_engine()
    label = label_value("new")
    assert engine.on_pod(a_notebook(group=label), START) == []
    message = f"no PhGroup has the label value {label!r} of primehub.io/group"
    assert explanations(engine, 2) == [("jupyter-bob", Reason.INVALID_SPEC, message)]
    assert label not in engine.queues
    assert admitted(engine.on_group(a_group("new"), at(3))) == ["jupyter-bob"]


def test_a_pod_waits_whose_group_is_deleted_while_its_jobs_wait() -> None:
    """The queue of a group that is gone has no quota."""
    engine = an_engine()
    engine.on_job(a_job("running", instance_type="gpu-4"), START)
    engine.on_pod(a_notebook(), START)
    engine.on_job(a_job("waiting", instance_type="gpu-4"), START)
    assert engine.on_group_gone("phusers", at(1)) == []
    assert admitted(engine.on_wakeup(at(2))) == []
    quota = a_group(user_quota=QUOTA, group_quota=QUOTA)
    engine.on_job_gone("uid-running", at(3))
    assert admitted(engine.on_group(quota, at(4))) == ["jupyter-bob"]


def test_a_pod_of_an_unusable_group_waits() -> None:
    engine = an_engine(a_group(invalid="quota cpu is no quantity"))
    assert engine.on_pod(a_notebook(), START) == []
    (explained,) = explanations(engine, 2)
    assert explained[2] == "group 'phusers' is unusable: quota cpu is no quantity"


def test_an_admission_that_another_pod_manager_has_settled_is_decided_again() -> None:
    """The pod has another token then, which the next command tests."""
    engine = an_engine()
    notebook = a_notebook(gpus=3)
    admission(engine.on_pod(notebook, START))
    settled = pod_later(notebook, fence="pod-manager!1")
    again = admission(engine.on_pod(settled, START))
    assert (again.fence, again.token) == ("pod-manager!1", "session#2")
    assert gpus(engine) == 3


def test_a_pod_that_is_gone_before_its_admission_is_observed_frees_its_room() -> None:
    engine = an_engine()
    notebook = a_notebook(gpus=3)
    admission(engine.on_pod(notebook, START))
    engine.on_job(a_job(instance_type="gpu-4"), START)
    assert admitted(engine.on_pod_gone(notebook.uid, notebook.name, "", START)) == ["job-1"]


def test_a_pod_that_is_deleted_while_it_is_gated_frees_its_room() -> None:
    """It gets no node any more, although it may exist for a while."""
    engine = an_engine()
    notebook = a_notebook(gpus=3)
    admission(engine.on_pod(notebook, START))
    engine.on_job(a_job(instance_type="gpu-4"), START)
    assert admitted(engine.on_pod(pod_later(notebook, deleting=True), START)) == ["job-1"]


def test_an_admitted_pod_that_gets_another_group_is_charged_there() -> None:
    """Its gate is about to be removed, whatever its labels say."""
    engine = an_engine()
    engine.on_group(a_group("other", user_quota=QUOTA, group_quota=QUOTA), START)
    notebook = a_notebook(gpus=3)
    admission(engine.on_pod(notebook, START))
    assert engine.on_pod(pod_later(notebook, group=label_value("other")), START) == []
    assert (gpus(engine), gpus(engine, label_value("other"))) == (0, 3)


def test_an_admission_that_is_not_observed_is_overdue() -> None:
    """The handler then starts a new session."""
    engine = an_engine()
    engine.on_pod(a_notebook(), START)
    assert engine.outstanding.take_overdue(START + A_MINUTE) == ["uid-jupyter-bob"]


def test_an_admission_that_is_observed_is_not_overdue() -> None:
    engine = an_engine()
    notebook = a_notebook()
    decided = admission(engine.on_pod(notebook, START))
    engine.on_pod(pod_later(notebook, gated=False, fence=decided.token), START)
    assert engine.outstanding.take_overdue(START + A_MINUTE) == []


def test_a_pod_that_has_lost_its_gate_otherwise_is_charged() -> None:
    """Somebody else has removed the gate."""
    engine = an_engine()
    running = a_job("running", instance_type="gpu-4")
    engine.on_job(running, START)
    notebook = a_notebook(gpus=3)
    engine.on_pod(notebook, START)
    engine.on_pod(pod_later(notebook, gated=False), START)
    assert gpus(engine) == 7
    assert explanations(engine, 2) == []


def test_the_pods_of_a_group_are_told_what_they_wait_for_and_their_place() -> None:
    engine = an_engine(notebooks="queue")
    engine.on_job(a_job("running", instance_type="gpu-4", user="pan"), START)
    engine.on_pod(a_notebook("jupyter-bob"), START)
    engine.on_pod(a_notebook("jupyter-lin", user="lin", created=at(1)), START)
    told = {*explanations(engine, 2), *explanations(engine, 3)}
    assert told == {
        ("jupyter-bob", Reason.GROUP_QUOTA, "group quota: gpu 4 of 4 used, needs 1"),
        ("jupyter-lin", Reason.QUEUED, "1 ahead of it in the queue of its group"),
    }
    assert explanations(engine, 60) == []


def test_the_head_of_a_group_can_be_a_gated_pod() -> None:
    engine = an_engine()
    engine.on_job(a_job("running", instance_type="gpu-4"), START)
    engine.on_pod(a_notebook(), START)
    head = engine.queues[LABEL].head()
    assert head is not None
    assert engine.name_of(head) == "jupyter-bob"
    assert engine.gated_pods.count_waiting(LABEL) == 1
