"""Entry point of the program `kubectl-phjob`, which kubectl runs for `kubectl phjob`."""

import gc
import sys

GC_THRESHOLD_OBJECTS = 100_000
"""New objects between two runs of the garbage collector.

The objects that a command lists live as long as the command, so a collection finds nothing.
"""


def main() -> None:
    """Run the command line."""
    gc.set_threshold(GC_THRESHOLD_OBJECTS, 50, 100)
    try:
        # Without the late import, Ctrl-C while the modules are loaded would end in a traceback.
        from phjob_cli.app import create_app  # noqa: PLC0415

        app = create_app()
        app(prog_name="kubectl phjob" if sys.argv[0].endswith("kubectl-phjob") else "kubectl-phjob")
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(130)


if __name__ == "__main__":
    main()
