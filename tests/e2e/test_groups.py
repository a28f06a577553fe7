"""Which PhGroup counts, whom it admits, and what remains of groups that do not exist."""

import re
from typing import Any

import pytest
from tests.support.builders import a_group
from tests.support.cluster import NAMESPACE, Cluster
from tests.support.group_fixture import FOREVER, GroupFixture, wait_until_quiescent
from tests.support.metrics import samples
from tests.support.stacks import LocalStack
from tests.support.waiting import eventually


@pytest.fixture
def group(cluster: Cluster) -> GroupFixture:
    """Create a group of bob with a quota for one job with a GPU."""
    return GroupFixture(cluster, "vision", {"users": ["bob"], "groupQuota": {"gpu": 1}}).create()


def status_of(cluster: Cluster, name: str) -> dict[str, Any]:
    """Return the status of a PhGroup."""
    found = cluster.api.get("PhGroup", name)
    assert found
    status: dict[str, Any] = found["status"]
    return status


def wait_for_message(cluster: Cluster, name: str, pattern: str) -> None:
    """Wait until the message in the status of a PhGroup matches the pattern."""
    eventually(
        lambda: re.search(pattern, status_of(cluster, name).get("message", "")),
        f"the message of group {name} matches {pattern!r}",
        diagnostics=lambda: status_of(cluster, name),
    )


def create_rival(cluster: Cluster, group: GroupFixture, group_name: str, **spec: Any) -> str:
    """Create a second PhGroup with a group name like that of the group. Returns its object name.

    It sorts behind the group, so it is the younger one even if both were created in one second.
    """
    first = cluster.api.get("PhGroup", group.name)
    assert first
    granted = {key: first["spec"][key] for key in ("images", "instanceTypes")}
    (name,) = cluster.create(a_group(f"{group.name}-z", groupName=group_name, **granted, **spec))
    return name


def test_a_second_group_of_the_same_name_is_refused_and_changes_nothing_for_the_first(
    cluster: Cluster, group: GroupFixture
) -> None:
    """Otherwise, whoever may create a PhGroup could open the quota of another (spec.md, A13)."""
    held = group.submit("held", gpus=1, run_for=FOREVER)
    cluster.wait_for_phase(held, "Running")
    rival = create_rival(cluster, group, group.name, users=["mallory"], groupQuota={"gpu": 9})
    wait_for_message(cluster, rival, f"^refused: the older PhGroup '{group.name}' has the same group name")
    assert {key: status_of(cluster, rival)[key] for key in ("pending", "running", "used", "limit")} == {
        "pending": 0, "running": 0, "used": {}, "limit": {},
    }  # fmt: skip
    message = cluster.wait_for_phase(group.submit("mallorys", user="mallory"), "Failed")["message"]
    assert message == f"user 'mallory' is not a member of group '{group.name}'"
    waits = group.submit("waits", gpus=1)
    cluster.wait_for_reason(waits, "GroupQuota", "group quota: gpu 1 of 1 used, needs 1")

    cluster.api.delete("PhGroup", group.name)
    wait_for_message(cluster, rival, "^$")
    cluster.wait_for_phase(group.submit("now", gpus=1, user="mallory"), "Succeeded")


def test_a_group_that_would_share_a_volume_is_refused(cluster: Cluster, group: GroupFixture) -> None:
    """Both would have the claim of the group's name in lower case (spec.md, A13)."""
    name = group.name.replace("-", "_").upper()
    rival = create_rival(cluster, group, name)
    refusal = f"the older PhGroup '{group.name}' has the group name '{group.name}', and names that differ"
    wait_for_message(cluster, rival, f"^refused: {refusal}")
    status = cluster.wait_for_phase(group.submit("rivals", group=name), "Failed")
    assert status["reason"] == "InvalidSpec"
    assert status["message"].startswith(f"group '{name}' is refused: {refusal}")
    cluster.wait_for_phase(group.submit("mine"), "Succeeded")


@pytest.mark.parametrize(("users", "admitted"), [(["*"], True), ([], False)])
def test_a_star_admits_every_user_and_an_empty_list_nobody(
    cluster: Cluster, *, users: list[str], admitted: bool
) -> None:
    """Both are what an administrator has written (spec.md, A6)."""
    group = GroupFixture(cluster, "open", {"users": users}).create()
    status = cluster.wait_for_phase(group.submit("job", user="anybody"), "Succeeded", "Failed")
    assert (status["phase"] == "Succeeded") is admitted


def test_metrics_know_no_group_but_those_that_exist(
    cluster: Cluster, group: GroupFixture, local_stack: LocalStack
) -> None:
    """Users invent group names, and each would be a series (spec.md, E3)."""

    def series(service: str, name: str) -> dict[str, float]:
        """Return the values by group."""
        found = samples(local_stack.state, service, name)
        sums: dict[str, float] = {}
        for labels, value in found.items():
            sums[labels[0]] = sums.get(labels[0], 0) + value
        return sums

    unknown = series("scheduler", "phjob_submitted_total").get("unknown", 0)
    invented = cluster.unique_name("invented")
    cluster.wait_for_phase(group.submit("to-nobody", group=invented), "Failed")
    cluster.wait_for_phase(group.submit("mine"), "Succeeded")
    submitted = series("scheduler", "phjob_submitted_total")
    assert (submitted["unknown"], invented in submitted) == (unknown + 1, False)
    transitions = series("pod-manager", "phjob_transitions_total")
    assert {group.name, "unknown"} <= transitions.keys()
    assert invented not in transitions

    cluster.api.delete("PhGroup", group.name)
    names = {
        "scheduler": ("phjob_submitted_total", "phjob_jobs", "phjob_quota_limit"),
        "pod-manager": ("phjob_transitions_total", "phjob_wait_seconds_count", "phjob_run_seconds_count"),
        "watcher": ("phjob_pod_usage",),
    }
    eventually(
        lambda: not any(group.name in series(service, name) for service, of in names.items() for name in of),
        "no series of the deleted group is left",
    )


def test_the_text_of_a_pod_cannot_control_a_terminal(cluster: Cluster, group: GroupFixture) -> None:
    """`kubectl get -o wide`, `kubectl describe` and `kubectl phjob` print it (spec.md, A14)."""
    name = group.submit("hostile", run_for=FOREVER)
    cluster.wait_for_phase(name, "Running")
    pod = cluster.pod(name)
    assert pod
    (container,) = pod.object["status"]["containerStatuses"]
    started = container["state"]["running"]["startedAt"]
    text = "last words\n\x1b]0;owned\x07\x9b2J\u202e"
    ended = {"exitCode": 1, "reason": "Error", "message": text, "startedAt": started, "finishedAt": started}
    status = {"phase": "Failed", "containerStatuses": [{**container, "state": {"terminated": ended}}]}
    cluster.api.merge_patch("Pod", name, {"status": status}, subresource="status")
    message = cluster.wait_for_phase(name, "Failed")["message"]
    assert message.endswith("last words\n" + r"\u001b]0;owned\u0007\u009b2J\u202e")
    shown = cluster.kubectl("-n", NAMESPACE, "describe", "phj", name).stdout
    assert not set("\x1b\x07\x9b\u202e") & set(shown)
    wait_until_quiescent(cluster)
