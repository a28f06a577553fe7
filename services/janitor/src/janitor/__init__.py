"""The janitor: decides when a job is over time. It reads and writes messages only."""
