"""The program: `kubectl phjob`, which kubectl finds as `kubectl-phjob` on the PATH."""

import gc
import sys

ENOUGH = 100_000
"""New objects after which garbage is looked for: what a command lists lives as long as the command."""


def main() -> None:
    """Run the command of the command line."""
    gc.set_threshold(ENOUGH, 50, 100)
    try:
        # Here, so that Ctrl-C is answered in one line also while the program is loaded.
        from kubectl_phjob import commands  # noqa: F401, PLC0415 - they register themselves
        from kubectl_phjob.app import app  # noqa: PLC0415

        app(prog_name="kubectl phjob" if sys.argv[0].endswith("kubectl-phjob") else "kubectl-phjob")
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(130)


if __name__ == "__main__":
    main()
