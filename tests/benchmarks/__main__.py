"""`make bench SCALE=small ONLY=latency`: measures, and tells the bounds with pass or fail.

Exit code 1: a bound is not kept.
"""

import argparse
import signal
import sys
from pathlib import Path
from typing import NoReturn

from tests.benchmarks.report import number as rounded
from tests.benchmarks.run import SCENARIOS, run

from dev.errors import DevError

ENDING = (signal.SIGINT, signal.SIGTERM)


def _end(*_: object) -> NoReturn:
    """End in order, also where a shell has let Ctrl-C be ignored; a second one does not break that off.

    It may well come: uv and timeout pass on what the terminal sends to all.
    """
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def main(arguments: list[str] | None = None) -> int:
    """Run what the arguments say."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--scale", default="full", choices=("full", "small", "tiny"))
    parser.add_argument("--only", nargs="*", default=[], choices=SCENARIOS)
    parser.add_argument("--folder", type=Path, default=Path(".local/bench"))
    given = parser.parse_args(arguments)
    given.folder.mkdir(parents=True, exist_ok=True)
    try:
        judged = run(given.scale, given.only or SCENARIOS, given.folder)
    except DevError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("bench: interrupted; nothing is left running", file=sys.stderr)
        return 130
    print((given.folder / "results.md").read_text())
    for verdict in judged:
        said = "pass" if verdict.passed else "FAIL"
        print(f"{said}  {verdict.figure} {rounded(verdict.value)}, {verdict.bound.words()}")
    print(f"Results: {given.folder}/results.json, results.md")
    return 0 if all(verdict.passed for verdict in judged) else 1


if __name__ == "__main__":
    for number in ENDING:
        signal.signal(number, _end)
    sys.exit(main())
