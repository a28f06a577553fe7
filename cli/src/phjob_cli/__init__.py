"""The command line of PhJob: `kubectl phjob`.

The commands read Kubernetes with the user's own rights and put the result through `phjob_core`, the code
with which the services decide. Queues, reasons and messages are therefore the same as the scheduler's. No
service needs to be reachable.
"""
