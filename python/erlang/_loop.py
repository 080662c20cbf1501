# SPDX-License-Identifier: Apache-2.0
"""asyncio's event loop inside the Erlang VM.

It is the stock loop, with all that this can do, but for what an emulator takes away:

* Code that serves a request has to end when Erlang cancels that, also while the loop sleeps.
  So a loop that is run in a request watches a descriptor of the executor's, and looks after
  each turn whether the request was cancelled.  The exception that interrupts other code does
  not do, as it comes only when code runs, and a task that catches it ends alone.
* Signals are the emulator's, and so are the handlers.
* Children are started by an Erlang port: see `_subprocess`.

It runs on any thread: in a request, in a thread that Python started, in any interpreter.
"""

from __future__ import annotations

import asyncio
import select
import sys
import threading
import time
from asyncio import SelectorEventLoop, coroutines, events
from contextvars import copy_context
from inspect import iscoroutinefunction
from math import isnan

from _erlang import Cancelled, check_cancelled, set_quiet, wakeup_fd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from selectors import BaseSelector
    from typing import Any, NoReturn, Optional, TypeVar

    T = TypeVar("T")

# How long tasks may take for their cleanup when the request that runs the loop was cancelled.
GRACE = 5.0  # seconds

# The longest wait that poll() takes is 2**31 milliseconds.
_LONGEST_POLL = 86400.0  # seconds

# What spawn_task() started: a loop itself keeps no task alive.
_tasks: set[asyncio.Task[Any]] = set()


class ErlangEventLoop(SelectorEventLoop):
    """asyncio's selector event loop, at home in the Erlang VM.

    A loop that is run in a request ends with it: when Erlang cancels the request,
    `run_forever()` and what calls it raise `erlang.Cancelled` at once.  What is run on the loop
    after that in the same request, as `asyncio.run()` does with the tasks that it cancels, has
    5 seconds in all.
    """

    def __init__(self, selector: Optional[BaseSelector] = None) -> None:
        # A finalizer may come here in the middle of itself, so the lock is a recursive one.
        self._wake_lock = threading.RLock()
        self._is_woken = False  # a byte is in the self-pipe, or will be read in this turn
        self._wakeup_fd: Optional[int] = None  # while it is watched
        self._is_in_request = False
        self._grace_ends: Optional[float] = None  # by time(): set when the request was cancelled
        super().__init__(selector)

    # ---- requests that are cancelled

    def run_forever(self) -> None:
        """Runs until stop() is called; raises Cancelled when the request that runs it is cancelled."""
        fd = wakeup_fd()
        if fd is None:
            super().run_forever()
            return
        self._check_closed()
        self._check_running()
        self._forget_wakeup()  # in case that an exception cut off what is at the end of this
        alarm = None
        self._is_in_request = True
        was_quiet = set_quiet(True)  # no exception but ours
        try:
            if self._is_in_grace():
                alarm = self.call_at(self._grace_ends, _nothing)
            else:
                self._wakeup_fd = fd
                self._add_reader(fd, _nothing)
            super().run_forever()
        except Cancelled:
            self._begin_grace()
            raise
        finally:
            set_quiet(was_quiet)
            self._is_in_request = False
            if alarm is not None:
                alarm.cancel()
            self._forget_wakeup()
        if alarm is None:
            check_cancelled()  # it may have come after the last turn, and then nobody else tells

    def _is_in_grace(self) -> bool:
        """Was the request cancelled before?  Then that was noticed, and this run is for the cleanup."""
        try:
            check_cancelled()
        except Cancelled:
            self._begin_grace()
            return True
        self._grace_ends = None
        return False

    def _begin_grace(self) -> None:
        if self._grace_ends is None:
            self._grace_ends = self.time() + GRACE

    def _forget_wakeup(self) -> None:
        if self._wakeup_fd is not None:
            self._remove_reader(self._wakeup_fd)
            self._wakeup_fd = None

    def _run_once(self) -> None:
        super()._run_once()
        if self._is_in_request and (self._grace_ends is None or self.time() >= self._grace_ends):
            check_cancelled()

    async def shutdown_default_executor(self, *args: Any, **kwargs: Any) -> None:
        """Shuts the default executor down, and waits for its threads.

        In a request that was cancelled it does not wait: a thread cannot be ended.
        """
        if self._grace_ends is None:
            await super().shutdown_default_executor(*args, **kwargs)
            return
        self._executor_shutdown_called = True
        if self._default_executor is not None:
            self._default_executor.shutdown(wait=False)

    # ---- wakeups

    def _read_from_self(self) -> None:
        # What was scheduled by who found it woken runs in the next turn, which does not sleep.
        with self._wake_lock:
            super()._read_from_self()
            self._is_woken = False

    def _write_to_self(self) -> None:
        with self._wake_lock:
            if not self._is_woken:
                super()._write_to_self()
                self._is_woken = True

    # ---- signals

    def add_signal_handler(self, sig: int, callback: Callable[..., object], *args: Any) -> NoReturn:
        """Refused with NotImplementedError: signals are handled in Erlang."""
        if coroutines.iscoroutine(callback) or iscoroutinefunction(callback):
            raise TypeError("coroutines cannot be used with add_signal_handler()")
        self._check_signal(sig)
        self._check_closed()
        raise NotImplementedError(
            f"signal {sig} cannot be handled by an event loop inside the Erlang VM, which handles signals "
            "itself: use os:set_signal/2 and a handler of the event manager erl_signal_server in Erlang")

    def remove_signal_handler(self, sig: int) -> bool:
        """False: there is no handler, as add_signal_handler() refuses."""
        self._check_signal(sig)
        return False

    # ---- children

    async def _make_subprocess_transport(self, protocol: asyncio.SubprocessProtocol, args: Any, shell: bool,
                                         stdin: Any, stdout: Any, stderr: Any, bufsize: int, extra: Any = None,
                                         **kwargs: Any) -> asyncio.SubprocessTransport:
        from . import _subprocess  # which imports much

        return await _subprocess.start(self, protocol, args, shell, stdin, stdout, stderr, bufsize, extra, **kwargs)


def _nothing() -> None:
    """What is watched only to end a sleep."""


def new_event_loop() -> ErlangEventLoop:
    """A new event loop, for any thread; what asyncio.Runner takes as its loop_factory."""
    return ErlangEventLoop()


# ---- running

def run(main: Coroutine[Any, Any, T], *, debug: Optional[bool] = None) -> T:
    """Runs a coroutine on a new loop of this package and returns its result, as asyncio.run() does.

    In a request that is cancelled it raises Cancelled at once, after the tasks' cleanup.
    """
    if events._get_running_loop() is not None:
        raise RuntimeError("erlang.run() cannot be called from a running event loop")
    if sys.version_info >= (3, 11):
        with asyncio.Runner(debug=debug, loop_factory=new_event_loop) as runner:
            return runner.run(main)
    return _run(main, debug)


def _run(main: Coroutine[Any, Any, T], debug: Optional[bool]) -> T:
    """What Runner does, for Python 3.9 and 3.10."""
    if not coroutines.iscoroutine(main):
        raise ValueError(f"a coroutine was expected, got {main!r}")
    loop = new_event_loop()
    try:
        if debug is not None:
            loop.set_debug(debug)
        return loop.run_until_complete(main)
    finally:
        try:
            _cancel_all(loop)
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.run_until_complete(loop.shutdown_default_executor())
        finally:
            loop.close()


def _cancel_all(loop: ErlangEventLoop) -> None:
    left = asyncio.all_tasks(loop)
    if not left:
        return
    for task in left:
        task.cancel()
    # gather() takes the loop from the tasks.
    loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
    for task in left:
        if not task.cancelled() and task.exception() is not None:
            loop.call_exception_handler({"message": "unhandled exception during erlang.run() shutdown",
                                         "exception": task.exception(), "task": task})


# ---- what works with a running loop and without

def sleep(delay: float, result: Optional[T] = None) -> Any:
    """Sleeps for so many seconds.

    While an event loop runs on this thread it is asyncio.sleep(), to be awaited.  Elsewhere it
    blocks the thread, but ends at once with Cancelled when the request is cancelled.
    """
    if isnan(delay):
        raise ValueError("the delay is not a number")
    if events._get_running_loop() is not None:
        return asyncio.sleep(delay, result)
    _block(delay)
    return result


def _block(delay: float) -> None:
    fd = wakeup_fd()
    if fd is None:  # a thread that Python started
        time.sleep(max(0.0, delay))
        return
    end = time.monotonic() + delay
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    while True:
        check_cancelled()
        left = end - time.monotonic()
        if left < 0.001:
            break
        poller.poll(int(min(left, _LONGEST_POLL) * 1000))
    time.sleep(max(0.0, left))  # poll() knows whole milliseconds only


def spawn_task(coro: Coroutine[Any, Any, Any], *, name: Optional[str] = None) -> Optional[asyncio.Task[Any]]:
    """Starts a task that nobody has to wait for; an exception that nobody fetches is logged.

    It runs on the loop that runs on this thread, and is returned.  Elsewhere it runs on the first
    loop that Erlang drives in this interpreter, and None is returned.  RuntimeError if there is
    none, as in an interpreter of a context's own.
    """
    if not coroutines.iscoroutine(coro):
        raise TypeError(f"spawn_task() takes a coroutine, not {coro!r}")
    running = events._get_running_loop()
    if running is not None:
        return _spawn(running, coro, name)

    from _erlang import spawn

    if not spawn((coro, name, copy_context())):
        coro.close()
        raise RuntimeError("spawn_task() was called where no event loop runs, and Erlang drives none in this "
                           "interpreter")
    return None


def _spawn(loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, Any], name: Optional[str]) -> asyncio.Task[Any]:
    task = loop.create_task(coro, name=name)
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)
    return task
