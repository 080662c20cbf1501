# SPDX-License-Identifier: Apache-2.0
"""Protocols on descriptors that Erlang hands over: see py_reactor_context.erl.

A connection is at any time either read or written, as its protocol says: by what it returns.
The loop tells when the descriptor is ready for that, and nothing else is between the
protocol and its descriptor.

Data are read into one buffer for all connections of a context.  A protocol that keeps what it
got keeps that buffer: the next data are read into another one then.
"""

from __future__ import annotations

import os
import select
from asyncio import get_running_loop
from contextvars import ContextVar
from functools import reduce
from importlib import import_module

from _erlang import Atom, send

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable
    from typing import Any, NoReturn, Optional, Union

    from _erlang import Pid

__all__ = ["Protocol", "get_protocol", "set_protocol_factory", "signal_write_ready"]

_BUFFER_SIZE = 262144

_contexts: dict[int, _Context] = {}  # by the number that Erlang gave them
_connections: dict[int, _Connection] = {}  # by descriptor: that is one in the whole VM
_default_factory: Optional[Callable[[], Protocol]] = None
_current: ContextVar[Optional[_Context]] = ContextVar("erlang.reactor", default=None)


class Protocol:
    """What is done with one connection.  Subclasses override what they want to do otherwise.

    `fd` is -1 before the connection begins and after it has ended.
    All is called on an event loop, so it must not block.  An exception ends the connection.
    """

    fd: int = -1
    client_info: dict[Any, Any]

    def __init__(self) -> None:
        self.write_buffer = bytearray()

    def connection_made(self, fd: int, client_info: dict[Any, Any]) -> None:
        """The connection begins.  `fd` and `client_info` are attributes as well."""

    def data_received(self, data: memoryview) -> str:
        """Data have come: what is to be done next.

        "continue" (or "read_pending"): read more.  "write_pending": call write_ready() when the
        descriptor can be written, and do not read before that says so.  "close".
        """
        raise NotImplementedError("a protocol of erlang.reactor has a method data_received()")

    def write_ready(self) -> str:
        """The descriptor can be written: what is to be done next.

        "continue" (or "write_pending"): write more when it can be written again.
        "read_pending": read.  "close".  This one writes what is in `write_buffer`.
        """
        if self.write_buffer:
            del self.write_buffer[:self.write(self.write_buffer)]
        return "continue" if self.write_buffer else "read_pending"

    def connection_lost(self) -> None:
        """The connection ends, whoever ended it.  The descriptor is closed after that."""

    def read(self, size: int = 65536) -> Optional[bytes]:
        """Reads at most so many bytes: b"" at the end, None if there is nothing now."""
        context = _of(self).context  # first, as the descriptor may be another connection's by now
        try:
            data = os.read(self.fd, size)
        except BlockingIOError:
            return None
        context.bytes_in += len(data)
        return data

    def write(self, data: Union[bytes, bytearray, memoryview]) -> int:
        """Writes what can be written now, and returns how many bytes that were."""
        context = _of(self).context
        try:
            count = os.write(self.fd, data)
        except BlockingIOError:
            return 0
        context.bytes_out += count
        return count

    def close(self) -> None:
        """Ends the connection."""
        _of(self).close()


def set_protocol_factory(factory: Callable[[], Protocol]) -> None:
    """What makes the protocol of each connection: a class, or any callable without arguments.

    In code of a context it is that context's, elsewhere that of all contexts of this
    interpreter that have none.
    """
    global _default_factory
    if not callable(factory):
        raise TypeError(f"a protocol factory must be callable, not {factory!r}")
    context = _current.get()
    if context is None:
        _default_factory = factory
    else:
        context.factory = factory


def get_protocol(fd: int) -> Optional[Protocol]:
    """The protocol of a descriptor, or None if it has none in this interpreter."""
    connection = _connections.get(fd)
    return None if connection is None else connection.protocol


def signal_write_ready(fd: int) -> bool:
    """Has write_ready() called as soon as the descriptor can be written; from any thread.

    For a protocol that has something to write that is no answer.  False: there is no such
    connection any more.
    """
    connection = _connections.get(fd)
    if connection is None:
        return False
    try:
        connection.context.loop.call_soon_threadsafe(connection.want_to_write)
    except RuntimeError:
        return False  # the loop is closed, and the connection with it
    return True


def _of(protocol: Protocol) -> _Connection:
    connection = _connections.get(protocol.fd)
    if connection is None or connection.protocol is not protocol:
        raise OSError("the connection of this protocol has ended")
    return connection


# ---- what py_reactor_context calls, on the context's loop

async def serve(number: int, pid: Pid, module: Optional[str], name: Optional[str], code: Optional[str],
                max_connections: Optional[int]) -> NoReturn:
    """The life of a context: until this is cancelled."""
    context = _Context(get_running_loop(), max_connections)
    _current.set(context)
    if code is not None:
        exec(compile(code, "<setup_code>", "exec"), {"__name__": "__reactor__"})
    if module is not None and name is not None:
        set_protocol_factory(reduce(getattr, name.split("."), import_module(module)))
    _contexts[number] = context
    try:
        send(pid, (Atom("py_reactor"), Atom("started")))
        await get_running_loop().create_future()
    finally:
        del _contexts[number]
        context.close()
        send(pid, (Atom("py_reactor"), Atom("stopped")))


def handoff(number: int, fd: int, client_info: dict[Any, Any]) -> int:
    """Takes a duplicate of the descriptor, and returns that."""
    return _context(number).take(fd, client_info)


def stats(number: int) -> dict[Atom, int]:
    """The counts of a context."""
    context = _context(number)
    return {Atom("connections"): len(context.connections), Atom("accepted"): context.accepted,
            Atom("failed"): context.failed, Atom("bytes_in"): context.bytes_in,
            Atom("bytes_out"): context.bytes_out}


def _context(number: int) -> _Context:
    context = _contexts.get(number)
    if context is None:
        raise ValueError("the reactor context has ended")
    return context


class _Context:
    """Connections that share a loop, a factory and a buffer."""

    def __init__(self, loop: AbstractEventLoop, max_connections: Optional[int]) -> None:
        self.loop = loop
        self.max_connections = max_connections
        self.factory: Optional[Callable[[], Protocol]] = None
        self.connections: set[_Connection] = set()
        self.accepted = self.failed = self.bytes_in = self.bytes_out = 0
        self._buffer = bytearray(_BUFFER_SIZE)

    def take(self, fd: int, client_info: dict[Any, Any]) -> int:
        """Begins a connection on a duplicate of the descriptor."""
        factory = self.factory or _default_factory
        if factory is None:
            raise RuntimeError("there is no protocol: erlang.reactor.set_protocol_factory() was not called")
        if self.max_connections is not None and len(self.connections) >= self.max_connections:
            raise BlockingIOError(f"the reactor context has {self.max_connections} connections, and may not have more")
        _current.set(self)
        protocol = factory()
        own = os.dup(fd)
        try:
            os.set_blocking(own, False)
            connection = _Connection(self, own, protocol, client_info)
        except BaseException:
            os.close(own)
            raise
        connection.begin()
        return own

    def read(self, fd: int) -> Optional[memoryview]:
        """What there is to read; an empty one at the end, None if there is nothing."""
        try:
            count = os.readv(fd, (self._buffer,))
        except (BlockingIOError, InterruptedError):
            return None
        self.bytes_in += count
        return memoryview(self._buffer)[:count]

    def reuse_buffer(self) -> None:
        """Has another buffer for the next data if any of the last ones are still in use."""
        try:
            self._buffer.append(0)  # refused while there are views of it
        except BufferError:
            self._buffer = bytearray(_BUFFER_SIZE)
        else:
            self._buffer.pop()

    def report(self, connection: _Connection, error: BaseException) -> None:
        """An exception in a protocol."""
        self.failed += 1
        self.loop.call_exception_handler({"message": "a protocol of erlang.reactor failed", "exception": error,
                                          "protocol": connection.protocol})

    def close(self) -> None:
        """Ends all connections."""
        for connection in list(self.connections):
            connection.close()


class _Connection:
    """A descriptor and its protocol: one state, which is reading, writing or closed."""

    def __init__(self, context: _Context, fd: int, protocol: Protocol, client_info: dict[Any, Any]) -> None:
        self.context = context
        self.protocol = protocol
        self.is_writing = False
        self.is_closed = False
        self._fd = fd
        protocol.fd = fd
        protocol.client_info = client_info
        context.loop.add_reader(fd, self.readable)

    def begin(self) -> None:
        """Tells the protocol.  If that refuses, the connection is over."""
        self.context.accepted += 1
        self.context.connections.add(self)
        _connections[self._fd] = self
        try:
            self.protocol.connection_made(self._fd, self.protocol.client_info)
        except BaseException:
            self.close()
            raise

    def readable(self) -> None:
        """There is something to read, or the end."""
        if self.is_closed or self.is_writing:
            return
        try:
            data = self.context.read(self._fd)
            if data is None:
                return
            if not data:
                self.close()
                return
            try:
                action = self.protocol.data_received(data)
            finally:
                del data
                self.context.reuse_buffer()
            self._next(action)
        except BaseException as error:
            self._fail(error)

    def writable(self) -> None:
        """There is room."""
        if self.is_closed or not self.is_writing:
            return
        try:
            self._next(self.protocol.write_ready())
        except BaseException as error:
            self._fail(error)

    def want_to_write(self) -> None:
        """As if the protocol had returned "write_pending"."""
        if not self.is_closed and not self.is_writing:
            try:
                self._next("write_pending")
            except BaseException as error:
                self._fail(error)

    def _next(self, action: str) -> None:
        if self.is_closed:
            return
        if action == "continue":
            return
        if action == "close":
            self.close()
        elif action == "write_pending":
            self._write()
        elif action == "read_pending":
            self._set_writing(False)
        else:
            raise ValueError(f"a protocol returns 'continue', 'read_pending', 'write_pending' or 'close', not {action!r}")

    def _write(self) -> None:
        """Writes at once where that can be done: then the loop need not be told at all."""
        if self.is_writing:
            return
        poller = select.poll()
        poller.register(self._fd, select.POLLOUT)
        if poller.poll(0):
            action = self.protocol.write_ready()
            if self.is_closed or action == "read_pending":
                return
            if action not in ("continue", "write_pending"):
                self._next(action)
                return
        self._set_writing(True)

    def _set_writing(self, is_writing: bool) -> None:
        if is_writing == self.is_writing:
            return
        self.is_writing = is_writing
        loop = self.context.loop
        if is_writing:
            loop.remove_reader(self._fd)
            loop.add_writer(self._fd, self.writable)
        else:
            loop.remove_writer(self._fd)
            loop.add_reader(self._fd, self.readable)

    def _fail(self, error: BaseException) -> None:
        # Whatever it is, SystemExit as well: the loop would go on, and the connection with it.
        # A peer that has gone in the middle is no failure of the protocol's.
        if not isinstance(error, ConnectionError):
            self.context.report(self, error)
        self.close()

    def close(self) -> None:
        """Ends it, once."""
        if self.is_closed:
            return
        self.is_closed = True
        loop = self.context.loop
        loop.remove_reader(self._fd)
        loop.remove_writer(self._fd)
        self.context.connections.discard(self)
        try:
            self.protocol.connection_lost()
        except BaseException as error:
            self.context.report(self, error)
        finally:
            self.protocol.fd = -1  # the number may soon be that of another one
            del _connections[self._fd]
            os.close(self._fd)
