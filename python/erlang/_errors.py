# SPDX-License-Identifier: Apache-2.0
"""An exception as a map for Erlang: the shape of errors with the option `errors => full`.

What an exception says of itself is code of a user, which may fail: then a remark stands in
its place.  What the interpreter knows of it is read past that code.  All is bounded: chains
and groups by depth and number, tracebacks by their innermost frames.
"""

from __future__ import annotations

import builtins
import os

from _erlang import Atom, Error, type_atom

from ._plain import text as _text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType, TracebackType
    from typing import Any, Callable, Optional

    Info = dict[Atom, Any]

DEPTH_MAX = 100
EXCEPTIONS_MAX = 1000
FRAMES_MAX = 100

_HERE = os.path.dirname(os.path.abspath(__file__)) + os.sep
_TYPE, _MODULE, _MESSAGE = Atom("type"), Atom("module"), Atom("message")
_TRACEBACK, _CAUSE, _CONTEXT = Atom("traceback"), Atom("cause"), Atom("context")
_NOTES, _EXCEPTIONS = Atom("notes"), Atom("exceptions")
_ERLANG = Atom("erlang")
_FILE, _LINE, _FUNCTION, _CODE = Atom("file"), Atom("line"), Atom("function"), Atom("code")

_PARTS = frozenset(["class_", "reason", "stack"])

# Of 3.11 on.
_GROUP = getattr(builtins, "BaseExceptionGroup", None)

_cause, _context = BaseException.__cause__, BaseException.__context__
_is_suppressed, _traceback = BaseException.__suppress_context__, BaseException.__traceback__
_attributes = BaseException.__dict__["__dict__"]


def describe(error: BaseException) -> Info:
    """The map of an exception."""
    return _Description().of(error, 1)


class _Description:
    """The map of one exception with all that belong to it."""

    def __init__(self) -> None:
        self.seen: set[int] = set()
        self.known: dict[tuple[CodeType, int], Info] = {}

    def of(self, error: Optional[BaseException], depth: int) -> Optional[Info]:
        """The map of an exception, or None where it is to end."""
        if error is None or id(error) in self.seen or depth > DEPTH_MAX or len(self.seen) >= EXCEPTIONS_MAX:
            return None
        self.seen.add(id(error))
        cause, context = _cause.__get__(error), _context.__get__(error)
        if _is_suppressed.__get__(error) or context is cause:
            context = None
        info = {
            _TYPE: type_atom(error),
            _MODULE: _said("the module", lambda: type(error).__module__),
            _MESSAGE: _said("str()", lambda: error),
            _TRACEBACK: self.frames(_traceback.__get__(error)),
            _CAUSE: self.of(cause, depth + 1),
            _CONTEXT: self.of(context, depth + 1),
            _NOTES: _notes(error),
        }
        if _GROUP is not None and issubclass(type(error), _GROUP):
            parts = [self.of(part, depth + 1) for part in _GROUP.exceptions.__get__(error)]
            info[_EXCEPTIONS] = [part for part in parts if part is not None]
        elif issubclass(type(error), Error):
            attributes = _attributes.__get__(error)
            if attributes.keys() >= _PARTS:  # not of one that Python code made itself
                info[_ERLANG] = (attributes["class_"], attributes["reason"], attributes["stack"])
        return info

    def frames(self, traceback: Optional[TracebackType]) -> list[Info]:
        """The innermost frames, the outermost of them first, without those of ours that lead there.

        In a recursion they are the same again and again, so each is described once.
        """
        tracebacks = []
        while traceback is not None:
            tracebacks.append(traceback)
            traceback = traceback.tb_next
        begin = max(0, len(tracebacks) - FRAMES_MAX)
        if begin == 0:
            while begin < len(tracebacks) and _is_ours(tracebacks[begin].tb_frame.f_code):
                begin += 1
        return [self.frame(traceback) for traceback in tracebacks[begin:]]

    def frame(self, traceback: TracebackType) -> Info:
        """The map of one frame."""
        code, line = traceback.tb_frame.f_code, traceback.tb_lineno or 0
        if (code, line) not in self.known:
            self.known[code, line] = _frame(code, line, traceback.tb_frame.f_globals)
        return self.known[code, line]


def _said(what: str, ask: Callable[[], Any]) -> str:
    try:
        return _text(str(ask()))
    except BaseException:  # the request has ended already: there is nothing left to end
        return f"<{what} of the exception failed>"


def _notes(error: BaseException) -> list[str]:
    notes = _attributes.__get__(error).get("__notes__")
    if not isinstance(notes, (list, tuple)):
        return []
    return [_said("a note", lambda note=note: note) for note in notes]


def _is_ours(code: CodeType) -> bool:
    # The second is what C calls the functions of builtins from.
    return code.co_filename.startswith(_HERE) or (
        code.co_filename == "<erlang>" and code.co_names == ("function", "args", "kwargs"))


def _frame(code: CodeType, line: int, module: dict[str, Any]) -> Info:
    return {_FILE: _text(code.co_filename), _LINE: line, _FUNCTION: _text(code.co_name),
            _CODE: _source(code.co_filename, line, module)}


def _source(file: str, line: int, module: dict[str, Any]) -> Optional[str]:
    import linecache  # takes long to import, and most processes never have such an error

    try:
        linecache.checkcache(file)
        return _text(linecache.getline(file, line, module).strip()) or None
    except BaseException:  # of a loader that does not tell the source
        return None
