"""What operators look at: dashboards as data, made into Grafana's JSON and into pictures."""
