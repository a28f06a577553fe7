"""A private Prometheus of the system's own package, with our rules, scraping one stack."""

from pathlib import Path

import yaml

from dev.component import Spec
from dev.debian import found
from dev.errors import DevError
from dev.probe import says_ok
from dev.site import Site

RULES = Path(__file__).parents[3] / "k8s" / "monitoring" / "rules" / "phjob.yaml"
QUEUES = {"family": ["queue_coarse_metrics"]}


def prometheus(site: Site, services: list[str], rules: Path, seconds: int) -> Spec:
    """Scrapes these services and RabbitMQ every so many seconds, and evaluates the rules as often."""
    server = found("prometheus")
    if server is None:
        raise DevError("no prometheus: install the package prometheus")
    config = site.config / "prometheus.yaml"
    services_config = {
        "job_name": "phjob",
        "static_configs": [
            {"targets": [f"127.0.0.1:{site.ports[name]}"], "labels": {"component": name}} for name in services
        ],
    }
    rabbitmq = {
        "job_name": "rabbitmq",
        "metrics_path": "/metrics/detailed",
        "params": QUEUES,
        "static_configs": [{"targets": [f"127.0.0.1:{site.ports['rabbitmq-prometheus']}"]}],
    }
    content = {
        "global": {"scrape_interval": f"{seconds}s", "evaluation_interval": f"{seconds}s"},
        "rule_files": [str(rules)],
        "scrape_configs": [services_config, rabbitmq],
    }
    argv = [
        str(server),
        f"--config.file={config}",
        f"--storage.tsdb.path={site.data / 'prometheus'}",
        f"--web.listen-address=127.0.0.1:{site.ports['prometheus']}",
        "--log.level=warn",
    ]
    url = f"{site.url('prometheus', 'http')}/-/ready"
    return Spec("prometheus", argv, files={config: yaml.safe_dump(content)}, ready=lambda: says_ok(url))
