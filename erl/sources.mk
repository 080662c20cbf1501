# SPDX-License-Identifier: Apache-2.0
#
# The Erlang modules and their headers.  A file that is not named here is neither
# built nor released, and "make check" says so.

# Behaviours and parse transforms of ours, which the others need when they compile:
#EPY_ERL_FIRST += py_something.erl

EPY_ERL += py.erl                   # the API
EPY_ERL += py_args.erl              # its arguments
EPY_ERL += py_error.erl             # Python exceptions as exceptions of Erlang
EPY_ERL += py_object.erl            # handles
EPY_ERL += py_stream.erl            # generators
EPY_ERL += py_stream_sup.erl
EPY_ERL += py_reactor_context.erl   # connections that Python serves
EPY_ERL += py_asgi.erl              # ASGI applications
EPY_ERL += py_asgi_lifespan.erl
EPY_ERL += py_wsgi.erl              # WSGI applications
EPY_ERL += py_web.erl               # what web applications of both kinds share
EPY_ERL += py_web_stream.erl        # a response in parts, a websocket
EPY_ERL += py_web_sup.erl
EPY_ERL += py_request.erl           # submit, wait, give up, serve callbacks
EPY_ERL += py_async.erl             # callbacks and casts that nobody waits for
EPY_ERL += py_subprocess.erl        # child processes of event loops
EPY_ERL += py_sender.erl            # messages of Python's to other nodes
EPY_ERL += py_channel.erl           # queues of terms to Python
EPY_ERL += py_byte_channel.erl      # queues of bytes both ways
EPY_ERL += py_buffer.erl            # streams of bytes that Python reads as files
EPY_ERL += py_channels.erl          # what these three share
EPY_ERL += py_state.erl             # what all interpreters and processes share
EPY_ERL += py_logger.erl            # what Python logs
EPY_ERL += py_tracer.erl            # spans, and the context that connects them
EPY_ERL += py_fd.erl                # descriptors and sockets
EPY_ERL += py_output.erl            # what Python prints
EPY_ERL += py_semaphore.erl         # how many requests at a time
EPY_ERL += py_context.erl           # contexts
EPY_ERL += py_contexts.erl          # which process stands for which
EPY_ERL += py_context_sup.erl
EPY_ERL += py_context_router.erl    # who is served by which context and pool
EPY_ERL += py_event_loop.erl       # tasks on event loops
EPY_ERL += py_event_loops.erl        # which process has which
EPY_ERL += py_event_loop_pool.erl
EPY_ERL += py_event_loop_sup.erl
EPY_ERL += py_setup.erl             # what every interpreter finds
EPY_ERL += py_import.erl            # its modules and directories
EPY_ERL += py_preload.erl           # its code
EPY_ERL += py_service.erl           # calls that reach an interpreter that is busy
EPY_ERL += py_info.erl              # what runs, waits and was counted
EPY_ERL += py_events.erl            # what the library has to say
EPY_ERL += py_telemetry.erl
EPY_ERL += py_nif.erl               # the native functions
EPY_ERL += py_variant.erl           # which library this node loads
EPY_ERL += py_runtime.erl           # the process that starts and stops Python
EPY_ERL += py_env.erl               # the application environment
EPY_ERL += py_callback.erl          # functions that Python may call
EPY_ERL += erlang_python_app.erl
EPY_ERL += erlang_python_sup.erl

#EPY_HRL += something.hrl
