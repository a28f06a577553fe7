"""A private Prometheus from the system's package. It scrapes one stack and evaluates PhJob's rules."""

from pathlib import Path

import yaml

from dev.component import Spec
from dev.debian import installed_file
from dev.errors import DevError
from dev.paths import StackPaths
from dev.probe import is_healthy

RULES = Path(__file__).parents[3] / "k8s" / "chart" / "monitoring" / "rules" / "phjob.yaml"
QUEUES = {"family": ["queue_coarse_metrics"]}


def prometheus(paths: StackPaths, services: list[str], rules: Path, seconds: int) -> Spec:
    """Return the spec of Prometheus, for these services and RabbitMQ.

    `seconds` is the interval of scrapes and of the evaluation of the rules.
    """
    server = installed_file("prometheus")
    if server is None:
        raise DevError("Prometheus is not installed; install the package prometheus")
    config = paths.config / "prometheus.yaml"
    services_config = {
        "job_name": "phjob",
        "static_configs": [
            {"targets": [f"127.0.0.1:{paths.ports[name]}"], "labels": {"component": name}}
            for name in services
        ],
    }
    rabbitmq = {
        "job_name": "rabbitmq",
        "metrics_path": "/metrics/detailed",
        "params": QUEUES,
        "static_configs": [{"targets": [f"127.0.0.1:{paths.ports['rabbitmq-prometheus']}"]}],
    }
    content = {
        "global": {"scrape_interval": f"{seconds}s", "evaluation_interval": f"{seconds}s"},
        "rule_files": [str(rules)],
        "scrape_configs": [services_config, rabbitmq],
    }
    argv = [
        str(server),
        f"--config.file={config}",
        f"--storage.tsdb.path={paths.data / 'prometheus'}",
        f"--web.listen-address=127.0.0.1:{paths.ports['prometheus']}",
        "--log.level=warn",
    ]
    url = f"{paths.url('prometheus', 'http')}/-/ready"
    return Spec("prometheus", argv, files={config: yaml.safe_dump(content)}, ready=lambda: is_healthy(url))
