"""How large the attacks are: `make hostile` runs them in full, `make test` in a reduced form."""

import os
from dataclasses import dataclass
from pathlib import Path

RESULTS_PAGE = Path(page) if (page := os.environ.get("PHJOB_HOSTILE", "")) else None
"""The page to write; None if none is to be written. Only then, the attacks have their full scale."""


@dataclass(frozen=True)
class Scale:
    """The sizes of all attacks."""

    large_jobs: int
    pending_jobs: int
    group_names: int
    edits: int
    deleted_jobs: int
    kept_records: int
    log_bytes: int
    """The size of the attacker's logs together."""
    requests_per_second: float
    """The rate of the attacker's requests. 0: as fast as they are answered."""
    victim_jobs: int
    """The number of admissions of the victim in each measurement, at least."""
    victim_jobs_per_second: float
    max_pending_per_user: int
    never_ran_ttl_seconds: int
    """Settings of the installation. At full scale, they are the chart's defaults."""
    quota: bool
    """Whether the namespace has the chart's ResourceQuota, which takes minutes to be in force."""
    rejected_jobs_left: int
    """The number of rejected jobs that may be left in a group before their TTL is over."""


FULL = Scale(
    large_jobs=2_000,
    pending_jobs=100_000,
    group_names=100_000,
    edits=10_000,
    deleted_jobs=10_000,
    kept_records=5_000,
    log_bytes=1024**3,
    requests_per_second=10_000 / 60,
    victim_jobs=120,
    victim_jobs_per_second=2,
    max_pending_per_user=10_000,
    never_ran_ttl_seconds=3_600,
    quota=True,
    rejected_jobs_left=1_000,
)
SMALL = Scale(
    large_jobs=20,
    pending_jobs=150,
    group_names=100,
    edits=1_000,
    deleted_jobs=100,
    kept_records=60,
    log_bytes=16 * 1024**2,
    requests_per_second=0,
    victim_jobs=5,
    victim_jobs_per_second=5,
    max_pending_per_user=100,
    never_ran_ttl_seconds=5,
    quota=False,
    rejected_jobs_left=0,
)
SCALE = FULL if RESULTS_PAGE else SMALL
