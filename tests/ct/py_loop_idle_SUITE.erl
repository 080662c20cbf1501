%% SPDX-License-Identifier: Apache-2.0
%%
%% Event loops that Erlang drives and that wait for descriptors: who looks at these, first the
%% executor that ran the loop, and after a while Erlang, is nothing that their users can tell but
%% by the time that it takes.
-module(py_loop_idle_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1, end_per_testcase/2]).
-export([a_conversation_needs_no_message_to_the_owner/1,
         a_loop_that_is_left_alone_is_handed_to_its_owner/1,
         a_loop_that_lingers_is_handed_over_when_its_executor_has_to_wait/1,
         loops_of_one_executor_are_all_served/1,
         tasks_wake_a_loop_that_lingers/1,
         timers_wake_a_loop_that_lingers/1,
         a_loop_that_lingers_can_be_closed/1,
         a_loop_whose_owner_is_killed_while_it_lingers_is_closed/1,
         the_application_stops_while_loops_linger/1]).

suite() -> [{timetrap, {minutes, 5}}].

all() -> py_test:cases(?MODULE).

init_per_suite(Config) -> py_test:start_with(Config, [{idle_server, source()}]).

end_per_suite(Config) -> py_test:stop(Config).

end_per_testcase(_Case, _Config) ->
    py_test:restore().

source() ->
    <<"
import asyncio, erlang

class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)

async def listen():
    server = await asyncio.get_running_loop().create_server(Echo, '127.0.0.1', 0)
    return server.sockets[0].getsockname()[1]

async def wait_for(name):
    return erlang.call(name)

async def sleep(seconds):
    await asyncio.sleep(seconds)
    return seconds
">>.

%% A loop of its own on the executor of that number, and a connection to a server there.
server() ->
    server(#{}).

server(Options) ->
    {ok, Pid} = py_event_loop:start_link(Options),
    {ok, Port} = py_event_loop:run(idle_server, listen, [], #{loop => Pid}),
    {ok, Socket} = gen_tcp:connect({127, 0, 0, 1}, Port, [binary, {active, false}, {nodelay, true}]),
    {Pid, Socket}.

exchange(Socket) ->
    ok = gen_tcp:send(Socket, <<"ping">>),
    {ok, <<"ping">>} = gen_tcp:recv(Socket, 4, 60000),
    ok.

close({Pid, Socket}) ->
    ok = gen_tcp:close(Socket),
    ok = py_event_loop:stop(Pid).

%% How many messages the owner gets about its loop while this runs.
told_during(Owner, Fun) ->
    1 = erlang:trace(Owner, true, ['receive', {tracer, self()}]),
    Fun(),
    1 = erlang:trace(Owner, false, ['receive']),
    Delivered = erlang:trace_delivered(Owner),
    receive {trace_delivered, Owner, Delivered} -> ok end,
    count(Owner, 0).

count(Owner, N) ->
    receive
        {trace, Owner, 'receive', Message} when is_tuple(Message), element(1, Message) =:= py_loop;
                                                is_tuple(Message), element(1, Message) =:= select ->
            count(Owner, N + 1);
        {trace, Owner, 'receive', _} ->
            count(Owner, N)
    after 0 -> N
    end.

%% Unless this process itself is kept from running for longer than a loop lingers, again and again.
a_conversation_needs_no_message_to_the_owner(_Config) ->
    {Pid, Socket} = Server = server(),
    exchange(Socket),
    Messages = told_during(Pid, fun() -> [exchange(Socket) || _ <- lists:seq(1, 200)] end),
    ?assert(Messages < 100),
    close(Server).

a_loop_that_is_left_alone_is_handed_to_its_owner(_Config) ->
    {Pid, Socket} = Server = server(),
    1 = erlang:trace(Pid, true, ['receive', {tracer, self()}]),
    exchange(Socket),
    receive {trace, Pid, 'receive', {py_loop, _}} -> ok end,
    %% Who hears of it from now on.
    exchange(Socket),
    receive {trace, Pid, 'receive', {select, _, _, ready_input}} -> ok end,
    1 = erlang:trace(Pid, false, ['receive']),
    [exchange(Socket) || _ <- lists:seq(1, 10)],
    _ = count(Pid, 0),
    close(Server).

%% The only executor of the group waits in a callback, and that for the loop which it watched.
a_loop_that_lingers_is_handed_over_when_its_executor_has_to_wait(_Config) ->
    {Pid, Socket} = Server = server(#{worker => 1}),
    {ok, Other} = py_event_loop:start_link(#{worker => 1}),
    ok = py:register_function(ask_the_server, fun([]) -> exchange(Socket) end),
    [begin
         exchange(Socket),
         {ok, ok} = py_event_loop:run(idle_server, wait_for, [<<"ask_the_server">>],
                                      #{loop => Other, atom => atom, timeout => 60000})
     end || _ <- lists:seq(1, 20)],
    ok = py:unregister_function(ask_the_server),
    ok = py_event_loop:stop(Other),
    true = is_process_alive(Pid),
    close(Server).

loops_of_one_executor_are_all_served(_Config) ->
    Servers = [server(#{worker => 1}) || _ <- lists:seq(1, 8)],
    py_test:at_once([fun() -> [exchange(Socket) || _ <- lists:seq(1, 100)] end || {_, Socket} <- Servers]),
    [exchange(Socket) || _ <- lists:seq(1, 50), {_, Socket} <- Servers],
    [close(Server) || Server <- Servers].

tasks_wake_a_loop_that_lingers(_Config) ->
    {Pid, Socket} = Server = server(),
    [begin
         exchange(Socket),
         {ok, 4.0} = py_event_loop:run(math, sqrt, [16], #{loop => Pid})
     end || _ <- lists:seq(1, 500)],
    close(Server).

timers_wake_a_loop_that_lingers(_Config) ->
    {Pid, Socket} = Server = server(),
    [begin
         exchange(Socket),
         {ok, 0.005} = py_event_loop:run(idle_server, sleep, [0.005], #{loop => Pid})
     end || _ <- lists:seq(1, 50)],
    close(Server).

%% Its descriptors are closed while a thread may sleep over them; none stays open, and none that
%% comes in their place is taken for them.
a_loop_that_lingers_can_be_closed(_Config) ->
    Round = fun() ->
                    {_, Socket} = Server = server(#{worker => 1}),
                    exchange(Socket),
                    close(Server)
            end,
    Round(),
    Before = open_descriptors(),
    [Round() || _ <- lists:seq(1, py_test:fewer(100))],
    py_test:wait_until(fun() -> open_descriptors() =< Before end).

a_loop_whose_owner_is_killed_while_it_lingers_is_closed(_Config) ->
    Before = open_descriptors(),
    [begin
         {Pid, Socket} = server(#{worker => 1}),
         true = unlink(Pid),
         exchange(Socket),
         exit(Pid, kill),
         {error, closed} = gen_tcp:recv(Socket, 1, 60000),
         ok = gen_tcp:close(Socket)
     end || _ <- lists:seq(1, py_test:fewer(50))],
    py_test:wait_until(fun() -> open_descriptors() =< Before + 2 end).

the_application_stops_while_loops_linger(_Config) ->
    [begin
         {Pid, Socket} = server(),
         true = unlink(Pid),
         exchange(Socket),
         ok = application:stop(erlang_python),
         {error, closed} = gen_tcp:recv(Socket, 1, 60000),
         ok = gen_tcp:close(Socket),
         ok = application:start(erlang_python),
         {ok, 4.0} = py_event_loop:run(math, sqrt, [16])
     end || _ <- lists:seq(1, 5)].

open_descriptors() ->
    {ok, Names} = file:list_dir("/proc/self/fd"),
    length(Names).
