"""The demo: PhJob does its job before the reader's eyes, and every claim is checked.

`run` puts it together; `first_job`, `examples`, `cancel` and `requeue` are what is shown. What they
show comes from kubectl, what they check from `journal`: the API server's own record, not our logs.
"""
