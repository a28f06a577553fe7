"""`top`: all groups, live, as the scheduler reports them in their status."""

import asyncio
from collections.abc import Sequence
from typing import Annotated

import typer
from rich.live import Live
from rich.text import Text

from kubectl_phjob import data, reading
from kubectl_phjob.app import Session, command
from kubectl_phjob.commands import arguments
from kubectl_phjob.screen import bar
from shared import resources
from shared.kube import Object
from shared.resources import GPU, is_gpu


@command("top")
async def top(
    session: Session,
    *,
    interval: Annotated[float, typer.Option(min=1, help="Seconds between two looks.")] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Show it once, and end.")] = False,
    output: arguments.Output = None,
) -> None:
    """All groups, live: who waits, what runs, how full the quotas are. Ctrl-C ends it."""
    screen, kube = session.screen, session.kube
    groups = (await kube.list(reading.PHGROUPS, dict)).items
    if output and output.for_machines:
        screen.data([data.group(group) for group in groups], output)
        return
    if once or not screen.is_terminal:
        screen.table(*_table(groups))
        return
    with Live(console=screen.console, screen=True, auto_refresh=False) as live:
        while True:
            title = f"{kube.namespace}, {reading.now():%H:%M:%S} UTC; Ctrl-C ends"
            lines = [title, "", *screen.columns(*_table(groups))]
            live.update(Text.from_ansi("\n".join(lines), no_wrap=True), refresh=True)
            await asyncio.sleep(interval)
            groups = (await kube.list(reading.PHGROUPS, dict)).items


def _table(groups: Sequence[Object]) -> tuple[list[str], list[list[str]]]:
    """Those in which most wait first."""
    told = [data.group(group) for group in groups]
    rows = []
    for one in sorted(told, key=lambda one: (-one.get("pending", 0), one["group"])):
        used, limit = one.get("used", {}), one.get("limit", {})
        shown = sorted(name for name in limit if name == GPU or not is_gpu(name))
        quotas = "  ".join(_quota(name, used.get(name, "0"), limit[name]) for name in shown)
        counts = [str(one.get(key, "-")) for key in ("pending", "preparing", "running")]
        head = f"{one['head']}: {one.get('message', '')}" if "head" in one else ""
        rows.append([one["group"], *counts, quotas or "no quota", head])
    return ["GROUP", "PENDING", "PREPARING", "RUNNING", "USED", "HEAD OF THE QUEUE"], rows


def _quota(name: str, used: str, limit: str) -> str:
    share = bar(resources.parse(name, used), resources.parse(name, limit), 8)
    return f"{name} {share} {used}/{limit}"
