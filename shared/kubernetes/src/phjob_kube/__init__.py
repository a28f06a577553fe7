"""The Kubernetes API over HTTP, as plain JSON: the port, the client, and its configuration."""
