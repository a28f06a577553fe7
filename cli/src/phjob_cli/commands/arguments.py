"""Arguments and options that several commands share."""

from typing import Annotated

import typer

from phjob_cli.completion import group_names, job_names
from phjob_cli.console import Format

Job = Annotated[str, typer.Argument(help="Name of the job.", autocompletion=job_names)]
Jobs = Annotated[list[str], typer.Argument(help="Names of the jobs.", autocompletion=job_names)]
Group = Annotated[str, typer.Argument(help="Name of the group.", autocompletion=group_names)]
Output = Annotated[
    Format | None, typer.Option("--output", "-o", help="Format of the output: wide, json or yaml.")
]
