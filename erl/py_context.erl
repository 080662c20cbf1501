%% SPDX-License-Identifier: Apache-2.0
%% @doc A context: a process that stands for one namespace of one interpreter, with an
%% executor of its own, so that what one request defines the next one finds, whoever makes it.
%%
%% Requests do not go through the process: the caller finds the namespace by the pid and
%% submits by itself.  The process is the context's lifetime and nothing else.
%%
%% Modes: `worker', on the main interpreter; `owngil', a sub-interpreter of its own; `auto', the
%% main interpreter or, in `subinterp' mode, one of the default pool's.
-module(py_context).
-behaviour(gen_server).

-export([start_link/1, start_link/2, start_link/3, new/1, stop/1, destroy/1]).
-export([call/4, call/5, call/6, eval/2, eval/3, eval/4, exec/2, call_method/4, to_term/1]).
-export([interrupt/1, get_interp_id/1]).
-export([request_stop/1]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).
-export_type([mode/0, options/0]).

-type mode() :: auto | worker | owngil.
%% preload: code that runs in the context when it starts.  memory_limit: bytes, for `owngil'.
%% thread: all requests run on the same thread, which some libraries need; then nothing else
%% runs in the context while a request waits in a callback or is stuck.
-type options() :: #{preload => py:code(), memory_limit => non_neg_integer(), thread => boolean()}.
-type start_ret() :: {ok, pid()} | {error, py:reason()}.

-record(state, {namespace :: py_nif:namespace(),
                registry :: reference(),       % the monitor of py_contexts
                owner :: reference() | none}). % that of the process whose end is the context's

%% How long requests have to end by themselves.
-define(STOP_DRAIN, 5000).
-define(SHUTDOWN_DRAIN, 1000).

%%% Life

%% @equiv start_link(Id, auto)
-spec start_link(Id :: term()) -> start_ret().
start_link(Id) ->
    start_link(Id, auto).

%% @equiv start_link(Id, Mode, #{})
-spec start_link(Id :: term(), mode()) -> start_ret().
start_link(Id, Mode) ->
    start_link(Id, Mode, #{}).

%% @doc Starts a context that is linked to the calling process, as supervisors want it.  Id
%% is shown by py:info/0.
-spec start_link(Id :: term(), mode(), options()) -> start_ret().
start_link(Id, Mode, Options) ->
    case checked(Mode, Options) of
        {ok, Checked} -> started(gen_server:start_link(?MODULE, {none, Id, Mode, Checked}, []));
        {error, _} = Error -> Error
    end.

%% @doc Starts a context that ends with the calling process; the end of the context does
%% nothing to that.  `mode' is one of the options.
-spec new(#{mode => mode(), preload => py:code(), memory_limit => non_neg_integer(), thread => boolean()}) ->
          start_ret().
new(Options) when is_map(Options) ->
    Mode = maps:get(mode, Options, auto),
    case checked(Mode, maps:remove(mode, Options)) of
        {ok, Checked} -> started(gen_server:start(?MODULE, {self(), new, Mode, Checked}, []));
        {error, _} = Error -> Error
    end;
new(Options) ->
    checked(auto, Options).

started({ok, Pid}) -> {ok, Pid};
started({error, {shutdown, Reason}}) -> {error, Reason};
started({error, _} = Error) -> Error.

%% @doc Ends a context.  Requests that were submitted before have five seconds to end.
-spec stop(Context :: pid()) -> ok | {error, py:reason()}.
stop(Context) ->
    with_namespace(Context, fun(_Namespace) -> end_process(Context) end).

%% @doc Ends what runs and waits in a context at once, and the context.
-spec destroy(Context :: pid()) -> ok | {error, py:reason()}.
destroy(Context) ->
    with_namespace(Context, fun(Namespace) ->
                                    ok = py_nif:context_close(Namespace),
                                    end_process(Context)
                            end).

end_process(Context) ->
    try gen_server:stop(Context, normal, infinity)
    catch exit:_ -> ok % it has just ended by itself
    end.

%% @private As stop/1, without waiting.
-spec request_stop(pid()) -> ok.
request_stop(Context) ->
    gen_server:cast(Context, stop).

%%% Requests

%% @equiv call(Context, Module, Function, Args, #{})
-spec call(Context :: pid(), py:name(), py:name(), [term()]) -> py:result().
call(Context, Module, Function, Args) ->
    call(Context, Module, Function, Args, #{}, infinity).

%% @doc Calls a function with keyword arguments, or with options of ours.
-spec call(Context :: pid(), py:name(), py:name(), [term()], py:kwargs() | py:options()) -> py:result().
call(Context, Module, Function, Args, KwargsOrOptions) ->
    {Kwargs, Options} = py_args:kwargs_or_options(KwargsOrOptions),
    call(Context, Module, Function, Args, Kwargs, Options).

%% @doc Calls a function.  In the module `` '__main__' '' the functions are those that
%% exec/2 defined.
-spec call(Context :: pid(), py:name(), py:name(), [term()], py:kwargs(), py:options()) -> py:result().
call(Context, Module, Function, Args, Kwargs, Options) ->
    run(Context, call, fun() -> py_args:call(Module, Function, Args, Kwargs) end, Options).

%% @equiv eval(Context, Code, #{})
-spec eval(Context :: pid(), py:code()) -> py:result().
eval(Context, Code) ->
    eval(Context, Code, #{}).

%% @equiv eval(Context, Code, Locals, infinity)
-spec eval(Context :: pid(), py:code(), py:locals()) -> py:result().
eval(Context, Code, Locals) ->
    eval(Context, Code, Locals, infinity).

%% @doc The value of an expression in the context's namespace, with Locals laid over it.
-spec eval(Context :: pid(), py:code(), py:locals(), py:options()) -> py:result().
eval(Context, Code, Locals, Options) ->
    run(Context, eval, fun() -> py_args:eval(Code, Locals) end, Options).

%% @doc Runs statements in the context's namespace.
-spec exec(Context :: pid(), py:code()) -> ok | {error, py:reason()}.
exec(Context, Code) ->
    run(Context, exec, fun() -> py_args:exec(Code) end, infinity).

run(Context, Op, Terms, Options) ->
    case py_args:checked(fun() -> {py_args:context(Context), Terms(), py_args:options(Options)} end) of
        {ok, {Place, Checked, #{timeout := Timeout, flags := Flags}}} ->
            py_request:run(Place, Op, Checked, Timeout, Flags);
        {error, _} = Error ->
            Error
    end.

%% @doc Calls a method of an object that a call to the context gave, in the context.
-spec call_method(Context :: pid(), py:handle(), py:name(), [term()]) -> py:result().
call_method(Context, Handle, Name, Args) ->
    py_object:call_method_in(Context, Handle, Name, Args).

%% @doc The value of such an object, if it has one.
-spec to_term(py:handle()) -> py:result().
to_term(Handle) ->
    py:to_term(Handle).

%% @doc Ends what runs in a context just now; its callers get `{error, cancelled}'.
-spec interrupt(Context :: pid()) -> ok | {error, py:reason()}.
interrupt(Context) ->
    with_namespace(Context, fun(Namespace) -> _ = py_nif:interrupt(Namespace), ok end).

%% @doc The number of the context's interpreter, as py:info/0 has it; 0 is the main one.
-spec get_interp_id(Context :: pid()) -> {ok, non_neg_integer()} | {error, py:reason()}.
get_interp_id(Context) ->
    with_namespace(Context, fun(Namespace) -> {ok, py_nif:interp_id(Namespace)} end).

with_namespace(Context, Fun) ->
    case py_args:checked(fun() -> py_args:context(Context) end) of
        {ok, {context, Namespace}} -> Fun(Namespace);
        {error, _} = Error -> Error
    end.

%%% Options

checked(Mode, Options) ->
    py_args:checked(fun() -> options(mode(Mode), Options) end).

mode(Mode) when Mode =:= auto; Mode =:= worker; Mode =:= owngil ->
    Mode;
mode(Mode) ->
    py_args:refuse('ValueError', "the mode is auto, worker or owngil, not ~tP", [Mode, 10]).

options(Mode, Options) when is_map(Options) ->
    maps:map(fun(Key, Value) -> option(Mode, Key, Value) end, with_limit(Mode, Options));
options(_Mode, Options) ->
    py_args:refuse('TypeError', "the options must be a map, not ~tP", [Options, 10]).

with_limit(owngil, Options) ->
    case py_env:get(memory_limit) of
        undefined -> Options;
        Limit -> maps:merge(#{memory_limit => Limit}, Options)
    end;
with_limit(_Mode, Options) ->
    Options.

option(_Mode, preload, Code) ->
    hd(py_args:exec(Code));
option(_Mode, thread, Thread) when is_boolean(Thread) ->
    Thread;
option(owngil, memory_limit, Limit) when is_integer(Limit), Limit >= 0 ->
    Limit;
option(Mode, memory_limit, Limit) when Mode =/= owngil, is_integer(Limit), Limit >= 0 ->
    py_args:refuse('ValueError', "memory_limit is for the mode owngil, not ~tw", [Mode]);
option(_Mode, Key, Value) when Key =:= thread; Key =:= memory_limit ->
    py_args:refuse('TypeError', "~tw cannot be ~tP", [Key, Value, 10]);
option(_Mode, Key, _Value) ->
    py_args:refuse('TypeError', "there is no option ~tP (there are mode, preload, memory_limit and thread)",
                   [Key, 10]).

%%% The process

init({Owner, Id, Mode, Options}) ->
    process_flag(trap_exit, true),
    case open(Mode, Options) of
        {ok, Namespace} -> {ok, running(Namespace, Owner, Id, Mode)};
        {error, Reason} -> {stop, {shutdown, Reason}}
    end.

running(Namespace, Owner, Id, Mode) ->
    Registry = monitor(process, py_contexts),
    ok = py_contexts:register(Namespace, Id, Mode),
    #state{namespace = Namespace, registry = Registry, owner = watch(Owner)}.

watch(none) -> none;
watch(Owner) -> monitor(process, Owner).

open(Mode, Options) ->
    Thread = maps:get(thread, Options, false),
    Limit = maps:get(memory_limit, Options, 0),
    Open = fun(Ref) -> py_nif:context_open(Ref, native(Mode), Thread, Limit) end,
    case py_runtime:command(Open) of
        {ok, Namespace} -> prepared(Namespace, prepare(Mode, Namespace, Options));
        {error, _} = Error -> Error
    end.

native(auto) -> auto;
native(worker) -> main;
native(owngil) -> own.

prepared(Namespace, ok) ->
    {ok, Namespace};
prepared(Namespace, {error, _} = Error) ->
    ok = py_nif:context_close(Namespace),
    Error.

%% The interpreters of the other modes are set up already.
prepare(owngil, Namespace, Options) ->
    case py_setup:set_up([py_nif:interp_id(Namespace)]) of
        ok -> preload(Namespace, Options);
        {error, _} = Error -> Error
    end;
prepare(_Mode, Namespace, Options) ->
    preload(Namespace, Options).

preload(Namespace, #{preload := Code}) ->
    py_request:run({context, Namespace}, exec, [Code], infinity);
preload(_Namespace, _Options) ->
    ok.

handle_call(_Request, _From, State) ->
    {reply, {error, unknown_call}, State}.

handle_cast(stop, State) ->
    {stop, normal, State};
handle_cast(_Request, State) ->
    {noreply, State}.

handle_info({'DOWN', Monitor, process, _Pid, _Reason}, #state{registry = Registry, owner = Owner} = State)
  when Monitor =:= Registry; Monitor =:= Owner ->
    {stop, normal, State};
handle_info(_Info, State) ->
    {noreply, State}.

terminate(Reason, #state{namespace = Namespace}) ->
    drain(Namespace, drain_time(Reason)),
    ok = py_contexts:close(self(), Namespace).

drain_time(normal) -> ?STOP_DRAIN;
drain_time(_Reason) -> ?SHUTDOWN_DRAIN.

%% Requests end in the order in which they came: when this one has an answer, be it that the
%% context is closed, those before it have ended.
drain(Namespace, Timeout) ->
    _ = py_request:run({context, Namespace}, eval, [<<"None">>, #{}], Timeout),
    ok.
