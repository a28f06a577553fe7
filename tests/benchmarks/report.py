"""What a run says, for people (Markdown) and for programs (JSON). Pure; who writes it where is `run`'s."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from tests.benchmarks.bounds import Verdict
from tests.benchmarks.figures import Figure, Result, against_raw

BEGIN, END = "<!-- figures of the last full run: begin -->", "<!-- end -->"
QUIET = 0.05
"""The share of all cores that others may use beside a run that is called quiet."""


def as_json(
    conditions: Mapping[str, str], results: Sequence[Result], verdicts: Iterable[Verdict]
) -> dict[str, Any]:
    """All of it."""
    raw = by_name(results)
    return {
        "conditions": dict(conditions),
        "figures": {
            figure.name: {"value": figure.value, "unit": figure.unit, "x_raw": against_raw(figure, raw)}
            for result in results
            for figure in result.figures
        },
        "cpu": {
            result.scenario: {**asdict(result.usage), "elsewhere": result.usage.elsewhere}
            for result in results
        },
        "bounds": [
            {"figure": v.figure, "value": v.value, "bound": v.bound.words(), "passed": v.passed}
            for v in verdicts
        ],
    }


def as_markdown(conditions: Mapping[str, str], results: Sequence[Result], verdicts: Iterable[Verdict]) -> str:
    """The same as tables."""
    parts = [
        "; ".join(f"{name}: {value}" for name, value in conditions.items()) + ".",
        quietness(results),
        _table(("Bound", "Measured", "", "Its run"), [_verdict(verdict) for verdict in verdicts]),
    ]
    raw = by_name(results)
    for result in results:
        rows = [_figure(figure, against_raw(figure, raw)) for figure in result.figures]
        parts += [f"### {result.scenario}", _table(("Figure", "Value", "Unit", "x raw"), rows)]
        if result.usage.by_component:
            parts.append(_cpu(result))
    return "\n\n".join(parts) + "\n"


def by_name(results: Iterable[Result]) -> dict[str, float]:
    """Every figure's value."""
    return {figure.name: figure.value for result in results for figure in result.figures}


def quietness(results: Iterable[Result]) -> str:
    """What else used the CPU."""
    shares = {result.scenario: result.usage.elsewhere for result in results if result.usage.seconds}
    loud = {scenario: share for scenario, share in shares.items() if share > QUIET}
    told = ", ".join(f"{scenario} {share:.0%}" for scenario, share in shares.items())
    said = (
        "**The machine was busy with something else: take no figure for final.**"
        if loud
        else "The machine was quiet."
    )
    return f"{said} Of all cores, programs that are not the bench's used: {told}."


def filled(page: str, markdown: str) -> str:
    """The page with this between its marks."""
    before, _, rest = page.partition(BEGIN)
    return f"{before}{BEGIN}\n\n{markdown}\n{END}{rest.partition(END)[2]}"


def number(value: float) -> str:
    """With the digits that mean something."""
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def _verdict(verdict: Verdict) -> tuple[str, ...]:
    passed = "pass" if verdict.passed else "**FAIL**"
    return f"{verdict.figure} {verdict.bound.words()}", number(verdict.value), passed, verdict.bound.run


def _figure(figure: Figure, ratio: float | None) -> tuple[str, ...]:
    return figure.name, number(figure.value), figure.unit, "" if ratio is None else f"{ratio:.2f}"


def _cpu(result: Result) -> str:
    usage = result.usage
    spent = sorted(usage.by_component.items(), key=lambda item: -item[1])
    shares = ", ".join(f"{name} {cpu / usage.ours:.0%}" for name, cpu in spent if cpu >= usage.ours / 200)
    return f"{usage.ours:.1f} s of CPU in {usage.seconds:.1f} s: {shares}."


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---", "---:", *("---" for _ in head[2:])), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
