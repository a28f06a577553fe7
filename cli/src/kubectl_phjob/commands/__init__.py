"""The commands, a file each: importing them makes them known to `app`.

What they answer comes from `look` and `answers`; what they read of the API server, from `reading`.
"""

from kubectl_phjob.commands import cancel, list_jobs, logs, queue, submit, top, why

__all__ = ["cancel", "list_jobs", "logs", "queue", "submit", "top", "why"]
