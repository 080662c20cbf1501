# SPDX-License-Identifier: Apache-2.0
"""The server's side of WSGI (PEP 3333): see py_wsgi.erl.

One class has the protocol, and hands on what the application says: to a list, where all of
the response is the result of the call, or to an Erlang process as it comes.
"""

from __future__ import annotations

import io
import re
import sys

from _erlang import Fun, call, send

from ._web import DATA, EVENT, START, check_header, end_body, find, part

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, Optional, Protocol

    from _erlang import Pid

    Headers = list[tuple[bytes, bytes]]

    class Outlet(Protocol):
        """Where a response goes."""

        def start(self, status: bytes, headers: Headers) -> None:
            """The head."""

        def data(self, chunk: bytes) -> None:
            """Part of the body."""


# RFC 9110, 7.6.1, and PEP 3333: these are between server and client.
_HOP_BY_HOP = frozenset([b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization",
                         b"te", b"trailers", b"transfer-encoding", b"upgrade"])

# A final status (RFC 9110, 15), and a reason without control characters but tabs (RFC 9112, 4).
_STATUS = re.compile(rb"[2-9][0-9]{2}(?: [\t\x20-\x7e\x80-\xff]*)?")
# RFC 9110, 6.4.1: responses of these have no body, and one to HEAD has none either.
_WITHOUT_BODY = (b"204", b"304")

_DEFAULTS = {
    "REQUEST_METHOD": "GET", "SCRIPT_NAME": "", "PATH_INFO": "/", "QUERY_STRING": "", "SERVER_NAME": "localhost",
    "SERVER_PORT": "80", "SERVER_PROTOCOL": "HTTP/1.1", "wsgi.url_scheme": "http", "wsgi.version": (1, 0),
    # Executors that wait are stood in for, in every mode; and an interpreter may have siblings.
    "wsgi.multithread": True, "wsgi.multiprocess": True, "wsgi.run_once": False,
    # The input ends, with or without a Content-Length.
    "wsgi.input_terminated": True,
}


def run(module: Optional[str], name: Any, environ: dict[str, Any], body: Any) -> tuple[bytes, Headers, bytes]:
    """All of the response."""
    outlet = _Whole()
    _serve(find(module, name), environ, body, outlet)
    return outlet.status, outlet.headers, b"".join(outlet.chunks)


def stream(module: Optional[str], name: Any, environ: dict[str, Any], body: Any,
           pid: Pid, more: Fun, credit: Optional[int]) -> None:
    """The response as messages to a process: see py_web_stream.erl."""
    _serve(find(module, name), environ, body, _Messages(pid, more, credit))


class FileWrapper:
    """wsgi.file_wrapper: the blocks of a file."""

    def __init__(self, filelike: Any, block_size: int = 65536) -> None:
        self.filelike = filelike
        self.block_size = block_size

    def __iter__(self) -> FileWrapper:
        return self

    def __next__(self) -> bytes:
        block = self.filelike.read(self.block_size)
        if not block:
            raise StopIteration
        return block

    def close(self) -> None:
        """Closes the file, if that can be closed."""
        _close(self.filelike)


def _serve(application: Callable[..., Iterable[bytes]], environ: dict[str, Any], body: Any, outlet: Outlet) -> None:
    complete = _complete(environ, body)
    try:
        _answer(application, complete, _Response(outlet, complete["REQUEST_METHOD"]))
    finally:
        end_body(body)


def _answer(application: Callable[..., Iterable[bytes]], environ: dict[str, Any], response: _Response) -> None:
    result = application(environ, response.start_response)
    try:
        _send(result, response)
    finally:
        _close(result)


def _send(result: Iterable[bytes], response: _Response) -> None:
    # By itself, as CPython 3.13 passes a `finally` by if a loop right below it is interrupted.
    for chunk in result:
        response.write(chunk)
    response.finish()


def _close(thing: Any) -> None:
    close = getattr(thing, "close", None)  # PEP 3333: called if there is one
    if close is not None:
        close()


def _complete(environ: dict[str, Any], body: Any) -> dict[str, Any]:
    complete = {**_DEFAULTS, "wsgi.errors": sys.stderr, "wsgi.file_wrapper": FileWrapper, **environ}
    if isinstance(body, bytes):
        complete["wsgi.input"] = io.BytesIO(body)
        if body:
            complete.setdefault("CONTENT_LENGTH", str(len(body)))
    else:
        complete["wsgi.input"] = _file(body)
    return complete


def _file(source: Any) -> io.BufferedReader:
    if isinstance(source, Fun):
        return _buffered(lambda: part(call(source)))
    from ._body import blocking

    body = blocking(source)
    return body if isinstance(body, io.BufferedReader) else _buffered(body)


def _buffered(next_part: Callable[[], bytes]) -> io.BufferedReader:
    return io.BufferedReader(_Input(next_part), 65536)


class _Input(io.RawIOBase):
    """The parts of a body as a file."""

    def __init__(self, read: Callable[[], bytes]) -> None:
        super().__init__()
        self._next = read
        self._part = memoryview(b"")
        self._is_at_end = False

    def readable(self) -> bool:
        """True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Some bytes, at least one; 0 at the end."""
        if not self._part and not self._is_at_end:
            self._part = memoryview(self._next())
            self._is_at_end = not self._part
        with memoryview(buffer) as view:
            count = min(len(view), len(self._part))
            view[:count] = self._part[:count]
        self._part = self._part[count:]
        return count


class _Response:
    """The protocol: what the application may say, and in which order."""

    def __init__(self, outlet: Outlet, method: str) -> None:
        self._outlet = outlet
        self._method = method
        self._head: Optional[tuple[bytes, Headers]] = None
        self._is_sent = False
        self._left: Optional[int] = None  # of the bytes that Content-Length announced

    def start_response(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None,
                       ) -> Callable[[bytes], None]:
        """Called by the application, once, or again with an exception before data was sent."""
        if exc_info is not None:
            try:
                if self._is_sent:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None  # it has this frame in its traceback
        elif self._head is not None:
            raise RuntimeError("start_response() was called already, and this call has no exc_info")
        head = _status(status), _headers(headers)
        self._left = _length(head[1])
        self._head = head
        return self.write

    def write(self, data: bytes) -> None:
        """Called by old applications, and for what the result yields."""
        if not isinstance(data, bytes):
            raise TypeError(f"a WSGI application writes and yields bytes, not {type(data).__name__}")
        if self._head is None:
            raise RuntimeError("the WSGI application wrote or yielded before it called start_response()")
        if data:
            if self._left is not None:
                if len(data) > self._left:
                    raise ValueError("the WSGI application wrote or yielded more than its Content-Length says")
                self._left -= len(data)
            self._start()
            self._outlet.data(data)

    def finish(self) -> None:
        """The application is through."""
        if self._head is None:
            raise RuntimeError("the WSGI application ended and never called start_response()")
        if self._left and self._method != "HEAD" and not self._head[0].startswith(_WITHOUT_BODY):
            raise ValueError(f"the WSGI application ended {self._left} bytes before its Content-Length says")
        self._start()

    def _start(self) -> None:
        if not self._is_sent:
            self._is_sent = True
            self._outlet.start(*self._head)


def _status(status: str) -> bytes:
    if not isinstance(status, str):
        raise TypeError(f"the status must be a str such as '200 OK', not {status!r}")
    encoded = status.encode("latin-1")
    if not _STATUS.fullmatch(encoded):
        raise ValueError(f"the status must be a str such as '200 OK', not {status!r}")
    return encoded


def _headers(headers: list[tuple[str, str]]) -> Headers:
    if not isinstance(headers, list):
        raise TypeError(f"the headers must be a list, not {type(headers).__name__}")
    return [_header(*header) for header in headers]


def _header(name: str, value: str) -> tuple[bytes, bytes]:
    if not isinstance(name, str) or not isinstance(value, str):
        raise TypeError(f"a header must be two str, not {name!r} and {value!r}")
    encoded = name.encode("latin-1"), value.encode("latin-1")
    check_header(*encoded)
    if encoded[0].lower() in _HOP_BY_HOP:
        raise ValueError(f"the header {name} is the server's affair, not an application's (PEP 3333)")
    return encoded


def _length(headers: Headers) -> Optional[int]:
    """What a response says of its size."""
    lengths = [value for name, value in headers if name.lower() == b"content-length"]
    if not lengths:
        return None
    if len(lengths) > 1 or not lengths[0].isdigit():
        raise ValueError(f"a response has one Content-Length, a number, and not {lengths!r}")
    return int(lengths[0])


class _Whole:
    """All of a response."""

    def __init__(self) -> None:
        self.status = b""
        self.headers: Headers = []
        self.chunks: list[bytes] = []

    def start(self, status: bytes, headers: Headers) -> None:
        """The head."""
        self.status, self.headers = status, headers

    def data(self, chunk: bytes) -> None:
        """Part of the body."""
        self.chunks.append(chunk)


class _Messages:
    """A response that goes to a process, which says how much it may be at a time."""

    def __init__(self, pid: Pid, more: Fun, credit: Optional[int]) -> None:
        self._pid = pid
        self._more = more
        self._credit = credit

    def start(self, status: bytes, headers: Headers) -> None:
        """The head."""
        send(self._pid, (EVENT, (START, status, headers)))

    def data(self, chunk: bytes) -> None:
        """Part of the body."""
        if self._credit is not None:
            if self._credit == 0:
                self._credit = call(self._more)
            self._credit -= 1
        send(self._pid, (EVENT, (DATA, chunk)))
