import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.fakes.user_kube import FakeUserKube, a_context, stored
from tests.support import builders

from phjob_cli.commands import why as command
from phjob_cli.commands.why import explain, why
from phjob_cli.console import Format
from phjob_cli.errors import Exit
from phjob_core.errors import RejectedError

LONG_AGO = "2026-01-01T00:00:00Z"


def a_cluster(*jobs: dict[str, Any], cpu: float = 2) -> FakeUserKube:
    """Return a cluster with these jobs, whose group may use this number of cores."""
    return FakeUserKube(
        phgroups=[stored(builders.a_group("vision", groupQuota={"cpu": cpu}))],
        instancetypes=[stored(builders.an_instance_type())],
        images=[stored(builders.an_image())],
        pods=[],
        phjobs=jobs,
    )


def a_job(name: str = "train", second: int = 0, **status: Any) -> dict[str, Any]:
    job = stored(builders.a_job(name, group="vision"), **{"phase": "Pending", **status})
    job["metadata"]["creationTimestamp"] = f"2026-01-01T00:00:{second:02}Z"
    return job


def pairs(output: str) -> dict[str, str]:
    """Return the values by their labels."""
    lines = [line.partition(":") for line in output.splitlines() if not line.startswith(" ")]
    return {label: value.strip() for label, _, value in lines}


def a_file(folder: Path, *jobs: dict[str, Any]) -> str:
    path = folder / "jobs.yaml"
    path.write_text(yaml.safe_dump_all(jobs))
    return str(path)


async def test_a_waiting_job_is_explained_with_its_position_and_those_ahead(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The numbers are those of the quota."""
    holder = a_job("holder", phase="Running", resources={"cpu": "1"}, startTime=LONG_AGO)
    jobs = [a_job(name, second) for second, name in enumerate(("first", "second", "train"), 1)]
    await why(a_context(a_cluster(holder, *jobs, cpu=1)), "train")
    shown = pairs(capsys.readouterr().out)
    assert shown["Job"] == "train of bob, group vision"
    assert shown["Status"].startswith("Pending, for ")
    assert shown["Cause"].startswith("BehindHead: it waits behind first: group quota: cpu 1 of 1 used")
    assert (shown["Place"], shown["Ahead"]) == ("3 of 3", "first (bob, cpu 500m)")
    assert shown["Next step"].startswith("wait")


async def test_the_head_is_explained_with_the_holders_of_what_it_lacks(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Its user may ask them."""
    holder = a_job("holder", phase="Running", resources={"cpu": "1"}, startTime=LONG_AGO)
    await why(a_context(a_cluster(holder, a_job(second=1), cpu=1)), "train")
    shown = pairs(capsys.readouterr().out)
    assert shown["Cause"].startswith("GroupQuota: group quota: cpu 1 of 1 used, needs 500m")
    assert shown["Held by"].startswith("holder (bob): cpu 1, for ")


async def test_a_job_that_has_room_is_looked_at_twice(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have got its room a moment ago, which is no fault of the services."""
    kube = a_cluster(a_job())

    async def admit(_: float) -> None:
        kube.objects = {**kube.objects, "phjobs": [a_job(phase="Running", startTime=LONG_AGO)]}

    monkeypatch.setattr(asyncio, "sleep", admit)
    await why(a_context(kube), "train")
    assert pairs(capsys.readouterr().out)["Cause"].startswith("Running: on a node")


async def test_a_job_that_keeps_its_room_without_an_admission_is_a_fault_of_the_services(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second answer counts."""
    monkeypatch.setattr(command, "RECHECK_SECONDS", 0)
    await why(a_context(a_cluster(a_job())), "train", output=Format.JSON)
    assert json.loads(capsys.readouterr().out)["cause"] == "NotAdmitted"


async def test_a_preparing_job_is_explained_with_the_problem_of_its_pod(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It comes from the pod itself, because pod-manager may not have written it yet."""
    kube = a_cluster(a_job(phase="Preparing", preparingTime=LONG_AGO, resources={"cpu": "1"}))
    pod = stored(builders.a_notebook("train", group="vision", user="bob"))
    waiting = {"name": "main", "state": {"waiting": {"reason": "ErrImagePull", "message": "not found"}}}
    kube.objects = {
        **kube.objects, "pods": [{**pod, "status": {"phase": "Pending", "containerStatuses": [waiting]}}]
    }  # fmt: skip
    await why(a_context(kube), "train")
    shown = pairs(capsys.readouterr().out)
    assert shown["Cause"] == "Starting: its image cannot be pulled: ErrImagePull: not found"


async def test_a_job_that_is_not_submitted_gets_its_position_at_the_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As if it were submitted now. Nothing is created."""
    holder = a_job("holder", phase="Running", resources={"cpu": "1"}, startTime=LONG_AGO)
    kube = a_cluster(holder, a_job("first", 1), cpu=1)
    manifest = {**builders.a_job("next", group="vision")}
    assert await explain(a_context(kube), file=a_file(tmp_path, manifest)) is Exit.OK
    shown = pairs(capsys.readouterr().out)
    assert (shown["Job"], shown["Status"]) == ("next of bob, group vision", "not submitted")
    assert shown["Place"] == "2 of 2"
    assert shown["Next step"].startswith("submit it; it gets this place unless other jobs are submitted")
    assert kube.created == []


async def test_a_job_with_room_can_be_submitted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A manifest without a name is a new job."""
    manifest = builders.a_job("unused", group="vision")
    manifest["metadata"] = {}
    assert await explain(a_context(a_cluster()), file=a_file(tmp_path, manifest)) is Exit.OK
    shown = pairs(capsys.readouterr().out)
    assert shown["Job"] == "a new job of bob, group vision"
    assert shown["Next step"] == "submit it"


async def test_one_job_that_can_never_run_fails_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A script can check a file before it submits it."""
    jobs = [builders.a_job("good", group="vision"), builders.a_job("bad", group="vision", image="none")]
    code = await explain(a_context(a_cluster()), file=a_file(tmp_path, *jobs), output=Format.JSON)
    good, bad = json.loads(capsys.readouterr().out)
    assert code is Exit.FAILED
    assert (good["cause"], bad["cause"]) == ("Next", "Impossible")
    assert bad["why"] == "InvalidSpec: image 'none' does not exist"
    assert bad["nextStep"] == "correct the job before you submit it"


async def test_a_job_that_the_api_server_rejects_is_explained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its queue does not matter then."""
    kube = a_cluster()
    kube.failures["phjobs"] = RejectedError(422, "Invalid", "spec.command: Required value")
    jobs = [builders.a_job("bad", group="vision"), builders.a_job("worse", group="")]
    assert await explain(a_context(kube), file=a_file(tmp_path, *jobs)) is Exit.FAILED
    first, second = capsys.readouterr().out.split("\n\n")
    assert pairs(first)["Cause"] == "Impossible: the API server rejects the job: spec.command: Required value"
    assert pairs(first)["Status"] == "refused"
    assert pairs(second)["Job"] == "worse of bob, group -"


async def test_a_user_that_the_api_server_does_not_know_gets_no_explanation(tmp_path: Path) -> None:
    """The error is not about the job."""
    kube = a_cluster()
    kube.failures["phjobs"] = RejectedError(401, "Unauthorized", "Unauthorized")
    with pytest.raises(RejectedError):
        await explain(a_context(kube), file=a_file(tmp_path, builders.a_job("bad")))
