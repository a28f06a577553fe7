import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from tests.fakes.user_kube import FakeUserKube, stored
from tests.support import builders

from phjob_cli import completion_protocol, kube_client
from phjob_cli.commands import COMMANDS
from phjob_cli.kube_client import ConnectionOptions


@pytest.fixture(autouse=True)
def api_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connect to an API server with two jobs, and restore the environment afterwards."""
    kube = FakeUserKube(phjobs=[stored(builders.a_job(name)) for name in ("train-1", "train-2")])

    @asynccontextmanager
    async def connect(options: ConnectionOptions) -> AsyncIterator[FakeUserKube]:
        yield kube

    monkeypatch.setattr(kube_client, "connect", connect)
    for name in ("_KUBECTL_PHJOB_COMPLETE", "_TYPER_COMPLETE_FISH_ACTION"):
        monkeypatch.setenv(name, "")
    for name in ("_TYPER_COMPLETE_ARGS", "_TYPER_COMPLETE_WORD_TO_COMPLETE"):
        monkeypatch.setenv(name, "")


def completions(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str
) -> list[str]:
    """Return the lines of the answer to kubectl, without the descriptions."""
    monkeypatch.setattr(sys, "argv", ["kubectl_complete-phjob", *words])
    completion_protocol.main()
    return [line.partition("\t")[0] for line in capsys.readouterr().out.splitlines()]


def test_the_last_line_keeps_the_shell_from_offering_files(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The lines before are the completions. An empty word has all commands."""
    *commands, directive = completions(monkeypatch, capsys, "")
    assert sorted(commands) == sorted(COMMANDS)
    assert directive == ":4"


def test_names_of_jobs_are_completed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As with the completion of the shell itself."""
    assert completions(monkeypatch, capsys, "logs", "tr") == ["train-1", "train-2", ":4"]
    assert completions(monkeypatch, capsys, "logs", "x") == [":4"]
