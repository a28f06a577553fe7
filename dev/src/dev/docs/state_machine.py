"""The page of the state machine: a diagram and a table, both made from `phjob_core.lifecycle.TABLE`."""

from dev.docs.markdown import table
from phjob_core.api import Phase
from phjob_core.lifecycle import TABLE, Effect, Event, Transition

_EFFECTS = {
    Effect.NONE: "",
    Effect.UNGATE: ", then its pod may start",
    Effect.DELETE_BEFORE: ", once its pod is gone",
    Effect.DELETE_AFTER: ", then its pod is deleted",
    Effect.MARK_RECLAIMED: "`status.reclaimed` is written",
    Effect.DELETE_RECORD: "pod and record are deleted",
}
_FINISHED = "Succeeded, Failed, Cancelled"

_PAGE = """\
# State machine

For contributors: what each event does to a job in each phase. [Concepts](../concepts.md) explains
the phases for users, and [spec, L1 to L15](../spec.md#l1) has the exact rules.

`make docs` generates this page from one pure table, `TABLE` in
[lifecycle.py](../../shared/core/src/phjob_core/lifecycle.py). pod-manager executes the transitions.

If the user permits it, a job that would become Failed becomes Pending instead, with the reason
`Retried` ([spec, L17](../spec.md#l17)). [retry.py](../../shared/core/src/phjob_core/retry.py) decides that
after the table.

## Phases

{diagram}

## Events

A cell has the new phase, its `status.reason`, and the effect on the pod. `no` means that the event
changes nothing.

{table}
"""


def page() -> str:
    """Return the whole page."""
    return _PAGE.format(diagram=diagram(), table=events())


def diagram() -> str:
    """Return the state diagram for Mermaid: all changes of phase or reason."""
    arrows: dict[tuple[Phase, Phase], list[str]] = {}
    for (phase, event), outcome in TABLE.items():
        if isinstance(outcome, Transition) and outcome.reason and event is not Event.PENDING_REASON_SET:
            arrows.setdefault((phase, outcome.phase), []).append(event.value)
    lines = [
        f"    {before} --> {after}: {' / '.join(dict.fromkeys(causes))}"
        for (before, after), causes in arrows.items()
    ]
    ends = [f"    {phase} --> [*]" for phase in Phase if phase.final]
    return "\n".join(["```mermaid", "stateDiagram-v2", "    [*] --> Pending", *lines, *ends, "```"])


def events() -> str:
    """Return the table of events and phases."""
    phases = [Phase.PENDING, Phase.PREPARING, Phase.RUNNING, Phase.SUCCEEDED]
    head = ["Event", *(str(phase) for phase in phases[:-1]), _FINISHED]
    return table(head, [[event.value, *(_cell(phase, event) for phase in phases)] for event in Event])


def _cell(phase: Phase, event: Event) -> str:
    outcome = TABLE[phase, event]
    if not isinstance(outcome, Transition):
        return "no"
    change = f"{outcome.phase}, `{outcome.reason}`" if outcome.reason else ""
    return (change + _EFFECTS[outcome.effect]).removeprefix(", then ")
