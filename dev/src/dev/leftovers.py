"""What a real node leaves on the host once its processes are killed, and removing it.

Containers, mounts, network namespaces, cgroups, a bridge: all found by the stack's id, so that
nothing of another stack is touched, and no earlier state has to be known.
"""

import json
import shutil
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from dev.containerd import NAMESPACE, bridge
from dev.errors import DevError
from dev.process import PROC, kill, process_of
from dev.site import Site

CGROUPS = Path("/sys/fs/cgroup")
CNI_RESULTS = Path("/var/lib/cni/results")
LOG_LINKS = Path("/var/log/containers")
SECONDS = 20.0
POLL_SECONDS = 0.05


def remove(site: Site) -> None:
    """Remove everything of this stack's node; its kubelet, containerd and shims have ended."""
    if not site.node_data.exists() and not site.node_run.exists():
        return
    tasks = list(site.node_run.glob(f"containerd/io.containerd.runtime.v2.task/{NAMESPACE}/*"))
    _remove_cgroups(tasks)
    _remove_shim_sockets(tasks)
    for point in _mounts(site):
        subprocess.run(["umount", "--lazy", point], capture_output=True, check=False)
    if still := _mounts(site):
        raise DevError(f"can't unmount, so nothing below is deleted: {', '.join(still)}")
    if Path("/sys/class/net", bridge(site)).exists():
        subprocess.run(["ip", "link", "delete", bridge(site)], capture_output=True, check=False)
    for file in (*CNI_RESULTS.glob(f"{site.network}-*"), *_log_links(site)):
        file.unlink(missing_ok=True)
    for folder in (site.node_data, site.node_run):
        shutil.rmtree(folder, ignore_errors=True)
    # What all stacks share goes with the last of them.
    for folder in (site.node_run.parent, site.node_data.parent):
        with suppress(OSError):
            folder.rmdir()
    if not site.node_data.parent.exists():
        _remove_empty_cgroups()


def _remove_cgroups(tasks: list[Path]) -> None:
    """Kill what runs in the containers and remove their cgroups."""
    deadline = time.monotonic() + SECONDS
    # cgroup v2 has one tree, v1 one for each controller.
    names = [f"{NAMESPACE}/{task.name}" for task in tasks]
    while groups := [
        group for name in names for group in (CGROUPS / name, *CGROUPS.glob(f"*/{name}")) if group.exists()
    ]:
        if time.monotonic() > deadline:
            raise DevError(f"still in use after {SECONDS:.0f} s: {', '.join(map(str, groups))}")
        for group in groups:
            with suppress(OSError):  # Busy for a moment after the last process has ended.
                pids = (group / "cgroup.procs").read_text().split()
                kill(process for pid in pids if (process := process_of(int(pid))))
                group.rmdir()
        time.sleep(POLL_SECONDS)


def _remove_empty_cgroups() -> None:
    for group in (CGROUPS / NAMESPACE, *CGROUPS.glob(f"*/{NAMESPACE}")):
        with suppress(OSError):
            group.rmdir()


def _remove_shim_sockets(tasks: list[Path]) -> None:
    """They lie in a folder that all containerds share; each task's own folder says which is its."""
    for task in tasks:
        with suppress(FileNotFoundError):
            address = json.loads((task / "bootstrap.json").read_text())["address"]
            Path(address.removeprefix("unix://")).unlink()


def _mounts(site: Site) -> list[str]:
    """Mount points in our folders, the inner ones first."""
    points = [line.split()[4] for line in (PROC / "self/mountinfo").read_text().splitlines()]
    ours = (f"{site.node_data}/", f"{site.node_run}/")
    return [point for point in reversed(points) if point.startswith(ours)]


def _log_links(site: Site) -> list[Path]:
    """The kubelet's, to the logs in our folder: where they lie is fixed in it."""
    links = (link for link in LOG_LINKS.glob("*.log") if link.is_symlink())
    return [link for link in links if link.readlink().is_relative_to(site.node_data)]
