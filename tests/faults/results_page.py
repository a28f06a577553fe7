"""The page docs/faults.md: the effect of each fault on a run of jobs, written by the runs themselves."""

from dataclasses import dataclass
from pathlib import Path

from phjob_runtime.amqp.bus import HEARTBEAT_SECONDS

_SILENCE_SECONDS = 2 * HEARTBEAT_SECONDS
HEADER = f"""\
# Faults and recovery

For operators. This page answers what users notice while a component is broken, and for how long.
`make faults` writes it, on a machine with two cores that also runs the whole control plane. In each
run, users submit jobs to six groups, and one real fault happens in the middle.
[Consistency](design/consistency.md) explains the behaviour.

The jobs end in every way: they succeed, fail, exceed their deadline, are cancelled while they run,
or never start and are requeued. Some wait for an image, and some have a short TTL. Half of the
groups have user quotas, and one shares its quota with a Jupyter server. The services have the
rights that the chart grants.

- *Recovery*: the time from the end of the fault to the next admission. A process that was killed
  starts again at the end of the fault. With two replicas it does not, and the recovery is the
  takeover.
- *Avoidable wait*: the longest time, after the end of the fault, for which a job waited although
  the queue rule would have admitted it.

A half-open connection stays half-open after the end of the fault, until a time limit passes:
{_SILENCE_SECONDS} s for RabbitMQ's heartbeats, 30 s for the answer to a request, and 5 s for the renewal of
the watcher's Lease.

A proxy in front of the API server answers 401, 403 and 404 to every other request. Such an answer
is no decision about the request. The API server may give it while its caches are not synchronized,
and a load balancer may send its web page.

In the lines *node* and *pods*, third parties delete the pods of jobs: `kubectl drain` (the eviction
API), PodGC, and `kubectl delete pod`. A job whose pod a third party has deleted may fail with the
reason `PodDeleted`. It has to be requeued instead if the pod's last state proves that it never
started.

Each run is checked against etcd's own record of every revision, which also shows the pods that a
third party deleted. These promises are checked:

- No group and no user is over quota, at any revision.
- Jobs enter Preparing in order.
- A job has one pod at a time, and no command runs twice.
- Every job ends as it must.
- Phases follow the state diagram.
- Nothing is left: messages, queues, connections, counted quota, pods.

| Fault | Jobs | Recovery, s | Avoidable wait, s | Promises |
| --- | ---: | ---: | ---: | --- |
"""


@dataclass(frozen=True)
class Row:
    """The result of one run."""

    fault: str
    jobs: int
    recovery_seconds: float | None
    """The time to the next admission; None if no job was left to admit."""
    avoidable_wait_seconds: float
    kept: bool
    """True if every promise was kept."""

    def line(self) -> str:
        """Return the row of the table."""
        recovery = "none needed" if self.recovery_seconds is None else f"{self.recovery_seconds:.1f}"
        kept = "all kept" if self.kept else "**broken**"
        return f"| {self.fault} | {self.jobs} | {recovery} | {self.avoidable_wait_seconds:.1f} | {kept} |"


def write(page: Path, row: Row, faults: list[str]) -> None:
    """Write a row to the page, in place of an earlier one of the same fault.

    `faults`: the names of all faults, in the order of the rows.
    """
    text = page.read_text() if page.exists() else ""
    lines = [line for line in text.splitlines() if line.startswith("| ") and "---" not in line][1:]
    rows = {line.split(" | ")[0].removeprefix("| "): line for line in lines}
    rows[row.fault] = row.line()
    page.write_text(HEADER + "".join(f"{rows[fault]}\n" for fault in faults if fault in rows))
