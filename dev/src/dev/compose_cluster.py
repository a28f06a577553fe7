"""The cluster of docker-compose, in a container: a control plane and KWOK. `python -m dev.compose_cluster`.

The API server listens on all addresses of the container. The process runs until a signal. While the cluster
is up, there are three kubeconfigs: an administrator's for the host, and one for the containers of each of
watcher and pod-manager, with their own accounts. The data of the cluster outlives this process.
"""

import json
import os
import signal
import sys
import threading
from pathlib import Path

from dev.access import ADMIN, kubeconfig
from dev.component import ProcessRecord
from dev.kubectl import Kubectl
from dev.paths import StackPaths
from dev.pki import Pki
from dev.process import terminate
from dev.progress import print_line
from dev.rights import WITH_KUBERNETES, user
from dev.stack import Part, Stack

STATE = Path("/state")
FOR_HOST, FOR_CONTAINERS = Path("/host/kubeconfig"), Path("/credentials")
USERS = {FOR_HOST: ADMIN, **{FOR_CONTAINERS / f"{name}.kubeconfig": user(name) for name in WITH_KUBERNETES}}
"""Each kubeconfig that this process writes, and the user in it."""
NAME = "kubernetes"
"""The name of this container in its network, which is in the certificate of the API server."""
PORT = 6443
PARTS: tuple[Part, ...] = ("control-plane", "node")
GRACE_SECONDS = 8.0
CHECK_INTERVAL_SECONDS = 2.0


def main() -> int:
    """Run the cluster.

    Returns 0 after a signal, and 1 after a component has ended by itself.
    """
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    paths = StackPaths(STATE)
    paths.make()
    _delete_kubeconfigs()
    _fix_port(paths)
    stack = Stack(
        STATE,
        node="kwok",
        nodes=int(os.environ.get("NODES", "1")),
        parts=PARTS,
        capacity={"nvidia.com/gpu": os.environ.get("GPUS_PER_NODE", "0")},
        flags={"kube-apiserver": ["--bind-address=0.0.0.0"]},
    )
    stack.up()
    for file in USERS:
        _write_kubeconfig(file, paths)
    print_line("The cluster is up.")
    records = ProcessRecord.all(STATE)
    while not stop.wait(CHECK_INTERVAL_SECONDS):
        if ended := [record.name for record in records if record.process() is None]:
            print_line(f"The cluster stops, because these components ended: {', '.join(ended)}.")
            break
    _delete_kubeconfigs()
    terminate([process for record in records if (process := record.process())], GRACE_SECONDS)
    return 0 if stop.is_set() else 1


def _fix_port(paths: StackPaths) -> None:
    """Give the API server the port that the container exposes.

    The other ports are chosen as usual.
    """
    ports = json.loads(paths.ports.file.read_text()) if paths.ports.file.exists() else {}
    paths.ports.file.write_text(json.dumps({**ports, "kube-apiserver": PORT}))


def _delete_kubeconfigs() -> None:
    """Delete the kubeconfigs, because their existence means that the cluster is up."""
    for file in USERS:
        file.unlink(missing_ok=True)


def _write_kubeconfig(file: Path, paths: StackPaths) -> None:
    """Write a kubeconfig with its certificates, for the owner of its folder."""
    if not file.parent.is_dir():
        return
    address = f"127.0.0.1:{os.environ.get('PUBLISHED_PORT', PORT)}" if file == FOR_HOST else f"{NAME}:{PORT}"
    content = json.loads(kubeconfig(paths, Pki(paths.config / "pki"), USERS[file]))
    content["clusters"][0]["cluster"]["server"] = f"https://{address}"
    file.write_text(json.dumps(content))
    flat = Kubectl(file)("config", "view", "--raw", "--flatten", "--minify")
    file.write_text(flat)
    folder = file.parent.stat()
    os.chown(file, folder.st_uid, folder.st_gid)
    file.chmod(0o600 if file == FOR_HOST else 0o644)


if __name__ == "__main__":
    sys.exit(main())
