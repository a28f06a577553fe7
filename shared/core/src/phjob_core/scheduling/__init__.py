"""The scheduling engine: the queue of each group, the quota ledger, and what they decide. Pure."""
