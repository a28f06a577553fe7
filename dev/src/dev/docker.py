"""A private Docker daemon, which shares no socket, data or process with another one.

It does not change the firewall of the host. It needs root, like every Docker daemon. `docker_images` loads
its images.
"""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from dev import leftovers
from dev.component import Component, Spec, mark
from dev.containerd import bridge
from dev.debian import DOCKER_PACKAGES, require
from dev.errors import DevError
from dev.paths import StackPaths
from dev.process import find_marked, kill

GRACE_SECONDS = 30.0


class Docker:
    """The Docker daemon of one STATE, and its command line. As a context manager, it starts and stops it."""

    def __init__(self, state: Path) -> None:
        self._paths = paths = StackPaths(state)
        # The path of a socket must be short.
        self.host = f"unix://{paths.node_run / 'docker.sock'}"
        config = paths.config / "docker.json"
        # Without a subnet of its own, the bridge of a second daemon would conflict with the first one's.
        subnet = 128 + int(paths.id, 16) % 127
        self._address = f"172.31.{subnet}.1/24"
        argv = [
            "/usr/sbin/dockerd",
            f"--host={self.host}",
            f"--config-file={config}",
            f"--data-root={paths.node_data / 'docker'}",
            f"--exec-root={paths.node_run / 'docker'}",
            f"--pidfile={paths.node_run / 'docker.pid'}",
            f"--bridge={bridge(paths)}",
            "--default-address-pool=base=172.31.0.0/17,size=24",
            # A proxy process publishes the ports, on loopback only. The firewall stays unchanged.
            "--iptables=false",
            "--ip-masq=false",
            "--ip=127.0.0.1",
        ]
        env = {"PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"}
        self._component = Component(
            paths.state, Spec("dockerd", argv, env=env, files={config: "{}"}, ready=self._is_answering)
        )

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def __call__(self, *args: str, env: Mapping[str, str] | None = None) -> str:
        """Run `docker ARGS`. Returns its standard output.

        Raises:
            DevError: it failed. The message has the end of its output.

        """
        done = self._run(*args, env=env)
        if done.returncode != 0:
            raise DevError(f"docker {' '.join(args)}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
        return done.stdout

    def logs(self, container: str) -> str:
        """Return the end of the container's log: standard output, then standard error."""
        done = self._run("logs", "--tail=50", container)
        return done.stdout + done.stderr

    @property
    def program(self) -> str:
        """The path of Docker's command line, which the package of the daemon contains."""
        return "/usr/bin/docker"

    def start(self) -> None:
        """Start the daemon, and wait until it answers."""
        require(DOCKER_PACKAGES)
        self._paths.make()
        self._paths.node_run.mkdir(parents=True, exist_ok=True)
        name = bridge(self._paths)
        for command in (
            ("link", "add", name, "type", "bridge"),
            ("address", "add", self._address, "dev", name),
            ("link", "set", name, "up"),
        ):
            done = subprocess.run(["ip", *command], capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise DevError(f"ip {' '.join(command)}: {done.stderr.strip()}")
        self._component.start()
        self._component.wait_ready()

    def stop(self) -> None:
        """End the daemon and its containers, and delete its data."""
        self._component.stop(GRACE_SECONDS)
        for name, value in mark(self._paths.state).items():
            kill(find_marked(f"{name}={value}"))
        leftovers.remove(self._paths)

    def _run(self, *args: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        command = [self.program, f"--host={self.host}", *args]
        environment = {**os.environ, **(env or {})}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    def _is_answering(self) -> bool:
        try:
            self("version")
        except DevError:
            return False
        return True
