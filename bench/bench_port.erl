%% SPDX-License-Identifier: Apache-2.0
%%
%% What a user without a bridge would write: a Python process under a port,
%% shared by all callers.
%%
%% One process owns the port. A caller encodes its request itself and commands
%% the port itself (any process may), so that the owner does not stand in the
%% way of requests; the owner only decodes the answers and passes each on to
%% the reference that it carries. That reference is an alias of the caller and
%% at the same time its monitor of the owner, so that a dead port ends every
%% call that waits, and an answer after a timeout goes nowhere. The other end is
%% port_server.py.
-module(bench_port).

-export([start/1, stop/1, os_pid/1, call/4, call/5, submit/4, await/2, cast/4]).

-export_type([server/0]).

-opaque server() :: {pid(), port()}.

%% Start Python, the interpreter at the path given, and the owner of its port,
%% linked to the caller.
-spec start(file:filename()) -> server().
start(Python) ->
    Script = filename:join(filename:dirname(code:which(?MODULE)), "port_server.py"),
    Self = self(),
    Owner = spawn_link(fun() -> init(Self, Python, Script) end),
    receive
        {Owner, Port} -> {Owner, Port}
    end.

-spec stop(server()) -> ok.
stop({Owner, _Port}) ->
    Ref = monitor(process, Owner),
    unlink(Owner),
    exit(Owner, shutdown),
    receive
        {'DOWN', Ref, process, Owner, _} -> ok
    end.

%% The operating system's id of the Python process.
-spec os_pid(server()) -> non_neg_integer().
os_pid({_Owner, Port}) ->
    {os_pid, Pid} = erlang:port_info(Port, os_pid),
    Pid.

-spec call(server(), atom(), atom(), [term()]) -> {ok, term()} | {error, term()}.
call(Server, M, F, Args) ->
    call(Server, M, F, Args, infinity).

-spec call(server(), atom(), atom(), [term()], timeout()) -> {ok, term()} | {error, term()}.
call(Server, M, F, Args, Timeout) ->
    await(submit(Server, M, F, Args), Timeout).

%% Begins a call: its answer is what await/2 gives for the reference.
-spec submit(server(), atom(), atom(), [term()]) -> reference().
submit({Owner, Port}, M, F, Args) ->
    Ref = monitor(process, Owner, [{alias, reply_demonitor}]),
    command(Port, Ref, M, F, Args),
    Ref.

-spec await(reference(), timeout()) -> {ok, term()} | {error, term()}.
await(Ref, Timeout) ->
    receive
        {Ref, Result} ->
            Result;
        {'DOWN', Ref, process, _Owner, Reason} ->
            {error, Reason}
    after Timeout ->
        demonitor(Ref, [flush]),
        %% The answer may have come before the alias was gone.
        receive
            {Ref, _} -> {error, timeout}
        after 0 -> {error, timeout}
        end
    end.

%% A call without an answer: nobody listens to the reference.
-spec cast(server(), atom(), atom(), [term()]) -> ok.
cast({_Owner, Port}, M, F, Args) ->
    command(Port, make_ref(), M, F, Args).

%% Internals.

command(Port, Ref, M, F, Args) ->
    erlang:port_command(Port, term_to_binary({Ref, M, F, Args})),
    ok.

init(Parent, Python, Script) ->
    %% -u -E -s: nothing of the environment changes how it runs.
    Port = open_port(
        {spawn_executable, Python},
        [{args, ["-E", "-s", "-u", Script]}, {packet, 4}, binary, exit_status]
    ),
    Parent ! {self(), Port},
    loop(Port).

loop(Port) ->
    receive
        {Port, {data, Data}} ->
            {Ref, Result} = binary_to_term(Data),
            Ref ! {Ref, Result},
            loop(Port);
        {Port, {exit_status, Status}} ->
            exit({python_exited, Status})
    end.
