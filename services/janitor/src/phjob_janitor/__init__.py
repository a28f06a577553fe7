"""The janitor: decides when a job's time is over. It reads and writes messages only."""
