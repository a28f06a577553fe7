"""Unit tests mirror the sources, so that a module's test is found without a search.

`phjob_core/scheduling/queue.py` has its test in `tests/unit/core/scheduling/test_queue.py`.
"""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
UNIT_TESTS = ROOT / "tests" / "unit"

PRODUCT = {
    "core": "shared/core/src/phjob_core",
    "kube": "shared/kubernetes/src/phjob_kube",
    "runtime": "shared/runtime/src/phjob_runtime",
    "watcher": "services/watcher/src/phjob_watcher",
    "scheduler": "services/scheduler/src/phjob_scheduler",
    "pod_manager": "services/pod-manager/src/phjob_pod_manager",
    "janitor": "services/janitor/src/phjob_janitor",
    "cli": "cli/src/phjob_cli",
}
"""The packages whose modules all have a unit test, by their folder in `tests/unit`."""
TOOLS = {"benchmarks": "tests/benchmarks", "dev": "dev/src/dev"}
"""Other packages with unit tests. Only their pure modules have one."""

TESTED_ELSEWHERE = {
    "kube/identity_test.py": "tests/integration/chart/test_helm_test.py",
    "runtime/amqp/bus.py": "tests/integration/test_bus.py",
    "watcher/lease.py": "tests/integration/test_lease.py",
}
"""Modules whose behaviour depends on the real server that they use, and the test with that server."""
WITHOUT_LOGIC = {
    "kube/port.py": "protocols",
    "runtime/amqp/port.py": "protocols",
    "pod_manager/progress.py": "an enum and an exception",
    "cli/commands/arguments.py": "options that several commands share",
}
"""Modules without a decision, and what they contain."""
WIRING = ("__init__.py", "__main__.py")
"""The files of a package and of a process. Every test with a real stack runs them."""


def modules(package: str) -> set[str]:
    """Return the modules of a package, such as `core/scheduling/queue.py`."""
    source = ROOT / {**PRODUCT, **TOOLS}[package]
    return {f"{package}/{path.relative_to(source).as_posix()}" for path in source.rglob("*.py")}


def mirrored_modules(package: str) -> set[str]:
    """Return the modules that the unit tests of a package mirror."""
    tests = (path.relative_to(UNIT_TESTS) for path in (UNIT_TESTS / package).rglob("test_*.py"))
    return {test.with_name(test.name.removeprefix("test_")).as_posix() for test in tests}


def test_every_folder_of_unit_tests_is_a_package() -> None:
    """Without this, the tests of a new folder would not be compared with any sources."""
    folders = {path.name for path in UNIT_TESTS.iterdir() if path.is_dir() and any(path.rglob("*.py"))}
    assert folders == PRODUCT.keys() | TOOLS.keys()


def test_a_folder_of_unit_tests_has_nothing_but_tests() -> None:
    """Builders and fakes are in `tests/fakes`, where every test can use them."""
    others = {path.relative_to(UNIT_TESTS) for path in UNIT_TESTS.rglob("*.py")}
    assert {path for path in others if not path.name.startswith("test_")} == {Path("conftest.py")}


@pytest.mark.parametrize("package", [*PRODUCT, *TOOLS])
def test_every_unit_test_has_its_module(package: str) -> None:
    """A module that is renamed takes its test along."""
    assert mirrored_modules(package) - modules(package) == set()


@pytest.mark.parametrize("package", PRODUCT)
def test_every_module_has_its_unit_test_or_a_reason(package: str) -> None:
    """A new module without a test needs an entry here."""
    exempt = {module for module in modules(package) if module.endswith(WIRING)}
    untested = modules(package) - mirrored_modules(package) - exempt
    assert untested - TESTED_ELSEWHERE.keys() - WITHOUT_LOGIC.keys() == set()


@pytest.mark.parametrize("module", [*TESTED_ELSEWHERE, *WITHOUT_LOGIC])
def test_an_exception_is_still_one(module: str) -> None:
    """Otherwise the entry would hide a module that has lost its test."""
    package = module.partition("/")[0]
    assert module in modules(package) - mirrored_modules(package)


@pytest.mark.parametrize("test", TESTED_ELSEWHERE.values())
def test_a_test_with_a_real_server_exists(test: str) -> None:
    """It may have been renamed."""
    assert (ROOT / test).is_file()
