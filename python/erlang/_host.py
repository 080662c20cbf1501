# SPDX-License-Identifier: Apache-2.0
"""An event loop that no thread runs: Erlang has it do a turn whenever there is something to do.

A turn runs callbacks until the loop would wait.  What wakes it then is a descriptor of its
selector, a timer, which is such a descriptor too, a task from Erlang or call_soon_threadsafe().

While the host is *armed*, a descriptor that becomes ready makes a turn, so that a turn which
came for another reason need not look at the selector.  Otherwise it does, whenever the loop
asks: a loop that is busy has the same system calls as one that a thread runs.
"""

from __future__ import annotations

import sys
from asyncio import CancelledError, SelectorEventLoop, Task, current_task, ensure_future, iscoroutine, sleep, wait
from asyncio.events import _set_running_loop
from inspect import isawaitable, isgenerator
from selectors import EpollSelector
from threading import get_ident

from . import _closing
from ._loop import ErlangEventLoop, _spawn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future
    from collections.abc import Coroutine
    from contextvars import Context
    from selectors import SelectorKey
    from typing import Any, NoReturn, Optional, Union

    from _erlang import LoopHost

_SLICE = 0.005  # seconds that a turn may take before those of other loops have theirs
_NEVER = 1e9  # seconds, as of time(): further off than anybody waits for
_CLOSE_TIMEOUT = 2.0  # seconds that tasks have to end when the loop is closed


class _Selector(EpollSelector):
    def __init__(self, host: LoopHost) -> None:
        super().__init__()
        self.host = host
        self.is_idle = False

    def select(self, timeout: Optional[float] = None) -> list[tuple[SelectorKey, int]]:
        """What is ready now; where nothing is and there is time to wait, that is noted instead."""
        ready = [] if self.host.armed else super().select(0)
        if not ready and (timeout is None or timeout > 0):
            self.is_idle = True  # a loop with a thread would wait here
        return ready


class HostedLoop(ErlangEventLoop):
    """Made and driven by c_src/epy_host.c."""

    cancelled_error = CancelledError

    # No request runs this loop but its turns.
    _run_once = SelectorEventLoop._run_once

    def __init__(self, host: LoopHost) -> None:
        self.host = host
        self.idle_selector = _Selector(host)
        self.closer: Optional[Task[None]] = None
        self.seen = _closing.Seen()
        super().__init__(self.idle_selector)
        host.attach(self.idle_selector.fileno())

    # What a loop with a thread does by a pair of sockets.

    def _make_self_pipe(self) -> None:
        pass

    def _close_self_pipe(self) -> None:
        pass

    def _write_to_self(self) -> None:
        self.host.wake()

    # What a loop with a thread is asked for.

    def run_forever(self) -> NoReturn:
        """Refused: Erlang runs it."""
        raise RuntimeError("this event loop is run by Erlang")

    def run_until_complete(self, future: Any) -> NoReturn:
        """Refused: Erlang runs it."""
        if iscoroutine(future):
            future.close()
        raise RuntimeError("this event loop is run by Erlang; await the task in one of its tasks")

    def stop(self) -> NoReturn:
        """Refused: Erlang runs it."""
        raise RuntimeError("this event loop is run by Erlang: see py_event_loop:stop/1")

    # Turns.

    def _turn(self) -> Union[None, bool, float]:
        """None: it is idle; until that time, as of time(); True: it is not; False: it is closed."""
        self._thread_id = get_ident()
        hooks = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(
            firstiter=self._asyncgen_firstiter_hook, finalizer=self._asyncgen_finalizer_hook
        )
        if self._debug:
            self._set_coroutine_origin_tracking(True)
        if self.host.closing and self.closer is None:
            others = _closing.tasks_of(self)
            self.closer = Task(self._cancel_all(others), loop=self)  # whatever its task factory does
        _set_running_loop(self)
        try:
            return self._run()
        finally:
            _set_running_loop(None)
            self.seen.turn_ended = _closing.looks
            if self._debug:
                self._set_coroutine_origin_tracking(False)
            sys.set_asyncgen_hooks(*hooks)

    def _run(self) -> Union[None, bool, float]:
        selector = self.idle_selector
        end = self.time() + _SLICE
        while True:
            more = self.host.take()
            if self._ready or more or not self.host.armed or self._is_due():
                selector.is_idle = False
                try:
                    self._run_once()
                except (SystemExit, KeyboardInterrupt):
                    pass  # of a task, which has it as its result
            else:
                selector.is_idle = True
            if self.closer is not None and self.closer.done():
                self._close()
                return False
            if selector.is_idle and not self._ready and not more:
                # A time may be an int, or infinite, or none at all, which min() takes for late.
                return min(_NEVER, float(self._scheduled[0]._when)) if self._scheduled else None
            if self.time() > end:
                return True

    def _current(self) -> Optional[Task[Any]]:
        """The task that runs just now; asked by another thread."""
        return current_task(self)

    def _is_due(self) -> bool:
        return bool(self._scheduled) and self._scheduled[0]._when <= self.time()

    def _begin(self, value: Any) -> Optional[Future[Any]]:
        """The task of what a function has returned; None: it cannot be awaited."""
        if _is_coroutine(value):
            return _start(self, value)
        return ensure_future(value, loop=self) if isawaitable(value) else None

    def _spawned(self, item: tuple[Coroutine[Any, Any, Any], Optional[str], Context]) -> None:
        """What spawn_task() gave; in its context."""
        coro, name, context = item
        self.call_soon(_spawn, self, coro, name, context=context)

    # The end.

    async def _cancel_all(self, tasks: set[Task[Any]]) -> None:
        for task in tasks:
            task.cancel()
        if tasks:
            _, pending = await wait(tasks, timeout=_CLOSE_TIMEOUT)
            for task in pending:
                self.call_exception_handler(
                    {"message": "a task did not end when its event loop was closed", "task": task}
                )
        await wait({Task(self.shutdown_asyncgens(), loop=self)}, timeout=_CLOSE_TIMEOUT / 2)
        # Else they would be open until the garbage collector came to their protocols.
        for transport in list(self._transports.values()):
            transport.abort()
        await sleep(0)  # connection_lost() of each

    def _close(self) -> None:
        self._thread_id = None
        self.close()


if sys.version_info >= (3, 12):

    def _start(loop: AbstractEventLoop, coroutine: Any) -> Task[Any]:
        # Its first step at once: most coroutines that do not wait need no more.
        task = Task.__new__(Task)
        try:
            task.__init__(coroutine, loop=loop, eager_start=True)  # type: ignore[misc]
        except (SystemExit, KeyboardInterrupt):
            pass  # which it has as its result
        return task

    _is_coroutine = iscoroutine

else:

    def _start(loop: AbstractEventLoop, coroutine: Any) -> Task[Any]:
        return loop.create_task(coroutine)

    def _is_coroutine(value: Any) -> bool:
        # A generator may be one as well here, if it was made to be: isawaitable() knows.
        return iscoroutine(value) and not isgenerator(value)
