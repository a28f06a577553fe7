"""The stack of the attacks: an installed release whose services have the memory limits of their containers.

Each person has a token of their own and the role that the chart makes for them. The API server's policies and
quotas are those of the chart.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from tests.benchmarks.client import LoadClient, Request, Response
from tests.hostile.etcd import Etcd
from tests.hostile.scale import SCALE
from tests.hostile.victim import VICTIM, VICTIMS, Victim
from tests.support.api import COLLECTION_PATHS, Api
from tests.support.builders import a_group, a_job, an_image, an_instance_type
from tests.support.chart import Release
from tests.support.cli import Cli
from tests.support.cluster import NAMESPACE
from tests.support.installed_release import InstalledRelease
from tests.support.memory_groups import peak_memory_bytes, reset_peak_memory
from tests.support.stacks import NODE_GPUS, LocalStack
from tests.support.waiting import eventually

from dev.access import kubeconfig, tokens_csv
from dev.component import write_private
from dev.paths import StackPaths
from dev.pki import Pki
from dev.stack import Stack

Object = dict[str, Any]

ATTACKER, ATTACKERS = "mallory", "attackers"
"""The user who attacks, and the only group that they may submit to."""
RECORDS = "records"
"""Another group of the victim, for the test of its history."""
EVERYONE = "everyone"
OPERATOR = "olga"
CPU_OF_ATTACKERS = 5
"""The group quota of the attackers: ten jobs at a time. All others wait."""
PREFIX = "mallory-"
"""The beginning of the names of the attacker's jobs."""
LOUD_JOBS = 8
"""The number of the attacker's jobs with a long log, more than pod-manager archives at once."""
HISTORY_LIMIT = 50
CONNECTIONS = 8
"""The number of connections of the attacker's client."""
GUARD_SECONDS = 400
"""The time in which the quota knows the kind of jobs. Its controller looks for new kinds every 5 min."""
JUDGEMENT_SECONDS = CLEANUP_SECONDS = 1800
"""The time in which all of the attacker's jobs are judged, or their pods deleted, at full scale."""


class Arena:
    """One release, its services, and the people who use it."""

    def __init__(self, local: LocalStack, stack: Stack) -> None:
        """Use a stack that is up, without services."""
        self.paths = StackPaths(local.state)
        self.stack = stack
        self.api = Api(stack.kubeconfig, NAMESPACE)
        self.etcd = Etcd(self.paths.url("etcd", "http"))
        self.release = Release(stack.kubeconfig, NAMESPACE, local.state / "release")
        self._local = local
        self._installed: InstalledRelease | None = None
        self._peaks: dict[str, int] = {}
        self._numbers = 0

    # --- the installation ---

    def install(self, settings: Mapping[str, Any], *, quota: bool) -> None:
        """Install the chart with these `jobSubmission` settings, and start the services.

        With `quota`, the namespace has the chart's ResourceQuota.
        """
        values = self.release.folder / "values.yaml"
        values.parent.mkdir()
        archive = f"file://{self.paths.data}/archive"
        values.write_text(yaml.safe_dump({"jobSubmission": settings, "logArchive": {"url": archive}}))
        self.release.install(f"--values={values}", f"--set=jobQuota.enabled={str(quota).lower()}")
        self._installed = InstalledRelease(self._local, self.release, limit_memory=True)
        self._installed.import_broker_definitions()
        self._installed.start()
        self._pids = self._current_pids()

    def restart_services(self) -> None:
        """Restart all services at once, and wait until they are ready."""
        self._record_peaks()
        self.installed.stop()
        self.installed.start()
        self._pids = self._current_pids()

    @property
    def installed(self) -> InstalledRelease:
        """The release whose services run."""
        assert self._installed, "the release is installed first"
        return self._installed

    # --- people ---

    def kubeconfig(self, user: str) -> Path:
        """Return the path of a user's kubeconfig."""
        path = self.paths.config / f"{user}.kubeconfig"
        write_private(path, kubeconfig(self.paths, Pki(self.paths.config / "pki"), user))
        return path

    def cli(self, user: str) -> Cli:
        """Return `kubectl phjob` of a user."""
        return Cli(self.kubeconfig(user))

    def unique_name(self, name: str) -> str:
        """Return a name that no other object has."""
        self._numbers += 1
        return f"{name}-{self._numbers}"

    def victim(self, rate: float = SCALE.victim_jobs_per_second) -> Victim:
        """Return a process of the victim, which has not started."""
        output = self.paths.state / f"{self.unique_name(VICTIM)}.jsonl"
        self._victim = Victim(self.kubeconfig(VICTIM), output, rate=rate)
        return self._victim

    def submitted_by_the_victim(self) -> int:
        """Return how many jobs the last process of the victim has submitted."""
        return len(self._victim.jobs().submitted)

    def send(
        self, requests: Iterable[Request], *, user: str = ATTACKER, rate: float = 0
    ) -> dict[str, Response]:
        """Send requests as the attacker or another user. Returns the responses, also refusals, by key."""
        return LoadClient.of(self.kubeconfig(user)).try_send(requests, connections=CONNECTIONS, rate=rate)

    # --- the API server and etcd ---

    def count_jobs(self, group: str, phase: str) -> int:
        """Return how many jobs of a group are in a phase."""
        selector = f"spec.groupName={group},status.phase={phase}"
        return len(self.api.list("PhJob", fieldSelector=selector)["items"])

    def wait_until_running(self, group: str, jobs: int) -> None:
        """Wait until so many jobs of a group run."""
        eventually(
            lambda: self.count_jobs(group, "Running") >= jobs,
            f"{jobs} jobs of {group} run",
            within=JUDGEMENT_SECONDS,
        )

    def wait_until_judged(self, group: str, pending: int) -> None:
        """Wait until at most so many jobs of a group are pending.

        The status of the group says so first: a list of all jobs would be a load of its own.
        """

        def reported() -> Object:
            phgroup = self.api.get("PhGroup", group) or {}
            found: Object = phgroup.get("status", {})
            return found

        eventually(
            lambda: reported().get("pending", pending + 1) <= pending,
            f"at most {pending} jobs of {group} are pending",
            within=JUDGEMENT_SECONDS,
            diagnostics=reported,
        )
        assert self.count_jobs(group, "Pending") <= pending

    def wait_until_few_are_left(self, prefix: str, most: int = 0) -> None:
        """Wait until at most so many jobs have a name with this prefix."""

        def left() -> int:
            return self.etcd.count("PhJob", prefix)

        eventually(
            lambda: left() <= most,
            f"at most {most} jobs {prefix}* are left",
            within=CLEANUP_SECONDS,
            diagnostics=left,
        )

    def delete_attackers_jobs(self) -> None:
        """Delete the attacker's jobs that are not rejected, and wait until their pods are gone."""
        for phase in ("Pending", "Preparing", "Running", "Succeeded"):
            self.api.delete_all("PhJob", fieldSelector=f"spec.groupName={ATTACKERS},status.phase={phase}")
        eventually(
            lambda: not self.etcd.count("Pod", PREFIX), "the attacker has no pod", within=CLEANUP_SECONDS
        )

    # --- the services ---

    def metrics_url(self, service: str) -> str:
        """Return the URL of the metrics of a service."""
        return f"http://127.0.0.1:{self.installed.components[service].spec.env['HTTP_PORT']}/metrics"

    def begin_measurement(self) -> None:
        """Let the peaks and the check of the services begin now. A service that has ended starts again."""
        self.installed.start()
        self._pids = self._current_pids()
        self._kills = self._count_kills()
        self._peaks = {}
        for pid in self.pids().values():
            reset_peak_memory(pid)

    def peaks(self) -> dict[str, int]:
        """Return the peak memory of each service since the begin of the measurement, in bytes."""
        self._record_peaks()
        return dict(self._peaks)

    def problems(self) -> list[str]:
        """Return a description of each service that was killed, has ended or needed too much memory."""
        groups = self.installed.memory_groups
        kills = {name: count - self._kills[name] for name, count in self._count_kills().items()}
        ended = [name for name, pid in self._current_pids().items() if pid != self._pids[name]]
        over = [name for name, peak in self.peaks().items() if peak >= groups[name].limit_bytes]
        return [
            *(f"{name} was killed {n} times over its memory limit" for name, n in kills.items() if n),
            *(f"{name} has ended" for name in ended),
            *(f"{name} reached its memory limit" for name in over),
        ]

    def pids(self) -> dict[str, int]:
        """Return the process of each service that runs."""
        return {name: pid for name, pid in self._current_pids().items() if pid}

    def _record_peaks(self) -> None:
        for name, pid in self.pids().items():
            self._peaks[name] = max(self._peaks.get(name, 0), peak_memory_bytes(pid))

    def _count_kills(self) -> dict[str, int]:
        return {name: group.count_kills() for name, group in self.installed.memory_groups.items()}

    def _current_pids(self) -> dict[str, int | None]:
        return {name: component.pid for name, component in self.installed.components.items()}


def attackers_job(name: str, *, group: str = ATTACKERS, **fields: Any) -> Object:
    """Return the manifest of a job of the attacker. It runs for an hour."""
    return a_job(name, group=group, user=ATTACKER, **{"run_for": "1h", **fields})


def creation(manifest: Object) -> Request:
    """Return the request that creates an object."""
    path = "/" + COLLECTION_PATHS[manifest["kind"]].format(f"namespaces/{NAMESPACE}")
    return Request(manifest["metadata"]["name"], path, manifest)


def change(name: str, key: str, content: Object) -> Request:
    """Return the request that changes a job by a merge patch."""
    path = f"/{COLLECTION_PATHS['PhJob'].format(f'namespaces/{NAMESPACE}')}/{name}"
    return Request(key, path, content, "PATCH", "application/merge-patch+json")


def deletion(name: str) -> Request:
    """Return the request that deletes a job."""
    path = f"/{COLLECTION_PATHS['PhJob'].format(f'namespaces/{NAMESPACE}')}/{name}"
    return Request(f"delete {name}", path, {}, "DELETE")


def accepted(responses: Mapping[str, Response]) -> list[str]:
    """Return the keys of the requests that the API server has carried out."""
    return [key for key, response in responses.items() if response.is_success]


@contextmanager
def new_arena(state: Path) -> Iterator[Arena]:
    """Start a stack with an arena. The release is not installed yet."""
    paths = StackPaths(state)
    paths.make()
    people = paths.config / "people.csv"
    lines = (f"{paths.secret(user)},{user},{user}\n" for user in (ATTACKER, VICTIM, OPERATOR))
    write_private(people, tokens_csv(paths) + "".join(lines))
    logs = paths.config / "loud-logs.json"
    logs.write_text("".join(f"---\n{json.dumps(document)}\n" for document in _loud_logs(paths)))
    flags = {
        "kube-apiserver": [f"--token-auth-file={people}"],
        "kwok": [f"--config={logs}"],
    }
    local = LocalStack(state)
    stack = Stack(state, parts=("control-plane", "rabbitmq", "node"), capacity=NODE_GPUS, flags=flags)
    try:
        stack.up()
        yield Arena(local, stack)
    finally:
        stack.down()


def loud_name(number: int) -> str:
    """Return the name of a job with a long log."""
    return f"{PREFIX}loud-{number}"


def loud_log(paths: StackPaths) -> Path:
    """Return the file with the log of each of these jobs."""
    return paths.data / "loud.log"


def _loud_logs(paths: StackPaths) -> list[Object]:
    """Return KWOK's configuration that serves the file as the log of each loud job."""
    return [
        {
            "apiVersion": "kwok.x-k8s.io/v1alpha1",
            "kind": "Logs",
            "metadata": {"name": loud_name(number), "namespace": NAMESPACE},
            "spec": {"logs": [{"logsFile": str(loud_log(paths)), "follow": False}]},
        }
        for number in range(LOUD_JOBS)
    ]


def create_catalog(arena: Arena) -> None:
    """Create the catalog and the groups, and give people their roles."""
    arena.release.bind_role("submitter", f"--user={ATTACKER}", f"--user={VICTIM}")
    arena.release.bind_role("operator", f"--user={OPERATOR}")
    for manifest in (
        an_image(),
        an_instance_type(),
        a_group(EVERYONE),
        a_group(VICTIMS, users=[VICTIM], maxPendingPerUser=0),  # However slow the machine is.
        a_group(RECORDS, users=[VICTIM]),
        a_group(ATTACKERS, users=[ATTACKER], groupQuota={"cpu": CPU_OF_ATTACKERS}),
    ):
        arena.api.create(manifest)
    wait_until_guarded(arena)


def wait_until_guarded(arena: Arena) -> None:
    """Wait until the policies and the quota are in force: users can submit their own jobs, and no others."""

    def can_submit(user: str) -> bool:
        request = creation(a_job("probe", group=VICTIMS, user=VICTIM))
        return bool(accepted(arena.send([replace(request, path=f"{request.path}?dryRun=All")], user=user)))

    eventually(
        lambda: can_submit(VICTIM) and not can_submit(ATTACKER),
        "the API server decides",
        within=GUARD_SECONDS,
    )
