"""PhJob on one machine: a real control plane, RabbitMQ, a node and the four services."""
