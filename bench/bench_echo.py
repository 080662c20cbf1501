# SPDX-License-Identifier: Apache-2.0
"""The server of bench/run --echo: the same code under every loop.

Alone: `bench_echo.py asyncio` or `bench_echo.py uvloop` prints its port, and ends with its input.
In the node: `in_request` and `on_hosted_loop` send it to the process that is given.
"""

import asyncio
import sys
from typing import Any, Callable


class Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


async def serve(tell: Callable[[int], object]) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Echo, "127.0.0.1", 0)
    tell(server.sockets[0].getsockname()[1])
    try:
        await loop.create_future()  # until it is cancelled
    finally:
        server.close()


def in_request(to: Any) -> None:
    import erlang

    erlang.run(serve(lambda port: erlang.send(to, (erlang.atom("port"), port))))


async def on_hosted_loop(to: Any) -> None:
    import erlang

    await serve(lambda port: erlang.send(to, (erlang.atom("port"), port)))


async def alone() -> None:
    server = asyncio.ensure_future(serve(lambda port: print(port, flush=True)))
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin, ended.set)
    await ended.wait()
    server.cancel()
    await asyncio.wait([server])


def main(name: str) -> None:
    if name == "uvloop":
        import uvloop

        loop = uvloop.new_event_loop()
    else:
        loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    loop.run_until_complete(alone())
    loop.close()


if __name__ == "__main__":
    main(sys.argv[1])
