# SPDX-License-Identifier: Apache-2.0
"""What runs in an interpreter just now, and its memory: see py:stacks/0 and its like.

The functions run on the interpreter's service thread, so that they answer also when all
executors are busy.

The frames come from `_erlang.frames()`, not from `sys._current_frames()`: that one goes
through the threads of all interpreters without their GILs, and ends the process when one
of them runs at that moment.
"""

from __future__ import annotations

import gc
import linecache
import sys
import traceback

import _erlang

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import List, Optional, Tuple

    Frame = Tuple[bytes, int, bytes, bytes]  # file, line, function, the line's text
    Thread = Tuple[str, int, List[Frame]]  # name, number, frames


def stacks() -> list[Thread]:
    """The stacks of all executors of this interpreter; of each the most recent call is last."""
    linecache.checkcache()
    return [(name, ident, _frames(frame)) for name, ident, frame in _erlang.frames()]


def _frames(frame) -> list[Frame]:
    if frame is None:
        return []
    return [(_text(f.filename), f.lineno or 0, _text(f.name), _text(f.line or ""))
            for f in traceback.extract_stack(frame)]


def _text(text: str) -> bytes:
    """UTF-8, also of a file name that is none."""
    return text.encode("utf-8", "backslashreplace")


def memory() -> tuple[list[tuple[int, int, int]], tuple[int, ...], tuple[int, ...], Optional[tuple[int, int]]]:
    """What the garbage collector counts, and the traced memory where it is traced."""
    stats = [(s["collections"], s["collected"], s["uncollectable"]) for s in gc.get_stats()]
    return stats, gc.get_count(), gc.get_threshold(), _traced()


def _traced() -> Optional[tuple[int, int]]:
    tracing = sys.modules.get("_tracemalloc")  # a sub-interpreter cannot import it
    return tracing.get_traced_memory() if tracing and tracing.is_tracing() else None


def collect(generation: int) -> int:
    """Collects garbage; the number of objects that could not be reached."""
    return gc.collect(generation)


def trace_start(frames: int, is_parallel: bool) -> None:
    """Traces allocations; `is_parallel`: threads run Python code at the same time.

    Up to 3.13 tracemalloc relies on one GIL for its tables: threads that do not share one
    corrupt them, and were seen to hang in them.
    """
    if is_parallel and sys.version_info < (3, 14):
        raise RuntimeError("the tracemalloc of this Python cannot trace threads without a common GIL")
    import tracemalloc
    tracemalloc.start(frames)


def trace_stop() -> None:
    """Ends the tracing of allocations and forgets what was traced."""
    import tracemalloc
    tracemalloc.stop()
