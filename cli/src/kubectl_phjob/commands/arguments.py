"""Arguments that several commands have."""

from typing import Annotated

import typer

from kubectl_phjob.complete import group_names, job_names
from kubectl_phjob.screen import Format

Job = Annotated[str, typer.Argument(help="The job.", autocompletion=job_names)]
Jobs = Annotated[list[str], typer.Argument(help="The jobs.", autocompletion=job_names)]
Group = Annotated[str, typer.Argument(help="The group.", autocompletion=group_names)]
Output = Annotated[Format | None, typer.Option("--output", "-o", help="wide, json or yaml")]
