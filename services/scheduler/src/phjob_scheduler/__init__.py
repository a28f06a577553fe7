"""The scheduler: decides which jobs are admitted. It reads and writes messages only."""
