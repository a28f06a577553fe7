"""What a command can do in a real container: the security profiles, the disk, and the deadline of its pod."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support import debian_image
from tests.support.builders import a_group, a_job, an_image, an_instance_type, an_object
from tests.support.cluster import NAMESPACE, Cluster, cluster_on
from tests.support.injection import assigned_ids
from tests.support.stacks import RealNode, log_archive_settings
from tests.support.waiting import eventually

from dev.image import NOTEBOOK, NOTEBOOK_WITH_BASH

pytestmark = pytest.mark.real_node

ENFORCE = "pod-security.kubernetes.io/enforce"
START_SECONDS = 180
"""The time for a container of the Debian image to start: the node copies the whole image for it."""
CAPABILITY_BITS = {
    "CHOWN": 0,
    "DAC_OVERRIDE": 1,
    "FOWNER": 3,
    "FSETID": 4,
    "KILL": 5,
    "SETGID": 6,
    "SETUID": 7,
    "SETPCAP": 8,
    "NET_BIND_SERVICE": 10,
}
"""The numbers of the capabilities of `baseline` (linux/capability.h)."""
SHOW_PRIVILEGES = "id -u; id -g; grep -E '^(CapBnd|CapEff|NoNewPrivs)' /proc/self/status; whoami || true"
INSTALL = """
cd /tmp
mkdir -p hello/DEBIAN hello/usr/local/bin
cat > hello/DEBIAN/control <<EOF
Package: hello
Version: 1
Architecture: all
Maintainer: nobody <nobody@example.com>
Description: a greeting
EOF
printf '#!/bin/sh\\necho installed by apt\\n' > hello/usr/local/bin/greet
chmod 755 hello/usr/local/bin/greet
dpkg-deb --root-owner-group --build hello >/dev/null
sudo apt-get install --yes ./hello.deb >/dev/null
greet
echo "$(id -un) $HOME $LD_LIBRARY_PATH $(sudo id -un)"
touch mine && stat -c %U mine
exit 7
"""
"""A script that makes a package and installs it, without a network."""


class RealGroup:
    """A group of one test on the real node, with an instance type and its own images."""

    def __init__(self, cluster: Cluster, **spec: object) -> None:
        self.cluster = cluster
        self.name = cluster.unique_name(f"group-{cluster.next_number()}")
        self._type = cluster.unique_name(f"type-{cluster.next_number()}")
        limits = spec.pop("limits", {})
        cluster.create(an_instance_type(self._type, limits))  # type: ignore[arg-type]
        self._images = {}
        for url in (debian_image.AS_ROOT, debian_image.AS_JOVYAN, NOTEBOOK, NOTEBOOK_WITH_BASH):
            self._images[url] = cluster.unique_name(f"image-{cluster.next_number()}")
            cluster.create(an_image(self._images[url], url=url))
        granted = {"images": [*self._images.values()], "instanceTypes": [self._type]}
        cluster.create(a_group(self.name, **granted, **spec))

    def submit(self, command: str, url: str = NOTEBOOK, **spec: object) -> str:
        """Create a job that runs the command in an image. Returns its name."""
        name = self.cluster.unique_name(f"job-{self.cluster.next_number()}")
        fields = {"image": self._images[url], "instanceType": self._type, "command": command, **spec}
        (created,) = self.cluster.create(a_job(name, group=self.name, **fields))  # type: ignore[arg-type]
        return created

    def run(self, command: str, url: str = NOTEBOOK, phase: str = "Succeeded") -> str:
        """Run a job to its end. Returns its log."""
        name = self.submit(command, url)
        status = self.cluster.wait_for_phase(name, "Succeeded", "Failed", within=START_SECONDS)
        log = self.cluster.kubectl("-n", NAMESPACE, "logs", name).stdout
        assert status["phase"] == phase, f"{status}: {log}"
        return log


@pytest.fixture
def cluster(real_cluster: Cluster, real_node: RealNode) -> Cluster:
    """Return the cluster, whose node has the Debian images."""
    debian_image.load(real_node.state)
    return real_cluster


@pytest.fixture
def _restricted_namespace(cluster: Cluster) -> Iterator[None]:
    """Let the namespace enforce the PodSecurity level `restricted`."""
    cluster.kubectl("label", "namespace", NAMESPACE, f"{ENFORCE}=restricted")
    yield
    cluster.kubectl("label", "namespace", NAMESPACE, f"{ENFORCE}-")


def privileges(log: str) -> tuple[int, int, int, bool]:
    """Return the user, the group, the bounding set of capabilities, and whether more can be gained."""
    user, group, *rest = log.split("\n")
    fields = dict(line.split(":\t") for line in rest if ":\t" in line)
    return int(user), int(group), int(fields["CapBnd"], 16), fields["NoNewPrivs"] == "0"


def test_an_image_of_root_works_in_baseline_with_few_capabilities(cluster: Cluster) -> None:
    """It installs packages and becomes another user, but gains nothing (spec.md, P10)."""
    group = RealGroup(cluster)
    log = group.run(SHOW_PRIVILEGES, debian_image.AS_ROOT)
    expected = sum(1 << bit for bit in CAPABILITY_BITS.values())
    assert privileges(log) == (0, 0, expected, False)
    become = "setpriv --reuid=1000 --regid=100 --clear-groups id -un"
    work = f"touch a && chown jovyan a && {become}; {INSTALL.replace('sudo ', '')}"
    log = group.run(work, debian_image.AS_ROOT, phase="Failed")
    assert {"jovyan", "installed by apt"} <= {*log.splitlines()}


@pytest.mark.usefixtures("_restricted_namespace")
@pytest.mark.parametrize("url", [debian_image.AS_ROOT, debian_image.AS_JOVYAN, NOTEBOOK])
def test_every_image_runs_in_a_namespace_that_enforces_restricted(cluster: Cluster, url: str) -> None:
    """As the user of Jupyter's images, who can write to the working directory (spec.md, P10)."""
    group = RealGroup(cluster, securityProfile="restricted")
    log = group.run(f"echo kept > file && cat file; {SHOW_PRIVILEGES}", url)
    kept, _, shown = log.partition("\n")
    assert kept == "kept"
    assert privileges(shown) == (1000, 100, 0, False)


def test_sudo_apt_install_works_in_the_profile_sudo(cluster: Cluster) -> None:
    """The command is still jovyan's, with its environment and its exit code, as in PrimeHub."""
    group = RealGroup(cluster, securityProfile="sudo")
    command = f"export LD_LIBRARY_PATH=/opt/lib\n{INSTALL}"
    log = group.run(command, debian_image.AS_JOVYAN, phase="Failed")
    assert log.splitlines()[-3:] == ["installed by apt", "jovyan /home/jovyan /opt/lib root", "jovyan"]


def test_sudo_does_not_work_in_another_profile(cluster: Cluster) -> None:
    """The same image, in the default profile: no user may gain privileges."""
    log = RealGroup(cluster).run("sudo -n id -u && exit 1; id -un", debian_image.AS_JOVYAN)
    assert log.splitlines()[-1] == "jovyan"
    assert "no new privileges" in log


def test_a_command_of_the_profile_sudo_receives_sigterm(cluster: Cluster) -> None:
    """Process 1 belongs to root, and the command does not (spec.md, P15)."""
    group = RealGroup(cluster, securityProfile="sudo")
    script = "trap 'echo got TERM; sleep 3; exit 0' TERM; echo ready; while :; do sleep 1; done"
    name = group.submit(script, debian_image.AS_JOVYAN)
    logs = ("-n", NAMESPACE, "logs", name)
    eventually(lambda: "ready" in cluster.kubectl(*logs).stdout, "the command is ready", within=START_SECONDS)
    cluster.cancel(name)
    eventually(lambda: "got TERM" in cluster.kubectl(*logs).stdout, "the command has received the signal")
    cluster.wait_for_phase(name, "Cancelled")


@pytest.mark.parametrize(
    ("profile", "url"),
    [
        ("baseline", debian_image.AS_ROOT),
        ("restricted", debian_image.AS_JOVYAN),
        ("sudo", debian_image.AS_JOVYAN),
    ],
    ids=["baseline", "restricted", "sudo"],
)
def test_the_exit_code_of_the_main_program_counts_in_every_profile(
    cluster: Cluster, profile: str, url: str
) -> None:
    """Below a shell, the kernel shows it only to the user of the program (spec.md, P15)."""
    group = RealGroup(cluster, securityProfile=profile)
    program = "trap 'sleep 1; exit 7' TERM; echo ready; while :; do sleep 0.1; done"
    name = group.submit(f'sh -c "{program}"\necho NEXT', url)
    logs = ("-n", NAMESPACE, "logs", name)
    eventually(lambda: "ready" in cluster.kubectl(*logs).stdout, "the command is ready", within=START_SECONDS)
    cluster.kubectl("-n", NAMESPACE, "delete", "pod", name, "--wait=false")
    assert cluster.wait_for_phase(name, "Failed")["exitCode"] == 7


def test_the_values_of_a_dataset_reach_the_command_and_are_not_in_its_pod(cluster: Cluster) -> None:
    """Byte for byte, also under a name that no shell can use: bash passes it on (spec.md, P8)."""
    dataset = cluster.unique_name("db")
    password = "it's $HOME\n\n"
    cluster.create(an_object("Dataset", dataset, {"type": "env", "variables": {"password": password}}))
    group = RealGroup(cluster, datasets=[{"name": dataset}])
    dashed = f"{dataset}_password".upper()
    show = f"printf '[%s]' \"${dashed.replace('-', '_')}\"; env | grep -A2 '^{dashed}='"
    name = group.submit(show, NOTEBOOK_WITH_BASH)
    cluster.wait_for_phase(name, "Succeeded")
    pod = cluster.pod(name)
    assert pod
    assert "it's" not in str(pod.object)
    log = cluster.kubectl("-n", NAMESPACE, "logs", name).stdout
    assert log == f"[{password}]{dashed}={password}\n"
    cluster.kubectl("-n", NAMESPACE, "delete", "dataset", dataset)
    eventually(
        lambda: f"phjob-dataset-{dataset}" not in cluster.kubectl("-n", NAMESPACE, "get", "secrets").stdout,
        "the Secret is gone with its dataset",
    )


def test_a_pod_that_its_node_ends_at_its_own_deadline_is_over_its_deadline(cluster: Cluster) -> None:
    """The last resort while PhJob is down. The command ends gracefully, with exit code 0 (spec.md, P13)."""
    name = RealGroup(cluster).submit(
        "trap 'exit 0' TERM; while :; do sleep 1; done", activeDeadlineSeconds=3600
    )
    cluster.wait_for_phase(name, "Running", within=START_SECONDS)
    pod = cluster.pod(name)
    assert pod
    assert pod.object["spec"]["activeDeadlineSeconds"] == 3600 + 604800
    patch = ("patch", "pod", name, "--type=merge", "-p", '{"spec":{"activeDeadlineSeconds":1}}')
    assert cluster.kubectl("-n", NAMESPACE, *patch).returncode == 0
    status = cluster.wait_for_phase(name, "Failed")
    assert status["reason"] == "OverActiveDeadline"
    assert status["message"] == (
        "its pod was active longer than 1 s, the pod's own deadline, and Kubernetes ended it; "
        "exit code 0 (Completed)"
    )
    cluster.wait_for_pod_deletion(name)


def test_a_job_that_fills_the_disk_is_evicted(cluster: Cluster) -> None:
    """It has a limit, and the pods of others stay (spec.md, P4)."""
    group = RealGroup(cluster, limits={"limits.ephemeral-storage": "20Mi"})
    name = group.submit("dd if=/dev/zero of=/tmp/full bs=1M count=100; sleep 600")
    status = cluster.wait_for_phase(name, "Failed", within=START_SECONDS)
    pod = cluster.pod(name)
    assert pod
    assert pod.object["status"]["reason"] == status["reason"] == "Evicted"
    assert status["message"].startswith("Evicted: ")
    assert status["resources"]["ephemeral-storage"] == "20Mi"


ASSIGNED_ID = 1000680000
"""A number from the range that OpenShift gives to a namespace."""
ASSIGNED = "jobSubmission: {securityProfile: restricted, fixedIds: false}\n"
"""The settings that docs/operate.md has for namespaces that assign ids."""


@pytest.fixture
def cluster_that_assigns_ids(real_node: RealNode, archive: Path) -> Iterator[Cluster]:
    """Yield the cluster, whose jobs name no ids."""
    stack = real_node.start(log_archive_settings(archive) + ASSIGNED)
    debian_image.load(real_node.state)
    with cluster_on(stack) as cluster:
        yield cluster


def test_a_job_runs_with_the_ids_that_its_namespace_assigns(cluster_that_assigns_ids: Cluster) -> None:
    """It can write to its folder by the group. No image knows the user, so it has no name (spec.md, P10)."""
    cluster, number = cluster_that_assigns_ids, ASSIGNED_ID
    group = RealGroup(cluster)
    show = "id -u; id -G; stat -c '%u %g' . file; whoami 2>/dev/null || echo no name; echo $HOME"
    with assigned_ids(cluster, group.name, number):
        log = group.run(f"echo kept > file && cat file; {show}", debian_image.AS_JOVYAN)
    ids = [f"{number}", f"0 {number}", f"0 {number}", f"{number} {number}"]
    assert log.splitlines() == ["kept", *ids, "no name", "/home/jovyan"]
