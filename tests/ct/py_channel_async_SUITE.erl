%% SPDX-License-Identifier: Apache-2.0
%%
%% Channels, and tasks of event loops that wait at them.  Threads that wait are in
%% py_channel_SUITE.
-module(py_channel_async_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([a_task_waits_for_an_item/1,
         iterating_ends_with_the_channel/1,
         the_loop_goes_on_while_tasks_wait/1,
         many_tasks_wait_at_many_channels/1,
         tasks_and_threads_share_the_items/1,
         a_task_that_is_cancelled_leaves_the_item/1,
         tasks_that_are_cancelled_leave_the_items_in_order/1,
         timeouts_of_tasks_lose_nothing/1,
         a_wait_may_end_on_another_thread_than_the_loop_s/1,
         loops_in_several_threads_wait/1,
         a_loop_that_is_closed_leaves_the_items/1,
         an_interpreter_ends_under_threads_whose_tasks_wait/1,
         what_tasks_of_an_ended_interpreter_were_given_is_left/1,
         loops_leave_no_descriptors/1,
         calls_and_channels_share_a_loop/1,
         a_task_waits_under_uvloop/1,
         a_task_from_Erlang_waits/1,
         the_end_of_the_request_ends_its_loop/1,
         a_with_block_closes_the_channel/1,
         without_a_loop_it_is_an_error/1]).
-export([bytes_go_both_ways/1,
         a_task_waits_for_room/1,
         the_end_ends_what_waits_for_room/1]).

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
import asyncio, erlang, os, threading
from erlang.channel import ByteChannel, Channel, ChannelClosed, reply

def run(function, *args): return asyncio.run(globals()[function](*args))

async def take(ref): return await Channel(ref).async_receive()
async def take_all(ref): return [item async for item in Channel(ref)]
async def closed(awaitable):
    try: return await awaitable
    except ChannelClosed: return 'closed'
">>).

new() ->
    {ok, Channel} = py_channel:new(),
    Channel.

run(Function, Args) ->
    py:call('__main__', run, [atom_to_binary(Function) | Args], #{}, infinity).

start(Function, Args) ->
    py:spawn_call('__main__', run, [atom_to_binary(Function) | Args]).

await_receivers(N, Channel) ->
    py_test:wait_until(fun() -> maps:get(waiting, py_channel:info(Channel)) =:= N end).

a_task_waits_for_an_item(_Config) ->
    Channel = new(),
    ok = py_channel:send(Channel, there),
    {ok, there} = run(take, [Channel]),
    [begin
         Ticket = start(take, [Channel]),
         await_receivers(1, Channel),
         ok = py_channel:send(Channel, I),
         {ok, I} = py:await(Ticket, infinity)
     end || I <- lists:seq(1, 10)],
    ok = py_channel:close(Channel),
    {error, {'ChannelClosed', _}} = run(take, [Channel]).

iterating_ends_with_the_channel(_Config) ->
    Channel = new(),
    N = py_test:fewer(2000),
    Ticket = start(take_all, [Channel]),
    await_receivers(1, Channel),
    [begin
         ok = py_channel:send(Channel, I),
         I rem 20 =:= 0 andalso erlang:yield()
     end || I <- lists:seq(1, N)],
    I0 = N div 2,
    ok = py_channel:close(Channel),
    {ok, Items} = py:await(Ticket, infinity),
    true = Items =:= lists:seq(1, N),
    true = lists:member(I0, Items),
    Waiting = new(),
    Other = start(take_all, [Waiting]),
    await_receivers(1, Waiting),
    ok = py_channel:close(Waiting),
    {ok, []} = py:await(Other, infinity).

the_loop_goes_on_while_tasks_wait(_Config) ->
    [A, B] = [new(), new()],
    ok = py:exec(<<"async def in_between(a, b, pid):\n"
                   "    waiting = asyncio.ensure_future(take(a))\n"
                   "    reply(pid, await take(b))\n"
                   "    return await waiting\n">>),
    Ticket = start(in_between, [A, B, self()]),
    await_receivers(1, A),
    ok = py_channel:send(B, first),
    receive first -> ok end,
    ok = py_channel:send(A, second),
    {ok, second} = py:await(Ticket, infinity).

many_tasks_wait_at_many_channels(_Config) ->
    N = py_test:fewer(300),
    Channels = [new() || _ <- lists:seq(1, N)],
    ok = py:exec(<<"async def gather(refs): return await asyncio.gather(*[take(ref) for ref in refs])\n">>),
    Ticket = start(gather, [Channels]),
    [await_receivers(1, Channel) || Channel <- Channels],
    [ok = py_channel:send(Channel, I) || {I, Channel} <- lists:reverse(lists:enumerate(Channels))],
    {ok, Items} = py:await(Ticket, infinity),
    true = Items =:= lists:seq(1, N),
    One = new(),
    Same = start(gather, [lists:duplicate(N, One)]),
    await_receivers(N, One),
    [ok = py_channel:send(One, I) || I <- lists:seq(1, N)],
    {ok, Sorted} = py:await(Same, infinity),
    true = lists:sort(Sorted) =:= lists:seq(1, N).

tasks_and_threads_share_the_items(_Config) ->
    Channel = new(),
    N = py_test:fewer(2000),
    ok = py:exec(<<"async def share(ref):\n"
                   "    in_thread = asyncio.get_running_loop().run_in_executor(None, list, Channel(ref))\n"
                   "    return sum(await asyncio.gather(in_thread, *[take_all(ref) for _ in range(3)]), [])\n">>),
    Ticket = start(share, [Channel]),
    await_receivers(4, Channel),
    [ok = py_channel:send(Channel, I) || I <- lists:seq(1, N)],
    ok = py_channel:close(Channel),
    {ok, Items} = py:await(Ticket, infinity),
    true = lists:sort(Items) =:= lists:seq(1, N).

%% Cancelled while it waits, and when it was given the item but has not run since.
a_task_that_is_cancelled_leaves_the_item(_Config) ->
    Channel = new(),
    ok = py_channel:send(Channel, 1),
    ok = py:exec(<<"async def cancelled(ref):\n"
                   "    channel = Channel(ref)\n"
                   "    assert await channel.async_receive() == 1\n"
                   "    task = asyncio.ensure_future(channel.async_receive())\n"
                   "    await asyncio.sleep(0)\n"
                   "    task.cancel()\n"
                   "    await asyncio.wait([task])\n"
                   "    assert task.cancelled()\n"
                   "    task = asyncio.ensure_future(channel.async_receive())\n"
                   "    await asyncio.sleep(0)\n"
                   "    erlang.call('send_two')\n"
                   "    task.cancel()\n"
                   "    await asyncio.wait([task])\n"
                   "    assert task.cancelled()\n"
                   "    return await channel.async_receive()\n">>),
    ok = py:register_function(send_two, fun([]) -> ok = py_channel:send(Channel, 2) end),
    {ok, 2} = run(cancelled, [Channel]),
    #{items := 0, waiting := 0} = py_channel:info(Channel),
    py:unregister_function(send_two).

%% All were given theirs, and are cancelled from the first to the last, the other way round, or mixed.
tasks_that_are_cancelled_leave_the_items_in_order(_Config) ->
    Channel = new(),
    ok = py:exec(<<"async def cancelled(ref, order):\n"
                   "    channel = Channel(ref)\n"
                   "    tasks = [asyncio.ensure_future(channel.async_receive()) for _ in order]\n"
                   "    await asyncio.sleep(0)\n"
                   "    erlang.call('send_all', len(order))\n"
                   "    for i in order: tasks[i].cancel()\n"
                   "    await asyncio.wait(tasks)\n"
                   "    assert all(task.cancelled() for task in tasks)\n"
                   "    erlang.call('send_all', 1)\n"
                   "    return [await channel.async_receive() for _ in range(len(order) + 1)]\n">>),
    ok = py:register_function(send_all, fun([N]) -> [ok = py_channel:send(Channel, I) || I <- lists:seq(1, N)], ok end),
    [?assertEqual({ok, [1, 2, 3, 4, 1]}, run(cancelled, [Channel, Order]), Order)
     || Order <- [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]]],
    #{items := 0, size := 0, waiting := 0} = py_channel:info(Channel),
    py:unregister_function(send_all).

timeouts_of_tasks_lose_nothing(_Config) ->
    Channel = new(),
    N = py_test:fewer(500),
    ok = py:exec(<<"async def impatient(ref):\n"
                   "    channel, found, n = Channel(ref), [], 0\n"
                   "    while True:\n"
                   "        n += 1\n"
                   "        try: found.append(await asyncio.wait_for(channel.async_receive(), 0.0001 * (n % 5)))\n"
                   "        except asyncio.TimeoutError: pass\n"
                   "        except ChannelClosed: return found\n">>),
    Ticket = start(impatient, [Channel]),
    [begin
         ok = py_channel:send(Channel, I),
         I rem 5 =:= 0 andalso erlang:yield()
     end || I <- lists:seq(1, N)],
    ok = py_channel:close(Channel),
    {ok, Items} = py:await(Ticket, infinity),
    %% Before 3.12 wait_for() itself may drop a result that comes with the timeout.
    case py_test:python_version() >= {3, 12} of
        true -> true = Items =:= lists:seq(1, N);
        false -> true = Items =:= lists:usort(Items)
    end.

%% As it may without a GIL: by a collection, or where the loop's turns change their thread.
a_wait_may_end_on_another_thread_than_the_loop_s(_Config) ->
    Channel = new(),
    ok = py_channel:send(Channel, there),
    ok = py:exec(<<"from _erlang import Mailbox\n"
                   "def give_up(ref, n):\n"
                   "    channel, box, seen, done = Channel(ref), Mailbox(), 0, threading.Event()\n"
                   "    def waits():\n"
                   "        for _ in range(n): channel.start_receive(box)\n"
                   "        done.set()\n"
                   "    thread = threading.Thread(target=waits)\n"
                   "    thread.start()\n"
                   "    while not done.is_set():\n"
                   "        for wait, _, _ in box.drain():\n"
                   "            wait.cancel()\n"
                   "            seen += 1\n"
                   "    thread.join()\n"
                   "    return [channel.receive(0), [wait for wait, _, _ in box.drain()], seen <= n]\n">>),
    ?assertEqual({ok, [there, [], true]},
                 py:call('__main__', give_up, [Channel, py_test:fewer(1000000)], #{}, infinity)).

loops_in_several_threads_wait(_Config) ->
    Channels = [new() || _ <- lists:seq(1, 4)],
    ok = py:exec(<<"def loops(refs):\n"
                   "    found = [None] * len(refs)\n"
                   "    def one(i): found[i] = asyncio.run(take_all(refs[i]))\n"
                   "    threads = [threading.Thread(target=one, args=(i,)) for i in range(len(refs))]\n"
                   "    for thread in threads: thread.start()\n"
                   "    for thread in threads: thread.join()\n"
                   "    return found\n">>),
    Ticket = py:spawn_call('__main__', loops, [Channels]),
    [await_receivers(1, Channel) || Channel <- Channels],
    [ok = py_channel:send(Channel, I) || I <- lists:seq(1, 50), Channel <- Channels],
    [ok = py_channel:close(Channel) || Channel <- Channels],
    {ok, Found} = py:await(Ticket, infinity),
    true = Found =:= lists:duplicate(4, lists:seq(1, 50)).

%% The first loop ends when its task stands in line; the next one when it has been given the
%% item, which it has not looked at.
a_loop_that_is_closed_leaves_the_items(_Config) ->
    Channel = new(),
    ok = py:register_function(send_it, fun([]) -> ok = py_channel:send(Channel, item) end),
    ok = py:exec(<<"import gc\n"
                   "def close_early(ref, given):\n"
                   "    loop = asyncio.new_event_loop()\n"
                   "    task = loop.create_task(take(ref))\n"
                   "    loop.run_until_complete(asyncio.sleep(0))\n"
                   "    if given: erlang.call('send_it')\n"
                   "    loop.close()\n"
                   "    task._log_destroy_pending = False\n"
                   "    del task, loop\n"
                   "    gc.collect()\n">>),
    {ok, none} = py:call('__main__', close_early, [Channel, false]),
    py_test:wait_until_freed(fun() -> maps:get(waiting, py_channel:info(Channel)) =:= 0 end),
    {ok, none} = py:call('__main__', close_early, [Channel, true]),
    py_test:wait_until_freed(fun() -> maps:get(items, py_channel:info(Channel)) =:= 1 end),
    {ok, item} = run(take, [Channel]),
    py:unregister_function(send_it).

%% Python joins its threads at its end, so these have to end.
an_interpreter_ends_under_threads_whose_tasks_wait(_Config) ->
    only_with_own_interpreters(),
    {ok, Full} = py_byte_channel:new(#{max_size => 1}),
    Channel = new(),
    {ok, Interp} = py:subinterp_create(),
    ok = py:subinterp_exec(Interp, <<"
import asyncio, erlang, threading
from erlang.channel import ByteChannel, Channel

async def told(awaitable):
    try: await awaitable
    except erlang.ProcessError: return 'ended'

async def main(ref, full, pid):
    full = ByteChannel(full)
    full.try_send_bytes(b'x')
    ends = [await told(Channel(ref).async_receive()), await told(full.async_send_bytes(b'y')),
            await told(Channel(ref).async_receive())]
    erlang.send(pid, ends)

def start(*args):
    for _ in range(2):
        threading.Thread(target=lambda: asyncio.run(main(*args))).start()
">>),
    {ok, none} = py:subinterp_call(Interp, '__main__', start, [Channel, Full, self()]),
    await_receivers(2, Channel),
    ok = py:subinterp_destroy(Interp),
    [receive Ends -> ?assertEqual(lists:duplicate(3, <<"ended">>), Ends) end || _ <- [1, 2]],
    await_interpreters_end(),
    #{waiting := 0} = py_channel:info(Channel),
    ok = py_channel:send(Channel, still_there),
    {ok, still_there} = run(take, [Channel]).

%% Their loop runs no more, and nothing frees it: something has a reference for ever.
what_tasks_of_an_ended_interpreter_were_given_is_left(_Config) ->
    only_with_own_interpreters(),
    Channel = new(),
    {ok, Interp} = py:subinterp_create(),
    ok = py:subinterp_exec(Interp, <<"
import asyncio, ctypes
from erlang.channel import Channel

def strand(ref):
    loop = asyncio.new_event_loop()
    tasks = [loop.create_task(Channel(ref).async_receive()) for _ in range(3)]
    loop.run_until_complete(asyncio.sleep(0))
    for it in (loop, *tasks): ctypes.pythonapi.Py_IncRef(ctypes.py_object(it))
">>),
    {ok, none} = py:subinterp_call(Interp, '__main__', strand, [Channel]),
    await_receivers(3, Channel),
    [ok = py_channel:send(Channel, I) || I <- [1, 2]],
    #{waiting := 1, items := 0} = py_channel:info(Channel),
    ok = py:subinterp_destroy(Interp),
    py_test:wait_until(fun() -> maps:with([waiting, items], py_channel:info(Channel)) =:= #{waiting => 0, items => 2} end),
    await_interpreters_end(),
    ok = py_channel:send(Channel, 3),
    [{ok, I} = run(take, [Channel]) || I <- [1, 2, 3]].

only_with_own_interpreters() ->
    py:subinterp_supported() orelse throw({skip, "this Python has no interpreters with a GIL of their own"}).

await_interpreters_end() ->
    py_test:wait_until(fun() -> not lists:member(<<"epy_end\n">>, py_test:thread_names()) end).

loops_leave_no_descriptors(_Config) ->
    Channel = new(),
    N = 50,
    [ok = py_channel:send(Channel, I) || I <- lists:seq(1, N + 1)],
    ok = py:exec(<<"import gc\n"
                   "async def one(ref):\n"
                   "    await take(ref)\n"
                   "    waiting = asyncio.ensure_future(Channel(ref_of_none).async_receive())\n"
                   "    await asyncio.sleep(0)\n"
                   "def loops(ref, other, n):\n"
                   "    global ref_of_none\n"
                   "    ref_of_none = other\n"
                   "    asyncio.run(one(ref))\n"
                   "    gc.collect()\n"
                   "    before = len(os.listdir('/proc/self/fd'))\n"
                   "    for _ in range(n): asyncio.run(one(ref))\n"
                   "    gc.collect()\n"
                   "    return len(os.listdir('/proc/self/fd')) - before\n">>),
    {ok, Grown} = py:call('__main__', loops, [Channel, new(), N], #{}, infinity),
    ?assert(Grown < N div 2). % others open files as well

calls_and_channels_share_a_loop(_Config) ->
    Channel = new(),
    ok = py:register_function(f, fun([X]) -> ok = py_channel:send(Channel, X), X end),
    ok = py:exec(<<"async def both(ref, n):\n"
                   "    received = asyncio.gather(*[take(ref) for _ in range(n)])\n"
                   "    called = asyncio.gather(*[erlang.async_call('f', i) for i in range(n)])\n"
                   "    return sorted(await received), sorted(await called)\n">>),
    Numbers = lists:seq(0, 99),
    {ok, {Numbers, Numbers}} = run(both, [Channel, 100]),
    py:unregister_function(f).

a_task_waits_under_uvloop(_Config) ->
    py_test:has_python_module(uvloop) orelse throw({skip, "there is no uvloop for this Python"}),
    ok = py:exec(<<"import uvloop\n"
                   "def under_uvloop(ref):\n"
                   "    loop = uvloop.new_event_loop()\n"
                   "    try: return loop.run_until_complete(take_all(ref))\n"
                   "    finally: loop.close()\n">>),
    Channel = new(),
    Ticket = py:spawn_call('__main__', under_uvloop, [Channel]),
    await_receivers(1, Channel),
    [ok = py_channel:send(Channel, I) || I <- lists:seq(1, 100)],
    ok = py_channel:close(Channel),
    {ok, Items} = py:await(Ticket, infinity),
    true = Items =:= lists:seq(1, 100).

a_task_from_Erlang_waits(Config) ->
    _ = py_test:write_module(Config, channel_tasks,
                             "from erlang.channel import ByteChannel, Channel\n"
                             "async def take(ref): return await Channel(ref).async_receive()\n"
                             "async def echo(ref):\n"
                             "    channel = ByteChannel(ref)\n"
                             "    async for data in channel: await channel.async_send_bytes(data)\n"),
    Channel = new(),
    {ok, Task} = py_event_loop:create_task(channel_tasks, take, [Channel]),
    await_receivers(1, Channel),
    {ok, Other} = py_event_loop:create_task(channel_tasks, take, [Channel]),
    await_receivers(2, Channel),
    ok = py_event_loop:cancel(Task),
    await_receivers(1, Channel),
    ok = py_channel:send(Channel, there),
    {ok, there} = py_event_loop:await(Other),
    {ok, Bytes} = py_byte_channel:new(),
    {ok, Echo} = py_event_loop:create_task(channel_tasks, echo, [Bytes]),
    [begin
         ok = py_byte_channel:send(Bytes, <<I:32>>),
         {ok, <<I:32>>} = py_byte_channel:recv(Bytes)
     end || I <- lists:seq(1, 100)],
    ok = py_byte_channel:close(Bytes),
    {ok, none} = py_event_loop:await(Echo),
    [] = py_test:messages().

the_end_of_the_request_ends_its_loop(_Config) ->
    Channel = new(),
    Ticket = start(take, [Channel]),
    await_receivers(1, Channel),
    ok = py:cancel(Ticket),
    py_test:wait_until_freed(fun() -> maps:get(waiting, py_channel:info(Channel)) =:= 0 end),
    ok = py_channel:send(Channel, still_there),
    {ok, still_there} = run(take, [Channel]),
    [] = py_test:messages().

a_with_block_closes_the_channel(_Config) ->
    Channel = new(),
    ok = py:exec(<<"async def in_with(ref):\n"
                   "    async with Channel(ref) as channel: return await channel.async_receive()\n">>),
    ok = py_channel:send(Channel, 1),
    {ok, 1} = run(in_with, [Channel]),
    {error, closed} = py_channel:send(Channel, 2).

without_a_loop_it_is_an_error(_Config) ->
    Channel = new(),
    ok = py:exec(<<"def no_loop(ref):\n"
                   "    try: Channel(ref).async_receive().send(None)\n"
                   "    except RuntimeError as e: return str(e)\n">>),
    {ok, <<"no running event loop">>} = py:call('__main__', no_loop, [Channel]),
    #{waiting := 0} = py_channel:info(Channel).

%%% Bytes

bytes_go_both_ways(_Config) ->
    {ok, Channel} = py_byte_channel:new(),
    ok = py:exec(<<"async def echo(ref):\n"
                   "    channel = ByteChannel(ref)\n"
                   "    async for data in channel: await channel.async_send_bytes(data)\n">>),
    Ticket = start(echo, [Channel]),
    [begin
         ok = py_byte_channel:send(Channel, <<I:32>>),
         {ok, <<I:32>>} = py_byte_channel:recv(Channel)
     end || I <- lists:seq(1, py_test:fewer(500))],
    ok = py_byte_channel:close(Channel),
    {ok, none} = py:await(Ticket, infinity).

a_task_waits_for_room(_Config) ->
    {ok, Channel} = py_byte_channel:new(#{max_size => 20}),
    N = py_test:fewer(1000),
    ok = py:exec(<<"async def fill(ref, n):\n"
                   "    channel, turns = ByteChannel(ref), 0\n"
                   "    async def count():\n"
                   "        nonlocal turns\n"
                   "        while True:\n"
                   "            turns += 1\n"
                   "            await asyncio.sleep(0.001)\n"
                   "    counting = asyncio.ensure_future(count())\n"
                   "    for i in range(n): await channel.async_send_bytes(i.to_bytes(4, 'big'))\n"
                   "    counting.cancel()\n"
                   "    return turns\n">>),
    Ticket = start(fill, [Channel, N]),
    py_test:wait_until(fun() -> maps:get(size, maps:get(to_erlang, py_byte_channel:info(Channel))) =:= 20 end),
    [{ok, <<I:32>>} = py_byte_channel:recv(Channel) || I <- lists:seq(0, N - 1)],
    {ok, Turns} = py:await(Ticket, infinity),
    ?assert(Turns > 0).

the_end_ends_what_waits_for_room(_Config) ->
    {ok, Channel} = py_byte_channel:new(#{max_size => 4}),
    ok = py:exec(<<"async def two(ref):\n"
                   "    channel = ByteChannel(ref)\n"
                   "    await channel.async_send_bytes(b'1234')\n"
                   "    return await closed(channel.async_send_bytes(b'5'))\n">>),
    Ticket = start(two, [Channel]),
    py_test:wait_until(fun() -> maps:get(items, maps:get(to_erlang, py_byte_channel:info(Channel))) =:= 1 end),
    ok = py_byte_channel:close(Channel),
    {ok, <<"closed">>} = py:await(Ticket, infinity),
    {ok, <<"1234">>} = py_byte_channel:recv(Channel),
    {error, closed} = py_byte_channel:recv(Channel).
