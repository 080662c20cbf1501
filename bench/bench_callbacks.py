# SPDX-License-Identifier: Apache-2.0
"""The Python side of bench/run --callbacks: what Python code pays when it turns to Erlang.

Each function does something `n` times and returns the microseconds of one, by Python's
own clock, the loop included.  Erlang has registered `bench_add` by then, which adds one.
"""

import asyncio
import logging
import threading
import time
from typing import Any, Awaitable, Callable, List

import erlang


def each(n: int, work: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    work()
    return (time.perf_counter() - begin) / n * 1e6


def call(n: int) -> float:
    def work() -> None:
        x = 0
        while x < n:
            x = erlang.call("bench_add", x)

    return each(n, work)


def attribute(n: int) -> float:
    add = erlang.bench_add

    def work() -> None:
        x = 0
        while x < n:
            x = add(x)

    return each(n, work)


def sort(n: int, key: Callable[[Any], Any]) -> float:
    """A fun of Erlang's as the key of sorted()."""
    items = list(range(n))
    return each(n, lambda: sorted(items, key=key))


def thread(n: int) -> float:
    """The same as call(), on a thread that Python started."""
    found: List[float] = []
    worker = threading.Thread(target=lambda: found.append(call(n)))
    worker.start()
    worker.join()
    return found[0]


def tasks(n: int, at_once: int) -> float:
    """async_call of one event loop, so many of them at once."""

    async def some(count: int) -> None:
        x = 0
        while x < count:
            x = await erlang.async_call("bench_add", x)

    async def work() -> float:
        begin = time.perf_counter()
        all_of_them: List[Awaitable[None]] = [some(n // at_once) for _ in range(at_once)]
        await asyncio.gather(*all_of_them)
        return (time.perf_counter() - begin) / n * 1e6

    return asyncio.run(work())


def send(n: int, to: Any) -> float:
    def work() -> None:
        for i in range(n):
            erlang.send(to, i)

    return each(n, work)


def incr(n: int) -> float:
    def work() -> None:
        for _ in range(n):
            erlang.state_incr("bench_counter")

    return each(n, work)


def get(n: int) -> float:
    erlang.state_set("bench_value", "a small value")

    def work() -> None:
        for _ in range(n):
            erlang.state_get("bench_value")

    return each(n, work)


def put(n: int) -> float:
    def work() -> None:
        for i in range(n):
            erlang.state_set("bench_value", i)

    return each(n, work)


def log(n: int) -> float:
    """Messages that Python's level lets through; a handler of Erlang's drops them."""
    logger = logging.getLogger("bench")

    def work() -> None:
        for i in range(n):
            logger.info("message %d", i)

    return each(n, work)


def span(n: int) -> float:
    def work() -> None:
        for _ in range(n):
            with erlang.Span("bench"):
                pass

    return each(n, work)
