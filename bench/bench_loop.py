# SPDX-License-Identifier: Apache-2.0
"""The Python side of bench/run --loop: coroutines, each of which measures itself if need be."""

import asyncio
import time
from typing import List


async def now() -> float:
    return 4.0


async def late(seconds: float) -> float:
    """By how many milliseconds it wakes up too late."""
    begin = time.perf_counter()
    await asyncio.sleep(seconds)
    return (time.perf_counter() - begin - seconds) * 1e3


def late_alone(n: int, seconds: float) -> List[float]:
    """The same for so many at once, without Erlang."""

    async def all_of_them() -> List[float]:
        return list(await asyncio.gather(*[late(seconds) for _ in range(n)]))

    return asyncio.run(all_of_them())
