"""PhJob's decisions, and the messages between its services. It does no I/O, and has no clock."""
