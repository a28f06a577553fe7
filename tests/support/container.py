"""Runs the entrypoint of a job's container as process 1 of a PID namespace, with this machine's shells."""

import os
import re
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

TIMEOUT_SECONDS = 30

ENTRY_SHELLS = {"dash": ["dash"], "bash": ["bash", "--posix"], "busybox": ["busybox", "sh"]}
"""The programs that may be `sh` in an image."""
IMAGES = {
    "debian": ("dash", True),
    "redhat": ("bash", True),
    "alpine-with-bash": ("busybox", True),
    "dash-only": ("dash", False),
    "alpine": ("busybox", False),
}
"""Images by their `sh`, and whether they have bash."""
PROGRAMS = (
    *("cat", "env", "id", "ln", "mkfifo", "rm", "setsid", "sleep", "sort", "tr"),
    *("chmod", "date", "dirname", "grep", "head", "mkdir", "pwd", "tail", "tee", "wc"),
)
"""The programs of an image that is not made of busybox."""


def expanded(text: str) -> str:
    """Return the text after Kubernetes' expansion of `$` (third_party/forked/golang/expansion)."""
    return re.sub(r"\$(\$|\(\w+\))", lambda m: "$" if m[1] == "$" else f"expanded {m[1]}", text)


def find(program: str) -> str:
    """Return the path of a program of this machine."""
    path = shutil.which(program)
    if path is None:
        pytest.fail(f"{program} is missing: install it")
    return path


def make_image(name: str, folder: Path) -> Path:
    """Fill a folder with the programs of an image, and `python`. Returns the folder, which is the PATH."""
    shell, has_bash = IMAGES[name]
    folder.mkdir()
    if shell == "busybox":
        busybox = find("busybox")
        applets = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout
        links = dict.fromkeys(applets.split(), busybox)
    else:
        links = {program: find(program) for program in PROGRAMS} | {"sh": find(shell)}
    links |= {"python": sys.executable} | ({"bash": find("bash")} if has_bash else {})
    if not has_bash:
        links.pop("bash", None)
    for program, target in links.items():
        (folder / program).symlink_to(target)
    return folder


class Container:
    """A process 1 in a PID namespace of its own. All its processes end with it."""

    def __init__(self, argv: list[str], folder: Path, path: Path) -> None:
        """`folder` is the working directory, and `path` the PATH."""
        user = [] if os.getuid() == 0 else ["--user", "--map-root-user"]
        namespace = ["unshare", *user, "--pid", "--fork", "--kill-child", "--mount-proc"]
        # Whoever runs the tests may ignore signals, as `nohup` does. A container runtime ignores none.
        no_ignored_signals = [find("env"), "--default-signal"]
        self._process = subprocess.Popen(
            [*no_ignored_signals, find("unshare"), *namespace[1:], *argv],
            cwd=folder,
            env={"PATH": str(path), "HOME": str(folder)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            bufsize=0,
        )
        self.log = ""

    def wait_for(self, text: str, times: int = 1) -> None:
        """Read the log until it contains this text so many times."""
        assert self._process.stdout is not None
        while self.log.count(text) < times:
            readable, _, _ = select.select([self._process.stdout], [], [], TIMEOUT_SECONDS)
            assert readable, f"nothing in {TIMEOUT_SECONDS} s; waiting for {text!r}: {self.log}"
            line = self._process.stdout.readline().decode()
            assert line, f"the container has ended without {text!r}: {self.log}"
            self.log += line

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to process 1, as a container runtime does."""
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text()
        os.kill(int(children.split()[0]), number)

    def wait(self) -> int:
        """Wait for the end. Returns the exit code; `log` is complete then."""
        try:
            output, _ = self._process.communicate(timeout=TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired as error:
            self.log += (error.stdout or b"").decode()
        else:
            self.log += output.decode()
        finally:
            self._process.kill()
        assert self._process.returncode is not None, f"no end in {TIMEOUT_SECONDS} s: {self.log}"
        return self._process.returncode
