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


def test_options_count_only_on_the_command_line() -> None:
    exported = {name: "from-the-shell" for name in ("STATE", "NODE", "NODES", "SETTINGS", "BROKER", "KUBECONFIG")}

    assert "from-the-shell" not in planned("up", **exported)
    assert "--kubeconfig 'given'" in planned("up", "KUBECONFIG=given", **exported)


def test_a_path_with_spaces_and_quotes_stays_one_word() -> None:
    assert "--state 'it'\\''s a \"state\"'" in planned("down", 'STATE=it\'s a "state"')


def test_an_option_that_is_not_given_again_stays_as_it_was() -> None:
    first = Options(node="kwok", nodes=3, settings="/a.yaml").after(None)

    assert Options().after(first) == first
    assert Options(settings="/b.yaml").after(first).settings == "/b.yaml"


def test_a_running_stack_keeps_its_node_broker_and_cluster() -> None:
    running = Options(node="kwok").after(None)

    with pytest.raises(DevError, match="make down"):
        Options(node="real").after(running)
