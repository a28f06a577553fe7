"""A Docker daemon of our own, beside any other: its socket, data and processes are its own.

It leaves the host's firewall alone. Needs root, as every Docker daemon does. Which images it holds is
for `docker_images`.
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
from dev.process import kill, marked
from dev.site import Site

GRACE_SECONDS = 30.0


class Docker:
    """The daemon of one STATE, and its command line; as a context manager it runs inside."""

    def __init__(self, state: Path) -> None:
        """Starts nothing."""
        self._site = site = Site(state)
        # A socket's path is short.
        self.host = f"unix://{site.node_run / 'docker.sock'}"
        config = site.config / "docker.json"
        # Each daemon's bridge has addresses of its own, and its networks others.
        part = 128 + int(site.id, 16) % 127
        self._address = f"172.31.{part}.1/24"
        argv = [
            "/usr/sbin/dockerd",
            f"--host={self.host}",
            f"--config-file={config}",
            f"--data-root={site.node_data / 'docker'}",
            f"--exec-root={site.node_run / 'docker'}",
            f"--pidfile={site.node_run / 'docker.pid'}",
            f"--bridge={bridge(site)}",
            "--default-address-pool=base=172.31.0.0/17,size=24",
            # Ports are published by a process of the daemon's, and only where they are said to be.
            "--iptables=false",
            "--ip-masq=false",
            "--ip=127.0.0.1",
        ]
        env = {"PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"}
        self._component = Component(
            site.state, Spec("dockerd", argv, env=env, files={config: "{}"}, ready=self._answers)
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
        """The output of `docker ARGS`; DevError with what it said if it fails."""
        done = self._run(*args, env=env)
        if done.returncode != 0:
            raise DevError(f"docker {' '.join(args)}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
        return done.stdout

    def logs(self, container: str) -> str:
        """The end of what the container has said, on whichever of its two ways."""
        done = self._run("logs", "--tail=50", container)
        return done.stdout + done.stderr

    @property
    def program(self) -> str:
        """Docker's command line, of the daemon's package."""
        return "/usr/bin/docker"

    def start(self) -> None:
        """Start the daemon and wait until it answers."""
        require(DOCKER_PACKAGES)
        self._site.make()
        self._site.node_run.mkdir(parents=True, exist_ok=True)
        name = bridge(self._site)
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
        """End the daemon, its containers, and all that it has stored."""
        self._component.stop(GRACE_SECONDS)
        for name, value in mark(self._site.state).items():
            kill(marked(f"{name}={value}"))
        leftovers.remove(self._site)

    def _run(self, *args: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        command = [self.program, f"--host={self.host}", *args]
        environment = {**os.environ, **(env or {})}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    def _answers(self) -> bool:
        try:
            self("version")
        except DevError:
            return False
        return True
