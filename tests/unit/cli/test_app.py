import subprocess
import sys
from pathlib import Path

import typer

from phjob_cli.app import create_app
from phjob_cli.commands import COMMANDS
from phjob_cli.errors import Exit
from phjob_cli.explanation import Cause


def test_every_command_is_registered_with_the_connection_options() -> None:
    """A command has its own options first, then those that all commands share."""
    group = typer.main.get_group(create_app())
    assert list(group.commands) == list(COMMANDS)
    for command in group.commands.values():
        names = [parameter.name for parameter in command.params]
        assert {"namespace", "kubeconfig", "context", "user"} <= set(names)
        assert command.help


def test_each_application_is_independent() -> None:
    """Importing the commands registers nothing."""
    assert create_app() is not create_app()


def test_a_start_loads_neither_obstore_nor_kubernetes_asyncio() -> None:
    """The first is an extra, the import of the second takes a second or two."""
    program = "import sys; from phjob_cli.app import create_app; create_app(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not {"obstore", "kubernetes_asyncio"} & {*done.stdout.split()}


def test_the_page_of_the_command_line_has_all_commands_exit_codes_and_causes() -> None:
    """docs/kubectl-phjob.md has a row for each."""
    page = (Path(__file__).parents[3] / "docs" / "kubectl-phjob.md").read_text()
    for name in COMMANDS:
        assert f"`{name}" in page
    for code in Exit:
        assert f"\n| {code.value} |" in page
    for cause in Cause:
        assert f"`{cause}`" in page
