"""A private RabbitMQ node of the system's own package, and the epmd that it needs.

Its data, logs, cookie and ports are its own: it neither sees nor disturbs another broker of this machine.
"""

import shutil
from pathlib import Path

from dev.component import Spec
from dev.debian import found
from dev.errors import DevError
from dev.pki import Pki
from dev.probe import listens, says_ok
from dev.site import Site

USER = "phjob"
LOOPBACK_ERLANG = "{127,0,0,1}"


def amqp_url(site: Site) -> str:
    """How clients reach it, password included."""
    return f"amqp://{USER}:{site.secret('rabbitmq')}@127.0.0.1:{site.ports['rabbitmq']}/"


def amqps_url(site: Site) -> str:
    """The same over TLS; its certificate is signed by the stack's CA."""
    return f"amqps://{USER}:{site.secret('rabbitmq')}@127.0.0.1:{site.ports['rabbitmq-tls']}/"


def epmd(site: Site) -> Spec:
    """Erlang's port mapper; left to itself, RabbitMQ would start one that outlives it."""
    port = site.ports["epmd"]
    argv = [shutil.which("epmd") or "epmd", "-port", str(port), "-address", "127.0.0.1"]
    return Spec("epmd", argv, ready=lambda: listens(port))


def rabbitmq(site: Site, pki: Pki) -> Spec:
    """The broker, with the management and prometheus plugins; needs epmd."""
    if "'" in str(site.state):
        raise DevError(
            f"RabbitMQ doesn't start in a path with an apostrophe: {site.state}; choose another STATE"
        )
    data = site.data / "rabbitmq"
    config, plugins = site.config / "rabbitmq.conf", site.config / "rabbitmq-plugins"
    env = {
        # The script then becomes the Erlang VM, instead of a parent that waits for it.
        "RUNNING_UNDER_SYSTEMD": "true",
        "HOME": str(site.data),  # For Erlang's cookie.
        "ERL_CRASH_DUMP_SECONDS": "0",
        "RABBITMQ_NODENAME": "phjob@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODE_PORT": str(site.ports["rabbitmq"]),
        "RABBITMQ_DIST_PORT": str(site.ports["rabbitmq-dist"]),
        "ERL_EPMD_PORT": str(site.ports["epmd"]),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_MNESIA_BASE": str(data / "mnesia"),
        "RABBITMQ_LOG_BASE": str(data / "log"),
        "RABBITMQ_LOGS": "-",
        "RABBITMQ_CONFIG_FILE": str(config),
        "RABBITMQ_CONF_ENV_FILE": str(site.config / "no-rabbitmq-env.conf"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(plugins),
        # Stacks side by side share the cores; bound schedulers would all sit on the first ones.
        "RABBITMQ_SCHEDULER_BIND_TYPE": "u",
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"-kernel inet_dist_use_interface {LOOPBACK_ERLANG}",
    }
    files = {config: _config(site, pki), plugins: "[rabbitmq_management,rabbitmq_prometheus].\n"}
    login = (USER, site.secret("rabbitmq"))
    health = (
        f"{site.url('rabbitmq-management', 'http')}/api/health/checks/port-listener/{site.ports['rabbitmq']}"
    )
    return Spec(
        "rabbitmq",
        [str(_server())],
        env=env,
        files=files,
        ready=lambda: says_ok(health, login=login),
        ready_within=120,
    )


def _server() -> Path:
    """The server's own script; Debian's wrapper on PATH would change the user."""
    server = found("rabbitmq-server")
    if server is None:
        raise FileNotFoundError("rabbitmq-server")
    return server


def _config(site: Site, pki: Pki) -> str:
    return f"""\
default_user = {USER}
default_pass = {site.secret("rabbitmq")}
default_user_tags.administrator = true
listeners.ssl.default = 127.0.0.1:{site.ports["rabbitmq-tls"]}
ssl_options.cacertfile = {pki.ca}
ssl_options.certfile = {pki.server_cert}
ssl_options.keyfile = {pki.server_key}
management.tcp.ip = 127.0.0.1
management.tcp.port = {site.ports["rabbitmq-management"]}
prometheus.tcp.ip = 127.0.0.1
prometheus.tcp.port = {site.ports["rabbitmq-prometheus"]}
log.console = true
log.console.level = info
log.file = false
"""
