"""The removal of what a stack leaves on the host after its processes were killed.

A real node leaves containers, mounts, network namespaces, cgroups and a bridge. Tests that limit the memory
of services leave a cgroup for each. All of them are found by the stack's id, so that other stacks are not
touched, and no state has to be stored.
"""

import json
import shutil
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from dev.containerd import NAMESPACE, bridge
from dev.errors import DevError
from dev.paths import StackPaths
from dev.process import PROC, find_process, kill

CGROUPS = Path("/sys/fs/cgroup")
CNI_RESULTS = Path("/var/lib/cni/results")
LOG_LINKS = Path("/var/log/containers")
CGROUP_TIMEOUT_SECONDS = 20.0
POLL_SECONDS = 0.05


def memory_group_prefix(paths: StackPaths) -> str:
    """Return the beginning of the names of the cgroups that limit the memory of this stack's services."""
    return f"phjob-{paths.id}-"


def remove(paths: StackPaths) -> None:
    """Remove everything of this stack, whose processes have ended.

    Raises:
        DevError: a cgroup is still in use, or a mount point cannot be unmounted.

    """
    _remove_cgroups([f"{memory_group_prefix(paths)}*"])
    if not paths.node_data.exists() and not paths.node_run.exists():
        return
    tasks = list(paths.node_run.glob(f"containerd/io.containerd.runtime.v2.task/{NAMESPACE}/*"))
    _remove_cgroups([f"{NAMESPACE}/{task.name}" for task in tasks])
    _remove_shim_sockets(tasks)
    for point in _mounts(paths):
        subprocess.run(["umount", "--lazy", point], capture_output=True, check=False)
    if still := _mounts(paths):
        raise DevError(f"cannot unmount, so the folders stay: {', '.join(still)}")
    if Path("/sys/class/net", bridge(paths)).exists():
        subprocess.run(["ip", "link", "delete", bridge(paths)], capture_output=True, check=False)
    for file in (*CNI_RESULTS.glob(f"{paths.network}-*"), *_log_links(paths)):
        file.unlink(missing_ok=True)
    for folder in (paths.node_data, paths.node_run):
        shutil.rmtree(folder, ignore_errors=True)
    # The last stack removes what all stacks share.
    for folder in (paths.node_run.parent, paths.node_data.parent):
        with suppress(OSError):
            folder.rmdir()
    if not paths.node_data.parent.exists():
        _remove_empty_cgroups()


def _remove_cgroups(patterns: list[str]) -> None:
    """Remove the cgroups whose names match, and kill the processes that are still in them."""
    deadline = time.monotonic() + CGROUP_TIMEOUT_SECONDS
    # cgroup v2 has one tree, and v1 has one for each controller.
    while groups := [
        group for pattern in patterns for group in (*CGROUPS.glob(pattern), *CGROUPS.glob(f"*/{pattern}"))
    ]:
        if time.monotonic() > deadline:
            names_in_use = ", ".join(map(str, groups))
            raise DevError(f"cgroups are still in use after {CGROUP_TIMEOUT_SECONDS:.0f} s: {names_in_use}")
        for group in groups:
            with suppress(OSError):  # A cgroup is busy for a moment after its last process has ended.
                pids = (group / "cgroup.procs").read_text().split()
                kill(process for pid in pids if (process := find_process(int(pid))))
                group.rmdir()
        time.sleep(POLL_SECONDS)


def _remove_empty_cgroups() -> None:
    for group in (CGROUPS / NAMESPACE, *CGROUPS.glob(f"*/{NAMESPACE}")):
        with suppress(OSError):
            group.rmdir()


def _remove_shim_sockets(tasks: list[Path]) -> None:
    """Delete the sockets of these tasks' shims.

    They are in a folder that every containerd uses. The folder of each task has the path of its socket.
    """
    for task in tasks:
        with suppress(FileNotFoundError):
            address = json.loads((task / "bootstrap.json").read_text())["address"]
            Path(address.removeprefix("unix://")).unlink()


def _mounts(paths: StackPaths) -> list[str]:
    """Return the mount points in the stack's folders, inner ones first."""
    points = [line.split()[4] for line in (PROC / "self/mountinfo").read_text().splitlines()]
    ours = (f"{paths.node_data}/", f"{paths.node_run}/")
    return [point for point in reversed(points) if point.startswith(ours)]


def _log_links(paths: StackPaths) -> list[Path]:
    """Return the kubelet's links to logs in the stack's folder.

    The kubelet has a fixed folder for them.
    """
    links = (link for link in LOG_LINKS.glob("*.log") if link.is_symlink())
    return [link for link in links if link.readlink().is_relative_to(paths.node_data)]
