"""The dashboards for operators, as data. `grafana` generates Grafana's JSON from them."""
