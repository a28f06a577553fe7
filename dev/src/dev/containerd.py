"""The container runtime of the real node: a private containerd with the images of `image`.

It does not disturb another containerd. Its folders, sockets, bridge and cgroups contain the stack's id, by
which `leftovers` removes them.
"""

import json
import os
import platform
import subprocess
import tempfile
from pathlib import Path

from dev import image
from dev.component import Spec
from dev.debian import installed_file
from dev.errors import DevError
from dev.paths import StackPaths

# containerd's namespace for the kubelet's containers. Their cgroups have the same name.
NAMESPACE = "k8s.io"
CNI_VERSION = "1.0.0"
# The host has no address on the bridge. Therefore pods reach only each other, the routes and the firewall of
# the host stay unchanged, and all stacks can use the same addresses.
POD_CIDR = "10.244.0.0/16"
# The architectures by Go's names, which images use.
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def containerd(paths: StackPaths, programs: Path) -> Spec:
    """Return the spec of containerd, with the CRI plugin that the kubelet uses."""
    config = paths.config / "containerd.toml"
    files = {config: _config(paths), paths.config / "cni" / "phjob.conflist": _network(paths)}
    argv = [f"{programs}/containerd", f"--config={config}"]
    # containerd finds its shim in this PATH.
    env = {"PATH": f"{programs}:{os.environ.get('PATH', '')}:/usr/sbin:/sbin"}
    return Spec("containerd", argv, env=env, files=files, ready=lambda: _is_answering(paths, programs))


def load_images(paths: StackPaths, programs: Path) -> None:
    """Import the images of `image`, unless containerd has them."""
    if set(_ctr(paths, programs, "images", "list", "--quiet").split()) >= image.ALL:
        return
    busybox, bash = installed_file("busybox-static"), installed_file("bash-static")
    if busybox is None or bash is None:
        raise DevError("no static busybox or bash; install the packages busybox-static and bash-static")
    applets = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split()
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder, "images.tar")
        image.write_archive(
            archive, busybox, applets, bash, ARCHITECTURES.get(platform.machine(), platform.machine())
        )
        # containerd unpacks an image when a container needs it, with the snapshotter of the configuration.
        _ctr(paths, programs, "images", "import", "--no-unpack", str(archive))


def socket(paths: StackPaths) -> Path:
    """Return the path of containerd's socket."""
    return paths.node_run / "containerd.sock"


def bridge(paths: StackPaths) -> str:
    """Return the name of the bridge, which may have at most 15 characters."""
    return f"phj-{paths.id}"


def _is_answering(paths: StackPaths, programs: Path) -> bool:
    try:
        _ctr(paths, programs, "version")
    except DevError:
        return False
    return True


def _ctr(paths: StackPaths, programs: Path, *args: str) -> str:
    command = [f"{programs}/ctr", f"--address={socket(paths)}", f"--namespace={NAMESPACE}", *args]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise DevError(f"ctr {' '.join(args)}: {done.stderr.strip()}")
    return done.stdout


def _config(paths: StackPaths) -> str:
    """Return containerd's configuration. A string in TOML is written as in JSON."""
    runc = installed_file("runc")
    cni_bin = installed_file("containernetworking-plugins")
    return f"""\
version = 3
root = {json.dumps(str(paths.node_data / "containerd"))}
state = {json.dumps(str(paths.node_run / "containerd"))}

[grpc]
address = {json.dumps(str(socket(paths)))}

[plugins.'io.containerd.cri.v1.images']
# This snapshotter works on every file system, also on an overlay. It is slow, but the images are small.
snapshotter = 'native'

[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = {json.dumps(image.PAUSE)}

[plugins.'io.containerd.cri.v1.runtime']
# Without this, runc could start no container on a machine where root may not lower its own OOM score.
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true

[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = [{json.dumps(str(cni_bin.parent if cni_bin else ""))}]
conf_dir = {json.dumps(str(paths.config / "cni"))}
use_internal_loopback = true

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
runtime_type = 'io.containerd.runc.v2'

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
BinaryName = {json.dumps(str(runc))}
Root = {json.dumps(str(paths.node_run / "runc"))}

[plugins.'io.containerd.grpc.v1.cri']
stream_server_address = '127.0.0.1'
"""


def _network(paths: StackPaths) -> str:
    plugin = {
        "type": "bridge",
        "bridge": bridge(paths),
        "ipam": {
            "type": "host-local",
            "dataDir": str(paths.node_data / "cni"),
            "ranges": [[{"subnet": POD_CIDR}]],
        },
    }
    return json.dumps({"cniVersion": CNI_VERSION, "name": paths.network, "plugins": [plugin]}, indent=2)
