"""The local stack of PhJob: a Kubernetes control plane, RabbitMQ, a node and the four services."""
