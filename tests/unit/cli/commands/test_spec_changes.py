import pytest
from tests.fakes.user_kube import FakeUserKube, a_context, stored
from tests.support import builders

from phjob_cli.commands.spec_changes import change_jobs
from phjob_cli.errors import Exit


async def test_each_job_is_described_as_it_was_before_the_change(capsys: pytest.CaptureFixture[str]) -> None:
    """A finished job is not changed, and a missing one gives the exit code."""
    phases = {"waits": "Pending", "done": "Failed"}
    jobs = [stored(builders.a_job(name), phase=phase) for name, phase in phases.items()]
    kube = FakeUserKube(phjobs=jobs)
    names, fields = ["waits", "done", "none"], {"a": 1, "b": 2}
    code = await change_jobs(a_context(kube), names, fields, lambda job: f"was {job['status']['phase']}")
    assert code is Exit.NOT_FOUND
    assert capsys.readouterr().out == "waits was Pending\ndone is already Failed\n"
    assert dict(kube.patched) == {
        "waits": [
            {"op": "test", "path": "/metadata/uid", "value": "uid-waits"},
            {"op": "add", "path": "/spec/a", "value": 1},
            {"op": "add", "path": "/spec/b", "value": 2},
        ]
    }
