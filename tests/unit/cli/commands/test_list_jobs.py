import json
from typing import Any

import pytest
from tests.fakes.user_kube import FakeUserKube, a_context, stored
from tests.support import builders

from phjob_cli.commands.list_jobs import list_jobs
from phjob_cli.console import Format
from phjob_core.api import Phase


def a_job(name: str, created: int, user: str = "bob", **status: Any) -> dict[str, Any]:
    """Return a job that was created in this second of the year 2026."""
    job = stored(builders.a_job(name, group="vision", user=user), **{"phase": "Pending", **status})
    job["metadata"]["creationTimestamp"] = f"2026-01-01T00:00:{created:02}Z"
    return job


def a_cluster() -> FakeUserKube:
    run = {"startTime": "2026-01-01T00:01:00Z", "finishTime": "2026-01-01T00:02:30Z"}
    ended = {"phase": "Failed", "reason": "Error", "message": "exit\n code 1", "nodeName": "node-1", **run}
    return FakeUserKube(
        phjobs=[a_job("newer", 2), a_job("older", 1, **ended), a_job("of-lin", 3, user="lin")]
    )


def rows(capsys: pytest.CaptureFixture[str]) -> list[list[str]]:
    """Return the cells of the table, without the age."""
    return [line.split("   ") for line in capsys.readouterr().out.splitlines()]


async def test_the_users_own_jobs_are_listed_newest_last(capsys: pytest.CaptureFixture[str]) -> None:
    """The newest is the nearest to the prompt."""
    kube = a_cluster()
    await list_jobs(a_context(kube))
    assert [row[0].strip() for row in rows(capsys)] == ["NAME", "older", "newer"]
    assert kube.listed[0].field_selector == ""


async def test_a_group_or_everybody_includes_the_jobs_of_other_users(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The API server selects by group and by phase."""
    kube = a_cluster()
    await list_jobs(a_context(kube), group="vision", phase=Phase.PENDING)
    assert [row[0].strip() for row in rows(capsys)] == ["NAME", "older", "newer", "of-lin"]
    assert kube.listed[0].field_selector == "spec.groupName=vision,status.phase=Pending"
    await list_jobs(a_context(kube), everybody=True)
    assert len(rows(capsys)) == 4


async def test_a_wide_table_has_the_run_time_and_the_message(capsys: pytest.CaptureFixture[str]) -> None:
    """A message of several lines does not break the table."""
    await list_jobs(a_context(a_cluster()), output=Format.WIDE)
    header, older, newer = capsys.readouterr().out.splitlines()
    assert header.split()[-4:] == ["INSTANCE", "NODE", "RAN", "MESSAGE"]
    assert older.split()[-6:] == ["cpu-tiny", "node-1", "90s", "exit", "code", "1"]
    assert newer.split()[-3:] == ["cpu-tiny", "-", "-"]


async def test_programs_get_the_jobs_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    """An empty list is data, too, and no note."""
    await list_jobs(a_context(a_cluster()), output=Format.JSON)
    assert [job["name"] for job in json.loads(capsys.readouterr().out)] == ["older", "newer"]
    await list_jobs(a_context(FakeUserKube()), output=Format.JSON)
    assert capsys.readouterr() == ("[]\n", "")


@pytest.mark.parametrize(
    ("options", "note"),
    [
        ({}, "no jobs of user 'bob' in namespace 'hub'"),
        ({"group": "vision"}, "no jobs of group 'vision' in namespace 'hub'"),
        ({"everybody": True}, "no jobs in namespace 'hub'"),
    ],
)
async def test_an_empty_list_names_what_was_searched(
    options: dict[str, Any], note: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The namespace or the user may be the wrong one."""
    await list_jobs(a_context(FakeUserKube()), **options)
    assert capsys.readouterr() == ("", f"{note}\n")
