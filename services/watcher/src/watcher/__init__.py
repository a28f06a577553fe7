"""The watcher: publishes what changed in Kubernetes. It decides nothing."""
