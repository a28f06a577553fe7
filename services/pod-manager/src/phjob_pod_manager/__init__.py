"""The pod-manager: carries out commands, and keeps each job's status true to its pod.

It is the only service that writes jobs and pods. The scheduler and the janitor decide.
"""
