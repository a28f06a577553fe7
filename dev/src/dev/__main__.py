"""The command line: `python -m dev up | down | demo | install | docs`; the Makefile's targets call it.

Wiring only: what the words mean is said in `stack`.
"""

import argparse
import shlex
import shutil
import sys
from pathlib import Path

from dev import docker_images, docs
from dev.component import Record
from dev.debian import DOCKER_PACKAGES, require
from dev.demo.run import demo
from dev.errors import DevError
from dev.kubectl import kubectl_path
from dev.monitoring import grafana
from dev.options import Options, default_node
from dev.progress import say
from dev.site import Site
from dev.stack import PARTS, Stack, down, install
from dev.tools import COMPOSE, HELM, LOAD, tools

DEFAULT_STATE = Path(".local")


def main() -> int:
    """Run one command; the exit code is 0 only if all of it is done."""
    arguments = _parser().parse_args()
    try:
        arguments.run(arguments)
    except DevError as error:
        say(f"dev: {error}")
        return 1
    except KeyboardInterrupt:
        say("dev: interrupted; `make up` goes on from here, `make down` ends it")
        return 130
    return 0


def up(arguments: argparse.Namespace) -> None:
    """Bring the stack up, and print how to reach it: for people on stderr, for a shell on stdout."""
    site = Site(arguments.state)
    site.make()
    given = Options(
        node=arguments.node,
        nodes=arguments.nodes,
        replicas=arguments.replicas,
        settings=_absolute(arguments.settings),
        broker=arguments.broker,
        kubeconfig=_absolute(arguments.kubeconfig),
    )
    options = given.after(Options.load(site.options) if Record.all(site.state) else None)
    options.save(site.options)
    stack = Stack(
        site.state,
        node=options.node or default_node(),
        nodes=options.nodes or 1,
        replicas=options.replicas or 1,
        settings=Path(options.settings) if options.settings else None,
        broker=options.broker,
        kubeconfig=Path(options.kubeconfig) if options.kubeconfig else None,
    )
    stack.up()
    say(f"The stack is up{_pods(options)}; logs and pid files are in {site.state}. For your shell:")
    print(f"export KUBECONFIG={shlex.quote(str(stack.kubeconfig))}")
    print(f"export AMQP_URL={shlex.quote(stack.amqp_url)}")
    if shutil.which("kubectl") is None:
        print(f'export PATH={shlex.quote(str(kubectl_path().parent))}:"$PATH"')


def bring_down(arguments: argparse.Namespace) -> None:
    """End the stack and delete its data."""
    down(arguments.state)
    say(f"The stack is down; its logs are in {arguments.state.absolute()}.")


def show(arguments: argparse.Namespace) -> None:
    """Show what PhJob does, on a stack of its own that is gone afterwards."""
    demo(arguments.node or default_node())


def install_all(_: argparse.Namespace) -> None:
    """Install what any stack on this machine may need, so that tests don't have to wait for it."""
    install((*PARTS, "prometheus"), "kwok")
    tools(HELM)
    tools(LOAD)
    if default_node() == "real":
        install(PARTS, "real")
        require(DOCKER_PACKAGES)
        tools(COMPOSE)
        docker_images.base()


def write_docs(_: argparse.Namespace) -> None:
    """Make what comes from the product itself: parts of ARCHITECTURE.md, Grafana's dashboards."""
    docs.PAGE.write_text(docs.written(docs.PAGE.read_text()))
    for file, content in grafana.files().items():
        file.write_text(content)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m dev", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("up", help=up.__doc__)
    command.set_defaults(run=up)
    _add_state(command)
    _add_node(command)
    command.add_argument("--nodes", type=int, help="how many KWOK nodes")
    command.add_argument("--replicas", type=int, help="how many processes of each service")
    command.add_argument("--settings", type=Path, help="the services' settings file")
    command.add_argument("--broker", help="AMQP URL of a broker to use instead of a RabbitMQ of our own")
    command.add_argument("--kubeconfig", type=Path, help="of a cluster to use instead of one of our own")

    command = commands.add_parser("down", help=bring_down.__doc__)
    command.set_defaults(run=bring_down)
    _add_state(command)

    command = commands.add_parser("demo", help=show.__doc__)
    command.set_defaults(run=show)
    _add_node(command)

    command = commands.add_parser("install", help=install_all.__doc__)
    command.set_defaults(run=install_all)

    command = commands.add_parser("docs", help=write_docs.__doc__)
    command.set_defaults(run=write_docs)
    return parser


def _pods(options: Options) -> str:
    if options.kubeconfig:
        return ""
    if options.node == "real":
        return ", with real containers"
    return f", with pods that KWOK plays on {options.nodes} node(s)"


def _add_state(command: argparse.ArgumentParser) -> None:
    where = "folder of the stack (default: %(default)s)"
    command.add_argument("--state", type=Path, default=DEFAULT_STATE, help=where)


def _add_node(command: argparse.ArgumentParser) -> None:
    command.add_argument("--node", choices=("real", "kwok"), help="real containers, or KWOK's simulated ones")


def _absolute(path: Path | None) -> str | None:
    return str(path.absolute()) if path else None


if __name__ == "__main__":
    sys.exit(main())
