"""The runtime of every service: messages over RabbitMQ, readiness, metrics, settings, logs."""
