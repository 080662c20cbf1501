# SPDX-License-Identifier: Apache-2.0
#
# The Erlang modules and their headers.  A file that is not named here is neither
# built nor released, and "make check" says so.

# Behaviours and parse transforms of ours, which the others need when they compile:
#EPY_ERL_FIRST += py_something.erl

EPY_ERL += py.erl                   # the API
EPY_ERL += py_nif.erl               # the native functions
EPY_ERL += py_variant.erl           # which library this node loads
EPY_ERL += py_runtime.erl           # the process that starts and stops Python
EPY_ERL += py_env.erl               # the application environment
EPY_ERL += py_callback.erl          # functions that Python may call
EPY_ERL += erlang_python_app.erl
EPY_ERL += erlang_python_sup.erl

#EPY_HRL += something.hrl
