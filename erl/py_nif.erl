%% SPDX-License-Identifier: Apache-2.0
%% @private
%% The native functions.  Each runs on a normal scheduler and none waits: what takes
%% time is done by a thread of the library, which sends a message when it is done.
%%
%% Which library implements them is chosen when the application starts (py_variant),
%% and stays for the life of the node.  Before that, what somebody may call without
%% knowing answers as a library that is not running does.
-module(py_nif).

-export([load/1]).
-on_load(load_again/0).
-export([start/2, stop/1, info/0, stats/0, service/2]).
-export([context_open/4, context_close/1, interrupt/1, interp_id/1]).
-export([pool_open/4, pool_close/2, route/3, routes/0]).
-export([bind/0, submit/3, submit/5, async/4, cast/4, cancel/1, cancel_waiting/1, callback_return/2]).
-export([is_handle/1, frame_atom/1]).
-export([slots/0, set_max/1, set_acquire_timeout/1, release/1]).
-export([cell_new/1, cell_get/1, cell_set/2, cell_add/2, cell_kill/1, is_cell_value/1, cells_reset/0]).
-export([log_done/1, span_done/1, set_tracing/1]).
-export([dup_fd/1]).
-export([channel_new/2, channel_send/4, channel_receive/2, channel_leave/2, channel_close/1, channel_info/1]).
-export([loop_new/1, loop_count/0, loop_ready/1, loop_serve/1, loop_close/2, loop_info/1]).
-export_type([namespace/0, id/0, ticket/0, place/0, frame/0, handle/0, cell/0, channel/0, loop/0, op/0, flags/0, outcome/0, info/0,
              config/0]).

-nifs([start/2, stop/1, info/0, stats/0, service/2,
       context_open/4, context_close/1, interrupt/1, interp_id/1,
       pool_open/4, pool_close/2, route/3, routes/0,
       bind/0, submit/3, submit/5, async/4, cast/4, cancel/1, cancel_waiting/1, callback_return/2,
       is_handle/1, frame_atom/1,
       slots/0, set_max/1, set_acquire_timeout/1, release/1,
       cell_new/1, cell_get/1, cell_set/2, cell_add/2, cell_kill/1, is_cell_value/1, cells_reset/0,
       channel_new/2, channel_send/4, channel_receive/2, channel_leave/2, channel_close/1, channel_info/1,
       log_done/1, span_done/1, set_tracing/1,
       dup_fd/1,
       loop_new/1, loop_count/0, loop_ready/1, loop_serve/1, loop_close/2, loop_info/1]).

-type namespace() :: reference().
-type id() :: non_neg_integer().
-type ticket() :: reference().
%% Where Python waits for a callback: in a frame on the stack of an executor, or elsewhere, and
%% then it is told when nobody has the reference any more.
-type place() :: frame() | reference().
-type frame() :: {non_neg_integer(), non_neg_integer()}.
%% A Python object, which lives as long as somebody on this node has the reference.
-type handle() :: reference().
%% A counter of 64 bits, until it is killed.
-type cell() :: reference().
%% An event loop that has no thread, see c_src/epy_loop.h.
-type loop() :: reference().
-type channel() :: reference().
-type interp_mode() :: auto | main | own.
%% 0: call {Tag, Module, Function, Args, Kwargs}; 1: eval {Tag, Code, Locals};
%% 2: exec {Tag, Code}; 3: a slot of the semaphore {Tag}; 4: a task, as a call, with its loop
%% in place of a pool.  In the bits from 8 on: flags().
-type op() :: non_neg_integer().
%% 1: the result is a handle; 2: a binary of a buffer's bytes; 4: errors are maps, 8: they are
%% pairs, whatever config() says; 16: binaries become str, 32: bytes; 64: atoms become str.
%% And 128, by py_request only: the last element of the request is the trace context.
-type flags() :: 0..255.
%% What becomes of a request: it is on its way; it waits in line for a slot, for at most
%% that many milliseconds; it ran inline, and for so many nanoseconds where telemetry is on.
-type outcome() :: id()
                 | {waiting, id(), AcquireTimeout :: non_neg_integer()}
                 | {done, term()} | {done, term(), RunNs :: non_neg_integer()}
                 | overloaded  % the line is full
                 | {overloaded, Current :: non_neg_integer(), Max :: pos_integer()} % too many tasks
                 | no_loop     % it is closed
                 | no_object   % its interpreter has ended
                 | not_running.
-type info() :: {Variant :: binary(), Mode :: py:mode(), Version :: binary(), State :: atom(),
                 Executors :: non_neg_integer(), HasSubinterps :: boolean(), Stdlib :: binary()}.
-type config() :: {NumExecutors :: pos_integer(), NumSubinterps :: pos_integer(),
                   IoPoolSize :: pos_integer(), MaxSpares :: non_neg_integer(),
                   Schedulers :: pos_integer(), MaxConcurrent :: pos_integer(),
                   AcquireTimeout :: non_neg_integer(), Telemetry :: boolean(),
                   ErrorsFull :: boolean(), RedirectOutput :: boolean(), PythonPath :: binary(),
                   NumAsyncWorkers :: pos_integer()}.

%% Loads the library at this path, without its ending.
-spec load(file:filename()) -> ok | {error, {atom(), string()}}.
load(Path) ->
    case erlang:load_nif(Path, 0) of
        ok -> persistent_term:put(?MODULE, Path);
        {error, _} = Error -> Error
    end.

%% When this module is loaded again, the library that the node chose stays.
load_again() ->
    case persistent_term:get(?MODULE, undefined) of
        undefined -> ok;
        Path -> erlang:load_nif(Path, 0)
    end.

%%% The runtime.  A command is done by the runtime's thread, and the calling process
%%% gets {py_runtime, Ref, Reply}.

%% Reply: ok | {error, Text}.
-spec start(reference(), config()) -> ok | {error, state | thread}.
start(_Ref, _Config) ->
    erlang:nif_error(not_loaded).

%% Reply: ok.
-spec stop(reference()) -> ok | {error, state}.
stop(_Ref) ->
    erlang:nif_error(not_loaded).

-spec info() -> info() | not_loaded.
info() ->
    not_loaded.

%% What is counted, by interpreter, group of executors and outcome.
-spec stats() -> map().
stats() ->
    erlang:nif_error(not_loaded).

%% Runs {Tag, Module, Function, Args, Kwargs} on the service thread of an interpreter,
%% outside of pools and slots.  The calling process gets {Tag, Result}.
-spec service(InterpId :: non_neg_integer(), Request :: tuple()) -> ok | not_running.
service(_InterpId, _Request) ->
    not_running.

%%% Event loops

%% A loop of the interpreter with this number among those of the pool `async', modulo
%% loop_count(); it is made by its first turn.  The calling process owns it: with its death the
%% loop is closed.  It gets {select, Loop', undefined, ready_input} when descriptors are ready,
%% and then calls loop_ready/1 with the loop; and {py_loop, Loop} when there is something to do that
%% only a scheduler may, and then calls loop_serve/1.
-spec loop_new(non_neg_integer()) -> {ok, loop()} | not_running.
loop_new(_N) ->
    not_running.

%% How many there are to choose from.
-spec loop_count() -> non_neg_integer().
loop_count() ->
    0.

-spec loop_ready(loop()) -> ok.
loop_ready(_Loop) ->
    erlang:nif_error(not_loaded).

-spec loop_serve(loop()) -> ok | closed.
loop_serve(_Loop) ->
    erlang:nif_error(not_loaded).

%% The loop takes no more tasks; those that run are cancelled, and have some seconds to end.  The
%% calling process gets {Tag, closed} when all is over, also when it was before.
-spec loop_close(loop(), Tag :: term()) -> ok.
loop_close(_Loop, _Tag) ->
    erlang:nif_error(not_loaded).

%% waiting: tasks that are to be started; tasks: that run; interp: the number of its interpreter.
-spec loop_info(loop()) -> #{interp := non_neg_integer(), waiting := non_neg_integer(),
                             tasks := non_neg_integer(), started := non_neg_integer(),
                             turns := non_neg_integer(), closing := boolean()}.
loop_info(_Loop) ->
    erlang:nif_error(not_loaded).

%%% Contexts and pools

%% A command.  Reply: {ok, Namespace} | {error, Text}.  Fixed: one thread for ever, with no
%% stand-in while it waits or is stuck.  MemoryLimit: bytes, 0 for none.
-spec context_open(reference(), interp_mode(), Fixed :: boolean(), MemoryLimit :: non_neg_integer()) ->
          ok | not_running.
context_open(_Ref, _Mode, _Fixed, _MemoryLimit) ->
    not_running.

%% Ends what is queued and what runs there with {error, cancelled}, and the context.  A
%% second time does nothing.
-spec context_close(namespace()) -> ok.
context_close(_Namespace) ->
    erlang:nif_error(not_loaded).

%% Cancels what runs in the context: how many requests.
-spec interrupt(namespace()) -> non_neg_integer().
interrupt(_Namespace) ->
    erlang:nif_error(not_loaded).

%% The number of the context's interpreter; 0 is the main one.
-spec interp_id(namespace()) -> non_neg_integer().
interp_id(_Namespace) ->
    erlang:nif_error(not_loaded).

%% A command.  Reply: ok | {error, Text}.
-spec pool_open(reference(), Name :: atom(), Size :: pos_integer(), interp_mode()) -> ok | not_running.
pool_open(_Ref, _Name, _Size, _Mode) ->
    not_running.

%% A command.  Reply: ok | {error, Text}.
-spec pool_close(reference(), Name :: atom()) -> ok | not_running.
pool_close(_Ref, _Name) ->
    not_running.

%% Calls of this function, or with `undefined' of any function of the module, go to the
%% pool; `none' takes that back.
-spec route(Module :: atom(), Function :: atom(), Pool :: atom()) -> ok | no_pool | full.
route(_Module, _Function, _Pool) ->
    no_pool.

-spec routes() -> [{Module :: atom(), Function :: atom(), Pool :: atom()}].
routes() ->
    [].

%%% Requests

%% A namespace for the calling process.  Without a library there is nothing to bind to,
%% and that is what callers are told.
-spec bind() -> namespace() | not_running.
bind() ->
    not_running.

%% Submits a request.  The calling process gets {Tag, Result} once, or {Tag, Result, QueueNs,
%% RunNs} where telemetry is on; and before that {Tag, callback, Frame, Name, Args}, or
%% {Tag, callback, Frame, Name, Args, Traceparent}, for each call from Python.
-spec submit(namespace(), op(), Request :: tuple()) -> outcome().
submit(_Namespace, _Op, _Request) ->
    erlang:nif_error(not_loaded).

%% The same to a pool, `undefined' for the one that routes and bindings say, or to the
%% interpreter of an object.  With a frame: from within the callback that waits there, so it
%% takes no slot and runs on that stack unless it goes to another interpreter or pool.
-spec submit(namespace(), op(), Request :: tuple(), atom() | handle(), frame() | none) ->
          outcome() | no_pool.
submit(_Namespace, _Op, _Request, _Pool, _Frame) ->
    erlang:nif_error(not_loaded).

%% The calling process gets {Ticket, Result}, and py_async the callbacks.
-spec async(namespace(), op(), Request :: tuple(), atom() | handle()) ->
          ticket() | no_pool | no_object | not_running.
async(_Namespace, _Op, _Request, _Pool) ->
    erlang:nif_error(not_loaded).

%% The process py_async gets {Tag, Result} and the callbacks.
-spec cast(namespace(), op(), Request :: tuple(), atom() | handle()) ->
          ok | no_pool | no_object | not_running.
cast(_Namespace, _Op, _Request, _Pool) ->
    erlang:nif_error(not_loaded).

%% true: the request ends without a reply, and no message of it comes any more.
%% false: its reply is in the mailbox or on its way.
-spec cancel(id() | ticket()) -> boolean().
cancel(_Id) ->
    erlang:nif_error(not_loaded).

%% The same for a request that waits in line for a slot; false also when it does not any more.
-spec cancel_waiting(id()) -> boolean().
cancel_waiting(_Id) ->
    erlang:nif_error(not_loaded).

%% Ends a callback; false when nobody waits for it any more.
-spec callback_return(place(), {ok, term()} | {error, {atom(), term(), list()}}) -> boolean().
callback_return(_Place, _Outcome) ->
    erlang:nif_error(not_loaded).

%%% Shared state

-spec cell_new(integer()) -> cell().
cell_new(_Value) ->
    erlang:nif_error(not_loaded).

-spec cell_get(cell()) -> {ok, integer()} | dead.
cell_get(_Cell) ->
    erlang:nif_error(not_loaded).

-spec cell_set(cell(), integer()) -> ok | dead.
cell_set(_Cell, _Value) ->
    erlang:nif_error(not_loaded).

%% overflow: the sum is no value of a cell, and nothing has changed.
-spec cell_add(cell(), integer()) -> {ok, New :: integer()} | overflow | dead.
cell_add(_Cell, _N) ->
    erlang:nif_error(not_loaded).

%% For ever, and one caller is told what it held.
-spec cell_kill(cell()) -> {ok, Last :: integer()} | dead.
cell_kill(_Cell) ->
    erlang:nif_error(not_loaded).

%% Is this an integer that a cell can hold?
-spec is_cell_value(term()) -> boolean().
is_cell_value(_Term) ->
    erlang:nif_error(not_loaded).

%% Kills all cells that there are.
-spec cells_reset() -> ok.
cells_reset() ->
    ok. % there are none

%%% Channels: py_channel, py_byte_channel and py_buffer.  The end of the process that made one
%%% closes it, and so does the stop of the application.

%% 0: terms to Python; 1: bytes both ways; 2: a stream of bytes to Python.
-spec channel_new(0..2, MaxSize :: pos_integer() | infinity) -> channel() | not_running.
channel_new(_Kind, _MaxSize) ->
    not_running.

%% Size: what a term counts that is neither a binary nor a number nor an atom.  With a tag,
%% the calling process gets {Tag, room} after busy, once, when it may try again.
-spec channel_send(channel(), term(), Size :: non_neg_integer(), Tag :: reference() | none) ->
          ok | busy | closed.
channel_send(_Channel, _Term, _Size, _Tag) ->
    erlang:nif_error(not_loaded).

%% With a tag, the calling process gets {Tag, {ok, Bytes} | closed} after empty, once.
-spec channel_receive(channel(), Tag :: reference() | none) -> {ok, binary()} | empty | closed.
channel_receive(_Channel, _Tag) ->
    erlang:nif_error(not_loaded).

%% true: no message with this tag comes any more.  false: it is in the mailbox or on its way.
-spec channel_leave(channel(), Tag :: reference()) -> boolean().
channel_leave(_Channel, _Tag) ->
    erlang:nif_error(not_loaded).

%% What was sent before can still be received.
-spec channel_close(channel()) -> ok.
channel_close(_Channel) ->
    erlang:nif_error(not_loaded).

-type channel_queue() :: {Size :: non_neg_integer(), Items :: non_neg_integer(),
                          Waiting :: non_neg_integer()}.
-spec channel_info(channel()) ->
          {Kind :: 0..2, Closed :: boolean(), MaxSize :: pos_integer() | infinity,
           ToPython :: channel_queue(), ToErlang :: channel_queue()}.
channel_info(_Channel) ->
    erlang:nif_error(not_loaded).

%%% Logs and traces

%% So many messages of Python's to py_logger are dealt with: how many were dropped since the
%% last time, as too many waited.
-spec log_done(non_neg_integer()) -> Dropped :: non_neg_integer().
log_done(_N) ->
    erlang:nif_error(not_loaded).

%% The same of those to py_tracer.
-spec span_done(non_neg_integer()) -> Dropped :: non_neg_integer().
span_done(_N) ->
    erlang:nif_error(not_loaded).

%% Whether Python makes spans.
-spec set_tracing(boolean()) -> ok.
set_tracing(_On) ->
    ok. % there is no Python

%%% Descriptors

%% Another descriptor of the same file, which programs that are started do not inherit.
-spec dup_fd(integer()) -> {ok, non_neg_integer()} | {error, {'OSError', binary()}}.
dup_fd(_Fd) ->
    erlang:nif_error(not_loaded).

%%% Objects

%% Is this an object of this node that still lives?
-spec is_handle(term()) -> boolean().
is_handle(_Term) ->
    false.

%% The atom of this text for a stacktrace; '-' where it would be one too many (R7).
-spec frame_atom(binary()) -> atom().
frame_atom(_Text) ->
    '-'.

%%% Admission

-spec slots() -> {Current :: non_neg_integer(), Max :: pos_integer(), Waiting :: non_neg_integer()}.
slots() ->
    erlang:nif_error(not_loaded).

-spec set_max(pos_integer()) -> ok.
set_max(_Max) ->
    erlang:nif_error(not_loaded).

-spec set_acquire_timeout(non_neg_integer()) -> ok.
set_acquire_timeout(_Milliseconds) ->
    erlang:nif_error(not_loaded).

%% Gives a slot back that the process of this namespace took; false: it holds none.
-spec release(namespace()) -> boolean().
release(_Namespace) ->
    erlang:nif_error(not_loaded).
