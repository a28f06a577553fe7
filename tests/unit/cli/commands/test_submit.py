import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.fakes.user_kube import FakeUserKube, a_context, stored
from tests.support import builders

from phjob_cli.commands.submit import retry, submit
from phjob_cli.console import Format
from phjob_cli.errors import CliError, Exit
from phjob_cli.kube_client import Caller
from phjob_core.api import Object
from phjob_core.errors import RejectedError

FLAGS: dict[str, Any] = {"group": "vision", "image": "base-notebook", "instance_type": "cpu-tiny"}


async def test_flags_become_a_job_of_the_caller(capsys: pytest.CaptureFixture[str]) -> None:
    """Words after `--` are quoted as in a shell. Options that are not given stay out of the job."""
    kube = FakeUserKube()
    words = ["python", "train.py", "two words"]
    given: dict[str, Any] = {"deadline": "1h30m", "ttl": "2d", "requeue_limit": 0, "title": "Training"}
    assert await submit(a_context(kube), command_words=words, name="train", **FLAGS, **given) is Exit.OK
    assert capsys.readouterr().out == "train-new submitted to group vision\n"
    (job,) = kube.created
    assert job["metadata"] == {"generateName": "train-"}
    required = {"command": "python train.py 'two words'", "userName": "bob", "groupName": "vision"}
    assert job["spec"] == {
        **required, "image": "base-notebook", "instanceType": "cpu-tiny", "displayName": "Training",
        "requeueLimit": 0, "activeDeadlineSeconds": 5400, "ttlSecondsAfterFinished": 172800,
    }  # fmt: skip
    await submit(a_context(kube, user="lin"), command_words=["true"], **FLAGS)
    assert kube.created[1]["spec"] == {
        "command": "true", "userName": "lin", "groupName": "vision", "image": "base-notebook",
        "instanceType": "cpu-tiny",
    }  # fmt: skip


async def test_a_script_is_the_command(tmp_path: Path) -> None:
    """Its text, with its line breaks."""
    script = tmp_path / "train.sh"
    script.write_text("set -e\npython train.py\n")
    kube = FakeUserKube()
    await submit(a_context(kube), script=script, **FLAGS)
    assert kube.created[0]["spec"]["command"] == "set -e\npython train.py\n"


async def test_a_script_keeps_its_line_ends_and_its_byte_order_mark(tmp_path: Path) -> None:
    """As in a manifest. What becomes of them is decided in one place, when the pod is made."""
    script = tmp_path / "train.sh"
    script.write_bytes(b"\xef\xbb\xbfset -e\r\npython train.py\r\n")
    kube = FakeUserKube()
    await submit(a_context(kube), script=script, **FLAGS)
    assert kube.created[0]["spec"]["command"] == "\ufeffset -e\r\npython train.py\r\n"


@pytest.mark.parametrize("flag", ["script", "file"])
async def test_a_file_in_another_encoding_is_named_with_the_remedy(tmp_path: Path, flag: str) -> None:
    """In one line. Kubernetes accepts only UTF-8."""
    path = tmp_path / "train.sh"
    path.write_bytes("set -e\necho café\n".encode("latin-1"))
    given: dict[str, Any] = {flag: path if flag == "script" else str(path)}
    kube = FakeUserKube()
    with pytest.raises(CliError) as error:
        await submit(a_context(kube), **given, **FLAGS)
    assert str(error.value) == (
        f"{path} is not UTF-8: line 2 has the byte 0xe9; convert it, for example from Latin-1: "
        f"iconv -f LATIN1 -t UTF-8 {path}"
    )
    assert error.value.code is Exit.USAGE
    assert kube.created == []


async def test_missing_flags_are_named_together() -> None:
    """The user corrects them in one step."""
    kube = FakeUserKube()
    with pytest.raises(CliError) as error:
        await submit(a_context(kube), group="vision")
    assert str(error.value) == "missing: --image, --instance-type, -- COMMAND; or give a file with -f"
    assert error.value.code is Exit.USAGE
    assert kube.created == []


async def test_a_file_may_contain_several_jobs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They are submitted in the order of the file, and keep their own user."""
    file = tmp_path / "jobs.yaml"
    file.write_text(yaml.safe_dump_all([builders.a_job("one", user="lin"), builders.a_job("two")]))
    kube = FakeUserKube()
    await submit(a_context(kube), file=str(file), output=Format.JSON)
    jobs = json.loads(capsys.readouterr().out)
    assert [(job["name"], job["user"]) for job in jobs] == [("one", "lin"), ("two", "bob")]


def ending(kube: FakeUserKube, phase: str) -> None:
    """Let the job that the test submits end in this phase, with a log."""
    job = stored(builders.a_job("job-new"), phase="Pending")
    status = {"startTime": "2026-01-01T00:00:01Z", "reason": "Error", "message": "exit code 1"}
    kube.objects = {"phjobs": [job]}

    async def watch() -> AsyncIterator[tuple[str, Object]]:
        yield "MODIFIED", {**job, "status": {"phase": phase, **status}}

    async def log() -> AsyncIterator[bytes]:
        yield b"line\n"

    kube.events, kube.log = [watch()], log()


@pytest.mark.parametrize(("phase", "code"), [("Succeeded", Exit.OK), ("Failed", Exit.FAILED)])
async def test_a_command_that_waits_has_the_exit_code_of_its_job(
    phase: str, code: Exit, capsys: pytest.CaptureFixture[str]
) -> None:
    """A script can rely on it. The outcome is no part of the output."""
    kube = FakeUserKube()
    ending(kube, phase)
    assert await submit(a_context(kube), command_words=["true"], wait=True, **FLAGS) is code
    assert capsys.readouterr().err == f"job-new {phase} (Error: exit code 1)\n"


async def test_a_log_that_is_followed_comes_before_the_outcome(
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    """Without `--wait`, too."""
    kube = FakeUserKube()
    ending(kube, "Cancelled")
    assert await submit(a_context(kube), command_words=["true"], follow=True, **FLAGS) is Exit.FAILED
    written = capfdbinary.readouterr()
    assert written.out.splitlines()[-1] == b"line"
    assert written.err == b"job-new Cancelled (Error: exit code 1)\n"


async def test_programs_get_the_finished_job_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    """Standard error stays empty, too."""
    kube = FakeUserKube()
    ending(kube, "Failed")
    code = await submit(a_context(kube), command_words=["true"], wait=True, output=Format.JSON, **FLAGS)
    written = capsys.readouterr()
    assert (code, written.err) == (Exit.FAILED, "")
    assert [job["phase"] for job in json.loads(written.out)] == ["Failed"]


async def test_a_finished_job_is_submitted_again_under_a_new_name() -> None:
    """Its spec is copied, without the cancel of the first attempt."""
    finished = stored(builders.a_job("train", cancel=True, command="python train.py"), phase="Cancelled")
    kube = FakeUserKube(phjobs=[finished])
    assert await retry(a_context(kube), "train") is Exit.OK
    (copy,) = kube.created
    assert copy["metadata"]["generateName"] == "train-"
    assert copy["spec"] == {key: value for key, value in finished["spec"].items() if key != "cancel"}


async def test_a_job_has_the_ids_of_its_group_and_of_its_user_where_they_are_known() -> None:
    """PrimeHub's console shows no job without them."""
    group = stored(builders.a_group("phg-1", groupName="vision", groupId="d825"))
    kube = FakeUserKube(phgroups=[group, stored(builders.a_group("audio"))])
    kube.caller = Caller("bob", "4f1c")
    await submit(a_context(kube), command_words=["true"], **FLAGS)
    assert (kube.created[0]["spec"]["groupId"], kube.created[0]["spec"]["userId"]) == ("d825", "4f1c")
    await submit(a_context(kube, user="lin"), command_words=["true"], **{**FLAGS, "group": "audio"})
    assert kube.created[1]["spec"].keys().isdisjoint({"groupId", "userId"})
    finished = stored(builders.a_job("train", group="vision"), phase="Failed")
    kube.objects = {**kube.objects, "phjobs": [finished]}
    await retry(a_context(kube), "train")
    assert (kube.created[2]["spec"]["groupId"], kube.created[2]["spec"]["userId"]) == ("d825", "4f1c")


async def test_ids_in_a_file_stay_and_another_users_id_is_not_guessed(tmp_path: Path) -> None:
    """The id of the caller is not that of every user."""
    file = tmp_path / "jobs.yaml"
    file.write_text(
        yaml.safe_dump_all(
            [
                builders.a_job("one", group="vision", groupId="mine", userId="own"),
                builders.a_job("two", user="lin", group="vision"),
            ]
        )
    )
    group = stored(builders.a_group("phg-1", groupName="vision", groupId="d825"))
    kube = FakeUserKube(phgroups=[group])
    kube.caller = Caller("bob", "4f1c")
    await submit(a_context(kube), file=str(file))
    one, two = (job["spec"] for job in kube.created)
    assert (one["groupId"], one["userId"]) == ("mine", "own")
    assert two["groupId"] == "d825"
    assert "userId" not in two


async def test_a_user_who_may_not_read_groups_submits_without_an_id() -> None:
    """Reading a group is no condition of submitting to it."""
    kube = FakeUserKube()
    kube.failures["phgroups"] = RejectedError(403, "Forbidden", "phgroups is forbidden")
    assert await submit(a_context(kube), command_words=["true"], **FLAGS) is Exit.OK
    assert "groupId" not in kube.created[0]["spec"]
    kube.failures["phgroups"] = RejectedError(404, "NotFound", "the server could not find the resource")
    with pytest.raises(RejectedError):
        await submit(a_context(kube), command_words=["true"], **FLAGS)


async def test_an_unfinished_job_is_not_submitted_again() -> None:
    """The command would run twice."""
    kube = FakeUserKube(phjobs=[stored(builders.a_job("train"), phase="Running")])
    with pytest.raises(CliError, match="job 'train' is Running: only a finished job can be retried"):
        await retry(a_context(kube), "train")
    assert kube.created == []
