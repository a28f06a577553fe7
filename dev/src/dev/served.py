"""The control plane and KWOK's nodes in a container, for docker-compose: `python -m dev.served`.

It listens on all addresses of the container and runs until it is told to stop. A kubeconfig for the host
and one for the other containers are there as long as the cluster is up. What it stores outlives it.
"""

import json
import os
import signal
import sys
import threading
from pathlib import Path

from dev.access import ADMIN, kubeconfig
from dev.component import Record
from dev.kubectl import Kubectl
from dev.pki import Pki
from dev.process import end
from dev.progress import say
from dev.site import Site
from dev.stack import Part, Stack

STATE = Path("/state")
FOR_HOST, FOR_CONTAINERS = Path("/host/kubeconfig"), Path("/credentials/kubeconfig")
NAME = "kubernetes"
"""Of this container in its network; the API server's certificate has it."""
PORT = 6443
PARTS: tuple[Part, ...] = ("control-plane", "node")
GRACE_SECONDS = 8.0
LOOK_SECONDS = 2.0


def main() -> int:
    """Run until a signal (0) or until a component has ended by itself (1)."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    site = Site(STATE)
    site.make()
    _withdraw()
    _fix_port(site)
    stack = Stack(
        STATE,
        node="kwok",
        nodes=int(os.environ.get("NODES", "1")),
        parts=PARTS,
        capacity={"nvidia.com/gpu": os.environ.get("GPUS_PER_NODE", "0")},
        flags={"kube-apiserver": ["--bind-address=0.0.0.0"]},
    )
    stack.up()
    for file, server in (
        (FOR_HOST, f"https://127.0.0.1:{os.environ.get('PUBLISHED_PORT', PORT)}"),
        (FOR_CONTAINERS, f"https://{NAME}:{PORT}"),
    ):
        _write(file, site, server)
    say("The cluster is up.")
    records = Record.all(STATE)
    while not stop.wait(LOOK_SECONDS):
        if dead := [record.name for record in records if record.process() is None]:
            say(f"{', '.join(dead)} ended")
            break
    _withdraw()
    end([process for record in records if (process := record.process())], GRACE_SECONDS)
    return 0 if stop.is_set() else 1


def _fix_port(site: Site) -> None:
    """Let the API server listen where the container says; the other ports are free ones, as anywhere."""
    ports = json.loads(site.ports.file.read_text()) if site.ports.file.exists() else {}
    site.ports.file.write_text(json.dumps({**ports, "kube-apiserver": PORT}))


def _withdraw() -> None:
    """Let nobody believe that the cluster is up."""
    for file in (FOR_HOST, FOR_CONTAINERS):
        file.unlink(missing_ok=True)


def _write(file: Path, site: Site, server: str) -> None:
    """Write the administrator's kubeconfig with all that it refers to, for the owner of its folder."""
    if not file.parent.is_dir():
        return
    content = json.loads(kubeconfig(site, Pki(site.config / "pki"), ADMIN))
    content["clusters"][0]["cluster"]["server"] = server
    file.write_text(json.dumps(content))
    flat = Kubectl(file)("config", "view", "--raw", "--flatten", "--minify")
    file.write_text(flat)
    folder = file.parent.stat()
    os.chown(file, folder.st_uid, folder.st_gid)
    file.chmod(0o644 if file == FOR_CONTAINERS else 0o600)


if __name__ == "__main__":
    sys.exit(main())
