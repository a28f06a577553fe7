"""The images of the real node. They are made here, so that no registry is needed.

All of them contain a static busybox. Two replace a notebook image (user jovyan, home /home/jovyan), one of
them with bash. The third is the pause image, which keeps the namespaces of a pod.
"""

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path

NOTEBOOK = "primehub.dev/base-notebook:busybox"
NOTEBOOK_WITH_BASH = "primehub.dev/base-notebook:bash"
PAUSE = "primehub.dev/pause:busybox"
ALL = {NOTEBOOK, NOTEBOOK_WITH_BASH, PAUSE}

JOVYAN, USERS = 1000, 100
PASSWD = f"root:x:0:0:root:/root:/bin/sh\njovyan:x:{JOVYAN}:{USERS}::/home/jovyan:/bin/sh\n"
GROUP = f"root:x:0:\nusers:x:{USERS}:\n"
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
EPOCH = "1970-01-01T00:00:00Z"


def write_archive(target: Path, busybox: Path, applets: list[str], bash: Path, architecture: str) -> None:
    """Write all images to one archive in Docker's format, for `ctr images import`."""
    layers = {
        "layer.tar": _layer(busybox.read_bytes(), applets),
        "bash.tar": _tar([(_entry("bin/bash", mode=0o755), bash.read_bytes())]),
    }
    run_as_jovyan = {
        "User": str(JOVYAN),
        "Env": [PATH, "HOME=/home/jovyan"],
        "WorkingDir": "/home/jovyan",
        "Cmd": ["sh"],
    }
    sleep_forever = {
        "User": "65535:65535",
        "Env": [PATH],
        "Entrypoint": ["/bin/busybox", "sleep", "infinity"],
    }
    manifest, files = [], dict(layers)
    for tag, config, names in (
        (NOTEBOOK, run_as_jovyan, ["layer.tar"]),
        (NOTEBOOK_WITH_BASH, run_as_jovyan, ["layer.tar", "bash.tar"]),
        (PAUSE, sleep_forever, ["layer.tar"]),
    ):
        content = _image_config(config, [layers[name] for name in names], architecture)
        name = f"{hashlib.sha256(content).hexdigest()}.json"
        files[name] = content
        manifest.append({"Config": name, "RepoTags": [tag], "Layers": names})
    files["manifest.json"] = json.dumps(manifest).encode()
    target.write_bytes(_tar([(_entry(name), content) for name, content in files.items()]))


def _layer(busybox: bytes, applets: list[str]) -> bytes:
    """Return the layer with busybox, a link for each applet, and the user jovyan."""
    members = [
        (_entry("bin", kind=tarfile.DIRTYPE), b""),
        (_entry("etc", kind=tarfile.DIRTYPE), b""),
        (_entry("home", kind=tarfile.DIRTYPE), b""),
        (_entry("home/jovyan", kind=tarfile.DIRTYPE, uid=JOVYAN, gid=USERS), b""),
        (_entry("tmp", kind=tarfile.DIRTYPE, mode=0o1777), b""),
        (_entry("etc/passwd"), PASSWD.encode()),
        (_entry("etc/group"), GROUP.encode()),
        (_entry("bin/busybox", mode=0o755), busybox),
    ]
    links = [
        _entry(f"bin/{applet}", kind=tarfile.SYMTYPE, link="busybox")
        for applet in applets
        if applet != "busybox"
    ]
    return _tar([*members, *((link, b"") for link in links)])


def _image_config(config: Mapping[str, object], layers: list[bytes], architecture: str) -> bytes:
    content = {
        "architecture": architecture,
        "os": "linux",
        "created": EPOCH,
        "config": config,
        "rootfs": {
            "type": "layers",
            "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in layers],
        },
        "history": [{"created": EPOCH, "created_by": "phjob dev"} for _ in layers],
    }
    return json.dumps(content).encode()


def _entry(
    name: str,
    *,
    kind: bytes = tarfile.REGTYPE,
    mode: int | None = None,
    uid: int = 0,
    gid: int = 0,
    link: str = "",
) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.uid, entry.gid, entry.linkname = kind, uid, gid, link
    entry.mode = mode or (0o755 if kind == tarfile.DIRTYPE else 0o644)
    return entry


def _tar(members: list[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        for entry, content in members:
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return target.getvalue()
