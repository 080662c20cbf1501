# SPDX-License-Identifier: Apache-2.0
"""The server's side of ASGI 3: see py_asgi.erl.

Each exchange with an application is two tasks on an event loop: the one that Erlang waits
for, and the application's.  So a cancelled request does not cut the application off: it is
told that the client has gone, has a moment to end by itself, and is cancelled then.  And what
it does after its response, it does while the client has that already.

What comes from Erlang in parts is pulled: one call of a fun at a time, which goes on when the
application's task that waits for it is cancelled, so that nothing gets lost.
"""

from __future__ import annotations

import asyncio
from asyncio import CancelledError, get_running_loop
from collections import deque
from weakref import WeakKeyDictionary

from _erlang import Atom, Error, Fun, send

from ._async import async_call
from ._web import DATA, EVENT, START, check_header, end_body, find, part

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future, Task
    from collections.abc import Awaitable, Callable, Iterable
    from typing import Any, NoReturn, Optional, Protocol, Union

    from _erlang import Pid

    Headers = list[tuple[bytes, bytes]]
    Scope = dict[str, Any]
    Message = dict[str, Any]
    Application = Callable[[Scope, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]],
                           Awaitable[None]]

    class Outlet(Protocol):
        """Where a response goes."""

        def start(self, status: int, headers: Headers) -> None:
            """The head."""

        async def spend(self, unless: Future[None]) -> None:
            """Waits until a part of the body may go, or that future is done."""

        def data(self, chunk: bytes) -> None:
            """Part of the body."""

        def close(self) -> None:
            """Nobody waits for it any more."""


GRACE = 5.0  # seconds for an application to end after it was told that the client has gone

_VERSION = {"version": "3.0", "spec_version": "2.4"}
_ACCEPT, _TEXT, _BINARY, _CLOSE = Atom("accept"), Atom("text"), Atom("binary"), Atom("close")
_STARTED, _STOPPED = Atom("started"), Atom("stopped")

# What lifespans left for the requests, by the application.
_states: WeakKeyDictionary[AbstractEventLoop, dict[Any, dict[str, Any]]] = WeakKeyDictionary()
_background: set[Task[None]] = set()  # a loop itself keeps no task alive


# ---- requests

async def run(module: Optional[str], name: Any, scope: Scope, body: Any) -> tuple[int, Headers, bytes]:
    """All of the response."""
    outlet = _Whole()
    await _respond(module, name, scope, body, outlet)
    return outlet.status, outlet.headers, b"".join(outlet.chunks)


async def stream(module: Optional[str], name: Any, scope: Scope, body: Any,
                 pid: Pid, more: Fun, credit: Optional[int]) -> None:
    """The response as messages to a process: see py_web_stream.erl."""
    await _respond(module, name, scope, body, _Messages(pid, more, credit))


async def websocket(module: Optional[str], name: Any, scope: Scope,
                    pid: Pid, more: Fun, credit: Optional[int], next: Fun, closed: Fun) -> None:
    """A websocket, whose messages go to that process and come from it."""
    application = find(module, name)
    outlet = _Messages(pid, more, credit)
    exchange = _WebSocket(outlet, _Pull(lambda: async_call(next)))
    # Apart from the messages: an application that only sends takes none of them.
    watch = asyncio.ensure_future(exchange.watch(closed))
    try:
        await _attend(application, _complete(scope, module, name), exchange)
    except Disconnected:
        if not exchange.has_hung_up:
            raise
        # An application may end by what its send() raises when the client has closed.
    finally:
        watch.cancel()
        outlet.close()


async def _respond(module: Optional[str], name: Any, scope: Scope, body: Any, outlet: Outlet) -> None:
    application = find(module, name)
    exchange = _Http(outlet, body)
    try:
        await _attend(application, _complete(scope, module, name), exchange)
    finally:
        outlet.close()


async def _attend(application: Application, scope: Scope, exchange: _Exchange) -> None:
    """Runs the application until the exchange is over; it may go on after that."""
    loop = get_running_loop()
    over = exchange.over = loop.create_future()
    task: Task[None] = loop.create_task(_run(application, scope, exchange))
    task.add_done_callback(exchange.end)
    try:
        await over
    except CancelledError:
        exchange.disconnect()
        await _leave(task)
        raise
    finally:
        if not task.done():
            _background.add(task)
            task.add_done_callback(_ended)
    if not task.done():
        return
    if exchange.is_complete:
        _ended(task)
    else:
        task.result()
        exchange.check()


async def _run(application: Application, scope: Scope, exchange: _Exchange) -> None:
    """As a coroutine of ours: applications may return other awaitables."""
    try:
        await application(scope, exchange.receive, exchange.send)
    finally:
        exchange.close()


async def _leave(task: Task[None]) -> None:
    """Ends an application that was told to end."""
    try:
        await asyncio.wait([task], timeout=GRACE)
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait([task])
    _ended(task)


def _ended(task: Task[None]) -> None:
    """Of an application whose result nobody waits for."""
    _background.discard(task)
    if task.cancelled():
        return
    error = task.exception()
    if error is not None and not isinstance(error, Disconnected):
        task.get_loop().call_exception_handler({
            "message": "an ASGI application failed after its response or its client was gone",
            "exception": error, "task": task})


class Disconnected(OSError):
    """Raised in an application that sends to a client which has gone."""


# ---- scopes

_DEFAULTS = {"type": "http", "asgi": _VERSION, "http_version": "1.1", "method": "GET", "scheme": "http", "path": "/",
             "query_string": b"", "root_path": "", "client": None, "server": None}


def _complete(given: Scope, module: Optional[str], name: Any) -> Scope:
    """The scope with the types that the specification wants, and what a lifespan left."""
    scope: Scope = dict(_DEFAULTS)
    for key, value in given.items():
        scope[str(key)] = value
    for key in ("type", "http_version", "method", "scheme", "path", "root_path"):
        scope[key] = _text(scope[key])
    for key in ("query_string", "raw_path"):
        if key in scope:
            scope[key] = _bytes(scope[key])
    scope["headers"] = [(_bytes(header).lower(), _bytes(value)) for header, value in scope.get("headers", ())]
    if scope["type"] == "websocket":
        del scope["method"]
        scope["subprotocols"] = [_text(value) for value in scope.get("subprotocols", ())]
    states = _states.get(get_running_loop())
    if states is not None:
        state = states.get(_key(module, name))
        if state is not None:
            scope["state"] = {**state, **scope.get("state", {})}
    return scope


def _key(module: Optional[str], name: Any) -> Any:
    if module is not None:
        return module, name
    try:
        hash(name)
    except TypeError:
        return id(name)  # the lifespan keeps the object for as long as its state is there
    return name


def _text(value: Union[str, bytes]) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _bytes(value: Union[str, bytes]) -> bytes:
    return value if isinstance(value, bytes) else value.encode("utf-8")


# ---- exchanges

class _Exchange:
    """Messages between an application and its client, until one of them ends it."""

    over: Future[None]  # done when there is nothing more to wait for

    def __init__(self) -> None:
        self.is_gone = False  # the client
        self.is_complete = False  # whatever becomes of the application now, the client has all
        self._gone: Future[None] = get_running_loop().create_future()

    async def receive(self) -> Message:
        """The next message for the application."""
        raise NotImplementedError

    async def send(self, message: Message) -> None:
        """A message of the application's."""
        raise NotImplementedError

    def check(self) -> None:
        """The application has ended: may it?"""
        raise NotImplementedError

    def close(self) -> None:
        """The application has ended."""

    def disconnect(self) -> None:
        """The client has gone."""
        self.is_gone = True
        self._wake()

    def end(self, _task: Optional[Task[None]] = None) -> None:
        """Nobody has to wait for the application any more."""
        if not self.over.done():
            self.over.set_result(None)

    def _wake(self) -> None:
        if not self._gone.done():
            self._gone.set_result(None)


class _Http(_Exchange):
    """One request and its response."""

    def __init__(self, outlet: Outlet, body: Any) -> None:
        super().__init__()
        self._outlet = outlet
        self._source = body
        self._body: Optional[bytes] = body if isinstance(body, bytes) else None
        self._parts: Optional[_Pull] = None if isinstance(body, bytes) else _Pull(_reader(body))
        self._head: Optional[tuple[int, Headers]] = None
        self._is_sent = False

    async def receive(self) -> Message:
        """The next message for the application."""
        if self.is_complete or self.is_gone:
            return {"type": "http.disconnect"}
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        if self._parts is not None:
            return await self._next_part(self._parts)
        await asyncio.wait([self._gone])
        return {"type": "http.disconnect"}

    async def _next_part(self, parts: _Pull) -> Message:
        data = None
        while data is None:
            if self._parts is None:  # another task has had the last one
                await asyncio.wait([self._gone])
            if self._gone.done():
                return {"type": "http.disconnect"}
            try:
                data = await parts.get(self._gone)
            except OSError:
                self.disconnect()
        if self.is_gone:  # then a body that ends is no whole one
            return {"type": "http.disconnect"}
        if not data:
            self._parts = None
        return {"type": "http.request", "body": data, "more_body": bool(data)}

    async def send(self, message: Message) -> None:
        """A message of the application's."""
        kind = message["type"]
        if self.is_gone:
            raise Disconnected("the client has disconnected")
        if kind == "http.response.start":
            if self._head is not None:
                raise RuntimeError("the ASGI application started its response twice")
            self._head = _status(message["status"]), _headers(message.get("headers", ()))
        elif kind == "http.response.body":
            await self._send_body(message.get("body", b""), message.get("more_body", False))
        else:
            raise RuntimeError(f"an ASGI application sent {kind!r} in response to an HTTP request")

    async def _send_body(self, body: bytes, is_more: bool) -> None:
        if self._head is None:
            raise RuntimeError("the ASGI application sent a body before it started its response")
        self._check_open()
        if not self._is_sent:
            self._is_sent = True
            self._outlet.start(*self._head)
        if not isinstance(body, bytes):
            body = memoryview(body).tobytes()  # TypeError for a str
        if body:
            await self._outlet.spend(self._gone)
            self._check_open()  # another task may have ended it meanwhile
            self._outlet.data(body)
        if is_more:
            await asyncio.sleep(0)  # so that others have their turn, and the end of the client comes
        else:
            self.is_complete = True
            self.close()
            self.end()

    def _check_open(self) -> None:
        if self.is_gone:
            raise Disconnected("the client has disconnected")
        if self.is_complete:
            raise RuntimeError("the ASGI application sent a body after the end of its response")

    def check(self) -> None:
        """The application has ended: may it?"""
        if not self.is_complete:
            raise RuntimeError("the ASGI application ended before its response did")

    def disconnect(self) -> None:
        """The client has gone."""
        self.is_gone = True
        self.close()

    def close(self) -> None:
        """The application has ended, or what it does now is of no request any more."""
        self._wake()
        if self._parts is not None:
            self._parts.close()
        end_body(self._source)


def _status(status: int) -> int:
    if not isinstance(status, int) or not 200 <= status <= 999:
        raise ValueError(f"the status must be an int such as 200, not {status!r}")
    return int(status)


def _headers(headers: Iterable[Iterable[bytes]]) -> Headers:
    found = []
    for name, value in headers:
        if not isinstance(name, bytes) or not isinstance(value, bytes):
            raise TypeError(f"a header of ASGI is two bytes objects, not {name!r} and {value!r}")
        check_header(name, value)
        if name.lower() != b"transfer-encoding":  # that is the server's affair
            found.append((name, value))
    return found


def _subprotocol(name: Optional[str]) -> Optional[str]:
    if name is None:
        return None
    if not isinstance(name, str):
        raise TypeError(f"the subprotocol of a websocket must be a str, not {name!r}")
    check_header(b"sec-websocket-protocol", name.encode("latin-1"))
    return name


def _close(code: int, reason: Optional[str]) -> tuple[int, str]:
    if not isinstance(code, int) or not 1000 <= code <= 4999:  # RFC 6455, 7.4.2
        raise ValueError(f"the code of a websocket's close must be an int from 1000 to 4999, not {code!r}")
    if reason is not None and not isinstance(reason, str):
        raise TypeError(f"the reason of a websocket's close must be a str, not {reason!r}")
    return int(code), reason or ""


class _WebSocket(_Exchange):
    """A websocket: the handshake, messages in both directions, and its end.

    When the client closes it, send() knows at once, and receive() in its turn: after the messages
    that came before.
    """

    def __init__(self, outlet: _Messages, inlet: _Pull) -> None:
        super().__init__()
        self._outlet = outlet
        self._inlet = inlet
        self._items: deque[Any] = deque()
        # "new" -- receive() -- "connecting" -- accept -- "open" -- close -- "closed"; or, refused by
        # a response, "connecting" -- start -- "denied" -- the last of its body -- "closed"
        self._state = "new"
        self._farewell: Message = {"type": "websocket.disconnect", "code": 1006, "reason": ""}
        self.has_hung_up = False  # the client
        self._mute: Future[None] = get_running_loop().create_future()  # done when nothing can be sent any more

    async def watch(self, closed: Fun) -> None:
        """Waits for the client to close the websocket."""
        try:
            await async_call(closed)
        except Error:  # the process has ended: there is no client
            pass
        self._hang_up()

    def disconnect(self) -> None:
        """The client has gone, and nothing of it is left to be received."""
        self._hang_up()
        super().disconnect()

    def _hang_up(self) -> None:
        self.has_hung_up = True
        self._silence()

    def _silence(self) -> None:
        if not self._mute.done():
            self._mute.set_result(None)

    async def receive(self) -> Message:
        """The next message for the application."""
        if self._state == "new":
            self._state = "connecting"
            return {"type": "websocket.connect"}
        while not self._items:
            if self.is_gone or self._state == "closed":
                return self._farewell
            try:
                self._items.extend(await self._inlet.get(self._gone) or ())
            except Error:  # the process has ended, and has this cancelled in a moment
                self.disconnect()
        kind, *values = self._items.popleft()
        if kind == _TEXT:
            return {"type": "websocket.receive", "text": values[0]}
        if kind == _BINARY:
            return {"type": "websocket.receive", "bytes": values[0]}
        self._farewell = {"type": "websocket.disconnect", "code": values[0], "reason": values[1]}
        self.disconnect()
        return self._farewell

    async def send(self, message: Message) -> None:
        """A message of the application's."""
        kind = message["type"]
        if self.has_hung_up:
            raise Disconnected("the client has disconnected")
        if kind == "websocket.accept" and self._state in ("new", "connecting"):
            answer = _ACCEPT, _subprotocol(message.get("subprotocol")), _headers(message.get("headers", ()))
            self._state = "open"
            self._outlet.tell(answer)
        elif kind == "websocket.send" and self._state == "open":
            await self._send(message, message.get("text"), message.get("bytes"))
        elif kind == "websocket.close" and self._state not in ("denied", "closed"):
            self._outlet.tell((_CLOSE, *_close(message.get("code", 1000), message.get("reason"))))
            self._closed()
        elif kind == "websocket.http.response.start" and self._state in ("new", "connecting"):
            head = _status(message["status"]), _headers(message.get("headers", ()))
            self._state = "denied"
            self._outlet.start(*head)
        elif kind == "websocket.http.response.body" and self._state == "denied":
            await self._part(message, self._outlet.data, memoryview(message.get("body", b"")).tobytes())
            if message.get("more_body", False):
                await asyncio.sleep(0)
            else:
                self._closed()
        else:
            self._refuse(message)

    async def _part(self, message: Message, tell: Callable[[Any], None], part: Any) -> None:
        state = self._state
        await self._outlet.spend(self._mute)
        if self.has_hung_up:
            raise Disconnected("the client has disconnected")
        if self._state != state:  # another task has closed it meanwhile
            self._refuse(message)
        tell(part)

    def _refuse(self, message: Message) -> NoReturn:
        raise RuntimeError(f"an ASGI application sent {message['type']!r} to a websocket that is {self._state}")

    async def _send(self, message: Message, text: Optional[str], data: Optional[bytes]) -> None:
        if (text is None) == (data is None):
            raise ValueError("an ASGI application sends either text or bytes to a websocket")
        if data is not None:
            await self._part(message, self._outlet.tell, (_BINARY, memoryview(data).tobytes()))
        elif isinstance(text, str):
            await self._part(message, self._outlet.tell, (_TEXT, text))
        else:
            raise TypeError(f"the text for a websocket must be a str, not {text!r}")
        await asyncio.sleep(0)  # as for parts of a response

    def _closed(self) -> None:
        self._state = "closed"
        self._silence()
        self._wake()

    def check(self) -> None:
        """The application has ended: may it?"""
        if self.has_hung_up:
            return
        # An application that ends ends its websocket: 1000 is a normal closure (RFC 6455, 7.4.1).
        if self._state == "open":
            self._outlet.tell((_CLOSE, 1000, ""))
        elif self._state == "denied":
            raise RuntimeError("the ASGI application ended before its response did")
        elif self._state in ("new", "connecting"):
            raise RuntimeError("the ASGI application neither accepted nor closed its websocket")

    def close(self) -> None:
        """The application has ended."""
        self._inlet.close()


# ---- lifespans

async def lifespan(module: Optional[str], name: Any, pid: Pid, index: int, is_needed: bool,
                   patience: Optional[int]) -> None:
    """Starts an application and, when this is cancelled, stops it.

    Tells that process {started, index} and, after it was cancelled, {stopped, index, error}.  An
    application that does not start until then, or does not stop in so many milliseconds, is cancelled.
    """
    application = find(module, name)
    exchange = _Lifespan()
    state: dict[str, Any] = {}
    scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": state}
    states = _states.setdefault(get_running_loop(), {})
    over = exchange.over = get_running_loop().create_future()
    task = get_running_loop().create_task(_run(application, scope, exchange))
    task.add_done_callback(exchange.end)
    try:
        await over
        exchange.check_startup(task, is_needed)
        states[_key(module, name)] = state
        send(pid, (EVENT, (_STARTED, index)))
        await get_running_loop().create_future()  # until this is cancelled
    except CancelledError:
        failure = await exchange.shut_down(task, patience)
        send(pid, (EVENT, (_STOPPED, index, failure)))
        raise
    finally:
        if states.get(_key(module, name)) is state:
            del states[_key(module, name)]
        if not task.done():
            task.cancel()


class _Lifespan(_Exchange):
    """The beginning and the end of an application."""

    def __init__(self) -> None:
        super().__init__()
        self._is_begun = False
        self._answer: Optional[Message] = None  # the last one

    async def receive(self) -> Message:
        """The next message for the application."""
        if not self._is_begun:
            self._is_begun = True
            return {"type": "lifespan.startup"}
        await asyncio.wait([self._gone])
        return {"type": "lifespan.shutdown"}

    async def send(self, message: Message) -> None:
        """A message of the application's."""
        kind = message["type"]
        expected = "lifespan.shutdown." if self.is_gone else "lifespan.startup."
        if kind not in (expected + "complete", expected + "failed") or self._answer is not None:
            raise RuntimeError(f"an ASGI application sent {kind!r} at the wrong time of its lifespan")
        self._answer = message
        self.end()

    def check_startup(self, task: Task[None], is_needed: bool) -> None:
        """Raises why the application did not start.

        One that knows of no lifespan raises something or just returns, and is none the worse.
        """
        answer, self._answer = self._answer, None
        if answer is not None and answer["type"] == "lifespan.startup.failed":
            raise RuntimeError(f"the ASGI application failed to start: {answer.get('message', '')}")
        if answer is None and is_needed:
            task.result()
            raise RuntimeError("the ASGI application has no lifespan")
        if task.done() and not task.cancelled():
            task.exception()  # that is how it says that it has none

    async def shut_down(self, task: Task[None], patience: Optional[int]) -> Optional[str]:
        """Has it end; what went wrong."""
        is_started = not self.over.cancelled()  # else that is what was waited for
        self._answer = None
        self.disconnect()
        if is_started:
            await asyncio.wait([task], timeout=None if patience is None else patience / 1000)
        if not task.done():
            failure = await _cancel(task)
            return failure or ("it was cancelled" if is_started else None)  # Erlang knows what did not start
        if self._answer is not None and self._answer["type"] == "lifespan.shutdown.failed":
            return str(self._answer.get("message", ""))
        if task.cancelled() or task.exception() is None:
            return None
        return None if self._answer is None and not self._is_begun else repr(task.exception())


async def _cancel(task: Task[None]) -> Optional[str]:
    """What is to be said of how it ended."""
    task.cancel()
    await asyncio.wait([task], timeout=GRACE)
    if not task.done():
        return "it was cancelled, and has not ended"
    if not task.cancelled() and task.exception() is not None:
        return f"it was cancelled, and raised {task.exception()!r}"
    return None


# ---- what goes to Erlang and comes from there

class _Whole:
    """All of a response."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: Headers = []
        self.chunks: list[bytes] = []

    def start(self, status: int, headers: Headers) -> None:
        """The head."""
        self.status, self.headers = status, headers

    async def spend(self, unless: Future[None]) -> None:
        """Any part may go."""

    def data(self, chunk: bytes) -> None:
        """Part of the body."""
        self.chunks.append(chunk)

    def close(self) -> None:
        """Nobody waits for it any more."""


class _Messages:
    """What goes to a process, which says how much it may be at a time."""

    def __init__(self, pid: Pid, more: Fun, credit: Optional[int]) -> None:
        self._pid = pid
        self._credit = credit
        self._more = _Pull(lambda: async_call(more))

    def start(self, status: int, headers: Headers) -> None:
        """The head."""
        self.tell((START, status, headers))

    def data(self, chunk: bytes) -> None:
        """Part of the body."""
        self.tell((DATA, chunk))

    async def spend(self, unless: Future[None]) -> None:
        """Waits until one more message may go, or that future is done: then it may not."""
        if self._credit is None:
            return
        while self._credit == 0 and not unless.done():
            try:
                self._credit += await self._more.get(unless) or 0
            except Error:  # the process has ended, and has this cancelled in a moment
                raise Disconnected("the client has disconnected") from None
        if self._credit > 0:
            self._credit -= 1

    def tell(self, event: tuple[Any, ...]) -> None:
        """A message that needs no credit."""
        send(self._pid, (EVENT, event))

    def close(self) -> None:
        """Nobody waits for it any more."""
        self._more.close()


class _Pull:
    """Something that is asked for again and again, one at a time.

    Nothing is lost when a task that waits for it is cancelled: the next one gets it.
    """

    def __init__(self, ask: Callable[[], Awaitable[Any]]) -> None:
        self._ask = ask
        self._asked: Optional[Future[Any]] = None

    async def get(self, unless: Future[None]) -> Any:
        """The next one; None if that future is done first, or another task has taken it."""
        asked = self._asked
        if asked is None:
            asked = self._asked = asyncio.ensure_future(self._ask())
        await asyncio.wait([asked, unless], return_when="FIRST_COMPLETED")
        if not asked.done() or self._asked is not asked:
            return None
        self._asked = None
        return asked.result()

    def close(self) -> None:
        """Asks no more."""
        if self._asked is not None:
            self._asked.cancel()
            self._asked = None


def _reader(source: Any) -> Callable[[], Awaitable[bytes]]:
    """What gives the next part of a body, b"" at its end."""
    if isinstance(source, Fun):
        async def ask() -> bytes:
            """One call of the fun."""
            return part(await async_call(source))

        return ask
    from ._body import asynchronous

    return asynchronous(source)
