"""The command of `make bench`: it measures scenarios, and compares the figures with the bounds.

The exit code is 1 if a bound is not kept.
"""

import argparse
import signal
import sys
from pathlib import Path
from typing import NoReturn

from tests.benchmarks.report import format_number
from tests.benchmarks.run import SCENARIOS, run

from dev.errors import DevError

INTERRUPTS = (signal.SIGINT, signal.SIGTERM)


def _interrupt(*_: object) -> NoReturn:
    """End with the stack deleted, and ignore further signals.

    Without this, a second signal would interrupt the deletion. It is usual, because uv and timeout forward
    the signals that the terminal sends to all processes.
    """
    for number in INTERRUPTS:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def main(arguments: list[str] | None = None) -> int:
    """Run the command. Returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--scale", default="full", choices=("full", "small", "tiny"))
    parser.add_argument("--only", nargs="*", default=[], choices=SCENARIOS)
    parser.add_argument("--folder", type=Path, default=Path(".local/bench"))
    options = parser.parse_args(arguments)
    options.folder.mkdir(parents=True, exist_ok=True)
    try:
        verdicts = run(options.scale, options.only or SCENARIOS, options.folder)
    except DevError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("bench: interrupted; nothing is left running", file=sys.stderr)
        return 130
    print((options.folder / "results.md").read_text())
    for verdict in verdicts:
        passed = "pass" if verdict.passed else "FAIL"
        print(f"{passed}  {verdict.figure} {format_number(verdict.value)}, {verdict.bound.describe()}")
    print(f"Results: {options.folder}/results.json, results.md")
    return 0 if all(verdict.passed for verdict in verdicts) else 1


if __name__ == "__main__":
    for number in INTERRUPTS:
        signal.signal(number, _interrupt)
    sys.exit(main())
