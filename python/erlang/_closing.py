# SPDX-License-Identifier: Apache-2.0
"""The tasks that a hosted loop still has when it is closed.

Before Python 3.14 asyncio keeps the tasks of all loops in one set, so that whoever wants those of
one loop looks at all.  Thousands of loops that are closed would look at thousands of tasks each.
Nothing but a turn of a loop begins tasks on it: what a look finds of a loop holds until that has
had another turn.  So one look serves all loops that are idle, whatever made their tasks, and costs
nothing where tasks are made.

A look has a number, which is published before it begins.  A turn that ends notes the last one: if
it ran while the look was made, or after that, the look does not hold for its loop.
"""

from __future__ import annotations

import sys
from _thread import allocate_lock
from asyncio import all_tasks
from weakref import ref

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import Task
    from typing import Any

    from ._host import HostedLoop

looks = 0  # how many were begun in this interpreter
_lock = allocate_lock()  # held for a look: who comes meanwhile may need no other


class Seen:
    """What is known of the tasks of one loop."""

    __slots__ = ("found", "found_by", "turn_ended")

    def __init__(self) -> None:
        self.turn_ended = -1  # how many looks were begun then; before the first turn there are no tasks
        self.found_by = 0  # the number of the last look that found any
        self.found: list[ref[Task[Any]]] = []


if sys.version_info >= (3, 14):

    def tasks_of(loop: HostedLoop) -> set[Task[Any]]:
        """Those that have not ended.  Outside of a turn's code this knows those of all threads."""
        return all_tasks(loop)  # C has a list, and no weak set to copy

else:
    from asyncio import futures as _futures
    from asyncio import tasks as _tasks

    def tasks_of(loop: HostedLoop) -> set[Task[Any]]:
        """Those that have not ended."""
        seen = loop.seen
        with _lock:
            if seen.turn_ended >= looks:
                return _look(loop)
            known = [task() for task in seen.found] if seen.found_by == looks else []
        return {task for task in known if task is not None and not task.done()}

    def _look(loop: HostedLoop) -> set[Task[Any]]:
        global looks
        looks += 1
        own: set[Task[Any]] = set()
        for task in _all():
            its = _futures._get_loop(task)
            if its is loop:
                if not task.done():
                    own.add(task)
            else:
                seen = getattr(its, "seen", None)
                if isinstance(seen, Seen):
                    if seen.found_by != looks:
                        seen.found_by, seen.found = looks, []
                    seen.found.append(ref(task))
        return own

    def _all() -> list[Task[Any]]:
        """As all_tasks() does: other threads may change the sets meanwhile."""
        # Those that are eager first: they may come to be among the others.
        eager = list(_tasks._eager_tasks) if sys.version_info >= (3, 12) else []
        others = _tasks._scheduled_tasks if sys.version_info >= (3, 12) else _tasks._all_tasks
        for _ in range(1000):
            try:
                return eager + list(others)
            except RuntimeError:
                continue
        return eager + list(others)
