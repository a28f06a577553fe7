"""The demo: it shows what PhJob does, and checks every claim.

`run` puts the demo together. `first_job`, `examples`, `cancel` and `requeue` are its steps. They show the
output of kubectl, and check the watches of the API server (`job_journal`, `pod_journal`), not PhJob's logs.
"""
