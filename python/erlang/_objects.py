# SPDX-License-Identifier: Apache-2.0
"""What Erlang does with a Python object that it has a handle of: see py_object.erl.

Names come as binaries, and so as `bytes` where the caller wants all binaries to be that.
"""

from __future__ import annotations

from functools import reduce

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Union

    Name = Union[str, bytes]


def _text(name: Name) -> str:
    return name.decode("utf-8") if isinstance(name, bytes) else name


def get(value: Any, name: Name, /) -> Any:
    """An attribute; `a.b` is the attribute b of the attribute a."""
    return reduce(getattr, _text(name).split("."), value)


def assign(value: Any, name: Name, new: Any, /) -> None:
    """Sets an attribute."""
    path, _, last = _text(name).rpartition(".")
    setattr(get(value, path) if path else value, last, new)


def call_method(value: Any, name: Name, /, *args: Any, **kwargs: Any) -> Any:
    """Calls a method."""
    return get(value, name)(*args, **kwargs)


def call(value: Any, /, *args: Any, **kwargs: Any) -> Any:
    """Calls an object."""
    return value(*args, **kwargs)


def same(value: Any, /) -> Any:
    """The object, which is converted on its way out."""
    return value
