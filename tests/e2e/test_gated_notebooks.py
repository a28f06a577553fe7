"""Notebooks that wait for PhJob to remove their gate: one pool, in fact (spec.md, Q14)."""

import json
from typing import Any

import pytest
from tests.support.builders import a_gated_notebook
from tests.support.cli import Cli
from tests.support.cluster import Cluster, Object
from tests.support.group_fixture import FOREVER, GroupFixture, wait_until_quiescent
from tests.support.metrics import samples
from tests.support.promises import is_gated
from tests.support.stacks import LocalStack
from tests.support.waiting import eventually


@pytest.fixture
def group(cluster: Cluster) -> GroupFixture:
    """Create a group with a quota of two GPUs, of which a user may have two."""
    spec = {"users": ["*"], "groupQuota": {"gpu": 2}, "userQuota": {"gpu": 2}}
    return GroupFixture(cluster, "pool", spec).create()


def start_server(cluster: Cluster, group: GroupFixture, *, gpus: int = 1, user: str = "bob") -> str:
    """Create the gated pod of a Jupyter server. Returns its name."""
    name = cluster.unique_name(f"jupyter-{user}-{cluster.next_number()}")
    pod = a_gated_notebook(name, group=group.name, user=user, **{"nvidia.com/gpu": str(gpus)})
    (created,) = cluster.create(pod)
    return created


def wait_for_server(cluster: Cluster, name: str) -> Object:
    """Wait until the pod runs on a node. Returns the pod."""

    def running_pod() -> Object | None:
        pod = cluster.pod(name)
        return pod.object if pod and pod.phase == "Running" else None

    return eventually(running_pod, f"{name} runs")


def is_waiting(cluster: Cluster, name: str) -> bool:
    """Return whether the pod still has its gate."""
    pod = cluster.pod(name)
    return pod is not None and is_gated(pod.object)


def wait_for_explanation(cluster: Cluster, name: str, reason: str, message: str) -> None:
    """Wait until an Event of the pod has this reason and message."""

    def events() -> list[tuple[str, str]]:
        found = cluster.api.list("Event", fieldSelector=f"involvedObject.kind=Pod,involvedObject.name={name}")
        return [(event["reason"], event["message"]) for event in found["items"]]

    eventually(lambda: (reason, message) in events(), f"{name} is told {message!r}", diagnostics=events)


def status_of(cluster: Cluster, group: GroupFixture) -> dict[str, Any]:
    """Return the status of the group."""
    found = cluster.api.get("PhGroup", group.name)
    assert found
    status: dict[str, Any] = found["status"]
    return status


def test_a_notebook_waits_behind_a_running_job_and_is_told_so_everywhere(
    cluster: Cluster, group: GroupFixture, local_stack: LocalStack
) -> None:
    """Event, status of the group, metric and command line agree. It starts when the job ends."""
    running = group.submit("running", gpus=2, run_for=FOREVER, user="lin")
    cluster.wait_for_phase(running, "Running")
    notebook = start_server(cluster, group)
    behind = group.submit("behind", gpus=1)
    numbers = "group quota: gpu 2 of 2 used, needs 1"
    wait_for_explanation(cluster, notebook, "GroupQuota", numbers)
    eventually(
        lambda: (
            (status_of(cluster, group)["waitingPods"], status_of(cluster, group)["head"]) == (1, notebook)
        ),
        "the status of the group has the notebook",
        diagnostics=lambda: status_of(cluster, group),
    )
    assert samples(local_stack.state, "scheduler", "phjob_waiting_pods")[group.name, "GroupQuota"] == 1
    cli = Cli(cluster.stack.kubeconfig, PHJOB_USER="bob")
    queue = json.loads(cli("queue", group.name, "-o", "json").stdout)
    assert [one["name"] for one in queue["waitingNotebooks"]] == [notebook]
    assert f"it waits behind the notebook {notebook} of bob: {numbers}" in cli("why", behind).stdout
    assert is_waiting(cluster, notebook)
    cluster.cancel(running)
    pod = wait_for_server(cluster, notebook)
    assert pod["metadata"]["annotations"]["primehub.io/fence"].startswith("scheduler")
    cluster.wait_for_phase(behind, "Succeeded")


def test_a_job_waits_for_a_notebook_which_frees_its_room_as_soon_as_it_is_stopped(
    cluster: Cluster, group: GroupFixture
) -> None:
    """Whether it runs, or still waits."""
    running, waiting = start_server(cluster, group, gpus=2), start_server(cluster, group, user="lin")
    wait_for_server(cluster, running)
    wait_for_explanation(cluster, waiting, "GroupQuota", "group quota: gpu 2 of 2 used, needs 1")
    job = group.submit("job", gpus=1)
    cluster.wait_for_reason(job, "Queued")
    wait_until_quiescent(cluster)
    assert cluster.job(job).phase == "Pending"
    cluster.api.delete("Pod", waiting)
    cluster.wait_for_reason(job, "UserQuota", "user quota: gpu 2 of 2 used, needs 1")
    cluster.api.delete("Pod", running)
    cluster.wait_for_phase(job, "Succeeded")


def test_a_notebook_that_can_never_fit_blocks_nobody_and_starts_after_the_quota_is_raised(
    cluster: Cluster, group: GroupFixture
) -> None:
    """Its Event has the numbers."""
    notebook = start_server(cluster, group, gpus=3)
    message = "this pod needs gpu 3, but the user quota is 2"
    wait_for_explanation(cluster, notebook, "OverQuota", message)
    cluster.wait_for_phase(group.submit("job", gpus=1), "Succeeded")
    group.patch_spec(groupQuota={"gpu": 3}, userQuota={"gpu": 3})
    wait_for_server(cluster, notebook)


def test_jobs_and_notebooks_together_stay_within_the_quota_while_the_services_restart(
    cluster: Cluster, group: GroupFixture
) -> None:
    """Each of them starts once, in the end."""
    notebooks = [start_server(cluster, group, user=user) for user in ("bob", "lin", "bob", "lin")]
    jobs = [group.submit(f"job-{n}", gpus=1, run_for="0.2s") for n in range(6)]
    for name in ("scheduler", "pod-manager"):
        component = cluster.service(name)
        component.kill()
        component.start()
        component.wait_ready()
    for notebook in notebooks:
        wait_for_server(cluster, notebook)
        cluster.api.delete("Pod", notebook)
    for job in jobs:
        cluster.wait_for_phase(job, "Succeeded")
    names, used = {*notebooks, *jobs}, 0
    holds: dict[str, bool] = {}
    for event in cluster.history.complete_events():
        if event.kind == "Pod" and event.name in names:
            over = event.gone or event.phase in ("Succeeded", "Failed")
            holds[event.uid] = not over and not is_gated(event.object)
            used = max(used, sum(holds.values()))
    assert used == 2
