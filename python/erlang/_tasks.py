# SPDX-License-Identifier: Apache-2.0
"""Coroutines that Erlang runs for itself, as tasks of an event loop."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable
from typing import Any


async def collect(iterable: AsyncIterable[Any]) -> list[Any]:
    """All that it yields.  A generator is closed, however that ends."""
    items: list[Any] = []
    try:
        async for item in iterable:
            items.append(item)
    finally:
        if isinstance(iterable, AsyncGenerator):
            await iterable.aclose()
    return items
