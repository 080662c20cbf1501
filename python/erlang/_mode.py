# SPDX-License-Identifier: Apache-2.0
"""How Python runs in parallel in this VM."""

from __future__ import annotations

from enum import Enum
from functools import lru_cache

from _erlang import Atom, call

_MODE = Atom("$py_mode")


class ExecutionMode(Enum):
    """The modes that py:execution_mode/0 tells of."""

    FREE_THREADED = "free_threaded"  # no GIL: threads of one interpreter run in parallel
    SUBINTERP = "subinterp"  # sub-interpreters with a GIL each run in parallel
    MULTI_EXECUTOR = "multi_executor"  # threads of one interpreter take turns at its GIL


@lru_cache(maxsize=None)
def detect_mode() -> ExecutionMode:
    """The mode of this VM; the same in all its interpreters."""
    return ExecutionMode(call(_MODE))
