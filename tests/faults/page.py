"""docs/faults.md: what each fault did to a run, written by the runs themselves."""

from dataclasses import dataclass
from pathlib import Path

from shared.bus import HEARTBEAT

HEADER = f"""\
# What faults do

Each line is a run of jobs over six groups, in the middle of which something real broke. `make faults` made
this page, on a machine with two cores that also ran the whole control plane. ARCHITECTURE.md says why it
comes out like this.

The jobs have every fate: they succeed, fail, run over their deadline, are cancelled while they run, never
start and are requeued, and some have a short TTL. Half of the groups have user quotas, and one shares its
quota with a Jupyter server.

- *Recovery*: from the fault's end to the next admission. What was killed is started again at the fault's
  end; with two replicas it is not, and recovery is the takeover.
- *Vain wait*: the longest that a job waited, after the fault's end, which the rule would have let go.

A connection that is half-open stays so when the fault is over, until somebody misses something: RabbitMQ's
heartbeats, for {2 * HEARTBEAT} s; the answer to a request, for 30 s; to the renewal of the watcher's Lease,
for 5 s.

These were checked in every run, from etcd's own record of every revision:

- I1 no group and no user is over quota at any revision; I2 jobs enter Preparing in their order; I3 a job has
  one pod at a time, and no command runs twice;
- I4 every job ends as it must; I5 phases move along the state diagram; I6 nothing is left: messages, queues,
  connections, counted quota, pods.

| Fault | Jobs | Recovery, s | Vain wait, s | Invariants |
| --- | ---: | ---: | ---: | --- |
"""


@dataclass(frozen=True)
class Row:
    """One run."""

    fault: str
    jobs: int
    recovery: float | None
    vain_wait: float
    kept: bool

    def line(self) -> str:
        """Of the table."""
        recovery = "none needed" if self.recovery is None else f"{self.recovery:.1f}"
        kept = "I1-I6 kept" if self.kept else "**broken**"
        return f"| {self.fault} | {self.jobs} | {recovery} | {self.vain_wait:.1f} | {kept} |"


def write(page: Path, row: Row, order: list[str]) -> None:
    """Put a run into the page, in place of an earlier one of the same fault."""
    text = page.read_text() if page.exists() else ""
    lines = [line for line in text.splitlines() if line.startswith("| ") and "---" not in line][1:]
    rows = {line.split(" | ")[0].removeprefix("| "): line for line in lines}
    rows[row.fault] = row.line()
    page.write_text(HEADER + "".join(f"{rows[fault]}\n" for fault in order if fault in rows))
