# SPDX-License-Identifier: Apache-2.0
"""Spans: what took how long, and on behalf of what; py:get_traces/0 has them in Erlang.

The current span stands in the context variable `_erlang.trace_context`, so that each thread
and each task of an event loop has its own.  C sets it to the trace context that a request
brings along, and takes from it what callbacks and messages take along.  All of these are
known by a `traceparent`, as the W3C's Trace Context has it:

    00-<trace, 32 hexadecimal digits>-<span, 16>-<flags, 2>

While tracing is off a span is nothing but an object: it has no identity, is nobody's
parent, and its end is told to nobody.
"""

from __future__ import annotations

from functools import wraps
from os import urandom
from time import monotonic_ns, time_ns

from _erlang import Atom, span_ended, trace_context, trace_enabled

from ._plain import plain, said, text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from contextvars import Token
    from types import TracebackType
    from typing import Any, AsyncGenerator, Callable, Generator, Optional, TypeVar, Union

    F = TypeVar("F", bound=Callable[..., Any])

_OK, _ERROR, _PYTHON, _UNDEFINED = Atom("ok"), Atom("error"), Atom("python"), Atom("undefined")
_NAME, _TRACE_ID, _SPAN_ID = Atom("name"), Atom("trace_id"), Atom("span_id")
_PARENT_SPAN_ID, _START_TIME, _DURATION_NS = Atom("parent_span_id"), Atom("start_time"), Atom("duration_ns")
_ATTRIBUTES, _EVENTS, _STATUS = Atom("attributes"), Atom("events"), Atom("status")
_KIND, _TIME = Atom("kind"), Atom("time")


class Span:
    """A piece of work, as a context manager: `with Span("load", rows=10) as span: ...`.

    `async with` does the same.  What runs inside belongs to it: other spans, Erlang functions
    that are called, tasks that are started.  An exception that leaves it makes its status an
    error.  A span is entered once.
    """

    __slots__ = ("name", "attributes", "events", "status", "trace_id", "span_id", "parent_span_id",
                 "_started_at", "_started", "_token", "__weakref__")

    def __init__(self, name: str, /, **attributes: Any) -> None:  # an attribute may be called name
        if not isinstance(name, str):
            raise TypeError(f"the name of a span must be a str, not {name!r}")
        self.name = name
        self.attributes = attributes
        self.events: list[dict[str, Any]] = []
        self.status: Any = _OK
        self.trace_id: Optional[str] = None  # None: it is not recorded
        self.span_id: Optional[str] = None
        self.parent_span_id: Optional[str] = None
        self._token: Optional[Token[Any]] = None

    def __repr__(self) -> str:
        return f"<Span {self.name!r} {self.traceparent or 'not recorded'}>"

    @property
    def is_recording(self) -> bool:
        """Was tracing on when it was entered?"""
        return self.trace_id is not None

    @property
    def traceparent(self) -> Optional[str]:
        """What to send along, so that others can belong to this span; None if it is not recorded."""
        return None if self.trace_id is None else f"00-{self.trace_id}-{self.span_id}-01"

    def set_attribute(self, key: str, value: Any) -> None:
        """Says something about the span, in place of what was said before under this key."""
        self.attributes[key] = value

    def add_event(self, name: str, /, **attributes: Any) -> None:
        """Notes that something has happened, and when."""
        if self.trace_id is not None:
            self.events.append({_NAME: name, _TIME: time_ns(), _ATTRIBUTES: attributes})

    def set_status(self, status: str, description: str = "") -> None:
        """Sets it to "ok", or to "error" with a description."""
        if status not in ("ok", "error"):
            raise ValueError(f'the status must be "ok" or "error", not {status!r}')
        self.status = _OK if status == "ok" else (_ERROR, description)

    def record_exception(self, error: BaseException) -> None:
        """Adds the exception, with its traceback, as an event."""
        if self.trace_id is not None:
            import traceback

            parts = type(error), error, error.__traceback__
            self.add_event("exception", **{
                "exception.type": type(error).__qualname__,
                "exception.message": said("str() of the exception", lambda: error),
                "exception.stacktrace": said("its traceback", lambda: "".join(traceback.format_exception(*parts))),
            })

    def __enter__(self) -> Span:
        if trace_enabled():
            self.start()
            self._token = trace_context.set(self)
        return self

    def __exit__(self, _type: Any, error: Optional[BaseException], _traceback: Optional[TracebackType]) -> None:
        if self._token is not None:
            _restore(self._token)
            self._token = None
            self.end(error)

    async def __aenter__(self) -> Span:
        return self.__enter__()

    async def __aexit__(self, type: Any, error: Optional[BaseException], traceback: Optional[TracebackType]) -> None:
        self.__exit__(type, error, traceback)

    def start(self) -> None:
        """Begins what is recorded; `with` does this, and makes it current."""
        if self.trace_id is not None:
            raise RuntimeError(f"the span {self.name!r} has been entered before")
        parent = trace_context.get()
        if parent is None:
            ids = urandom(24).hex()  # not of `random`, whose sequence is the user's
            self.trace_id, self.span_id = ids[:32], ids[32:]
        else:
            traceparent = parent if isinstance(parent, str) else parent.traceparent
            self.trace_id, self.parent_span_id = traceparent[3:35], traceparent[36:52]
            self.span_id = urandom(8).hex()
        self._started_at, self._started = time_ns(), monotonic_ns()

    def end(self, error: Optional[BaseException] = None) -> None:
        """Ends what start() began, and tells Erlang of it."""
        duration = monotonic_ns() - self._started
        # Whoever closes a generator does not want more of it: nothing has failed.
        if error is not None and not isinstance(error, GeneratorExit):
            self.record_exception(error)
            if self.status is _OK:
                self.set_status("error", f"{type(error).__qualname__}: {said('str() of the exception', lambda: error)}")
        span_ended({
            _NAME: text(self.name), _TRACE_ID: self.trace_id, _SPAN_ID: self.span_id,
            _PARENT_SPAN_ID: self.parent_span_id or _UNDEFINED,
            _START_TIME: self._started_at, _DURATION_NS: duration, _KIND: _PYTHON,
            _ATTRIBUTES: plain(self.attributes), _EVENTS: plain(self.events), _STATUS: plain(self.status),
        })


def _restore(token: Token[Any]) -> None:
    try:
        trace_context.reset(token)
    except ValueError:
        pass  # it is left in another context than it was entered in, where nothing was set


def trace(name: Optional[str] = None, **attributes: Any) -> Callable[[F], F]:
    """Makes each run of a function a span: `@erlang.trace()`, of the function's name.

    For generators, asynchronous ones too, the span ends with the generator.  It is current
    while they run, not in between for those who take the items.
    """
    if name is not None and not isinstance(name, str):
        raise TypeError(f"the name of a span must be a str, not {name!r}; is it @trace without ()?")

    def _decorate(function: F) -> Any:
        import inspect

        if not callable(function):
            raise TypeError(f"{function!r} is not a function; @staticmethod and @classmethod go above @trace()")
        span = str(name or getattr(function, "__qualname__", type(function).__qualname__))
        if inspect.iscoroutinefunction(function):
            wrap = _coroutine
        elif inspect.isgeneratorfunction(function):
            wrap = _generator
        elif inspect.isasyncgenfunction(function):
            wrap = _async_generator
        else:
            wrap = _function
        return wraps(function)(wrap(function, span, attributes))

    return _decorate


def _function(function: Callable[..., Any], name: str, attributes: dict[str, Any]) -> Callable[..., Any]:
    def _traced(*args: Any, **kwargs: Any) -> Any:
        if not trace_enabled():
            return function(*args, **kwargs)
        with Span(name, **attributes):
            return function(*args, **kwargs)

    return _traced


def _coroutine(function: Callable[..., Any], name: str, attributes: dict[str, Any]) -> Callable[..., Any]:
    async def _traced(*args: Any, **kwargs: Any) -> Any:
        with Span(name, **attributes):
            return await function(*args, **kwargs)

    return _traced


def _generator(function: Callable[..., Any], name: str, attributes: dict[str, Any]) -> Callable[..., Any]:
    def _traced(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        generator = function(*args, **kwargs)
        if not trace_enabled():
            return (yield from generator)
        with _Life(Span(name, **attributes)) as steps:
            step, value = generator.send, None
            while True:
                with steps:
                    try:
                        item = step(value)
                    except StopIteration as stop:
                        return stop.value
                try:
                    step, value = generator.send, (yield item)
                except GeneratorExit:
                    with steps:
                        generator.close()
                    raise
                except BaseException as error:  # thrown in, for the generator to see
                    step, value = generator.throw, error

    return _traced


def _async_generator(function: Callable[..., Any], name: str, attributes: dict[str, Any]) -> Callable[..., Any]:
    async def _traced(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        generator = function(*args, **kwargs)
        with _Life(Span(name, **attributes)) as steps:
            step, value = generator.asend, None
            while True:
                with steps:
                    try:
                        item = await step(value)
                    except StopAsyncIteration:
                        return
                try:
                    step, value = generator.asend, (yield item)
                except GeneratorExit:
                    with steps:
                        await generator.aclose()
                    raise
                except BaseException as error:  # thrown in, for the generator to see
                    step, value = generator.athrow, error

    return _traced


class _Life:
    """The span of a generator, from its first step to its end."""

    def __init__(self, span: Span) -> None:
        self.span = span

    def __enter__(self) -> _Steps:
        if trace_enabled():
            self.span.start()
        return _Steps(self.span)

    def __exit__(self, _type: Any, error: Optional[BaseException], _traceback: Optional[TracebackType]) -> None:
        if self.span.is_recording:
            self.span.end(error)


class _Steps:
    """Has the span of a generator, or one that it has opened in there, current in each step."""

    def __init__(self, span: Span) -> None:
        self.is_recording = span.is_recording
        self.current: Any = span

    def __enter__(self) -> None:
        if self.is_recording:
            self.token = trace_context.set(self.current)

    def __exit__(self, *_: Any) -> None:
        if self.is_recording:
            self.current = trace_context.get()
            _restore(self.token)
