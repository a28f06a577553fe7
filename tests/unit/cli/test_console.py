import io
import json
import unicodedata
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest
import yaml
from rich.console import Console as RichConsole

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
    with console.progress("job-1: Pending") as show:
        show("job-1: Running")
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


HOSTILE = "a\x1b]0;owned\x07b\x1b[2Jc\x9bd\u202ee\nNAME  f\x7f"
"""A title sequence, a sequence that clears the screen, one in C1, a reversal, a line, and a deletion."""
SHOWN = r"a\u001b]0;owned\u0007b\u001b[2Jc\u009bd\u202ee\nNAME  f\u007f"


def controls_of(output: str) -> set[str]:
    """Return the control characters that reach the terminal."""
    return {char for char in output if unicodedata.category(char) in ("Cc", "Zl", "Zp") or char == "\u202e"}


def test_no_output_but_a_log_can_control_the_terminal(
    console: Console, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """Other users write names, titles and messages (CVE-2021-25743 was the same in kubectl)."""
    console.line(HOSTILE, "bold")
    console.note(HOSTILE)
    console.table(["NAME", "MESSAGE"], [[HOSTILE, "x"], ["y", HOSTILE]])
    console.pairs([("Cause", HOSTILE), ("Ahead", [HOSTILE, HOSTILE])])
    for form in (Format.JSON, Format.YAML):
        console.data({"message": HOSTILE, HOSTILE: [HOSTILE]}, form)
    out, err = (written.decode() for written in capfdbinary.readouterr())
    assert controls_of(out + err) == {"\n"}
    assert (out.splitlines()[0], err) == (SHOWN, f"{SHOWN}\n")
    console.write(HOSTILE.encode())
    assert capfdbinary.readouterr()[0] == HOSTILE.encode()


def test_a_line_break_makes_no_line_of_its_own_in_a_table(
    console: Console, capsys: pytest.CaptureFixture[str]
) -> None:
    """It could pass for a row. Columns are as wide as what is shown."""
    console.table(["NAME", "STATUS"], [["a\nb", "Running"], ["c", "Pending"]])
    assert capsys.readouterr().out == "NAME   STATUS\na\\nb   Running\nc      Pending\n"


def test_a_line_break_in_a_value_cannot_pass_for_a_label(
    console: Console, capsys: pytest.CaptureFixture[str]
) -> None:
    """The message of a failed job ends with lines of its log."""
    console.pairs([("Cause", "exit code 1:\nNext step:  run this\n\x1b[1mend"), ("Next step", "wait")])
    assert capsys.readouterr().out == (
        "Cause:       exit code 1:\n"
        "             Next step:  run this\n"
        "             \\u001b[1mend\n"
        "Next step:   wait\n"
    )


@pytest.mark.parametrize("form", [Format.JSON, Format.YAML])
def test_programs_get_control_characters_unchanged(
    console: Console, capsys: pytest.CaptureFixture[str], form: Format
) -> None:
    """As escapes, which are the characters once they are read."""
    value = {"message": HOSTILE, "lines": "two\nlines", "plain": "\u4e2d\u6587"}
    console.data(value, form)
    output = capsys.readouterr().out
    assert (json.loads if form is Format.JSON else yaml.safe_load)(output) == value
    assert "\u4e2d\u6587" in output


def test_a_spinner_shows_other_users_texts_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rich would take `[bold]` for its own markup."""
    stream = io.StringIO()
    console = Console()
    monkeypatch.setattr(console, "_errors", RichConsole(file=stream, force_terminal=True, width=200))
    with console.progress("[bold]\x07 begin"):
        pass
    with console.progress("") as show:
        show("[blink]\x1b]0;t\x07 end")
    assert r"[bold]\u0007 begin" in stream.getvalue()
    assert r"[blink]\u001b]0;t\u0007 end" in stream.getvalue()
