# SPDX-License-Identifier: Apache-2.0
"""Modules of the package `erlang` outside the VM, with what they need of `_erlang` replaced."""

import importlib.util
import pathlib
import sys
import types

PACKAGE = pathlib.Path(importlib.util.find_spec("erlang").origin).parent


class Atom(str):
    """As C's: equal to the string."""


class Cancelled(BaseException):
    """As C's."""


class Term:
    """As C's."""


def load(name, **names):
    """A fresh copy of erlang.<name>; names are those of its `_erlang`."""
    stub = types.ModuleType("_erlang")
    stub.Atom, stub.Cancelled, stub.Term = Atom, Cancelled, Term
    for kind in ("Fun", "Pid", "Port", "Ref"):
        setattr(stub, kind, type(kind, (Term,), {}))
    for key, value in names.items():
        setattr(stub, key, value)
    return load_with(stub, name)


def load_with(stub, name):
    """The same with this module in place of `_erlang`."""
    spec = importlib.util.spec_from_file_location("erlang_%s_under_test" % name, PACKAGE / (name + ".py"))
    module = importlib.util.module_from_spec(spec)
    before = sys.modules.get("_erlang")
    sys.modules["_erlang"] = stub
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules["_erlang"]
        if before is not None:
            sys.modules["_erlang"] = before
    return module
