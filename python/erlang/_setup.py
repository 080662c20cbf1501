# SPDX-License-Identifier: Apache-2.0
"""What the application makes of each interpreter before it serves.

Directories in `sys.path`, modules that are imported, code that runs in `__main__`: see
py_import and py_preload.  All of it runs on the interpreter's service thread.
"""

from __future__ import annotations

import importlib
import sys
from functools import reduce

import _erlang

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import List, Optional, Tuple

    Import = Tuple[str, Optional[str]]  # a module, and what it must have
    Refused = Tuple[str, str]  # a module, and why it does not load

# What set_paths() put into sys.path.
_paths: List[str] = []


def set_paths(paths: list[str]) -> list[Refused]:
    """Puts these directories in front of `sys.path`, in place of those that it put there before."""
    others = [path for path in sys.path if path not in _paths]
    _paths[:] = [path for path in paths if path not in others]
    sys.path[:] = _paths + others
    importlib.invalidate_caches()
    return []


def import_all(imports: list[Import], strict: bool) -> list[Refused]:
    """Imports modules.

    Unless `strict`, an ImportError is returned: a sub-interpreter refuses some of what the
    main interpreter could import before.
    """
    refused = []
    for module, name in imports:
        try:
            found = importlib.import_module(module)
        except ImportError as error:
            if strict:
                raise
            refused.append((module, str(error)))
        else:
            if name is not None:
                reduce(getattr, name.split("."), found)
    return refused


def run(code: str) -> list[Refused]:
    """Runs code in `__main__`, where every namespace finds what it defines."""
    exec(compile(code, "<preload>", "exec"), sys.modules["__main__"].__dict__)
    _erlang.preloaded()
    return []


def reload(module: str) -> bool:
    """Loads a module anew if it is loaded; tells whether it was."""
    loaded = sys.modules.get(module)
    if loaded is None:
        return False
    importlib.invalidate_caches()
    importlib.reload(loaded)
    return True
