"""The real node's container runtime: a containerd of our own beside any other, with our two images.

Its folders, sockets, bridge and cgroups carry the stack's id; `leftovers` removes them by that.
"""

import json
import os
import platform
import subprocess
import tempfile
from pathlib import Path

from dev import image
from dev.component import Spec
from dev.debian import found
from dev.errors import DevError
from dev.site import Site

# Where containerd keeps what the kubelet asks for; their cgroups have the same name.
NAMESPACE = "k8s.io"
CNI_VERSION = "1.0.0"
# A bridge without an address of the host: pods reach each other and nothing else, and the host's
# routes, firewall and forwarding stay as they are. So all stacks may use the same addresses.
POD_CIDR = "10.244.0.0/16"
# Go's names, which images use.
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def containerd(site: Site, programs: Path) -> Spec:
    """The runtime, with the CRI that the kubelet talks to."""
    config = site.config / "containerd.toml"
    files = {config: _config(site), site.config / "cni" / "phjob.conflist": _network(site)}
    argv = [f"{programs}/containerd", f"--config={config}"]
    env = {"PATH": f"{programs}:{os.environ.get('PATH', '')}:/usr/sbin:/sbin"}  # It looks for its shim there.
    return Spec("containerd", argv, env=env, files=files, ready=lambda: _answers(site, programs))


def load_images(site: Site, programs: Path) -> None:
    """Import our images, unless they are there."""
    if set(_ctr(site, programs, "images", "list", "--quiet").split()) >= image.ALL:
        return
    busybox, bash = found("busybox-static"), found("bash-static")
    if busybox is None or bash is None:
        raise DevError("no static busybox or bash: install busybox-static and bash-static")
    applets = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split()
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder, "images.tar")
        image.write_archive(
            archive, busybox, applets, bash, ARCHITECTURES.get(platform.machine(), platform.machine())
        )
        # Unpacked when a container needs it, by the snapshotter that it needs.
        _ctr(site, programs, "images", "import", "--no-unpack", str(archive))


def socket(site: Site) -> Path:
    """Where it listens."""
    return site.node_run / "containerd.sock"


def bridge(site: Site) -> str:
    """The name of its bridge; an interface's name has 15 characters at most."""
    return f"phj-{site.id}"


def _answers(site: Site, programs: Path) -> bool:
    try:
        _ctr(site, programs, "version")
    except DevError:
        return False
    return True


def _ctr(site: Site, programs: Path, *args: str) -> str:
    command = [f"{programs}/ctr", f"--address={socket(site)}", f"--namespace={NAMESPACE}", *args]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise DevError(f"ctr {' '.join(args)}: {done.stderr.strip()}")
    return done.stdout


def _config(site: Site) -> str:
    """In TOML, whose strings are written as JSON writes them."""
    runc = found("runc")
    cni_bin = found("containernetworking-plugins")
    return f"""\
version = 3
root = {json.dumps(str(site.node_data / "containerd"))}
state = {json.dumps(str(site.node_run / "containerd"))}

[grpc]
address = {json.dumps(str(socket(site)))}

[plugins.'io.containerd.cri.v1.images']
# Works on every file system, an overlay included; our images are small.
snapshotter = 'native'

[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = {json.dumps(image.PAUSE)}

[plugins.'io.containerd.cri.v1.runtime']
# Where root may not lower its own score, runc could start no container otherwise.
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true

[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = [{json.dumps(str(cni_bin.parent if cni_bin else ""))}]
conf_dir = {json.dumps(str(site.config / "cni"))}
use_internal_loopback = true

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
runtime_type = 'io.containerd.runc.v2'

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
BinaryName = {json.dumps(str(runc))}
Root = {json.dumps(str(site.node_run / "runc"))}

[plugins.'io.containerd.grpc.v1.cri']
stream_server_address = '127.0.0.1'
"""


def _network(site: Site) -> str:
    plugin = {
        "type": "bridge",
        "bridge": bridge(site),
        "ipam": {
            "type": "host-local",
            "dataDir": str(site.node_data / "cni"),
            "ranges": [[{"subnet": POD_CIDR}]],
        },
    }
    return json.dumps({"cniVersion": CNI_VERSION, "name": site.network, "plugins": [plugin]}, indent=2)
