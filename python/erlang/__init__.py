# SPDX-License-Identifier: Apache-2.0
"""Erlang, as seen from Python code that runs inside its VM.

`call(name, *args)` calls a function that Erlang registered with
`py:register_function/2,3`, in the Erlang process that called Python, and returns
its result; so do `erlang.name(*args)` and `from erlang import name`.  An exception there
is raised here as `Error`.  `async_call(name, *args)` is for coroutines.

`send(destination, term)` sends a message, `whereis(name)` is the process of that name, and
`self()` the one that called.  `state_get(key)` and its like are what all processes and
interpreters share.  `run(main)` runs a coroutine on an event loop of this package, and
`install()` has asyncio make such loops.  `setup_logging()` has `logging` log to Erlang's
logger; `Span` and `trace()` tell what took how long.

What Python code cannot look into arrives as `Pid`, `Ref`, `Port`, `Fun` or `Term`, and
comes back as the same term; a `Fun` can be called.  `register_encoder(type, fn)` and
`register_decoder(tag, fn)` add types to those that are converted.
"""

from sys import version_info as _version_info

from _erlang import (Atom, Cancelled, ConversionError, Error, Fun, Pid, Port, ProcessError, Ref, Term,
                     Timeout, call, self, send, whereis)

from . import _output
from ._codec import register_decoder, register_encoder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ._async import async_call
    from ._loop import ErlangEventLoop, new_event_loop, run, sleep, spawn_task
    from ._logging import ErlangHandler, setup_logging
    from ._mode import ExecutionMode, detect_mode
    from ._policy import EventLoopPolicy, get_event_loop_policy, install
    from ._state import state_clear, state_decr, state_delete, state_get, state_incr, state_keys, state_set
    from ._trace import Span, trace

__all__ = ["Atom", "Cancelled", "ConversionError", "ErlangEventLoop", "ErlangHandler", "Error", "EventLoopPolicy",
           "ExecutionMode", "Fun", "Pid", "Port", "ProcessError", "Ref", "Span", "Term", "Timeout", "async_call", "atom", "call",
           "detect_mode", "get_event_loop_policy", "install", "new_event_loop", "register_decoder",
           "register_encoder", "run", "self", "send", "setup_logging", "sleep", "spawn_task", "state_clear",
           "state_decr", "state_delete", "state_get", "state_incr", "state_keys", "state_set", "trace", "whereis"]

if _version_info < (3, 13):
    # Who imports it first is its main thread.  Here that is Python's own, for uvloop and others
    # that do on that thread, and there only, what signals need.
    import threading as _threading

# Loaded when they are first used, as an interpreter shall start fast: logging and asyncio
# take longer than all the rest.
_LATER = {
    "ErlangEventLoop": "_loop", "ErlangHandler": "_logging", "EventLoopPolicy": "_policy", "ExecutionMode": "_mode",
    "Span": "_trace", "async_call": "_async", "detect_mode": "_mode", "get_event_loop_policy": "_policy",
    "install": "_policy", "new_event_loop": "_loop", "run": "_loop", "setup_logging": "_logging", "sleep": "_loop",
    "spawn_task": "_loop", "state_clear": "_state", "state_decr": "_state", "state_delete": "_state",
    "state_get": "_state", "state_incr": "_state", "state_keys": "_state", "state_set": "_state", "trace": "_trace",
}


# Modules of users, which are loaded by `import erlang` and their first use as well.
_MODULES = frozenset(["channel"])


def atom(text: str) -> Atom:
    """The Erlang atom of this name, of at most 255 characters."""
    return Atom(text)


def __getattr__(name: str) -> "Any":
    from importlib import import_module

    if name in _LATER:
        found = getattr(import_module("." + _LATER[name], __name__), name)
    elif name in _MODULES:
        found = import_module("." + name, __name__)
    else:
        found = import_module("._functions", __name__).find(name)
    globals()[name] = found
    return found


_output.install()
