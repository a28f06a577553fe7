from tests.fakes.user_kube import FakeUserKube, a_context


async def test_the_user_is_the_one_of_the_command_line_otherwise_the_caller() -> None:
    """An administrator may act for a user, with `--user`."""
    kube = FakeUserKube()
    assert await a_context(kube, user="lin").user() == "lin"
    assert await a_context(kube).user() == "bob"
