"""docs/faults.md: what each fault did to a run, written by the runs themselves."""

from dataclasses import dataclass
from pathlib import Path

HEADER = """\
# What faults do

Each line is a run of jobs over six groups, in the middle of which something real broke: `make faults` made
this page, on a machine with two cores that also ran the whole control plane. ARCHITECTURE.md says why it
comes out like this.

The jobs have every fate: they succeed, fail, run over their deadline, are cancelled while they run, never
start and are requeued, and some have a short TTL. Half of the groups have user quotas, one shares its quota
with a Jupyter server. *Recovery* is the time from the fault's end (a killed process is started again, with two
replicas it is not) to the next admission. *Vain wait* is the longest time, after the fault's end, that a job
waited that could have gone.

All of these were checked in every run, from etcd's own record of every revision: I1 no group and no
user over quota at any revision; I2 jobs enter Preparing in their order; I3 one pod a job at a time, and no command
twice; I4 every job ends as it must, and no vain wait is longer than 10 s (but for the time that a fault needs
to be noticed: see the column); I5 phases move along the state diagram; I6 nothing is left: queues,
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
