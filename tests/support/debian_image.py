"""Images that stand in for those of a registry on the real node: Debian with sudo, as root and as jovyan.

The image of jovyan is like Jupyter's: it has sudo, which permits jovyan nothing, and the variables that name
the user. Both are made from Debian's packages, once, and stay in the cache.
"""

import hashlib
import io
import json
import platform
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from dev import containerd, image
from dev.cache import cache_dir, locked
from dev.debian import require
from dev.docker_images import SUITE, UNNEEDED
from dev.paths import StackPaths
from dev.tools import CONTAINERD, tools

AS_ROOT = "primehub.dev/debian:root"
AS_JOVYAN = "primehub.dev/debian:jovyan"
_HOME = "/home/jovyan"
_USERS: dict[str, dict[str, object]] = {
    AS_ROOT: {"Env": [image.PATH]},
    AS_JOVYAN: {
        "User": str(image.JOVYAN),
        "Env": [image.PATH, f"HOME={_HOME}", "NB_USER=jovyan", f"NB_UID={image.JOVYAN}"],
    },
}


def load(state: Path) -> None:
    """Import the images into the real node of a stack."""
    ctr = [f"{tools(CONTAINERD)}/ctr", f"--address={containerd.socket(StackPaths(state))}"]
    command = [
        *ctr,
        f"--namespace={containerd.NAMESPACE}",
        "images",
        "import",
        "--no-unpack",
        str(_archive()),
    ]
    subprocess.run(command, check=True, capture_output=True)


def _archive() -> Path:
    """Return the archive of both images, and make it if it is not in the cache."""
    folder = cache_dir() / "images"
    folder.mkdir(exist_ok=True)
    recipe = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:16]
    archive = folder / f"debian-sudo-{recipe}.tar"
    with locked(folder / "debian-sudo.lock", busy="makes an image"):
        if not archive.exists():
            require(["debootstrap"])
            with tempfile.TemporaryDirectory(dir=folder) as temporary:
                layer = Path(temporary, "layer.tar")
                _make_layer(Path(temporary, "root"), layer)
                part = archive.with_suffix(".part")
                _write(part, layer)
                part.rename(archive)
    return archive


def _make_layer(root: Path, layer: Path) -> None:
    """Install Debian with sudo and the user jovyan in a folder, and pack it."""
    command = ["debootstrap", "--variant=minbase", "--include=sudo", SUITE, str(root)]
    subprocess.run(command, check=True, capture_output=True)
    for name in UNNEEDED:
        shutil.rmtree(root / name, ignore_errors=True)
        (root / name).mkdir()
    (root / "var/cache/apt/archives/partial").mkdir(parents=True)
    (root / "var/lib/apt/lists/partial").mkdir(parents=True)
    ids = f"--uid={image.JOVYAN} --gid={image.USERS}"
    add_user = f"chroot {root} useradd --no-user-group {ids} --create-home --shell=/bin/bash jovyan"
    subprocess.run(add_user.split(), check=True, capture_output=True)
    with tarfile.open(layer, "w") as target:
        target.add(root, ".")


def _write(archive: Path, layer: Path) -> None:
    """Write an archive in Docker's format, with an image for each user."""
    with layer.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    architecture = containerd.ARCHITECTURES.get(platform.machine(), platform.machine())
    manifest = []
    with tarfile.open(archive, "w") as target:
        target.add(layer, "layer.tar")
        for tag, user in _USERS.items():
            config = {
                "architecture": architecture,
                "os": "linux",
                "config": {**user, "WorkingDir": _HOME, "Cmd": ["bash"]},
                "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
                "history": [{"created": image.EPOCH}],
            }
            name = f"{tag.rpartition(':')[2]}.json"
            manifest.append({"Config": name, "RepoTags": [tag], "Layers": ["layer.tar"]})
            _add(target, name, config)
        _add(target, "manifest.json", manifest)


def _add(target: tarfile.TarFile, name: str, content: object) -> None:
    text = json.dumps(content).encode()
    entry = tarfile.TarInfo(name)
    entry.size = len(text)
    target.addfile(entry, io.BytesIO(text))
