"""The writes to gated pods that are no job's, on the simulated API server and clock."""

import asyncio
from typing import Any

import pytest
from tests.fakes.simulated_pod_manager import FENCE, SESSION, SimulatedPodManager, an_admit, run_scenario
from tests.support.builders import a_gated_notebook

from phjob_core.api import Reason
from phjob_core.errors import RejectedError
from phjob_core.messages import AdmitPod, ExplainPod, SessionRequest
from phjob_core.projection import gate_index
from phjob_pod_manager.gated_pods import admission

NAME = "jupyter-bob"


def create_notebook(pod_manager: SimulatedPodManager, **metadata: Any) -> str:
    """Create a gated notebook. Returns its uid."""
    pod = a_gated_notebook(NAME, group="phusers", user="bob", cpu="1")
    created = pod_manager.store.create("pods", {**pod, "metadata": {**pod["metadata"], **metadata}})
    return str(created["metadata"]["uid"])


def an_admit_pod(uid: str, fence: str = "", number: int = 1) -> AdmitPod:
    return AdmitPod(uid=uid, name=NAME, group="phusers", fence=fence, token=f"{SESSION}#{number}")


def state_of(pod_manager: SimulatedPodManager) -> tuple[bool, dict[str, str]]:
    """Return whether the notebook has its gate, and its annotations."""
    pod = pod_manager.pod(NAME)
    assert pod
    return gate_index(pod) is not None, pod["metadata"].get("annotations") or {}


def edit(pod_manager: SimulatedPodManager, annotations: dict[str, str]) -> None:
    patch = [{"op": "add", "path": "/metadata/annotations", "value": annotations}]
    pod_manager.store.patch("pods", NAME, patch)


def test_the_admission_removes_the_gate_and_sets_the_token_in_one_write() -> None:
    """The annotations of the hub stay."""

    async def scenario(pod_manager: SimulatedPodManager) -> tuple[bool, dict[str, str]]:
        uid = create_notebook(pod_manager, annotations={"hub.jupyter.org/username": "bob"})
        writes = len(pod_manager.store.changes_of["pods"])
        pod_manager.receive(FENCE, an_admit_pod(uid))
        await asyncio.sleep(5)
        assert len(pod_manager.store.changes_of["pods"]) == writes + 1
        assert sorted(pod_manager.acknowledged) == [0, 1]
        return state_of(pod_manager)

    expected = {"hub.jupyter.org/username": "bob", "primehub.io/fence": f"{SESSION}#1"}
    assert run_scenario(scenario) == (False, expected)


def test_other_gates_stay() -> None:
    """They belong to other programs, and may come first."""
    pod = {
        "metadata": {"uid": "u", "resourceVersion": "7"},
        "spec": {"schedulingGates": [{"name": "example.com/other"}, {"name": "primehub.io/admitted"}]},
    }
    assert admission(pod, "t")[-1] == {"op": "remove", "path": "/spec/schedulingGates/1"}


def test_a_pod_that_is_gone_or_has_lost_its_gate_needs_nothing() -> None:
    async def scenario(pod_manager: SimulatedPodManager) -> list[int]:
        uid = create_notebook(pod_manager)
        pod_manager.store.patch("pods", NAME, [{"op": "remove", "path": "/spec/schedulingGates/0"}])
        writes = len(pod_manager.store.changes_of["pods"])
        pod_manager.receive(FENCE, an_admit_pod(uid), an_admit_pod("another", number=2))
        await asyncio.sleep(60)
        assert len(pod_manager.store.changes_of["pods"]) == writes
        return sorted(pod_manager.acknowledged)

    assert run_scenario(scenario) == [0, 1, 2]


def test_an_edit_of_the_pod_only_delays_its_admission() -> None:
    """The write tests the resourceVersion, and is repeated with the new one."""

    async def scenario(pod_manager: SimulatedPodManager) -> tuple[bool, dict[str, str]]:
        uid = create_notebook(pod_manager)
        patch, edits = pod_manager.store.patch, iter(({"hub.jupyter.org/username": "bob"},))

        def edit_first(plural: str, name: str, operations: Any) -> Any:
            for annotations in edits:
                patch(plural, name, [{"op": "add", "path": "/metadata/annotations", "value": annotations}])
            return patch(plural, name, operations)

        pod_manager.store.patch = edit_first  # type: ignore[method-assign]
        pod_manager.receive(FENCE, an_admit_pod(uid))
        await asyncio.sleep(10)
        return state_of(pod_manager)

    gated, annotations = run_scenario(scenario)
    assert not gated
    assert {*annotations} == {"hub.jupyter.org/username", "primehub.io/fence"}


def test_a_redelivered_admission_is_settled_by_another_token() -> None:
    """Its write may still be on its way. It tests the resourceVersion, so it fails from now on."""

    async def scenario(pod_manager: SimulatedPodManager) -> tuple[bool, dict[str, str]]:
        uid = create_notebook(pod_manager)
        before = pod_manager.pod(NAME)
        assert before
        pod_manager.receive(an_admit_pod(uid), redelivered=True)
        await asyncio.sleep(5)
        assert pod_manager.acknowledged == [0]
        with pytest.raises(RejectedError, match="resourceVersion"):
            pod_manager.store.patch("pods", NAME, admission(before, f"{SESSION}#1"))
        return state_of(pod_manager)

    gated, annotations = run_scenario(scenario)
    assert gated
    assert annotations["primehub.io/fence"] == "1!1"


def test_a_settled_admission_ends_the_session() -> None:
    """A successor has taken over. Nothing behind it in the group is written."""

    async def scenario(pod_manager: SimulatedPodManager) -> tuple[bool, str, bool]:
        uid = create_notebook(pod_manager)
        edit(pod_manager, {"primehub.io/fence": "successor!1"})
        pod_manager.receive(FENCE, an_admit_pod(uid), an_admit(number=2))
        await asyncio.sleep(60)
        gated, _ = state_of(pod_manager)
        requested = ("scheduler.0", SessionRequest()) in pod_manager.sent
        return gated, pod_manager.job()["status"]["phase"], requested

    assert run_scenario(scenario) == (True, "Pending", True)


def test_an_admission_that_a_policy_rejects_is_given_up() -> None:
    """The scheduler starts a new session when it does not observe it."""

    async def scenario(pod_manager: SimulatedPodManager) -> tuple[bool, str]:
        uid = create_notebook(pod_manager)
        pod_manager.reject_patches("pods", times=5)
        pod_manager.receive(FENCE, an_admit_pod(uid), an_admit(number=2))
        await asyncio.sleep(60)
        return state_of(pod_manager)[0], pod_manager.job()["status"]["phase"]

    assert run_scenario(scenario) == (True, "Preparing")


def test_an_explanation_is_an_event_of_the_pod() -> None:
    """Only what does not go away by itself is a warning."""

    async def scenario(pod_manager: SimulatedPodManager) -> list[tuple[str, str, str, str]]:
        uid = create_notebook(pod_manager)
        for reason, message in ((Reason.GROUP_QUOTA, "group quota: x"), (Reason.OVER_QUOTA, "never")):
            explained = ExplainPod(
                uid=uid, name=NAME, group="phusers", fence="", reason=reason, message=message
            )
            pod_manager.receive(*([FENCE] if reason == Reason.GROUP_QUOTA else []), explained)
        await asyncio.sleep(5)
        events = pod_manager.store.all("events")
        assert {event["involvedObject"]["uid"] for event in events} == {uid}
        return sorted((e["involvedObject"]["kind"], e["type"], e["reason"], e["message"]) for e in events)

    assert run_scenario(scenario) == [
        ("Pod", "Normal", "GroupQuota", "group quota: x"),
        ("Pod", "Warning", "OverQuota", "never"),
    ]
