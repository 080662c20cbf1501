# SPDX-License-Identifier: Apache-2.0
"""Erlang, as seen from Python code that runs inside its VM.

`call(name, *args)` calls a function that Erlang registered with
`py:register_function/2,3`, in the Erlang process that called Python, and returns
its result.  An exception there is raised here as `Error`.
"""

from _erlang import Atom, Cancelled, ConversionError, Error, call

__all__ = ["Atom", "Cancelled", "ConversionError", "Error", "atom", "call"]


def atom(text: str) -> Atom:
    """The Erlang atom of this name, of at most 255 characters."""
    return Atom(text)
