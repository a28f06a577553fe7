"""`kubectl phjob` on a running stack: every command, and its errors."""

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
from tests.support.cluster import Cluster, Object
from tests.support.group_fixture import FOREVER, GroupFixture
from tests.support.waiting import eventually

from dev.kubectl import kubectl_path
from phjob_cli.errors import Exit


@pytest.fixture
def cli(cluster: Cluster) -> Cli:
    """Return the program with the administrator's kubeconfig, for the jobs of bob."""
    return Cli(cluster.stack.kubeconfig, PHJOB_USER="bob")


@pytest.fixture
def group(cluster: Cluster) -> GroupFixture:
    """Create a group with a quota of two GPUs."""
    return GroupFixture(cluster, "phusers", {"groupQuota": {"gpu": 2}}).create()


@pytest.fixture
def submitted(cluster: Cluster) -> Iterator[list[str]]:
    """Yield a list for the names of submitted jobs, and delete those jobs afterwards."""
    names: list[str] = []
    yield names
    for name in names:
        cluster.api.delete("PhJob", name)


def flags(group: GroupFixture, gpus: int = 0) -> list[str]:
    instance_type = group.job_manifest("any", gpus=gpus)["spec"]["instanceType"]
    return ["-g", group.name, "-i", group.image, "-t", instance_type]


def test_submit_creates_a_job_from_flags_and_waits_for_its_end(
    cluster: Cluster, cli: Cli, group: GroupFixture, submitted: list[str]
) -> None:
    """The API server completes its name. The arguments after -- are the command, with their quotes."""
    done = cli(
        "submit", *flags(group), "--name", cluster.unique_name("train"), "--deadline", "1h30m", "--ttl", "2d",
        "--requeue-limit", "3", "--title", "A test", "--wait",
        "--", "python", "train.py", "--what", "two words",
    )  # fmt: skip
    assert done.returncode == Exit.OK, done.stderr
    name = done.stdout.split()[0]
    submitted.append(name)
    assert done.stdout == f"{name} submitted to group {group.name}\n"
    assert done.stderr == f"{name} Succeeded (Completed: exit code 0)\n"
    spec = cluster.job(name).object["spec"]
    assert spec["command"] == "python train.py --what 'two words'"
    assert (spec["userName"], spec["displayName"], spec["requeueLimit"]) == ("bob", "A test", 3)
    assert (spec["activeDeadlineSeconds"], spec["ttlSecondsAfterFinished"]) == (5400, 172800)


def test_submit_reads_standard_input_and_fails_if_a_job_fails(
    cluster: Cluster, cli: Cli, group: GroupFixture, submitted: list[str]
) -> None:
    """Scripts get exit code 1, and the outcome of each job as JSON."""
    good, bad = group.job_manifest("good"), group.job_manifest("bad", exit_code=3)
    submitted += [good["metadata"]["name"], bad["metadata"]["name"]]
    text = yaml.safe_dump_all([good, bad])
    done = cli("submit", "-f", "-", "--wait", "-o", "json", input=text)
    assert done.returncode == Exit.FAILED
    phases = {job["name"]: job["phase"] for job in json.loads(done.stdout)}
    assert phases == dict(zip(submitted, ["Succeeded", "Failed"], strict=True))


def test_submit_names_missing_flags_and_rejected_fields(cli: Cli, group: GroupFixture) -> None:
    """Nothing is submitted."""
    done = cli("submit", "-g", group.name, "--", "true")
    assert (done.returncode, done.stdout) == (Exit.USAGE, "")
    assert done.stderr == "error: missing: --image, --instance-type; or give a file with -f\n"
    rejected = cli("submit", "-g", group.name, "-i", "Not A Name", "-t", "t", "--", "true")
    assert rejected.returncode == Exit.FAILED
    assert "spec.image is the name of an Image object" in rejected.stderr


def test_follow_shows_the_log_and_the_end(cli: Cli, group: GroupFixture, submitted: list[str]) -> None:
    """KWOK serves the same log for every pod."""
    done = cli("submit", *flags(group), "--follow", "--", "true")
    submitted.append(done.stdout.split()[0])
    assert done.returncode == Exit.OK, done.stderr
    assert "No container ran here" in done.stdout
    assert "Succeeded" in done.stderr


def test_list_shows_own_jobs_or_a_groups_and_no_commands(
    cluster: Cluster, cli: Cli, group: GroupFixture
) -> None:
    """No format contains the command of a job; only the whole object does."""
    mine = group.submit("mine", command="echo secret", run_for=FOREVER)
    other = group.submit("other", user="lin", command="echo secret")
    cluster.wait_for_phase(mine, "Running")
    cluster.wait_for_phase(other, "Succeeded")
    assert mine in cli("list").stdout
    assert other not in cli("list").stdout
    header, *rows = cli("list", "--group", group.name, "-o", "wide").stdout.splitlines()
    assert header.split()[-4:] == ["INSTANCE", "NODE", "RAN", "MESSAGE"]
    assert [row.split()[:2] for row in rows] == [[mine, "bob"], [other, "lin"]]
    for command in (("queue", group.name), ("why", mine)):
        assert "secret" not in json.dumps(cli.json(*command))
    listed = cli("list", "-g", group.name, "-o", "yaml").stdout
    assert "secret" not in listed
    assert yaml.safe_load(listed) == cli.json("list", "-g", group.name)
    assert [job["name"] for job in cli.json("list", "-g", group.name, "--phase", "Running")] == [mine]


def test_queue_shows_allocations_and_pending_jobs_in_order(
    cluster: Cluster, cli: Cli, group: GroupFixture
) -> None:
    """Jobs and notebooks hold quota. A long queue is cut off."""
    held = group.submit("held", gpus=1, run_for=FOREVER, activeDeadlineSeconds=3600)
    cluster.wait_for_phase(held, "Running")
    notebook = group.start_notebook("jupyter", gpus=1, user="lin")
    eventually(lambda: cluster.pod(notebook), "the notebook exists")
    names = [group.submit(f"waits-{n}", gpus=1, user="pan") for n in range(4)]
    cluster.wait_for_reason(names[0], "GroupQuota")
    answer = cli.json("queue", group.name)
    assert [(job["place"], job["name"]) for job in answer["queue"]] == list(enumerate(names, start=1))
    assert {(holder["name"], holder["kind"]) for holder in answer["held"]} == {
        (held, "job"),
        (notebook, "notebook"),
    }
    assert (answer["used"]["gpu"], answer["groupQuota"]["gpu"]) == ("2", "2")
    text = cli("queue", group.name, "--limit", "2").stdout
    assert "gpu      ████████████ 2 of 2, of that 1 by notebooks" in text
    assert "... and 2 more" in text


def test_cancel_reports_the_outcome_for_each_job(cluster: Cluster, cli: Cli, group: GroupFixture) -> None:
    """A missing job does not keep the others from being cancelled."""
    running, done = group.submit("running", run_for=FOREVER), group.submit("done")
    cluster.wait_for_phase(running, "Running")
    cluster.wait_for_phase(done, "Succeeded")
    result = cli("cancel", running, done, "nobody")
    assert result.returncode == Exit.NOT_FOUND
    assert result.stdout == f"{running} is being cancelled\n{done} is already Succeeded\n"
    assert result.stderr == "error: nobody: there is no job 'nobody' in namespace 'hub'\n"
    cluster.wait_for_phase(running, "Cancelled")


def test_retry_submits_a_copy_of_a_finished_job(
    cluster: Cluster, cli: Cli, group: GroupFixture, submitted: list[str]
) -> None:
    """A job that is not finished is rejected."""
    failed = group.submit("failed", exit_code=1, command="false", requeueLimit=2)
    cluster.wait_for_phase(failed, "Failed")
    done = cli("retry", failed)
    assert done.returncode == Exit.OK, done.stderr
    copy = done.stdout.split()[0]
    submitted.append(copy)
    assert copy.startswith(f"{failed}-")
    assert cluster.job(copy).object["spec"] == cluster.job(failed).object["spec"]
    running = group.submit("running", run_for=FOREVER)
    cluster.wait_for_phase(running, "Running")
    rejected = cli("retry", running)
    assert rejected.returncode == Exit.FAILED
    assert rejected.stderr.endswith("is Running: only a finished job can be retried\n")


def test_explain_writes_nothing(cluster: Cluster, cli: Cli, group: GroupFixture) -> None:
    """The exit code is 1 if one job of the file can never run, otherwise 0."""
    fits, never = group.job_manifest("fits", gpus=2), group.job_manifest("never", gpus=4)
    done = cli("explain", "-f", "-", "-o", "json", input=yaml.safe_dump_all([fits, never]))
    assert done.returncode == Exit.FAILED
    assert [(job["name"], job["cause"]) for job in json.loads(done.stdout)] == [
        (fits["metadata"]["name"], "Next"),
        (never["metadata"]["name"], "Impossible"),
    ]
    assert cli("explain", "-f", "-", input=yaml.safe_dump(fits)).returncode == Exit.OK
    assert cluster.api.get("PhJob", fits["metadata"]["name"]) is None


def test_a_missing_log_is_explained(cluster: Cluster, cli: Cli, group: GroupFixture) -> None:
    """The pod was deleted, or the attempt does not exist."""
    gone = group.submit("gone", ttlSecondsAfterFinished=1)
    cluster.wait_for_phase(gone, "Succeeded")
    cluster.wait_for_pod_deletion(gone)
    waits = group.submit("waits", gpus=2)
    done = cli("logs", gone)
    assert done.returncode == Exit.NOT_FOUND
    assert f"error: job '{gone}' no longer has a log" in done.stderr
    assert "has no attempt 5: its latest attempt is 1" in cli("logs", waits, "--attempt", "5").stderr


def test_top_shows_every_group_at_once(cluster: Cluster, cli: Cli, group: GroupFixture) -> None:
    """The table shows the status of each PhGroup, once if the output is no terminal."""
    group.submit("held", gpus=2, run_for=FOREVER)
    head = group.submit("head", gpus=1)
    cluster.wait_for_reason(head, "GroupQuota")
    wanted = f"{head}: group quota: gpu 2 of 2 used, needs 1"

    def line() -> str:
        lines = cli("top").stdout.splitlines()
        return next((line for line in lines if line.startswith(group.name)), "")

    eventually(lambda: line().endswith(wanted), "top shows the pending reason of the head", diagnostics=line)
    assert "gpu ████████ 2/2" in line()


def test_top_runs_on_a_terminal_until_ctrl_c(cli: Cli) -> None:
    """Ctrl-C shows no traceback."""
    terminal = cli.on_a_terminal("top")
    assert b"GROUP" in terminal.read(until=b"GROUP")
    terminal.press(b"\x03")
    assert b"interrupted" in terminal.read()
    assert terminal.end() == Exit.INTERRUPTED


def test_colours_are_for_terminals(cluster: Cluster, cli: Cli, group: GroupFixture) -> None:
    """A pipe gets no escape sequences."""
    name = group.submit("job", run_for=FOREVER)
    cluster.wait_for_phase(name, "Running")
    assert "\x1b" not in cli("list").stdout
    terminal = cli.on_a_terminal("list")
    assert b"\x1b[34mRunning" in terminal.read()
    assert terminal.end() == Exit.OK


def test_a_closed_pipe_is_no_error(cli: Cli, group: GroupFixture) -> None:
    """`| head` closes it after ten lines."""
    group.submit("job")
    done = subprocess.run(
        ["sh", "-c", f"{shlex.join(cli.command('list', '-a'))} | true"],
        env=cli.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""


def test_ctrl_c_while_it_waits_ends_it_in_one_line(cluster: Cluster, cli: Cli, group: GroupFixture) -> None:
    """The job itself continues."""
    job = group.job_manifest("job", run_for=FOREVER)
    name = job["metadata"]["name"]
    waiting = cli.start("submit", *flags(group), "--name", name, "--wait", "--", "true")
    assert waiting.stdout
    eventually(
        lambda: [e for e in cluster.history.all_current("PhJob") if e.name.startswith(name)],
        "the job is submitted",
    )
    waiting.send_signal(signal.SIGINT)
    _, stderr = waiting.communicate(timeout=60)
    assert (waiting.returncode, stderr) == (Exit.INTERRUPTED, "interrupted\n")
    for event in cluster.history.all_current("PhJob"):
        if event.name.startswith(name):
            cluster.api.delete("PhJob", event.name)


def test_a_failed_connection_is_explained_in_one_line(cluster: Cluster, cli: Cli, tmp_path: Path) -> None:
    """No kubeconfig, no cluster, an unknown context, another namespace, a rejected token."""
    content = yaml.safe_load(cluster.stack.kubeconfig.read_text())

    def kubeconfig(name: str, *, server: Object | None = None, user: Object | None = None) -> Path:
        copy = json.loads(json.dumps(content))
        copy["clusters"][0]["cluster"] |= server or {}
        copy["users"][0]["user"] = user or copy["users"][0]["user"]
        file = tmp_path / name
        file.write_text(yaml.safe_dump(copy))
        return file

    nowhere = kubeconfig("nowhere", server={"server": "https://127.0.0.1:1"})
    expired = kubeconfig("expired", user={"token": "expired"})
    plugin = {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "no-such-plugin"}}
    broken = tmp_path / "broken"
    broken.write_text("a: [")
    admin = cluster.stack.kubeconfig
    cases: list[tuple[Path, tuple[str, ...], Exit, str]] = [
        (tmp_path / "missing", (), Exit.UNREACHABLE, f"no kubeconfig at {tmp_path / 'missing'}"),
        (nowhere, (), Exit.UNREACHABLE, "the API server does not answer"),
        (expired, (), Exit.FORBIDDEN, "your credentials have expired, or are wrong"),
        (kubeconfig("plugin", user=plugin), (), Exit.USAGE, "no-such-plugin"),
        (broken, (), Exit.USAGE, "cannot be read"),
        (admin, ("--context", "other"), Exit.USAGE, "has no context 'other'"),
        (admin, ("-n", "default"), Exit.NOT_FOUND, "there are no groups in namespace 'default'"),
    ]
    for kubeconfig_file, options, code, message in cases:
        done = Cli(kubeconfig_file)("queue", "phusers", *options)
        assert len(done.stderr.splitlines()) == 1, done.stderr
        assert message in done.stderr
        assert done.returncode == code


def test_kubectl_finds_the_plugin_and_its_completion(cluster: Cluster, cli: Cli, group: GroupFixture) -> None:
    """`kubectl phjob`, and the program that kubectl runs for the Tab key."""
    name = group.submit("job", run_for=FOREVER)
    programs = Path(cli.command()[0]).parent
    env = {**cli.environment, "PATH": f"{programs}:{os.environ['PATH']}"}

    def run(*words: str) -> str:
        return subprocess.run(words, env=env, capture_output=True, text=True, check=True).stdout

    assert name in run(str(kubectl_path()), "phjob", "list")
    assert run("kubectl_complete-phjob", "que").splitlines()[0].split("\t")[0] == "queue"
    assert run("kubectl_complete-phjob", "why", name[:-2]).splitlines() == [name, ":4"]
    assert group.name in run("kubectl_complete-phjob", "queue", "").splitlines()
    assert run(str(kubectl_path()), "__complete", "phjob", "why", name[:-2]).splitlines()[0] == name
