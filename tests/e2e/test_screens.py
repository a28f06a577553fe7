"""The screens that the README shows: three groups at work, on a terminal.

`PHJOB_PICTURES=FOLDER` draws them into that folder.
"""

import os
from pathlib import Path
from typing import Any

import pytest
from rich.text import Text
from tests.support.builders import a_group, a_job, a_notebook, an_image, an_instance_type
from tests.support.cli import Cli
from tests.support.hub import Hub
from tests.support.screens import draw
from tests.support.waiting import eventually

from kubectl_phjob.errors import Exit

PICTURES = os.environ.get("PHJOB_PICTURES")
GROUPS: dict[str, dict[str, Any]] = {
    "vision": {"groupQuota": {"gpu": 4, "cpu": 16}, "userQuota": {"gpu": 3}},
    "speech": {"groupQuota": {"gpu": 8, "memory": "64Gi"}},
    "robotics": {"groupQuota": {"cpu": 40}},
}
SCREENS = {
    ("queue", "vision"): (
        "of that 1 by notebooks",
        "each user may have gpu 3",
        "user quota: gpu 2 of 3 used",
    ),
    ("why", "augment"): ("it waits behind detect: group quota: gpu 4 of 4 used, needs 2", "Starts: "),
    ("top", "--once"): ("gpu ████████ 4/4", "detect: group quota"),
}
"""The words of each command, and what must be on its screen."""
GPU = "nvidia.com/gpu"


@pytest.fixture
def cli(hub: Hub) -> Cli:
    """For ann; in the group vision some jobs have run, some run, a notebook is open, some wait."""
    hub.create(an_image(), *(an_instance_type(f"gpu-{gpus}", gpus=gpus) for gpus in (1, 2)))
    for name, quotas in GROUPS.items():
        hub.create(a_group(name, instanceTypes=["gpu-1", "gpu-2"], **quotas))
    run(hub, "vision", {f"warm-up-{n}": ("ann", 1) for n in range(3)}, seconds=3, until="Succeeded")
    hub.create(a_notebook("jupyter-lin", group="vision", user="lin", **{GPU: "1"}))
    eventually(lambda: hub.pod("jupyter-lin"), "the notebook is there")
    run(hub, "vision", {"train-resnet": ("ann", 2), "segment": ("bob", 1)}, seconds=600, until="Running")
    run(hub, "speech", {"whisper-0": ("eve", 2), "whisper-1": ("eve", 2)}, seconds=600, until="Running")
    run(hub, "vision", {"finetune": ("ann", 2), "detect": ("lin", 2), "augment": ("bob", 1)}, seconds=5)
    hub.says("finetune", "UserQuota")
    hub.says("detect", "GroupQuota")
    return Cli(hub.stack.kubeconfig, PHJOB_USER="ann")


def run(
    hub: Hub, group: str, jobs: dict[str, tuple[str, int]], *, seconds: int, until: str = "Pending"
) -> None:
    """Create jobs (of a user, with so many GPUs), and wait until all are in that phase."""
    for name, (user, gpus) in jobs.items():
        hub.create(
            a_job(
                name, group=group, user=user, instanceType=f"gpu-{gpus}",
                run_for=f"{seconds}s", activeDeadlineSeconds=seconds * 6,
            )
        )  # fmt: skip
    for name in jobs:
        hub.reaches(name, until)


def test_the_screens(cli: Cli) -> None:
    """As a person sees them."""
    for words, shows in SCREENS.items():
        terminal = cli.on_a_terminal(*words)
        shown = terminal.read().decode().replace("\r\n", "\n")
        assert terminal.end() == Exit.OK
        for text in shows:
            assert text in Text.from_ansi(shown).plain
        if PICTURES:
            prompt = f"\x1b[1m$ kubectl phjob {' '.join(words)}\x1b[0m\n"
            draw(prompt + shown.rstrip(), Path(PICTURES) / f"{words[0]}.svg")
