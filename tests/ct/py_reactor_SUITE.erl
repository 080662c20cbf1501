%% SPDX-License-Identifier: Apache-2.0
%%
%% The reactor: descriptors that Erlang hands over, and protocols in Python.  The connections are
%% pairs of TCP sockets on the loopback; the protocols are in a module that init_per_suite
%% writes.
-module(py_reactor_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([a_connection_is_served/1,
         the_protocol_knows_its_client/1,
         a_descriptor_by_its_number_stays_the_callers/1,
         a_socket_of_the_socket_module_is_taken/1,
         a_large_message_goes_through/1,
         many_connections_do_not_mix/1]).
-export([a_protocol_closes_its_connection/1,
         the_end_of_the_client_is_told/1,
         a_connection_that_is_reset_is_told/1,
         a_failing_protocol_loses_its_connection_only/1,
         a_wrong_action_is_a_failure/1,
         data_that_are_kept_stay/1,
         data_that_are_kept_stay_after_a_failure/1,
         whatever_a_protocol_raises_ends_its_connection/1,
         an_ended_protocol_touches_no_other_connection/1,
         a_protocol_may_read_and_write_by_itself/1,
         signal_write_ready_writes_unasked/1]).
-export([the_setup_code_sets_the_factory/1,
         the_own_interpreter_sets_the_factory/1,
         contexts_that_do_not_start_are_errors/1,
         connections_are_limited/1,
         wrong_descriptors_are_refused/1,
         the_context_may_come_last/1,
         stats_count/1]).
-export([the_end_of_a_context_ends_its_connections/1,
         the_stop_of_the_application_ends_contexts/1,
         no_descriptor_is_left/1]).
-export([python_closes_its_duplicate_and_erlang_goes_on/1,
         duplicates_are_not_inherited/1,
         what_cannot_be_duplicated_is_an_error/1]).

-define(ERROR(Type, Message), {error, {Type, Message}}).

suite() -> [{timetrap, {minutes, 5}}].

all() -> py_test:cases(?MODULE).

init_per_suite(Config) -> py_test:start_with(Config, [{reactor_protocols, source()}]).

end_per_suite(Config) -> py_test:stop(Config).

init_per_testcase(_Case, Config) ->
    ok = py_import:add_path(proplists:get_value(modules, Config)),
    Config.

end_per_testcase(_Case, _Config) ->
    py_test:restore(),
    ok.

source() -> <<"
import erlang, os
from erlang import reactor

class Echo(reactor.Protocol):
    def data_received(self, data):
        self.write_buffer.extend(data)
        return 'write_pending'

class Telling(Echo):
    'Tells the process that the client info names.'
    def tell(self, *what):
        erlang.send(self.client_info['pid'], (erlang.atom('told'), *what))

    def connection_made(self, fd, client_info):
        assert fd == self.fd and client_info is self.client_info
        assert reactor.get_protocol(fd) is self
        self.tell('made', fd, client_info)

    def connection_lost(self):
        self.tell('lost', self.fd)

class Closing(Telling):
    def data_received(self, data):
        if data == b'return': return 'close'
        if data == b'call': self.close()
        self.tell('still here')
        return 'continue'

class Failing(Telling):
    def connection_made(self, fd, client_info):
        super().connection_made(fd, client_info)
        if client_info.get('refuse'): raise ValueError('no')

    def data_received(self, data):
        if data == b'none': return None
        raise ValueError('on purpose')

class Keeping(reactor.Protocol):
    'Answers with what it has kept when it sees a full stop.'
    def __init__(self):
        super().__init__()
        self.kept = []

    def data_received(self, data):
        self.kept.append(data[:2])
        if data[-1:] != b'.': return 'continue'
        self.write_buffer += b''.join(self.kept)
        return 'write_pending'

class KeepingAll(Telling):
    'Keeps what it gets, and fails then.'
    kept = []

    def data_received(self, data):
        self.kept.append(data)
        raise ValueError('on purpose')

def kept():
    kept = [bytes(data) for data in KeepingAll.kept]
    KeepingAll.kept.clear()
    return kept

class Raising(Telling):
    'Raises what its client says, and where.'
    where = None

    def data_received(self, data):
        where, name = bytes(data).decode().split()
        self.where, self.error = where, eval(name, {'asyncio': __import__('asyncio'), 'erlang': erlang})
        return self.act('data_received', 'close' if where == 'connection_lost' else 'write_pending')

    def write_ready(self):
        return self.act('write_ready', 'read_pending')

    def connection_lost(self):
        super().connection_lost()
        self.act('connection_lost', None)

    def act(self, where, action):
        if where == self.where: raise self.error('on purpose')
        return action

class Lingering(Telling):
    'Is known after its end.'
    all = []

    def connection_made(self, fd, client_info):
        self.all.append(self)
        super().connection_made(fd, client_info)

def use_ended():
    'What the first of two does to the second one.'
    ended, other = Lingering.all
    Lingering.all.clear()
    assert ended.fd == -1 and not reactor.signal_write_ready(ended.fd)
    done = []
    for fd in (-1, other.fd):
        ended.fd = fd
        for use in (ended.read, lambda: ended.write(b'x'), ended.close):
            try: done.append(use())
            except OSError as error: assert 'has ended' in str(error), error
    return done

class Raw(reactor.Protocol):
    'Does it all by itself; never reads more than three bytes at once.'
    def data_received(self, data):
        rest = self.read(3)
        self.out = bytes(data) + b'|' + (b'nothing' if rest is None else rest)
        return 'write_pending'

    def write_ready(self):
        self.out = self.out[self.write(self.out):]
        return 'read_pending' if not self.out else 'continue'

class Unasked(reactor.Protocol):
    def connection_made(self, fd, client_info):
        self.write_buffer += b'hello'
        assert reactor.signal_write_ready(fd)

    def data_received(self, data):
        raise AssertionError('nothing was to be read')

class Modest(Telling):
    pass
">>.

context(Name) -> context(Name, #{}).

context(Name, Options) ->
    {ok, Context} = py_reactor_context:start_link(Name, auto, Options#{factory => {reactor_protocols, Name}}),
    Context.

%% Both ends of a connection: the client's, and that which is handed over.
connection() ->
    {ok, Listen} = gen_tcp:listen(0, [binary, {active, false}, {ip, {127, 0, 0, 1}}, {reuseaddr, true}]),
    {ok, Port} = inet:port(Listen),
    {ok, Client} = gen_tcp:connect({127, 0, 0, 1}, Port, [binary, {active, false}, {nodelay, true}]),
    {ok, Server} = gen_tcp:accept(Listen, 60000),
    ok = gen_tcp:close(Listen),
    {Client, Server}.

%% The client of a connection that the context serves.
served(Context) -> served(Context, #{pid => self()}).

served(Context, Info) ->
    {Client, Server} = connection(),
    {ok, _} = py_reactor_context:handoff(Context, Server, Info),
    Client.

ask(Client, Data) ->
    ok = gen_tcp:send(Client, Data),
    receive_bytes(Client, iolist_size(Data)).

receive_bytes(Client, Size) ->
    {ok, Answer} = gen_tcp:recv(Client, Size, 60000),
    Answer.

is_closed(Client) ->
    {error, Reason} = gen_tcp:recv(Client, 0, 60000),
    Reason =:= closed orelse Reason =:= econnreset.

told() ->
    receive
        {told, What} -> What;
        Told when element(1, Told) =:= told -> tl(tuple_to_list(Told))
    after 60000 -> error({not_told, py_test:messages()})
    end.

connections(Context) ->
    {ok, #{connections := Connections}} = py_reactor_context:stats(Context),
    Connections.

descriptors() ->
    {ok, Names} = file:list_dir("/proc/self/fd"),
    length(Names).

%%% Connections

a_connection_is_served(_Config) ->
    Context = context('Echo'),
    Client = served(Context),
    [begin
         Data = integer_to_binary(N),
         ?assertEqual(Data, ask(Client, Data))
     end || N <- lists:seq(1, 100)],
    ok = gen_tcp:close(Client),
    {Other, Server} = connection(),
    {ok, _} = py_reactor_context:handoff(Server, #{}),
    undefined = erlang:port_info(Server),
    <<"any">> = ask(Other, <<"any">>),
    ok = py_reactor_context:stop(Context),
    true = is_closed(Other),
    [] = py_test:messages().

the_protocol_knows_its_client(_Config) ->
    Context = context('Telling'),
    {Client, Server} = connection(),
    Info = #{pid => self(), <<"peer">> => {127, 0, 0, 1}},
    {ok, Fd} = py_reactor_context:handoff(Context, Server, Info),
    [<<"made">>, Fd, #{pid := _, <<"peer">> := {127, 0, 0, 1}}] = told(),
    <<"a">> = ask(Client, <<"a">>),
    ok = py_reactor_context:stop(Context).

a_descriptor_by_its_number_stays_the_callers(_Config) ->
    Context = context('Telling'),
    {Client, Server} = connection(),
    {ok, Fd} = inet:getfd(Server),
    {ok, Own} = py_reactor_context:handoff(Context, Fd, #{pid => self()}),
    ?assertNotEqual(Fd, Own),
    <<"a">> = ask(Client, <<"a">>),
    ok = gen_tcp:close(Server),
    <<"b">> = ask(Client, <<"b">>),
    ok = py_reactor_context:stop(Context),
    true = is_closed(Client).

a_socket_of_the_socket_module_is_taken(_Config) ->
    Context = context('Echo'),
    {ok, Listen} = gen_tcp:listen(0, [binary, {active, false}, {ip, {127, 0, 0, 1}}]),
    {ok, Port} = inet:port(Listen),
    {ok, Socket} = socket:open(inet, stream, tcp),
    ok = socket:connect(Socket, #{family => inet, addr => {127, 0, 0, 1}, port => Port}),
    {ok, Client} = gen_tcp:accept(Listen, 60000),
    {ok, _} = py_reactor_context:handoff(Context, Socket, #{}),
    <<"a">> = ask(Client, <<"a">>),
    ok = gen_tcp:close(Listen),
    ok = py_reactor_context:stop(Context).

%% Larger than all buffers on the way, so that the protocol has to wait in both directions.
a_large_message_goes_through(_Config) ->
    Context = context('Echo'),
    Client = served(Context),
    Data = binary:copy(<<"0123456789abcdef">>, 500000),
    W = py_test:worker(),
    py_test:start(W, fun() -> gen_tcp:send(Client, Data) end),
    ?assert(receive_bytes(Client, byte_size(Data)) =:= Data),
    ok = py_test:answer(W),
    py_test:end_worker(W),
    Size = byte_size(Data),
    {ok, #{bytes_in := Size, bytes_out := Size}} = py_reactor_context:stats(Context),
    ok = py_reactor_context:stop(Context).

many_connections_do_not_mix(_Config) ->
    Context = context('Echo'),
    Clients = [served(Context) || _ <- lists:seq(1, 50)],
    Numbered = lists:zip(lists:seq(1, 50), Clients),
    [begin
         [ok = gen_tcp:send(Client, <<N:32, Round:32>>) || {N, Client} <- Numbered],
         [?assertEqual(<<N:32, Round:32>>, receive_bytes(Client, 8)) || {N, Client} <- Numbered]
     end || Round <- lists:seq(1, 20)],
    50 = connections(Context),
    [ok = gen_tcp:close(Client) || Client <- Clients],
    py_test:wait_until(fun() -> connections(Context) =:= 0 end),
    ok = py_reactor_context:stop(Context).

%%% Protocols

a_protocol_closes_its_connection(_Config) ->
    Context = context('Closing'),
    [begin
         Client = served(Context),
         [<<"made">>, Fd, _] = told(),
         ok = gen_tcp:send(Client, How),
         [<<"lost">>, Fd] = told(),
         true = is_closed(Client)
     end || How <- [<<"return">>]],
    Client = served(Context),
    [<<"made">>, Fd, _] = told(),
    ok = gen_tcp:send(Client, <<"call">>),
    [<<"lost">>, Fd] = told(),
    <<"still here">> = told(),
    true = is_closed(Client),
    0 = connections(Context),
    ok = py_reactor_context:stop(Context),
    [] = py_test:messages().

the_end_of_the_client_is_told(_Config) ->
    Context = context('Telling'),
    Client = served(Context),
    [<<"made">>, Fd, _] = told(),
    ok = gen_tcp:close(Client),
    [<<"lost">>, Fd] = told(),
    0 = connections(Context),
    {ok, false} = py_event_loop:run('erlang.reactor', signal_write_ready, [Fd]),
    ok = py_reactor_context:stop(Context),
    [] = py_test:messages().

a_connection_that_is_reset_is_told(_Config) ->
    Context = context('Telling'),
    Client = served(Context),
    [<<"made">>, Fd, _] = told(),
    ok = inet:setopts(Client, [{linger, {true, 0}}]),
    ok = gen_tcp:close(Client),
    [<<"lost">>, Fd] = told(),
    {ok, #{failed := 0, connections := 0}} = py_reactor_context:stats(Context),
    ok = py_reactor_context:stop(Context).

a_failing_protocol_loses_its_connection_only(_Config) ->
    Context = context('Failing'),
    {Refused, Server} = connection(),
    ?ERROR('ValueError', <<"no">>) =
        py_reactor_context:handoff(Context, Server, #{pid => self(), refuse => true}),
    [<<"made">>, RefusedFd, _] = told(),
    [<<"lost">>, RefusedFd] = told(),
    %% It is still the caller's.
    ok = gen_tcp:send(Server, <<"sorry">>),
    <<"sorry">> = receive_bytes(Refused, 5),
    [A, B] = [served(Context) || _ <- [a, b]],
    [[<<"made">>, FdA, _], [<<"made">>, FdB, _]] = [told(), told()],
    ok = gen_tcp:send(A, <<"x">>),
    [<<"lost">>, FdA] = told(),
    true = is_closed(A),
    1 = connections(Context),
    ok = gen_tcp:close(B),
    [<<"lost">>, FdB] = told(),
    {ok, #{failed := 1}} = py_reactor_context:stats(Context),
    ok = py_reactor_context:stop(Context).

a_wrong_action_is_a_failure(_Config) ->
    Context = context('Failing'),
    Client = served(Context),
    [<<"made">>, Fd, _] = told(),
    ok = gen_tcp:send(Client, <<"none">>),
    [<<"lost">>, Fd] = told(),
    {ok, #{failed := 1}} = py_reactor_context:stats(Context),
    ok = py_reactor_context:stop(Context).

data_that_are_kept_stay(_Config) ->
    Context = context('Keeping'),
    Client = served(Context),
    Other = served(Context),
    [begin
         {ok, #{bytes_in := Before}} = py_reactor_context:stats(Context),
         ok = gen_tcp:send(Socket, Data),
         %% Each read takes one message.
         py_test:wait_until(fun() ->
                                    {ok, #{bytes_in := After}} = py_reactor_context:stats(Context),
                                    After =:= Before + byte_size(Data)
                            end)
     end || {Socket, Data} <- [{Client, <<"abc">>}, {Other, <<"xyz">>}, {Client, <<"def">>}]],
    ok = gen_tcp:send(Client, <<"g.">>),
    <<"abdeg.">> = receive_bytes(Client, 6),
    ok = py_reactor_context:stop(Context).

data_that_are_kept_stay_after_a_failure(_Config) ->
    Context = context('KeepingAll'),
    [begin
         Client = served(Context),
         [<<"made">>, Fd, _] = told(),
         ok = gen_tcp:send(Client, Data),
         [<<"lost">>, Fd] = told()
     end || Data <- [<<"abc">>, <<"xyz">>]],
    {ok, [<<"abc">>, <<"xyz">>]} = py_event_loop:run(reactor_protocols, kept, []),
    ok = py_reactor_context:stop(Context).

whatever_a_protocol_raises_ends_its_connection(_Config) ->
    Context = context('Raising'),
    Wishes = [[Where, $\s, Name] || Where <- ["data_received", "write_ready", "connection_lost"],
                                    Name <- ["ValueError", "asyncio.CancelledError", "SystemExit", "erlang.Cancelled"]],
    [begin
         Client = served(Context),
         [<<"made">>, Fd, _] = told(),
         ok = gen_tcp:send(Client, Wish),
         [<<"lost">>, Fd] = told(),
         true = is_closed(Client)
     end || Wish <- Wishes],
    Failed = length(Wishes),
    {ok, #{failed := Failed, connections := 0}} = py_reactor_context:stats(Context),
    ok = py_reactor_context:stop(Context).

an_ended_protocol_touches_no_other_connection(_Config) ->
    Context = context('Lingering'),
    Client = served(Context),
    [<<"made">>, Fd, _] = told(),
    ok = gen_tcp:close(Client),
    [<<"lost">>, Fd] = told(),
    0 = connections(Context),
    Other = served(Context),
    [<<"made">>, _, _] = told(),
    {ok, []} = py_event_loop:run(reactor_protocols, use_ended, []),
    <<"abc">> = ask(Other, <<"abc">>),
    1 = connections(Context),
    ok = py_reactor_context:stop(Context).

a_protocol_may_read_and_write_by_itself(_Config) ->
    Context = context('Raw'),
    Client = served(Context),
    ok = gen_tcp:send(Client, <<"abc">>),
    <<"abc|nothing">> = receive_bytes(Client, 11),
    ok = py_reactor_context:stop(Context).

signal_write_ready_writes_unasked(_Config) ->
    Context = context('Unasked'),
    Client = served(Context),
    <<"hello">> = receive_bytes(Client, 5),
    ok = py_reactor_context:stop(Context).

%%% Contexts

the_setup_code_sets_the_factory(_Config) ->
    {ok, Context} = py_reactor_context:start_link(setup, auto, #{setup_code => <<"
from erlang import reactor

class Upper(reactor.Protocol):
    def data_received(self, data):
        self.write_buffer += bytes(data).upper()
        return 'write_pending'

reactor.set_protocol_factory(Upper)
">>}),
    Client = served(Context),
    <<"ABC">> = ask(Client, <<"abc">>),
    %% It is this context's only.
    Echo = context('Echo'),
    <<"abc">> = ask(served(Echo), <<"abc">>),
    ok = py_reactor_context:stop(Context),
    ok = py_reactor_context:stop(Echo).

the_own_interpreter_sets_the_factory(_Config) ->
    {ok, Context} = py_reactor_context:start_link(plain),
    {_, Server} = connection(),
    ?ERROR('RuntimeError', _) = py_reactor_context:handoff(Context, Server, #{}),
    ok = py:exec(<<"import erlang.reactor, reactor_protocols\n"
                   "erlang.reactor.set_protocol_factory(reactor_protocols.Echo)">>),
    <<"abc">> = ask(served(Context), <<"abc">>),
    {error, {'TypeError', _}} = py:exec(<<"erlang.reactor.set_protocol_factory(None)">>),
    ok = py:exec(<<"erlang.reactor._default_factory = None">>),
    ok = py_reactor_context:stop(Context).

contexts_that_do_not_start_are_errors(_Config) ->
    Start = fun(Options) -> py_reactor_context:start_link(failing, auto, Options) end,
    ?ERROR('ModuleNotFoundError', _) = Start(#{factory => {no_such_module, 'Echo'}}),
    ?ERROR('AttributeError', _) = Start(#{factory => {reactor_protocols, 'NoSuch'}}),
    ?ERROR('TypeError', _) = Start(#{factory => 'Echo'}),
    ?ERROR('SyntaxError', _) = Start(#{setup_code => "def"}),
    ?ERROR('ZeroDivisionError', _) = Start(#{setup_code => <<"1 / 0">>}),
    ?ERROR('ValueError', _) = Start(#{max_connections => 0}),
    ?ERROR('TypeError', _) = Start(#{moon => 1}),
    ?ERROR('TypeError', _) = Start(#{loop => first}),
    ?ERROR('ValueError', _) = py_reactor_context:start_link(failing, no_such_mode),
    {Fits, Other} = case py_test:shared_mode() of true -> {worker, owngil}; false -> {owngil, worker} end,
    ?ERROR('ValueError', _) = py_reactor_context:start_link(failing, Other),
    {ok, Context} = py_reactor_context:start_link(fits, Fits),
    ok = py_reactor_context:stop(Context),
    %% It is about the loop, which may be another one.
    {ok, Loop} = py_web:main_loop(),
    {ok, Main} = py_reactor_context:start_link(fits, worker, #{loop => Loop}),
    ok = py_reactor_context:stop(Main),
    ?ERROR('ValueError', _) = py_reactor_context:start_link(failing, owngil, #{loop => Loop}),
    ?ERROR('ValueError', _) = py_reactor_context:start_link(failing, owngil, #{loop => make_ref()}),
    [] = py_test:messages().

connections_are_limited(_Config) ->
    Context = context('Modest', #{max_connections => 2}),
    [First, _Second] = [served(Context) || _ <- [1, 2]],
    {_, Server} = connection(),
    ?ERROR('BlockingIOError', _) = py_reactor_context:handoff(Context, Server, #{pid => self()}),
    ok = gen_tcp:close(First),
    py_test:wait_until(fun() -> connections(Context) =:= 1 end),
    {ok, _} = py_reactor_context:handoff(Context, Server, #{pid => self()}),
    ok = py_reactor_context:stop(Context).

wrong_descriptors_are_refused(_Config) ->
    Context = context('Echo'),
    ?ERROR('OSError', _) = py_reactor_context:handoff(Context, 999999, #{}),
    {_, Server} = connection(),
    ok = gen_tcp:close(Server),
    ?ERROR('OSError', _) = py_reactor_context:handoff(Context, Server, #{}),
    ?ERROR('TypeError', _) = py_reactor_context:handoff(Context, 0, info),
    ?ERROR('TypeError', _) = py_reactor_context:handoff(Context, socket, #{}),
    %% A file cannot be waited for.
    {ok, Fd} = py:eval(<<"__import__('os').open('/etc/passwd', 0)">>),
    ?ERROR('PermissionError', _) = py_reactor_context:handoff(Context, Fd, #{}),
    {ok, none} = py:call(os, close, [Fd]),
    0 = connections(Context),
    ok = py_reactor_context:stop(Context),
    ?ERROR('ValueError', _) = py_reactor_context:handoff(Context, 0, #{}),
    [?assertMatch(?ERROR('ValueError', _), Fun(Pid), {Fun, Pid})
     || Pid <- [Context, self()], Fun <- [fun py_reactor_context:stats/1, fun py_reactor_context:stop/1]],
    [?assertMatch(?ERROR('TypeError', _), Result, Result)
     || Result <- [py_reactor_context:stats(context), py_reactor_context:stop(context),
                   py_reactor_context:handoff(context, 0, #{}), py_reactor_context:handoff(0, #{}, context)]],
    ?ERROR('RuntimeError', _) = py_reactor_context:handoff(0, #{}).

the_context_may_come_last(_Config) ->
    Context = context('Echo'),
    {Client, Server} = connection(),
    {ok, _} = py_reactor_context:handoff(Server, #{pid => self()}, Context),
    <<"ab">> = ask(Client, <<"ab">>),
    ?ERROR('TypeError', _) = py_reactor_context:handoff(0, info, Context),
    ok = py_reactor_context:stop(Context).

stats_count(_Config) ->
    Context = context('Echo'),
    ?assertEqual({ok, #{id => 'Echo', connections => 0, accepted => 0, failed => 0, bytes_in => 0, bytes_out => 0}},
                 py_reactor_context:stats(Context)),
    Client = served(Context),
    <<"abcde">> = ask(Client, <<"abcde">>),
    ?assertEqual({ok, #{id => 'Echo', connections => 1, accepted => 1, failed => 0, bytes_in => 5, bytes_out => 5}},
                 py_reactor_context:stats(Context)),
    ok = py_reactor_context:stop(Context).

%%% The end

the_end_of_a_context_ends_its_connections(_Config) ->
    Ends = [fun py_reactor_context:stop/1,
            fun(Context) -> true = unlink(Context), true = exit(Context, shutdown) end,
            fun(Context) -> true = unlink(Context), true = exit(Context, kill) end],
    [begin
         Context = context('Telling'),
         Client = served(Context),
         [<<"made">>, Fd, _] = told(),
         End(Context),
         [<<"lost">>, Fd] = told(),
         true = is_closed(Client),
         py_test:wait_until(fun() -> not is_process_alive(Context) end),
         ?ERROR('ValueError', _) = py_reactor_context:stats(Context)
     end || End <- Ends],
    %% Also with the process that started it.
    Me = self(),
    W = py_test:worker(),
    Client = py_test:run(W, fun() -> served(context('Telling'), #{pid => Me}) end),
    [<<"made">>, Fd, _] = told(),
    py_test:kill(W),
    [<<"lost">>, Fd] = told(),
    {error, _} = gen_tcp:send(Client, <<"x">>),
    [] = py_test:messages().

the_stop_of_the_application_ends_contexts(_Config) ->
    Context = context('Echo'),
    true = unlink(Context),
    Monitor = monitor(process, Context),
    Client = served(Context),
    <<"a">> = ask(Client, <<"a">>),
    ok = application:stop(erlang_python),
    receive {'DOWN', Monitor, process, Context, {shutdown, cancelled}} -> ok after 60000 -> error(lives_on) end,
    true = is_closed(Client),
    {error, not_running} = py_reactor_context:handoff(0, #{}),
    {error, not_running} = py_reactor_context:start_link(late),
    ok = application:start(erlang_python).

no_descriptor_is_left(_Config) ->
    Run = fun() ->
                  Context = context('Echo'),
                  Clients = [served(Context) || _ <- lists:seq(1, 10)],
                  [<<"a">> = ask(Client, <<"a">>) || Client <- Clients],
                  {Ours, Theirs} = lists:split(5, Clients),
                  [ok = gen_tcp:close(Client) || Client <- Ours],
                  ok = py_reactor_context:stop(Context),
                  [ok = gen_tcp:close(Client) || Client <- Theirs]
          end,
    Run(),
    Before = descriptors(),
    [Run() || _ <- lists:seq(1, 3)],
    py_test:wait_until(fun() -> descriptors() =< Before end).

%%% py:dup_fd/1

python_closes_its_duplicate_and_erlang_goes_on(_Config) ->
    {Client, Server} = connection(),
    {ok, Number} = inet:getfd(Server),
    [python_says_hello(Source, Client) || Source <- [Server, Number]],
    ok = gen_tcp:send(Server, <<"still here">>),
    {ok, <<"still here">>} = gen_tcp:recv(Client, 10, 60000),
    {ok, Socket} = socket:open(inet, stream),
    {ok, Copy} = py:dup_fd(Socket),
    ok = socket:close(Socket),
    {ok, true} = py:eval(<<"__import__('stat').S_ISSOCK(__import__('os').fstat(fd).st_mode)">>, #{fd => Copy}),
    {ok, none} = py:call(os, close, [Copy]).

python_says_hello(Source, Client) ->
    {ok, Copy} = py:dup_fd(Source),
    ok = py:exec(<<"
import socket
def hello(fd):
    with socket.socket(fileno=fd) as s:
        s.sendall(b'hello')
">>),
    {ok, none} = py:call('__main__', hello, [Copy]),
    {ok, <<"hello">>} = gen_tcp:recv(Client, 5, 60000),
    ?ERROR('OSError', _) = py:call(os, fstat, [Copy]).

duplicates_are_not_inherited(_Config) ->
    {ok, Copy} = py:dup_fd(0),
    {ok, false} = py:call(os, get_inheritable, [Copy]),
    {ok, none} = py:call(os, close, [Copy]).

what_cannot_be_duplicated_is_an_error(_Config) ->
    Before = descriptors(),
    {_, Closed} = connection(),
    ok = gen_tcp:close(Closed),
    {error, Bad} = py:call(os, dup, [999999]),
    [?assertEqual({error, Bad}, py:dup_fd(Fd), Fd) || Fd <- [999999, -1, 1 bsl 31, 1 bsl 70]],
    ?ERROR('OSError', _) = py:dup_fd(Closed),
    [?assertMatch(?ERROR('TypeError', _), py:dup_fd(What), What) || What <- [socket, 1.0, <<"0">>, self(), {a, b}]],
    py_test:wait_until(fun() -> descriptors() =< Before + 1 end), % the client's
    ok = application:stop(erlang_python),
    ?assertEqual({error, not_running}, py:dup_fd(0)).
