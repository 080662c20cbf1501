# SPDX-License-Identifier: Apache-2.0
"""What becomes of objects that C does not know, and of tagged tuples.

C asks `encoders`, by the type of the object, for a function that makes something simpler of
it; a type that is missing there it has find_encoder() look for.  None says that there is no
such function: then a subclass of a type that C knows is converted as its base, and anything
else becomes a handle.  A tuple whose first element is an atom C looks up in `decoders`.

None of the modules whose types have a function here is imported for that.  A type that
exists has been imported, so it is known by its module and name, and then compared.
"""

from __future__ import annotations

import sys
from _thread import allocate_lock
from operator import attrgetter, methodcaller

from _erlang import Atom, Fun, Pid, Port, Ref, Term

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Optional, Union

    Encoder = Callable[[Any], Any]
    Decoder = Callable[..., Any]

ENCODERS_MAX = 1000

encoders: dict[type, Optional[Encoder]] = {}  # what find_encoder() found
decoders: dict[str, Decoder] = {}

_registered: dict[type, Encoder] = {}
_lock = allocate_lock()  # what is found belongs to what is registered

# C converts these by itself, and does not ask.
_FIXED = frozenset([int, str, float, bool, type(None), bytes, list, tuple, dict, set, frozenset,
                    Atom, Fun, Pid, Port, Ref, Term])
# C takes these tuples for what they say.
_INSTRUCTIONS = frozenset(["bytes", "buffer"])


def register_encoder(type: type, fn: Encoder) -> None:
    """Has `fn(value)` make what Erlang gets, for values of this type and its subclasses.

    It holds in this interpreter.  What `fn` returns is converted in turn.
    """
    if not isinstance(type, _type):
        raise TypeError(f"the type must be a class, not {type!r}")
    if type in _FIXED:
        raise TypeError(f"what becomes of {type.__name__} is fixed")
    if not callable(fn):
        raise TypeError(f"the encoder must be callable, not {fn!r}")
    with _lock:
        _registered[type] = fn
        encoders.clear()


def register_decoder(tag: Union[str, Atom], fn: Decoder) -> None:
    """Has `fn(E1, ..., En)` make what Python gets for the Erlang tuple `{Tag, E1, ..., En}`.

    It holds in this interpreter.
    """
    if not isinstance(tag, str):
        raise TypeError(f"the tag must be a str or an Atom, not {tag!r}")
    if tag in _INSTRUCTIONS:
        raise ValueError(f"a tuple with {tag!s} is an instruction already")
    if not callable(fn):
        raise TypeError(f"the decoder must be callable, not {fn!r}")
    decoders[str(tag)] = fn


def find_encoder(type: type) -> Optional[Encoder]:
    """The function for values of this type; remembers it in `encoders`."""
    with _lock:
        encoder = _find(type)
        if len(encoders) >= ENCODERS_MAX:
            encoders.clear()
        encoders[type] = encoder
        return encoder


_type = type


def _find(type: type) -> Optional[Encoder]:
    for base in type.__mro__:
        if base in _registered:
            return _registered[base]
    for base in type.__mro__:
        name = base.__module__, base.__name__
        if name in _KNOWN and getattr(sys.modules.get(name[0]), name[1], None) is base:
            return _KNOWN[name]
        if "__dataclass_fields__" in base.__dict__:
            return _fields
    return None


def _fields(value: Any) -> dict[str, Any]:
    return {field.name: getattr(value, field.name) for field in sys.modules["dataclasses"].fields(value)}


def _buffer(value: Any) -> Any:
    """The bytes, or the list of the elements that the buffer's format tells."""
    with memoryview(value) as view:
        if view.format.lstrip("@=<>!") in ("B", "c") and view.ndim == 1 and view.contiguous:
            return view.tobytes()
        return view.tolist()


_isoformat, _tolist = methodcaller("isoformat"), methodcaller("tolist")

# By module and name, as types have them.
_KNOWN: dict[tuple[str, str], Encoder] = {
    ("builtins", "bytearray"): bytes,
    ("builtins", "memoryview"): _buffer,
    ("array", "array"): _tolist,
    ("mmap", "mmap"): _buffer,
    ("pickle", "PickleBuffer"): _buffer,
    ("_ctypes", "Array"): list,
    ("datetime", "date"): _isoformat,
    ("datetime", "datetime"): _isoformat,
    ("datetime", "time"): _isoformat,
    ("decimal", "Decimal"): str,
    ("uuid", "UUID"): str,
    ("enum", "Enum"): attrgetter("value"),
    ("numpy", "generic"): methodcaller("item"),
    ("numpy", "ndarray"): _tolist,
}
