# SPDX-License-Identifier: Apache-2.0
"""The event loop of the Erlang VM as asyncio's default.

Python 3.14 deprecates policies and 3.16 removes them.  Until then a policy is what makes
`asyncio.run()`, `asyncio.new_event_loop()` and the frameworks above them use this loop.
A policy belongs to an interpreter, so each has to install it: preloaded code can.
"""

from __future__ import annotations

import asyncio
import sys
import warnings
from asyncio import events
from asyncio.unix_events import _UnixDefaultEventLoopPolicy

from _erlang import wakeup_fd

from ._loop import ErlangEventLoop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import AbstractEventLoop


class EventLoopPolicy(_UnixDefaultEventLoopPolicy):
    """The default policy with `ErlangEventLoop` for its loops.

    Up to Python 3.13 get_event_loop() makes a loop for Python's main thread if it has none, which
    is deprecated since 3.12.  There it does so for threads that serve requests too: no user's code
    runs on the other one.
    """

    _loop_factory = ErlangEventLoop

    if sys.version_info < (3, 14):
        def get_event_loop(self) -> AbstractEventLoop:
            """The loop of this thread; made if it has none and serves a request."""
            local = self._local
            if local._loop is None and not local._set_called and wakeup_fd() is not None:
                if sys.version_info >= (3, 12):  # which is when the stock policy began to warn of this
                    warnings.warn("There is no current event loop", DeprecationWarning, stacklevel=_stacklevel())
                self.set_event_loop(self.new_event_loop())
            return super().get_event_loop()


def _stacklevel() -> int:
    """For a warning of the caller's: of the first frame above that which is not asyncio's."""
    level, frame = 2, sys._getframe(2)
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "asyncio":
        level, frame = level + 1, frame.f_back
    return level


_policy = EventLoopPolicy()


def get_event_loop_policy() -> EventLoopPolicy:
    """The policy that install() installs."""
    return _policy


def install() -> None:
    """Makes `ErlangEventLoop` the loop of asyncio in this interpreter."""
    if sys.version_info >= (3, 14):
        events._set_event_loop_policy(_policy)  # the public one warns
    else:
        asyncio.set_event_loop_policy(_policy)
