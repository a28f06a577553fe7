from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import typer
from tests.fakes.user_kube import FakeUserKube

from phjob_cli import kube_client
from phjob_cli.context import Context
from phjob_cli.errors import CliError, Exit
from phjob_cli.kube_client import ConnectionOptions
from phjob_cli.runner import add_command, run_command

OPTIONS = ConnectionOptions(user="bob")


@pytest.fixture(autouse=True)
def connections(monkeypatch: pytest.MonkeyPatch) -> list[ConnectionOptions]:
    """Connect to an API server in memory. Returns the options of each connection."""
    seen: list[ConnectionOptions] = []

    @asynccontextmanager
    async def connect(options: ConnectionOptions) -> AsyncIterator[FakeUserKube]:
        seen.append(options)
        yield FakeUserKube()

    monkeypatch.setattr(kube_client, "connect", connect)
    return seen


def test_a_command_without_an_exit_code_succeeds() -> None:
    """Most commands return None."""

    async def run(context: Context) -> None:
        assert await context.user() == "bob"

    assert run_command(run, OPTIONS) == Exit.OK


def test_a_failure_is_one_line_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    """A user never sees a traceback."""

    async def run(context: Context) -> None:
        raise CliError("there is no job 'x'", Exit.NOT_FOUND)

    assert run_command(run, OPTIONS) == Exit.NOT_FOUND
    assert capsys.readouterr() == ("", "error: there is no job 'x'\n")


def test_an_interruption_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    """Its line has no `error:`."""

    async def run(context: Context) -> None:
        raise KeyboardInterrupt

    assert run_command(run, OPTIONS) == Exit.INTERRUPTED
    assert capsys.readouterr().err == "interrupted\n"


def test_a_command_gets_its_own_arguments_and_its_connection(connections: list[ConnectionOptions]) -> None:
    """Typer derives its own from the coroutine, and adds the shared ones."""
    seen: list[str] = []

    async def greet(context: Context, *, name: str = "nobody") -> Exit:
        """Greet."""
        seen.append(name)
        return Exit.FAILED

    app = typer.Typer()
    add_command(app, "greet", greet)
    with pytest.raises(SystemExit) as ended:
        app(["--name", "lin", "-n", "other", "--user", "pan"])
    assert (ended.value.code, seen) == (Exit.FAILED, ["lin"])
    assert connections == [ConnectionOptions(namespace="other", user="pan")]


def test_a_failure_cannot_control_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """It may quote what another user has written."""

    async def run(context: Context) -> None:
        raise CliError("job of \x1b]0;title\x07\nerror: none")

    assert run_command(run, OPTIONS) == Exit.FAILED
    assert capsys.readouterr().err == "error: job of \\u001b]0;title\\u0007\\nerror: none\n"
