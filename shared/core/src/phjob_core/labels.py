"""Group and user names as Kubernetes label values, in PrimeHub's encoding.

JupyterHub's pods have the same values, so that jobs and notebooks count in one pool.
"""

import hashlib
import string
from functools import lru_cache

from escapism import escape

GROUP_LABEL = "primehub.io/group"
USER_LABEL = "primehub.io/user"
JOB_UID_LABEL = "primehub.io/phjob-uid"
JOB_NAME_LABEL = "primehub.io/phjob"

MAX_CACHED_NAMES = 16_384
"""The number of names whose label values are cached: 20 MiB if all have the greatest length."""
_SAFE = set(string.ascii_lowercase + string.digits)
_MAX_VALUE_CHARS = 63
"""Kubernetes' limit."""
_HASH_CHARS = 16


@lru_cache(MAX_CACHED_NAMES)
def label_value(name: str) -> str:
    """Return PrimeHub's label value for a group's or user's name (spec.md, P3).

    The value is `escaped-` and the name. Each character other than `a-z` and `0-9` becomes `-` and two
    hexadecimal digits for each of its bytes. A value of more than 63 characters is cut, and ends in a hash of
    the whole name, so that two long names never have the same value.
    """
    value: str = "escaped-" + escape(name, safe=_SAFE, escape_char="-").lower()
    if len(value) <= _MAX_VALUE_CHARS:
        return value
    digest = hashlib.sha256(name.encode()).hexdigest()[:_HASH_CHARS]
    return f"{value[: _MAX_VALUE_CHARS - _HASH_CHARS - 1]}-{digest}"
