"""The two kinds of node: KWOK's pods do what their annotations say, the real node's do it themselves."""

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dev.image import NOTEBOOK
from dev.options import default_node
from dev.stack import Part, Stack

PARTS: tuple[Part, ...] = ("control-plane", "node")
SECONDS = 60

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="real containers need root")
