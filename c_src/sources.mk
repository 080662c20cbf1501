# SPDX-License-Identifier: Apache-2.0
#
# The C files of the NIF.  Each is compiled once for every variant.  A file that is
# not named here is neither built nor released, and "make check" says so.

EPY_SOURCES += epy_nif.c        # load, and the table of functions
EPY_SOURCES += epy_runtime.c    # start and stop of Python
EPY_SOURCES += epy_mode.c       # what differs between the three modes
EPY_SOURCES += epy_submit.c     # from the terms of a call to a request in a queue
EPY_SOURCES += epy_semaphore.c  # admission: slots, and the line of those that wait
EPY_SOURCES += epy_route.c      # which pool a call goes to
EPY_SOURCES += epy_pool.c       # names for groups of executors
EPY_SOURCES += epy_group.c      # a queue and the executors that serve it
EPY_SOURCES += epy_interp.c     # interpreters
EPY_SOURCES += epy_memory.c     # memory by interpreter, and its limit
EPY_SOURCES += epy_fault.c      # allocations that fail, for tests
EPY_SOURCES += epy_executor.c   # the threads that run requests
EPY_SOURCES += epy_inline.c     # calls that run on the caller's scheduler
EPY_SOURCES += epy_gil.c        # whether a GIL is held
EPY_SOURCES += epy_compat.c     # modules that do not go with the mode
EPY_SOURCES += epy_stats.c      # what is counted
EPY_SOURCES += epy_loop.c       # event loops without a thread
EPY_SOURCES += epy_loop_idle.c  # how they hear of descriptors and timers
EPY_SOURCES += epy_host.c       # what Python sees of them
EPY_SOURCES += epy_spawned.c    # coroutines that Python code gives them
EPY_SOURCES += epy_wakeup.c     # a cancel, for a thread that waits in select()
EPY_SOURCES += epy_interrupt.c  # ending a request that runs
EPY_SOURCES += epy_queue.c      # requests that wait (no Python, no BEAM)
EPY_SOURCES += epy_request.c    # the unit of work, and its free list
EPY_SOURCES += epy_exec.c       # the operations a request can ask for
EPY_SOURCES += epy_callback.c   # Python calls Erlang
EPY_SOURCES += epy_fork.c       # the child where Python forked
EPY_SOURCES += epy_frame.c      # where a callback waits (no Python, no BEAM)
EPY_SOURCES += epy_call.c       # calls of Erlang by threads and tasks of Python
EPY_SOURCES += epy_mailbox.c    # the answers to those of an event loop
EPY_SOURCES += epy_channel.c    # queues that both sides wait at (no Python, no BEAM)
EPY_SOURCES += epy_pipe.c       # channels, for Erlang
EPY_SOURCES += epy_channel_py.c # channels, for Python
EPY_SOURCES += epy_channel_wait.c # threads that wait for them
EPY_SOURCES += epy_channel_task.c # tasks that do
EPY_SOURCES += epy_send.c       # messages to Erlang processes
EPY_SOURCES += epy_state.c      # counters of the shared state
EPY_SOURCES += epy_trace.c      # the trace context
EPY_SOURCES += epy_output.c     # what Python prints
EPY_SOURCES += epy_namespace.c  # the dictionaries of Erlang processes
EPY_SOURCES += epy_convert.c    # what conversion shares in both directions
EPY_SOURCES += epy_term.c       # terms that Python does not look into
EPY_SOURCES += epy_buffer.c     # bytes that both sides share
EPY_SOURCES += epy_topy.c       # Erlang terms to Python objects
EPY_SOURCES += epy_toterm.c     # Python objects to Erlang terms
EPY_SOURCES += epy_handle.c     # references that keep Python objects alive
EPY_SOURCES += epy_map.c        # maps of any size, on any thread
EPY_SOURCES += epy_bigint.c     # integers past 64 bits, both ways
EPY_SOURCES += epy_error.c      # Python exceptions as Erlang errors
EPY_SOURCES += epy_atoms.c      # the atoms we use
EPY_SOURCES += epy_module.c     # the Python module _erlang
EPY_SOURCES += epy_types.c      # its types
EPY_SOURCES += epy_names.c      # atoms, and what they are in an interpreter
EPY_SOURCES += epy_code.c       # source text to code objects
EPY_SOURCES += epy_service.c    # what is done from outside the executors
EPY_SOURCES += epy_monitor.c    # queues that do not move, callers that are gone
EPY_SOURCES += epy_lib.c        # libpython: which one, and that it stays

# A program of its own: the parent of a child process of asyncio (no Python, no BEAM).
EPY_PROGRAM_SOURCES += py_spawn.c

# Headers are found by what includes them.
EPY_HEADERS = $(notdir $(wildcard $(srcdir)/c_src/*.h))
