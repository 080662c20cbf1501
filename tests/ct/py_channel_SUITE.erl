%% SPDX-License-Identifier: Apache-2.0
%%
%% Channels, byte channels and buffers, and Python threads that wait at them.  Tasks that wait
%% are in py_channel_async_SUITE.
-module(py_channel_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([terms_arrive_as_arguments_do/1,
         items_come_in_their_order/1,
         receive_waits_for_an_item/1,
         try_receive_never_waits/1,
         receive_ends_with_its_timeout/1,
         a_timeout_loses_no_item/1,
         a_timeout_must_be_a_number_of_seconds/1,
         iterating_ends_with_the_channel/1,
         items_are_received_after_the_end/1,
         'Python_closes_a_channel'/1,
         the_death_of_its_process_closes_a_channel/1,
         a_full_channel_is_busy/1,
         send_waits_for_room/1,
         each_item_is_received_once/1,
         receivers_in_several_interpreters/1,
         a_channel_comes_back_as_it_was/1,
         what_is_no_channel_is_refused/1,
         what_does_not_go_through_a_channel_is_refused/1,
         an_item_that_does_not_convert_is_an_error_of_its_own/1,
         options_are_checked/1]).
-export([threads_of_Python_wait/1,
         a_cancel_ends_the_wait/1,
         a_deadline_ends_the_wait/1,
         a_killed_caller_ends_the_wait/1,
         waiting_executors_hold_up_nobody/1,
         a_nested_call_waits/1,
         an_inline_function_does_not_wait/1,
         the_stop_of_the_application_closes_channels/1,
         an_interpreter_ends_under_threads_that_wait/1,
         a_cancel_never_takes_an_item_away_from_others/1]).
-export([bytes_go_both_ways/1,
         bytes_of_every_kind_arrive_as_they_were_sent/1,
         recv_waits/1,
         recv_timeouts_lose_nothing/1,
         a_killed_receiver_takes_nothing_with_it/1,
         receivers_that_were_killed_do_not_pile_up/1,
         'Python_waits_for_room'/1,
         either_side_sees_the_end_of_bytes/1]).
-export([a_buffer_is_read_as_a_file/1,
         reading_waits_for_bytes/1,
         a_large_buffer_arrives_whole/1,
         a_buffer_that_Python_gives_up_is_closed/1,
         a_buffer_has_a_timeout/1]).

suite() -> [{timetrap, {minutes, 5}}].

all() -> py_test:cases(?MODULE).

init_per_suite(Config) -> py_test:start(Config).

end_per_suite(Config) -> py_test:stop(Config).

init_per_testcase(_Case, Config) ->
    ok = define(),
    Config.

end_per_testcase(_Case, _Config) ->
    py_test:restore(),
    ok.

define() ->
    py:exec(<<"
import erlang, threading
from erlang.channel import ByteChannel, Channel, ChannelClosed, PyBuffer, reply

def take(ref, **options): return Channel(ref).receive(**options)
def receive_all(ref): return list(Channel(ref))
def receive_n(ref, n):
    channel = Channel(ref)
    return [channel.receive() for _ in range(n)]
def echo(ref, pid):
    for item in Channel(ref): reply(pid, item)
def echo_bytes(ref):
    channel = ByteChannel(ref)
    for data in channel: channel.send_bytes(data)
def error_of(function, *args, **kwargs):
    try: return ('returned', function(*args, **kwargs))
    except BaseException as e: return (type(e).__name__, str(e))
">>).

new() -> new(#{}).

new(Options) ->
    {ok, Channel} = py_channel:new(Options),
    Channel.

call(Function, Args) ->
    py:call('__main__', Function, Args).

start(Function, Args) ->
    py:spawn_call('__main__', Function, Args).

await_receivers(N, Channel) ->
    py_test:wait_until(fun() -> maps:get(waiting, py_channel:info(Channel)) =:= N end).

%%% Terms

terms_arrive_as_arguments_do(_Config) ->
    Terms = [0, -1, 1 bsl 62, 1 bsl 63, -(1 bsl 63), 1 bsl 64, 1 bsl 200, 1.5, -0.0, atom, true, none, nil, undefined,
             '', <<>>, <<"text">>, <<"h", 252, "r">>, <<"hür"/utf8>>, binary:copy(<<"x">>, 511),
             binary:copy(<<"x">>, 512), binary:copy(<<"x">>, 513), binary:copy(<<255>>, 100000), <<1:3>>,
             [], [1, 2.0, <<"three">>], {}, {1, {2}}, #{}, #{a => [1], <<"b">> => #{}}, [a | b],
             {bytes, <<"text">>}, self(), make_ref(), fun lists:map/2, new(), lists:seq(1, 1000)],
    Channel = new(),
    [ok = py_channel:send(Channel, Term) || Term <- Terms],
    #{items := N} = py_channel:info(Channel),
    N = length(Terms),
    ok = py:exec(<<"def same(ref, terms):\n"
                   "    channel = Channel(ref)\n"
                   "    found = [channel.receive() for _ in terms]\n"
                   "    return [(a, b) for a, b in zip(found, terms) if (a, type(a)) != (b, type(b))]\n">>),
    {ok, []} = call(same, [Channel, Terms]),
    #{items := 0, size := 0} = py_channel:info(Channel).

items_come_in_their_order(_Config) ->
    Channel = new(),
    N = py_test:fewer(20000),
    Ticket = start(receive_all, [Channel]),
    [ok = py_channel:send(Channel, {I}) || I <- lists:seq(1, N)],
    ok = py_channel:close(Channel),
    {ok, Items} = py:await(Ticket, infinity),
    true = Items =:= [{I} || I <- lists:seq(1, N)].

receive_waits_for_an_item(_Config) ->
    Channel = new(),
    [begin
         Ticket = start(take, [Channel]),
         await_receivers(1, Channel),
         ok = py_channel:send(Channel, I),
         {ok, I} = py:await(Ticket, infinity)
     end || I <- lists:seq(1, 20)],
    #{items := 0, waiting := 0} = py_channel:info(Channel).

try_receive_never_waits(_Config) ->
    Channel = new(),
    Python = py_test:handle(<<"lambda ref, *default: error_of(Channel(ref).try_receive, *default)">>),
    Try = fun(Args) -> {ok, Result} = py:call_object(Python, [Channel | Args]), Result end,
    {<<"returned">>, none} = Try([]),
    {<<"returned">>, 7} = Try([7]),
    ok = py_channel:send(Channel, none),
    ok = py_channel:send(Channel, last),
    {<<"returned">>, none} = Try([7]),
    ok = py_channel:close(Channel),
    {<<"returned">>, last} = Try([7]),
    {<<"ChannelClosed">>, _} = Try([7]),
    {<<"TypeError">>, _} = Try([7, 8]).

receive_ends_with_its_timeout(_Config) ->
    Channel = new(),
    {error, {'Timeout', _}} = py:call('__main__', take, [Channel], #{timeout => 0}),
    {error, {'Timeout', _}} = py:call('__main__', take, [Channel], #{timeout => -1}),
    {error, {'Timeout', _}} = py:call('__main__', take, [Channel], #{timeout => 0.02}),
    {ok, true} = py:eval(<<"issubclass(erlang.Timeout, TimeoutError)">>),
    ok = py_channel:send(Channel, here),
    {ok, here} = py:call('__main__', take, [Channel], #{timeout => 0}),
    Ticket = py:spawn_call('__main__', take, [Channel], #{timeout => 1.0e300}),
    await_receivers(1, Channel),
    ok = py_channel:send(Channel, there),
    {ok, there} = py:await(Ticket, infinity).

a_timeout_loses_no_item(_Config) ->
    Channel = new(),
    ok = py:exec(<<"def impatient(ref):\n"
                   "    channel, found, n = Channel(ref), [], 0\n"
                   "    while True:\n"
                   "        try: found.append(channel.receive(timeout=0.00003 * (n % 4)))\n"
                   "        except erlang.Timeout: n += 1\n"
                   "        except ChannelClosed: return found\n">>),
    N = py_test:fewer(2000),
    Ticket = start(impatient, [Channel]),
    [begin
         ok = py_channel:send(Channel, I),
         I rem 10 =:= 0 andalso erlang:yield()
     end || I <- lists:seq(1, N)],
    ok = py_channel:close(Channel),
    {ok, Found} = py:await(Ticket, infinity),
    true = Found =:= lists:seq(1, N).

a_timeout_must_be_a_number_of_seconds(_Config) ->
    Channel = new(),
    ok = py_channel:send(Channel, stays),
    Error = fun(Args, Kwargs) ->
                    {ok, {Type, _}} = py:eval(<<"error_of(Channel(ref).receive, *args, **kwargs)">>,
                                              #{ref => Channel, args => Args, kwargs => Kwargs}),
                    Type
            end,
    <<"TypeError">> = Error([<<"1">>], #{}),
    <<"TypeError">> = Error([1, 2], #{}),
    <<"TypeError">> = Error([1], #{timeout => 1}),
    <<"TypeError">> = Error([], #{time => 1}),
    <<"ValueError">> = Error([], #{timeout => py_test:handle(<<"float('nan')">>)}),
    #{items := 1} = py_channel:info(Channel),
    <<"returned">> = Error([], #{timeout => none}).

iterating_ends_with_the_channel(_Config) ->
    Channel = new(),
    Ticket = start(receive_all, [Channel]),
    await_receivers(1, Channel),
    ok = py_channel:send(Channel, a),
    ok = py_channel:send(Channel, b),
    ok = py_channel:close(Channel),
    {ok, [a, b]} = py:await(Ticket, infinity),
    {ok, []} = call(receive_all, [Channel]).

items_are_received_after_the_end(_Config) ->
    Channel = new(),
    [ok = py_channel:send(Channel, I) || I <- [1, 2]],
    ok = py_channel:close(Channel),
    ok = py_channel:close(Channel),
    {error, closed} = py_channel:send(Channel, 3),
    {error, closed} = py_channel:send(Channel, 3, 1000),
    #{closed := true, items := 2} = py_channel:info(Channel),
    {ok, true} = py:eval(<<"Channel(ref).closed">>, #{ref => Channel}),
    {ok, 1} = call(take, [Channel]),
    {ok, 2} = call(take, [Channel]),
    {error, {'ChannelClosed', _}} = call(take, [Channel]),
    {error, {'ChannelClosed', _}} = py:call('__main__', take, [Channel], #{timeout => 0}).

'Python_closes_a_channel'(_Config) ->
    ok = py:exec(<<"def take_one(ref):\n"
                   "    with Channel(ref) as channel:\n"
                   "        return channel.receive()\n"
                   "def fail(ref):\n"
                   "    with Channel(ref) as channel: 1 / 0\n">>),
    [Taken, Failed, Dropped] = [new() || _ <- lists:seq(1, 3)],
    ok = py_channel:send(Taken, 1),
    {ok, 1} = call(take_one, [Taken]),
    {error, closed} = py_channel:send(Taken, 2),
    {error, {'ZeroDivisionError', _}} = call(fail, [Failed]),
    {error, closed} = py_channel:send(Failed, 2),
    %% Nobody uses it just now: the next call may.
    ok = py_channel:send(Dropped, 1),
    {ok, 1} = call(take, [Dropped]),
    {ok, _} = py:gc(),
    ok = py_channel:send(Dropped, 2),
    {ok, 2} = call(take, [Dropped]),
    {ok, none} = py:eval(<<"Channel(ref).close()">>, #{ref => Dropped}),
    {error, closed} = py_channel:send(Dropped, 3),
    %% A consumer that is cancelled is seen too.
    Cancelled = new(),
    Ticket = start(take_one, [Cancelled]),
    await_receivers(1, Cancelled),
    ok = py:cancel(Ticket),
    py_test:wait_until(fun() -> py_channel:send(Cancelled, 1) =:= {error, closed} end).

the_death_of_its_process_closes_a_channel(_Config) ->
    Worker = py_test:worker(),
    {Waiting, Filled} = py_test:run(Worker, fun() -> {new(), new()} end),
    Ticket = start(receive_all, [Waiting]),
    await_receivers(1, Waiting),
    ok = py_channel:send(Filled, 1),
    ok = py_test:kill(Worker),
    {ok, []} = py:await(Ticket, infinity),
    py_test:wait_until(fun() -> maps:get(closed, py_channel:info(Filled)) end),
    {error, closed} = py_channel:send(Filled, 2),
    {ok, [1]} = call(receive_all, [Filled]).

a_full_channel_is_busy(_Config) ->
    Channel = new(#{max_size => 10}),
    #{max_size := 10} = py_channel:info(Channel),
    ok = py_channel:send(Channel, <<"1234567">>),
    busy = py_channel:send(Channel, <<"1234">>),
    ok = py_channel:send(Channel, <<"123">>),
    busy = py_channel:send(Channel, <<>>),
    {error, timeout} = py_channel:send(Channel, 1, 0),
    #{size := 10, items := 2} = py_channel:info(Channel),
    {ok, <<"1234567">>} = call(take, [Channel]),
    {ok, <<"123">>} = call(take, [Channel]),
    ok = py_channel:send(Channel, lists:seq(1, 1000)), % any fits if there is nothing else
    busy = py_channel:send(Channel, 1),
    ok = py_channel:close(Channel),
    {error, closed} = py_channel:send(Channel, 1).

send_waits_for_room(_Config) ->
    Channel = new(#{max_size => 100}),
    N = py_test:fewer(3000),
    Senders = [py_test:worker() || _ <- lists:seq(1, 3)],
    [py_test:start(Sender, fun() -> [py_channel:send(Channel, {S, I}, infinity) || I <- lists:seq(1, N)] end)
     || {S, Sender} <- lists:enumerate(Senders)],
    {ok, Items} = call(receive_n, [Channel, 3 * N]),
    [true = lists:all(fun(R) -> R =:= ok end, py_test:answer(Sender)) || Sender <- Senders],
    [true = [I || {S1, I} <- Items, S1 =:= S] =:= lists:seq(1, N) || S <- [1, 2, 3]],
    %% One that is killed, and one that is told of the end.
    ok = py_channel:send(Channel, binary:copy(<<"x">>, 100)),
    [Killed, Told | _] = [py_test:worker() || _ <- lists:seq(1, 2)],
    [py_test:start(W, fun() -> py_channel:send(Channel, 1, infinity) end) || W <- [Killed, Told]],
    {error, timeout} = py_channel:send(Channel, 1, 20),
    ok = py_test:kill(Killed),
    ok = py_channel:close(Channel),
    {error, closed} = py_test:answer(Told),
    [] = py_test:messages().

each_item_is_received_once(_Config) ->
    Channel = new(),
    N = py_test:fewer(5000),
    ok = py:exec(<<"def in_threads(ref, n):\n"
                   "    found = [[] for _ in range(n)]\n"
                   "    def run(mine): mine.extend(Channel(ref))\n"
                   "    threads = [threading.Thread(target=run, args=(mine,)) for mine in found]\n"
                   "    for thread in threads: thread.start()\n"
                   "    for thread in threads: thread.join()\n"
                   "    return [item for mine in found for item in mine]\n">>),
    Tickets = [start(in_threads, [Channel, 2]), start(receive_all, [Channel])],
    Work = fun(From) -> fun() -> [ok = py_channel:send(Channel, I) || I <- lists:seq(From, From + N - 1)] end end,
    _ = py_test:at_once([Work(1), Work(N + 1)]),
    ok = py_channel:close(Channel),
    Items = lists:append([element(2, {ok, _} = py:await(Ticket, infinity)) || Ticket <- Tickets]),
    true = lists:sort(Items) =:= lists:seq(1, 2 * N).

receivers_in_several_interpreters(_Config) ->
    Channel = new(),
    Receive = fun() ->
                      {ok, Items} = py:eval(<<"list(__import__('erlang.channel').channel.Channel(ref))">>,
                                            #{ref => Channel}, infinity),
                      Items
              end,
    Workers = py_test:workers_apart(2),
    [py_test:start(Worker, Receive) || Worker <- Workers],
    await_receivers(2, Channel),
    [ok = py_channel:send(Channel, I) || I <- lists:seq(1, 300)],
    ok = py_channel:close(Channel),
    Items = lists:append([py_test:answer(Worker) || Worker <- Workers]),
    true = lists:sort(Items) =:= lists:seq(1, 300),
    [py_test:end_worker(Worker) || Worker <- Workers].

a_channel_comes_back_as_it_was(_Config) ->
    Channel = new(),
    {ok, Channel} = py:eval(<<"Channel(ref)">>, #{ref => Channel}),
    {ok, [Channel]} = py:eval(<<"[Channel(Channel(ref))]">>, #{ref => Channel}),
    {ok, true} = py:eval(<<"Channel(ref) == ref and hash(Channel(ref)) == hash(ref)">>, #{ref => Channel}),
    {ok, true} = py:eval(<<"type(ref) is erlang.Ref">>, #{ref => Channel}),
    {ok, Bytes} = py_byte_channel:new(),
    {ok, Bytes} = py:eval(<<"ByteChannel(ref)">>, #{ref => Bytes}),
    {ok, Buffer} = py_buffer:new(),
    {ok, Buffer} = py:eval(<<"PyBuffer(ref)">>, #{ref => Buffer}).

what_is_no_channel_is_refused(_Config) ->
    [{ok, {<<"TypeError">>, _}} = py:eval(<<"error_of(Channel, it)">>, #{it => It})
     || It <- [make_ref(), self(), 1, <<"text">>, none]],
    {ok, Bytes} = py_byte_channel:new(),
    {ok, {<<"TypeError">>, Why}} = py:eval(<<"error_of(Channel, it)">>, #{it => Bytes}),
    {match, _} = re:run(Why, "py_byte_channel:new"),
    {ok, {<<"TypeError">>, _}} = py:eval(<<"error_of(ByteChannel, it)">>, #{it => new()}),
    {ok, {<<"TypeError">>, _}} = py:eval(<<"error_of(PyBuffer, it)">>, #{it => new()}),
    {ok, {<<"TypeError">>, _}} = py:eval(<<"error_of(Channel(it).send, b'x')">>, #{it => new()}),
    {ok, {<<"TypeError">>, _}} = py:eval(<<"error_of(reply, 'name', 1)">>),
    [?assertMatch({error, {'TypeError', _}}, Fun(It), {It, Fun})
     || It <- [make_ref(), self(), not_one],
        Fun <- [fun(C) -> py_channel:send(C, 1) end, fun(C) -> py_channel:send(C, 1, 10) end,
                fun py_channel:close/1, fun py_channel:info/1,
                fun(C) -> py_byte_channel:send(C, <<"a">>) end, fun py_byte_channel:recv/1,
                fun(C) -> py_byte_channel:recv(C, 10) end, fun py_byte_channel:try_receive/1,
                fun py_byte_channel:close/1, fun py_byte_channel:info/1,
                fun(C) -> py_buffer:write(C, <<"a">>) end, fun(C) -> py_buffer:write(C, []) end,
                fun(C) -> py_buffer:write(C, <<"a">>, 10) end, fun py_buffer:close/1, fun py_buffer:info/1]].

what_does_not_go_through_a_channel_is_refused(_Config) ->
    {ok, Bytes} = py_byte_channel:new(),
    {ok, Buffer} = py_buffer:new(),
    [?assertMatch({error, {'TypeError', _}}, Result, Result)
     || Result <- [py_byte_channel:recv(new()), py_byte_channel:try_receive(new()), py_byte_channel:recv(Buffer),
                   py_byte_channel:send(Bytes, not_bytes), py_byte_channel:send(Bytes, [256]),
                   py_byte_channel:send(Bytes, not_bytes, 10), py_channel:send(Bytes, not_bytes),
                   py_buffer:write(Buffer, not_bytes), py_buffer:write(Buffer, [a], infinity)]],
    [#{items := 0, waiting := 0} = py_channel:info(Channel) || Channel <- [Bytes, Buffer]].

an_item_that_does_not_convert_is_an_error_of_its_own(_Config) ->
    Channel = new(),
    ok = py_channel:send(Channel, #{1 => a, 1.0 => b}), % one key in Python
    ok = py_channel:send(Channel, next),
    {error, {'ConversionError', _}} = call(take, [Channel]),
    {ok, next} = call(take, [Channel]).

options_are_checked(_Config) ->
    [?assertMatch({error, {Type, _}}, Module:new(Options), Options)
     || Module <- [py_channel, py_byte_channel, py_buffer],
        {Type, Options} <- [{'ValueError', #{max_size => 0}}, {'ValueError', #{max_size => -1}},
                            {'ValueError', #{max_size => big}}, {'TypeError', #{max_sise => 10}},
                            {'TypeError', [{max_size, 1}]}]],
    {ok, Huge} = py_channel:new(#{max_size => 1 bsl 70}),
    #{max_size := infinity} = py_channel:info(Huge),
    {ok, Bytes} = py_byte_channel:new(),
    [?assertMatch({error, {Type, _}}, Fun(Timeout), Timeout)
     || {Type, Timeout} <- [{'TypeError', soon}, {'ValueError', -1}],
        Fun <- [fun(T) -> py_channel:send(new(), 1, T) end, fun(T) -> py_byte_channel:recv(Bytes, T) end]],
    #{to_erlang := #{waiting := 0}} = py_byte_channel:info(Bytes),
    {ok, Channel} = py_channel:new(#{max_size => infinity}),
    #{max_size := infinity, size := 0, items := 0, closed := false} = py_channel:info(Channel).

%%% How the wait of a thread ends

threads_of_Python_wait(_Config) ->
    Channel = new(),
    ok = py:exec(<<"def answer_from_thread(ref, pid):\n"
                   "    def run(): reply(pid, ('thread', Channel(ref).receive()))\n"
                   "    threading.Thread(target=run).start()\n"
                   "def timeout_in_thread(ref):\n"
                   "    found = []\n"
                   "    thread = threading.Thread(target=lambda: found.append(error_of(take, ref, timeout=0.02)))\n"
                   "    thread.start()\n"
                   "    thread.join()\n"
                   "    return found[0][0]\n">>),
    {ok, <<"Timeout">>} = call(timeout_in_thread, [Channel]),
    {ok, none} = call(answer_from_thread, [Channel, self()]),
    await_receivers(1, Channel),
    ok = py_channel:send(Channel, there),
    receive {<<"thread">>, there} -> ok end.

a_cancel_ends_the_wait(_Config) ->
    Channel = new(),
    Ticket = start(take, [Channel]),
    await_receivers(1, Channel),
    ok = py:cancel(Ticket),
    await_receivers(0, Channel),
    ok = py_channel:send(Channel, still_there),
    {ok, still_there} = call(take, [Channel]),
    [] = py_test:messages().

a_deadline_ends_the_wait(_Config) ->
    Channel = new(),
    {error, timeout} = py:call('__main__', take, [Channel], #{}, 20),
    await_receivers(0, Channel),
    ok = py_channel:send(Channel, still_there),
    {ok, still_there} = call(take, [Channel]).

a_killed_caller_ends_the_wait(_Config) ->
    Channel = new(),
    Worker = py_test:worker(),
    py_test:start(Worker, fun() -> define(), call(take, [Channel]) end),
    await_receivers(1, Channel),
    ok = py_test:kill(Worker),
    await_receivers(0, Channel),
    ok = py_channel:send(Channel, still_there),
    {ok, still_there} = call(take, [Channel]).

%% Twice as many as there are executors, where any of them serves any process.
waiting_executors_hold_up_nobody(_Config) ->
    N = case py_test:shared_mode() of true -> 2 * py:num_executors(); false -> 4 end,
    Channel = new(),
    Tickets = [start(take, [Channel]) || _ <- lists:seq(1, N)],
    await_receivers(N, Channel),
    {ok, 4.0} = py:call(math, sqrt, [16]),
    [ok = py_channel:send(Channel, I) || I <- lists:seq(1, N)],
    true = lists:sort([I || Ticket <- Tickets, {ok, I} <- [py:await(Ticket, infinity)]]) =:= lists:seq(1, N).

%% It waits on the stack of one that waits for its callback.
a_nested_call_waits(_Config) ->
    Channel = new(),
    Test = self(),
    ok = py:register_function(f, fun([]) -> Test ! nested, {ok, X} = call(take, [Channel]), X end),
    Worker = py_test:worker(),
    py_test:start(Worker, fun() -> define(), py:eval(<<"(erlang.call('f'), take(ref))">>, #{ref => Channel}) end),
    receive nested -> ok end,
    await_receivers(1, Channel),
    ok = py_channel:send(Channel, inner),
    ok = py_channel:send(Channel, outer),
    {ok, {inner, outer}} = py_test:answer(Worker),
    py:unregister_function(f).

%% On the normal path, when the interpreter is busy, it waits for no time.  A function that the
%% machine stopped in is moved there for good, so it is registered again.
an_inline_function_does_not_wait(Config) ->
    py_test:sanitizer(thread) andalso throw({skip, "nothing is fast enough to be inline"}),
    Channel = new(),
    Name = channel_inline,
    _ = py_test:write_module(Config, Name, "from erlang.channel import Channel\n"
                                           "def try_it(ref): return Channel(ref).try_receive()\n"
                                           "def wait(ref): return Channel(ref).receive(timeout=0)\n"),
    ok = py_channel:send(Channel, now),
    {ok, now} = py:call(Name, try_it, [Channel]),
    py_test:wait_until(fun() ->
                               ok = py:register_pool(inline, Name),
                               case py:call(Name, wait, [Channel]) of
                                   {error, {'RuntimeError', Why}} -> nomatch =/= re:run(Why, "inline");
                                   {error, {'Timeout', _}} -> false
                               end
                       end),
    ok = py_channel:send(Channel, again),
    {ok, again} = py:call(Name, try_it, [Channel]),
    ok = py:unregister_pool(Name).

the_stop_of_the_application_closes_channels(Config) ->
    Waiting = new(),
    {ok, Bytes} = py_byte_channel:new(),
    Path = iolist_to_binary(filename:join(proplists:get_value(priv_dir, Config), "told")),
    ok = py:exec(<<"def tell(path, ref):\n"
                   "    how = error_of(take, ref)\n"
                   "    with open(path + '.new', 'w') as f: f.write(how[0])\n"
                   "    __import__('os').rename(path + '.new', path)\n">>),
    {ok, none} = py:eval(<<"threading.Thread(target=tell, args=(path, ref)).start()">>,
                         #{path => Path, ref => Waiting}),
    Ticket = start(take, [Waiting]),
    Receiver = py_test:worker(),
    py_test:start(Receiver, fun() -> py_byte_channel:recv(Bytes) end),
    await_receivers(2, Waiting),
    ok = application:stop(erlang_python),
    {error, closed} = py_test:answer(Receiver),
    {error, closed} = py_channel:send(Waiting, 1),
    py_test:wait_until(fun() -> filelib:is_regular(Path) end),
    {ok, How} = file:read_file(Path),
    true = lists:member(How, [<<"ChannelClosed">>, <<"Cancelled">>]),
    {error, _} = py:await(Ticket, 60000),
    {error, not_running} = py_channel:new(),
    {error, not_running} = py_byte_channel:new(),
    {error, not_running} = py_buffer:new(),
    ok = application:start(erlang_python),
    ok = define(),
    {error, closed} = py_channel:send(Waiting, 1),
    Again = new(),
    ok = py_channel:send(Again, 1),
    {ok, 1} = call(take, [Again]).

an_interpreter_ends_under_threads_that_wait(_Config) ->
    py:subinterp_supported() orelse throw({skip, "this Python has no interpreters with a GIL of their own"}),
    [begin
         Channel = new(),
         {ok, Interp} = py:subinterp_create(),
         ok = py:subinterp_exec(Interp, <<"import threading\n"
                                          "from erlang.channel import Channel\n"
                                          "def waits(ref):\n"
                                          "    for _ in range(2):\n"
                                          "        try: Channel(ref).receive()\n"
                                          "        except BaseException: pass\n"
                                          "def start(ref):\n"
                                          "    for _ in range(3):\n"
                                          "        threading.Thread(target=waits, args=(ref,)).start()\n">>),
         {ok, none} = py:subinterp_call(Interp, '__main__', start, [Channel]),
         await_receivers(3, Channel),
         ok = py:subinterp_destroy(Interp),
         await_receivers(0, Channel),
         py_test:wait_until(fun() -> not lists:member(<<"epy_end\n">>, py_test:thread_names()) end),
         ok = py_channel:send(Channel, still_there),
         {ok, still_there} = call(take, [Channel])
     end || _ <- lists:seq(1, 3)].

%% What a cancelled receiver was given in its last moment may be lost with it; nothing else is.
a_cancel_never_takes_an_item_away_from_others(_Config) ->
    Channel = new(),
    N = py_test:fewer(100),
    [begin
         Ticket = start(take, [Channel]),
         Other = start(take, [Channel]),
         I rem 2 =:= 0 andalso await_receivers(2, Channel),
         ok = py:cancel(Ticket),
         await_receivers(1, Channel),
         ok = py_channel:send(Channel, I),
         {ok, I} = py:await(Other, infinity)
     end || I <- lists:seq(1, N)],
    #{items := 0, waiting := 0} = py_channel:info(Channel).

%%% Bytes

bytes_go_both_ways(_Config) ->
    {ok, Channel} = py_byte_channel:new(),
    Ticket = start(echo_bytes, [Channel]),
    N = py_test:fewer(2000),
    [begin
         ok = py_byte_channel:send(Channel, [<<"number ">>, integer_to_list(I)]),
         Expected = <<"number ", (integer_to_binary(I))/binary>>,
         {ok, Expected} = py_byte_channel:recv(Channel)
     end || I <- lists:seq(1, N)],
    [ok = py_byte_channel:send(Channel, <<I:32>>) || I <- lists:seq(1, N)],
    [{ok, <<I:32>>} = py_byte_channel:recv(Channel, 60000) || I <- lists:seq(1, N)],
    empty = py_byte_channel:try_receive(Channel),
    ok = py_byte_channel:close(Channel),
    {ok, none} = py:await(Ticket, infinity),
    {error, closed} = py_byte_channel:recv(Channel),
    {error, closed} = py_byte_channel:try_receive(Channel).

bytes_of_every_kind_arrive_as_they_were_sent(_Config) ->
    {ok, Channel} = py_byte_channel:new(),
    Sizes = [0, 1, 63, 64, 65, 511, 512, 513, 5000, 100000],
    Pieces = [rand:bytes(Size) || Size <- Sizes],
    [ok = py_byte_channel:send(Channel, Piece) || Piece <- Pieces],
    ok = py:exec(<<"import array\n"
                   "def mirror(ref, n):\n"
                   "    channel = ByteChannel(ref)\n"
                   "    for i in range(n):\n"
                   "        data = channel.receive_bytes()\n"
                   "        assert type(data) is bytes\n"
                   "        for kind in (bytes, bytearray, memoryview): channel.send_bytes(kind(data))\n"
                   "        channel.send_bytes(memoryview(data + data)[::2])\n"
                   "        changed = bytearray(data)\n"
                   "        channel.send_bytes(changed)\n"
                   "        changed[:] = bytes(len(changed))\n"
                   "    return error_of(channel.send_bytes, 'text')[0], error_of(channel.try_send_bytes, 1)[0]\n">>),
    {ok, {<<"TypeError">>, <<"TypeError">>}} = call(mirror, [Channel, length(Pieces)]),
    [begin
         [{ok, Piece} = py_byte_channel:recv(Channel) || _ <- [bytes, bytearray, memoryview]],
         Every = << <<Byte>> || <<Byte, _>> <= <<Piece/binary, Piece/binary>> >>,
         {ok, Every} = py_byte_channel:recv(Channel),
         {ok, Piece} = py_byte_channel:recv(Channel)
     end || Piece <- Pieces],
    empty = py_byte_channel:try_receive(Channel).

recv_waits(_Config) ->
    {ok, Channel} = py_byte_channel:new(),
    {error, timeout} = py_byte_channel:recv(Channel, 0),
    {error, timeout} = py_byte_channel:recv(Channel, 20),
    Worker = py_test:worker(),
    py_test:start(Worker, fun() -> py_byte_channel:recv(Channel) end),
    await_processes(1, Channel),
    {ok, none} = py:eval(<<"ByteChannel(ref).send_bytes(b'here')">>, #{ref => Channel}),
    {ok, <<"here">>} = py_test:answer(Worker),
    [] = py_test:messages().

await_processes(N, Channel) ->
    py_test:wait_until(fun() ->
                               #{to_erlang := #{waiting := Waiting}} = py_byte_channel:info(Channel),
                               Waiting =:= N
                       end).

recv_timeouts_lose_nothing(_Config) ->
    {ok, Channel} = py_byte_channel:new(),
    N = py_test:fewer(2000),
    ok = py:exec(<<"def send_n(ref, n):\n"
                   "    channel = ByteChannel(ref)\n"
                   "    for i in range(n): channel.send_bytes(i.to_bytes(4, 'big'))\n"
                   "    channel.close()\n">>),
    Ticket = start(send_n, [Channel, N]),
    true = impatient(Channel) =:= [<<I:32>> || I <- lists:seq(0, N - 1)],
    {ok, none} = py:await(Ticket, infinity),
    [] = py_test:messages().

impatient(Channel) ->
    case py_byte_channel:recv(Channel, 0) of
        {ok, Bytes} -> [Bytes | impatient(Channel)];
        {error, timeout} -> impatient(Channel);
        {error, closed} -> []
    end.

a_killed_receiver_takes_nothing_with_it(_Config) ->
    {ok, Channel} = py_byte_channel:new(),
    Worker = py_test:worker(),
    py_test:start(Worker, fun() -> py_byte_channel:recv(Channel) end),
    await_processes(1, Channel),
    ok = py_test:kill(Worker),
    {ok, none} = py:eval(<<"ByteChannel(ref).send_bytes(b'here')">>, #{ref => Channel}),
    {ok, <<"here">>} = py_byte_channel:recv(Channel).

receivers_that_were_killed_do_not_pile_up(_Config) ->
    {ok, Channel} = py_byte_channel:new(),
    [begin
         {Pid, Monitor} = spawn_monitor(fun() -> py_byte_channel:recv(Channel) end),
         await_waiting(Pid),
         exit(Pid, kill),
         receive {'DOWN', Monitor, process, Pid, killed} -> ok end
     end || _ <- lists:seq(1, 200)],
    #{to_erlang := #{waiting := Waiting}} = py_byte_channel:info(Channel),
    ?assert(Waiting < 100).

await_waiting(Pid) ->
    py_test:wait_until(fun() -> {status, waiting} =:= process_info(Pid, status) end).

'Python_waits_for_room'(_Config) ->
    {ok, Channel} = py_byte_channel:new(#{max_size => 8}),
    ok = py:exec(<<"def send_all(ref, pieces):\n"
                   "    channel = ByteChannel(ref)\n"
                   "    for piece in pieces: channel.send_bytes(piece)\n"
                   "def full(ref):\n"
                   "    channel = ByteChannel(ref)\n"
                   "    return channel.try_send_bytes(b'x' * 9), channel.try_send_bytes(b''), \\\n"
                   "        error_of(channel.send_bytes, b'y', timeout=0.02)[0], \\\n"
                   "        error_of(channel.send_bytes, b'y', 0)[0]\n">>),
    {ok, {true, false, <<"Timeout">>, <<"Timeout">>}} = call(full, [Channel]),
    {ok, <<"xxxxxxxxx">>} = py_byte_channel:recv(Channel),
    Pieces = [{bytes, <<I:24>>} || I <- lists:seq(1, py_test:fewer(1000))],
    Ticket = start(send_all, [Channel, Pieces]),
    [{ok, Piece} = py_byte_channel:recv(Channel) || {bytes, Piece} <- Pieces],
    {ok, none} = py:await(Ticket, infinity),
    %% What waits for room ends as what waits for an item does.
    Cancelled = start(send_all, [Channel, lists:duplicate(10, {bytes, <<"12345">>})]),
    py_test:wait_until(fun() -> maps:get(items, maps:get(to_erlang, py_byte_channel:info(Channel))) =:= 1 end),
    ok = py:cancel(Cancelled),
    py_test:await_idle(),
    {ok, <<"12345">>} = py_byte_channel:recv(Channel),
    Closed = start(send_all, [Channel, lists:duplicate(10, {bytes, <<"12345">>})]),
    py_test:wait_until(fun() -> maps:get(items, maps:get(to_erlang, py_byte_channel:info(Channel))) =:= 1 end),
    ok = py_byte_channel:close(Channel),
    {error, {'ChannelClosed', _}} = py:await(Closed, infinity),
    [] = py_test:messages().

either_side_sees_the_end_of_bytes(_Config) ->
    {ok, ByErlang} = py_byte_channel:new(),
    Ticket = start(echo_bytes, [ByErlang]),
    py_test:wait_until(fun() -> maps:get(waiting, py_byte_channel:info(ByErlang)) =:= 1 end),
    ok = py_byte_channel:close(ByErlang),
    {ok, none} = py:await(Ticket, infinity),
    {ok, ByPython} = py_byte_channel:new(),
    {ok, none} = py:eval(<<"ByteChannel(ref).send_bytes(b'last')">>, #{ref => ByPython}),
    Worker = py_test:worker(),
    {ok, <<"last">>} = py_byte_channel:recv(ByPython),
    py_test:start(Worker, fun() -> py_byte_channel:recv(ByPython) end),
    await_processes(1, ByPython),
    {ok, none} = py:eval(<<"ByteChannel(ref).close()">>, #{ref => ByPython}),
    {error, closed} = py_test:answer(Worker),
    {error, closed} = py_byte_channel:send(ByPython, <<"x">>),
    {error, {'ChannelClosed', _}} = py:eval(<<"ByteChannel(ref).send_bytes(b'x')">>, #{ref => ByPython}).

%%% Buffers

a_buffer_is_read_as_a_file(_Config) ->
    {ok, Buffer} = py_buffer:new(),
    [ok = py_buffer:write(Buffer, Data) || Data <- [<<"one\ntw">>, <<"o\n">>, "", [<<"three">>, $\n], <<"\n">>,
                                                    <<"rest: ">>, <<"0123456789">>]],
    ok = py_buffer:close(Buffer),
    {error, closed} = py_buffer:write(Buffer, <<"x">>),
    {error, closed} = py_buffer:write(Buffer, <<>>),
    ok = py:exec(<<"import io\n"
                   "def read(ref):\n"
                   "    with PyBuffer(ref) as file:\n"
                   "        assert isinstance(file, io.BufferedIOBase) and file.readable()\n"
                   "        assert not file.writable() and not file.seekable()\n"
                   "        assert error_of(file.fileno)[0] == 'UnsupportedOperation'\n"
                   "        some = bytearray(2)\n"
                   "        lines = [file.readline(), file.read(3), next(file), file.readline(3)]\n"
                   "        parts = [file.readinto(some), some, file.peek(1)[:1], list(file)]\n"
                   "        return lines, parts, file.read(), file.read(1), file.readline()\n">>),
    Lines = [<<"one\n">>, <<"two">>, <<"\n">>, <<"thr">>],
    Parts = [2, <<"ee">>, <<"\n">>, [<<"\n">>, <<"\n">>, <<"rest: 0123456789">>]],
    {ok, {Lines, Parts, <<>>, <<>>, <<>>}} = call(read, [Buffer]).

reading_waits_for_bytes(_Config) ->
    {ok, Buffer} = py_buffer:new(#{max_size => 4}),
    ok = py:exec(<<"def reads(ref):\n"
                   "    file = PyBuffer(ref)\n"
                   "    return [file.read1(10), file.read(6), file.read(6), file.read()]\n">>),
    ok = py_buffer:write(Buffer, <<"abcde">>),
    busy = py_buffer:write(Buffer, <<"f">>),
    Ticket = start(reads, [Buffer]),
    py_test:wait_until(fun() -> maps:get(waiting, py_buffer:info(Buffer)) =:= 1 end),
    ok = py_buffer:write(Buffer, <<"f">>, infinity),
    ok = py_buffer:write(Buffer, <<"ghijk">>, infinity),
    ok = py_buffer:write(Buffer, <<"lmnopqr">>, infinity),
    ok = py_buffer:write(Buffer, <<"stu">>, infinity),
    ok = py_buffer:close(Buffer),
    {ok, [<<"abcde">>, <<"fghijk">>, <<"lmnopq">>, <<"rstu">>]} = py:await(Ticket, infinity).

a_large_buffer_arrives_whole(_Config) ->
    {ok, Buffer} = py_buffer:new(#{max_size => 100000}),
    Parts = [rand:bytes(rand:uniform(2000)) || _ <- lists:seq(1, py_test:fewer(1000))],
    ok = py:exec(<<"import hashlib\n"
                   "def digest(ref, size):\n"
                   "    sha = hashlib.sha256()\n"
                   "    with PyBuffer(ref, buffer_size=size) as file:\n"
                   "        while data := file.read(777): sha.update(data)\n"
                   "    return {'digest': sha.hexdigest()}\n">>),
    Digest = binary:encode_hex(crypto_hash(Parts)),
    Ticket = start(digest, [Buffer, 1000]),
    [ok = py_buffer:write(Buffer, Part, infinity) || Part <- Parts],
    ok = py_buffer:close(Buffer),
    {ok, #{<<"digest">> := Found}} = py:await(Ticket, infinity),
    Digest = string:uppercase(Found).

crypto_hash(Parts) ->
    {ok, Bytes} = py:eval(<<"__import__('hashlib').sha256(data).digest()">>,
                          #{data => {bytes, iolist_to_binary(Parts)}}),
    Bytes.

a_buffer_that_Python_gives_up_is_closed(_Config) ->
    ok = py:exec(<<"def first(ref): return PyBuffer(ref).readline()\n">>),
    {ok, Buffer} = py_buffer:new(),
    ok = py_buffer:write(Buffer, <<"line\nmore">>),
    {ok, <<"line\n">>} = call(first, [Buffer]),
    py_test:wait_until_freed(fun() -> py_buffer:write(Buffer, <<"x">>) =:= {error, closed} end).

a_buffer_has_a_timeout(_Config) ->
    {ok, Buffer} = py_buffer:new(),
    ok = py_buffer:write(Buffer, <<"some">>),
    {error, {'Timeout', _}} = py:eval(<<"PyBuffer(ref, timeout=0.02).read(10)">>, #{ref => Buffer}).
