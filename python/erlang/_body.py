# SPDX-License-Identifier: Apache-2.0
"""Bodies of requests that come through a py_byte_channel or a py_buffer.

Apart from `_wsgi` and `_asgi`, as few bodies do and channels load asyncio.
"""

from __future__ import annotations

from _erlang import Pipe, Term

from .channel import ByteChannel, PyBuffer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Union

_TERMS, _FILE = 0, 2  # the kinds of channels that C has


class _Pieces(ByteChannel):
    """What is written to either, piece by piece."""

    __slots__ = ()

    def __init__(self, ref: Term) -> None:
        if self.kind == _TERMS:
            raise TypeError("a py_channel carries terms: a body comes through a py_byte_channel or a py_buffer")


def end(ref: Term) -> None:
    """Nobody reads it any more."""
    Pipe(ref).close()


def blocking(ref: Term) -> Union[PyBuffer, Callable[[], bytes]]:
    """A file, or what waits for the next piece and gives it: b"" at the end."""
    pieces = _Pieces(ref)
    if pieces.kind == _FILE:
        return PyBuffer(ref)

    def next_piece() -> bytes:
        """b"" at the end."""
        for piece in pieces:
            if piece:
                return piece
        return b""

    return next_piece


def asynchronous(ref: Term) -> Callable[[], Awaitable[bytes]]:
    """The same for coroutines."""
    pieces = _Pieces(ref)

    async def next_piece() -> bytes:
        """b"" at the end."""
        async for piece in pieces:
            if piece:
                return piece
        return b""

    return next_piece
