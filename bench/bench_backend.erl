%% SPDX-License-Identifier: Apache-2.0
%%
%% What the row of a node is about: the application with one variant, or the port.
%% Both are asked by the same functions, so that the loads need not know which it is.
%% The port has neither pools nor a limit; what asks for these runs without.
-module(bench_backend).

-export([start/1, is_port/0, python/0, os_pids/0, cpu_us/0]).
-export([python_path/1, caller/3, caller/4, caller/5, submit/3, await/1, cast/3, parallel/1, drain/0]).
-export([with_pool/3, with_limit/2]).

-type row() :: port | {variant, string()}.
-type result() :: {ok, term()} | {error, term()}.
-export_type([row/0]).

-define(BACKEND, {?MODULE, backend}).
-define(PYTHON, {?MODULE, python}).

%% Bring up what the row is about. Returns what it runs in.
-spec start({row(), file:filename()}) ->
    #{os_pids := [non_neg_integer()], python := string()}.
start({port, Python}) ->
    Server = bench_port:start(Python),
    persistent_term:put(?PYTHON, Python),
    backend({port, Server}),
    {ok, Version} = (caller(platform, python_version, []))(),
    #{os_pids => os_pids(), python => binary_to_list(Version)};
start({{variant, Variant}, _Python}) ->
    {ok, _} = application:ensure_all_started(erlang_python),
    backend(py),
    %% The environment names the variant; a node that runs another one would
    %% put its figures in the wrong row.
    Mode = atom_to_list(py:execution_mode()),
    lists:suffix("-" ++ Mode, Variant) orelse error({not_this_mode, Mode}),
    {ok, Version} = py:version(),
    #{os_pids => os_pids(), python => binary_to_list(Version)}.

-spec is_port() -> boolean().
is_port() ->
    backend() =/= py.

%% The interpreter of the port.
-spec python() -> file:filename().
python() ->
    persistent_term:get(?PYTHON).

%% This node and, if it is another process, its Python.
-spec os_pids() -> [non_neg_integer()].
os_pids() ->
    Own = list_to_integer(os:getpid()),
    case backend() of
        py -> [Own];
        {port, Server} -> [Own, bench_port:os_pid(Server)]
    end.

-spec cpu_us() -> non_neg_integer().
cpu_us() ->
    lists:sum([bench_proc:cpu_us(Pid) || Pid <- os_pids()]).

%% Lets Python find the modules of this directory. The port's does so already in its own.
-spec python_path(file:filename()) -> ok.
python_path(Dir) ->
    case backend() of
        py -> ok = py_import:add_path(Dir);
        {port, _} -> ok
    end.

-spec caller(atom(), atom(), [term()]) -> fun(() -> result()).
caller(M, F, Args) ->
    case backend() of
        py -> fun() -> py:call(M, F, Args) end;
        {port, Server} -> fun() -> bench_port:call(Server, M, F, Args) end
    end.

%% With options, of which the port has none.
-spec caller(atom(), atom(), [term()], map()) -> fun(() -> result()).
caller(M, F, Args, Options) ->
    py = backend(),
    fun() -> py:call(M, F, Args, {opts, Options}) end.

%% In a pool, with a timeout.
-spec caller(py:place(), atom(), atom(), [term()], timeout()) -> fun(() -> result()).
caller(Place, M, F, Args, Timeout) ->
    case backend() of
        py -> fun() -> py:call(Place, M, F, Args, #{}, Timeout) end;
        {port, Server} -> fun() -> bench_port:call(Server, M, F, Args, Timeout) end
    end.

-spec submit(atom(), atom(), [term()]) -> reference().
submit(M, F, Args) ->
    case backend() of
        py -> py:spawn_call(M, F, Args);
        {port, Server} -> bench_port:submit(Server, M, F, Args)
    end.

-spec await(reference()) -> result().
await(Ref) ->
    case backend() of
        py -> py:await(Ref);
        {port, _} -> bench_port:await(Ref, infinity)
    end.

-spec cast(atom(), atom(), [term()]) -> ok.
cast(M, F, Args) ->
    case backend() of
        py -> ok = py:cast(M, F, Args);
        {port, Server} -> bench_port:cast(Server, M, F, Args)
    end.

%% Waits until Python has done all that was cast. The port does one after the other.
-spec drain() -> ok.
drain() ->
    case backend() of
        py -> drained(maps:get(slots, py:info()));
        {port, _} -> {ok, 4.0} = (caller(math, sqrt, [16]))(), ok
    end.

-spec parallel([{atom(), atom(), [term()]}]) -> [result()].
parallel(Calls) ->
    case backend() of
        py ->
            {ok, Results} = py:parallel(Calls),
            Results;
        {port, _} ->
            [await(Ref) || Ref <- [submit(M, F, Args) || {M, F, Args} <- Calls]]
    end.

%% Runs a fun while there is a pool of so many executors.
-spec with_pool(atom(), pos_integer(), fun(() -> Result)) -> Result.
with_pool(Pool, Size, Fun) ->
    case backend() of
        py ->
            {ok, _} = py_context_router:start_pool(Pool, Size),
            try
                Fun()
            after
                ok = py_context_router:stop_pool(Pool)
            end;
        {port, _} ->
            Fun()
    end.

%% Runs a fun with so many slots.
-spec with_limit(default | pos_integer(), fun(() -> Result)) -> Result.
with_limit(Limit, Fun) ->
    case Limit =:= default orelse is_port() of
        true ->
            Fun();
        false ->
            Before = py_semaphore:max_concurrent(),
            ok = py_semaphore:set_max_concurrent(Limit),
            try
                Fun()
            after
                ok = py_semaphore:set_max_concurrent(Before)
            end
    end.

%% Internals.

backend() ->
    persistent_term:get(?BACKEND).

backend(Backend) ->
    persistent_term:put(?BACKEND, Backend).

drained(#{current := 0, waiting := 0}) ->
    ok;
drained(_) ->
    timer:sleep(1),
    drain().
