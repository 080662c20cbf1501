%% SPDX-License-Identifier: Apache-2.0
%%
%% Messages from Python: erlang.send() to all that has an address, in order and without
%% waiting; whereis() and self().
-module(py_send_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([a_message_goes_to_a_process/1,
         every_value_arrives_equal/1,
         a_message_goes_to_a_name/1,
         a_message_goes_to_a_name_at_a_node/1,
         a_message_goes_to_an_alias/1,
         a_message_goes_to_a_port/1,
         who_has_ended_gets_nothing/1,
         a_name_that_nobody_has_is_a_ProcessError/1,
         wrong_uses_of_send_are_refused/1,
         what_does_not_convert_is_not_sent/1]).
-export([messages_of_one_sender_come_in_order/1,
         messages_of_many_threads_all_arrive/1,
         messages_come_before_the_reply/1,
         a_message_may_come_from_anywhere/1,
         large_messages_arrive/1,
         sending_leaves_nothing/1]).
-export([messages_to_another_node_arrive_in_order/1,
         a_node_that_is_not_there_blocks_nobody/1,
         pids_of_other_nodes_keep_their_identity/1]).
-export([whereis_finds_processes_and_ports/1,
         self_is_who_called/1,
         self_in_callbacks_threads_and_casts/1,
         an_application_that_does_not_run_sends_to_local_processes_only/1]).

-define(ERROR(Type, Message), {error, {Type, Message}}).

suite() -> [{timetrap, {minutes, 5}}].

all() -> py_test:cases(?MODULE).

init_per_suite(Config) -> py_test:start(Config).

end_per_suite(Config) -> py_test:stop(Config).

init_per_testcase(_Case, Config) ->
    ok = define(),
    Config.

end_per_testcase(_Case, _Config) ->
    py_test:restore(),
    py:unregister_function(f),
    ok.

define() ->
    py:exec(<<"import erlang, threading\n"
              "def send(to, what): return erlang.send(to, what)\n"
              "def send_all(to, n):\n"
              "    for i in range(n): erlang.send(to, i)\n">>).

send(To, What) ->
    py:call('__main__', send, [To, What]).

next() ->
    receive Message -> Message after 60000 -> error(no_message) end.

%% One that stays out can only be seen by waiting for it.
nothing_more() ->
    receive Message -> error({unexpected, Message}) after 30 -> ok end.

%%% Addresses

a_message_goes_to_a_process(_Config) ->
    {ok, none} = send(self(), hello),
    hello = next(),
    {ok, none} = py:call(erlang, send, [self(), {a, [1]}]),
    {a, [1]} = next(),
    Worker = {Pid, _} = py_test:worker(),
    {ok, none} = py:eval(<<"erlang.send(pid, (run, me, f))">>,
                         #{pid => Pid, run => run, me => self(), f => fun() -> self() end}),
    Pid = py_test:answer(Worker),
    py_test:end_worker(Worker),
    [] = py_test:messages().

every_value_arrives_equal(_Config) ->
    Values = [1, -1, 1 bsl 200, 1.5, true, none, atom, 'Größe', <<>>, <<"text">>, <<"größe"/utf8>>, <<255, 0>>, [], [1, [2]],
              {}, {a, 1, {b}}, #{}, #{a => 1, <<"b">> => [2.5], 3 => #{}}, self(), make_ref(), fun lists:max/1,
              [a | b], <<1:3>>, hd(erlang:ports()), [{<<"deep">>, [[[[#{k => {}}]]]]}]],
    [begin
         {ok, none} = send(self(), Value),
         ?assertEqual(Value, next())
     end || Value <- Values],
    [] = py_test:messages().

a_message_goes_to_a_name(_Config) ->
    true = register(py_send_test, self()),
    {ok, none} = send(py_send_test, 1),
    {ok, none} = send(<<"py_send_test">>, 2),
    {ok, none} = py:eval(<<"erlang.send('py_send_test', 3)">>),
    {ok, none} = py:eval(<<"erlang.send(erlang.atom('py_send_test'), 4)">>),
    [1, 2, 3, 4] = [next() || _ <- [1, 2, 3, 4]],
    true = unregister(py_send_test),
    true = register('größe', self()),
    {ok, none} = py:eval(<<"erlang.send('größe', 5)"/utf8>>),
    5 = next(),
    true = unregister('größe').

a_message_goes_to_a_name_at_a_node(_Config) ->
    true = register(py_send_test, self()),
    [begin
         {ok, none} = send(To, N),
         N = next()
     end || {N, To} <- [{1, {py_send_test, node()}}, {2, {<<"py_send_test">>, node()}},
                        {3, {py_send_test, atom_to_binary(node())}}]],
    true = unregister(py_send_test),
    %% Unlike a name by itself, it is dropped as `!' does.
    {ok, none} = send({py_send_test, node()}, 4),
    nothing_more().

a_message_goes_to_an_alias(_Config) ->
    Alias = alias(),
    {ok, none} = send(Alias, 1),
    1 = next(),
    true = unalias(Alias),
    {ok, none} = send(Alias, 2),
    {ok, none} = send(make_ref(), 3),
    Once = alias([reply]),
    {ok, none} = send(Once, 4),
    {ok, none} = send(Once, 5),
    4 = next(),
    nothing_more().

a_message_goes_to_a_port(_Config) ->
    Port = open_port({spawn, "cat"}, [binary]),
    {ok, none} = py:eval(<<"erlang.send(port, (me, (command, 'through the port')))">>,
                         #{port => Port, me => self(), command => command}),
    {Port, {data, <<"through the port">>}} = next(),
    true = register(py_send_port, Port),
    {ok, none} = py:eval(<<"erlang.send((name, node), (me, (command, 'by name')))">>,
                         #{name => py_send_port, node => node(), me => self(), command => command}),
    {Port, {data, <<"by name">>}} = next(),
    %% What comes after its end is dropped.
    true = port_close(Port),
    {ok, none} = send(Port, {self(), {command, <<"late">>}}),
    nothing_more().

who_has_ended_gets_nothing(_Config) ->
    Worker = {Pid, _} = py_test:worker(),
    py_test:end_worker(Worker),
    {ok, none} = send(Pid, hello),
    nothing_more().

a_name_that_nobody_has_is_a_ProcessError(_Config) ->
    ?ERROR('ProcessError', Message) = send(nobody_has_this_name, 1),
    ?assertMatch({_, _}, binary:match(Message, <<"nobody_has_this_name">>)),
    {ok, [true, true]} =
        py:eval(<<"[issubclass(erlang.ProcessError, RuntimeError), erlang.ProcessError.__module__ == 'erlang']">>),
    ok = py:exec(<<"def attempt():\n"
                   "    try: erlang.send('nobody_has_this_name', 1)\n"
                   "    except erlang.ProcessError: return 'caught'\n">>),
    {ok, <<"caught">>} = py:call('__main__', attempt, []),
    %% No atom is made of it.
    py_test:within(50, 5, fun() ->
                                  Before = erlang:system_info(atom_count),
                                  [?ERROR('ProcessError', _) = send(nobody(), 1) || _ <- lists:seq(1, 100)],
                                  erlang:system_info(atom_count) - Before
                          end).

nobody() ->
    <<"nobody ", (integer_to_binary(erlang:unique_integer([positive])))/binary>>.

wrong_uses_of_send_are_refused(_Config) ->
    [?ERROR('TypeError', _) = py:eval(Code)
     || Code <- ["erlang.send()", "erlang.send('x')", "erlang.send(1, 2)", "erlang.send(None, 2)", "erlang.send([], 1)",
                 "erlang.send((1, 2), 1)", "erlang.send(('a',), 1)", "erlang.send(('a', 'b', 'c'), 1)",
                 "erlang.send(b'x', 1)", "erlang.send('x', 1, 2)"]],
    ?ERROR('TypeError', _) = send(fun lists:max/1, 1),
    {error, _} = py:eval(<<"erlang.send('\\ud800', 1)">>),
    {error, _} = py:eval(<<"erlang.send('x' * 256, 1)">>),
    [] = py_test:messages().

what_does_not_convert_is_not_sent(_Config) ->
    ok = py:exec(<<"def attempt(to):\n"
                   "    try: erlang.send(to, [1, '\\ud800'])\n"
                   "    except erlang.ConversionError as e: return str(e)\n">>),
    {ok, Text} = py:call('__main__', attempt, [self()]),
    ?assertMatch({_, _}, binary:match(Text, <<"surrogate">>)),
    nothing_more().

%%% Order and number

messages_of_one_sender_come_in_order(_Config) ->
    Count = 20000,
    {ok, none} = py:call('__main__', send_all, [self(), Count]),
    ?assertEqual(lists:seq(0, Count - 1), [next() || _ <- lists:seq(1, Count)]),
    %% By each of the ways that go through a process.
    true = register(py_send_test, self()),
    [begin
         {ok, none} = py:call('__main__', send_all, [To, 1000]),
         ?assertEqual(lists:seq(0, 999), [next() || _ <- lists:seq(1, 1000)])
     end || To <- [{py_send_test, node()}, alias()]],
    true = unregister(py_send_test),
    [] = py_test:messages().

messages_of_many_threads_all_arrive(_Config) ->
    Count = 1000,
    ok = py:exec(<<"def send_in_threads(to, n):\n"
                   "    def run(i):\n"
                   "        for k in range(n): erlang.send(to, (i, k))\n"
                   "    threads = [threading.Thread(target=run, args=(i,)) for i in range(8)]\n"
                   "    for thread in threads: thread.start()\n"
                   "    for thread in threads: thread.join()\n">>),
    {ok, none} = py:call('__main__', send_in_threads, [self(), Count]),
    Found = [next() || _ <- lists:seq(1, 8 * Count)],
    [?assertEqual(lists:seq(0, Count - 1), [K || {J, K} <- Found, J =:= I]) || I <- lists:seq(0, 7)],
    [] = py_test:messages().

%% To the process that waits, what it was sent before it is there when it has its reply.
messages_come_before_the_reply(_Config) ->
    [begin
         {ok, none} = send(self(), N),
         receive N -> ok after 0 -> error({not_there, N}) end
     end || N <- lists:seq(1, 500)],
    [] = py_test:messages().

a_message_may_come_from_anywhere(_Config) ->
    Me = self(),
    {ok, none} = py:eval(<<"erlang.send(me, 'eval')">>, #{me => Me}),
    ok = py:exec(<<"def gen(me):\n    erlang.send(me, 'stream')\n    yield 1\n">>),
    {ok, [1]} = py:stream('__main__', gen, [Me]),
    {ok, none} = py:await(py:spawn_call('__main__', send, [Me, <<"async">>])),
    [<<"eval">>, <<"stream">>, <<"async">>] = [next() || _ <- [1, 2, 3]],
    ok = py:cast('__main__', send, [Me, <<"cast">>]),
    <<"cast">> = next(),
    ok = py:register_function(f, fun([]) -> {ok, none} = send(Me, <<"nested">>), none end),
    {ok, none} = py:call(erlang, call, [f]),
    <<"nested">> = next(),
    ok = py:exec(<<"def thread(me):\n"
                   "    t = threading.Thread(target=erlang.send, args=(me, 'thread'))\n"
                   "    t.start()\n"
                   "    t.join()\n"
                   "async def task(me): erlang.send(me, 'task')\n"
                   "def run_task(me): __import__('asyncio').run(task(me))\n">>),
    {ok, none} = py:call('__main__', thread, [Me]),
    <<"thread">> = next(),
    {ok, none} = py:call('__main__', run_task, [Me]),
    <<"task">> = next(),
    %% On a scheduler.
    ok = py:register_pool(inline, {erlang, send}),
    {ok, none} = py:call(erlang, send, [Me, <<"inline">>]),
    ok = py:unregister_pool({erlang, send}),
    <<"inline">> = next(),
    [] = py_test:messages().

large_messages_arrive(_Config) ->
    {ok, none} = py:eval(<<"erlang.send(me, list(range(n)))">>, #{me => self(), n => 200000}),
    ?assertEqual(lists:seq(0, 199999), next()),
    {ok, none} = py:eval(<<"erlang.send(me, b'x' * n)">>, #{me => self(), n => 10 bsl 20}),
    ?assertEqual(10 bsl 20, byte_size(next())).

sending_leaves_nothing(_Config) ->
    Sink = spawn_link(fun Sink() -> receive stop -> ok; _ -> Sink() end end),
    Round = fun() ->
                    {ok, none} = py:call('__main__', send_all, [Sink, 50000]),
                    [{ok, none} = send({nobody, node()}, N) || N <- lists:seq(1, 100)],
                    py_test:wait_until(fun() -> process_info(Sink, message_queue_len) =:= {message_queue_len, 0} end),
                    true = erlang:garbage_collect(Sink)
            end,
    Round(),
    Before = length(processes()),
    py_test:grows_less(20 bsl 20, fun() -> [Round() || _ <- [1, 2, 3]] end),
    py_test:wait_until(fun() -> length(processes()) =< Before + 2 end),
    Sink ! stop.

%%% Other nodes

messages_to_another_node_arrive_in_order(_Config) ->
    Peer = {_, Node} = py_test:peer(),
    Me = self(),
    There = spawn(Node, fun() -> receive {all_of, N, From} -> From ! {all, [receive M -> M end || _ <- lists:seq(1, N)]} end end),
    There ! {all_of, 1000, Me},
    {ok, none} = py:call('__main__', send_all, [There, 1000]),
    {all, All} = next(),
    ?assertEqual(lists:seq(0, 999), All),
    %% By name; and from there to here.
    py_test:at(Peer, fun() ->
                             Named = spawn(fun Named() -> receive M -> Me ! {named, M}, Named() end end),
                             true = register(py_send_there, Named),
                             {ok, none} = py:call(erlang, send, [Me, <<"from there">>]),
                             ok
                     end),
    <<"from there">> = next(),
    true = register(py_send_here, self()),
    {ok, none} = send({py_send_there, Node}, 1),
    {named, 1} = next(),
    py_test:at(Peer, fun() -> {ok, none} = py:call(erlang, send, [{py_send_here, node(Me)}, <<"by name">>]) end),
    <<"by name">> = next(),
    true = unregister(py_send_here),
    py_test:end_peer(Peer),
    nothing_more().

%% Erlang would wait for the connection to that node.
a_node_that_is_not_there_blocks_nobody(_Config) ->
    {Time, ok} =
        py_test:milliseconds(
          fun() ->
                  [{ok, none} = send({nobody, list_to_atom("nowhere" ++ integer_to_list(I) ++ "@192.0.2.1")}, N)
                   || N <- lists:seq(1, 50), I <- [1, 2]],
                  {ok, none} = send(self(), hello),
                  hello = next(),
                  {ok, none} = send(alias(), hello),
                  hello = next(),
                  ok
          end),
    ?assert(Time < 6000 orelse Time),      % a connection takes seven seconds not to come about
    nothing_more().

pids_of_other_nodes_keep_their_identity(_Config) ->
    Peer = {_, Node} = py_test:peer(),
    There = spawn(Node, fun() -> receive stop -> ok end end),
    {ok, There} = py_test:through(There),
    {ok, true} = py:eval(<<"p == q and hash(p) == hash(q)">>, #{p => There, q => There}),
    There ! stop,
    py_test:end_peer(Peer).

%%% Who is where

whereis_finds_processes_and_ports(_Config) ->
    Me = self(),
    true = register(py_send_test, Me),
    {ok, Me} = py:call(erlang, whereis, [py_send_test]),
    {ok, Me} = py:eval(<<"erlang.whereis('py_send_test')">>),
    {ok, true} = py:eval(<<"isinstance(erlang.whereis('py_send_test'), erlang.Pid)">>),
    {ok, none} = py:eval(<<"erlang.send(erlang.whereis('py_send_test'), 1)">>),
    1 = next(),
    true = unregister(py_send_test),
    {ok, none} = py:call(erlang, whereis, [py_send_test]),
    {ok, none} = py:eval(<<"erlang.whereis('nobody ever had this name')">>),
    Port = open_port({spawn, "cat"}, []),
    true = register(py_send_port, Port),
    {ok, Port} = py:call(erlang, whereis, [py_send_port]),
    {ok, true} = py:eval(<<"isinstance(erlang.whereis('py_send_port'), erlang.Port)">>),
    true = port_close(Port),
    [?ERROR('TypeError', _) = py:eval(Code) || Code <- ["erlang.whereis()", "erlang.whereis(1)", "erlang.whereis(None)"]],
    [] = py_test:messages().

self_is_who_called(_Config) ->
    Me = self(),
    {ok, Me} = py:call(erlang, self, []),
    {ok, Me} = py:eval(<<"erlang.self()">>),
    ok = py:exec(<<"me = erlang.self()">>),
    {ok, Me} = py:eval(<<"me">>),
    Answers = py_test:at_once(lists:duplicate(20, fun() -> py:call(erlang, self, []) =:= {ok, self()} end)),
    Answers = lists:duplicate(20, true),
    {ok, Me} = py:await(py:spawn_call(erlang, self, [])),
    {ok, [Me]} = py:stream_eval(<<"(f() for f in [__import__('erlang').self])">>),
    ok = py:register_pool(inline, {erlang, self}),
    {ok, Me} = py:call(erlang, self, []),
    ok = py:unregister_pool({erlang, self}).

self_in_callbacks_threads_and_casts(_Config) ->
    Me = self(),
    ok = py:register_function(f, fun([]) -> {ok, Pid} = py:call(erlang, self, []), Pid end),
    {ok, Me} = py:call(erlang, call, [f]),
    %% Another process, in the callback of this one.
    ok = py:register_function(f, fun([]) -> py_test:in_process(fun() -> py:call(erlang, self, []) =:= {ok, self()} end) end),
    {ok, true} = py:call(erlang, call, [f]),
    ok = py:exec(<<"def attempt():\n"
                   "    try: return ('is', erlang.self())\n"
                   "    except RuntimeError as e: return ('RuntimeError', str(e))\n"
                   "def in_thread():\n"
                   "    found = []\n"
                   "    t = threading.Thread(target=lambda: found.append(attempt()))\n"
                   "    t.start()\n"
                   "    t.join()\n"
                   "    return found[0]\n"
                   "def cast(to): erlang.send(to, attempt())\n">>),
    {ok, {<<"RuntimeError">>, _}} = py:call('__main__', in_thread, []),
    ok = py:cast('__main__', cast, [Me]),
    {<<"RuntimeError">>, _} = next(),
    [] = py_test:messages().

%% Threads of Python's go on.
an_application_that_does_not_run_sends_to_local_processes_only(Config) ->
    Fifo = py_test:block(Config),
    true = register(py_send_test, self()),
    ok = py:exec(<<"import os\n"
                   "def later(fifo, to):\n"
                   "    os.close(os.open(fifo, 0))\n"
                   "    erlang.send(to, 1)\n"
                   "    erlang.send('py_send_test', 2)\n"
                   "    try: erlang.send(('py_send_test', 'nonode@nohost'), 3)\n"
                   "    except erlang.ProcessError: erlang.send(to, 'ProcessError')\n">>),
    {ok, none} = py:eval(<<"threading.Thread(target=later, args=(fifo, to)).start()">>, #{fifo => Fifo, to => self()}),
    ok = application:stop(erlang_python),
    ok = py_test:release(Fifo),
    [1, 2, <<"ProcessError">>] = [next() || _ <- [1, 2, 3]],
    ok = application:start(erlang_python),
    true = unregister(py_send_test),
    [] = py_test:messages().
