"""The watcher: publishes what changes in Kubernetes. It decides nothing."""
