"""docker-compose.yml as a person runs it, where no registry is in reach; its ports are a test's own."""

import os
import subprocess
from pathlib import Path

from dev import docker_images
from dev.docker import Docker
from dev.site import Site
from dev.tools import COMPOSE, tools

ROOT = Path(__file__).parents[2]
FILES = ("docker-compose.yml", "docker-compose.ci.yml")
PORTS = ("KUBERNETES_PORT", "RABBITMQ_MANAGEMENT_PORT", "PROMETHEUS_PORT")
IMAGE = "phjob:0.1.0"
"""The services', by .env."""
WITHIN = 240
"""Seconds until the stack has to be healthy; generous, for a busy machine."""


class Compose:
    """The compose project of one folder, in which also the kubeconfig will be."""

    def __init__(self, docker: Docker, folder: Path) -> None:
        """Starts nothing."""
        self.docker = docker
        site = Site(folder)
        site.make()
        self.folder = folder / "host"
        self.folder.mkdir()
        self.kubeconfig = self.folder / "kubeconfig"
        self.ports = {name: str(site.ports[name]) for name in PORTS}

    def __call__(self, *args: str, files: tuple[str, ...] = FILES) -> str:
        """The output of `docker compose ARGS`; it must succeed."""
        command = [
            str(tools(COMPOSE) / "docker-compose"),
            *(f"--file={ROOT / file}" for file in files),
            *args,
        ]
        env = {
            "PATH": os.environ["PATH"],
            "HOME": os.environ.get("HOME", "/"),
            "DOCKER_HOST": self.docker.host,
            "LOCAL_FOLDER": str(self.folder),
            **docker_images.ENVIRONMENT,
            **self.ports,
        }
        done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{done.stdout[-3000:]}{done.stderr[-3000:]}\n{self._states(env)}"
        return done.stdout

    def up(self) -> None:
        """Do `docker compose up --wait`."""
        self("up", "--wait", f"--wait-timeout={WITHIN}")

    def _states(self, env: dict[str, str]) -> str:
        """What the containers have said last, for a person."""
        names = subprocess.run(
            [self.docker.program, "ps", "--all", "--format={{.Names}}: {{.Status}}"],
            env=env, capture_output=True, text=True, check=False,
        ).stdout  # fmt: skip
        logs = [str(tools(COMPOSE) / "docker-compose"), "logs", "--tail=20"]
        said = subprocess.run(logs, cwd=ROOT, env=env, capture_output=True, text=True, check=False).stdout
        return f"{names}\n{said[-6000:]}"
