"""The parts of ARCHITECTURE.md that are made from the product itself: `python -m dev docs`.

A test fails where they differ, so what is drawn there is what the services do.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from shared.lifecycle import TABLE, Effect, Event, Transition
from shared.phjob import Phase

PAGE = Path(__file__).parents[3] / "ARCHITECTURE.md"

_EFFECTS = {
    Effect.NONE: "",
    Effect.CREATE: ", then its pod is created",
    Effect.DELETE_BEFORE: ", once its pod is gone",
    Effect.DELETE_AFTER: ", then its pod is deleted",
    Effect.RECLAIM: "`status.reclaimed` is written",
    Effect.FORGET: "pod and record are deleted",
}
_FINISHED = "Succeeded, Failed, Cancelled"


def diagram() -> str:
    """The state diagram, for Mermaid: every change of phase or reason, and by what."""
    arrows: dict[tuple[Phase, Phase], list[str]] = {}
    for (phase, event), outcome in TABLE.items():
        if isinstance(outcome, Transition) and outcome.reason and event is not Event.EXPLAINED:
            arrows.setdefault((phase, outcome.phase), []).append(event.value)
    lines = [
        f"    {before} --> {after}: {' / '.join(dict.fromkeys(events))}"
        for (before, after), events in arrows.items()
    ]
    ends = [f"    {phase} --> [*]" for phase in Phase if phase.final]
    return "\n".join(["```mermaid", "stateDiagram-v2", "    [*] --> Pending", *lines, *ends, "```"])


def table() -> str:
    """What each event does in each phase."""
    phases = [Phase.PENDING, Phase.PREPARING, Phase.RUNNING, Phase.SUCCEEDED]
    head = ["Event", *(str(phase) for phase in phases[:-1]), _FINISHED]
    rows = [head, ["---"] * len(head)]
    rows += [[event.value, *(_cell(phase, event) for phase in phases)] for event in Event]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _cell(phase: Phase, event: Event) -> str:
    outcome = TABLE[phase, event]
    if not isinstance(outcome, Transition):
        return "no"
    said = f"{outcome.phase}, `{outcome.reason}`" if outcome.reason else ""
    return (said + _EFFECTS[outcome.effect]).removeprefix(", then ")


def written(page: str) -> str:
    """The page with what stands between each pair of marks made anew."""
    for name, content in _parts():
        begin, end = f"<!-- {name}: made by `make docs` -->\n", f"<!-- {name}: end -->"
        pattern = re.compile(f"({re.escape(begin)}).*?({re.escape(end)})", re.DOTALL)
        page = pattern.sub(lambda marks, content=content: f"{marks[1]}\n{content}\n\n{marks[2]}", page)  # type: ignore[misc]
    return page


def _parts() -> Iterator[tuple[str, str]]:
    yield "states", diagram()
    yield "events", table()
