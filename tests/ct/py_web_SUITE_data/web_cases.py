# SPDX-License-Identifier: Apache-2.0
"""The cases of py_web_SUITE: servers and clients on the loop that runs."""

import asyncio
import contextlib
import importlib
import os
import ssl

import erlang

os.environ["no_proxy"] = "*"  # some clients would ask one, also for this host

DONE = "done"
PART, PARTS = b"0123456789abcdef" * 1024, 64


def run(name, *args):
    """A case on a loop of its own, in a request."""
    found = globals()[name](*args)
    return erlang.run(found) if asyncio.iscoroutine(found) else found


def missing(names):
    """Why a case cannot run here, or None."""
    for name in names:
        try:
            importlib.import_module(name)
        except ImportError as error:
            return f"this interpreter cannot import {name}: {error}"
    return None


def server_context(certificate):
    if certificate is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)
    return context


def client_context(certificate):
    return ssl.create_default_context(cafile=certificate[0])


# ---- the application

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
    elif scope["type"] == "websocket":
        await echo_websocket(receive, send)
    else:
        await http(scope, receive, send)


async def lifespan(receive, send):
    for _ in range(2):
        message = await receive()
        await send({"type": message["type"] + ".complete"})


async def http(scope, receive, send):
    parts, is_more = [], True
    while is_more:
        message = await receive()
        parts.append(message["body"])
        is_more = message["more_body"]
    if scope["path"] == "/hello":
        body = [b"Hello, world"]
    elif scope["path"] == "/echo":
        body = parts
    else:
        body = [PART] * PARTS
    headers = [(b"content-length", str(sum(map(len, body))).encode())] if scope["path"] != "/stream" else []
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for part in body:
        await send({"type": "http.response.body", "body": part, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def echo_websocket(receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            return
        if message.get("text") is not None:
            await send({"type": "websocket.send", "text": message["text"]})
        else:
            await send({"type": "websocket.send", "bytes": message["bytes"]})


# ---- clients

async def ask_with_httpx(port, certificate, **options):
    import httpx

    if certificate is None:
        url = f"http://127.0.0.1:{port}"
    else:
        url = f"https://localhost:{port}"
        options["verify"] = client_context(certificate)
    large = PART * PARTS
    async with httpx.AsyncClient(timeout=120, trust_env=False, **options) as client:
        for _ in range(3):
            response = await client.get(url + "/hello")
            assert (response.status_code, response.text) == (200, "Hello, world")
        response = await client.post(url + "/echo", content=large)
        assert response.content == large

        async def parts():
            for _ in range(PARTS):
                yield PART
                await asyncio.sleep(0)

        response = await client.post(url + "/echo", content=parts())
        assert response.content == large
        async with client.stream("GET", url + "/stream") as response:
            count = 0
            async for data in response.aiter_raw():
                count += len(data)
        assert count == len(large)
        answers = await asyncio.gather(*(client.get(url + "/hello") for _ in range(20)))
        assert all(answer.text == "Hello, world" for answer in answers)
        return response.http_version


async def ask_websocket(port, certificate):
    import websockets

    large = PART * PARTS
    async with websockets.connect(f"wss://localhost:{port}/", ssl=client_context(certificate), max_size=None,
                                  open_timeout=120, ping_interval=None) as websocket:
        for message in "text", "", b"bytes", b"\xff", large, large.decode():
            await websocket.send(message)
            assert await websocket.recv() == message


# ---- uvicorn

@contextlib.asynccontextmanager
async def uvicorn_server(certificate=None, **options):
    import uvicorn

    if certificate is not None:
        options.update(ssl_certfile=certificate[0], ssl_keyfile=certificate[1])
    host = "127.0.0.1" if certificate is None else "localhost"
    server = uvicorn.Server(uvicorn.Config(app, host=host, port=0, log_config=None, log_level="error", lifespan="on",
                                           ws_max_size=2 ** 24, ws_ping_interval=None,
                                           timeout_keep_alive=600, **options))
    task = asyncio.ensure_future(server.serve())
    try:
        while not server.started:
            assert not task.done(), task
            await asyncio.sleep(0.01)
        yield port_of(server.servers)
    finally:
        server.should_exit = True
        await task


def port_of(servers):
    # Where localhost has two addresses, each has another port.
    sockets = [socket for server in servers for socket in server.sockets]
    return sockets[0].getsockname()[1]


async def uvicorn_http(certificate):
    async with uvicorn_server(certificate) as port:
        await ask_with_httpx(port, certificate)
    return DONE


async def uvicorn_websocket(certificate):
    async with uvicorn_server(certificate) as port:
        await ask_websocket(port, certificate)
    return DONE


async def uvicorn_keep_alive(count):
    async with uvicorn_server(backlog=4096) as port:
        streams = []
        for start in range(0, count, 100):  # no more at once than the kernel has room for
            streams += await asyncio.gather(*(asyncio.open_connection("127.0.0.1", port)
                                              for _ in range(start, min(start + 100, count))))
        try:
            for _ in range(2):
                await asyncio.gather(*(ask_raw(*stream) for stream in streams))
        finally:
            for _, writer in streams:
                writer.close()
    return DONE


async def ask_raw(reader, writer):
    writer.write(b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 "), head
    assert await reader.readexactly(12) == b"Hello, world"


async def uvicorn_until_cancelled(pid):
    try:
        async with uvicorn_server() as port:
            erlang.send(pid, (erlang.atom("port"), port))
            await asyncio.get_running_loop().create_future()
    finally:
        erlang.send(pid, erlang.atom("stopped"))


# ---- hypercorn

@contextlib.asynccontextmanager
async def hypercorn_server(certificate):
    import socket

    from hypercorn.asyncio import serve
    from hypercorn.config import Config

    listener = socket.create_server(("127.0.0.1", 0))
    config = Config()
    config.bind = [f"fd://{listener.fileno()}"]
    config.certfile, config.keyfile = certificate
    config.accesslog = config.errorlog = None
    config.websocket_max_message_size = 2 ** 24
    config.keep_alive_timeout = 600
    config.graceful_timeout = 0.1
    stop = asyncio.Event()
    task = asyncio.ensure_future(serve(app, config, shutdown_trigger=stop.wait))
    try:
        yield listener.getsockname()[1]
    finally:
        stop.set()
        await task
        listener.detach()  # hypercorn has closed it


async def hypercorn_http(certificate):
    async with hypercorn_server(certificate) as port:
        version = await ask_with_httpx(port, certificate, http2=True)
        assert version == "HTTP/2", version
        version = await ask_with_httpx(port, certificate)
        assert version == "HTTP/1.1", version
    return DONE


async def hypercorn_websocket(certificate):
    async with hypercorn_server(certificate) as port:
        await ask_websocket(port, certificate)
    return DONE


# ---- aiohttp

@contextlib.asynccontextmanager
async def aiohttp_server(certificate):
    from aiohttp import WSMsgType, web

    async def hello(request):
        return web.Response(text="Hello, world")

    async def echo(request):
        return web.Response(body=await request.read())

    async def stream(request):
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(PARTS):
            await response.write(PART)
        return response

    async def websocket(request):
        response = web.WebSocketResponse(max_msg_size=2 ** 24)
        await response.prepare(request)
        async for message in response:
            if message.type == WSMsgType.TEXT:
                await response.send_str(message.data)
            else:
                await response.send_bytes(message.data)
        return response

    application = web.Application(client_max_size=2 ** 24)
    application.add_routes([web.get("/hello", hello), web.post("/echo", echo), web.get("/stream", stream),
                            web.get("/websocket", websocket)])
    runner = web.AppRunner(application, handle_signals=False)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=server_context(certificate))
    await site.start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def aiohttp_session(certificate):
    import aiohttp

    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=client_context(certificate)),
                                 timeout=aiohttp.ClientTimeout(total=240))


async def aiohttp_http(certificate):
    large = PART * PARTS
    async with aiohttp_server(certificate) as port, aiohttp_session(certificate) as session:
        url = f"https://localhost:{port}"
        for _ in range(3):
            async with session.get(url + "/hello") as response:
                assert await response.text() == "Hello, world"
        async with session.post(url + "/echo", data=large) as response:
            assert await response.read() == large
        async with session.get(url + "/stream") as response:
            count = 0
            async for data in response.content.iter_any():
                count += len(data)
        assert count == len(large)
    return DONE


async def aiohttp_websocket(certificate):
    large = PART * PARTS
    async with aiohttp_server(certificate) as port, aiohttp_session(certificate) as session:
        async with session.ws_connect(f"https://localhost:{port}/websocket", max_msg_size=2 ** 24) as websocket:
            for message in b"bytes", b"\xff", large:
                await websocket.send_bytes(message)
                assert await websocket.receive_bytes() == message
            await websocket.send_str("text")
            assert await websocket.receive_str() == "text"
    return DONE


# ---- websockets

async def websockets_both(certificate):
    import websockets

    async def echo(websocket, path=None):
        async for message in websocket:
            await websocket.send(message)

    async with websockets.serve(echo, "127.0.0.1", 0, ssl=server_context(certificate), max_size=None,
                                ping_interval=None) as server:
        await ask_websocket(server.sockets[0].getsockname()[1], certificate)
    return DONE
