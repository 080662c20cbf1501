# SPDX-License-Identifier: Apache-2.0
"""Modules of the package `erlang` outside the VM, with what they need of `_erlang` replaced."""

import importlib.util
import itertools
import pathlib
import sys
import types

PACKAGE = pathlib.Path(importlib.util.find_spec("erlang").origin).parent

_number = itertools.count()


class Atom(str):
    """As C's: equal to the string."""


class Cancelled(BaseException):
    """As C's."""


class Error(Exception):
    """As C's."""


class Term:
    """As C's."""


def stub(**names):
    """A module in place of `_erlang`, with these names."""
    module = types.ModuleType("_erlang")
    module.Atom, module.Cancelled, module.Error, module.Term = Atom, Cancelled, Error, Term
    for kind in ("Fun", "Pid", "Port", "Ref"):
        setattr(module, kind, type(kind, (Term,), {}))
    for key, value in names.items():
        setattr(module, key, value)
    return module


def load(name, **names):
    """A fresh copy of erlang.<name>; names are those of its `_erlang`."""
    return load_with(stub(**names), name)


def load_with(stub, name):
    """The same with this module in place of `_erlang`."""
    # The modules beside it that it imports are copies with the same stub, in a package of
    # their own, which does without what erlang/__init__.py needs.
    package = types.ModuleType("erlang_under_test_%d" % next(_number))
    package.__path__ = [str(PACKAGE)]
    sys.modules[package.__name__] = package
    with replaced(stub):
        return importlib.import_module("%s.%s" % (package.__name__, name))


class replaced:
    """While it lasts, this module is `_erlang`."""

    def __init__(self, stub):
        self.stub = stub

    def __enter__(self):
        self.before = sys.modules.get("_erlang")
        sys.modules["_erlang"] = self.stub

    def __exit__(self, *_):
        del sys.modules["_erlang"]
        if self.before is not None:
            sys.modules["_erlang"] = self.before
