import json
from typing import Any

import pytest
from tests.fakes.user_kube import FakeUserKube, a_context, stored
from tests.support import builders

from phjob_cli.commands.queue import queue
from phjob_cli.console import Format
from phjob_cli.errors import CliError, Exit
from phjob_core.errors import RejectedError


def a_job(name: str, second: int, user: str = "bob", **status: Any) -> dict[str, Any]:
    job = stored(builders.a_job(name, group="vision", user=user), **{"phase": "Pending", **status})
    job["metadata"]["creationTimestamp"] = f"2026-01-01T00:00:{second:02}Z"
    return job


def a_cluster(*jobs: dict[str, Any]) -> FakeUserKube:
    """Return a cluster with these jobs, and a notebook that holds 1 of the 2 cores of the group."""
    group = builders.a_group("vision", groupQuota={"cpu": 2}, userQuota={"cpu": 1.5})
    notebook = builders.a_notebook("jupyter-lin", group="vision", user="lin", cpu="1")
    instance_type = builders.an_instance_type(spec={"limits.cpu": 1.5})
    return FakeUserKube(
        phgroups=[stored(group)],
        instancetypes=[stored(instance_type)],
        images=[stored(builders.an_image())],
        pods=[stored(notebook, phase="Running", startTime="2026-01-01T00:00:00Z")],
        phjobs=jobs,
    )


def first_words(output: str) -> list[str]:
    return [line.split()[0] for line in output.splitlines() if line]


async def test_the_queue_shows_quotas_holders_and_waiting_jobs(capsys: pytest.CaptureFixture[str]) -> None:
    """In this order. Of the usage, the share of notebooks is given."""
    kube = a_cluster(a_job("second", 2), a_job("first", 1))
    await queue(a_context(kube), "vision")
    output = capsys.readouterr().out
    words = ["Group", "cpu", "each", "HELD", "jupyter-lin", "PLACE", "1", "2"]
    assert first_words(output) == words
    assert "Group vision: 2 pending, 0 preparing, 0 running" in output
    assert "1 of 2, of that 1 by notebooks" in output
    assert "each user may have cpu 1500m" in output
    places = [line.split()[:3] for line in output.splitlines()[-2:]]
    assert places == [["1", "first", "bob"], ["2", "second", "bob"]]


async def test_a_limit_shortens_the_table_of_waiting_jobs(capsys: pytest.CaptureFixture[str]) -> None:
    """The last line names the option that shows the others."""
    kube = a_cluster(*(a_job(f"job-{number}", number) for number in range(4)))
    await queue(a_context(kube), "vision", limit=3)
    assert capsys.readouterr().out.splitlines()[-1] == "... and 1 more: --limit 0 shows all"
    await queue(a_context(kube), "vision", limit=0)
    assert capsys.readouterr().out.splitlines()[-1].split()[:2] == ["4", "job-3"]


async def test_an_empty_queue_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    """A table without rows could look like an error."""
    await queue(a_context(a_cluster()), "vision")
    assert capsys.readouterr().out.splitlines()[-1] == "no job is pending"


async def test_a_user_who_may_not_list_pods_is_told_what_is_missing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The numbers are too small without the notebooks."""
    kube = a_cluster()
    kube.failures["pods"] = RejectedError(403, "Forbidden", "pods is forbidden")
    await queue(a_context(kube), "vision")
    assert capsys.readouterr().err == "note: you may not list pods here, so notebooks are not counted\n"


async def test_programs_get_the_queue_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    """With the numbers of the table."""
    await queue(a_context(a_cluster(a_job("first", 1))), "vision", output=Format.JSON)
    data = json.loads(capsys.readouterr().out)
    assert (data["group"], data["waiting"], data["groupQuota"]) == ("vision", 1, {"cpu": "2"})
    assert [(job["place"], job["name"]) for job in data["queue"]] == [(1, "first")]


async def test_a_group_that_does_not_exist_is_an_error() -> None:
    """An empty queue would hide a mistyped name."""
    with pytest.raises(CliError, match="there is no group 'none'") as error:
        await queue(a_context(a_cluster()), "none")
    assert error.value.code is Exit.NOT_FOUND


async def test_a_group_that_admits_no_job_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    """Its queue would look empty otherwise: its jobs wait outside of it."""
    kube = a_cluster()
    del kube.objects["phgroups"][0]["spec"]["users"]
    await queue(a_context(kube), "vision")
    assert "note: this group admits no job: spec.users is missing" in capsys.readouterr().err
    second = stored(builders.a_group("second", groupName="Vision"))
    second["metadata"]["creationTimestamp"] = "2026-01-02T00:00:00Z"
    await queue(a_context(FakeUserKube(phgroups=[*a_cluster().objects["phgroups"], second])), "second")
    assert "this group admits no job: the older PhGroup 'vision'" in capsys.readouterr().err
