%% SPDX-License-Identifier: Apache-2.0
%%
%% The measurements of bench/run --echo, in the node under test. The client is a process of
%% its own, and so are the servers to compare with, in the Python of the node.
-module(bench_echo_node).

-export([measure/4]).

-define(PY, bench_echo).
%% As the node has it: docs/decisions/0011-malloc-thresholds.md.
-define(MALLOC, [{"MALLOC_MMAP_THRESHOLD_", "4194304"}, {"MALLOC_TRIM_THRESHOLD_", "16777216"}]).

-spec measure(atom(), {pos_integer(), pos_integer()}, non_neg_integer(), pos_integer()) -> #{term() => number()}.
measure(Server, {Kilobytes, Connections} = Load, WarmMs, RunMs) ->
    case bench_backend:is_port() of
        true ->
            #{};
        false ->
            ok = bench_backend:python_path(directory()),
            [Figures] = bench_node:together([
                fun() ->
                    case start(Server) of
                        {Port, OsPid, Stop} ->
                            Before = bench_proc:cpu_us(OsPid),
                            {Rate, Requests} = rate(Port, Connections, Kilobytes * 1024, WarmMs, RunMs),
                            Cpu = bench_proc:cpu_us(OsPid) - Before,
                            Stop(),
                            #{{Server, Load} => Rate, {Server, Load, cpu} => Cpu / Requests};
                        none ->
                            #{}
                    end
                end
            ]),
            Figures
    end.

%% Internals.

directory() ->
    filename:dirname(code:which(?MODULE)).

%% The port that it listens at, the process of the system that it is in, and how to end it.
start(in_request) ->
    Me = self(),
    Pid = spawn_link(fun() ->
        process_flag(trap_exit, true),
        Ref = py:spawn_call(?PY, in_request, [Me]),
        receive stop -> ok end,
        ok = py:cancel(Ref),
        Me ! {stopped, self()}
    end),
    {port(), own(), fun() ->
        Pid ! stop,
        receive {stopped, Pid} -> ok end
    end};
start(hosted) ->
    {ok, Ref} = py_event_loop:create_task(?PY, on_hosted_loop, [self()]),
    {port(), own(), fun() -> ok = py_event_loop:cancel(Ref) end};
start(asyncio) ->
    alone(python(), asyncio, []);
start(like_node) ->
    alone(python(), asyncio, ?MALLOC);
start(uvloop) ->
    case has_module(python(), uvloop) of
        true -> alone(python(), uvloop, []);
        false -> none
    end.

python() ->
    {ok, Python} = py:eval(<<"__import__('sys').executable">>),
    Python.

own() ->
    list_to_integer(os:getpid()).

port() ->
    receive
        {port, Port} -> Port
    after 30000 -> error(no_server)
    end.

has_module(Python, Module) ->
    "" =:= os:cmd(io_lib:format("'~ts' -c 'import ~s' 2>&1", [Python, Module])).

alone(Python, Loop, Env) ->
    Script = filename:join(directory(), "bench_echo.py"),
    Server = open_port({spawn_executable, Python}, [{args, [Script, atom_to_list(Loop)]}, {env, Env}, {line, 100}]),
    receive
        {Server, {data, {eol, Port}}} ->
            {os_pid, OsPid} = erlang:port_info(Server, os_pid),
            {list_to_integer(Port), OsPid, fun() -> port_close(Server) end}
    after 30000 -> error(no_server)
    end.

%% Messages that came back, a second, and in all with those before.
rate(Port, Connections, Bytes, WarmMs, RunMs) ->
    Args = [integer_to_list(N) || N <- [Port, Connections, Bytes, WarmMs, RunMs]],
    Client = open_port({spawn_executable, filename:join(directory(), "echo_client")},
                       [{args, Args}, {line, 100}, exit_status, stderr_to_stdout]),
    receive
        {Client, {data, {eol, Line}}} ->
            case io_lib:fread("~d ~d ~d", Line) of
                {ok, [Requests, Ns, All], _} -> {Requests * 1000000000 / Ns, All};
                _ -> error({client, Line})
            end;
        {Client, {exit_status, Status}} -> error({client, Status})
    after WarmMs + RunMs + 30000 -> error(client_hangs)
    end.
