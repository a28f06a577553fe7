import pytest
from tests.fakes.user_kube import FakeUserKube, a_context, stored
from tests.support import builders

from phjob_cli.commands.cancel import cancel
from phjob_cli.errors import Exit
from phjob_core.errors import UnreachableError


def a_cluster() -> FakeUserKube:
    phases = {"waits": "Pending", "runs": "Running", "done": "Succeeded"}
    return FakeUserKube(phjobs=[stored(builders.a_job(name), phase=phase) for name, phase in phases.items()])


async def test_a_job_is_cancelled_by_its_spec(capsys: pytest.CaptureFixture[str]) -> None:
    """A job that took the name in the meantime has another uid, and is not cancelled."""
    kube = a_cluster()
    assert await cancel(a_context(kube), ["waits", "runs"]) is Exit.OK
    assert capsys.readouterr() == ("waits is being cancelled\nruns is being cancelled\n", "")
    assert dict(kube.patched) == {
        name: [
            {"op": "test", "path": "/metadata/uid", "value": f"uid-{name}"},
            {"op": "add", "path": "/spec/cancel", "value": True},
        ]
        for name in ("waits", "runs")
    }


async def test_a_finished_job_is_left_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    """Its user wanted it to end, so this is no failure."""
    kube = a_cluster()
    assert await cancel(a_context(kube), ["done"]) is Exit.OK
    assert capsys.readouterr().out == "done is already Succeeded\n"
    assert kube.patched == []


async def test_a_missing_job_does_not_keep_the_others_from_being_cancelled(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The exit code is that of the worst failure."""
    kube = a_cluster()
    assert await cancel(a_context(kube), ["none", "waits"]) is Exit.NOT_FOUND
    written = capsys.readouterr()
    assert written.out == "waits is being cancelled\n"
    assert written.err == "error: none: there is no job 'none' in namespace 'hub'\n"


async def test_an_api_server_that_does_not_answer_ends_the_command() -> None:
    """It concerns all jobs, so it is reported once."""
    kube = a_cluster()
    kube.failures["phjobs"] = UnreachableError("the API server does not answer")
    with pytest.raises(UnreachableError):
        await cancel(a_context(kube), ["waits"])
