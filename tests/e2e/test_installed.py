"""The services of an installed chart: with their own accounts, tokens and RabbitMQ users, and with RBAC."""

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
from tests.support.cluster import kubectl_for
from tests.support.installed_release import InstalledRelease
from tests.support.stacks import LocalStack
from tests.support.waiting import eventually

from phjob_runtime.amqp import topology

GROUP, USER = "phusers", "bob"


@pytest.fixture(scope="module")
def installed(
    local_stack: LocalStack, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[InstalledRelease]:
    """Install the chart, start its services, and create a group whose user is bob."""
    stack = local_stack.start_dependencies()
    folder = tmp_path_factory.mktemp("installed")
    release = Release(stack.kubeconfig, f"phjob-{secrets.token_hex(3)}", folder, name="phjob-e2e")
    installed: InstalledRelease | None = None
    try:
        release.install(
            f"--set=rabbitmq.vhost={release.namespace}",
            "--set=jobSubmission.preparingTimeoutSeconds=2",
            f"--set=logArchive.url=file://{folder}/logs",
        )
        release.bind_role("submitter", f"--user={USER}")
        for item in (an_image(), an_instance_type(), a_group(GROUP, users=[USER])):
            done = release.kubectl("-n", release.namespace, "create", "-f", "-", input=json.dumps(item))
            assert done.returncode == 0, done.stderr
        installed = InstalledRelease(local_stack, release)
        installed.import_broker_definitions()
        installed.start()
        yield installed
    finally:
        if installed:
            installed.stop()
        release.uninstall()
        local_stack.management().delete("vhosts", release.namespace)
        for service in topology.SERVICES:
            local_stack.management().delete("users", service)


def submit(installed: InstalledRelease, name: str, **fields: object) -> str:
    """Create a job as its user. Returns its name."""
    job = a_job(name, group=GROUP, user=USER, **fields)  # type: ignore[arg-type]
    release = installed.release
    done = release.kubectl(
        "-n", release.namespace, f"--as={USER}", "create", "-f", "-", input=json.dumps(job)
    )
    assert done.returncode == 0, done.stderr
    return name


def status(installed: InstalledRelease, name: str) -> Object:
    """Return the job's status."""
    found: Object = installed.release.get("phjob", name)["status"]
    return found


def wait_for_phase(installed: InstalledRelease, name: str, phase: str) -> Object:
    """Wait until the job is in the phase. Returns its status."""
    eventually(
        lambda: status(installed, name)["phase"] == phase,
        f"job {name} is {phase}",
        diagnostics=lambda: (status(installed, name), logs(installed)),
    )
    return status(installed, name)


def logs(installed: InstalledRelease) -> str:
    """Return the ends of the services' logs."""
    return "\n".join(component.log.read_text()[-2000:] for component in installed.components.values())


def test_a_job_runs_and_its_log_is_archived(installed: InstalledRelease) -> None:
    """All four services take part, from the user's `kubectl create` to the log archive."""
    ended = wait_for_phase(installed, submit(installed, "runs"), "Succeeded")
    assert ended["exitCode"] == 0
    eventually(lambda: status(installed, "runs").get("logURL"), "the log is stored")
    assert Path(status(installed, "runs")["logURL"].removeprefix("file://")).read_text()


def test_a_user_can_cancel_a_running_job(installed: InstalledRelease) -> None:
    """Its pod is deleted."""
    name = submit(installed, "cancelled", run_for="1h")
    wait_for_phase(installed, name, "Running")
    cancel = ("patch", "phjob", name, "--type=merge", "-p", '{"spec":{"cancel":true}}')
    release = installed.release
    assert release.kubectl("-n", release.namespace, f"--as={USER}", *cancel).returncode == 0
    wait_for_phase(installed, name, "Cancelled")
    eventually(lambda: status(installed, name)["reclaimed"], "the job is reclaimed")


def test_a_job_whose_pod_does_not_start_fails_after_the_start_timeout(installed: InstalledRelease) -> None:
    """The timeout is in the chart's values. The job allows no requeue."""
    name = submit(installed, "requeued", start="never", requeueLimit=0)
    assert wait_for_phase(installed, name, "Failed")["reason"] == "OverRequeueLimit"


def test_pod_manager_writes_the_status_of_groups_and_the_events_of_jobs(installed: InstalledRelease) -> None:
    """The chart grants it the rights for both."""
    wait_for_phase(installed, submit(installed, "refused", image="nope"), "Failed")
    release = installed.release
    chosen = "--field-selector=involvedObject.name=refused"

    def events() -> str:
        return release.kubectl("-n", release.namespace, "get", "events", chosen).stdout

    eventually(lambda: "InvalidSpec" in events(), "the job has an event", diagnostics=lambda: logs(installed))
    group = eventually(
        lambda: (found := release.get("phgroup", GROUP)["status"]).get("pending") == 0 and found,
        "the group's status is written",
        diagnostics=lambda: logs(installed),
    )
    assert group["limit"] == {}


@pytest.mark.parametrize("service", topology.SERVICES)
def test_no_service_has_the_rights_of_another(installed: InstalledRelease, service: str) -> None:
    """The credentials of its pod are limited in Kubernetes and in RabbitMQ."""
    release, namespace = installed.release, installed.release.namespace
    kubectl = kubectl_for(release.kubeconfig_of(f"{release.name}-{service}"))
    for command in ("get secrets", "create configmap any", "delete phgroup any", "get phjobs -n default"):
        done = kubectl("-n", namespace, *command.split())
        assert "forbidden" in done.stderr.lower(), (command, done.stderr)
    another = "scheduler.0" if service != "scheduler" else "janitor.0"
    with pytest.raises(ChannelAccessRefused, match=f"access to queue '{another}'"):
        asyncio.run(_get_message(installed.url(service), another))


async def _get_message(url: str, queue: str) -> None:
    """Get a message from the queue."""
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        await (await channel.declare_queue(queue, passive=True)).get(fail=False)
