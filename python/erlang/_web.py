# SPDX-License-Identifier: Apache-2.0
"""What the servers of WSGI and ASGI applications have in common: see py_web.erl."""

from __future__ import annotations

from functools import reduce
from importlib import import_module

from _erlang import Atom, Fun

from ._compat import _refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Optional

EVENT = Atom("py_web")
START, DATA, OK, EOF = Atom("start"), Atom("data"), Atom("ok"), Atom("eof")

# RFC 9110, 5.6.2: what a header's name consists of.
_TOKEN = frozenset(b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")


class RefusedImport(ImportError):
    """The application's module does not load here, and something it imports is known to refuse."""


def find(module: Optional[str], name: Any) -> Any:
    """The application: an object, or what a module has by that name, which may be dotted."""
    if module is None:
        return name
    try:
        return reduce(getattr, name.split("."), import_module(module))
    except Exception as error:
        # However it fails: those that import what refuses raise what they like.
        if not _refused or _is_missing(module, error):
            raise
        raise RefusedImport(str(error)) from error


def _is_missing(module: str, error: Exception) -> bool:
    return isinstance(error, ModuleNotFoundError) and (module + ".").startswith(f"{error.name}.")


def check_header(name: bytes, value: bytes) -> None:
    """ValueError for what would break the head of the response, or smuggle something into it."""
    if not name or not _TOKEN.issuperset(name):
        raise ValueError(f"{name!r} is no name of a header")
    if b"\r" in value or b"\n" in value or b"\0" in value:
        raise ValueError(f"the header {name!r} has a line break or a NUL in its value: {value!r}")


def end_body(source: Any) -> None:
    """The request is over: who writes its body through a channel shall not wait for room.

    py_web.erl does the same, for requests that never came here; but it cannot where the process
    that waited for this one was killed.
    """
    if not isinstance(source, (bytes, Fun)):
        from ._body import end

        end(source)


def part(answer: Any) -> bytes:
    """What a fun that is the source of a body gave; b"" at the end, OSError for its error."""
    if answer == EOF:
        return b""
    tag, data = answer
    if tag == OK:
        return data
    raise OSError(f"the body of the request cannot be read: {data}")
