"""A private RabbitMQ node from the system's package, and the epmd that it needs.

It has its own data, logs, cookie and ports, so it does not disturb another broker on this machine.
"""

import shutil
from pathlib import Path

from dev.component import Spec
from dev.debian import installed_file
from dev.errors import DevError
from dev.paths import StackPaths
from dev.pki import Pki
from dev.probe import is_healthy, is_listening

USER = "phjob"
LOOPBACK_ERLANG = "{127,0,0,1}"


def amqp_url(paths: StackPaths) -> str:
    """Return the broker's AMQP URL, with user and password."""
    return f"amqp://{USER}:{paths.secret('rabbitmq')}@127.0.0.1:{paths.ports['rabbitmq']}/"


def amqps_url(paths: StackPaths) -> str:
    """Return the broker's AMQP URL over TLS.

    The stack's CA has signed its certificate.
    """
    return f"amqps://{USER}:{paths.secret('rabbitmq')}@127.0.0.1:{paths.ports['rabbitmq-tls']}/"


def epmd(paths: StackPaths) -> Spec:
    """Return the spec of Erlang's port mapper.

    Without it, RabbitMQ would start one that outlives the stack.
    """
    port = paths.ports["epmd"]
    argv = [shutil.which("epmd") or "epmd", "-port", str(port), "-address", "127.0.0.1"]
    return Spec("epmd", argv, ready=lambda: is_listening(port))


def rabbitmq(paths: StackPaths, pki: Pki) -> Spec:
    """Return the spec of RabbitMQ, with its management and Prometheus plugins.

    It needs epmd.

    Raises:
        DevError: RabbitMQ cannot start in this path.

    """
    if "'" in str(paths.state):
        raise DevError(
            f"RabbitMQ cannot start in a path with an apostrophe: {paths.state}; choose another STATE"
        )
    data = paths.data / "rabbitmq"
    config, plugins = paths.config / "rabbitmq.conf", paths.config / "rabbitmq-plugins"
    env = {
        # With this, the script replaces itself by the Erlang VM. Otherwise it would wait for it as a parent.
        "RUNNING_UNDER_SYSTEMD": "true",
        "HOME": str(paths.data),  # For Erlang's cookie.
        "ERL_CRASH_DUMP_SECONDS": "0",
        "RABBITMQ_NODENAME": "phjob@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODE_PORT": str(paths.ports["rabbitmq"]),
        "RABBITMQ_DIST_PORT": str(paths.ports["rabbitmq-dist"]),
        "ERL_EPMD_PORT": str(paths.ports["epmd"]),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_MNESIA_BASE": str(data / "mnesia"),
        "RABBITMQ_LOG_BASE": str(data / "log"),
        "RABBITMQ_LOGS": "-",
        "RABBITMQ_CONFIG_FILE": str(config),
        "RABBITMQ_CONF_ENV_FILE": str(paths.config / "no-rabbitmq-env.conf"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(plugins),
        # Several stacks share the cores. Without this, the schedulers of all stacks would use the first ones.
        "RABBITMQ_SCHEDULER_BIND_TYPE": "u",
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"-kernel inet_dist_use_interface {LOOPBACK_ERLANG}",
    }
    files = {config: _config(paths, pki), plugins: "[rabbitmq_management,rabbitmq_prometheus].\n"}
    login = (USER, paths.secret("rabbitmq"))
    management = paths.url("rabbitmq-management", "http")
    health = f"{management}/api/health/checks/port-listener/{paths.ports['rabbitmq']}"
    return Spec(
        "rabbitmq",
        [str(_server())],
        env=env,
        files=files,
        ready=lambda: is_healthy(health, login=login),
        ready_within=120,
    )


def _server() -> Path:
    """Return the path of RabbitMQ's own script.

    Debian's wrapper on PATH would change the user.
    """
    server = installed_file("rabbitmq-server")
    if server is None:
        raise FileNotFoundError("rabbitmq-server")
    return server


def _config(paths: StackPaths, pki: Pki) -> str:
    return f"""\
default_user = {USER}
default_pass = {paths.secret("rabbitmq")}
default_user_tags.administrator = true
listeners.ssl.default = 127.0.0.1:{paths.ports["rabbitmq-tls"]}
ssl_options.cacertfile = {pki.ca}
ssl_options.certfile = {pki.server_cert}
ssl_options.keyfile = {pki.server_key}
management.tcp.ip = 127.0.0.1
management.tcp.port = {paths.ports["rabbitmq-management"]}
prometheus.tcp.ip = 127.0.0.1
prometheus.tcp.port = {paths.ports["rabbitmq-prometheus"]}
log.console = true
log.console.level = info
log.file = false
"""
