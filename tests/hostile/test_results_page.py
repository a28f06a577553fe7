"""The results page keeps the rows of earlier runs, in the order of the lists."""

from pathlib import Path

from tests.hostile.catalogue import ATTACKS
from tests.hostile.results_page import MIB, MemoryRow, attack_line, write
from tests.support.cluster import SERVICES


def test_a_row_replaces_the_earlier_one_of_its_attack(tmp_path: Path) -> None:
    """A run of some attacks leaves the rows of the others."""
    page, peaks = tmp_path / "hostile.md", dict.fromkeys(SERVICES, 100 * MIB)
    first, second = ATTACKS[:2]
    write(page, [attack_line(second, (10, 20), peaks, [])])
    write(page, [attack_line(first, (10, 20), peaks, [])])
    write(page, [attack_line(second, (11, 99), peaks, ["the victim's p99 was 99 ms"])])
    rows = [line for line in page.read_text().splitlines() if line.startswith("| ")]
    assert rows[2].startswith(f"| {first.name} |")
    assert rows[2].endswith("| 10 | 20 | 100, 100, 100, 100 | all held |")
    assert rows[3].startswith(f"| {second.name} |")
    assert rows[3].endswith("| 11 | 99 | 100, 100, 100, 100 | **broken** |")


def test_the_memory_table_has_two_rows_for_each_kind_of_jobs(tmp_path: Path) -> None:
    """They replace the earlier ones, also if the number of jobs differs."""
    page = tmp_path / "hostile.md"
    for jobs in (2_000, 100_000):
        write(
            page,
            MemoryRow("pending", jobs, dict.fromkeys(SERVICES, 1536.0), dict.fromkeys(SERVICES, 200)).lines(),
        )
    table = page.read_text().partition("## Memory")[2]
    rows = [line for line in table.splitlines() if line.startswith("| ")][2:]
    assert rows == [
        "| 100,000 pending: KiB a job | 1.5 | 1.5 | 1.5 | 1.5 |",
        "| 100,000 pending: MiB, peak | 200.0 | 200.0 | 200.0 | 200.0 |",
    ]
