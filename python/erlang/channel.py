# SPDX-License-Identifier: Apache-2.0
"""Channels: what Erlang sends by `py_channel`, `py_byte_channel` and `py_buffer`.

A channel comes from Erlang as a `Ref`, of which `Channel(ref)`, `ByteChannel(ref)` or
`PyBuffer(ref)` makes what this code uses.  Several may be made of one reference: they share its
items, of which each is received once.  A `Channel` goes back to Erlang as the reference.

`receive()` waits, and ends with `Timeout`, with the request if that is cancelled, or with
`ChannelClosed`; it blocks an event loop, for which there is `async_receive()`.  A channel that
nobody uses any more stays open, as other code may have it: `with Channel(ref) as channel` closes
it in the end, and Erlang is told so when it sends.
"""

from __future__ import annotations

from asyncio import get_running_loop
from functools import partial
from io import BufferedReader, RawIOBase
from weakref import ref as weak

from _erlang import ChannelClosed, Pid, Pipe, Ref, Term, send

from ._async import _calls_of
from ._codec import register_encoder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Optional

    from _erlang import ChannelWait, Mailbox

__all__ = ["ByteChannel", "Channel", "ChannelClosed", "PyBuffer", "reply"]

_TERMS, _BYTES, _FILE = 0, 1, 2  # as C has them
_MADE_BY = {_TERMS: "py_channel", _BYTES: "py_byte_channel", _FILE: "py_buffer"}
_NOTHING = object()


def reply(pid: Pid, term: Any) -> None:
    """Sends a message to an Erlang process: the answer to what came through a channel."""
    if not isinstance(pid, (Pid, Ref)):
        raise TypeError(f"reply() takes a Pid, or a Ref that is an alias, not {type(pid).__name__}")
    send(pid, term)


def _check(pipe: Pipe, kind: int) -> None:
    if pipe.kind != kind:
        raise TypeError(f"this was made by {_MADE_BY[pipe.kind]}:new(), and {_MADE_BY[kind]}:new() was expected")


async def _wait(start: Callable[[Mailbox], Optional[ChannelWait]]) -> Any:
    """What the channel gives the wait that was started; _NOTHING if there is none to be waited for."""
    loop = get_running_loop()
    calls = _calls_of(loop)
    wait = start(calls.mailbox)
    if wait is None:
        return _NOTHING
    future = calls.add(wait)
    # As in async_call(): tasks of a closed loop shall not keep it.
    known = weak(calls)
    del calls, loop
    try:
        await future
        return wait.take()
    finally:
        # Not taken, it is the next one's: also where the task was cancelled after it had come.
        wait.cancel()
        calls_left = known()
        if calls_left is not None:
            calls_left.end(wait)
        del future, calls_left


class Channel(Pipe):
    """The terms that Erlang sends by `py_channel:send/2`.

    Iterating, by `for` or `async for`, goes on until the channel is closed and empty.
    """

    __slots__ = ()

    def __init__(self, ref: Term) -> None:
        _check(self, _TERMS)

    async def async_receive(self) -> Any:
        """The next item; waits for it while the event loop goes on.

        Raises ChannelClosed when the channel is closed and empty.
        """
        value = self.try_receive(_NOTHING)
        return value if value is not _NOTHING else await _wait(self.start_receive)

    def __aiter__(self) -> Channel:
        return self

    async def __anext__(self) -> Any:
        try:
            return await self.async_receive()
        except ChannelClosed:
            raise StopAsyncIteration from None

    async def __aenter__(self) -> Channel:
        return self

    async def __aexit__(self, *args: object) -> None:
        self.close()


class ByteChannel(Pipe):
    """The bytes that Erlang sends by `py_byte_channel:send/2`, and those that it receives.

    Each piece arrives as it was sent.  Iterating goes on until the channel is closed and empty.
    """

    __slots__ = ()

    def __init__(self, ref: Term) -> None:
        _check(self, _BYTES)

    receive_bytes = Pipe.receive
    try_receive_bytes = Pipe.try_receive
    send_bytes = Pipe.send
    try_send_bytes = Pipe.try_send

    async def async_receive_bytes(self) -> bytes:
        """The next piece; waits for it while the event loop goes on.

        Raises ChannelClosed when the channel is closed and empty.
        """
        value: Any = self.try_receive(_NOTHING)
        return value if value is not _NOTHING else await _wait(self.start_receive)

    async def async_send_bytes(self, data: Any) -> None:
        """Sends bytes to Erlang, and waits for room while the event loop goes on.

        Raises ChannelClosed.
        """
        while not self.try_send(data):
            if await _wait(partial(self.start_send, data)) is _NOTHING:
                return

    def __aiter__(self) -> ByteChannel:
        return self

    async def __anext__(self) -> bytes:
        try:
            return await self.async_receive_bytes()
        except ChannelClosed:
            raise StopAsyncIteration from None

    async def __aenter__(self) -> ByteChannel:
        return self

    async def __aexit__(self, *args: object) -> None:
        self.close()


class _Reading(RawIOBase):
    """The stream of a py_buffer, a read for what is there of it."""

    def __init__(self, ref: Term, timeout: Optional[float]) -> None:
        pipe = Pipe(ref)
        _check(pipe, _FILE)  # before it is ours to close
        self.pipe = pipe
        self.timeout = timeout

    def readable(self) -> bool:
        """True."""
        return True

    def readinto(self, buffer: Any, /) -> int:
        """Waits until there is something; 0 at the end."""
        return self.pipe.receive_into(buffer, self.timeout)

    def close(self) -> None:
        """Tells Erlang that nobody reads any more."""
        if not self.closed:
            super().close()
            # Else it is being dropped, as it was none.
            pipe = self.__dict__.get("pipe")
            if pipe is not None:
                pipe.close()


class PyBuffer(BufferedReader):
    """What Erlang writes by `py_buffer:write/2`, as a binary file to read.

    Reading waits for bytes, for at most `timeout` seconds each time if that is given, and then
    raises Timeout.  When the file is closed, or given up, Erlang can write no more.
    """

    def __init__(self, ref: Term, timeout: Optional[float] = None, buffer_size: int = 65536) -> None:
        raw = _Reading(ref, timeout)
        super().__init__(raw, buffer_size)
        self.ref = raw.pipe


register_encoder(PyBuffer, lambda buffer: buffer.ref)
