%% SPDX-License-Identifier: Apache-2.0
%%
%% An echo server whose connections Erlang accepts and Python serves:
%%
%%     escript examples/reactor_echo.erl [DIRECTORY_OF_EBIN]
%%
%% Without an argument, erlang_python is looked for in Erlang's library path.  Erlang accepts a
%% connection and hands its descriptor over to a reactor context; from then on no process and no
%% message of Erlang's is between the client and the protocol in reactor_echo.py.  The program
%% is its own client, checks all answers and exits with 1 if one is not what it says.
-module(reactor_echo).
-export([main/1]).
-mode(compile).

-define(CLIENTS, 20).
-define(ROUNDS, 100).

main([Ebin]) ->
    true = code:add_patha(Ebin),
    demo();
main([]) ->
    demo().

demo() ->
    {ok, _} = application:ensure_all_started(erlang_python),
    ok = py_import:add_path(filename:absname(filename:dirname(escript:script_name()))),
    io:format("Python ~ts, mode ~s~n", [hd(string:lexemes(element(2, py:version()), " ")), py:execution_mode()]),
    {ok, Context} = py_reactor_context:start_link(echo, auto, #{factory => {reactor_echo, 'Echo'}}),
    {ok, Listen} = gen_tcp:listen(0, [binary, {active, false}, {ip, {127, 0, 0, 1}}, {nodelay, true},
                                      {backlog, ?CLIENTS}]),
    {ok, Port} = inet:port(Listen),
    _ = spawn_link(fun() -> accept(Listen, Context) end),
    lines(Port),
    echoes(Port, 1024),
    echoes(Port, 102400),
    stats(Context),
    ok = gen_tcp:close(Listen),
    ok = py_reactor_context:stop(Context),
    io:format("~nAll answers were right.~n").

%% Once it is handed over, the socket is closed here; the context has a descriptor of its own.
accept(Listen, Context) ->
    case gen_tcp:accept(Listen) of
        {ok, Socket} ->
            _ = hand_over(inet:peername(Socket), Socket, Context),
            accept(Listen, Context);
        {error, closed} ->
            ok;
        {error, Reason} -> % as emfile, which passes
            io:format("no connection was accepted: ~tp~n", [Reason]),
            ok = timer:sleep(100),
            accept(Listen, Context)
    end.

hand_over({ok, {Address, Port}}, Socket, Context) ->
    Info = #{address => list_to_binary(inet:ntoa(Address)), port => Port},
    case py_reactor_context:handoff(Context, Socket, Info) of
        {ok, _Fd} -> ok;
        {error, Reason} ->
            io:format("a connection was not handed over: ~tp~n", [Reason]),
            gen_tcp:close(Socket)
    end;
hand_over({error, _}, Socket, _Context) ->
    gen_tcp:close(Socket). % the client is gone already

lines(Port) ->
    title("One client"),
    Socket = connect(Port),
    {ok, {_, Own}} = inet:sockname(Socket),
    show("what the protocol was told of its client", fun() -> ask(Socket, <<"who am I?">>, 0) end,
         iolist_to_binary(io_lib:format("you are 127.0.0.1, port ~b", [Own]))),
    show("an echo", fun() -> ask(Socket, <<"hello">>, 5) end, <<"hello">>),
    show("the protocol closes the connection", fun() -> ask(Socket, <<"bye">>, 0) end, closed).

echoes(Port, Size) ->
    title(io_lib:format("~b clients, ~b messages of ~b bytes each", [?CLIENTS, ?ROUNDS, Size])),
    Message = binary:copy(<<"x">>, Size),
    Client = fun() ->
                     Socket = connect(Port),
                     [Message = ask(Socket, Message, Size) || _ <- lists:seq(1, ?ROUNDS)],
                     ok = gen_tcp:close(Socket)
             end,
    {Micros, ok} = timer:tc(fun() -> at_once(Client) end),
    io:format("  ~b a second~n", [?CLIENTS * ?ROUNDS * 1000000 div Micros]).

at_once(Client) ->
    Running = [spawn_monitor(Client) || _ <- lists:seq(1, ?CLIENTS)],
    lists:foreach(fun({Pid, Monitor}) ->
                          receive {'DOWN', Monitor, process, Pid, Reason} -> normal = Reason end
                  end, Running).

stats(Context) ->
    title("py_reactor_context:stats(Context)"),
    {ok, #{id := echo, accepted := Accepted, failed := 0, bytes_in := In} = Stats} = py_reactor_context:stats(Context),
    io:format("  ~tp~n", [Stats]),
    Accepted = 2 * ?CLIENTS + 1,
    true = In > ?CLIENTS * ?ROUNDS * (1024 + 102400).

connect(Port) ->
    {ok, Socket} = gen_tcp:connect({127, 0, 0, 1}, Port, [binary, {active, false}, {nodelay, true}]),
    Socket.

%% Size 0: whatever comes.
ask(Socket, Question, Size) ->
    ok = gen_tcp:send(Socket, Question),
    case gen_tcp:recv(Socket, Size, 60000) of
        {ok, Answer} -> Answer;
        {error, Reason} -> Reason
    end.

%%% How it is shown

title(Text) ->
    io:format("~n~ts~n", [Text]).

show(What, Fun, Expected) ->
    {Micros, Result} = timer:tc(Fun),
    io:format("  ~9.1f us  ~ts: ~tp~n", [Micros * 1.0, What, Result]),
    Result =:= Expected orelse
        begin
            io:format("This is not what was expected: ~tp~n", [Expected]),
            halt(1)
        end.
