"""`top`: shows all groups live, from the status that the scheduler reports for each."""

import asyncio
from collections.abc import Sequence
from typing import Annotated

import typer
from rich.live import Live
from rich.text import Text

from phjob_cli import formatting, queries, serialize
from phjob_cli.commands import arguments
from phjob_cli.console import bar
from phjob_cli.context import Context
from phjob_core import quantities
from phjob_core.api import Object
from phjob_core.gpus import GpuResources


async def top(
    context: Context,
    *,
    interval: Annotated[float, typer.Option(min=1, help="Seconds between two updates.")] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Show the groups once, and exit.")] = False,
    output: arguments.Output = None,
) -> None:
    """Show the jobs and quotas of all groups live. Ctrl-C ends it."""
    console, kube = context.console, context.kube
    groups = (await kube.list(queries.PHGROUPS, dict)).items
    if output and output.is_structured:
        console.data([serialize.group(group) for group in groups], output)
        return
    if once or not console.is_terminal:
        console.table(*_table(groups))
        return
    with Live(console=console.rich, screen=True, auto_refresh=False) as live:
        while True:
            title = f"{kube.namespace}, {queries.utc_now():%H:%M:%S} UTC; Ctrl-C ends"
            lines = [title, "", *console.table_lines(*_table(groups))]
            live.update(Text.from_ansi("\n".join(lines), no_wrap=True), refresh=True)
            await asyncio.sleep(interval)
            groups = (await kube.list(queries.PHGROUPS, dict)).items


def _table(groups: Sequence[Object]) -> tuple[list[str], list[list[str]]]:
    """Return the headers and the rows, the groups with the most pending jobs first."""
    rows = []
    reported = [serialize.group(group) for group in groups]
    for group in sorted(reported, key=lambda group: (-group.get("pending", 0), group["group"])):
        used, limits = group.get("used", {}), group.get("limit", {})
        shown = sorted(formatting.without_gpu_names(limits, GpuResources(group.get("gpuResourceNames", ()))))
        quotas = "  ".join(_quota(name, used.get(name, "0"), limits[name]) for name in shown)
        counts = [str(group.get(key, "-")) for key in ("pending", "preparing", "running")]
        head = ": ".join(filter(None, (group.get("head"), group.get("message"))))
        rows.append([group["group"], *counts, quotas or "no quota", head])
    return ["GROUP", "PENDING", "PREPARING", "RUNNING", "USED", "HEAD OF THE QUEUE"], rows


def _quota(name: str, used: str, limit: str) -> str:
    share = bar(quantities.parse(name, used), quantities.parse(name, limit), 8)
    return f"{name} {share} {used}/{limit}"
