"""The options of the Makefile, and those that `python -m dev` keeps. Nothing is started."""

import subprocess
from pathlib import Path

import pytest

from dev.errors import DevError
from dev.options import Options

ROOT = Path(__file__).parents[2]


def commands_of(*arguments: str, **environment: str) -> str:
    """Return the commands that `make` would run."""
    command = ["make", "--dry-run", "--no-print-directory", f"--directory={ROOT}", *arguments]
    environment = {"PATH": "/usr/bin:/bin", **environment}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout


def test_an_exported_variable_is_no_option() -> None:
    """Otherwise a KUBECONFIG from `make up` would make PhJob use that cluster instead of its own."""
    exported = dict.fromkeys(("STATE", "NODE", "NODES", "SETTINGS", "BROKER", "KUBECONFIG"), "from-the-shell")

    assert "from-the-shell" not in commands_of("up", **exported)
    assert "--kubeconfig 'given'" in commands_of("up", "KUBECONFIG=given", **exported)


def test_a_path_with_spaces_and_quotes_is_one_argument() -> None:
    """The shell would split it otherwise."""
    assert "--state 'it'\\''s a \"state\"'" in commands_of("down", 'STATE=it\'s a "state"')


def test_an_option_that_is_not_given_again_is_kept() -> None:
    """A second `make up` changes nothing."""
    first = Options(node="kwok", nodes=3, settings="/a.yaml").merged_over(None)

    assert Options().merged_over(first) == first
    assert Options(settings="/b.yaml").merged_over(first).settings == "/b.yaml"


def test_the_kind_of_node_of_a_running_stack_cannot_be_changed() -> None:
    """The error names the remedy, `make down`."""
    running = Options(node="kwok").merged_over(None)

    with pytest.raises(DevError, match="make down"):
        Options(node="real").merged_over(running)
