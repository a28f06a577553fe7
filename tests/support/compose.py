"""docker-compose.yml as a user runs it, but without a registry, and with ports of the test's own."""

import os
import subprocess
from pathlib import Path

from dev import docker_images
from dev.docker import Docker
from dev.paths import StackPaths
from dev.tools import COMPOSE, tools

ROOT = Path(__file__).parents[2]
FILES = ("docker-compose.yml", "docker-compose.ci.yml")
PORTS = ("KUBERNETES_PORT", "RABBITMQ_MANAGEMENT_PORT", "PROMETHEUS_PORT")
IMAGE = "phjob:0.1.0"
"""The services' image, as in .env."""
HEALTHY_TIMEOUT_SECONDS = 240
"""The time for the stack to become healthy, with slack for a busy machine."""


class Compose:
    """A compose project, with a folder for its kubeconfig."""

    def __init__(self, docker: Docker, folder: Path) -> None:
        """Prepare the folder, without starting anything."""
        self.docker = docker
        site = StackPaths(folder)
        site.make()
        self.folder = folder / "host"
        self.folder.mkdir()
        self.kubeconfig = self.folder / "kubeconfig"
        self.ports = {name: str(site.ports[name]) for name in PORTS}

    def __call__(self, *args: str, files: tuple[str, ...] = FILES) -> str:
        """Run `docker compose ARGS`, which must succeed. Returns its output."""
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
        assert done.returncode == 0, (
            f"{done.stdout[-3000:]}{done.stderr[-3000:]}\n{self._describe_containers(env)}"
        )
        return done.stdout

    def up(self) -> None:
        """Run `docker compose up --wait`."""
        self("up", "--wait", f"--wait-timeout={HEALTHY_TIMEOUT_SECONDS}")

    def _describe_containers(self, env: dict[str, str]) -> str:
        """Return the status of the containers and the ends of their logs."""
        statuses = subprocess.run(
            [self.docker.program, "ps", "--all", "--format={{.Names}}: {{.Status}}"],
            env=env, capture_output=True, text=True, check=False,
        ).stdout  # fmt: skip
        command = [str(tools(COMPOSE) / "docker-compose"), "logs", "--tail=20"]
        logs = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False).stdout
        return f"{statuses}\n{logs[-6000:]}"
