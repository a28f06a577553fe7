"""Which credentials a connection uses, and when it loads them again."""

import asyncio
import datetime as dt
import json
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from aiohttp import web
from aiohttp.test_utils import TestServer
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from kubernetes_asyncio.config import incluster_config
from tests.fakes.clock import ManualClock
from tests.support.https import https_server
from tests.support.waiting import eventually_async

from dev.pki import Pki
from phjob_core.errors import NotAuthorizedError, SettingsError, UnreachableError
from phjob_core.resource import Resource
from phjob_kube.config import MIN_LOAD_INTERVAL_SECONDS, connect
from phjob_kube.http import HttpKube

PODS = Resource("pods")
LATER = dt.timedelta(seconds=MIN_LOAD_INTERVAL_SECONDS)
"""The time after which the credentials may be loaded again."""


class FakeApiServer:
    """An API server that accepts the requests for which `accepts` is true."""

    def __init__(self, accepts: Callable[[web.Request], bool]) -> None:
        self.accepts = accepts
        self.statuses: list[int] = []
        """The status of each answer."""
        self.latest_token = ""

    async def serve(self, request: web.Request) -> web.Response:
        status = 200 if self.accepts(request) else 401
        self.statuses.append(status)
        self.latest_token = request.headers.get("Authorization", "")
        return web.json_response({"kind": "Status", "reason": "", "message": "as it is"}, status=status)


def token(expected: str) -> Callable[[web.Request], bool]:
    """Accept this token only."""
    return lambda request: request.headers.get("Authorization") == f"Bearer {expected}"


@asynccontextmanager
async def serving(
    accepts: Callable[[web.Request], bool], tls: ssl.SSLContext | None = None, host: str = "127.0.0.1"
) -> AsyncIterator[tuple[FakeApiServer, str]]:
    """Yield an API server and its URL."""
    api = FakeApiServer(accepts)
    application = web.Application()
    application.router.add_get("/{path:.*}", api.serve)
    server = TestServer(application, host=host)
    await server.start_server(ssl=tls)
    try:
        yield api, str(server.make_url("")).rstrip("/")
    finally:
        await server.close()


def a_kubeconfig(path: Path, cluster: Mapping[str, Any] | None = None, **user: Any) -> Path:
    """Write a kubeconfig with one cluster. Returns its path."""
    context = {"cluster": "lab", "user": "watcher"}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "lab", "cluster": cluster or {"server": "http://lab:8080"}}],
        "users": [{"name": "watcher", "user": user}],
        "contexts": [{"name": name, "context": context} for name in ("first", "second")],
        "current-context": "first",
    }
    path.write_text(yaml.safe_dump(config))
    return path


class Plugin:
    """An exec plugin, whose output a test sets."""

    def __init__(self, folder: Path) -> None:
        self._output, self._log = folder / "output", folder / "runs"
        self.slow = folder / "slow"
        """While this file exists, the plugin does not end."""
        script = f"echo >> {self._log}; while [ -e {self.slow} ]; do sleep 0.01; done; cat {self._output}"
        self.entry = {
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": "sh",
            "args": ["-c", script],
        }

    def gives(self, token: str, lifetime: dt.timedelta | None = None) -> None:
        """Print this token from now on."""
        status = {"token": token}
        if lifetime is not None:
            status["expirationTimestamp"] = (dt.datetime.now(dt.UTC) + lifetime).strftime(
                "%Y-%m-%dT%H:%M:%SZ"
            )
        answer = {"apiVersion": self.entry["apiVersion"], "kind": "ExecCredential", "status": status}
        self._output.write_text(json.dumps(answer))

    def fails(self) -> None:
        """Fail from now on."""
        self._output.unlink()

    @property
    def runs(self) -> int:
        return len(self._log.read_text().splitlines())


async def get(kube: HttpKube, times: int = 1) -> list[str]:
    """Send requests at the same time. Returns the outcome of each: "accepted" or the error's class."""

    async def outcome() -> str:
        try:
            await kube.get(PODS, "train")
        except UnreachableError as error:
            return type(error).__name__
        return "accepted"

    return await asyncio.gather(*(outcome() for _ in range(times)))


REFUSED = NotAuthorizedError.__name__


async def test_requests_are_signed_with_the_kubeconfigs_token(tmp_path: Path) -> None:
    """The namespace is a setting, not the one of the context."""
    async with connect(a_kubeconfig(tmp_path / "config", token="secret"), "hub") as kube:
        headers: dict[str, str] = {}
        await kube.server.sign(headers)
        assert (kube.server.url, kube.namespace) == ("http://lab:8080", "hub")
        assert headers == {"authorization": "Bearer secret"}


async def test_a_certificate_of_an_older_cluster_is_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It lacks extensions that Python requires from 3.13 on. The base of the image may have any Python."""
    lenient = ssl.create_default_context

    def of_newer_pythons(*args: Any, **kwargs: Any) -> ssl.SSLContext:
        context = lenient(*args, **kwargs)
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        return context

    async def answer(_: web.Request) -> web.Response:
        return web.json_response({"metadata": {"name": "train"}})

    monkeypatch.setattr(ssl, "create_default_context", of_newer_pythons)
    pki = Pki(tmp_path / "pki")
    pki.make()
    async with https_server(pki, answer) as server:
        cluster = {"server": server, "certificate-authority": str(pki.ca)}
        async with connect(a_kubeconfig(tmp_path / "config", cluster, token="secret"), "hub") as kube:
            assert await kube.get(PODS, "train") == {"metadata": {"name": "train"}}


@pytest.mark.parametrize(
    ("name", "context", "message"),
    [
        ("none", None, r"KUBECONFIG .*/none: "),
        ("config", "third", r"KUBECONFIG .*/config: .*third"),
        (None, None, r"KUBECONFIG \(not set, and there is no service account\): "),
    ],
)
async def test_missing_credentials_are_a_bad_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str | None, context: str | None, message: str
) -> None:
    """A repetition would not help (spec.md, S6)."""
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    a_kubeconfig(tmp_path / "config", token="secret")
    with pytest.raises(SettingsError, match=message):
        async with connect(tmp_path / name if name else None, "hub", context=context):
            pass


async def test_after_a_401_the_next_request_has_the_token_of_the_rotated_file(tmp_path: Path) -> None:
    """`kubectl create token` and most others end the file with a line break."""
    clock, file = ManualClock(), tmp_path / "token"
    file.write_text("first\n")
    async with serving(token("first")) as (api, url):
        path = a_kubeconfig(tmp_path / "config", {"server": url}, tokenFile=str(file))
        async with connect(path, "hub", monotonic=clock.monotonic) as kube:
            assert await get(kube) == ["accepted"]
            file.write_text("second\n")
            api.accepts = token("second")
            clock.advance(LATER)
            assert [*await get(kube), *await get(kube)] == [REFUSED, "accepted"]
            a_kubeconfig(path, {"server": url}, token="third")
            api.accepts = token("third")
            clock.advance(LATER)
            assert [*await get(kube), *await get(kube)] == [REFUSED, "accepted"]


async def test_a_plugin_runs_again_once_after_a_401_and_not_for_each_request(tmp_path: Path) -> None:
    """Also if many requests at the same time are answered with 401."""
    clock, plugin = ManualClock(), Plugin(tmp_path)
    plugin.gives("first")
    async with serving(token("first")) as (api, url):
        path = a_kubeconfig(tmp_path / "config", {"server": url}, exec=plugin.entry)
        async with connect(path, "hub", monotonic=clock.monotonic) as kube:
            clock.advance(LATER)
            assert await get(kube, times=20) == ["accepted"] * 20
            assert plugin.runs == 1
            plugin.gives("second")
            api.accepts = token("second")
            assert await get(kube, times=20) == [REFUSED] * 20
            assert plugin.runs == 2
            assert await get(kube, times=20) == ["accepted"] * 20
            assert plugin.runs == 2


async def test_wrong_credentials_are_loaded_again_at_most_once_in_an_interval(tmp_path: Path) -> None:
    """Each request is sent once, because its caller decides about the repetition."""
    clock, plugin = ManualClock(), Plugin(tmp_path)
    plugin.gives("wrong")
    async with serving(token("right")) as (api, url):
        path = a_kubeconfig(tmp_path / "config", {"server": url}, exec=plugin.entry)
        async with connect(path, "hub", monotonic=clock.monotonic) as kube:
            for interval in range(3):
                for _ in range(10):
                    assert await get(kube, times=5) == [REFUSED] * 5
                assert plugin.runs == 1 + interval
                clock.advance(LATER)
    assert api.statuses == [401] * 150


async def test_a_plugin_that_fails_is_logged_and_runs_again_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The service continues meanwhile, as without an API server."""
    clock, plugin = ManualClock(), Plugin(tmp_path)
    plugin.gives("first")
    async with serving(token("second")) as (_, url):
        path = a_kubeconfig(tmp_path / "config", {"server": url}, exec=plugin.entry)
        async with connect(path, "hub", monotonic=clock.monotonic) as kube:
            plugin.fails()
            clock.advance(LATER)
            assert [*await get(kube), *await get(kube)] == [REFUSED, REFUSED]
            assert "could not be loaded again: " in caplog.text
            assert plugin.runs == 2
            plugin.gives("second")
            clock.advance(LATER)
            assert [*await get(kube), *await get(kube)] == [REFUSED, "accepted"]


async def test_a_plugin_runs_again_before_its_token_expires(tmp_path: Path) -> None:
    """No request waits for it, and none is answered with 401."""
    clock, plugin = ManualClock(), Plugin(tmp_path)
    plugin.gives("first", dt.timedelta(seconds=25))
    async with serving(lambda request: token("first")(request) or token("second")(request)) as (api, url):
        path = a_kubeconfig(tmp_path / "config", {"server": url}, exec=plugin.entry)
        async with connect(path, "hub", monotonic=clock.monotonic) as kube, asyncio.timeout(20):
            plugin.gives("second", dt.timedelta(minutes=14))
            plugin.slow.touch()
            clock.advance(LATER)
            while plugin.runs < 2:
                assert await get(kube) == ["accepted"]
            plugin.slow.unlink()
            while api.latest_token != "Bearer second":
                assert await get(kube) == ["accepted"]
            clock.advance(LATER)
            assert await get(kube, times=20) == ["accepted"] * 20
            assert plugin.runs == 2
    assert set(api.statuses) == {200}


async def test_a_request_waits_for_the_plugin_if_the_token_has_expired(tmp_path: Path) -> None:
    """`kubectl phjob submit --wait` sends a request every few minutes only, and no 401 ends it."""
    clock, plugin = ManualClock(), Plugin(tmp_path)
    plugin.gives("first", dt.timedelta(minutes=-1))
    async with serving(token("second")) as (_, url):
        path = a_kubeconfig(tmp_path / "config", {"server": url}, exec=plugin.entry)
        async with connect(path, "hub", monotonic=clock.monotonic) as kube:
            plugin.gives("second", dt.timedelta(minutes=14))
            clock.advance(LATER)
            assert await get(kube, times=20) == ["accepted"] * 20
            assert plugin.runs == 2


async def test_a_request_that_is_cancelled_does_not_cancel_the_plugin(tmp_path: Path) -> None:
    """The renewal of the Lease is cancelled after seconds, and a plugin may take longer."""
    clock, plugin = ManualClock(), Plugin(tmp_path)
    plugin.gives("first")
    async with serving(token("second")) as (_, url):
        path = a_kubeconfig(tmp_path / "config", {"server": url}, exec=plugin.entry)
        async with connect(path, "hub", monotonic=clock.monotonic) as kube:
            plugin.gives("second")
            plugin.slow.touch()
            clock.advance(LATER)
            request = asyncio.create_task(get(kube))
            await eventually_async(lambda: plugin.runs == 2, "the plugin runs again")
            request.cancel()
            plugin.slow.unlink()
            assert [*await get(kube), *await get(kube)] == [REFUSED, "accepted"]
            assert plugin.runs == 2


async def test_the_credentials_of_another_api_server_are_not_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Without this, the old server would get them, or the new one writes for the old cluster."""
    clock = ManualClock()
    async with serving(token("second")) as (api, url):
        path = a_kubeconfig(tmp_path / "config", {"server": url}, token="first")
        async with connect(path, "hub", monotonic=clock.monotonic) as kube:
            a_kubeconfig(path, {"server": "http://elsewhere"}, token="second")
            clock.advance(LATER)
            assert [*await get(kube), *await get(kube)] == [REFUSED, REFUSED]
            assert "restart the service" in caplog.text
            assert api.statuses == [401, 401]


def a_pki(folder: Path) -> Pki:
    pki = Pki(folder)
    pki.make()
    return pki


def a_tls_server(pki: Pki, *clients: Path) -> ssl.SSLContext:
    """Return the context of a server that asks for a client certificate."""
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(pki.server_cert, pki.server_key)
    for client in clients:
        tls.load_verify_locations(client)
    tls.verify_mode = ssl.CERT_OPTIONAL
    return tls


def a_client_certificate(folder: Path, name: str) -> Path:
    """Return a file with a certificate, which nobody else has signed, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    builder = x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - dt.timedelta(days=1)).not_valid_after(now + dt.timedelta(days=1))
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = folder / name
    path.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(pem) + private)
    return path


def certificate_of(name: str) -> Callable[[web.Request], bool]:
    """Accept the client certificate of this name only."""

    def accepts(request: web.Request) -> bool:
        assert request.transport is not None
        presented = request.transport.get_extra_info("peercert")
        return bool(presented) and presented["subject"] == ((("commonName", name),),)

    return accepts


async def test_after_a_401_the_next_request_has_the_rotated_client_certificate(tmp_path: Path) -> None:
    """It needs a new connection. The files keep their names, as those that cert-manager renews."""
    clock, pki = ManualClock(), a_pki(tmp_path / "pki")
    first, second = (a_client_certificate(tmp_path, name) for name in ("first", "second"))
    async with serving(certificate_of("first"), a_tls_server(pki, first, second)) as (api, url):
        cluster = {"server": url, "certificate-authority": str(pki.ca)}
        files = {"client-certificate": str(first), "client-key": str(first)}
        path = a_kubeconfig(tmp_path / "config", cluster, **files)
        async with connect(path, "hub", monotonic=clock.monotonic) as kube:
            assert await get(kube, times=5) == ["accepted"] * 5
            second.rename(first)
            api.accepts = certificate_of("second")
            clock.advance(LATER)
            await get(kube)
            assert await get(kube, times=20) == ["accepted"] * 20


async def test_the_rotated_token_of_a_service_account_is_used_after_a_minute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kubelet rotates it before it expires. After a 401 it is read at once."""
    now, clock, pki = dt.datetime(2026, 11, 29, tzinfo=dt.UTC), ManualClock(), a_pki(tmp_path / "pki")
    file = tmp_path / "token"
    file.write_text("first")
    async with serving(token("first"), a_tls_server(pki)) as (api, url):
        host, port = url.removeprefix("https://").split(":")
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", port)
        monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(file))
        monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(pki.ca))
        fake = SimpleNamespace(datetime=SimpleNamespace(now=lambda: now))
        monkeypatch.setattr(incluster_config, "datetime", fake)
        async with connect(None, "hub", monotonic=clock.monotonic) as kube:
            assert await get(kube) == ["accepted"]
            file.write_text("second")
            now += dt.timedelta(seconds=59)
            assert await get(kube) == ["accepted"]
            now += dt.timedelta(seconds=1)
            api.accepts = token("second")
            assert await get(kube) == ["accepted"]
            file.write_text("third")
            api.accepts = token("third")
            clock.advance(LATER)
            assert [*await get(kube), *await get(kube)] == [REFUSED, "accepted"]


async def test_requests_pass_through_the_proxy_of_the_kubeconfig(tmp_path: Path) -> None:
    """The name of the API server may be known to the proxy only."""
    async with serving(token("secret")) as (proxy, url):
        cluster = {"server": "http://only.behind.proxy.invalid", "proxy-url": url}
        async with connect(a_kubeconfig(tmp_path / "config", cluster, token="secret"), "hub") as kube:
            assert await get(kube) == ["accepted"]
    assert proxy.statuses == [200]


async def test_another_kind_of_proxy_is_a_bad_setting(tmp_path: Path) -> None:
    """The message does not repeat the URL, which may have a password."""
    cluster = {"server": "http://lab:8080", "proxy-url": "socks5://user:secret@proxy"}
    with pytest.raises(SettingsError, match=r"proxy-url must start with http:// or https://$"):
        async with connect(a_kubeconfig(tmp_path / "config", cluster), "hub"):
            pass


@pytest.mark.parametrize(
    ("names", "outcome"),
    [
        ({}, UnreachableError.__name__),
        ({"tls-server-name": "kubernetes"}, "accepted"),
        ({"tls-server-name": "another.example"}, UnreachableError.__name__),
    ],
)
async def test_the_certificate_of_the_api_server_has_the_kubeconfigs_server_name(
    tmp_path: Path, names: dict[str, str], outcome: str
) -> None:
    """The server's address, 127.0.0.2, is not in its certificate."""
    pki = a_pki(tmp_path / "pki")
    async with serving(token("secret"), a_tls_server(pki), host="127.0.0.2") as (_, url):
        cluster = {"server": url, "certificate-authority": str(pki.ca), **names}
        async with connect(a_kubeconfig(tmp_path / "config", cluster, token="secret"), "hub") as kube:
            assert await get(kube) == [outcome]
