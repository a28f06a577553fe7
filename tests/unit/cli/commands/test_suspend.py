from typing import Any

import pytest
from tests.fakes.user_kube import FakeUserKube, a_context, stored
from tests.support import builders

from phjob_cli.commands.suspend import resume, suspend
from phjob_cli.errors import Exit


def a_cluster(**spec: Any) -> FakeUserKube:
    phases = {"waits": "Pending", "starts": "Preparing", "runs": "Running", "done": "Succeeded"}
    return FakeUserKube(
        phjobs=[stored(builders.a_job(name, **spec), phase=phase) for name, phase in phases.items()]
    )


async def test_a_pending_job_is_suspended_by_its_spec(capsys: pytest.CaptureFixture[str]) -> None:
    """The test of the uid protects a job that took the name in the meantime."""
    kube = a_cluster()
    assert await suspend(a_context(kube), ["waits"]) is Exit.OK
    assert capsys.readouterr().out == "waits is suspended\n"
    assert dict(kube.patched) == {
        "waits": [
            {"op": "test", "path": "/metadata/uid", "value": "uid-waits"},
            {"op": "add", "path": "/spec/suspend", "value": True},
        ]
    }


async def test_a_job_that_has_a_pod_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    """The answer says when the suspension takes effect (spec.md, Q12)."""
    kube = a_cluster()
    assert await suspend(a_context(kube), ["starts", "runs", "done"]) is Exit.OK
    assert capsys.readouterr().out == (
        "starts is Preparing: it goes on, and is suspended if it is requeued\n"
        "runs is Running: it goes on, and is suspended if it returns to its queue\n"
        "done is already Succeeded\n"
    )
    assert [name for name, _ in kube.patched] == ["starts", "runs"]


@pytest.mark.parametrize(("suspended", "answer"), [(True, "is resumed"), (False, "was not suspended")])
async def test_a_suspended_job_is_resumed(
    *, suspended: bool, answer: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is about to return to its place in the queue."""
    kube = a_cluster(suspend=suspended)
    assert await resume(a_context(kube), ["waits"]) is Exit.OK
    assert capsys.readouterr().out == f"waits {answer}\n"
    assert kube.patched[0][1][1] == {"op": "add", "path": "/spec/suspend", "value": False}


async def test_a_missing_job_does_not_keep_the_others_from_being_suspended() -> None:
    """The exit code is that of the worst failure."""
    kube = a_cluster()
    assert await suspend(a_context(kube), ["none", "waits"]) is Exit.NOT_FOUND
    assert [name for name, _ in kube.patched] == ["waits"]
