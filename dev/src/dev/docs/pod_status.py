"""The page of the states of a pod, made from `phjob_core.pod_status.TABLE`."""

from collections.abc import Iterable

from dev.docs.markdown import code, table
from phjob_core.pod_status import TABLE, PodState

_PAGE = """\
# States of a pod

For users and operators who read a job's reason and message, and for contributors: what the status
of a job's pod means for the job. [Spec, L4 to L7](../spec.md#l4) has the rules, and the
[state machine](state-machine.md) shows what each event does to a job.

`make docs` generates this page from one pure table, `TABLE` in
[pod_status.py](../../shared/core/src/phjob_core/pod_status.py). Of the rows of a section, the first
that matches counts. `main` is the container that runs the job's command. PhJob puts no other
container into the pod; others may inject some, such as a service mesh.

## The pod ended before `main` started

These rows apply to a job in Preparing. `main` has started if its status has a start time, a restart
count, a last state, or an exit code that the kubelet did not invent (`ContainerStatusUnknown`).

{before_start}

## The pod ended, or `main` did

{ends}

## The pod goes on

A pod without a start is sent back after the start timeout, also if it can never start. An
administrator can correct the image or the instance type meanwhile, and the job need not be
submitted again.

{going_on}
"""


def page() -> str:
    """Return the whole page."""
    before = [row for row in TABLE if row.before_start]
    ends = [row for row in TABLE if not row.before_start and _is_end(row)]
    going_on = [row for row in TABLE if not _is_end(row)]
    return _PAGE.format(before_start=_rows(before), ends=_rows(ends), going_on=_rows(going_on))


def _is_end(row: PodState) -> bool:
    return row.event is not None and row.event.name != "POD_RUNNING"


def _rows(rows: Iterable[PodState]) -> str:
    head = ["State", "In the pod's status", "Event", "The job's reason", "Its message, for example"]
    return table(
        head,
        [
            [row.name, row.condition, row.event or "none: it waits", row.reason, code(row.example)]
            for row in rows
        ],
    )
