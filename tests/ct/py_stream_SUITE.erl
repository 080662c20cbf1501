%% SPDX-License-Identifier: Apache-2.0
%%
%% Streams: what a generator yields, as a list or as messages with credit.  A generator
%% that tells what it does tells it by callbacks, so that it shows in whichever interpreter
%% and process it runs: {advanced, N} before its N-th item, {ended, How} in its `finally'.
-module(py_stream_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([a_generator_becomes_a_list/1,
         whatever_can_be_iterated_becomes_a_list/1,
         what_cannot_be_iterated_is_a_TypeError/1,
         an_expression_becomes_a_list/1,
         an_async_generator_becomes_a_list/1,
         an_exception_in_the_middle_is_the_answer/1,
         an_item_that_does_not_convert_is_an_error/1,
         items_without_a_term_are_handles/1,
         a_generator_runs_in_the_process_that_collects_it/1,
         a_list_has_its_time/1,
         a_generator_is_closed_when_its_list_is_given_up/1,
         a_list_that_nobody_awaits_any_more_is_closed/1]).
-export([items_come_as_messages_in_order/1,
         an_empty_stream_is_done/1,
         many_streams_at_once_do_not_mix/1,
         an_exception_comes_after_the_items_before_it/1,
         a_stream_that_cannot_begin_tells_so/1,
         async_generators_come_as_messages/1,
         async_generators_keep_their_loop/1,
         wrong_arguments_are_refused/1]).
-export([a_generator_never_runs_ahead_of_the_credit/1,
         without_credit_a_generator_does_not_begin/1,
         credit_for_all_needs_no_further_word/1,
         credit_of_others_and_of_no_stream_does_nothing/1,
         a_slow_generator_delivers_each_item_at_once/1]).
-export([a_cancelled_stream_closes_its_generator/1,
         no_message_comes_after_cancel/1,
         cancel_interrupts_a_step/1,
         the_death_of_the_owner_closes_the_generator/1,
         the_death_of_the_owner_interrupts_a_step/1,
         the_stop_of_the_application_closes_generators/1,
         a_generator_that_refuses_to_end_blocks_nobody/1,
         an_ended_stream_can_be_cancelled_and_acked/1,
         streams_leave_nothing/1]).
-export([a_hundred_thousand_items_arrive_in_batches/1,
         an_infinite_generator_gives_what_is_asked_for/1]).

-define(ERROR(Type, Message), {error, {Type, Message}}).

suite() -> [{timetrap, {minutes, 5}}].

all() -> py_test:cases(?MODULE).

init_per_suite(Config) -> py_test:start(Config).

end_per_suite(Config) -> py_test:stop(Config).

init_per_testcase(_Case, Config) ->
    ok = py:exec(<<"
import asyncio, erlang, itertools, time

def numbers(n):
    for i in range(n):
        yield i

def telling(n, name='it'):
    i = 0
    how = 'dropped'
    try:
        while n is None or i < n:
            i += 1
            erlang.call('advanced', i)
            yield i
        how = 'exhausted'
    except GeneratorExit:
        how = 'closed'
        raise
    except erlang.Cancelled:
        how = 'cancelled'
        raise
    finally:
        erlang.call('ended', name, how)

async def telling_async(n):
    i = 0
    how = 'dropped'
    try:
        while n is None or i < n:
            i += 1
            await asyncio.sleep(0)
            erlang.call('advanced', i)
            yield i
        how = 'exhausted'
    except (GeneratorExit, erlang.Cancelled, asyncio.CancelledError) as e:
        how = 'closed'
        raise
    finally:
        erlang.call('ended', 'it', how)

def failing(n):
    yield from range(n)
    raise ValueError('after %d' % n)

# Code that is interrupted can call Erlang no more, so these tell by a file.
def marking(path):
    try:
        yield from itertools.count()
    finally:
        open(path, 'w').close()

# By itself, as the jump of a loop is in no try block of CPython's.
def spin():
    while True: pass

def doze():
    while True: time.sleep(0.01)

def looping(path, busy=True):
    try:
        yield 1
        erlang.call('advanced', 2)
        spin() if busy else doze()
    finally:
        open(path, 'w').close()

async def looping_async(path):
    try:
        yield 1
        erlang.call('advanced', 2)
        while True: await asyncio.sleep(0.01)
    finally:
        open(path, 'w').close()
">>),
    tell(self()),
    Config.

%% The functions outlive the process that registers them here.
tell(To) ->
    ok = py:register_function(advanced, fun([N]) -> send(To, {advanced, N}) end),
    ok = py:register_function(ended, fun([Name, How]) -> send(To, {ended, Name, How}) end).

send(To, Message) ->
    To ! Message,
    none.

end_per_testcase(_Case, _Config) ->
    py_test:restore(),
    [py:unregister_function(Name) || Name <- [advanced, ended]],
    ok.

start(Function, Args) -> start(Function, Args, #{}).

start(Function, Args, Options) ->
    {ok, Ref} = py:stream_start('__main__', Function, Args, {opts, Options}),
    true = is_reference(Ref),
    Ref.

next(Ref) ->
    receive {py_stream, Ref, Event} -> Event after 60000 -> error({no_item, py_test:messages()}) end.

take(Ref, N) ->
    [begin {data, V} = next(Ref), V end || _ <- lists:seq(1, N)].

%% The items, and how it ended.
all_of(Ref) ->
    case next(Ref) of
        {data, V} -> {Items, End} = all_of(Ref), {[V | Items], End};
        End -> {[], End}
    end.

%% One that stays out can only be seen by waiting for it.
nothing_more(Ref) ->
    receive {py_stream, Ref, Event} -> error({unexpected, Event}) after 30 -> ok end.

ended() ->
    receive {ended, _, How} -> How after 60000 -> error({did_not_end, py_test:messages()}) end.

%% The path of a file that is not there yet, and the wait for it.
mark(Config) ->
    Name = "mark" ++ integer_to_list(erlang:unique_integer([positive])),
    list_to_binary(filename:join(proplists:get_value(priv_dir, Config), Name)).

await_mark(Path) ->
    py_test:wait_until(fun() -> filelib:is_file(Path) end).

begun() ->
    receive {advanced, 2} -> ok after 60000 -> error({not_begun, py_test:messages()}) end.

advanced() ->
    receive {advanced, N} -> [N | advanced()] after 0 -> [] end.

%%% Lists

a_generator_becomes_a_list(_Config) ->
    {ok, [0, 1, 2]} = py:stream('__main__', numbers, [3]),
    {ok, []} = py:stream('__main__', numbers, [0]),
    ?assertEqual({ok, lists:seq(0, 9999)}, py:stream('__main__', numbers, [10000])),
    {ok, [0, 1]} = py:stream('__main__', numbers, [], #{n => 2}),
    {ok, [0, 1]} = py:stream("__main__", <<"numbers">>, [2], {opts, #{}}),
    {ok, [1, 2]} = py:stream('__main__', telling, [2]),
    <<"exhausted">> = ended(),
    [1, 2] = advanced(),
    [] = py_test:messages().

whatever_can_be_iterated_becomes_a_list(_Config) ->
    {ok, [0, 1, 2]} = py:stream(builtins, range, [3]),
    {ok, [1, 2]} = py:stream(builtins, list, [[1, 2]]),
    {ok, [{0, <<"a">>}, {1, <<"b">>}]} = py:stream(builtins, enumerate, [<<"ab">>]),
    {ok, [<<"a">>, <<"b">>]} = py:stream(builtins, str, [<<"ab">>]),
    {ok, Keys} = py:stream(builtins, dict, [#{a => 1, b => 2}]),
    [a, b] = lists:sort(Keys),
    {ok, [{1, 2}, {1, 3}, {2, 3}]} = py:stream(itertools, combinations, [[1, 2, 3], 2]),
    ok = py:exec(<<"class Iterable:\n    def __iter__(self): return iter((1, 2))\n"
                   "class Sequence:\n"
                   "    def __getitem__(self, i):\n"
                   "        if i > 2: raise IndexError\n"
                   "        return i\n">>),
    {ok, [1, 2]} = py:stream('__main__', 'Iterable', []),
    {ok, [0, 1, 2]} = py:stream('__main__', 'Sequence', []).

what_cannot_be_iterated_is_a_TypeError(_Config) ->
    ?ERROR('TypeError', <<"'int' object is not iterable">>) = py:stream(builtins, int, [1]),
    ?ERROR('TypeError', _) = py:stream_eval(<<"None">>),
    ?ERROR('TypeError', _) = py:stream_eval(<<"object()">>),
    ?ERROR('ZeroDivisionError', _) = py:stream_eval(<<"1 / 0">>),
    ?ERROR('ModuleNotFoundError', _) = py:stream(no_such_module, f, []),
    [] = py_test:messages().

an_expression_becomes_a_list(_Config) ->
    {ok, [0, 1, 4]} = py:stream_eval(<<"(x * x for x in range(3))">>),
    {ok, [2, 4]} = py:stream_eval("(x * n for x in l)", #{l => [1, 2], n => 2}),
    {ok, [0, 1]} = py:stream_eval(<<"numbers(2)">>),
    {ok, []} = py:stream_eval(<<"()">>).

an_async_generator_becomes_a_list(_Config) ->
    {ok, [1, 2, 3]} = py:stream('__main__', telling_async, [3]),
    <<"exhausted">> = ended(),
    ok = py:exec(<<"class Counter:\n"
                   "    def __init__(self, n): self.n = n\n"
                   "    def __aiter__(self): return self\n"
                   "    async def __anext__(self):\n"
                   "        if not self.n: raise StopAsyncIteration\n"
                   "        self.n -= 1\n"
                   "        await asyncio.sleep(0)\n"
                   "        return self.n\n">>),
    {ok, [1, 0]} = py:stream('__main__', 'Counter', [2]),
    ok = py:exec(<<"async def fails():\n    yield 1\n    await asyncio.sleep(0)\n    raise KeyError('x')\n">>),
    ?ERROR('KeyError', _) = py:stream('__main__', fails, []),
    {ok, List} = py:stream_eval(<<"telling_async(500)">>),
    ?assertEqual(lists:seq(1, 500), List).

an_exception_in_the_middle_is_the_answer(_Config) ->
    ?ERROR('ValueError', <<"after 0">>) = py:stream('__main__', failing, [0]),
    ?ERROR('ValueError', <<"after 5000">>) = py:stream('__main__', failing, [5000]),
    {error, #{type := 'ValueError', traceback := [_ | _]}} =
        py:stream('__main__', failing, [3], {opts, #{errors => full}}),
    [] = py_test:messages().

an_item_that_does_not_convert_is_an_error(_Config) ->
    {error, {conversion, _, _}} = py:stream_eval(<<"iter(['a', '\\ud800', 'b'])">>),
    {ok, 4.0} = py:call(math, sqrt, [16]).

items_without_a_term_are_handles(_Config) ->
    {ok, [A, B]} = py:stream_eval(<<"(o() for o in (object, Exception))">>),
    true = py:is_ref(A) andalso py:is_ref(B),
    {ok, <<"Exception">>} = py:getattr(B, '__class__.__name__').

a_generator_runs_in_the_process_that_collects_it(_Config) ->
    Me = self(),
    ok = py:register_function(advanced, fun([_]) -> send(Me, {by, self()}) end),
    {ok, [1]} = py:stream('__main__', telling, [1]),
    receive {by, Me} -> ok after 0 -> error(other_process) end,
    %% Also inside a callback, on the stack of the waiting executor.
    ok = py:register_function(advanced, fun([N]) -> {ok, L} = py:stream('__main__', numbers, [N]), L end),
    ok = py:exec(<<"def nested():\n    for i in range(3): yield erlang.call('advanced', i)\n">>),
    {ok, [[], [0], [0, 1]]} = py:stream('__main__', nested, []).

a_list_has_its_time(Config) ->
    [begin
         Path = mark(Config),
         py_test:timed_out(fun(T) -> py:stream('__main__', Function, [Path], {opts, #{timeout => T}}) end,
                           fun() -> is_marked(Path) end),
         await_mark(Path)
     end || Function <- [marking, looping, looping_async]],
    {error, timeout} = py:stream_eval(<<"itertools.count()">>, #{}, {opts, #{timeout => 50}}),
    _ = advanced(),
    [] = py_test:messages().

%% In a moment, if ever.
is_marked(Path) ->
    is_marked(Path, 400).

is_marked(_Path, 0) -> false;
is_marked(Path, Tries) ->
    filelib:is_file(Path) orelse begin timer:sleep(5), is_marked(Path, Tries - 1) end.

a_generator_is_closed_when_its_list_is_given_up(_Config) ->
    ok = py:exec(<<"def closing():\n"
                   "    try:\n        yield '\\ud800'\n        yield 1\n"
                   "    finally: erlang.call('ended', 'it', 'finally')\n">>),
    {error, {conversion, _, _}} = py:stream('__main__', closing, []),
    <<"finally">> = ended().

%% In a step, or between two of them: then the generator goes with the last handle.
a_list_that_nobody_awaits_any_more_is_closed(Config) ->
    [begin
         Path = mark(Config),
         W = py_test:worker(),
         ok = py_test:run(W, fun() -> py:exec(code_of_owner()) end),
         py_test:start(W, fun() -> py:stream('__main__', gen, [Path, Busy]) end),
         begun(),
         py_test:kill(W),
         py_test:wait_until_freed(fun() -> filelib:is_file(Path) end)
     end || Busy <- [true, false]],
    ok.

%%% Messages

items_come_as_messages_in_order(_Config) ->
    ?assertEqual({lists:seq(0, 4999), done}, all_of(start(numbers, [5000]))),
    {ok, Ref} = py:stream_start('__main__', numbers, [3]),
    {[0, 1, 2], done} = all_of(Ref),
    nothing_more(Ref),
    {ok, Kw} = py:stream_start('__main__', numbers, [], #{n => 2}),
    {[0, 1], done} = all_of(Kw),
    {ok, Range} = py:stream_start(builtins, range, [3]),
    {[0, 1, 2], done} = all_of(Range),
    [] = py_test:messages().

an_empty_stream_is_done(_Config) ->
    {[], done} = all_of(start(numbers, [0])),
    [] = py_test:messages().

many_streams_at_once_do_not_mix(_Config) ->
    ok = py:exec(<<"def own(n, k):\n    for i in range(k): yield (n, i)\n">>),
    Refs = [{N, start(own, [N, 200])} || N <- lists:seq(1, 20)],
    [?assertEqual({[{N, I} || I <- lists:seq(0, 199)], done}, all_of(Ref)) || {N, Ref} <- Refs],
    [] = py_test:messages().

an_exception_comes_after_the_items_before_it(_Config) ->
    [begin
         {Items, Error} = all_of(start(failing, [N])),
         ?assertEqual(lists:seq(0, N - 1), Items),
         {error, {'ValueError', <<"after ", _/binary>>}} = Error
     end || N <- [0, 1, 5, 1000, 5000]],
    {[0], {error, #{type := 'ValueError'}}} = all_of(start(failing, [1], #{errors => full})),
    ok = py:exec(<<"def bad():\n    yield 1\n    yield '\\ud800'\n    yield 2\n">>),
    {[1], {error, {conversion, _, _}}} = all_of(start(bad, [])),
    [] = py_test:messages().

%% At once, or as the first message; not never.
a_stream_that_cannot_begin_tells_so(_Config) ->
    [begin
         Failed = case Start of
                      {ok, Ref} -> {[], End} = all_of(Ref), nothing_more(Ref), End;
                      Error -> Error
                  end,
         ?assertMatch(?ERROR(Type, _), Failed)
     end || {Type, Start} <- [{'TypeError', py:stream_start(builtins, int, [1])},
                              {'ModuleNotFoundError', py:stream_start(no_such_module, f, [])},
                              {'AttributeError', py:stream_start(math, no_such_function, [])},
                              {'ValueError', py:stream_start(math, sqrt, [-1])}]],
    ok = application:stop(erlang_python),
    {error, not_running} = py:stream_start(builtins, range, [3]),
    ok = application:start(erlang_python),
    [] = py_test:messages().

async_generators_come_as_messages(_Config) ->
    {[1, 2, 3], done} = all_of(start(telling_async, [3])),
    <<"exhausted">> = ended(),
    [1, 2, 3] = advanced(),
    [] = py_test:messages().

%% What it began goes on while it is asked for more.
async_generators_keep_their_loop(_Config) ->
    ok = py:exec(<<"
async def produces():
    queue = asyncio.Queue()
    async def produce():
        for i in range(10):
            await asyncio.sleep(0.001)
            queue.put_nowait((i, id(asyncio.get_running_loop())))
    task = asyncio.ensure_future(produce())
    for _ in range(10):
        yield await queue.get()
    await task
">>),
    {Items, done} = all_of(start(produces, [], #{credit => infinity})),
    ?assertEqual(lists:seq(0, 9), [I || {I, _} <- Items]),
    [_] = lists:usort([Loop || {_, Loop} <- Items]).

wrong_arguments_are_refused(_Config) ->
    [{error, {_, _}} = Refused
     || Refused <- [py:stream(builtins, range, not_a_list), py:stream(1, range, [1]),
                    py:stream_start(builtins, range, not_a_list),
                    py:stream_start(builtins, range, [1], {opts, #{credit => -1}}),
                    py:stream_start(builtins, range, [1], {opts, #{credit => many}}),
                    py:stream_start(builtins, range, [1], {opts, #{no_such_option => 1}}),
                    py:stream_eval(1), py:stream_ack(not_a_reference, 1), py:stream_ack(make_ref(), -1),
                    py:stream_cancel(not_a_reference)]],
    [] = py_test:messages().

%%% Credit

a_generator_never_runs_ahead_of_the_credit(_Config) ->
    Ref = start(telling, [none], #{credit => 3}),
    [1, 2, 3] = take(Ref, 3),
    nothing_more(Ref),
    [1, 2, 3] = advanced(),
    lists:foldl(fun(Credit, Before) ->
                        ok = py:stream_ack(Ref, Credit),
                        Expected = lists:seq(Before + 1, Before + Credit),
                        Expected = take(Ref, Credit),
                        nothing_more(Ref),
                        Expected = advanced(),
                        Before + Credit
                end, 3, [1, 1, 5, 200, 1]),
    ok = py:stream_cancel(Ref),
    <<"closed">> = ended().

without_credit_a_generator_does_not_begin(_Config) ->
    Ref = start(telling, [2], #{credit => 0}),
    nothing_more(Ref),
    [] = advanced(),
    ok = py:stream_ack(Ref, 2),
    [1, 2] = take(Ref, 2),
    ok = py:stream_ack(Ref, 1),
    done = next(Ref),
    <<"exhausted">> = ended().

credit_for_all_needs_no_further_word(_Config) ->
    {[1, 2, 3], done} = all_of(start(telling, [3], #{credit => 100})),
    {Items, done} = all_of(start(numbers, [5000], #{credit => infinity})),
    5000 = length(Items).

credit_of_others_and_of_no_stream_does_nothing(_Config) ->
    Ref = start(telling, [none], #{credit => 1}),
    [1] = take(Ref, 1),
    _ = py:stream_ack(make_ref(), 5),
    _ = py_test:in_process(fun() -> py:stream_ack(Ref, 0) end),
    nothing_more(Ref),
    [1] = advanced(),
    ok = py:stream_cancel(Ref),
    <<"closed">> = ended().

%% No batch is waited for: in its next step the generator waits until the test has its item.
a_slow_generator_delivers_each_item_at_once(_Config) ->
    ok = py:exec(<<"def slow():\n"
                   "    for i in range(5):\n"
                   "        time.sleep(0.05)\n"
                   "        yield i\n"
                   "        erlang.call('wait', i)\n">>),
    Test = self(),
    ok = py:register_function(wait, fun([I]) -> send(Test, {waits, self(), I}), receive {go_on, I} -> none end end),
    Ref = start(slow, []),
    [begin
         {data, I} = next(Ref),
         receive {waits, Pid, I} -> Pid ! {go_on, I} after 60000 -> error(stuck) end
     end || I <- lists:seq(0, 4)],
    done = next(Ref),
    ok = py:unregister_function(wait).

%%% The end

a_cancelled_stream_closes_its_generator(_Config) ->
    Ref = start(telling, [none], #{credit => 2}),
    [1, 2] = take(Ref, 2),
    ok = py:stream_cancel(Ref),
    <<"closed">> = ended(),
    Async = start(telling_async, [none], #{credit => 2}),
    [1, 2] = take(Async, 2),
    ok = py:stream_cancel(Async),
    <<"closed">> = ended(),
    [1, 2, 1, 2] = advanced(),
    %% One that was never begun has nothing to close.
    ok = py:stream_cancel(start(telling, [none], #{credit => 0})),
    [] = py_test:messages().

no_message_comes_after_cancel(_Config) ->
    [begin
         Ref = start(numbers, [100000]),
         take(Ref, N),
         ok = py:stream_cancel(Ref),
         nothing_more(Ref)
     end || N <- [0, 1, 2, 100, 5000]],
    [] = py_test:messages().

cancel_interrupts_a_step(Config) ->
    [begin
         Path = mark(Config),
         Ref = start(Function, [Path | Args]),
         {data, 1} = next(Ref),
         begun(),
         {Time, ok} = py_test:milliseconds(fun() -> py:stream_cancel(Ref) end),
         ?assert(Time < 30000 orelse Time),
         await_mark(Path),
         [] = py_test:messages()
     end || {Function, Args} <- [{looping, [true]}, {looping, [false]}, {looping_async, []}]],
    ok.

%% It defines what it streams, as a namespace is of one process.  The loops are not in the
%% try block itself: see spin().
code_of_owner() ->
    <<"import erlang\n"
      "def loop(busy):\n"
      "    yield 1\n"
      "    erlang.call('advanced', 2)\n"
      "    while busy: pass\n"
      "    while True: yield 2\n"
      "def gen(path, busy):\n"
      "    try: yield from loop(busy)\n"
      "    finally: open(path, 'w').close()\n">>.

%% A worker that has one item.
owner(Path, Busy, Options) ->
    W = py_test:worker(),
    ok = py_test:run(W, fun() -> py:exec(code_of_owner()) end),
    1 = py_test:run(W, fun() ->
                               {ok, Ref} = py:stream_start('__main__', gen, [Path, Busy], {opts, Options}),
                               {data, First} = next(Ref),
                               First
                       end),
    W.

the_death_of_the_owner_closes_the_generator(Config) ->
    [begin
         Path = mark(Config),
         End(owner(Path, false, #{credit => 1})),
         await_mark(Path),
         [] = advanced()
     end || End <- [fun py_test:kill/1, fun py_test:end_worker/1]],
    ok.

the_death_of_the_owner_interrupts_a_step(Config) ->
    Path = mark(Config),
    W = owner(Path, true, #{}),
    begun(),
    py_test:kill(W),
    await_mark(Path).

%% A stop has an end, so a machine that stops for longer than that may keep one from closing.
the_stop_of_the_application_closes_generators(Config) ->
    closed_by_stop(Config, 5).

closed_by_stop(Config, Tries) ->
    Started = [{mark(Config), Busy, Credit} || {Busy, Credit} <- [{false, 1}, {true, 10}]],
    ok = py:exec(code_of_owner()),
    Refs = [start(gen, [Path, Busy], #{credit => Credit}) || {Path, Busy, Credit} <- Started],
    [{data, 1} = next(Ref) || Ref <- Refs],
    begun(),
    ok = application:stop(erlang_python),
    Open = [{Busy, Credit, py_nif:stats()} || {Path, Busy, Credit} <- Started, not is_marked(Path)],
    ok = application:start(erlang_python),
    %% What the streams said at their end, if anything.
    [receive {py_stream, Ref, {error, _}} -> ok after 0 -> ok end || Ref <- Refs],
    [] = py_test:messages(),
    %% Whoever reads of a failure wants to know which of them was not, and what it does instead.
    case Open of
        [] -> ok;
        _ when Tries > 1 -> ct:log("not closed: ~p", [Open]), tell(self()), closed_by_stop(Config, Tries - 1);
        _ -> error({not_closed, Open, py:stacks()})
    end.

a_generator_that_refuses_to_end_blocks_nobody(_Config) ->
    ok = py:exec(<<"def stubborn():\n"
                   "    while True:\n"
                   "        try: yield 1\n"
                   "        except GeneratorExit: pass\n">>),
    Ref = start(stubborn, [], #{credit => 1}),
    [1] = take(Ref, 1),
    ok = py:stream_cancel(Ref),
    nothing_more(Ref),
    {error, _} = py:stream('__main__', stubborn, [], {opts, #{timeout => 50}}),
    {[0], done} = all_of(start(numbers, [1])).

an_ended_stream_can_be_cancelled_and_acked(_Config) ->
    Ref = start(numbers, [1]),
    {[0], done} = all_of(Ref),
    _ = py:stream_ack(Ref, 1),
    _ = py:stream_cancel(Ref),
    nothing_more(Ref),
    %% Cancelled before anybody read that it is done.
    Unread = start(telling, [1]),
    <<"exhausted">> = ended(),
    _ = py:stream_cancel(Unread),
    [1] = advanced(),
    nothing_more(Unread),
    [] = py_test:messages().

streams_leave_nothing(_Config) ->
    Round = fun() ->
                    [begin
                         Ref = start(numbers, [100], #{credit => 10}),
                         take(Ref, 10),
                         case N rem 3 of
                             0 -> ok = py:stream_cancel(Ref);
                             1 -> ok = py:stream_ack(Ref, 91), {_, done} = all_of(Ref);
                             2 -> {ok, _} = py:stream_eval(<<"numbers(100)">>), ok = py:stream_cancel(Ref)
                         end
                     end || N <- lists:seq(1, py_test:fewer(300))],
                    {ok, _} = py:gc(),
                    erlang:garbage_collect()
            end,
    Round(),
    {Before, Threads} = {length(processes()), py_test:thread_names()},
    py_test:grows_less(20 bsl 20, fun() -> Round(), Round() end),
    py_test:wait_until(fun() -> length(processes()) =< Before + 2 end),
    py_test:await_threads(Threads),
    [] = py_test:messages().

%%% Many

requests() ->
    #{requests := Requests} = py:info(),
    lists:sum(maps:values(Requests)).

a_hundred_thousand_items_arrive_in_batches(_Config) ->
    N = 100000,
    [begin
         Before = requests(),
         {Time, Items} = py_test:milliseconds(Take),
         ?assertEqual(lists:seq(0, N - 1), Items),
         Requests = requests() - Before,
         ct:log("~s: ~b requests, ~.1f ms", [How, Requests, Time]),
         ?assert(Requests < N div 50 orelse Requests)
     end || {How, Take} <- [{"as a list", fun() -> {ok, List} = py:stream('__main__', numbers, [N]), List end},
                            {"as messages", fun() -> {List, done} = all_of(start(numbers, [N])), List end}]],
    ok.

an_infinite_generator_gives_what_is_asked_for(_Config) ->
    {ok, Ref} = py:stream_start(itertools, count, [], {opts, #{credit => 1000}}),
    ?assertEqual(lists:seq(0, 999), take(Ref, 1000)),
    nothing_more(Ref),
    ok = py:stream_ack(Ref, 1),
    [1000] = take(Ref, 1),
    ok = py:stream_cancel(Ref),
    %% Without a limit it fills the mailbox until it is cancelled.
    {ok, Endless} = py:stream_start(itertools, count, []),
    ?assertEqual(lists:seq(0, 9999), take(Endless, 10000)),
    ok = py:stream_cancel(Endless),
    nothing_more(Endless),
    [] = py_test:messages().
