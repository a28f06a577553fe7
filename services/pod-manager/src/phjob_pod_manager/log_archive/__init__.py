"""The log archive: logs of jobs, stored before their pods are deleted."""
