%% SPDX-License-Identifier: Apache-2.0
%%
%% Callbacks that come from no request: from threads that Python started, which wait for the
%% answer, and from tasks of event loops, which go on.  Each is served by a process of its own.
-module(py_thread_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([a_thread_can_call_Erlang/1,
         each_callback_of_a_thread_has_a_process_of_its_own/1,
         many_threads_call_at_once/1,
         a_thread_outlives_the_request_that_started_it/1,
         a_thread_can_call_funs_and_attributes/1,
         exceptions_reach_the_thread/1,
         a_callback_of_a_thread_may_call_Python/1,
         a_callback_of_a_thread_reaches_the_interpreter_that_waits_for_it/1,
         a_thread_pool_of_Pythons_calls_Erlang/1,
         a_killed_callback_of_a_thread_is_an_erlang_Error/1,
         a_thread_that_waits_blocks_nobody/1,
         the_stop_of_the_application_ends_the_wait_of_a_thread/1,
         a_thread_finds_an_application_that_does_not_run/1,
         an_interpreter_ends_under_threads_and_tasks_that_wait/1,
         a_cancel_never_hits_a_thread_that_was_just_started/1]).
-export([a_task_can_call_Erlang/1,
         the_loop_goes_on_while_tasks_wait/1,
         many_tasks_call_at_once/1,
         exceptions_reach_the_task/1,
         async_call_takes_funs/1,
         async_call_without_a_loop_is_an_error/1,
         a_task_that_is_cancelled_ends_the_process/1,
         a_task_with_a_timeout_ends_the_process/1,
         a_killed_callback_of_a_task_is_an_erlang_Error/1,
         loops_in_several_threads_have_their_own_calls/1,
         a_loop_that_ends_early_cancels_its_calls/1,
         loops_leave_no_descriptors/1,
         async_call_under_uvloop/1,
         the_stop_of_the_application_ends_the_wait_of_a_task/1,
         the_end_of_the_request_ends_its_loop/1]).

suite() -> [{timetrap, {minutes, 5}}].

all() -> py_test:cases(?MODULE).

init_per_suite(Config) -> py_test:start(Config).

end_per_suite(Config) -> py_test:stop(Config).

init_per_testcase(_Case, Config) ->
    ok = define(),
    Config.

end_per_testcase(_Case, _Config) ->
    py_test:restore(),
    [py:unregister_function(Name) || Name <- [f, never, begun, tell]],
    ok.

define() ->
    py:exec(<<"
import asyncio, erlang, os, threading, time

def in_thread(function, *args):
    '''What it returns, or the exception as a tuple.'''
    found = []
    def run():
        try: found.append(('returned', function(*args)))
        except erlang.Error as e: found.append((e.class_, e.reason))
        except BaseException as e: found.append((type(e).__name__, str(e)))
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return found[0]

def in_threads(n, function):
    found = [None] * n
    def run(i): found[i] = function(i)
    threads = [threading.Thread(target=run, args=(i,)) for i in range(n)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    return found

async def outcome(awaitable):
    try: return ('returned', await awaitable)
    except erlang.Error as e: return (e.class_, e.reason)
    except BaseException as e: return (type(e).__name__, str(e))

def write(path, text):
    with open(path + '.new', 'w') as f: f.write(text)
    os.rename(path + '.new', path)

def telling(path, function, *args):
    '''For what ends when Erlang cannot be told.'''
    how = 'returned'
    try: function(*args)
    except erlang.Error as e: how = 'Error %s %s' % (e.class_, e.reason)
    except BaseException as e: how = type(e).__name__
    write(path, how)

def start_telling(path, function, *args):
    threading.Thread(target=telling, args=(path, function) + args).start()
">>).

register_f(Fun) ->
    ok = py:register_function(f, Fun).

%% A function that says that it runs, and then waits for ever; and one that returns when so
%% many of them run, for Python code that is to go on only then.
register_never() ->
    Test = self(),
    Counter = spawn_link(fun() -> _ = monitor(process, Test), count(Test, 0, []) end),
    ok = py:register_function(never, fun([]) -> Counter ! {never, self()}, receive go_on -> gone_on end end),
    ok = py:register_function(begun, fun([N]) -> Counter ! {begun, self(), N}, receive they_have -> none end end).

count(Test, Count, Waiting) ->
    {Ready, Left} = lists:partition(fun({_, N}) -> N =< Count end, Waiting),
    [Pid ! they_have || {Pid, _} <- Ready],
    receive
        {never, Pid} -> Test ! {in_callback, Pid}, count(Test, Count + 1, Left);
        {begun, Pid, N} -> count(Test, Count, [{Pid, N} | Left]);
        {'DOWN', _, process, Test, _} -> ok
    end.

in_callback() ->
    receive {in_callback, Pid} -> Pid after 60000 -> error({not_called, py_test:messages()}) end.

await_end(Pid) ->
    Monitor = monitor(process, Pid),
    receive {'DOWN', Monitor, process, Pid, Reason} -> Reason after 60000 -> error(it_lives) end.

new_path(Config) ->
    Name = "told" ++ integer_to_list(erlang:unique_integer([positive])),
    list_to_binary(filename:join(proplists:get_value(priv_dir, Config), Name)).

read(Path) ->
    py_test:wait_until(fun() -> filelib:is_file(Path) end),
    {ok, Text} = file:read_file(Path),
    Text.

%%% Threads

a_thread_can_call_Erlang(_Config) ->
    register_f(fun(Args) -> {got, Args} end),
    {ok, {<<"returned">>, {got, []}}} = py:eval(<<"in_thread(erlang.call, 'f')">>),
    {ok, {<<"returned">>, {got, [1, [a, {2.5}], <<"s">>, none]}}} =
        py:eval(<<"in_thread(erlang.call, 'f', 1, [a, (2.5,)], 's', None)">>, #{a => a}),
    {ok, 1000} = py:eval(<<"in_thread(lambda: sum(len(erlang.call('f', i)) == 2 for i in range(1000)))[1]">>),
    [] = py_test:messages().

each_callback_of_a_thread_has_a_process_of_its_own(_Config) ->
    Test = self(),
    register_f(fun([]) -> put(mine, [1 | case get(mine) of undefined -> []; Mine -> Mine end]), {self(), get(mine)} end),
    {ok, {<<"returned">>, [{A, [1]}, {B, [1]}]}} =
        py:eval(<<"in_thread(lambda: [erlang.call('f'), erlang.call('f')])">>),
    true = is_pid(A) andalso is_pid(B) andalso A =/= B andalso A =/= Test andalso B =/= Test,
    %% They end by themselves.
    py_test:wait_until(fun() -> not is_process_alive(A) andalso not is_process_alive(B) end),
    [] = py_test:messages().

many_threads_call_at_once(_Config) ->
    register_f(fun([I, N]) -> {I, N} end),
    Count = py_test:fewer(100),
    ok = py:exec(["def calls(i): return all(erlang.call('f', i, n) == (i, n) for n in range(",
                  integer_to_list(Count), "))"]),
    {ok, Right} = py:eval(<<"in_threads(20, calls)">>),
    ?assertEqual(lists:duplicate(20, true), Right),
    [] = py_test:messages().

a_thread_outlives_the_request_that_started_it(_Config) ->
    Test = self(),
    ok = py:register_function(tell, fun([What]) -> Test ! {told, What}, none end),
    ok = py:exec(<<"go_on = threading.Event()\n"
                   "def later():\n"
                   "    erlang.call('tell', 'begun')\n"
                   "    go_on.wait()\n"
                   "    erlang.call('tell', 'later')\n"
                   "threading.Thread(target=later).start()\n">>),
    receive {told, <<"begun">>} -> ok after 60000 -> error(not_begun) end,
    {ok, none} = py:eval(<<"go_on.set()">>),
    receive {told, <<"later">>} -> ok after 60000 -> error(not_told) end,
    [] = py_test:messages().

a_thread_can_call_funs_and_attributes(_Config) ->
    register_f(fun([X]) -> {f, X} end),
    {ok, {<<"returned">>, [7, {f, 1}, {f, 2}]}} =
        py:eval(<<"in_thread(lambda: [fun(3, 4), erlang.f(1), __import__('erlang').f(2)])">>,
                #{'fun' => fun(A, B) -> A + B end}),
    {ok, {<<"returned">>, [3, 2, 1]}} =
        py:eval(<<"in_thread(lambda: sorted([1, 3, 2], key=k))">>, #{k => fun(X) -> -X end}).

exceptions_reach_the_thread(_Config) ->
    register_f(fun([Class]) -> erlang:raise(Class, {oops, 1}, []) end),
    [{ok, {Class, {oops, 1}}} = py:eval(<<"in_thread(erlang.call, 'f', c)">>, #{c => Class}) || Class <- [error, exit, throw]],
    {ok, {error, {undefined_function, <<"no_such">>}}} = py:eval(<<"in_thread(erlang.call, 'no_such')">>),
    {ok, {<<"ConversionError">>, _}} = py:eval(<<"in_thread(erlang.call, 'f', '\\ud800')">>),
    {ok, {<<"TypeError">>, _}} = py:eval(<<"in_thread(erlang.call)">>),
    register_f(fun([]) -> #{1 => a, 1.0 => b} end),
    {ok, {<<"ConversionError">>, _}} = py:eval(<<"in_thread(erlang.call, 'f')">>),
    [] = py_test:messages().

%% These are requests like others: the thread waits, and has no stack for them.
a_callback_of_a_thread_may_call_Python(_Config) ->
    register_f(fun([N]) ->
                       ok = py:exec(<<"x = 1">>),
                       {ok, 1} = py:eval(<<"x">>),
                       {ok, Root} = py:call(math, sqrt, [N]),
                       Root
               end),
    {ok, {<<"returned">>, [1.0, 2.0, 3.0]}} =
        py:eval(<<"in_thread(lambda: [erlang.call('f', n) for n in (1, 4, 9)])">>),
    {ok, Roots} = py:eval(<<"in_threads(8, lambda i: erlang.call('f', i * i))">>),
    Roots = [float(I) || I <- lists:seq(0, 7)],
    [] = py_test:messages().

%% That has but one executor in some modes, which waits for the thread.
a_callback_of_a_thread_reaches_the_interpreter_that_waits_for_it(_Config) ->
    {ok, Handle} = py:call(builtins, list, [[1, 2]], {opts, #{return => handle}}),
    register_f(fun([N]) ->
                       {ok, Length} = py:call_method(Handle, '__len__', []),
                       N + Length
               end),
    {ok, {<<"returned">>, [3]}} = py:eval(<<"in_thread(lambda: [erlang.call('f', 1)])">>),
    {ok, 4.0} = py:call(math, sqrt, [16]),
    [] = py_test:messages().

a_thread_pool_of_Pythons_calls_Erlang(_Config) ->
    register_f(fun([X]) -> X * X end),
    ok = py:exec(<<"from concurrent.futures import ThreadPoolExecutor\n"
                   "def squares(n):\n"
                   "    with ThreadPoolExecutor(4) as pool:\n"
                   "        return list(pool.map(lambda x: erlang.call('f', x), range(n)))\n">>),
    {ok, Squares} = py:call('__main__', squares, [100]),
    ?assertEqual([X * X || X <- lists:seq(0, 99)], Squares).

a_killed_callback_of_a_thread_is_an_erlang_Error(_Config) ->
    register_never(),
    Worker = py_test:worker(),
    [begin
         py_test:start(Worker, fun() -> ok = define(), py:eval(<<"in_thread(erlang.call, 'never')">>) end),
         exit(in_callback(), Reason),
         {ok, {exit, Found}} = py_test:answer(Worker),
         ?assertEqual(Expected, Found)
     end || {Reason, Expected} <- [{kill, killed}, {shutdown, shutdown}, {{my, <<"reason">>}, {my, <<"reason">>}}]],
    py_test:end_worker(Worker),
    [] = py_test:messages().

a_thread_that_waits_blocks_nobody(_Config) ->
    register_never(),
    ok = py:exec(<<"waiting = threading.Thread(target=lambda: done.append(erlang.call('never')))\n"
                   "done = []\n"
                   "waiting.start()\n">>),
    Pid = in_callback(),
    Count = 2 * py:num_executors(),
    Answers = py_test:at_once(lists:duplicate(Count, fun() -> py:call(math, sqrt, [16], #{}, 60000) end)),
    Answers = lists:duplicate(Count, {ok, 4.0}),
    {ok, [1, 2, 3]} = py:eval(<<"[1, 2, 3]">>),
    Pid ! go_on,
    {ok, [gone_on]} = py:eval(<<"(waiting.join(), done)[1]">>),
    [] = py_test:messages().

the_stop_of_the_application_ends_the_wait_of_a_thread(Config) ->
    register_never(),
    Path = new_path(Config),
    {ok, none} = py:eval(<<"start_telling(path, erlang.call, 'never')">>, #{path => Path}),
    Pid = in_callback(),
    Monitor = monitor(process, Pid),
    ok = application:stop(erlang_python),
    <<"Cancelled">> = read(Path),
    receive {'DOWN', Monitor, process, Pid, _} -> ok after 60000 -> error(it_lives) end,
    ok = application:start(erlang_python),
    ok = define(),
    register_f(fun([]) -> again end),
    {ok, {<<"returned">>, again}} = py:eval(<<"in_thread(erlang.call, 'f')">>),
    [] = py_test:messages().

a_thread_finds_an_application_that_does_not_run(Config) ->
    register_f(fun([]) -> there end),
    {Path, Fifo} = {new_path(Config), py_test:block(Config)},
    ok = py:exec(<<"def calls_later(fifo):\n"
                   "    os.close(os.open(fifo, 0))\n"
                   "    erlang.call('f')\n">>),
    {ok, none} = py:eval(<<"start_telling(path, calls_later, fifo)">>, #{path => Path, fifo => Fifo}),
    ok = application:stop(erlang_python),
    ok = py_test:release(Fifo),
    How = read(Path),
    ct:log("~ts", [How]),
    true = How =/= <<"returned">>,
    ok = application:start(erlang_python),
    ok = define(),
    register_f(fun([]) -> there end),
    {ok, {<<"returned">>, there}} = py:eval(<<"in_thread(erlang.call, 'f')">>).

%% Python waits for its threads when an interpreter ends.
an_interpreter_ends_under_threads_and_tasks_that_wait(_Config) ->
    py:subinterp_supported() orelse throw({skip, "this Python has no interpreters with a GIL of their own"}),
    Test = self(),
    ok = py:register_function(never, fun([]) -> Test ! {waits, self()}, receive never -> ok end end),
    Code = <<"import asyncio, erlang, threading\n"
             "def waits():\n"
             "    for _ in range(2):\n"
             "        try: erlang.call('never')\n"
             "        except BaseException: pass\n"
             "async def task(): await asyncio.gather(*[erlang.async_call('never') for _ in range(3)], return_exceptions=True)\n"
             "for _ in range(3): threading.Thread(target=waits).start()\n"
             "threading.Thread(target=lambda: asyncio.run(task())).start()\n">>,
    [begin
         {ok, Interp} = py:subinterp_create(),
         ok = py:subinterp_exec(Interp, Code),
         Pids = [receive {waits, Pid} -> Pid after 60000 -> error(not_called) end || _ <- lists:seq(1, 6)],
         ok = py:subinterp_destroy(Interp),
         py_test:wait_until(fun() -> not lists:member(<<"epy_end\n">>, py_test:thread_names()) end),
         [exit(Pid, kill) || Pid <- Pids]
     end || _ <- lists:seq(1, 3)],
    {ok, 4.0} = py:call(math, sqrt, [16]),
    py:unregister_function(never).

%% Before 3.12 such a thread has the identity of its parent for a moment.  Who starts a thread
%% waits until that runs: if it was hit instead, they would wait for ever.
a_cancel_never_hits_a_thread_that_was_just_started(_Config) ->
    ok = py:exec(<<"ran = []\n"
                   "def starts(n):\n"
                   "    for _ in range(n): threading.Thread(target=ran.append, args=(1,)).start()\n">>),
    Outcomes = [py:call('__main__', starts, [100], #{}, N rem 4) || N <- lists:seq(1, py_test:fewer(200))],
    ct:log("~b were in time", [length([ok || {ok, none} <- Outcomes])]),
    py_test:wait_until(fun() -> lists:all(fun(#{stuck := Stuck}) -> Stuck =:= 0 end, py_test:groups()) end),
    {ok, none} = py:call('__main__', starts, [10], #{}, 60000),
    [] = py_test:messages().

%%% Tasks of event loops

a_task_can_call_Erlang(_Config) ->
    Test = self(),
    register_f(fun(Args) -> {got, Args, self()} end),
    {ok, {got, [1, [a], none], Pid}} = py:eval(<<"asyncio.run(erlang.async_call('f', 1, [a], None))">>, #{a => a}),
    true = is_pid(Pid) andalso Pid =/= Test,
    ok = py:exec(<<"async def sums(n):\n"
                   "    total = 0\n"
                   "    for i in range(n): total += len(await erlang.async_call('f', i))\n"
                   "    return total\n">>),
    {ok, 300} = py:eval(<<"asyncio.run(sums(100))">>),
    [] = py_test:messages().

%% The function waits for what only the loop can do.
the_loop_goes_on_while_tasks_wait(_Config) ->
    Test = self(),
    register_f(fun([]) -> Test ! {in_callback, self()}, receive go_on -> done end end),
    ok = py:register_function(tell, fun([go]) -> Pid = in_callback(), Pid ! go_on, none end),
    ok = py:exec(<<"async def ticks():\n"
                   "    call = asyncio.ensure_future(erlang.async_call('f'))\n"
                   "    for _ in range(10): await asyncio.sleep(0.001)\n"
                   "    assert not call.done()\n"
                   "    erlang.call('tell', erlang.atom('go'))\n"
                   "    return await call\n">>),
    {ok, done} = py:eval(<<"asyncio.run(ticks())">>),
    [] = py_test:messages().

many_tasks_call_at_once(_Config) ->
    Count = py_test:fewer(500),
    Server = spawn_link(fun() -> barrier(Count, []) end),
    register_f(fun([X]) -> Server ! {here, self()}, receive go_on -> X end end),
    ok = py:exec(<<"async def many(n):\n"
                   "    return await asyncio.gather(*[erlang.async_call('f', i) for i in range(n)])\n">>),
    {ok, Found} = py:eval(<<"asyncio.run(many(n))">>, #{n => Count}),
    ?assertEqual(lists:seq(0, Count - 1), Found),
    [] = py_test:messages().

%% Lets all go when so many are there.
barrier(0, Pids) -> [Pid ! go_on || Pid <- Pids];
barrier(N, Pids) -> receive {here, Pid} -> barrier(N - 1, [Pid | Pids]) end.

exceptions_reach_the_task(_Config) ->
    register_f(fun([Class]) -> erlang:raise(Class, {oops, 1}, []) end),
    [{ok, {Class, {oops, 1}}} = py:eval(<<"asyncio.run(outcome(erlang.async_call('f', c)))">>, #{c => Class})
     || Class <- [error, exit, throw]],
    {ok, {error, {undefined_function, <<"no_such">>}}} = py:eval(<<"asyncio.run(outcome(erlang.async_call('no_such')))">>),
    {ok, {<<"ConversionError">>, _}} = py:eval(<<"asyncio.run(outcome(erlang.async_call('f', '\\ud800')))">>),
    register_f(fun([]) -> #{1 => a, 1.0 => b} end),
    {ok, {<<"ConversionError">>, _}} = py:eval(<<"asyncio.run(outcome(erlang.async_call('f')))">>),
    {error, {'Error', _}} = py:eval(<<"asyncio.run(erlang.async_call('no_such'))">>),
    [] = py_test:messages().

async_call_takes_funs(_Config) ->
    {ok, 3} = py:eval(<<"asyncio.run(erlang.async_call(f, 1, 2))">>, #{f => fun(A, B) -> A + B end}).

async_call_without_a_loop_is_an_error(_Config) ->
    register_f(fun([]) -> 1 end),
    ok = py:exec(<<"def attempt():\n"
                   "    call = erlang.async_call('f')\n"
                   "    try: call.send(None)\n"
                   "    except RuntimeError as e: return str(e)\n">>),
    {ok, Text} = py:call('__main__', attempt, []),
    ?assertMatch({_, _}, binary:match(Text, <<"loop">>)).

a_task_that_is_cancelled_ends_the_process(_Config) ->
    register_never(),
    ok = py:exec(<<"async def cancels():\n"
                   "    call = asyncio.ensure_future(erlang.async_call('never'))\n"
                   "    await erlang.async_call('begun', 1)\n"
                   "    call.cancel()\n"
                   "    return await outcome(call)\n">>),
    {ok, {<<"CancelledError">>, _}} = py:eval(<<"asyncio.run(cancels())">>),
    cancelled = ended_with(in_callback()),
    [] = py_test:messages().

%% It may have ended before it is monitored.
ended_with(Pid) ->
    case await_end(Pid) of
        noproc -> cancelled;
        Reason -> Reason
    end.

a_task_with_a_timeout_ends_the_process(_Config) ->
    register_never(),
    ok = py:exec(<<"async def waits():\n"
                   "    call = asyncio.ensure_future(erlang.async_call('never'))\n"
                   "    await erlang.async_call('begun', 1)\n"
                   "    return await outcome(asyncio.wait_for(call, 0.02))\n">>),
    {ok, {<<"TimeoutError">>, _}} = py:eval(<<"asyncio.run(waits())">>),
    cancelled = ended_with(in_callback()),
    [] = py_test:messages().

a_killed_callback_of_a_task_is_an_erlang_Error(_Config) ->
    register_never(),
    Worker = py_test:worker(),
    py_test:start(Worker, fun() -> ok = define(), py:eval(<<"asyncio.run(outcome(erlang.async_call('never')))">>) end),
    exit(in_callback(), kill),
    {ok, {exit, killed}} = py_test:answer(Worker),
    py_test:end_worker(Worker),
    [] = py_test:messages().

loops_in_several_threads_have_their_own_calls(_Config) ->
    register_f(fun([I, N]) -> {I, N} end),
    Count = py_test:fewer(50),
    ok = py:exec(<<"async def calls(i, n):\n"
                   "    found = await asyncio.gather(*[erlang.async_call('f', i, k) for k in range(n)])\n"
                   "    return found == [(i, k) for k in range(n)]\n"
                   "def loops(n): return in_threads(8, lambda i: asyncio.run(calls(i, n)))\n">>),
    {ok, Right} = py:call('__main__', loops, [Count]),
    ?assertEqual(lists:duplicate(8, true), Right),
    [] = py_test:messages().

a_loop_that_ends_early_cancels_its_calls(_Config) ->
    register_never(),
    ok = py:exec(<<"async def leaves():\n"
                   "    asyncio.ensure_future(erlang.async_call('never'))\n"
                   "    await erlang.async_call('begun', 1)\n"
                   "    return 'left'\n">>),
    {ok, <<"left">>} = py:eval(<<"asyncio.run(leaves())">>),
    cancelled = ended_with(in_callback()),
    [] = py_test:messages().

descriptors() ->
    {ok, Names} = file:list_dir("/proc/self/fd"),
    length(Names).

loops_leave_no_descriptors(_Config) ->
    register_f(fun([X]) -> X end),
    ok = py:register_function(never, fun([]) -> receive never -> ok end end),
    ok = py:exec(<<"import gc\n"
                   "async def calls(i):\n"
                   "    assert await erlang.async_call('f', i) == i\n"
                   "    if i % 2: asyncio.ensure_future(erlang.async_call('never'))\n"
                   "    await asyncio.sleep(0)\n"
                   "def loops(n):\n"
                   "    for i in range(n):\n"
                   "        asyncio.run(calls(i))\n"
                   %% Closed with calls under way, and not run to their end.
                   "def closed(n):\n"
                   "    for i in range(n):\n"
                   "        loop = asyncio.new_event_loop()\n"
                   "        task = loop.create_task(erlang.async_call('never'))\n"
                   "        loop.call_later(0.01, loop.stop)\n"
                   "        loop.run_forever()\n"
                   "        loop.close()\n"
                   "        task._log_destroy_pending = False\n"
                   "        del task, loop\n"
                   "    gc.collect()\n">>),
    Round = fun() ->
                    {ok, none} = py:call('__main__', loops, [20]),
                    {ok, none} = py:call('__main__', closed, [3]),
                    {ok, _} = py:gc()
            end,
    Round(),
    Before = {descriptors(), length(processes())},
    [Round() || _ <- [1, 2, 3]],
    py_test:wait_until_freed(fun() -> descriptors() =< element(1, Before) + 1 end),
    py_test:wait_until(fun() -> length(processes()) =< element(2, Before) + 2 end).

async_call_under_uvloop(_Config) ->
    py_test:has_python_module(uvloop) orelse throw({skip, "there is no uvloop for this Python"}),
    register_f(fun([X]) -> X * 2 end),
    ok = py:exec(<<"
import uvloop
async def calls(n):
    return await asyncio.gather(*[erlang.async_call('f', i) for i in range(n)])
def under_uvloop(n):
    loop = uvloop.new_event_loop()
    try: return (type(loop).__module__, loop.run_until_complete(calls(n)))
    finally: loop.close()
">>),
    case py:call('__main__', under_uvloop, [100]) of
        {ok, {<<"uvloop", _/binary>>, Doubles}} -> ?assertEqual([2 * I || I <- lists:seq(0, 99)], Doubles);
        {error, {'ImportError', Why}} -> throw({skip, binary_to_list(Why)}) % not made for this mode
    end,
    [] = py_test:messages().

the_stop_of_the_application_ends_the_wait_of_a_task(Config) ->
    register_never(),
    Path = new_path(Config),
    ok = py:exec(<<"def waits(): asyncio.run(erlang.async_call('never'))">>),
    {ok, none} = py:eval(<<"start_telling(path, waits)">>, #{path => Path}),
    Pid = in_callback(),
    Monitor = monitor(process, Pid),
    ok = application:stop(erlang_python),
    <<"Error exit not_running">> = read(Path),
    receive {'DOWN', Monitor, process, Pid, _} -> ok after 60000 -> error(it_lives) end,
    ok = application:start(erlang_python),
    [] = py_test:messages().

%% The loop runs in the request: it is interrupted, and its tasks end as those of a loop do.
the_end_of_the_request_ends_its_loop(_Config) ->
    register_never(),
    ok = py:exec(<<"async def naps():\n"
                   "    call = asyncio.ensure_future(erlang.async_call('never'))\n"
                   "    while True: await asyncio.sleep(0.01)\n"
                   "def run_naps(): asyncio.run(naps())\n">>),
    Ref = py:spawn_call('__main__', run_naps, []),
    Pid = in_callback(),
    {error, timeout} = py:await(Ref, 20),
    cancelled = ended_with(Pid),
    {ok, 4.0} = py:call(math, sqrt, [16], #{}, 60000),
    [] = py_test:messages().
