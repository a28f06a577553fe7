"""The Typer application with all commands."""

import typer

from phjob_cli import commands


def create_app() -> typer.Typer:
    """Return the application with all its commands."""
    app = typer.Typer(
        name="kubectl-phjob",
        help="Submit jobs to PhJob's queues, see why they wait and when they start, and read their logs.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    commands.register(app)
    return app
