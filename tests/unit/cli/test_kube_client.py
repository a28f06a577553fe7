"""Which cluster, user and namespace a kubeconfig means, and what a kubeconfig that is not valid causes."""

import base64
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from phjob_cli.errors import CliError, Exit
from phjob_cli.kube_client import ConnectionOptions, connect

CONTEXTS = {
    "lab": {"cluster": "lab", "user": "lin", "namespace": "jobs"},
    "plain": {"cluster": "plain"},
}
CLUSTERS = {"lab": {"server": "https://lab:6443/"}, "plain": {"server": "http://plain"}}
USERS: dict[str, dict[str, str]] = {"lin": {"token": "secret"}}


def a_kubeconfig(
    path: Path,
    *,
    clusters: Mapping[str, Any] = CLUSTERS,
    users: Mapping[str, Any] = USERS,
    contexts: Mapping[str, Any] = CONTEXTS,
    current: str = "lab",
) -> str:
    """Write a kubeconfig. Returns its path."""
    config = {
        kind + "s": [{"name": name, kind: entry} for name, entry in entries.items()]
        for kind, entries in (("cluster", clusters), ("user", users), ("context", contexts))
    }
    path.write_text(yaml.safe_dump({**config, "current-context": current}))
    return str(path)


async def connection(kubeconfig: str, **options: str) -> tuple[str, str, dict[str, str]]:
    """Return the server, the namespace and the headers of a connection."""
    async with connect(ConnectionOptions(kubeconfig=kubeconfig, **options)) as kube:
        headers: dict[str, str] = {}
        await kube.server.sign(headers)
        return kube.server.url, kube.namespace, headers


async def test_the_current_context_decides_unless_the_command_line_does(tmp_path: Path) -> None:
    """The namespace of neither is PrimeHub's."""
    path = a_kubeconfig(tmp_path / "config")
    signed = {"Authorization": "Bearer secret"}
    assert await connection(path) == ("https://lab:6443", "jobs", signed)
    assert await connection(path, context="plain") == ("http://plain", "hub", {})
    assert await connection(path, context="plain", namespace="other") == ("http://plain", "other", {})


async def test_the_environment_names_the_kubeconfig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As for kubectl. Without it, the kubeconfig is in the home directory."""
    monkeypatch.setenv("KUBECONFIG", a_kubeconfig(tmp_path / "config"))
    async with connect(ConnectionOptions()) as kube:
        assert kube.namespace == "jobs"
    monkeypatch.delenv("KUBECONFIG")
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".kube").mkdir()
    a_kubeconfig(tmp_path / ".kube" / "config", current="plain")
    async with connect(ConnectionOptions()) as kube:
        assert kube.namespace == "hub"


async def test_several_files_are_merged_and_the_first_entry_of_a_name_counts(tmp_path: Path) -> None:
    """As by kubectl. A file that does not exist is ignored."""
    first = a_kubeconfig(tmp_path / "a", clusters={"lab": {"server": "https://first"}}, contexts={}, users={})
    second = a_kubeconfig(tmp_path / "b", current="plain")
    url, namespace, headers = await connection(f"{first}:{tmp_path / 'none'}:{second}")
    assert (url, namespace) == ("https://first", "jobs")
    assert headers == {"Authorization": "Bearer secret"}


async def test_a_token_file_is_found_beside_the_kubeconfig(tmp_path: Path) -> None:
    """Relative paths refer to the folder of the kubeconfig."""
    (tmp_path / "token").write_text("from the file\n")
    path = a_kubeconfig(tmp_path / "config", users={"lin": {"tokenFile": "token"}})
    assert (await connection(path))[2] == {"Authorization": "Bearer from the file"}


def problem_of(config: dict[str, Any]) -> str:
    return next(iter(config))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"current": ""}, "kubeconfig {path} has no current context: choose one with --context"),
        ({"current": "none"}, "kubeconfig {path} has no context 'none'"),
        ({"clusters": {}}, "kubeconfig {path} has no cluster 'lab'"),
        ({"users": {}}, "kubeconfig {path} has no user 'lin'"),
        ({"clusters": {"lab": {}}}, "kubeconfig {path}: cluster 'lab' has no server"),
    ],
    ids=problem_of,
)
async def test_an_entry_that_is_missing_is_named_with_the_file(
    tmp_path: Path, config: dict[str, Any], message: str
) -> None:
    """The user has to find it."""
    path = a_kubeconfig(tmp_path / "config", **config)
    with pytest.raises(CliError) as error:
        await connection(path)
    assert (str(error.value), error.value.code) == (message.format(path=path), Exit.USAGE)


@pytest.mark.parametrize(("content", "message"), [("- a", "is not a kubeconfig"), ("{", "cannot be read: ")])
async def test_a_file_that_is_no_kubeconfig_is_named(tmp_path: Path, content: str, message: str) -> None:
    """The message is one line."""
    path = tmp_path / "config"
    path.write_text(content)
    with pytest.raises(CliError, match=message) as error:
        await connection(str(path))
    assert error.value.code is Exit.USAGE
    assert "\n" not in str(error.value)


async def test_without_a_kubeconfig_the_error_names_the_options() -> None:
    """A user without one has not set up the cluster yet."""
    with pytest.raises(CliError, match="no kubeconfig at /nowhere: set --kubeconfig or KUBECONFIG") as error:
        await connection("/nowhere")
    assert error.value.code is Exit.UNREACHABLE


@pytest.mark.parametrize(
    ("cluster", "user"),
    [
        ({"certificate-authority": "none.pem"}, {}),
        ({"certificate-authority-data": base64.b64encode(b"nonsense").decode()}, {}),
        ({}, {"tokenFile": "none"}),
        ({}, {"client-certificate": "none", "client-key": "none"}),
        ({}, {"client-certificate-data": "bm8=", "client-key-data": "bm8="}),
    ],
)
async def test_credentials_that_cannot_be_used_are_no_traceback(
    tmp_path: Path, cluster: dict[str, str], user: dict[str, str]
) -> None:
    """A file may be gone, and a certificate damaged."""
    clusters = {"lab": {"server": "https://lab", **cluster}}
    path = a_kubeconfig(tmp_path / "config", clusters=clusters, users={"lin": user})
    with pytest.raises(CliError, match="the kubeconfig's certificates or token cannot be used: ") as error:
        await connection(path)
    assert error.value.code is Exit.USAGE


@pytest.mark.parametrize(
    ("insecure", "mode"), [(False, ssl.CERT_REQUIRED), (True, ssl.CERT_NONE)], ids=["default", "insecure"]
)
async def test_the_servers_certificate_is_verified_unless_the_user_forbids_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: ssl.VerifyMode, *, insecure: bool
) -> None:
    """`insecure-skip-tls-verify` is for test clusters."""
    contexts: list[ssl.SSLContext] = []
    create = ssl.create_default_context

    def recorded(**options: Any) -> ssl.SSLContext:
        contexts.append(create(**options))
        return contexts[-1]

    monkeypatch.setattr(ssl, "create_default_context", recorded)
    clusters = {"lab": {"server": "https://lab", "insecure-skip-tls-verify": insecure}}
    await connection(a_kubeconfig(tmp_path / "config", clusters=clusters))
    assert [(context.verify_mode, context.check_hostname) for context in contexts] == [(mode, not insecure)]
