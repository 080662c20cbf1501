# SPDX-License-Identifier: Apache-2.0
"""Python's logging, on its way to Erlang's logger: see py_logger.erl.

What Python's levels let through becomes a message to a process of Erlang's; nothing waits
for that process.  If it is slow, messages are dropped in C, and it is told how many.
"""

from __future__ import annotations

import logging
import sys
from _thread import allocate_lock

from _erlang import Atom, log

from ._plain import plain, text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Optional, Union

# From the highest; what lies between two levels of Erlang's is told as the lower one.
_LEVELS = [(logging.CRITICAL, Atom("critical")), (logging.ERROR, Atom("error")),
           (logging.WARNING, Atom("warning")), (logging.INFO, Atom("info"))]
_DEBUG = Atom("debug")

_NOTHING = sys.maxsize
# Erlang's names beside Python's: its notice is above info, and of those above critical
# there is nothing here.
_NAMES = {"all": logging.NOTSET, "notice": logging.INFO + 5,
          "alert": _NOTHING, "emergency": _NOTHING, "none": _NOTHING}

_LOGGER, _MODULE, _FILE, _LINE = Atom("logger"), Atom("module"), Atom("file"), Atom("line")
_FUNCTION, _THREAD, _TASK, _TIME = Atom("function"), Atom("thread"), Atom("task"), Atom("time")
_EXTRA = Atom("extra")

_lock = allocate_lock()  # held while the one handler is looked for

# What every record has, and what formatters add: all else is of the argument `extra`.
_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"asctime", "message", "taskName"}


class ErlangHandler(logging.Handler):
    """Logs to Erlang: the formatted message, and as metadata where it comes from.

    Fields of `extra` go along under their names; what Erlang cannot hold of them as repr().
    """

    def handle(self, record: logging.LogRecord) -> bool:
        """As of any handler, but with no lock.

        There is nothing here for it to guard; and messages are formatted by code of users,
        which may take long, or call Erlang, for which other threads that log do not wait.
        """
        passed = self.filter(record)
        if isinstance(passed, logging.LogRecord):  # from 3.12 on a filter may replace it
            record = passed
        if passed:
            self.emit(record)
        return passed

    def emit(self, record: logging.LogRecord) -> None:
        """Sends it; what goes wrong here is told as logging does, and not to who logged."""
        try:
            log(_level(record.levelno), text(self.format(record)), _meta(record))
        except Exception:
            self.handleError(record)


def setup_logging(level: Union[int, str, None] = None) -> None:
    """Has the root logger log to Erlang what has this level at least.

    The level is a number or name of Python's, or a name of Erlang's; without one it stays as
    it is.  To call it again changes the level only.
    """
    number = None if level is None else _number(level)
    root = logging.getLogger()
    with _lock:
        if not any(isinstance(handler, ErlangHandler) for handler in root.handlers):
            root.addHandler(ErlangHandler())
    if number is not None:
        root.setLevel(number)


def _number(level: Union[int, str]) -> int:
    if isinstance(level, str):
        name = level.lower()
        number: Any = _NAMES[name] if name in _NAMES else logging.getLevelName(name.upper())
    else:
        number = level
    if not isinstance(number, int) or isinstance(number, bool):
        raise ValueError(f"not a level of logging: {level!r}")
    return number


def _level(number: int) -> Atom:
    for least, level in _LEVELS:
        if number >= least:
            return level
    return _DEBUG


def _meta(record: logging.LogRecord) -> dict[Atom, Any]:
    fields = record.__dict__
    meta = {
        _LOGGER: plain(record.name), _MODULE: plain(record.module), _FILE: plain(record.pathname),
        _LINE: record.lineno, _FUNCTION: plain(record.funcName), _THREAD: plain(record.threadName),
        _TIME: int(record.created * 1_000_000),  # microseconds, as Erlang's logger has it
    }
    task = fields.get("taskName")
    if task is not None:
        meta[_TASK] = plain(task)
    if not _STANDARD.issuperset(fields):
        meta[_EXTRA] = {text(str(key)): plain(value) for key, value in fields.items() if key not in _STANDARD}
    return meta
