# SPDX-License-Identifier: Apache-2.0
"""The ASGI application of http_server: with Starlette, or plain where that is not installed."""

import erlang

try:
    import starlette
except ImportError:
    starlette = None


async def numbers():
    for number in range(1, 1001):
        yield b"%d\n" % number


async def summary(parts):
    """What came in an upload, of which no more than a part is ever kept."""
    size, first = 0, b""
    async for part in parts:
        size, first = size + len(part), first or part[:1]
    return f"{size} bytes, the first is {first.decode()}"


if starlette is not None:
    from contextlib import asynccontextmanager

    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse, StreamingResponse
    from starlette.routing import Route

    async def framework(request):
        return PlainTextResponse(f"Starlette {starlette.__version__}")

    async def hello(request):
        count = int(request.query_params.get("n", 1))
        return PlainTextResponse(f"Hello, {request.path_params['name']}! " * count)

    async def price(request):
        item = request.path_params["item"]
        return PlainTextResponse(f"{item} costs {await erlang.async_call('price', item)}")

    async def upload(request):
        return PlainTextResponse(await summary(request.stream()))

    async def all_numbers(request):
        return StreamingResponse(numbers())

    @asynccontextmanager
    async def lifespan(app):
        yield

    app = Starlette(lifespan=lifespan, routes=[
        Route("/framework", framework), Route("/hello/{name}", hello), Route("/price/{item}", price),
        Route("/upload", upload, methods=["POST"]), Route("/numbers", all_numbers)])

else:
    from urllib.parse import parse_qs

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            for _ in range(2):
                message = await receive()
                await send({"type": message["type"] + ".complete"})
            return
        _, kind, *rest = scope["path"].split("/")
        if kind == "framework":
            await answer(send, "nothing but ASGI")
        elif kind == "hello":
            count = int(parse_qs(scope["query_string"].decode()).get("n", ["1"])[0])
            await answer(send, f"Hello, {rest[0]}! " * count)
        elif kind == "price":
            await answer(send, f"{rest[0]} costs {await erlang.async_call('price', rest[0])}")
        elif kind == "upload":
            await answer(send, await summary(parts_of(receive)))
        elif kind == "numbers":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            async for part in numbers():
                await send({"type": "http.response.body", "body": part, "more_body": True})
            await send({"type": "http.response.body"})
        else:
            await answer(send, "not found", 404)

    async def answer(send, text, status=200):
        body = text.encode()
        await send({"type": "http.response.start", "status": status,
                    "headers": [(b"content-type", b"text/plain; charset=utf-8"),
                                (b"content-length", str(len(body)).encode())]})
        await send({"type": "http.response.body", "body": body})

    async def parts_of(receive):
        is_more = True
        while is_more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise OSError("the client has gone")
            yield message["body"]
            is_more = message["more_body"]
