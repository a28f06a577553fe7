"""One user attacks, and the jobs of another go on. The services have the memory limits of the chart.

`make hostile` runs the attacks in full, compares the victim's times and writes the results page. Other runs
have a reduced scale, and check only what does not depend on speed.
"""

from collections.abc import Iterator

import pytest
from tests.benchmarks.figures import percentile
from tests.hostile import results_page, tricks
from tests.hostile.arena import HISTORY_LIMIT, Arena, create_catalog, new_arena
from tests.hostile.catalogue import ATTACKS, Attack
from tests.hostile.results_page import FLOOR_MS, MAX_SLOWDOWN
from tests.hostile.scale import RESULTS_PAGE, SCALE
from tests.support.measurements import MeasurementReporter
from tests.support.memory_groups import can_limit_memory

from dev.errors import DevError

pytestmark = pytest.mark.timeout(7200 if RESULTS_PAGE else 600)

SETTINGS = {
    "historyLimit": HISTORY_LIMIT,
    "maxPendingPerUser": SCALE.max_pending_per_user,
    "neverRanTTLSeconds": SCALE.never_ran_ttl_seconds,
    "reservedNames": tricks.RESERVED_NAMES,
}
"""The `jobSubmission` settings of the installation."""


@pytest.fixture(scope="module")
def arena(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    """The stack of this module, with its services and its users."""
    if not can_limit_memory():
        pytest.skip("memory limits need Linux and root")
    with new_arena(tmp_path_factory.mktemp("hostile")) as arena:
        arena.install(SETTINGS, quota=SCALE.quota)
        create_catalog(arena)
        yield arena


@pytest.fixture(scope="module")
def quiet(arena: Arena) -> dict[bool, float]:
    """The p99 of the victim's times without an attack, by whether all services restart meanwhile."""
    return {restarts: p99_without_attack(arena, restarts=restarts) for restarts in (False, True)}


def p99_without_attack(arena: Arena, *, restarts: bool) -> float:
    """Measure the victim without an attack."""
    with arena.victim() as victim:
        if restarts:
            arena.restart_services()
        victim.wait_for_admissions(SCALE.victim_jobs)
        jobs = victim.finish()
    assert not jobs.problems()
    return percentile(jobs.milliseconds(), 99)


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_an_attack_harms_no_other_user(
    arena: Arena, quiet: dict[bool, float], attack: Attack, report_measurement: MeasurementReporter
) -> None:
    """The victim's jobs are admitted and succeed, no service is killed, and what must hold holds."""
    arena.begin_measurement()
    failure = ""
    with arena.victim() as victim:
        try:
            attack.run(arena)
            victim.wait_for_admissions(SCALE.victim_jobs)
        except (AssertionError, DevError) as error:  # DevError: a service does not become ready again.
            failure = str(error)
        jobs = victim.finish()
    problems = [*filter(None, [failure]), *arena.problems(), *jobs.problems()]
    before, during = quiet[attack.restarts], percentile(jobs.milliseconds() or [0.0], 99)
    if RESULTS_PAGE and during > MAX_SLOWDOWN * before + FLOOR_MS:
        problems.append(f"the victim's p99 was {during:.0f} ms, and {before:.0f} ms without the attack")
    line = results_page.attack_line(attack, (before, during), arena.peaks(), problems)
    report_measurement(line)
    if RESULTS_PAGE:
        results_page.write(RESULTS_PAGE, [line])
    arena.delete_attackers_jobs()
    assert not problems, problems
