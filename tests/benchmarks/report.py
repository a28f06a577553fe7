"""The report of a run, as Markdown for people and as JSON for programs. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from tests.benchmarks.bounds import Verdict
from tests.benchmarks.figures import Figure, Result, ratio_to_raw

MAX_QUIET_SHARE = 0.05
"""The share of all cores that other programs may use in a quiet run."""


def as_json(
    conditions: Mapping[str, str], results: Sequence[Result], verdicts: Iterable[Verdict]
) -> dict[str, Any]:
    """Return the report as JSON."""
    raw = values_by_name(results)
    return {
        "conditions": dict(conditions),
        "figures": {
            figure.name: {"value": figure.value, "unit": figure.unit, "x_raw": ratio_to_raw(figure, raw)}
            for result in results
            for figure in result.figures
        },
        "cpu": {
            result.scenario: {**asdict(result.cpu), "elsewhere": result.cpu.elsewhere} for result in results
        },
        "bounds": [
            {"figure": v.figure, "value": v.value, "bound": v.bound.describe(), "passed": v.passed}
            for v in verdicts
        ],
    }


def as_markdown(conditions: Mapping[str, str], results: Sequence[Result], verdicts: Iterable[Verdict]) -> str:
    """Return the report as Markdown, with a table for each scenario."""
    parts = [
        "; ".join(f"{name}: {value}" for name, value in conditions.items()) + ".",
        describe_other_load(results),
        _table(("Bound", "Measured", "", "Run"), [_verdict(verdict) for verdict in verdicts]),
    ]
    raw = values_by_name(results)
    for result in results:
        rows = [_figure(figure, ratio_to_raw(figure, raw)) for figure in result.figures]
        parts += [f"### {result.scenario}", _table(("Figure", "Value", "Unit", "x raw"), rows)]
        if result.cpu.by_component:
            parts.append(_cpu(result))
    return "\n\n".join(parts) + "\n"


def values_by_name(results: Iterable[Result]) -> dict[str, float]:
    """Return the value of every figure, by its name."""
    return {figure.name: figure.value for result in results for figure in result.figures}


def describe_other_load(results: Iterable[Result]) -> str:
    """Return a sentence about the CPU time that other programs used."""
    shares = {result.scenario: result.cpu.elsewhere for result in results if result.cpu.seconds}
    busy = {scenario: share for scenario, share in shares.items() if share > MAX_QUIET_SHARE}
    by_scenario = ", ".join(f"{scenario} {share:.0%}" for scenario, share in shares.items())
    state = (
        "**The machine was busy with something else, so no figure is final.**"
        if busy
        else "The machine was quiet."
    )
    return f"{state} Share of all cores that other programs used: {by_scenario}."


def as_page(date: str, markdown: str) -> str:
    """Return the page of a full run in docs/performance/results."""
    return f"""\
# Results of {date}

One full run of `make bench`, which wrote this page.
[How to read it](../../performance.md#how-to-read-the-figures).

{markdown}"""


def format_number(value: float) -> str:
    """Return the number with three significant digits, or with all digits of an integer or a large number."""
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def _verdict(verdict: Verdict) -> tuple[str, ...]:
    passed = "pass" if verdict.passed else "**FAIL**"
    bound = f"{verdict.figure} {verdict.bound.describe()}"
    return bound, format_number(verdict.value), passed, verdict.bound.run


def _figure(figure: Figure, ratio: float | None) -> tuple[str, ...]:
    return figure.name, format_number(figure.value), figure.unit, "" if ratio is None else f"{ratio:.2f}"


def _cpu(result: Result) -> str:
    cpu = result.cpu
    spent = sorted(cpu.by_component.items(), key=lambda item: -item[1])
    shares = ", ".join(f"{name} {used / cpu.ours:.0%}" for name, used in spent if used >= cpu.ours / 200)
    return f"{cpu.ours:.1f} s of CPU in {cpu.seconds:.1f} s: {shares}."


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---", "---:", *("---" for _ in head[2:])), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
