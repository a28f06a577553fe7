from typing import Any

import pytest
from tests.fakes.user_kube import FakeUserKube, stored
from tests.support import builders

from phjob_cli import queries
from phjob_cli.errors import CliError, Exit
from phjob_core.errors import RejectedError
from phjob_core.projection import project_job
from phjob_core.resource import Resource

FORBIDDEN = RejectedError(403, "Forbidden", "pods is forbidden")


def a_cluster(**objects: Any) -> FakeUserKube:
    """Return an API server with the group `vision`, whose PhGroup is named `phg-1`."""
    group = stored(builders.a_group("phg-1", groupName="vision", groupQuota={"cpu": 2}))
    return FakeUserKube(
        **{
            "phgroups": [group],
            "instancetypes": [stored(builders.an_instance_type())],
            "images": [stored(builders.an_image())],
            **objects,
        }
    )


@pytest.mark.parametrize(
    ("selected", "selector"),
    [
        (queries.select_jobs(), ""),
        (queries.select_jobs("vision"), "spec.groupName=vision"),
        (queries.select_jobs("R, D=1"), r"spec.groupName=R\, D\=1"),
        (queries.select_jobs("a\\b"), r"spec.groupName=a\\b"),
        (queries.select_jobs(phase="Pending"), "status.phase=Pending"),
        (queries.select_jobs("vision", with_reclaimed=False), "spec.groupName=vision,status.reclaimed!=true"),
    ],
)
def test_jobs_are_selected_by_fields(selected: Resource, selector: str) -> None:
    """A group's name may contain characters that mean something in a selector."""
    assert (selected.plural, selected.field_selector) == ("phjobs", selector)


async def test_an_object_that_cannot_be_projected_is_left_out() -> None:
    """One odd object must not hide the others."""
    good, odd = stored(builders.a_job("good")), {"metadata": {"name": "odd"}}
    kube = FakeUserKube(phjobs=[odd, good])
    assert [job.name for job in await queries.list_all(kube, queries.PHJOBS, project_job)] == ["good"]


async def test_a_snapshot_has_the_group_its_jobs_and_its_pods() -> None:
    """Only jobs that are not reclaimed are listed, and only pods with the group's label."""
    notebook = stored(
        builders.a_notebook("jupyter-lin", group="vision", user="lin", cpu="1"), phase="Running"
    )
    job = stored(builders.a_job("job-1", group="vision"))
    kube = a_cluster(phjobs=[job], pods=[notebook])
    snapshot = await queries.take_snapshot(kube, "vision")
    assert [pending.name for pending in snapshot.pending] == ["job-1"]
    assert [held.name for held in snapshot.allocations() if held.is_notebook] == ["jupyter-lin"]
    assert snapshot.queue.group_quota == {"cpu": 2000}
    assert {listed.field_selector for listed in kube.listed if listed.plural == "phjobs"} == {
        "spec.groupName=vision,status.reclaimed!=true"
    }


async def test_a_job_counts_with_the_default_limits_that_the_scheduler_reports() -> None:
    """They come from the settings file, which the user cannot read."""
    quota = {"ephemeral-storage": "5Gi"}
    group = stored(builders.a_group("vision", groupQuota=quota), defaultLimits={"ephemeral-storage": "10Gi"})
    kube = a_cluster(phgroups=[group], phjobs=[stored(builders.a_job("job-1", group="vision"))])
    snapshot = await queries.take_snapshot(kube, "vision")
    (infeasible,) = snapshot.engine.infeasible.values()
    text = "instance type 'cpu-tiny' needs ephemeral-storage 10Gi, but the group quota is 5Gi"
    assert infeasible.message == text


async def test_a_notebook_counts_with_the_names_of_gpus_that_the_scheduler_reports() -> None:
    """They come from the settings file, too."""
    group = stored(builders.a_group("vision", groupQuota={"gpu": 2}), gpuResourceNames=["example.com/*"])
    notebook = builders.a_notebook("jupyter-lin", group="vision", user="lin", **{"example.com/acc": "2"})
    kube = a_cluster(phgroups=[group], pods=[stored(notebook, phase="Running")])
    snapshot = await queries.take_snapshot(kube, "vision")
    (held,) = snapshot.allocations()
    assert held.amounts["gpu"] == 2
    assert snapshot.format_amounts({"example.com/acc": 2, "gpu": 2}) == "gpu 2"


async def test_a_group_may_be_given_by_the_name_of_its_object() -> None:
    """The members are then listed again, by the group's own name."""
    kube = a_cluster()
    snapshot = await queries.take_snapshot(kube, "phg-1", must_exist=True)
    assert snapshot.facts.name == "vision"
    assert any("spec.groupName=vision," in listed.field_selector for listed in kube.listed)


async def test_a_hypothetical_job_is_in_the_queue() -> None:
    """`explain` shows a job that is not submitted."""
    job = project_job(stored(builders.a_job("not-submitted", group="vision")))
    snapshot = await queries.take_snapshot(a_cluster(), "vision", job)
    assert snapshot.pending == [job]


async def test_a_missing_group_is_reported_with_the_existing_ones() -> None:
    """Without any group, the namespace is probably wrong."""
    with pytest.raises(
        CliError, match="there is no group 'x' in namespace 'hub'; existing groups: vision"
    ) as one:
        await queries.take_snapshot(a_cluster(), "x", must_exist=True)
    assert one.value.code is Exit.NOT_FOUND
    with pytest.raises(CliError, match="there are no groups in namespace 'hub': choose another one"):
        await queries.take_snapshot(a_cluster(phgroups=[]), "x", must_exist=True)
    assert (await queries.take_snapshot(a_cluster(), "x")).facts.group is None


async def test_pods_that_the_user_may_not_list_are_left_out() -> None:
    """The snapshot says so. Other errors are raised."""
    kube = a_cluster(phjobs=[stored(builders.a_job("job-1", group="vision"))])
    kube.failures["pods"] = FORBIDDEN
    snapshot = await queries.take_snapshot(kube, "vision")
    assert (snapshot.facts.can_list_pods, len(snapshot.pending)) == (False, 1)
    kube.failures["pods"] = RejectedError(400, "BadRequest", "no")
    with pytest.raises(BaseExceptionGroup):
        await queries.take_snapshot(kube, "vision")


async def test_a_missing_job_is_reported_with_its_namespace() -> None:
    """The namespace is the most likely mistake."""
    with pytest.raises(CliError, match="there is no job 'job-1' in namespace 'hub'") as missing:
        await queries.get_job(FakeUserKube(), "job-1")
    assert missing.value.code is Exit.NOT_FOUND


async def test_a_pods_problem_comes_from_its_status_or_its_events() -> None:
    """It is empty for a pod that is not a job's, and for one that the user may not read."""
    job = project_job(stored(builders.a_job("job-1", group="vision")))
    pod = stored(builders.a_notebook("job-1", group="vision", user="bob"))
    waiting = {"name": "main", "state": {"waiting": {"reason": "ErrImagePull", "message": "not found"}}}
    failing = {**pod, "status": {"phase": "Pending", "containerStatuses": [waiting]}}
    problem = "its image cannot be pulled: ErrImagePull: not found"
    assert await queries.pod_problem(FakeUserKube(pods=[failing]), job) == problem

    event = stored({"metadata": {"name": "e"}, "type": "Warning", "reason": "FailedMount", "message": "m"})
    kube = FakeUserKube(pods=[pod], events=[event])
    assert await queries.pod_problem(kube, job) == "a volume cannot be mounted: FailedMount: m"
    assert kube.listed[-1].field_selector == "involvedObject.uid=uid-job-1"

    foreign = {**failing, "metadata": {**failing["metadata"], "labels": {}}}
    assert await queries.pod_problem(FakeUserKube(pods=[foreign]), job) == ""
    assert await queries.pod_problem(FakeUserKube(), job) == ""
    kube.failures["pods"] = FORBIDDEN
    assert await queries.pod_problem(kube, job) == ""
