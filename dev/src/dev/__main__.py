"""The command line of the local stack: `python -m dev up | down | demo | install | docs`.

The targets of the Makefile call it. `stack` has what the commands do.
"""

import argparse
import shlex
import shutil
import sys
from pathlib import Path

from dev import docker_images
from dev.component import ProcessRecord
from dev.debian import DOCKER_PACKAGES, require
from dev.demo.run import demo
from dev.errors import DevError
from dev.kubectl import kubectl_path
from dev.monitoring import grafana
from dev.options import Options, default_node
from dev.paths import StackPaths
from dev.progress import print_line
from dev.stack import PARTS, Stack, down, install
from dev.tools import COMPOSE, HELM, LOAD, tools

DEFAULT_STATE = Path(".local")


def main() -> int:
    """Run one command. Returns its exit code, which is 0 only if everything is done."""
    arguments = _parser().parse_args()
    try:
        arguments.run(arguments)
    except DevError as error:
        print_line(f"dev: {error}")
        return 1
    except KeyboardInterrupt:
        print_line("dev: interrupted; `make up` continues, `make down` removes what was started")
        return 130
    return 0


def up(arguments: argparse.Namespace) -> None:
    """Start a stack, and print the variables that point a shell to it.

    They go to stdout, and every other text to stderr.
    """
    paths = StackPaths(arguments.state)
    paths.make()
    given = Options(
        node=arguments.node,
        nodes=arguments.nodes,
        replicas=arguments.replicas,
        settings=_absolute(arguments.settings),
        broker=arguments.broker,
        kubeconfig=_absolute(arguments.kubeconfig),
    )
    options = given.merged_over(Options.load(paths.options) if ProcessRecord.all(paths.state) else None)
    options.save(paths.options)
    stack = Stack(
        paths.state,
        node=options.node or default_node(),
        nodes=options.nodes or 1,
        replicas=options.replicas or 1,
        settings=Path(options.settings) if options.settings else None,
        broker=options.broker,
        kubeconfig=Path(options.kubeconfig) if options.kubeconfig else None,
    )
    stack.up()
    print_line(f"The stack is up{_describe_pods(options)}. Logs and pid files are in {paths.state}.")
    print_line('`eval "$(make -s up)"` sets these variables in your shell:')
    print(f"export KUBECONFIG={shlex.quote(str(stack.kubeconfig))}")
    print(f"export AMQP_URL={shlex.quote(stack.amqp_url)}")
    if shutil.which("kubectl") is None:
        print(f'export PATH={shlex.quote(str(kubectl_path().parent))}:"$PATH"')


def bring_down(arguments: argparse.Namespace) -> None:
    """End a stack and delete its data."""
    down(arguments.state)
    print_line(f"The stack is down. Its logs are in {arguments.state.absolute()}.")


def show(arguments: argparse.Namespace) -> None:
    """Show queues, cancel and requeue on a stack of its own, and remove it."""
    demo(arguments.node or default_node())


def install_all(_: argparse.Namespace) -> None:
    """Install everything that a stack may need, so that no test waits for it."""
    install((*PARTS, "prometheus"), "kwok")
    tools(HELM)
    tools(LOAD)
    if default_node() == "real":
        install(PARTS, "real")
        require(DOCKER_PACKAGES)
        tools(COMPOSE)
        docker_images.base()


def write_docs(_: argparse.Namespace) -> None:
    """Write the generated files: docs/reference, and the Grafana dashboards."""
    from dev import docs  # noqa: PLC0415 - the other commands do not need the services' modules

    for file, content in {**docs.files(), **grafana.files()}.items():
        file.write_text(content)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m dev", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("up", help=up.__doc__)
    command.set_defaults(run=up)
    _add_state(command)
    _add_node(command)
    command.add_argument("--nodes", type=int, help="number of nodes that KWOK simulates")
    command.add_argument("--replicas", type=int, help="number of processes of each service")
    command.add_argument("--settings", type=Path, help="settings file of the services")
    command.add_argument("--broker", help="AMQP URL of a RabbitMQ to use instead of a new one")
    text = "kubeconfig of a cluster to use instead of a new one"
    command.add_argument("--kubeconfig", type=Path, help=text)

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


def _describe_pods(options: Options) -> str:
    """Return how pods run on the stack, as the end of a sentence.

    The text is empty for a cluster of the user's.
    """
    if options.kubeconfig:
        return ""
    if options.node == "real":
        return ", with real containers"
    return f", with pods that KWOK simulates on {options.nodes} node(s)"


def _add_state(command: argparse.ArgumentParser) -> None:
    text = "folder of the stack (default: %(default)s)"
    command.add_argument("--state", type=Path, default=DEFAULT_STATE, help=text)


def _add_node(command: argparse.ArgumentParser) -> None:
    text = "real: run containers; kwok: let KWOK simulate them"
    command.add_argument("--node", choices=("real", "kwok"), help=text)


def _absolute(path: Path | None) -> str | None:
    return str(path.absolute()) if path else None


if __name__ == "__main__":
    sys.exit(main())
