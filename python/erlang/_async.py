# SPDX-License-Identifier: Apache-2.0
"""Calls of Erlang for which an event loop waits, whichever loop that is.

C puts the results of a loop's calls into a mailbox, and the loop watches the descriptor of
that as it watches a socket, from its first call on: nothing is called from another thread.

Who keeps what is chosen for the end of a loop, which nobody announces.  The loop alone
keeps the calls, by the reader that it has of them, and they keep the mailbox.  A loop that
is closed drops its readers: with that the calls are cancelled, and the descriptor is closed.

The exception that ends a request reaches Python code only when that runs.  So a loop that
runs in a request never sleeps long while it has calls under way, unless it is one of ours,
which is woken.
"""

from __future__ import annotations

from _thread import allocate_lock
from asyncio import get_running_loop
from weakref import WeakKeyDictionary, ref

from _erlang import Mailbox, async_start
from _erlang import self as caller

from ._loop import ErlangEventLoop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future
    from typing import Any, Union

    from _erlang import AsyncCall, Atom, ChannelWait, Fun

_NAP = 0.1  # seconds
_NEVER = float("-inf")

_loops: WeakKeyDictionary[AbstractEventLoop, ref[_Calls]] = WeakKeyDictionary()
_lock = allocate_lock()  # guards it: loops run in several threads


async def async_call(name: Union[str, Atom, Fun], /, *args: Any) -> Any:
    """Calls a registered Erlang function, or a fun, while the event loop goes on.

    The function runs in an Erlang process of its own, which is ended if the task is
    cancelled.  An exception there is raised here as `Error`.
    """
    loop = get_running_loop()
    calls = _calls_of(loop)
    call = async_start(name, args, calls.mailbox)
    # No result of it is taken before this task waits: that is done by the loop.
    future = calls.add(call)
    # Exceptions and tasks of a closed loop keep this frame, which shall not keep all the rest.
    known = ref(calls)
    del calls, loop
    try:
        return await future
    finally:
        calls_left = known()
        if calls_left is not None:
            calls_left.end(call)
        del call, future, calls_left


def _calls_of(loop: AbstractEventLoop) -> _Calls:
    with _lock:
        known = _loops.get(loop)
        calls = None if known is None else known()
    if calls is None:
        calls = _Calls(loop, Mailbox())  # by the thread that runs the loop, so never twice
        with _lock:
            _loops[loop] = ref(calls)
    return calls


class _Calls:
    """The calls of one loop that are under way."""

    def __init__(self, loop: AbstractEventLoop, mailbox: Mailbox) -> None:
        self.loop = loop
        self.mailbox = mailbox
        self.pending: dict[Union[AsyncCall, ChannelWait], Future[Any]] = {}
        self.is_woken = isinstance(loop, ErlangEventLoop)
        self.nap_ends = _NEVER
        loop.add_reader(mailbox.fileno(), self.take)

    def __del__(self) -> None:
        for call in self.pending:
            call.cancel()
        self.mailbox.close()

    def add(self, call: Union[AsyncCall, ChannelWait]) -> Future[Any]:
        """The future of a call, or of a wait for a channel, that has been started."""
        future = self.pending[call] = self.loop.create_future()
        # One that is long over was cut off, by what ended the request that it was for.
        if not self.is_woken and self.loop.time() > self.nap_ends + _NAP and _is_in_request():
            self._sleep()
        return future

    def _sleep(self) -> None:
        self.nap_ends = self.loop.time() + _NAP
        self.loop.call_at(self.nap_ends, self._look_up, self.nap_ends)

    def _look_up(self, nap_ends: float) -> None:
        if nap_ends != self.nap_ends:
            return  # that was taken for cut off, and there is another one
        if self.pending:
            self._sleep()
        else:
            self.nap_ends = _NEVER

    def end(self, call: Union[AsyncCall, ChannelWait]) -> None:
        """Cancels the call if it has not ended: its task was cancelled."""
        if self.pending.pop(call, None) is not None:
            call.cancel()

    def take(self) -> None:
        """Ends the futures of the calls that have ended."""
        for call, is_ok, value in self.mailbox.drain():
            future = self.pending.pop(call, None)
            if future is None or future.done():
                continue  # its task was cancelled meanwhile
            if is_ok:
                future.set_result(value)
            else:
                future.set_exception(value)


def _is_in_request() -> bool:
    try:
        caller()
    except RuntimeError:  # a thread that Python started
        return False
    return True
