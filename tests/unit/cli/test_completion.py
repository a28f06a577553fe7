from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Never

import pytest
from tests.fakes.user_kube import FakeUserKube, stored
from tests.support import builders

from phjob_cli import completion, kube_client
from phjob_cli.errors import CliError
from phjob_cli.kube_client import ConnectionOptions


@pytest.fixture(autouse=True)
def api_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connect to an API server with two jobs and a group."""
    kube = FakeUserKube(
        phjobs=[stored(builders.a_job(name)) for name in ("train-2", "train-1", "other")],
        phgroups=[stored(builders.a_group("phg-1", groupName="vision"))],
    )

    @asynccontextmanager
    async def connect(options: ConnectionOptions) -> AsyncIterator[FakeUserKube]:
        yield kube

    monkeypatch.setattr(kube_client, "connect", connect)


def test_names_that_begin_with_the_text_are_offered_in_order() -> None:
    """A group has the name that jobs give."""
    assert completion.job_names("train") == ["train-1", "train-2"]
    assert completion.group_names("") == ["vision"]


def test_without_an_api_server_nothing_is_offered(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An error message would end up in the user's command line."""

    def connect(options: ConnectionOptions) -> Never:
        raise CliError("no kubeconfig")

    monkeypatch.setattr(kube_client, "connect", connect)
    assert completion.job_names("train") == []
    assert capsys.readouterr() == ("", "")


def test_a_name_with_control_characters_is_not_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The shell would show it as it is."""
    names = ("vision", "evil\x1b[2J")
    groups = [stored(builders.a_group(f"phg-{n}", groupName=name)) for n, name in enumerate(names)]

    @asynccontextmanager
    async def connect(options: ConnectionOptions) -> AsyncIterator[FakeUserKube]:
        yield FakeUserKube(phgroups=groups)

    monkeypatch.setattr(kube_client, "connect", connect)
    assert completion.group_names("") == ["vision"]
