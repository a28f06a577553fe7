"""Images that replace those of a registry. They are made on this machine, once, from Debian's packages.

debootstrap makes a base image with Python. `dev/images` adds RabbitMQ and Prometheus to it. A further image
has the cluster's programs, which `tools` builds. docker-compose uses them by the variables of `.env`.
"""

import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterable
from pathlib import Path

from dev.cache import cache_dir, locked
from dev.debian import require
from dev.docker import Docker
from dev.errors import DevError
from dev.progress import show_progress
from dev.tools import KUBERNETES, KWOK, tools

RECIPES = Path(__file__).parents[2] / "images"
SUITE = "bookworm"
PACKAGES = ("python3", "python3-venv", "ca-certificates")
CERTIFICATES = Path("/usr/local/share/ca-certificates")
"""The CA certificates that were added to this machine.

The base image has them, so that a build can reach the same package registries as this machine.
"""
UNNEEDED = ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/man", "usr/share/locale")

PYTHON = "phjob.dev/python:bookworm"
PROGRAMS = "phjob.dev/programs:local"
RABBITMQ = "phjob.dev/rabbitmq:debian"
PROMETHEUS = "phjob.dev/prometheus:debian"
RECIPE_OF = {RABBITMQ: "rabbitmq", PROMETHEUS: "prometheus"}
ENVIRONMENT = {
    "PYTHON_IMAGE": PYTHON,
    "PROGRAMS_IMAGE": PROGRAMS,
    "RABBITMQ_IMAGE": RABBITMQ,
    "PROMETHEUS_IMAGE": PROMETHEUS,
}
"""The variables for docker-compose, which override those of `.env`."""


def load(docker: Docker, tags: Iterable[str]) -> None:
    """Load the images with these tags into the daemon, and the base image."""
    docker("import", str(base()), PYTHON)
    for tag in tags:
        if tag == PROGRAMS:
            _import_programs(docker)
        elif tag in RECIPE_OF:
            _load_built(docker, tag)


def base() -> Path:
    """Return the archive of the base image, and make it if it is not in the cache."""
    content = [
        SUITE,
        *PACKAGES,
        *UNNEEDED,
        *(file.read_text() for file in sorted(CERTIFICATES.glob("*.crt"))),
    ]
    archive = _images() / f"python-{_key(content)}.tar"
    with locked(_images() / "base.lock", busy="makes the base image"):
        if not archive.exists():
            require(["debootstrap"])
            with show_progress("making the base image"), tempfile.TemporaryDirectory(dir=_images()) as folder:
                _bootstrap(Path(folder, "root"))
                _pack(Path(folder, "root"), "", archive)
    return archive


def _bootstrap(root: Path) -> None:
    _run("debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", SUITE, str(root))
    for file in CERTIFICATES.glob("*.crt"):
        shutil.copy(file, root / CERTIFICATES.relative_to("/"))
    _run("chroot", str(root), "update-ca-certificates")
    for name in UNNEEDED:
        shutil.rmtree(root / name, ignore_errors=True)
        (root / name).mkdir()


def _import_programs(docker: Docker) -> None:
    """Import an image with the programs of the control plane and KWOK.

    They are in the folder that is the cache in a container.
    """
    with tempfile.TemporaryDirectory(dir=_images()) as folder:
        archive = Path(folder, "programs.tar")
        with tarfile.open(archive, "w") as target:
            for built in (tools(KUBERNETES), tools(KWOK)):
                for program in built.iterdir():
                    if program.name != "kubelet":
                        target.add(program, f"cache/tools/{built.name}/{program.name}")
        docker("import", str(archive), PROGRAMS)


def _load_built(docker: Docker, tag: str) -> None:
    """Load the image from the cache, or build it on the base image."""
    recipe = RECIPES / RECIPE_OF[tag]
    content = [base().name, *(file.read_text() for file in sorted(recipe.iterdir()))]
    archive = _images() / f"{recipe.name}-{_key(content)}.tar"
    with locked(_images() / f"{recipe.name}.lock", busy=f"makes the image of {recipe.name}"):
        if archive.exists():
            docker("load", f"--input={archive}")
            return
        with show_progress(f"making the image of {recipe.name}"):
            build = ("build", "--network=host", f"--build-arg=BASE={PYTHON}", f"--tag={tag}", str(recipe))
            docker(*build, env={"DOCKER_BUILDKIT": "0"})
            part = archive.with_suffix(".part")
            docker("save", f"--output={part}", tag)
            part.rename(archive)


def _pack(root: Path, name: str, archive: Path) -> None:
    """Write the content of a folder to the archive, which appears when it is complete."""
    part = archive.with_suffix(".part")
    with tarfile.open(part, "w") as target:
        target.add(root, name)
    part.rename(archive)


def _images() -> Path:
    folder = cache_dir() / "images"
    folder.mkdir(exist_ok=True)
    return folder


def _key(content: Iterable[str]) -> str:
    return hashlib.sha256("\0".join(content).encode()).hexdigest()[:16]


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise DevError(f"{' '.join(command)}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
