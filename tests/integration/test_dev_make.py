"""The Makefile's options, and what `python -m dev` remembers of them: nothing is started here."""

import subprocess
from pathlib import Path

import pytest

from dev.errors import DevError
from dev.options import Options

ROOT = Path(__file__).parents[2]


def planned(*arguments: str, **environment: str) -> str:
    """What `make` would run."""
    command = ["make", "--dry-run", "--no-print-directory", f"--directory={ROOT}", *arguments]
    environment = {"PATH": "/usr/bin:/bin", **environment}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout


def test_exported_options() -> None:
    """What the shell has exported is no option: only the command line counts."""
    exported = dict.fromkeys(("STATE", "NODE", "NODES", "SETTINGS", "BROKER", "KUBECONFIG"), "from-the-shell")

    assert "from-the-shell" not in planned("up", **exported)
    assert "--kubeconfig 'given'" in planned("up", "KUBECONFIG=given", **exported)


def test_quoting() -> None:
    """A path with spaces and quotes stays one word."""
    assert "--state 'it'\\''s a \"state\"'" in planned("down", 'STATE=it\'s a "state"')


def test_remembered_options() -> None:
    """An option that is not given again stays as it was."""
    first = Options(node="kwok", nodes=3, settings="/a.yaml").after(None)

    assert Options().after(first) == first
    assert Options(settings="/b.yaml").after(first).settings == "/b.yaml"


def test_refused_options() -> None:
    """A running stack keeps its node, broker and cluster; `make down` comes first."""
    running = Options(node="kwok").after(None)

    with pytest.raises(DevError, match="make down"):
        Options(node="real").after(running)
