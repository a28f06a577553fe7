"""The screens in the README: the output of commands on a terminal, for three busy groups.

With `PHJOB_PICTURES=FOLDER`, they are drawn into that folder.
"""

import os
from pathlib import Path
from typing import Any

import pytest
from rich.text import Text
from tests.support.builders import a_group, a_job, a_notebook, an_image, an_instance_type
from tests.support.cli import Cli
from tests.support.cluster import Cluster
from tests.support.terminal_pictures import draw_terminal
from tests.support.waiting import eventually

from phjob_cli.errors import Exit

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
"""The arguments of each command, and texts that have to be on its screen."""
GPU = "nvidia.com/gpu"


@pytest.fixture
def cli(cluster: Cluster) -> Cli:
    """Create finished, running and pending jobs and a notebook. Returns ann's CLI."""
    cluster.create(an_image(), *(an_instance_type(f"gpu-{gpus}", gpus=gpus) for gpus in (1, 2)))
    for name, quotas in GROUPS.items():
        cluster.create(a_group(name, instanceTypes=["gpu-1", "gpu-2"], **quotas))
    run(cluster, "vision", {f"warm-up-{n}": ("ann", 1) for n in range(3)}, seconds=3, until="Succeeded")
    cluster.create(a_notebook("jupyter-lin", group="vision", user="lin", **{GPU: "1"}))
    eventually(lambda: cluster.pod("jupyter-lin"), "the notebook exists")
    run(cluster, "vision", {"train-resnet": ("ann", 2), "segment": ("bob", 1)}, seconds=600, until="Running")
    run(cluster, "speech", {"whisper-0": ("eve", 2), "whisper-1": ("eve", 2)}, seconds=600, until="Running")
    run(cluster, "vision", {"finetune": ("ann", 2), "detect": ("lin", 2), "augment": ("bob", 1)}, seconds=5)
    cluster.wait_for_reason("finetune", "UserQuota")
    cluster.wait_for_reason("detect", "GroupQuota")
    return Cli(cluster.stack.kubeconfig, PHJOB_USER="ann")


def run(
    cluster: Cluster, group: str, jobs: dict[str, tuple[str, int]], *, seconds: int, until: str = "Pending"
) -> None:
    """Create jobs, and wait until all are in the phase `until`.

    `jobs`: the user and the number of GPUs of each job.
    """
    for name, (user, gpus) in jobs.items():
        cluster.create(
            a_job(
                name, group=group, user=user, instanceType=f"gpu-{gpus}",
                run_for=f"{seconds}s", activeDeadlineSeconds=seconds * 6,
            )
        )  # fmt: skip
    for name in jobs:
        cluster.wait_for_phase(name, until)


def test_the_screens_show_the_state_of_the_groups(cli: Cli) -> None:
    """Their texts are checked on a real terminal."""
    for args, texts in SCREENS.items():
        terminal = cli.on_a_terminal(*args)
        output = terminal.read().decode().replace("\r\n", "\n")
        assert terminal.end() == Exit.OK
        for text in texts:
            assert text in Text.from_ansi(output).plain
        if PICTURES:
            prompt = f"\x1b[1m$ kubectl phjob {' '.join(args)}\x1b[0m\n"
            draw_terminal(prompt + output.rstrip(), Path(PICTURES) / f"{args[0]}.svg")
