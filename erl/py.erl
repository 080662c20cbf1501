%% SPDX-License-Identifier: Apache-2.0
%% @doc Python from Erlang.
%%
%% A Python exception comes back as `{error, {Type, Message}}', or as `{error, Map}' with the
%% option `errors => full'; the other errors are `timeout', `cancelled', `{overloaded, Current, Max}', `not_running' and
%% `{conversion, What, Where}'.  An argument of the wrong type is an error of the
%% first shape, `TypeError' or `ValueError', and Python is not asked.
%%
%% Where a function takes a pool or a context first, the list of arguments is one place
%% further to the right, and that is how the two forms are told apart.  Options of ours
%% are a timeout or `{opts, Map}' in the last place, so that no keyword argument of Python
%% can be mistaken for one.
-module(py).

-export([call/3, call/4, call/5, call/6, apply/3, apply/4, format_error/2]).
-export([eval/1, eval/2, eval/3, exec/1, exec/2, reload/1]).
-export([cast/3, cast/4, cast/5, spawn_call/3, spawn_call/4, spawn_call/5]).
-export([call_async/3, call_async/4, await/1, await/2, cancel/1, parallel/1]).
-export([async_call/3, async_call/4, async_await/1, async_await/2, async_gather/1, async_gather/2]).
-export([async_stream/3, async_stream/4]).
-export([stream/3, stream/4, stream/5, stream_eval/1, stream_eval/2, stream_eval/3]).
-export([stream_start/3, stream_start/4, stream_start/5, stream_ack/2, stream_cancel/1]).
-export([getattr/2, getattr/3, setattr/3, call_method/3, call_method/4, call_method/5]).
-export([call_object/2, call_object/3, call_object/4, to_term/1, to_term/2, is_ref/1]).
-export([register_function/2, register_function/3, unregister_function/1]).
-export([state_fetch/1, state_store/2, state_remove/1, state_keys/0, state_clear/0]).
-export([state_incr/1, state_incr/2, state_decr/1, state_decr/2]).
-export([configure_logging/0, configure_logging/1]).
-export([enable_tracing/0, disable_tracing/0, get_traces/0, clear_traces/0]).
-export([context/0, context/1, start_contexts/0, start_contexts/1, stop_contexts/0]).
-export([contexts_started/0, interrupt/1]).
-export([register_pool/2, unregister_pool/1]).
-export([subinterp_create/0, subinterp_destroy/1, subinterp_call/4, subinterp_call/5]).
-export([subinterp_eval/2, subinterp_eval/3, subinterp_exec/2, subinterp_cast/4]).
-export([subinterp_async_call/4, subinterp_await/1, subinterp_await/2]).
-export([subinterp_pool_start/0, subinterp_pool_start/1, subinterp_pool_stop/0]).
-export([subinterp_pool_ready/0, subinterp_pool_stats/0]).
-export([execution_mode/0, num_executors/0, version/0, subinterp_supported/0]).
-export([info/0, stacks/0, memory_stats/0, gc/0, gc/1]).
-export([tracemalloc_start/0, tracemalloc_start/1, tracemalloc_stop/0, dup_fd/1]).
-export_type([name/0, code/0, kwargs/0, locals/0, place/0, options/0]).
-export_type([handle/0, result/0, reason/0, error_info/0, exception/0, step/0, mode/0]).

-type name() :: atom() | binary() | string().
-type code() :: unicode:chardata().
-type kwargs() :: #{name() => term()}.
-type locals() :: #{name() => term()}.
%% A pool by its name, or a context by its process.
-type place() :: atom() | pid().
%% return: `handle', a reference to the Python object; `buffer', a binary of its bytes without
%% a copy.  errors: the shape of Python exceptions.  binary, atom: what those become in Python.
-type options() :: timeout()
                 | {opts, #{timeout => timeout(), return => value | handle | buffer,
                            errors => short | full, binary => auto | str | bytes, atom => atom | str}}.
%% A Python object, on the node that node/1 says.
-type handle() :: reference().
-type exception() :: atom().
%% Where a value is that does not convert: in which part of the call, then the
%% 1-based index in a list or tuple, `{value, Key}' or `{key, Key}' in a map, and
%% `key' for a key of a dict.
-type step() :: args | kwargs | locals | result | pos_integer() | {value | key, term()} | key.
-type error_info() :: #{type := exception(), module := binary(), message := binary(),
                        traceback := [#{file := binary(), line := non_neg_integer(), function := binary(),
                                        code := binary() | none}],
                        cause := error_info() | none, context := error_info() | none,
                        notes := [binary()], exceptions => [error_info()],
                        %% Of an erlang.Error.
                        erlang => {Class :: atom(), Reason :: term(), Stack :: term()}}.
-type reason() :: {exception(), Message :: binary()}
                | error_info()
                | {conversion, What :: binary(), Where :: [step()]}
                | {overloaded, Current :: non_neg_integer(), Max :: pos_integer()}
                | timeout | cancelled | not_running.
-type result() :: {ok, term()} | {error, reason()}.
-type mode() :: multi_executor | subinterp | free_threaded.

-define(IS_TIMEOUT(T), (T =:= infinity orelse (is_integer(T) andalso T >= 0 andalso T =< 16#FFFFFFFF))).

%%% Calls

%% @equiv call(Module, Function, Args, #{}, infinity)
-spec call(Module :: name(), Function :: name(), Args :: [term()]) -> result().
call(Module, Function, Args) ->
    call(Module, Function, Args, #{}, infinity).

%% @doc `call(Module, Function, Args, Kwargs)', or `call(Place, Module, Function, Args)'
%% with a pool or a context.  In place of Kwargs there may be `{opts, Options}'.
-spec call(Module :: name(), Function :: name(), Args :: [term()], kwargs() | {opts, map()}) -> result();
          (place(), Module :: name(), Function :: name(), Args :: [term()]) -> result().
call(Module, Function, Args, {opts, _} = Options) ->
    checked_call(undefined, Module, Function, Args, #{}, Options);
call(First, Second, Third, Fourth) ->
    case is_placed(Third, Fourth) of
        true -> checked_call({in, First}, Second, Third, Fourth, #{}, infinity);
        false -> call(First, Second, Third, Fourth, infinity)
    end.

%% @doc Calls a Python function.  The module is imported if need be; the function
%% may be dotted, as in `py:call(os, 'path.join', [A, B])'.  In the module
%% `` '__main__' '' the functions are those that the calling process defined by
%% exec/1.  After Timeout milliseconds the answer is `{error, timeout}' and the
%% Python code is interrupted.
%%
%% Also `call(Place, Module, Function, Args, Kwargs)' and
%% `call(Place, Module, Function, Args, Options)'.
-spec call(Module :: name(), Function :: name(), Args :: [term()], kwargs(), options()) -> result();
          (place(), Module :: name(), Function :: name(), Args :: [term()], kwargs() | options()) -> result().
call(Module, Function, Args, Kwargs, Timeout) when
      is_atom(Module), is_atom(Function), is_list(Args), map_size(Kwargs) =:= 0, ?IS_TIMEOUT(Timeout) ->
    py_request:call(Module, Function, Args, Kwargs, Timeout);
call(First, Second, Third, Fourth, Fifth) ->
    case is_placed(Third, Fourth) of
        false ->
            checked_call(undefined, First, Second, Third, Fourth, Fifth);
        true ->
            {Kwargs, Options} = py_args:kwargs_or_options(Fifth),
            checked_call({in, First}, Second, Third, Fourth, Kwargs, Options)
    end.

%% @doc Calls a function in a pool or a context.
-spec call(place(), Module :: name(), Function :: name(), Args :: [term()], kwargs(), options()) -> result().
call(Place, Module, Function, Args, Kwargs, Options) ->
    checked_call({in, Place}, Module, Function, Args, Kwargs, Options).

%% @equiv apply(Module, Function, Args, #{})
-spec apply(Module :: name(), Function :: name(), Args :: [term()]) -> term().
apply(Module, Function, Args) ->
    ?MODULE:apply(Module, Function, Args, #{}).

%% @doc The bare value of a call.  Raises `error:{python, Type, Message}' for a Python
%% exception, with the innermost Python frames on top of the stacktrace, and
%% `error:{python, Reason}' for any other error.
-spec apply(Module :: name(), Function :: name(), Args :: [term()], kwargs() | options()) -> term().
apply(Module, Function, Args, KwargsOrOptions) ->
    {Kwargs, Options} = py_args:kwargs_or_options(KwargsOrOptions),
    case apply_full(Module, Function, Args, Kwargs, Options) of
        {ok, Value} -> Value;
        {error, Reason} -> py_error:raise(Reason, [Module, Function, Args, KwargsOrOptions])
    end.

apply_full(Module, Function, Args, Kwargs, Options) ->
    run(fun() ->
                Checked = py_args:options(Options, [timeout, return, binary, atom]),
                {undefined, call, py_args:call(Module, Function, Args, Kwargs), py_args:errors_full(Checked)}
        end).

%% @doc What a shell prints of an exception that apply/3,4 raised: see EEP 54.
-spec format_error(Reason :: term(), erlang:stacktrace()) -> #{reason | general => binary()}.
format_error(Reason, Stacktrace) ->
    py_error:format(Reason, Stacktrace).

%% Is this `(Place, Module, Function, Args, ...)'?  Third and Fourth are then the function
%% and the arguments, else the arguments and a map.
is_placed(Third, Fourth) ->
    is_list(Fourth) andalso py_args:is_name(Third).

checked_call(Place, Module, Function, Args, Kwargs, Options) ->
    run(fun() ->
                {py_args:place(Place), call, py_args:call(Module, Function, Args, Kwargs), py_args:options(Options)}
        end).

%%% Code

%% @equiv eval(Code, #{}, infinity)
-spec eval(code()) -> result().
eval(Code) ->
    eval(Code, #{}, infinity).

%% @doc `eval(Code, Locals)', or `eval(Context, Code)'.
-spec eval(code(), locals()) -> result();
          (Context :: pid(), code()) -> result().
eval(Context, Code) when is_pid(Context) ->
    checked_eval({in, Context}, Code, #{}, infinity);
eval(Code, Locals) ->
    eval(Code, Locals, infinity).

%% @doc The value of a Python expression, in the namespace of the calling
%% process with Locals laid over it.  `eval(Context, Code, Locals)' evaluates in the
%% namespace of that context.
-spec eval(code(), locals(), options()) -> result();
          (Context :: pid(), code(), locals()) -> result().
eval(Context, Code, Locals) when is_pid(Context) ->
    checked_eval({in, Context}, Code, Locals, infinity);
eval(Code, Locals, Options) ->
    checked_eval(undefined, Code, Locals, Options).

checked_eval(Place, Code, Locals, Options) ->
    run(fun() -> {py_args:place(Place), eval, py_args:eval(Code, Locals), py_args:options(Options)} end).

%% @doc Runs Python statements in the namespace of the calling process.  What
%% they define is there for eval, exec and `py:call('__main__', ...)' of this
%% process, and for nobody else.
-spec exec(code()) -> ok | {error, reason()}.
exec(Code) ->
    run(fun() -> {undefined, exec, py_args:exec(Code), py_args:options(infinity)} end).

%% @doc The same in the namespace of a context.
-spec exec(Context :: pid(), code()) -> ok | {error, reason()}.
exec(Context, Code) ->
    run(fun() -> {py_args:context(Context), exec, py_args:exec(Code), py_args:options(infinity)} end).

%% @doc Loads a module anew in every interpreter that has loaded it, so that afterwards none
%% runs its old code.
-spec reload(Module :: name()) -> ok | {error, reason()}.
reload(Module) ->
    case py_args:checked(fun() -> py_args:module(Module) end) of
        {ok, Name} -> py_setup:reload(Name);
        {error, _} = Error -> Error
    end.

%%% Asynchronous calls

%% @doc Calls a function whose result nobody wants to know.  An error is logged.
-spec cast(Module :: name(), Function :: name(), Args :: [term()]) -> ok | {error, reason()}.
cast(Module, Function, Args) ->
    checked_cast(undefined, Module, Function, Args, #{}).

%% @doc `cast(Module, Function, Args, Kwargs)' or `cast(Place, Module, Function, Args)'.  In
%% place of Kwargs there may be `{opts, Options}', without `timeout' and `return'.
-spec cast(Module :: name(), Function :: name(), Args :: [term()], kwargs() | options()) -> ok | {error, reason()};
          (place(), Module :: name(), Function :: name(), Args :: [term()]) -> ok | {error, reason()}.
cast(First, Second, Third, Fourth) ->
    case is_placed(Third, Fourth) of
        true -> checked_cast({in, First}, Second, Third, Fourth, #{});
        false -> checked_cast(undefined, First, Second, Third, Fourth)
    end.

%% @doc The same in a pool or a context.
-spec cast(place(), Module :: name(), Function :: name(), Args :: [term()], kwargs() | options()) ->
          ok | {error, reason()}.
cast(Place, Module, Function, Args, KwargsOrOptions) ->
    checked_cast({in, Place}, Module, Function, Args, KwargsOrOptions).

checked_cast(Place, Module, Function, Args, KwargsOrOptions) ->
    case checked_terms(Place, Module, Function, Args, KwargsOrOptions, [errors, binary, atom]) of
        {ok, {In, Terms, Flags}} -> py_request:cast(In, call, Terms, Flags);
        {error, _} = Error -> Error
    end.

%% @doc Begins a call.  Its result is what await/1,2 gives for the reference, in the same
%% process; the message that brings it has no documented shape.  The call ends with the
%% process.
-spec spawn_call(Module :: name(), Function :: name(), Args :: [term()]) -> reference().
spawn_call(Module, Function, Args) ->
    begin_call(undefined, Module, Function, Args, #{}).

%% @doc `spawn_call(Module, Function, Args, Kwargs)' or
%% `spawn_call(Place, Module, Function, Args)'.  In place of Kwargs there may be
%% `{opts, Options}', without `timeout', which is await/2's.
-spec spawn_call(Module :: name(), Function :: name(), Args :: [term()], kwargs() | options()) -> reference();
                (place(), Module :: name(), Function :: name(), Args :: [term()]) -> reference().
spawn_call(First, Second, Third, Fourth) ->
    case is_placed(Third, Fourth) of
        true -> begin_call({in, First}, Second, Third, Fourth, #{});
        false -> begin_call(undefined, First, Second, Third, Fourth)
    end.

%% @doc The same in a pool or a context.
-spec spawn_call(place(), Module :: name(), Function :: name(), Args :: [term()], kwargs() | options()) ->
          reference().
spawn_call(Place, Module, Function, Args, KwargsOrOptions) ->
    begin_call({in, Place}, Module, Function, Args, KwargsOrOptions).

%% A call that is refused has a reference too, so that there is one place to look for errors.
begin_call(Place, Module, Function, Args, KwargsOrOptions) ->
    Begun = case checked_terms(Place, Module, Function, Args, KwargsOrOptions, [return, errors, binary, atom]) of
                {ok, {In, Terms, Flags}} -> py_request:async(In, call, Terms, Flags);
                {error, _} = Error -> Error
            end,
    case Begun of
        {ok, Ref} -> Ref;
        {error, Reason} -> py_request:failed(Reason)
    end.

%% @doc The older name of spawn_call/3.
-spec call_async(Module :: name(), Function :: name(), Args :: [term()]) -> reference().
call_async(Module, Function, Args) ->
    spawn_call(Module, Function, Args).

%% @doc The older name of spawn_call/4.
-spec call_async(Module :: name(), Function :: name(), Args :: [term()], kwargs() | options()) -> reference();
                (place(), Module :: name(), Function :: name(), Args :: [term()]) -> reference().
call_async(First, Second, Third, Fourth) ->
    spawn_call(First, Second, Third, Fourth).

%% @equiv await(Ref, infinity)
-spec await(reference()) -> result().
await(Ref) ->
    await(Ref, infinity).

%% @doc Waits for the result of spawn_call.  After Timeout milliseconds the call is
%% cancelled and the answer is `{error, timeout}'; no message comes then.  For a
%% reference that was cancelled or awaited already, or is not of this process, the answer
%% is `{error, cancelled}'.
-spec await(reference(), timeout()) -> result().
await(Ref, Timeout) ->
    case py_args:checked(fun() -> {py_args:reference(Ref), py_args:timeout(Timeout)} end) of
        {ok, _} -> py_request:await(Ref, Timeout);
        {error, _} = Error -> Error
    end.

%% @doc Ends a call that this process began by spawn_call, and takes its result out of the
%% mailbox if it is there already: no message comes afterwards, and await/1 gives
%% `{error, cancelled}'.
-spec cancel(reference()) -> ok | {error, reason()}.
cancel(Ref) ->
    case py_args:checked(fun() -> py_args:reference(Ref) end) of
        {ok, _} -> py_request:cancel(Ref);
        {error, _} = Error -> Error
    end.

%% @doc Runs calls at once, spread over all interpreters of the default pool.  The results
%% are in the order of the calls, and each is one of its own: an error does not end the
%% others.
-spec parallel([{name(), name(), [term()]} | {name(), name(), [term()], kwargs()}]) ->
          {ok, [result()]} | {error, reason()}.
parallel(Calls) ->
    case py_args:checked(fun() -> py_args:items(Calls) end) of
        {ok, Items} -> py_request:parallel(Items);
        {error, _} = Error -> Error
    end.

%%% Streams

%% @equiv stream(Module, Function, Args, #{}, infinity)
-spec stream(Module :: name(), Function :: name(), Args :: [term()]) -> {ok, [term()]} | {error, reason()}.
stream(Module, Function, Args) ->
    stream(Module, Function, Args, #{}, infinity).

%% @doc `stream(Module, Function, Args, Kwargs)', or `{opts, Options}' or a timeout in place
%% of Kwargs.
-spec stream(Module :: name(), Function :: name(), Args :: [term()], kwargs() | options()) ->
          {ok, [term()]} | {error, reason()}.
stream(Module, Function, Args, KwargsOrOptions) ->
    {Kwargs, Options} = py_args:kwargs_or_options(KwargsOrOptions),
    stream(Module, Function, Args, Kwargs, Options).

%% @doc All that a call's value yields: of a generator, an iterator, an asynchronous one of
%% either, or anything else that Python iterates over.  The timeout is for all of it.
%% Options: `timeout', `errors', `binary', `atom'.
-spec stream(Module :: name(), Function :: name(), Args :: [term()], kwargs(), options()) ->
          {ok, [term()]} | {error, reason()}.
stream(Module, Function, Args, Kwargs, Options) ->
    collect(call, fun() -> py_args:call(Module, Function, Args, Kwargs) end, Options).

%% @equiv stream_eval(Code, #{}, infinity)
-spec stream_eval(code()) -> {ok, [term()]} | {error, reason()}.
stream_eval(Code) ->
    stream_eval(Code, #{}, infinity).

%% @doc `stream_eval(Code, Locals)', or options in place of Locals.
-spec stream_eval(code(), locals() | options()) -> {ok, [term()]} | {error, reason()}.
stream_eval(Code, LocalsOrOptions) ->
    {Locals, Options} = py_args:kwargs_or_options(LocalsOrOptions),
    stream_eval(Code, Locals, Options).

%% @doc The same for the value of an expression.
-spec stream_eval(code(), locals(), options()) -> {ok, [term()]} | {error, reason()}.
stream_eval(Code, Locals, Options) ->
    collect(eval, fun() -> py_args:eval(Code, Locals) end, Options).

collect(Op, Terms, Options) ->
    case py_args:checked(fun() -> {Terms(), py_stream:options(Options)} end) of
        {ok, {Checked, Of}} -> py_stream:collect(Op, Checked, Of);
        {error, _} = Error -> Error
    end.

%% @equiv stream_start(Module, Function, Args, #{}, {opts, #{}})
-spec stream_start(Module :: name(), Function :: name(), Args :: [term()]) ->
          {ok, reference()} | {error, reason()}.
stream_start(Module, Function, Args) ->
    stream_start(Module, Function, Args, #{}, {opts, #{}}).

%% @doc `stream_start(Module, Function, Args, Kwargs)', or `{opts, Options}' in place of Kwargs.
-spec stream_start(Module :: name(), Function :: name(), Args :: [term()], kwargs() | py_stream:options()) ->
          {ok, reference()} | {error, reason()}.
stream_start(Module, Function, Args, {opts, _} = Options) ->
    stream_start(Module, Function, Args, #{}, Options);
stream_start(Module, Function, Args, Kwargs) ->
    stream_start(Module, Function, Args, Kwargs, {opts, #{}}).

%% @doc Begins a stream to the calling process, which gets a message
%% `{py_stream, Ref, {data, Value}}' for each item, and in the end `{py_stream, Ref, done}' or
%% `{py_stream, Ref, {error, Reason}}'.
%%
%% Options: `credit', how many items come before stream_ack/2 asks for more, `infinity' if not
%% given; `batch', how many items Python makes at most before they are sent; `errors',
%% `binary', `atom'.  The generator never runs ahead of the credit, not even to find out that
%% it ends.  It is closed when the stream is cancelled, when the calling process ends and when
%% the application stops.
-spec stream_start(Module :: name(), Function :: name(), Args :: [term()], kwargs(), py_stream:options()) ->
          {ok, reference()} | {error, reason()}.
stream_start(Module, Function, Args, Kwargs, Options) ->
    case py_args:checked(fun() ->
                                 {py_args:call(Module, Function, Args, Kwargs), py_stream:start_options(Options)}
                         end) of
        {ok, {Terms, Of}} -> py_stream:start(Terms, Of);
        {error, _} = Error -> Error
    end.

%% @doc Asks a stream for N items more.  For a stream that has ended this does nothing.
-spec stream_ack(reference(), pos_integer()) -> ok | {error, reason()}.
stream_ack(Ref, N) ->
    case py_args:checked(fun() -> {py_args:reference(Ref), py_args:positive(credit, N)} end) of
        {ok, _} -> py_stream:ack(Ref, N);
        {error, _} = Error -> Error
    end.

%% @doc Ends a stream.  No message of it comes afterwards, and those that are in the mailbox of
%% the calling process are taken out.  For a stream that has ended this does nothing else.
-spec stream_cancel(reference()) -> ok | {error, reason()}.
stream_cancel(Ref) ->
    case py_args:checked(fun() -> py_args:reference(Ref) end) of
        {ok, _} -> py_stream:cancel(Ref);
        {error, _} = Error -> Error
    end.

%%% Coroutines, on the event loop of py_event_loop:get_loop/0

%% @equiv async_call(Module, Function, Args, #{})
-spec async_call(Module :: name(), Function :: name(), Args :: [term()]) -> reference().
async_call(Module, Function, Args) ->
    async_call(Module, Function, Args, #{}).

%% @doc Begins to run a coroutine, as py_event_loop:create_task/4 does.  Its result is what
%% async_await/1,2 gives for the reference, in the same process, and so is what kept it from
%% beginning.  In place of Kwargs there may be `{opts, Options}' of py_event_loop.
-spec async_call(Module :: name(), Function :: name(), Args :: [term()],
                 kwargs() | {opts, py_event_loop:settings()}) -> reference().
async_call(Module, Function, Args, KwargsOrOptions) ->
    case py_event_loop:create_task(Module, Function, Args, task_options(KwargsOrOptions)) of
        {ok, Ref} -> Ref;
        {error, Reason} -> py_request:failed(Reason)
    end.

task_options({opts, _} = Options) -> Options;
task_options(Kwargs) -> {opts, #{kwargs => Kwargs}}.

%% @equiv await(Ref)
-spec async_await(reference()) -> result().
async_await(Ref) ->
    await(Ref).

%% @equiv await(Ref, Timeout)
-spec async_await(reference(), timeout()) -> result().
async_await(Ref, Timeout) ->
    await(Ref, Timeout).

%% @equiv async_gather(Calls, infinity)
-spec async_gather([{name(), name(), [term()]} | {name(), name(), [term()], kwargs()}]) ->
          {ok, [result()]} | {error, reason()}.
async_gather(Calls) ->
    async_gather(Calls, infinity).

%% @doc Runs coroutines at once.  The results are in the order of the calls, and each is one of
%% its own: an error does not end the others.  Those that have not ended after the timeout are
%% cancelled, and `{error, timeout}'.  Options are those of py_event_loop:run/4 but `kwargs'.
-spec async_gather([{name(), name(), [term()]} | {name(), name(), [term()], kwargs()}], options()) ->
          {ok, [result()]} | {error, reason()}.
async_gather(Calls, Options) ->
    case py_args:checked(fun() -> py_event_loop:tasks(py_args:items(Calls), Options) end) of
        {ok, {Tasks, Timeout}} -> py_event_loop:gather(Tasks, Timeout);
        {error, _} = Error -> Error
    end.

%% @equiv async_stream(Module, Function, Args, #{})
-spec async_stream(Module :: name(), Function :: name(), Args :: [term()]) -> {ok, [term()]} | {error, reason()}.
async_stream(Module, Function, Args) ->
    async_stream(Module, Function, Args, #{}).

%% @doc All that an asynchronous generator, or any other asynchronous iterator, yields on the
%% event loop.  In place of Kwargs there may be a timeout, which is for all of it, or
%% `{opts, Options}' of py_event_loop:run/4.
-spec async_stream(Module :: name(), Function :: name(), Args :: [term()],
                   kwargs() | timeout() | {opts, py_event_loop:settings()}) ->
          {ok, [term()]} | {error, reason()}.
async_stream(Module, Function, Args, KwargsOrOptions) ->
    case py_args:checked(fun() -> py_event_loop:stream(Module, Function, Args, KwargsOrOptions) end) of
        {ok, Task} -> py_event_loop:collect(Task);
        {error, _} = Error -> Error
    end.

%%% Objects

%% @equiv getattr(Handle, Name, infinity)
-spec getattr(handle(), name()) -> result().
getattr(Handle, Name) ->
    getattr(Handle, Name, infinity).

%% @doc An attribute of an object.  Name may be dotted, as in `'a.b'': that of an attribute.
-spec getattr(handle(), name(), options()) -> result().
getattr(Handle, Name, Options) ->
    py_object:getattr(Handle, Name, Options).

%% @doc Sets an attribute of an object.
-spec setattr(handle(), name(), term()) -> ok | {error, reason()}.
setattr(Handle, Name, Value) ->
    py_object:setattr(Handle, Name, Value).

%% @equiv call_method(Handle, Name, Args, #{}, infinity)
-spec call_method(handle(), name(), [term()]) -> result().
call_method(Handle, Name, Args) ->
    call_method(Handle, Name, Args, #{}, infinity).

%% @doc The same with keyword arguments, or with options of ours.
-spec call_method(handle(), name(), [term()], kwargs() | options()) -> result().
call_method(Handle, Name, Args, KwargsOrOptions) ->
    {Kwargs, Options} = py_args:kwargs_or_options(KwargsOrOptions),
    call_method(Handle, Name, Args, Kwargs, Options).

%% @doc Calls a method of an object.  Name may be dotted.
-spec call_method(handle(), name(), [term()], kwargs(), options()) -> result().
call_method(Handle, Name, Args, Kwargs, Options) ->
    py_object:call_method(Handle, Name, Args, Kwargs, Options).

%% @equiv call_object(Handle, Args, #{}, infinity)
-spec call_object(handle(), [term()]) -> result().
call_object(Handle, Args) ->
    call_object(Handle, Args, #{}, infinity).

%% @doc The same with keyword arguments, or with options of ours.
-spec call_object(handle(), [term()], kwargs() | options()) -> result().
call_object(Handle, Args, KwargsOrOptions) ->
    {Kwargs, Options} = py_args:kwargs_or_options(KwargsOrOptions),
    call_object(Handle, Args, Kwargs, Options).

%% @doc Calls an object.
-spec call_object(handle(), [term()], kwargs(), options()) -> result().
call_object(Handle, Args, Kwargs, Options) ->
    py_object:call(Handle, Args, Kwargs, Options).

%% @equiv to_term(Handle, infinity)
-spec to_term(handle()) -> result().
to_term(Handle) ->
    to_term(Handle, infinity).

%% @doc The value of an object.  For one that has no value of its own it is a handle.
-spec to_term(handle(), options()) -> result().
to_term(Handle, Options) ->
    py_object:to_term(Handle, Options).

%% @doc Is this a handle of an object that lives, on whichever node?
-spec is_ref(term()) -> boolean().
is_ref(Term) ->
    py_object:is_ref(Term).

%%% Callbacks

%% @doc Lets Python call Fun as `erlang.call(Name, ...)' and as `erlang.Name(...)'.  It gets
%% the list of the arguments and runs in the process that called Python, or in one of its own
%% where nobody waits.
-spec register_function(py_callback:name(), fun(([term()]) -> term())) ->
          ok | {error, not_running | {exception(), binary()}}.
register_function(Name, Fun) ->
    py_callback:register(Name, Fun).

%% @doc The same for `Module:Function(Args)'.
-spec register_function(py_callback:name(), module(), Function :: atom()) ->
          ok | {error, not_running | {exception(), binary()}}.
register_function(Name, Module, Function) ->
    py_callback:register(Name, {Module, Function}).

%% @doc Takes a function back.
-spec unregister_function(py_callback:name()) -> ok | {error, not_running}.
unregister_function(Name) ->
    py_callback:unregister(Name).

%%% Shared state

%% @equiv py_state:fetch(Key)
-spec state_fetch(py_state:key()) -> {ok, term()} | {error, not_found | not_running}.
state_fetch(Key) ->
    py_state:fetch(Key).

%% @equiv py_state:store(Key, Value)
-spec state_store(py_state:key(), term()) -> ok | {error, not_running}.
state_store(Key, Value) ->
    py_state:store(Key, Value).

%% @equiv py_state:remove(Key)
-spec state_remove(py_state:key()) -> ok | {error, not_running}.
state_remove(Key) ->
    py_state:remove(Key).

%% @equiv py_state:keys()
-spec state_keys() -> [py_state:key()] | {error, not_running}.
state_keys() ->
    py_state:keys().

%% @equiv py_state:clear()
-spec state_clear() -> ok | {error, not_running}.
state_clear() ->
    py_state:clear().

%% @equiv py_state:incr(Key)
-spec state_incr(py_state:key()) -> New :: integer() | {error, not_running | {exception(), binary()}}.
state_incr(Key) ->
    py_state:incr(Key).

%% @equiv py_state:incr(Key, N)
-spec state_incr(py_state:key(), N :: integer()) -> New :: integer() | {error, not_running | {exception(), binary()}}.
state_incr(Key, N) ->
    py_state:incr(Key, N).

%% @equiv py_state:decr(Key)
-spec state_decr(py_state:key()) -> New :: integer() | {error, not_running | {exception(), binary()}}.
state_decr(Key) ->
    py_state:decr(Key).

%% @equiv py_state:decr(Key, N)
-spec state_decr(py_state:key(), N :: integer()) -> New :: integer() | {error, not_running | {exception(), binary()}}.
state_decr(Key, N) ->
    py_state:decr(Key, N).

%%% Logs and traces

%% @equiv configure_logging(#{})
-spec configure_logging() -> ok | {error, reason()}.
configure_logging() ->
    configure_logging(#{}).

%% @doc Has Python's `logging' log to Erlang's `logger' what has this level at least: see
%% py_logger:configure/1.
-spec configure_logging(#{level => logger:level() | all | none}) -> ok | {error, reason()}.
configure_logging(Options) ->
    py_logger:configure(Options).

%% @doc Has spans made from now on, in Python by `erlang.Span' and `@erlang.trace()', in Erlang
%% by py_tracer:span/3.
-spec enable_tracing() -> ok | {error, not_running}.
enable_tracing() ->
    py_tracer:enable().

%% @doc Has none made any more.
-spec disable_tracing() -> ok | {error, not_running}.
disable_tracing() ->
    py_tracer:disable().

%% @doc The spans that have ended, the oldest first.
-spec get_traces() -> {ok, [py_tracer:span()]} | {error, not_running}.
get_traces() ->
    py_tracer:get_traces().

%% @doc Forgets them.
-spec clear_traces() -> ok | {error, not_running}.
clear_traces() ->
    py_tracer:clear().

%%% Contexts and pools

%% @doc The context of the calling process: the one that it is bound to, else the same one
%% at each call.  Contexts are started by the first call if need be.
-spec context() -> pid() | {error, reason()}.
context() ->
    py_context_router:get_context().

%% @doc A context by its number, from 1.
-spec context(pos_integer()) -> pid() | {error, reason()}.
context(N) ->
    py_context_router:get_context(N).

%% @doc Starts `num_contexts' contexts.
-spec start_contexts() -> {ok, [pid()]} | {error, reason()}.
start_contexts() ->
    py_context_router:start().

%% @doc Starts so many contexts, or as a map says: `#{contexts => N, mode => Mode}'.
-spec start_contexts(pos_integer() | py_context_router:options()) -> {ok, [pid()]} | {error, reason()}.
start_contexts(Options) ->
    py_context_router:start(Options).

%% @doc Ends them.
-spec stop_contexts() -> ok | {error, reason()}.
stop_contexts() ->
    py_context_router:stop().

%% @doc Do contexts run?
-spec contexts_started() -> boolean().
contexts_started() ->
    py_context_router:is_started().

%% @doc Ends what runs in a context just now; its callers get `{error, cancelled}'.
-spec interrupt(Context :: pid()) -> ok | {error, reason()}.
interrupt(Context) ->
    py_context:interrupt(Context).

%% @doc Lets plain calls of a module, or of one function, go to a pool.  The function wins.
-spec register_pool(Pool :: atom(), Module :: atom() | {Module :: atom(), Function :: atom()}) ->
          ok | {error, reason()}.
register_pool(Pool, Registered) ->
    py_context_router:register_pool(Pool, Registered).

%% @doc Takes that back.
-spec unregister_pool(Module :: atom() | {Module :: atom(), Function :: atom()}) -> ok | {error, reason()}.
unregister_pool(Registered) ->
    py_context_router:unregister_pool(Registered).

%%% Sub-interpreters

%% @doc A sub-interpreter of one's own, with its own GIL.  It is a context, and lives until
%% subinterp_destroy/1 or the stop of the application.
-spec subinterp_create() -> {ok, Interp :: pid()} | {error, reason()}.
subinterp_create() ->
    py_context_sup:start_context(subinterp, owngil, #{}).

%% @doc Ends it, and what runs in it.
-spec subinterp_destroy(Interp :: pid()) -> ok | {error, reason()}.
subinterp_destroy(Interp) ->
    py_context:destroy(Interp).

%% @doc Calls a function in a sub-interpreter, or in a pool of them.
-spec subinterp_call(Interp :: place(), name(), name(), [term()]) -> result().
subinterp_call(Interp, Module, Function, Args) ->
    call(Interp, Module, Function, Args, #{}, infinity).

%% @doc The same with keyword arguments.
-spec subinterp_call(Interp :: place(), name(), name(), [term()], kwargs()) -> result().
subinterp_call(Interp, Module, Function, Args, Kwargs) ->
    call(Interp, Module, Function, Args, Kwargs, infinity).

%% @doc The value of an expression in its namespace.
-spec subinterp_eval(Interp :: pid(), code()) -> result().
subinterp_eval(Interp, Code) ->
    subinterp_eval(Interp, Code, #{}).

%% @doc The same with Locals laid over it.
-spec subinterp_eval(Interp :: pid(), code(), locals()) -> result().
subinterp_eval(Interp, Code, Locals) ->
    py_context:eval(Interp, Code, Locals).

%% @doc Runs statements in its namespace.
-spec subinterp_exec(Interp :: pid(), code()) -> ok | {error, reason()}.
subinterp_exec(Interp, Code) ->
    exec(Interp, Code).

%% @doc cast/5 without keyword arguments.
-spec subinterp_cast(Interp :: place(), name(), name(), [term()]) -> ok | {error, reason()}.
subinterp_cast(Interp, Module, Function, Args) ->
    cast(Interp, Module, Function, Args, #{}).

%% @doc spawn_call/5 without keyword arguments.
-spec subinterp_async_call(Interp :: place(), name(), name(), [term()]) -> reference().
subinterp_async_call(Interp, Module, Function, Args) ->
    spawn_call(Interp, Module, Function, Args, #{}).

%% @equiv await(Ref)
-spec subinterp_await(reference()) -> result().
subinterp_await(Ref) ->
    await(Ref).

%% @equiv await(Ref, Timeout)
-spec subinterp_await(reference(), timeout()) -> result().
subinterp_await(Ref, Timeout) ->
    await(Ref, Timeout).

%% @doc A pool named `subinterp' of as many sub-interpreters as there are schedulers.
-spec subinterp_pool_start() -> ok | {error, reason()}.
subinterp_pool_start() ->
    subinterp_pool_start(erlang:system_info(schedulers_online)).

%% @doc The same of this size.
-spec subinterp_pool_start(Size :: pos_integer()) -> ok | {error, reason()}.
subinterp_pool_start(Size) ->
    py_context_router:open_pool(subinterp, Size, owngil).

%% @doc Ends that pool, and what runs in it.
-spec subinterp_pool_stop() -> ok | {error, reason()}.
subinterp_pool_stop() ->
    py_context_router:stop_pool(subinterp).

%% @doc Does that pool run?
-spec subinterp_pool_ready() -> boolean().
subinterp_pool_ready() ->
    py_context_router:pool_started(subinterp).

%% @doc What info/0 says of that pool.
-spec subinterp_pool_stats() -> {ok, map()} | {error, reason()}.
subinterp_pool_stats() ->
    py_info:pool(subinterp).

%%% Operations

%% @doc How Python runs in parallel on this node.
-spec execution_mode() -> mode() | {error, not_running}.
execution_mode() ->
    running_info(fun({_, Mode, _, _, _, _, _}) -> Mode end).

%% @doc How many threads serve calls.
-spec num_executors() -> pos_integer() | {error, not_running}.
num_executors() ->
    running_info(fun({_, _, _, _, Executors, _, _}) -> Executors end).

%% @doc The version of Python, as `sys.version' has it.
-spec version() -> {ok, binary()} | {error, not_running}.
version() ->
    running_info(fun({_, _, Version, _, _, _, _}) -> {ok, Version} end).

%% @doc Does this Python run sub-interpreters with a GIL of their own?
-spec subinterp_supported() -> boolean() | {error, not_running}.
subinterp_supported() ->
    running_info(fun({_, _, _, _, _, HasSubinterps, _}) -> HasSubinterps end).

%% @doc What runs, waits, is stuck and was counted; docs/guide/pools.md explains the keys.
-spec info() -> map() | {error, not_running}.
info() ->
    running_info(fun py_info:info/1).

%% @doc The Python stack of every executor, also of those that are stuck.  An interpreter
%% that does not answer within five seconds, as one of its threads sits in a C call that
%% holds the GIL, is listed with its error.
-spec stacks() -> {ok, [map()]} | {error, not_running}.
stacks() ->
    running_info(fun(_) -> py_info:stacks() end).

%% @doc What the garbage collectors of all interpreters count: `gc_stats' per generation,
%% `gc_count', `gc_threshold', `interpreters' with the same of each, and the traced memory
%% while tracemalloc runs.
-spec memory_stats() -> {ok, map()} | {error, reason()}.
memory_stats() ->
    running_info(fun(_) -> py_info:memory_stats() end).

%% @doc Collects garbage in all interpreters: how many objects were found.
-spec gc() -> {ok, non_neg_integer()} | {error, reason()}.
gc() ->
    gc(2).

%% @doc The same up to this generation, 0 to 2.
-spec gc(0..2) -> {ok, non_neg_integer()} | {error, reason()}.
gc(Generation) ->
    running_info(fun(_) -> py_info:gc(Generation) end).

%% @equiv tracemalloc_start(1)
-spec tracemalloc_start() -> ok | {error, reason()}.
tracemalloc_start() ->
    tracemalloc_start(1).

%% @doc Begins to trace the memory that Python allocates, with so many frames of each
%% allocation.  Up to 3.13 Python can do that only where one GIL serves all, so it is an
%% error in the modes `subinterp' and `free_threaded' and while there are sub-interpreters.
-spec tracemalloc_start(Frames :: pos_integer()) -> ok | {error, reason()}.
tracemalloc_start(Frames) ->
    running_info(fun(_) -> py_info:tracemalloc_start(Frames) end).

%% @doc Ends it, and forgets what was traced.
-spec tracemalloc_stop() -> ok | {error, reason()}.
tracemalloc_stop() ->
    running_info(fun(_) -> py_info:tracemalloc_stop() end).

%% @doc A duplicate of a file descriptor, given by its number or as a socket of Erlang's: for Python
%% code that is to close what it gets, while Erlang keeps its own.  Who gets the number closes it,
%% by `os.close' or with the file or socket that is made of it; Erlang's end does not.  Programs
%% that are started do not inherit it.
-spec dup_fd(non_neg_integer() | inet:socket() | socket:socket()) ->
          {ok, Fd :: non_neg_integer()} | {error, reason()}.
dup_fd(Source) ->
    running_info(fun(_) -> py_fd:dup(Source) end).

running_info(Fun) ->
    case py_nif:info() of
        {_, _, _, running, _, _, _} = Info -> Fun(Info);
        _ -> {error, not_running}
    end.

%%% Arguments

%% Runs the request that Checks makes of the arguments, unless it refuses them.
run(Checks) ->
    case py_args:checked(Checks) of
        {ok, {Place, Op, Terms, #{timeout := Timeout, flags := Flags}}} ->
            py_request:run(Place, Op, Terms, Timeout, Flags);
        {error, _} = Error ->
            Error
    end.

%% For requests that do not wait, with those options.
checked_terms(Place, Module, Function, Args, KwargsOrOptions, Keys) ->
    py_args:checked(fun() ->
                            {Kwargs, Options} = asynchronous(KwargsOrOptions),
                            #{flags := Flags} = py_args:options(Options, Keys),
                            {py_args:place(Place), py_args:call(Module, Function, Args, Kwargs), Flags}
                    end).

asynchronous({opts, _} = Options) -> {#{}, Options};
asynchronous(Kwargs) -> {Kwargs, {opts, #{}}}.
