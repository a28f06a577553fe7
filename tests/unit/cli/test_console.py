import json
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest
import yaml

from phjob_cli.console import Console, Format, bar
from phjob_core.api import Phase


@dataclass
class Sample:
    next_step: str
    empty: str = ""
    missing: None = None


@pytest.fixture
def console() -> Console:
    return Console()


def test_a_table_has_columns_as_wide_as_their_cells(
    console: Console, capsys: pytest.CaptureFixture[str]
) -> None:
    """A pipe gets no colours, and a line no spaces at its end."""
    console.table(["NAME", "STATUS"], [["a-long-name", "Running"], ["b", ""]])
    assert capsys.readouterr().out == "NAME          STATUS\na-long-name   Running\nb\n"


def test_pairs_are_aligned_and_empty_values_are_left_out(
    console: Console, capsys: pytest.CaptureFixture[str]
) -> None:
    """Several values of one label get one line each."""
    console.pairs([("Job", "train"), ("Ahead", ["head", "second"]), ("Place", ""), ("Held by", [])])
    assert capsys.readouterr().out == (
        "Job:       train\n"
        "Ahead:     head\n"
        "           second\n"
    )  # fmt: skip


@pytest.mark.parametrize("form", [Format.JSON, Format.YAML])
def test_data_has_the_names_and_times_of_kubernetes(
    console: Console, capsys: pytest.CaptureFixture[str], form: Format
) -> None:
    """Fields are in camel case and empty ones left out; names of resources stay as they are."""
    time = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
    console.data([Sample("wait"), {"at_time": time, "nvidia.com/gpu": 1, "phase": Phase.RUNNING}], form)
    output = capsys.readouterr().out
    assert (json.loads if form is Format.JSON else yaml.safe_load)(output) == [
        {"nextStep": "wait"},
        {"atTime": "2026-01-02T03:04:05Z", "nvidia.com/gpu": 1, "phase": "Running"},
    ]


def test_a_note_goes_to_standard_error(console: Console, capsys: pytest.CaptureFixture[str]) -> None:
    """The answer in a pipe stays free of it."""
    console.line("answer")
    console.note("note")
    assert capsys.readouterr() == ("answer\n", "note\n")


def test_without_a_terminal_there_is_no_progress(
    console: Console, capsys: pytest.CaptureFixture[str]
) -> None:
    """A spinner would fill a log file."""
    with console.progress("job-1: Pending") as status:
        assert status is None
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("form", "structured"), [("wide", False), ("json", True), ("yaml", True)])
def test_json_and_yaml_are_for_programs(form: str, *, structured: bool) -> None:
    """`wide` is a table with more columns."""
    assert Format(form).is_structured is structured


@pytest.mark.parametrize(
    ("used", "limit", "shown"),
    [(0, 4, "░░░░"), (1, 4, "█░░░"), (4, 4, "████"), (5, 4, "████"), (0, 0, "████")],
)
def test_a_bar_shows_the_used_share(used: int, limit: int, shown: str) -> None:
    """A limit of 0 is used up, and usage may exceed a limit that was lowered."""
    assert bar(used, limit, 4) == shown
