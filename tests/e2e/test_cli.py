"""`kubectl phjob` on a running stack: every command, and what it answers when something is wrong."""

import json
import os
import shlex
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from tests.support.cli import Cli
from tests.support.hub import Hub, Object
from tests.support.scene import FOREVER, Scene
from tests.support.waiting import eventually

from dev.kubectl import kubectl_path
from kubectl_phjob.errors import Exit


@pytest.fixture
def cli(hub: Hub) -> Cli:
    """The program with the administrator's kubeconfig, for the jobs of bob."""
    return Cli(hub.stack.kubeconfig, PHJOB_USER="bob")


@pytest.fixture
def scene(hub: Hub) -> Scene:
    """A group with room for two GPUs."""
    return Scene(hub, "phusers", {"groupQuota": {"gpu": 2}}).make()


@pytest.fixture
def submitted(hub: Hub) -> Iterator[list[str]]:
    """The names of jobs that the program has made, which are deleted afterwards."""
    names: list[str] = []
    yield names
    for name in names:
        hub.api.delete("PhJob", name)


def flags(scene: Scene, gpus: int = 0) -> list[str]:
    kind = scene.job("any", gpus=gpus)["spec"]["instanceType"]
    return ["-g", scene.group, "-i", scene.image, "-t", kind]


def test_submit_makes_a_job_of_flags_and_waits_for_its_end(
    hub: Hub, cli: Cli, scene: Scene, submitted: list[str]
) -> None:
    """Its name is made; the words after -- are the command, quoted as they were."""
    done = cli(
        "submit", *flags(scene), "--name", hub.name("train"), "--deadline", "1h30m", "--ttl", "2d",
        "--requeue-limit", "3", "--title", "A test", "--wait",
        "--", "python", "train.py", "--what", "two words",
    )  # fmt: skip
    assert done.returncode == Exit.OK, done.stderr
    name = done.stdout.split()[0]
    submitted.append(name)
    assert done.stdout == f"{name} submitted to group {scene.group}\n"
    assert done.stderr == f"{name} Succeeded (Completed: exit code 0)\n"
    spec = hub.job(name).object["spec"]
    assert spec["command"] == "python train.py --what 'two words'"
    assert (spec["userName"], spec["displayName"], spec["requeueLimit"]) == ("bob", "A test", 3)
    assert (spec["activeDeadlineSeconds"], spec["ttlSecondsAfterFinished"]) == (5400, 172800)


def test_submit_takes_files_also_from_standard_input_and_fails_with_the_job(
    hub: Hub, cli: Cli, scene: Scene, submitted: list[str]
) -> None:
    """Exit code 1, for scripts, and what became of each for programs."""
    good, bad = scene.job("good"), scene.job("bad", exit_code=3)
    submitted += [good["metadata"]["name"], bad["metadata"]["name"]]
    text = yaml.safe_dump_all([good, bad])
    done = cli("submit", "-f", "-", "--wait", "-o", "json", input=text)
    assert done.returncode == Exit.NO
    phases = {job["name"]: job["phase"] for job in json.loads(done.stdout)}
    assert phases == dict(zip(submitted, ["Succeeded", "Failed"], strict=True))


def test_submit_says_what_is_missing_and_what_the_server_refuses(cli: Cli, scene: Scene) -> None:
    """Nothing is submitted."""
    done = cli("submit", "-g", scene.group, "--", "true")
    assert (done.returncode, done.stdout) == (Exit.USAGE, "")
    assert done.stderr == "error: missing: --image, --instance-type; or give a file with -f\n"
    refused = cli("submit", "-g", scene.group, "-i", "Not A Name", "-t", "t", "--", "true")
    assert refused.returncode == Exit.NO
    assert "spec.image is the name of an Image object" in refused.stderr


def test_follow_shows_the_log_and_the_end(cli: Cli, scene: Scene, submitted: list[str]) -> None:
    """KWOK's node has one line for every pod."""
    done = cli("submit", *flags(scene), "--follow", "--", "true")
    submitted.append(done.stdout.split()[0])
    assert done.returncode == Exit.OK, done.stderr
    assert "No container ran here" in done.stdout
    assert "Succeeded" in done.stderr


def test_list_shows_mine_or_a_groups_and_no_command(hub: Hub, cli: Cli, scene: Scene) -> None:
    """In each form: what a job runs is for those who ask for the whole object."""
    mine = scene.submit("mine", command="echo secret", run_for=FOREVER)
    other = scene.submit("other", user="lin", command="echo secret")
    hub.reaches(mine, "Running")
    hub.reaches(other, "Succeeded")
    assert mine in cli("list").stdout
    assert other not in cli("list").stdout
    header, *rows = cli("list", "--group", scene.group, "-o", "wide").stdout.splitlines()
    assert header.split()[-4:] == ["INSTANCE", "NODE", "RAN", "MESSAGE"]
    assert [row.split()[:2] for row in rows] == [[mine, "bob"], [other, "lin"]]
    for command in (("queue", scene.group), ("why", mine)):
        assert "secret" not in json.dumps(cli.json(*command))
    listed = cli("list", "-g", scene.group, "-o", "yaml").stdout
    assert "secret" not in listed
    assert yaml.safe_load(listed) == cli.json("list", "-g", scene.group)
    assert [job["name"] for job in cli.json("list", "-g", scene.group, "--phase", "Running")] == [mine]


def test_queue_shows_who_holds_and_who_waits_in_their_order(hub: Hub, cli: Cli, scene: Scene) -> None:
    """Jobs and notebooks; and of a long queue the beginning."""
    held = scene.submit("held", gpus=1, run_for=FOREVER, activeDeadlineSeconds=3600)
    hub.reaches(held, "Running")
    notebook = scene.notebook("jupyter", gpus=1, user="lin")
    eventually(lambda: hub.pod(notebook), "the notebook is there")
    names = [scene.submit(f"waits-{n}", gpus=1, user="pan") for n in range(4)]
    hub.says(names[0], "GroupQuota")
    seen = cli.json("queue", scene.group)
    assert [(job["place"], job["name"]) for job in seen["queue"]] == list(enumerate(names, start=1))
    assert {(one["name"], one["kind"]) for one in seen["held"]} == {(held, "job"), (notebook, "notebook")}
    assert (seen["used"]["gpu"], seen["groupQuota"]["gpu"]) == ("2", "2")
    text = cli("queue", scene.group, "--limit", "2").stdout
    assert "gpu      ████████████ 2 of 2, of that 1 by notebooks" in text
    assert "... and 2 more" in text


def test_cancel_takes_many_and_tells_of_each(hub: Hub, cli: Cli, scene: Scene) -> None:
    """One that is not there keeps no other."""
    running, done = scene.submit("running", run_for=FOREVER), scene.submit("done")
    hub.reaches(running, "Running")
    hub.reaches(done, "Succeeded")
    answer = cli("cancel", running, done, "nobody")
    assert answer.returncode == Exit.NOT_FOUND
    assert answer.stdout == f"{running} is being cancelled\n{done} is Succeeded already\n"
    assert answer.stderr == "error: nobody: there is no job 'nobody' in namespace 'hub'\n"
    hub.reaches(running, "Cancelled")


def test_retry_submits_a_copy_of_what_has_ended(
    hub: Hub, cli: Cli, scene: Scene, submitted: list[str]
) -> None:
    """And of nothing else."""
    failed = scene.submit("failed", exit_code=1, command="false", requeueLimit=2)
    hub.reaches(failed, "Failed")
    done = cli("retry", failed)
    assert done.returncode == Exit.OK, done.stderr
    copy = done.stdout.split()[0]
    submitted.append(copy)
    assert copy.startswith(f"{failed}-")
    assert hub.job(copy).object["spec"] == hub.job(failed).object["spec"]
    runs = scene.submit("runs", run_for=FOREVER)
    hub.reaches(runs, "Running")
    refused = cli("retry", runs)
    assert refused.returncode == Exit.NO
    assert refused.stderr.endswith("is Running: only one that has ended can be tried again\n")


def test_explain_writes_nothing(hub: Hub, cli: Cli, scene: Scene) -> None:
    """Exit code 0 for what could run, 1 for what never will; both in one file."""
    fits, never = scene.job("fits", gpus=2), scene.job("never", gpus=4)
    done = cli("explain", "-f", "-", "-o", "json", input=yaml.safe_dump_all([fits, never]))
    assert done.returncode == Exit.NO
    assert [(one["name"], one["cause"]) for one in json.loads(done.stdout)] == [
        (fits["metadata"]["name"], "Next"),
        (never["metadata"]["name"], "Impossible"),
    ]
    assert cli("explain", "-f", "-", input=yaml.safe_dump(fits)).returncode == Exit.OK
    assert hub.api.get("PhJob", fits["metadata"]["name"]) is None


def test_logs_say_why_there_is_none(hub: Hub, cli: Cli, scene: Scene) -> None:
    """Of a job that waits, of a try that never was, of one whose pod is gone."""
    gone = scene.submit("gone", ttlSecondsAfterFinished=1)
    hub.reaches(gone, "Succeeded")
    hub.pod_is_gone(gone)
    waits = scene.submit("waits", gpus=2)
    done = cli("logs", gone)
    assert done.returncode == Exit.NOT_FOUND
    assert f"error: job '{gone}' has no log any more" in done.stderr
    assert "has been tried 1 times: there is no attempt 5" in cli("logs", waits, "--attempt", "5").stderr


def test_top_shows_every_group_at_once(hub: Hub, cli: Cli, scene: Scene) -> None:
    """As its PhGroup's status has it; once where nobody looks on."""
    scene.submit("held", gpus=2, run_for=FOREVER)
    head = scene.submit("head", gpus=1)
    hub.says(head, "GroupQuota")
    wanted = f"{head}: group quota: gpu 2 of 2 used, needs 1"

    def line() -> str:
        lines = cli("top").stdout.splitlines()
        return next((line for line in lines if line.startswith(scene.group)), "")

    eventually(lambda: line().endswith(wanted), "top shows it", instead=line)
    assert "gpu ████████ 2/2" in line()


def test_top_on_a_terminal_goes_on_until_ctrl_c(cli: Cli) -> None:
    """Which is no error worth a traceback."""
    terminal = cli.on_a_terminal("top")
    assert b"GROUP" in terminal.read(until=b"GROUP")
    terminal.press(b"\x03")
    assert b"interrupted" in terminal.read()
    assert terminal.end() == Exit.INTERRUPTED


def test_colours_are_for_terminals(hub: Hub, cli: Cli, scene: Scene) -> None:
    """A pipe gets none."""
    name = scene.submit("job", run_for=FOREVER)
    hub.reaches(name, "Running")
    assert "\x1b" not in cli("list").stdout
    terminal = cli.on_a_terminal("list")
    assert b"\x1b[34mRunning" in terminal.read()
    assert terminal.end() == Exit.OK


def test_a_closed_pipe_is_no_error(cli: Cli, scene: Scene) -> None:
    """`| head` has read enough."""
    scene.submit("job")
    done = subprocess.run(
        ["sh", "-c", f"{shlex.join(cli.command('list', '-a'))} | true"],
        env=cli.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""


def test_ctrl_c_while_it_waits_ends_it_in_one_line(hub: Hub, cli: Cli, scene: Scene) -> None:
    """The job goes on."""
    job = scene.job("job", run_for=FOREVER)
    name = job["metadata"]["name"]
    waiting = cli.start("submit", *flags(scene), "--name", name, "--wait", "--", "true")
    assert waiting.stdout
    eventually(lambda: [e for e in hub.history.all("PhJob") if e.name.startswith(name)], "it is submitted")
    waiting.send_signal(signal.SIGINT)
    _, stderr = waiting.communicate(timeout=60)
    assert (waiting.returncode, stderr) == (Exit.INTERRUPTED, "interrupted\n")
    for event in hub.history.all("PhJob"):
        if event.name.startswith(name):
            hub.api.delete("PhJob", event.name)


def test_what_is_wrong_with_the_way_there_is_told_in_one_line(hub: Hub, cli: Cli, tmp_path: Path) -> None:
    """No kubeconfig, no cluster, an unknown context, another namespace, a token that is not taken."""
    content = yaml.safe_load(hub.stack.kubeconfig.read_text())

    def kubeconfig(name: str, *, cluster: Object | None = None, user: Object | None = None) -> Path:
        copy = json.loads(json.dumps(content))
        copy["clusters"][0]["cluster"] |= cluster or {}
        copy["users"][0]["user"] = user or copy["users"][0]["user"]
        file = tmp_path / name
        file.write_text(yaml.safe_dump(copy))
        return file

    nowhere = kubeconfig("nowhere", cluster={"server": "https://127.0.0.1:1"})
    expired = kubeconfig("expired", user={"token": "expired"})
    plugin = {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "no-such-plugin"}}
    broken = tmp_path / "broken"
    broken.write_text("a: [")
    admin = hub.stack.kubeconfig
    cases: list[tuple[Path, tuple[str, ...], Exit, str]] = [
        (tmp_path / "missing", (), Exit.UNREACHABLE, f"no kubeconfig at {tmp_path / 'missing'}"),
        (nowhere, (), Exit.UNREACHABLE, "the API server does not answer"),
        (expired, (), Exit.FORBIDDEN, "your credentials have expired, or are wrong"),
        (kubeconfig("plugin", user=plugin), (), Exit.USAGE, "no-such-plugin"),
        (broken, (), Exit.USAGE, "can't be read"),
        (admin, ("--context", "other"), Exit.USAGE, "has no context 'other'"),
        (admin, ("-n", "default"), Exit.NOT_FOUND, "there are no groups in namespace 'default'"),
    ]
    for where, more, code, says in cases:
        done = Cli(where)("queue", "phusers", *more)
        assert len(done.stderr.splitlines()) == 1, done.stderr
        assert says in done.stderr
        assert done.returncode == code


def test_kubectl_finds_it_and_its_completion(hub: Hub, cli: Cli, scene: Scene) -> None:
    """`kubectl phjob`, and what kubectl asks for at the Tab key."""
    name = scene.submit("job", run_for=FOREVER)
    programs = Path(cli.command()[0]).parent
    env = {**cli.environment, "PATH": f"{programs}:{os.environ['PATH']}"}

    def run(*words: str) -> str:
        return subprocess.run(words, env=env, capture_output=True, text=True, check=True).stdout

    assert name in run(str(kubectl_path()), "phjob", "list")
    assert run("kubectl_complete-phjob", "que").splitlines()[0].split("\t")[0] == "queue"
    assert run("kubectl_complete-phjob", "why", name[:-2]).splitlines() == [name, ":4"]
    assert scene.group in run("kubectl_complete-phjob", "queue", "").splitlines()
    assert run(str(kubectl_path()), "__complete", "phjob", "why", name[:-2]).splitlines()[0] == name
