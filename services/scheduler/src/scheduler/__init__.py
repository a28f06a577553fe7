"""The scheduler: decides which job goes next. It reads and writes messages only."""
