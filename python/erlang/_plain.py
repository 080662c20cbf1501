# SPDX-License-Identifier: Apache-2.0
"""Values for those who only read about them: fields of log messages, attributes of spans.

An argument that does not convert is the caller's mistake, and an object without a
counterpart goes to Erlang as a handle.  Here neither will do: what is told in passing must
not fail, and must not keep an object alive for as long as somebody keeps the message.  So
what Erlang cannot hold by itself is told as its repr().
"""

from __future__ import annotations

from _erlang import Atom, Term

from ._codec import encoders, find_encoder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

_AS_THEY_ARE = frozenset([int, float, bool, type(None), bytes, Atom])
_SIMPLE = (int, float, bytes, Term)


def text(value: str) -> str:
    """Text that UTF-8 can hold; lone surrogates as \\udcxx."""
    return value if value.isascii() else value.encode("utf-8", "backslashreplace").decode("utf-8")


def plain(value: Any) -> Any:
    """The value itself where Erlang has a counterpart of all that it holds, else what tells it."""
    return _plain(value, set())


def _plain(value: Any, around: set[int]) -> Any:
    """`around` are the containers on the way here: one that holds itself is told by repr()."""
    kind = type(value)
    if kind in _AS_THEY_ARE:
        return value
    if kind is str:
        return text(value)
    if id(value) in around:
        return _repr(value)
    around.add(id(value))
    try:
        return _converted(value, kind, around)
    except Exception:  # a method of a user's class, or too deep; there is still its repr()
        return _repr(value)
    finally:
        around.discard(id(value))


def _converted(value: Any, kind: type, around: set[int]) -> Any:
    encoder = encoders[kind] if kind in encoders else find_encoder(kind)
    if encoder is not None:
        return _plain(encoder(value), around)
    if isinstance(value, dict):
        return {_hashable(key, around): _plain(item, around) for key, item in value.items()}
    if isinstance(value, tuple):
        return tuple([_plain(item, around) for item in value])
    if isinstance(value, (list, set, frozenset)):
        return [_plain(item, around) for item in value]
    if isinstance(value, str):
        return text(str.__str__(value))
    return value if isinstance(value, _SIMPLE) else _repr(value)


def _hashable(key: Any, around: set[int]) -> Any:
    """A key: one that became a list could not be one any more."""
    told = _plain(key, around)
    try:
        hash(told)
    except TypeError:
        return _repr(key)
    return told


def _repr(value: Any) -> str:
    return said("repr()", lambda: repr(value))


def said(what: str, ask: Callable[[], Any]) -> str:
    """What an object says of itself, by code that may fail."""
    try:
        return text(str(ask()))
    except Exception:
        return f"<{what} failed>"
