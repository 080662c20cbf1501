# SPDX-License-Identifier: Apache-2.0
"""The Python side of bench/run --channels: receivers, senders and echoes."""

import asyncio
from typing import Any

from erlang.channel import ByteChannel, Channel, PyBuffer, reply


def drain(ref: Any) -> int:
    n = 0
    for _ in Channel(ref):
        n += 1
    return n


async def _drain(ref: Any) -> int:
    n = 0
    async for _ in Channel(ref):
        n += 1
    return n


def drain_task(ref: Any) -> int:
    return asyncio.run(_drain(ref))


def drain_bytes(ref: Any) -> int:
    n = 0
    for _ in ByteChannel(ref):
        n += 1
    return n


def send_bytes(ref: Any, n: int) -> None:
    send, data = ByteChannel(ref).send_bytes, b"16 bytes of data"
    for _ in range(n):
        send(data)


def replies(pid: Any, n: int) -> None:
    for i in range(n):
        reply(pid, i)


def echo(ref: Any, pid: Any) -> None:
    for item in Channel(ref):
        reply(pid, item)


async def _echo(ref: Any, pid: Any) -> None:
    async for item in Channel(ref):
        reply(pid, item)


def echo_task(ref: Any, pid: Any) -> None:
    asyncio.run(_echo(ref, pid))


def echo_bytes(ref: Any) -> None:
    channel = ByteChannel(ref)
    for data in channel:
        channel.send_bytes(data)


def read(ref: Any) -> int:
    size = 0
    with PyBuffer(ref) as file:
        while True:
            data = file.read1(65536)
            if not data:
                return size
            size += len(data)
