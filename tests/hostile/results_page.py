"""The page docs/performance/hostile.md: what each attack did, and the memory table, written by the runs."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.hostile.catalogue import ATTACKS, Attack
from tests.support.cluster import SERVICES

KIB, MIB = 1024, 1024**2
MAX_SLOWDOWN = 3
"""The most that an attack may multiply the p99 of the victim's time from submission to admission."""
FLOOR_MS = 50
"""What an attack may add in any case.

On a small machine, the attacker's requests and the services share the cores with the API server. Without
this, a few time slices of Linux, of a few ms each, would count as a slowdown.
"""
MAX_PEAK_MIB = 256
"""The bound of the memory of a service with as many jobs as the memory table has, as in the benchmarks."""

HEADER = f"""\
# Hostile tenants

For operators. This page answers what one user can do to the others, and how much memory the services
need. `make hostile` writes it, on a machine with two cores that also runs the whole control plane and
the attacker's client. [Security](../security.md) has the guarantees.

The chart is installed with its policies. Each service has its account, its RabbitMQ user and the
memory limit of its container, which the kernel enforces. The attacker is one person with the role
`phjob-submitter`, and a member of one group. Another user, the victim, submits a small job twice a
second to another group.

## Attacks

During each attack, all of this must hold:

- Every job of the victim is accepted, admitted and successful.
- The p99 of the time from submission to admission is at most {MAX_SLOWDOWN} times that without an attack,
  plus {FLOOR_MS} ms.
- No service is killed, ends or reaches its memory limit.

The peaks are those of {", ".join(SERVICES)}.

| Attack | The attacker | What must hold, too | p99 without, ms | during, ms | Peaks, MiB | Result |
| --- | --- | --- | ---: | ---: | --- | --- |
"""
MEMORY = f"""
## Memory

The resident memory of each service. The peak when a service starts with all of these jobs must be at
most {MAX_PEAK_MIB} MiB. *A job* is what one job adds to that peak. The benchmarks measure it
([Performance](../performance.md)).

| Jobs | {" | ".join(SERVICES)} |
| --- | {"---: | " * len(SERVICES)}
"""
KINDS = ("pending", "running", "finished, with pods")
MEASURES = ("KiB a job", "MiB, peak")


@dataclass(frozen=True)
class MemoryRow:
    """The memory of each service that starts with many jobs of one kind."""

    kind: str
    jobs: int
    bytes_per_job: dict[str, float]
    """What a job adds to the peak, by service."""
    peak_mib: dict[str, float]

    def lines(self) -> list[str]:
        """Return the rows of the table."""
        per_job = {name: size / KIB for name, size in self.bytes_per_job.items()}
        return [
            f"| {self.jobs:,} {self.kind}: {measure} | {' | '.join(f'{of[name]:.1f}' for name in SERVICES)} |"
            for measure, of in zip(MEASURES, (per_job, self.peak_mib), strict=True)
        ]


def attack_line(
    attack: Attack, p99: tuple[float, float], peaks: Mapping[str, int], problems: Sequence[str]
) -> str:
    """Return the row of an attack. `p99` is without and during the attack."""
    without, during = p99
    peak = ", ".join(f"{peaks.get(name, 0) / MIB:.0f}" for name in SERVICES)
    result = "**broken**" if problems else "all held"
    cells = (attack.name, attack.does, attack.holds, f"{without:.0f}", f"{during:.0f}", peak, result)
    return f"| {' | '.join(cells)} |"


def write(page: Path, lines: Iterable[str]) -> None:
    """Write rows to the page, in place of earlier ones of the same name."""
    text = page.read_text() if page.exists() else ""
    lines = [line for line in (*text.splitlines(), *lines) if line.startswith("| ")]
    named = {_first_cell(line): line for line in lines}
    attacks = [named[attack.name] for attack in ATTACKS if attack.name in named]
    # Without the number of jobs, with which such a row begins.
    kinds = {_first_cell(line).partition(" ")[2]: line for line in lines}
    names = (f"{kind}: {measure}" for kind in KINDS for measure in MEASURES)
    memory = [kinds[name] for name in names if name in kinds]
    page.write_text(
        "".join((HEADER, *(f"{row}\n" for row in attacks), MEMORY, *(f"{row}\n" for row in memory)))
    )


def _first_cell(line: str) -> str:
    return line.split(" | ", maxsplit=1)[0].removeprefix("| ")
