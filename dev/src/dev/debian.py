"""System packages: the check for missing ones, and their installation (as root, on Debian and Ubuntu).

A package's own service is not started, because the stack runs its own processes.
"""

import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dev.cache import cache_dir, locked
from dev.errors import DevError
from dev.progress import show_progress

# Each Debian package, and files that show that it is installed, by whatever means.
MARKER_FILES = {
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


def installed_file(package: str) -> Path | None:
    """Return the file that shows that the package is installed; None if it is not."""
    for name in MARKER_FILES[package]:
        path = Path(name)
        if path.exists() and not (package == "busybox-static" and _is_dynamic(path)):
            return path
    return None


def require(packages: Iterable[str]) -> None:
    """Install the packages that are missing.

    Raises:
        DevError: they cannot be installed here. The message has the command to install them.

    """
    if not _missing(packages):
        return
    with locked(cache_dir() / "packages.lock", busy="installs packages"):
        missing = _missing(packages)
        if missing:
            _install(missing)
            if still := _missing(missing):
                raise DevError(
                    f"no file of these packages was found after their installation: {', '.join(still)}"
                )


def _missing(packages: Iterable[str]) -> list[str]:
    return [package for package in packages if installed_file(package) is None]


def _is_dynamic(binary: Path) -> bool:
    """Return whether the program needs a dynamic loader.

    The images of `image` have none. Its name is near the start of the file.
    """
    with binary.open("rb") as file:
        return b"/ld-" in file.read(4096)


def _install(packages: list[str]) -> None:
    apt = shutil.which("apt-get")
    if apt is None or os.geteuid() != 0:
        cause = "only root can install them" if apt else "this system has no apt-get"
        raise DevError(
            f"missing Debian packages: {', '.join(packages)}; {cause}.\n"
            f"As root on Debian or Ubuntu: apt-get install {' '.join(packages)}"
        )
    with _no_services(), show_progress(f"installing {', '.join(packages)}"):
        install = [apt, "install", "--yes", "--no-install-recommends", *packages]
        if _apt(install).returncode == 0:
            return
        # A new machine has no package lists, and an old one has outdated lists.
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
    """Keep Debian's packages from starting a service, by a policy file.

    An administrator's own policy file stays unchanged.
    """
    ours = not POLICY.exists() or POLICY.read_text(errors="replace") == POLICY_TEXT
    if ours:
        POLICY.write_text(POLICY_TEXT)
        POLICY.chmod(0o755)
    try:
        yield
    finally:
        if ours:
            POLICY.unlink(missing_ok=True)
