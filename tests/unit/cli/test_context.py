from tests.fakes.user_kube import FakeUserKube, a_context

from phjob_cli.kube_client import Caller


async def test_the_user_is_the_one_of_the_command_line_otherwise_the_caller() -> None:
    """An administrator may act for a user, with `--user`."""
    kube = FakeUserKube()
    assert await a_context(kube, user="lin").user() == "lin"
    assert await a_context(kube).user() == "bob"


async def test_the_id_of_a_user_of_the_command_line_is_unknown() -> None:
    """It may be another user than the caller."""
    kube = FakeUserKube()
    kube.caller = Caller("bob", "4f1c")
    assert await a_context(kube).caller() == ("bob", "4f1c")
    assert await a_context(kube, user="bob").caller() == ("bob", "")
