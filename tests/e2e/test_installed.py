"""The services of an installed chart: under their own accounts, tokens and RabbitMQ users, with RBAC on."""

import asyncio
import json
import secrets
from collections.abc import Iterator
from pathlib import Path

import aio_pika
import pytest
from aiormq.exceptions import ChannelAccessRefused
from tests.support.builders import a_group, a_job, an_image, an_instance_type
from tests.support.chart import Object, Release
from tests.support.hub import kubectl_for
from tests.support.installed import Installed
from tests.support.stacks import LocalStack
from tests.support.waiting import eventually

from shared import topology

GROUP, USER = "phusers", "bob"


@pytest.fixture(scope="module")
def installed(local_stack: LocalStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    """Installed by helm; the services run, and the catalog has a group whose user is bob."""
    stack = local_stack.without_services()
    folder = tmp_path_factory.mktemp("installed")
    release = Release(stack.kubeconfig, f"phjob-{secrets.token_hex(3)}", folder, name="phjob-e2e")
    installed: Installed | None = None
    try:
        release.install(
            f"--set=rabbitmq.vhost={release.namespace}",
            "--set=jobSubmission.preparingTimeoutSeconds=2",
            f"--set=logArchive.url=file://{folder}/logs",
        )
        release.bind("submitter", f"--user={USER}")
        for item in (an_image(), an_instance_type(), a_group(GROUP, users=[USER])):
            done = release.kubectl("-n", release.namespace, "create", "-f", "-", input=json.dumps(item))
            assert done.returncode == 0, done.stderr
        installed = Installed(local_stack, release)
        installed.define()
        installed.start()
        yield installed
    finally:
        if installed:
            installed.stop()
        release.remove()
        local_stack.management().delete("vhosts", release.namespace)
        for service in topology.SERVICES:
            local_stack.management().delete("users", service)


def submit(installed: Installed, name: str, **fields: object) -> str:
    """Create a job as its user."""
    job = a_job(name, group=GROUP, user=USER, **fields)  # type: ignore[arg-type]
    release = installed.release
    done = release.kubectl(
        "-n", release.namespace, f"--as={USER}", "create", "-f", "-", input=json.dumps(job)
    )
    assert done.returncode == 0, done.stderr
    return name


def status(installed: Installed, name: str) -> Object:
    """The job's status."""
    found: Object = installed.release.get("phjob", name)["status"]
    return found


def reaches(installed: Installed, name: str, phase: str) -> Object:
    """The job's status once it is in the phase."""
    eventually(
        lambda: status(installed, name)["phase"] == phase,
        f"job {name} is {phase}",
        instead=lambda: (status(installed, name), logs(installed)),
    )
    return status(installed, name)


def logs(installed: Installed) -> str:
    """The ends of the services' logs."""
    return "\n".join(component.log.read_text()[-2000:] for component in installed.components.values())


def test_a_job_runs_and_its_log_is_kept(installed: Installed) -> None:
    """From its user's `kubectl create` to its end, through all four; the archive has its log."""
    ended = reaches(installed, submit(installed, "runs"), "Succeeded")
    assert ended["exitCode"] == 0
    eventually(lambda: status(installed, "runs").get("logURL"), "the log is stored")
    assert Path(status(installed, "runs")["logURL"].removeprefix("file://")).read_text()


def test_a_running_job_is_cancelled_by_its_user(installed: Installed) -> None:
    """Its pod is deleted."""
    name = submit(installed, "cancelled", run_for="1h")
    reaches(installed, name, "Running")
    cancel = ("patch", "phjob", name, "--type=merge", "-p", '{"spec":{"cancel":true}}')
    release = installed.release
    assert release.kubectl("-n", release.namespace, f"--as={USER}", *cancel).returncode == 0
    reaches(installed, name, "Cancelled")
    eventually(lambda: status(installed, name)["reclaimed"], "its pod is gone")


def test_a_pod_that_does_not_start_is_sent_back(installed: Installed) -> None:
    """After the time that the chart's values say."""
    name = submit(installed, "requeued", start="never", requeueLimit=0)
    assert reaches(installed, name, "Failed")["reason"] == "OverRequeueLimit"


def test_the_group_says_how_it_stands_and_an_event_what_went_wrong(installed: Installed) -> None:
    """Both by pod-manager, with the chart's rights."""
    reaches(installed, submit(installed, "refused", image="nope"), "Failed")
    release = installed.release
    chosen = "--field-selector=involvedObject.name=refused"

    def told() -> str:
        return release.kubectl("-n", release.namespace, "get", "events", chosen).stdout

    eventually(lambda: "InvalidSpec" in told(), "there is an event", instead=lambda: logs(installed))
    group = eventually(
        lambda: (found := release.get("phgroup", GROUP)["status"]).get("pending") == 0 and found,
        "the group's status is written",
        instead=lambda: logs(installed),
    )
    assert group["limit"] == {}


@pytest.mark.parametrize("service", topology.SERVICES)
def test_no_service_may_do_anothers_part(installed: Installed, service: str) -> None:
    """With the credentials that its pod has: neither in Kubernetes nor in RabbitMQ."""
    release, namespace = installed.release, installed.release.namespace
    kubectl = kubectl_for(release.as_account(f"{release.name}-{service}"))
    for command in ("get secrets", "create configmap any", "delete phgroup any", "get phjobs -n default"):
        done = kubectl("-n", namespace, *command.split())
        assert "forbidden" in done.stderr.lower(), (command, done.stderr)
    another = "scheduler.0" if service != "scheduler" else "janitor.0"
    with pytest.raises(ChannelAccessRefused, match=f"access to queue '{another}'"):
        asyncio.run(_read(installed.url(service), another))


async def _read(url: str, queue: str) -> None:
    """Take a message from the queue."""
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        await (await channel.declare_queue(queue, passive=True)).get(fail=False)
