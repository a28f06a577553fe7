"""RabbitMQ: publishing, consuming, dead letters, and the topology of exchanges and queues."""
