import json
from typing import Any

import pytest
from tests.fakes.user_kube import FakeUserKube, a_context, stored
from tests.support import builders

from phjob_cli.commands.top import top
from phjob_cli.console import Format


def a_group(name: str, **status: Any) -> dict[str, Any]:
    return stored(builders.a_group(f"phg-{name}", groupName=name), **status)


def a_cluster() -> FakeUserKube:
    limits = {"cpu": "4", "gpu": "2", "nvidia.com/gpu": "2"}
    busy = {"pending": 3, "preparing": 1, "running": 2, "used": {"cpu": "2"}, "limit": limits, "fence": 7}
    return FakeUserKube(
        phgroups=[a_group("new"), a_group("busy", **busy, head="train", message="needs gpu 4")]
    )


@pytest.mark.parametrize("once", [True, False])
async def test_groups_are_shown_once_where_there_is_no_terminal(
    capsys: pytest.CaptureFixture[str], *, once: bool
) -> None:
    """Those with the most waiting jobs come first. GPUs are shown under `gpu` only."""
    await top(a_context(a_cluster()), once=once)
    header, busy, new = capsys.readouterr().out.splitlines()
    assert header.split()[:5] == ["GROUP", "PENDING", "PREPARING", "RUNNING", "USED"]
    assert busy.split() == [
        "busy", "3", "1", "2", "cpu", "████░░░░", "2/4", "gpu", "░░░░░░░░", "0/2",
        "train:", "needs", "gpu", "4",
    ]  # fmt: skip
    assert new.split() == ["new", "-", "-", "-", "no", "quota"]


async def test_programs_get_the_status_of_all_groups(capsys: pytest.CaptureFixture[str]) -> None:
    """Without the number that belongs to the services."""
    await top(a_context(a_cluster()), output=Format.JSON)
    new, busy = json.loads(capsys.readouterr().out)
    assert new == {"group": "new"}
    assert (busy["group"], busy["pending"], "fence" in busy) == ("busy", 3, False)


async def test_a_group_without_a_head_may_have_a_message(capsys: pytest.CaptureFixture[str]) -> None:
    """It says why the group admits no job."""
    kube = FakeUserKube(phgroups=[a_group("second", pending=0, message="refused: \x1b[2J")])
    await top(a_context(kube), once=True)
    assert capsys.readouterr().out.splitlines()[1].endswith(r"refused: \u001b[2J")
