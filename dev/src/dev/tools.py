"""Programs that are built from Go modules, once per machine. Each module under `dev/tools` is one set.

The cache has a set under a hash of everything that it is built from. A set appears there when it is complete.
"""

import hashlib
import os
import re
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from dev.cache import cache_dir, locked
from dev.errors import DevError
from dev.golang import go
from dev.progress import show_progress

MODULES = Path(__file__).parents[2] / "tools"

KUBERNETES = "kubernetes"
KUBERNETES_OLDEST = "kubernetes-oldest"
"""The API server of the oldest version that PhJob supports. Only `make oldest` builds it."""
KWOK = "kwok"
CONTAINERD = "containerd"
HELM = "helm"
COMPOSE = "compose"
LOAD = "load"
"""The client of the benchmarks. Only this set has its source in this repository."""

VERSION_SYMBOL = "k8s.io/component-base/version.gitVersion"
BUILD_TAGS = "no_btrfs,no_devmapper,no_zfs"
ENVIRONMENT = {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOWORK": "off", "GOFLAGS": ""}
# New names of binaries whose Go package has a name that is too general.
RENAMED = {"server": "etcd", "cmd": "docker-compose"}


def tools(name: str) -> Path:
    """Return the folder with the programs of this set.

    Builds them if they are not in the cache.
    """
    module = MODULES / name
    flags = _flags(module)
    target = cache_dir() / "tools" / f"{name}-{_key(module, flags)}"
    if target.exists():
        return target
    with locked(cache_dir() / f"build-{name}.lock", busy=f"builds {name}"):
        if not target.exists():
            _build(module, flags, target)
    return target


def _flags(module: Path) -> list[str]:
    ldflags = "-s -w"
    if version := re.search(r"^\s*k8s\.io/kubernetes (v\S+)", (module / "go.mod").read_text(), re.MULTILINE):
        ldflags += f" -X {VERSION_SYMBOL}={version[1]}"
    return ["-trimpath", "-buildvcs=false", f"-tags={BUILD_TAGS}", f"-ldflags={ldflags}"]


def _key(module: Path, flags: list[str]) -> str:
    """Return a hash of everything that the set is built from."""
    files = (module / "go.mod", module / "go.sum", *sorted(module.glob("*.go")))
    content = b"".join(file.read_bytes() for file in files) + repr(flags).encode()
    return hashlib.sha256(content).hexdigest()[:16]


def _build(module: Path, flags: list[str], target: Path) -> None:
    command = [str(go(module)), "install", "-v", *flags, "tool"]
    target.parent.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(dir=target.parent) as folder,
        show_progress(f"building {module.name} (once per machine, takes minutes)") as set_detail,
    ):
        _run(command, module, {"GOBIN": folder}, set_detail)
        for old, new in RENAMED.items():
            if (built := Path(folder, old)).exists():
                built.rename(Path(folder, new))
        Path(folder).rename(target)
        Path(folder).mkdir()  # Without this, the context manager would find no folder to remove.


def _run(command: list[str], module: Path, env: dict[str, str], set_detail: Callable[[str], None]) -> None:
    lines: list[str] = []
    compiled = 0
    with subprocess.Popen(
        command,
        cwd=module,
        env={**os.environ, **ENVIRONMENT, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        for line in process.stdout or ():
            lines.append(line.rstrip())
            if line.startswith("go: downloading"):
                set_detail(line.removeprefix("go: ").strip())
            else:
                compiled += 1
                set_detail(f"{compiled} packages compiled")
    if process.returncode != 0:
        tail = "\n".join(lines[-30:])
        raise DevError(f"could not build {module.name}:\n{tail}")
