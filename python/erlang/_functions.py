# SPDX-License-Identifier: Apache-2.0
"""`erlang.name(...)` and `from erlang import name`: registered functions as attributes.

A name that the package does not have is asked for in Erlang, once in each interpreter: from
then on the module has it.  What is kept is the name.  Which function that is Erlang decides
at each call, as for `erlang.call`, so functions may be replaced under running code.
"""

from __future__ import annotations

import sys
from importlib.machinery import PathFinder

from _erlang import Atom, call

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_REGISTERED = Atom("$py_registered")


class Function:
    """A function that was registered with py:register_function/2,3."""

    def __init__(self, name: str) -> None:
        self.__name__ = self.__qualname__ = name
        self.__module__ = "erlang"

    def __call__(self, /, *args: Any) -> Any:
        return call(self.__name__, *args)

    def __repr__(self) -> str:
        return f"<Erlang function {self.__name__!r}>"

    def __reduce__(self) -> Any:
        raise TypeError(f"cannot pickle the Erlang function {self.__name__!r}")


def find(name: str) -> Function:
    """The function of this name; AttributeError if Erlang has registered none."""
    if not _is_reserved(name) and call(_REGISTERED, name):
        return Function(name)
    raise AttributeError(f"module 'erlang' has no attribute {name!r}, and Erlang has not registered "
                         "a function of this name with py:register_function")


def _is_reserved(name: str) -> bool:
    """Python asks modules for names of its own; and for submodules before it imports them."""
    return (name.startswith("__") and name.endswith("__")
            or PathFinder.find_spec(f"{__package__}.{name}", sys.modules[__package__].__path__) is not None)
