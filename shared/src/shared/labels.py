"""Group and user names as Kubernetes label values, the way PrimeHub writes them.

JupyterHub's pods carry the same values, which is how both count in one pool.
"""

import hashlib
import string
from functools import lru_cache

from escapism import escape

GROUP_LABEL = "primehub.io/group"
USER_LABEL = "primehub.io/user"
JOB_UID_LABEL = "primehub.io/phjob-uid"

_SAFE = set(string.ascii_lowercase + string.digits)
_LONGEST = 63
"""Kubernetes' bound on a label value."""
_HASH_LENGTH = 16


@lru_cache(maxsize=65536)
def label_value(name: str) -> str:
    """PrimeHub's label value for a group's or user's name (contract.md, The pod).

    `escaped-` and the name with every character but `a-z0-9` as `-` and two hexadecimal digits for
    each byte. A value over 63 characters is cut and ends in a hash of the whole name.
    """
    value: str = "escaped-" + escape(name, safe=_SAFE, escape_char="-").lower()
    if len(value) <= _LONGEST:
        return value
    digest = hashlib.sha256(name.encode()).hexdigest()[:_HASH_LENGTH]
    return f"{value[: _LONGEST - _HASH_LENGTH - 1]}-{digest}"
