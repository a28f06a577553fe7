"""The pod-manager: does what is ordered, and keeps a job's status true to its pod.

The only service that writes jobs and pods. It decides nothing.
"""
