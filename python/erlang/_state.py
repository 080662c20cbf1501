# SPDX-License-Identifier: Apache-2.0
"""State that all interpreters and all Erlang processes share: see py_state.erl.

Keys and values are any that convert; what is read is a copy.  An atom and a string of the
same text are the same key, as an `Atom` equals its text.
"""

from __future__ import annotations

from _erlang import Atom, Error, call
from _erlang import state_incr as _incr

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_STATE = Atom("$py_state")
_GET, _SET, _DELETE, _KEYS, _CLEAR = Atom("get"), Atom("set"), Atom("delete"), Atom("keys"), Atom("clear")


def state_get(key: Any, default: Any = None) -> Any:
    """The value of this key, or the default if there is none."""
    found = call(_STATE, _GET, key)
    return default if found is False else found[-1]


def state_set(key: Any, value: Any) -> None:
    """Sets the value of this key."""
    call(_STATE, _SET, key, value)


def state_delete(key: Any) -> bool:
    """Deletes the key; tells whether it was there."""
    return bool(call(_STATE, _DELETE, key))


def state_keys() -> list[Any]:
    """All keys, in no order."""
    keys: list[Any] = call(_STATE, _KEYS)
    return keys


def state_clear() -> None:
    """Deletes all keys."""
    call(_STATE, _CLEAR)


def state_incr(key: Any, n: int = 1) -> int:
    """Adds to the integer of this key, atomically, and returns the sum.

    A key that is not there counts from 0.  Where the value is no integer that is a TypeError.
    """
    try:
        return _incr(key, n)
    except Error as error:
        if not isinstance(error.reason, tuple) or error.reason[:1] != ("not_an_integer",):
            raise
    raise TypeError(f"the value of the key {key!r} is no integer")


def state_decr(key: Any, n: int = 1) -> int:
    """Subtracts from the integer of this key as state_incr() adds to it."""
    return state_incr(key, -n)
