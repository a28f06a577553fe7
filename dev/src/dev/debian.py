"""System packages: which are missing, and installing them where that is possible (Debian, root).

Starts no service: Debian's packages would start one each, and this stack runs its own processes.
"""

import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dev.cache import cache_dir, locked
from dev.errors import DevError
from dev.progress import working

# Debian's package -> a file that shows it is there, by whatever means it came.
PROOF = {
    "rabbitmq-server": ("/usr/lib/rabbitmq/bin/rabbitmq-server",),
    "runc": ("/usr/sbin/runc", "/usr/bin/runc"),
    "containernetworking-plugins": ("/usr/lib/cni/bridge",),
    "busybox-static": ("/usr/bin/busybox", "/bin/busybox"),
    "bash-static": ("/usr/bin/bash-static", "/bin/bash-static"),
    "prometheus": ("/usr/bin/prometheus",),
    "docker.io": ("/usr/sbin/dockerd",),
    "iptables": ("/usr/sbin/iptables",),
    "debootstrap": ("/usr/sbin/debootstrap",),
    "iproute2": ("/usr/sbin/ip", "/sbin/ip", "/usr/bin/ip"),
}
RABBITMQ_PACKAGES = ("rabbitmq-server",)
PROMETHEUS_PACKAGES = ("prometheus",)
REAL_NODE_PACKAGES = ("runc", "containernetworking-plugins", "busybox-static", "bash-static", "iproute2")
DOCKER_PACKAGES = ("docker.io", "iptables", "debootstrap", "iproute2")

POLICY = Path("/usr/sbin/policy-rc.d")
POLICY_TEXT = "#!/bin/sh\n# Put here by PhJob while it installs packages: start no service.\nexit 101\n"
OTHER_INSTALLER_SECONDS = 600


def found(package: str) -> Path | None:
    """The file that proves the package is there."""
    for name in PROOF[package]:
        path = Path(name)
        if path.exists() and not (package == "busybox-static" and _is_dynamic(path)):
            return path
    return None


def require(packages: Iterable[str]) -> None:
    """Install what is missing, or say what to install."""
    if not _missing(packages):
        return
    with locked(cache_dir() / "packages.lock", busy="installs packages"):
        missing = _missing(packages)
        if missing:
            _install(missing)
            if still := _missing(missing):
                raise DevError(f"installed, yet not found: {', '.join(still)}")


def _missing(packages: Iterable[str]) -> list[str]:
    return [package for package in packages if found(package) is None]


def _is_dynamic(binary: Path) -> bool:
    """Whether it names a loader (near its start), which no image of ours has."""
    with binary.open("rb") as file:
        return b"/ld-" in file.read(4096)


def _install(packages: list[str]) -> None:
    apt = shutil.which("apt-get")
    if apt is None or os.geteuid() != 0:
        who = "only root can install them" if apt else "this system has no apt-get"
        raise DevError(
            f"missing: {', '.join(packages)} (names of Debian's packages), and {who}.\n"
            f"As root on Debian or Ubuntu: apt-get install {' '.join(packages)}"
        )
    with _no_services(), working(f"installing {', '.join(packages)}"):
        install = [apt, "install", "--yes", "--no-install-recommends", *packages]
        if _apt(install).returncode == 0:
            return
        # A fresh machine has no package lists, an old one outdated lists.
        updated = _apt([apt, "update"])
        installed = _apt(install)
    if installed.returncode != 0:
        raise DevError(
            f"apt-get could not install {' '.join(packages)}:\n"
            f"{updated.stderr.strip()}\n{installed.stdout[-2000:]}\n{installed.stderr.strip()}"
        )


def _apt(command: list[str]) -> subprocess.CompletedProcess[str]:
    options = ["-o", f"DPkg::Lock::Timeout={OTHER_INSTALLER_SECONDS}"]
    return subprocess.run(
        [*command, *options],
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


@contextmanager
def _no_services() -> Iterator[None]:
    """Debian's own switch against starting services; one of the administrator's is left alone."""
    ours = not POLICY.exists() or POLICY.read_text(errors="replace") == POLICY_TEXT
    if ours:
        POLICY.write_text(POLICY_TEXT)
        POLICY.chmod(0o755)
    try:
        yield
    finally:
        if ours:
            POLICY.unlink(missing_ok=True)
