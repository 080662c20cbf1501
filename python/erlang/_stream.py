# SPDX-License-Identifier: Apache-2.0
"""What a call's value yields, in batches: see py_stream.erl.

A step runs as a request like any other, on whichever executor is free, and a stream may be
closed from another thread while a step runs.  So one lock says who is at the iterator, and
who comes second leaves word: a step closes the stream on its way out if that was asked for.

An asynchronous iterator has an event loop of its own, which runs during steps only.  One
task asks it for all items, and waits between two steps, so that what such a generator does
around its items (timeouts, task groups, context variables) belongs together.  The exception
that ends a request reaches Python code only when that runs, so the loop never sleeps long.
"""

from __future__ import annotations

from _thread import allocate_lock
from collections.abc import AsyncGenerator, AsyncIterable, Generator, Iterable
from itertools import islice
from time import monotonic

from _erlang import Cancelled

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future, Task
    from typing import Any, AsyncIterator, Iterator, Optional, Union


_NAP = 0.1  # seconds


class Stream:
    """The items of an iterable, synchronous or not, and its end."""

    _is_closed = True  # until there is something to close

    def __init__(self, iterable: Union[Iterable, AsyncIterable]) -> None:
        self._lock = allocate_lock()  # held by who is at the source
        self._is_closing = False
        self._error: Optional[BaseException] = None  # of the last step, which had items as well
        self._last: list[Any] = []
        if isinstance(iterable, AsyncIterable) and not isinstance(iterable, Iterable):
            self._source: Union[_Steps, _Loop] = _Loop(iterable.__aiter__())
        else:
            self._source = _Steps(iter(iterable))
        self._is_closed = False

    def next(self, max_items: int, max_ms: Optional[int]) -> tuple[bool, list[Any]]:
        """At most so many items; True: there are no more.

        With `max_ms` there may be fewer, so that none waits for much longer than that for
        those after it.  An exception is raised when the items before it have been returned.
        """
        if not self._lock.acquire(False):
            raise RuntimeError("a step of this stream is under way")
        try:
            return self._step(max_items, max_ms)
        finally:
            self._lock.release()
            if self._is_closing:
                self.close()

    def again(self, count: int) -> list[Any]:
        """The first items of the last batch, for when a later one of it did not convert."""
        return self._last[:count]

    def close(self) -> None:
        """Ends the stream; its generator is closed now, or by the step that is under way."""
        self._is_closing = True
        self._source.interrupt()
        # Not held: by then the step has not looked at the flag, or has let go already.
        if self._lock.acquire(False):
            try:
                self._end()
            finally:
                self._lock.release()

    def __del__(self) -> None:
        if not self._is_closed:
            self.close()

    def _step(self, max_items: int, max_ms: Optional[int]) -> tuple[bool, list[Any]]:
        items = self._last = []
        error, self._error = self._error, None
        if error is not None:
            try:
                raise error
            finally:
                del error  # it has this frame in its traceback
        if self._is_closed:
            return True, items
        try:
            is_done = self._source.take(items, max_items, max_ms)
        except BaseException as raised:
            self._end()
            if not items or isinstance(raised, Cancelled):
                raise
            self._error = raised
            return False, items
        if is_done:
            self._end()
        return is_done, items

    def _end(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            self._source.close()


class _Steps:
    """A synchronous iterator."""

    def __init__(self, iterator: Iterator[Any]) -> None:
        self.iterator = iterator
        self.ahead = 1  # how many items it makes in the time of a step, to judge by the last one

    def take(self, items: list[Any], max_items: int, max_ms: Optional[int]) -> bool:
        """Adds to the items; True: there are no more."""
        if max_ms is None:
            items.extend(islice(self.iterator, max_items))  # what there is stays if it raises
            return len(items) < max_items
        started, limit, may_take = monotonic(), min(max_items, self.ahead), max_ms / 1000
        for item in islice(self.iterator, limit):
            items.append(item)
            if monotonic() - started >= may_take:
                break
        else:
            if len(items) < limit:
                return True
        took = max(monotonic() - started, 1e-6)
        self.ahead = max(1, min(4 * limit, int(len(items) * may_take / took)))
        return False

    def interrupt(self) -> None:
        """Nothing ends it but the exception that a cancelled request gets."""

    def close(self) -> None:
        """Closes the generator, if it is one.

        Other iterators have nothing to close, or what they have belongs to somebody else, as
        a file does; but a generator below one of them ends when it is dropped.
        """
        iterator, self.iterator = self.iterator, iter(())
        if isinstance(iterator, Generator):
            iterator.close()


class _Loop:
    """An asynchronous iterator, on a loop of its own."""

    def __init__(self, iterator: AsyncIterator[Any]) -> None:
        import asyncio

        self.iterator = iterator
        self.loop = asyncio.new_event_loop()
        self.loop.set_exception_handler(self._failed)
        self.cancelled: Optional[Cancelled] = None
        self.items: list[Any] = []
        self.wanted = 0
        self.turn: Optional[Future[None]] = None  # done when the step is to end
        self.gate: Optional[Future[None]] = None  # for which the task waits between two steps
        self.task: Optional[Task[None]] = None
        self.is_closing = False

    def take(self, items: list[Any], max_items: int, max_ms: Optional[int]) -> bool:
        """Adds to the items; True: there are no more."""
        self.items, self.wanted = items, max_items
        self.turn = self.loop.create_future()
        if self.task is None:
            self.task = self.loop.create_task(self._take_all())
            self.task.add_done_callback(self._end_turn)
        elif self.gate is not None:
            self.gate.set_result(None)
            self.gate = None
        timer = None if max_ms is None else self.loop.call_later(max_ms / 1000, self._hurry)
        self._nap()
        try:
            self.loop.run_until_complete(self.turn)
        finally:
            if timer is not None:
                timer.cancel()
            self.nap.cancel()
        if self.cancelled is not None:
            raise self.cancelled
        if not self.task.done():
            return False
        self.task.result()
        return True

    def _nap(self) -> None:
        self.nap = self.loop.call_later(_NAP, self._nap)

    def _failed(self, loop: AbstractEventLoop, context: dict[str, Any]) -> None:
        """Of a callback: asyncio goes on, which is not for what ends the request."""
        error = context.get("exception")
        if isinstance(error, Cancelled):
            self.cancelled = error
            self._end_turn()
        else:
            loop.default_exception_handler(context)

    async def _take_all(self) -> None:
        try:
            while not self.is_closing:
                try:
                    item = await self.iterator.__anext__()
                except StopAsyncIteration:
                    return
                self.items.append(item)
                if len(self.items) >= self.wanted:
                    self._end_turn()
                    self.gate = self.loop.create_future()
                    await self.gate
        finally:
            if isinstance(self.iterator, AsyncGenerator):
                await self.iterator.aclose()

    def _end_turn(self, _task: Optional[Task[None]] = None) -> None:
        if not self.turn.done():
            self.turn.set_result(None)

    def _hurry(self) -> None:
        if self.items:
            self._end_turn()
        else:
            self.wanted = 1

    def interrupt(self) -> None:
        """Ends what the loop waits for; from any thread."""
        try:
            self.loop.call_soon_threadsafe(self._cancel)
        except RuntimeError:
            pass  # the loop is closed: that is all that this is for

    def _cancel(self) -> None:
        self.is_closing = True
        if self.task is not None:
            self.task.cancel()

    def close(self) -> None:
        """Ends all tasks, the one that asks for the items included, and the loop."""
        try:
            self.loop.run_until_complete(self._finish())
        finally:
            self.loop.close()

    async def _finish(self) -> None:
        import asyncio

        self._cancel()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.loop.shutdown_asyncgens()
        await self.loop.shutdown_default_executor()
        if self.task in tasks and not self.task.cancelled():
            self.task.result()  # what the generator raised instead of ending
