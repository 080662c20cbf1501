%% SPDX-License-Identifier: Apache-2.0
%%
%% Starts the nodes under test and asks them to do things; see bench_node for
%% the protocol. A node that does not answer in time is killed, and its row
%% ends with the reason: a hang is a result, too.
-module(bench_peer).

-export([start/3, stop/1, ask/5]).

-export_type([peer/0]).

-opaque peer() :: port().

%% A node with the build directory's code in its path and the environment
%% variables given.
-spec start(file:filename() | none, [string()], [{string(), string()}]) -> peer().
start(Build, EmulatorFlags, Env) ->
    Own = ["-pa", filename:dirname(code:which(?MODULE))],
    Paths = [A || Build =/= none, A <- ["-pa", filename:join(Build, "ebin")]],
    open_port({spawn_executable, os:find_executable("erl")}, [
        {args, EmulatorFlags ++ Own ++ Paths ++ ["-noinput", "-s", "bench_node", "main"]},
        {env, [{"ERL_CRASH_DUMP_SECONDS", "0"} | Env]},
        {packet, 4},
        binary,
        nouse_stdio,
        exit_status
    ]).

-spec stop(peer()) -> ok.
stop(Peer) ->
    %% The node halts when it sees the end of its input.
    catch port_close(Peer),
    ok.

%% The value of Module:Function(Args...) in the node.
-spec ask(peer(), module(), atom(), [term()], pos_integer()) -> {ok, term()} | {error, term()}.
ask(Peer, Module, Function, Args, Timeout) ->
    try port_command(Peer, term_to_binary({Module, Function, Args})) of
        true ->
            receive
                {Peer, {data, Data}} -> binary_to_term(Data);
                {Peer, {exit_status, Status}} -> {error, {node_exited, Status}}
            after Timeout ->
                kill(Peer),
                {error, {no_answer_in_ms, Timeout}}
            end
    catch
        error:badarg -> {error, node_gone}
    end.

%% Internals.

kill(Peer) ->
    {os_pid, OsPid} = erlang:port_info(Peer, os_pid),
    os:cmd("kill -9 " ++ integer_to_list(OsPid)),
    stop(Peer).
