# SPDX-License-Identifier: Apache-2.0
"""Erlang, as seen from Python code that runs inside its VM.

`call(name, *args)` calls a function that Erlang registered with
`py:register_function/2,3`, in the Erlang process that called Python, and returns
its result.  An exception there is raised here as `Error`.

What Python code cannot look into arrives as `Pid`, `Ref`, `Port`, `Fun` or `Term`, and
comes back as the same term.  `register_encoder(type, fn)` and `register_decoder(tag, fn)`
add types to those that are converted.
"""

from _erlang import Atom, Cancelled, ConversionError, Error, Fun, Pid, Port, Ref, Term, call

from . import _output
from ._codec import register_decoder, register_encoder

__all__ = ["Atom", "Cancelled", "ConversionError", "Error", "Fun", "Pid", "Port", "Ref", "Term",
           "atom", "call", "register_decoder", "register_encoder"]


def atom(text: str) -> Atom:
    """The Erlang atom of this name, of at most 255 characters."""
    return Atom(text)


_output.install()
