"""The reference pages that are generated from the code: `python -m dev docs`.

A test compares them with the files in `docs/reference`, so that they cannot drift from the product.
"""

from pathlib import Path

from dev.docs import messages, metrics, pod_status, settings, state_machine

FOLDER = Path(__file__).parents[4] / "docs" / "reference"


def files() -> dict[Path, str]:
    """Return the content of each generated page, by its path."""
    pages = {
        "messages.md": messages.page(),
        "metrics.md": metrics.page(),
        "pod-status.md": pod_status.page(),
        "settings.md": settings.page(),
        "state-machine.md": state_machine.page(),
    }
    return {FOLDER / name: content for name, content in pages.items()}
