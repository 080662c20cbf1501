# SPDX-License-Identifier: Apache-2.0
"""Extension modules that do not go with the mode.

**In a sub-interpreter with its own GIL** many extension modules refuse to load, and
some of those end the process when they are tried: CPython runs their initialization
before it knows that it must refuse.  Once the main interpreter has loaded the module
from the same file, CPython refuses before anything of it runs.  So here the main
interpreter *looks* at an extension module first: it imports it by name.  A module that
loads there, and then not here, *refuses*: `_erlang.refused()` is told, and C moves the
calls of the module whose import met it to the main interpreter.

No deadlock comes of the look.  The thread that waits holds import locks of its own
interpreter, and no GIL.  The thread that looks takes import locks and the GIL of the
main interpreter only.  Who holds those can wait for a sub-interpreter in one way: by
top-level code of a module that calls Erlang, which calls Python there.  That wait ends
as any other does, by timeout or cancel (R8).

**Without a GIL** an extension module that has not declared that it can do without turns
the GIL on, for the whole process.  `_erlang.gil_enabled()` is told which one it was.

Both are noticed where the import system loads such modules, whichever finder found
them: in `ExtensionFileLoader`, of which the finders of editable installs make instances
of their own, and in `BuiltinImporter`, as builds differ in what they compile in.
"""

from __future__ import annotations

import importlib
import sys
from _thread import allocate_lock, get_ident
from importlib.machinery import BuiltinImporter, ExtensionFileLoader

import _erlang

TYPE_CHECKING = False
if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any, Callable, Optional, Tuple

    Load = Callable[[ModuleSpec, Callable[[], Any]], Any]
    Import = Tuple[str, Tuple[str, ...]]  # as __import__ takes them: a name and what is taken from it


def install(is_main: bool) -> None:
    """Prepares the calling interpreter, once, before it imports anything for a user."""
    if not is_main:
        _wrap(_create, _execute)
    elif "t" in sys.abiflags and not sys._is_gil_enabled():
        _wrap(_GilWatch().create, _step)


def _step(spec: ModuleSpec, step: Callable[[], Any]) -> Any:
    return step()


def _wrap(create: Load, execute: Load) -> None:
    """Has the two steps of loading, each of which is called as `step()`, go through ours."""
    create_extension, exec_extension = ExtensionFileLoader.create_module, ExtensionFileLoader.exec_module
    create_builtin, exec_builtin = BuiltinImporter.create_module, BuiltinImporter.exec_module

    def _create_extension(self: ExtensionFileLoader, spec: ModuleSpec) -> ModuleType:
        return create(spec, lambda: create_extension(self, spec))

    def _exec_extension(self: ExtensionFileLoader, module: ModuleType) -> None:
        execute(module.__spec__, lambda: exec_extension(self, module))

    def _create_builtin(spec: ModuleSpec) -> ModuleType:
        return create(spec, lambda: create_builtin(spec))

    def _exec_builtin(module: ModuleType) -> None:
        execute(module.__spec__, lambda: exec_builtin(module))

    ExtensionFileLoader.create_module = _create_extension
    ExtensionFileLoader.exec_module = _exec_extension
    BuiltinImporter.create_module = staticmethod(_create_builtin)
    BuiltinImporter.exec_module = staticmethod(_exec_builtin)


# ---- sub-interpreters ----

_REMEDY = ("; what imports it must run in the main interpreter, for instance after "
           "py:register_pool(main, Module)")

# Why a module does not load here, by name and file.  It is not tried again.
_refused: dict[tuple[str, Optional[str]], str] = {}


def _is_known_to_be_safe(name: str, path: Optional[str]) -> bool:
    """Tells the modules that may be tried without a look.

    From 3.13 on these are the standard library's: importing all of them in two
    interpreters, twice each, ends no process, though some refuse (curses, faulthandler,
    readline, tkinter, tracemalloc).  On 3.12 decimal, datetime, sqlite3 and zoneinfo do.
    """
    return (sys.version_info >= (3, 13) and name in sys.stdlib_module_names
            and (path == "built-in" or str(path).rpartition("/")[0].endswith("/lib-dynload")))


def _create(spec: ModuleSpec, step: Callable[[], Any]) -> Any:
    name, path = spec.name, spec.origin
    if (name, path) in _refused:
        _erlang.refused(name)
        raise ImportError(_refused[name, path], name=name, path=path)
    if not _is_known_to_be_safe(name, path):
        problem = _erlang.look_first(name, path)
        if problem is not None:
            # Not tried here: it may end the process, and it would hardly load.
            raise ImportError(f"the main interpreter, which has to load '{name}' before a "
                              f"sub-interpreter may, cannot: {problem}", name=name, path=path)
    return _execute(spec, step)


def _execute(spec: ModuleSpec, step: Callable[[], Any]) -> Any:
    name, path = spec.name, spec.origin
    try:
        return step()
    except Exception as error:  # most raise ImportError; some fail on what they find changed
        if _is_known_to_be_safe(name, path) and _erlang.look_first(name, path) is not None:
            raise  # nor does it load elsewhere, so it does not refuse
        text = f"'{name}' does not load in a sub-interpreter: {error}{_REMEDY}"
        if str(error).endswith(_REMEDY):
            text = str(error)  # of a module that this one imports
        _refused[name, path] = text
        _erlang.refused(name)
        raise ImportError(text, name=name, path=path) from error


def look(name: str, path: Optional[str]) -> Optional[str]:
    """In the main interpreter: imports what a sub-interpreter is about to load from `path`.

    Returns None, or in one line why that may not be done there.
    """
    try:
        module = importlib.import_module(name)
    except BaseException as error:  # also SystemExit; it is told, not swallowed
        return " ".join(f"{type(error).__name__}: {error}".split())
    # CPython remembers what it loaded by name and path as they are written.  A module that
    # another thread is still loading may not have its spec yet, but has its file.
    spec = getattr(module, "__spec__", None)
    found = getattr(spec, "origin", None) or getattr(module, "__file__", None)
    return None if found == path else f"it finds {found} there, not {path}; is sys.path the same?"


def imports_of(source: str) -> tuple[Import, ...]:
    """The imports with which code of a module begins, in their order.

    To do them in advance changes nothing, as only comments and imports come before them.
    Later ones do not count: what stands before them may set a path or a variable of the
    environment that they depend on, or catch what they raise.
    """
    from _ast import Import as ImportNode, ImportFrom, PyCF_ONLY_AST

    # Only the lines in question are parsed: no code is warned about twice.
    head, depth, is_open = [], 0, False
    for line in source.split("\n"):
        text = line.partition("#")[0].rstrip()
        if text and not is_open and not text.startswith(("import ", "from ")):
            break
        head.append(line)
        depth += text.count("(") - text.count(")")
        is_open = depth > 0 or text.endswith("\\")
    found: list[Import] = []
    try:
        statements = compile("\n".join(head), "<erlang>", "exec", PyCF_ONLY_AST, True).body
    except SyntaxError:  # what follows a semicolon goes on in the next line
        return ()
    for statement in statements:
        if isinstance(statement, ImportNode):
            found.extend((alias.name, ()) for alias in statement.names)
        elif isinstance(statement, ImportFrom) and statement.level == 0:
            found.append((statement.module, tuple(alias.name for alias in statement.names)))
        else:
            break
    return tuple(found)


# ---- no GIL ----

class _GilWatch:
    """Finds the module that turned the GIL on for good.

    CPython also turns it on while it creates any extension module.  So it is on for good
    when it is on and no thread is in there; and what ended since it was off is to blame.
    """

    def __init__(self) -> None:
        self.lock = allocate_lock()  # guards all below; held for no call of Python code
        self.threads: set[int] = set()
        self.suspects: list[str] = []
        self.told = False

    def create(self, spec: ModuleSpec, step: Callable[[], Any]) -> Any:
        """Creates a module and tells, once, which one turned the GIL on.

        It tells several if they were created at the same time.
        """
        thread = get_ident()
        # Within another one the GIL is on for the sake of that one.
        if self.told or thread in self.threads:
            return step()
        with self.lock:
            self.threads.add(thread)
        try:
            return step()
        finally:
            with self.lock:
                self.threads.remove(thread)
                names = self._to_blame(spec.name)
            for name in names:
                _erlang.gil_enabled(name)

    def _to_blame(self, name: str) -> list[str]:
        self.suspects.append(name)
        if not sys._is_gil_enabled():
            self.suspects = []
        if self.threads or not self.suspects or self.told:
            return []
        self.told = True
        return self.suspects
