%% SPDX-License-Identifier: Apache-2.0
%%
%% Coroutines that Erlang runs: on the event loops of the application, on loops of a process,
%% and on all of them in turn.  What a coroutine does it tells by messages, which a task that
%% was cancelled may still send; where it has to be in the middle of something, it waits for
%% a future that the case ends by another task.
-module(py_event_loop_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([a_coroutine_runs_to_its_result/1,
         whatever_can_be_awaited_is_awaited/1,
         what_cannot_be_awaited_is_the_result/1,
         keywords_and_options_do_what_they_do_for_calls/1,
         values_of_every_kind_come_back/1,
         errors_of_a_task_are_those_of_a_call/1,
         the_end_of_the_program_is_an_error_of_the_task/1,
         wrong_arguments_are_refused/1]).
-export([tasks_of_a_loop_run_at_once/1,
         a_thousand_tasks_asleep_end_in_time/1,
         a_process_stays_on_one_loop/1,
         each_interpreter_has_a_loop/1,
         a_task_goes_where_its_module_loads/1,
         a_task_is_in_the_namespace_of_its_process/1,
         blocked_calls_hold_no_loop_up/1,
         tasks_take_no_slots/1]).
-export([a_task_that_takes_too_long_is_cancelled/1,
         a_cancelled_task_runs_its_finally/1,
         cancel_before_the_beginning_keeps_it_from_running/1,
         a_killed_caller_cancels_its_tasks/1,
         results_are_awaited_in_any_order/1,
         a_task_that_cancels_itself_is_cancelled/1,
         code_that_blocks_its_loop_ends_with_its_task/1,
         no_step_is_interrupted_for_another_task/1,
         a_loop_that_is_blocked_can_be_closed/1,
         a_task_that_waits_for_Erlang_can_be_cancelled/1,
         cleanup_that_waits_ends_after_the_death_of_the_owner/1,
         times_of_every_kind_are_kept/1,
         a_loop_of_the_main_interpreter_is_replaced/1,
         cancel_of_what_is_over_leaves_no_message/1,
         killed_callers_leave_nothing/1]).
-export([a_spawned_task_outlives_its_caller/1,
         a_spawned_task_that_fails_is_logged/1,
         a_result_comes_as_a_message/1,
         the_death_of_the_receiver_cancels_its_task/1]).
-export([a_callback_of_a_call_runs_a_task/1,
         a_callback_of_a_task_runs_a_task/1,
         a_task_knows_who_asked_for_it/1,
         each_task_has_its_own_context/1,
         the_trace_context_goes_with_a_task/1]).
-export([more_tasks_than_can_wait_are_refused/1,
         a_process_has_a_loop_of_its_own/1,
         the_end_of_its_process_ends_a_loop/1,
         one_look_finds_the_tasks_of_all_loops_that_are_closed/1,
         all_tasks_are_found_however_they_were_made/1,
         tasks_made_after_a_look_are_found/1,
         tasks_that_wait_when_their_loop_is_closed_never_begin/1,
         a_loop_that_died_is_replaced/1,
         a_loop_that_cannot_go_on_is_replaced/1,
         the_stop_of_the_application_ends_tasks/1,
         the_application_stops_in_traffic/1,
         twenty_stops_and_starts_leave_nothing/1,
         idle_loops_have_no_threads/1,
         loops_are_told_of/1,
         the_number_of_loops_is_checked/1]).
-export([async_call_and_async_await_are_a_task/1,
         async_gather_runs_all_at_once/1,
         async_gather_has_its_time/1,
         async_stream_collects_what_is_yielded/1,
         async_stream_closes_its_generator/1]).
-export([the_pool_takes_its_loops_in_turn/1,
         the_pool_does_all_that_a_loop_does/1]).

%% How many tasks can wait for a loop.
-define(MAX_WAITING, 16384).

suite() -> [{timetrap, {minutes, 5}}].

all() -> py_test:cases(?MODULE).

init_per_suite(Config) -> py_test:start(Config).

end_per_suite(Config) -> py_test:stop(Config).

init_per_testcase(_Case, Config) ->
    define(),
    Config.

end_per_testcase(_Case, _Config) ->
    py_test:restore().

%% In the namespace of the calling process, in its interpreter.
define() ->
    ok = py:exec(<<"
import asyncio, contextvars, erlang

async def echo(x):
    await asyncio.sleep(0)
    return x

async def fail(x):
    await asyncio.sleep(0)
    raise ValueError(x)

async def tell_end(to, x):
    how = 'done'
    erlang.send(to, ('begun', x))
    try:
        await asyncio.sleep(600)
    except asyncio.CancelledError:
        how = 'cancelled'
        raise
    finally:
        erlang.send(to, (how, x))

waiting = {}

async def wait_for(name):
    future = waiting.setdefault(name, asyncio.get_running_loop().create_future())
    return await future

async def answer(name, x):
    future = waiting.setdefault(name, asyncio.get_running_loop().create_future())
    future.set_result(x)

async def loop_id():
    return id(asyncio.get_running_loop())

async def ticks(to, n):
    how = 'closed'
    try:
        for i in range(n):
            await asyncio.sleep(0)
            yield i
        how = 'exhausted'
    finally:
        erlang.send(to, ('stream', how))
">>).

run(Function, Args) ->
    py_event_loop:run('__main__', Function, Args).

begin_task(Function, Args) ->
    {ok, Ref} = py_event_loop:create_task('__main__', Function, Args),
    Ref.

told() ->
    receive {What, X} when is_binary(What) -> {What, X} after 60000 -> error({not_told, py_test:messages()}) end.

%% Of a task that was cancelled.
has_begun() ->
    await_no_tasks(),
    receive {<<"begun">>, _} -> true after 0 -> false end.

own_worker() ->
    Own = py_event_loop:get_loop(),
    [Number] = [N || #{number := N, pid := Pid} <- py_event_loop:infos(), py_event_loop:get_loop(Pid) =:= Own],
    Number.

tasks(Loop) ->
    #{tasks := Running, waiting := Waiting} = py_nif:loop_info(Loop),
    Running + Waiting.

await_no_tasks() ->
    {ok, Loop} = py_event_loop:get_loop(),
    await_no_tasks(Loop).

await_no_tasks(Loop) ->
    py_test:wait_until(fun() -> tasks(Loop) =:= 0 end).

%% A loop that does nothing but wait for this case to let it go.
block(Loop) ->
    Case = self(),
    ok = py:register_function(block, fun([]) -> Case ! {blocked, self()}, receive go_on -> none end end),
    {ok, Ref} = py_event_loop:create_task(erlang, call, [block], #{loop => Loop}),
    receive {blocked, Pid} -> {Ref, Pid} after 60000 -> error(not_blocked) end.

let_go({Ref, Pid}) ->
    Pid ! go_on,
    {ok, none} = py_event_loop:await(Ref).

%%% Results

a_coroutine_runs_to_its_result(_Config) ->
    {ok, none} = py_event_loop:run(asyncio, sleep, [0]),
    {ok, done} = py_event_loop:run("asyncio", <<"sleep">>, [0.001, done]),
    {ok, 17} = run(echo, [17]),
    [] = py_test:messages().

whatever_can_be_awaited_is_awaited(_Config) ->
    ok = py:exec(<<"
class Ready:
    def __await__(self):
        yield from asyncio.sleep(0).__await__()
        return 'ready'

def future():
    f = asyncio.get_running_loop().create_future()
    f.set_result('future')
    return f

def task():
    return asyncio.get_running_loop().create_task(echo('task'))

import types
@types.coroutine
def generator():
    yield from asyncio.sleep(0)
    return 'generator'
">>),
    {ok, <<"ready">>} = run('Ready', []),
    {ok, <<"generator">>} = run(generator, []),
    {ok, <<"future">>} = run(future, []),
    {ok, <<"task">>} = run(task, []).

what_cannot_be_awaited_is_the_result(_Config) ->
    {ok, 4.0} = py_event_loop:run(math, sqrt, [16]),
    {ok, [1, 2]} = py_event_loop:run(builtins, sorted, [[2, 1]]),
    ok = py:exec(<<"def generator(): yield 1">>),
    {ok, Generator} = run(generator, []),
    {ok, [1]} = py:call(builtins, list, [Generator]),
    {error, {'TypeError', _}} = py:async_stream('__main__', generator, []).

keywords_and_options_do_what_they_do_for_calls(_Config) ->
    Run = fun(Function, Args, Options) -> py_event_loop:run('__main__', Function, Args, Options) end,
    {ok, 3} = Run(echo, [], #{kwargs => #{x => 3}}),
    {ok, 3} = Run(echo, [], {opts, #{kwargs => #{"x" => 3}}}),
    {ok, Handle} = Run(echo, [[1, 2]], #{return => handle}),
    {ok, [1, 2]} = py:to_term(Handle),
    {ok, <<"ab">>} = Run(echo, [{bytes, <<"ab">>}], #{return => buffer}),
    {error, #{type := 'ValueError', message := <<"no">>, traceback := Frames}} = Run(fail, [no], #{errors => full}),
    ?assertMatch([_ | _], [F || #{function := <<"fail">>} = F <- Frames]),
    ok = py:exec(<<"async def kind(x): return type(x).__name__">>),
    {ok, <<"bytes">>} = Run(kind, [<<"ab">>], #{binary => bytes}),
    {ok, <<"str">>} = Run(kind, [ab], #{atom => str}),
    {ok, Ref} = py_event_loop:create_task('__main__', kind, [<<"ab">>], #{binary => bytes}),
    {ok, <<"bytes">>} = py_event_loop:await(Ref).

values_of_every_kind_come_back(_Config) ->
    Values = [0, -1, 1 bsl 70, 1.5, true, false, none, an_atom, <<"text">>, <<255, 0>>, [], [1, [2]], {}, {a, {b}},
              #{}, #{a => 1, <<"b">> => [2]}, self(), make_ref(), <<1:3>>, [1 | 2], #{[] => #{}}],
    [?assertEqual({ok, V}, run(echo, [V])) || V <- Values],
    Refs = [begin_task(echo, [V]) || V <- Values],
    ?assertEqual([{ok, V} || V <- Values], [py_event_loop:await(Ref) || Ref <- Refs]).

errors_of_a_task_are_those_of_a_call(_Config) ->
    {error, {'ValueError', <<"no">>}} = run(fail, [<<"no">>]),
    {error, {'ModuleNotFoundError', _}} = py_event_loop:run(no_such_module, f, []),
    {error, {'AttributeError', _}} = py_event_loop:run(math, no_such_function, []),
    {error, {'TypeError', _}} = run(echo, []),
    {error, {conversion, _, [result | _]}} = py_event_loop:run(builtins, chr, [16#D800]),
    ok = py:exec(<<"async def leave(): raise SystemExit(3)\nasync def bad(): return chr(0xD800)">>),
    {error, {'SystemExit', _}} = run(leave, []),
    {error, {conversion, _, [result | _]}} = run(bad, []),
    %% The loop goes on.
    {ok, 1} = run(echo, [1]).

%% And of nobody else: asyncio has nothing to say about it.
the_end_of_the_program_is_an_error_of_the_task(_Config) ->
    ok = py:exec(<<"
import gc
heard = []
async def leave(error):
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: heard.append(context['message']))
    raise error
async def leave_later(error):
    await asyncio.sleep(0)
    raise error
async def what_was_heard():
    gc.collect()
    asyncio.get_running_loop().set_exception_handler(None)
    return heard
async def exit_now(): await leave(SystemExit(3))
async def exit_later(): await leave_later(SystemExit(3))
async def interrupt(): await leave(KeyboardInterrupt())
">>),
    {error, {'SystemExit', _}} = run(exit_now, []),
    {error, {'SystemExit', _}} = run(exit_later, []),
    {error, {'KeyboardInterrupt', _}} = run(interrupt, []),
    {ok, []} = run(what_was_heard, []).

wrong_arguments_are_refused(_Config) ->
    Refused = [fun() -> py_event_loop:run(1, f, []) end,
               fun() -> py_event_loop:run(math, 1, []) end,
               fun() -> py_event_loop:run(math, sqrt, 16) end,
               fun() -> py_event_loop:run(math, sqrt, [16], x) end,
               fun() -> py_event_loop:run(math, sqrt, [16], #{no_such_option => 1}) end,
               fun() -> py_event_loop:run(math, sqrt, [16], #{kwargs => 1}) end,
               fun() -> py_event_loop:run(math, sqrt, [16], #{timeout => -1}) end,
               fun() -> py_event_loop:run(math, sqrt, [16], #{loop => a}) end,
               fun() -> py_event_loop:run(math, sqrt, [16], #{loop => self()}) end,
               fun() -> py_event_loop:run(math, sqrt, [16], #{loop => make_ref()}) end,
               fun() -> py_event_loop:create_task(math, sqrt, [16], #{timeout => 1}) end,
               fun() -> py_event_loop:spawn_task(math, sqrt, [16], #{return => handle}) end,
               fun() -> py_event_loop:spawn_task(math, sqrt, 16) end,
               fun() -> py_event_loop:await(x) end,
               fun() -> py_event_loop:cancel(make_ref()) end,
               fun() -> py_event_loop:run_async(self(), #{}) end,
               fun() -> run_async(#{}) end,
               fun() -> run_async(#{ref => 1, caller => x, module => math, func => sqrt, args => []}) end,
               fun() -> run_async(#{ref => 1, caller => self(), module => math, func => sqrt, args => [], x => 1}) end,
               fun() -> py_event_loop:start_link(#{worker => 0}) end,
               fun() -> py_event_loop:start_link(#{x => 1}) end,
               fun() -> py_event_loop:start_link(x) end,
               fun() -> py_event_loop_pool:run(math, sqrt, [16], x) end,
               fun() -> py:async_await(py:async_call(math, sqrt, 16)) end,
               fun() -> py:async_gather(x) end,
               fun() -> py:async_gather([{math, sqrt}]) end,
               fun() -> py:async_gather([], x) end,
               fun() -> py:async_stream(math, sqrt, [16], x) end],
    [case Fun() of
         {error, {Type, Text}} ->
             ?assert(lists:member(Type, ['TypeError', 'ValueError']) orelse Type),
             ?assert(is_binary(Text));
         Other -> error({not_refused, Fun, Other})
     end || Fun <- Refused],
    [] = py_test:messages().

run_async(Task) ->
    {ok, Loop} = py_event_loop:get_loop(),
    py_event_loop:run_async(Loop, Task).

%%% Loops

tasks_of_a_loop_run_at_once(_Config) ->
    First = begin_task(wait_for, [a]),
    Second = begin_task(wait_for, [b]),
    {ok, none} = run(answer, [b, 2]),
    {ok, 2} = py_event_loop:await(Second),
    {ok, none} = run(answer, [a, 1]),
    {ok, 1} = py_event_loop:await(First),
    await_no_tasks().

a_thousand_tasks_asleep_end_in_time(_Config) ->
    Sleep = fun() ->
                    Refs = [element(2, py_event_loop:create_task(asyncio, sleep, [0.1])) || _ <- lists:seq(1, 1000)],
                    [{ok, none} = py_event_loop:await(Ref) || Ref <- Refs]
            end,
    py_test:within(10000, 10, fun() -> {Time, _} = py_test:milliseconds(Sleep), ?assert(Time >= 95), Time end),
    await_no_tasks(),
    [] = py_test:messages().

a_process_stays_on_one_loop(_Config) ->
    {ok, Loop} = py_event_loop:get_loop(),
    {ok, Loop} = py_event_loop:get_loop(),
    {ok, Id} = run(loop_id, []),
    [{ok, Id} = run(loop_id, []) || _ <- lists:seq(1, 20)],
    {ok, Id} = py_event_loop:run('__main__', loop_id, [], #{loop => Loop}).

%% The modules that a task sees are those that calls of its process see, wherever that is; and
%% who sees the same has the same loop.
each_interpreter_has_a_loop(_Config) ->
    Look = fun() ->
                   {ok, Modules} = py:eval(<<"id(__import__('sys').modules)">>),
                   ok = py:exec(<<"def modules(): import sys; return id(sys.modules)">>),
                   {ok, Modules} = run(modules, []),
                   {ok, Loop} = py_event_loop:get_loop(),
                   {Modules, Loop}
           end,
    Seen = lists:usort(py_test:at_once(lists:duplicate(10, Look))),
    ?assertEqual(length(Seen), length(lists:ukeysort(1, Seen))),
    ?assertEqual(length(Seen), length(lists:ukeysort(2, lists:keysort(2, Seen)))),
    %% All of them, however few processes have found.
    Interps = lists:usort([Interp || #{interp := Interp} <- py_event_loop:infos()]),
    ?assertEqual([], [Interp || #{pool := default, interp := Interp} <- py_test:groups()] -- Interps).

%% Where there is but one interpreter it is there already.
a_task_goes_where_its_module_loads(_Config) ->
    {ok, Loop} = py_event_loop:get_loop(),
    [{ok, N} = py_event_loop:run(readline, get_current_history_length, []) || N <- [0, 0]],
    [{ok, 4.0} = py_event_loop:run(math, sqrt, [16], #{loop => Loop}) || _ <- [1, 2]].

a_task_is_in_the_namespace_of_its_process(_Config) ->
    ok = py:exec(<<"x = 'mine'\nasync def get(): return x">>),
    {ok, <<"mine">>} = run(get, []),
    py_test:in_process(fun() ->
                               {error, {_, _}} = run(get, []),
                               ok = py:exec(<<"x = 'other'\nasync def get(): return x">>),
                               {ok, <<"other">>} = run(get, [])
                       end),
    {ok, <<"mine">>} = run(get, []).

%% Not even those that nobody answers.
blocked_calls_hold_no_loop_up(_Config) ->
    ok = py_test:register_hold(),
    Holders = [py_test:holder() || _ <- lists:seq(1, 3 * py:num_executors())],
    [py_test:await_held(H) || H <- Holders],
    {ok, 1} = py_event_loop:run('__main__', echo, [1]),
    [{ok, held} = py_test:let_go(H) || H <- Holders],
    ok.

tasks_take_no_slots(_Config) ->
    ok = py_semaphore:set_max_concurrent(1),
    Refs = [begin_task(wait_for, [N]) || N <- lists:seq(1, 10)],
    {ok, 4.0} = py:call(math, sqrt, [16]),
    0 = py_semaphore:current(),
    [{ok, none} = run(answer, [N, N]) || N <- lists:seq(1, 10)],
    ?assertEqual([{ok, N} || N <- lists:seq(1, 10)], [py_event_loop:await(Ref) || Ref <- Refs]).

%%% The ends of tasks

a_task_that_takes_too_long_is_cancelled(_Config) ->
    py_test:timed_out(fun(Timeout) ->
                              py_event_loop:run('__main__', tell_end, [self(), 1], #{timeout => Timeout})
                      end, fun has_begun/0),
    {<<"cancelled">>, 1} = told(),
    Ref = begin_task(tell_end, [self(), 2]),
    {<<"begun">>, 2} = told(),
    {error, timeout} = py_event_loop:await(Ref, 10),
    {<<"cancelled">>, 2} = told(),
    {error, cancelled} = py_event_loop:await(Ref, 10),
    await_no_tasks(),
    [] = py_test:messages().

a_cancelled_task_runs_its_finally(_Config) ->
    ok = py:exec(<<"
async def slow_end(to):
    try:
        erlang.send(to, ('begun', 1))
        await asyncio.sleep(600)
    finally:
        await asyncio.sleep(0.01)
        erlang.send(to, ('ended', 1))
">>),
    Ref = begin_task(slow_end, [self()]),
    {<<"begun">>, 1} = told(),
    ok = py_event_loop:cancel(Ref),
    {error, cancelled} = py_event_loop:await(Ref),
    {<<"ended">>, 1} = told(),
    await_no_tasks(),
    [] = py_test:messages().

cancel_before_the_beginning_keeps_it_from_running(_Config) ->
    {ok, Loop} = py_event_loop:get_loop(),
    Blocked = block(Loop),
    Ref = begin_task(tell_end, [self(), 1]),
    ok = py_event_loop:cancel(Ref),
    {error, timeout} = py_event_loop:run('__main__', tell_end, [self(), 2], #{timeout => 1}),
    let_go(Blocked),
    {ok, 1} = run(echo, [1]),
    await_no_tasks(),
    [] = py_test:messages().

a_killed_caller_cancels_its_tasks(_Config) ->
    Case = self(),
    Worker = py_test:worker(),
    ok = py_test:run(Worker, fun() ->
                                     define(),
                                     _ = [begin_task(tell_end, [Case, N]) || N <- [1, 2, 3]],
                                     {ok, Loop} = py_event_loop:get_loop(),
                                     Case ! {loop, Loop},
                                     ok
                             end),
    Loop = receive {loop, L} -> L end,
    Waiter = py_test:worker(),
    py_test:start(Waiter, fun() -> define(), run(tell_end, [Case, 4]) end),
    [{<<"begun">>, _} = told() || _ <- [1, 2, 3, 4]],
    py_test:kill(Worker),
    ?assertEqual([{<<"cancelled">>, N} || N <- [1, 2, 3]], lists:sort([told() || _ <- [1, 2, 3]])),
    py_test:kill(Waiter),
    {<<"cancelled">>, 4} = told(),
    await_no_tasks(Loop).

results_are_awaited_in_any_order(_Config) ->
    Refs = [{N, begin_task(echo, [N])} || N <- lists:seq(1, 200)],
    Shuffled = [X || {_, X} <- lists:sort([{erlang:phash2(N), R} || {N, _} = R <- Refs])],
    [{ok, N} = py_event_loop:await(Ref) || {N, Ref} <- Shuffled],
    [] = py_test:messages().

a_task_that_cancels_itself_is_cancelled(_Config) ->
    ok = py:exec(<<"
async def give_up():
    asyncio.current_task().cancel()
    await asyncio.sleep(600)

async def raise_it():
    raise asyncio.CancelledError
">>),
    {error, cancelled} = run(give_up, []),
    {error, cancelled} = run(raise_it, []),
    {ok, 1} = run(echo, [1]).

-define(BLOCKING, <<"
import time
released = False

async def spin(to):
    await asyncio.sleep(0)
    spin_at_once(to)

def spin_at_once(to):
    erlang.send(to, ('begun', 0))
    while True:
        pass

async def busy(to):
    erlang.send(to, ('begun', 0))
    while not released:
        time.sleep(0.001)
    return 'whole'
">>).

code_that_blocks_its_loop_ends_with_its_task(_Config) ->
    ok = py:exec(?BLOCKING),
    [begin
         Ref = begin_task(Function, [self()]),
         {<<"begun">>, 0} = told(),
         ok = py_event_loop:cancel(Ref),
         {ok, 1} = run(echo, [1])
     end || Function <- [spin, spin_at_once]],
    await_no_tasks(),
    [] = py_test:messages().

%% The time is that of some looks for tasks that block.
no_step_is_interrupted_for_another_task(_Config) ->
    ok = py:exec(?BLOCKING),
    Other = begin_task(echo, [1]),
    Asleep = begin_task(tell_end, [self(), 1]),
    {<<"begun">>, 1} = told(),
    {ok, 1} = py_event_loop:await(Other),
    Busy = begin_task(busy, [self()]),
    {<<"begun">>, 0} = told(),
    ok = py_event_loop:cancel(Asleep),
    timer:sleep(700),
    ok = py:exec(<<"released = True">>),
    {ok, <<"whole">>} = py_event_loop:await(Busy),
    {<<"cancelled">>, 1} = told(),
    await_no_tasks(),
    [] = py_test:messages().

a_loop_that_is_blocked_can_be_closed(_Config) ->
    ok = py:exec(?BLOCKING),
    {ok, Pid} = py_event_loop:start_link(),
    {ok, Ref} = py_event_loop:create_task('__main__', spin, [self()], #{loop => Pid}),
    {<<"begun">>, 0} = told(),
    ok = py_event_loop:stop(Pid),
    {error, _} = py_event_loop:await(Ref),
    {ok, 1} = run(echo, [1]),
    [] = py_test:messages().

%% The function never returns.
a_task_that_waits_for_Erlang_can_be_cancelled(_Config) ->
    {ok, Loop} = py_event_loop:get_loop(),
    {Ref, Callback} = block(Loop),
    ok = py_event_loop:cancel(Ref),
    {ok, 1} = run(echo, [1]),
    exit(Callback, kill),
    await_no_tasks(),
    [] = py_test:messages().

cleanup_that_waits_ends_after_the_death_of_the_owner(_Config) ->
    ok = py:exec(<<"
async def slow_end(to):
    erlang.send(to, ('begun', 1))
    try:
        await asyncio.sleep(600)
    finally:
        await asyncio.sleep(0.05)
        erlang.send(to, ('ended', 1))
">>),
    {ok, Pid} = py_event_loop:start_link(),
    true = unlink(Pid),
    {ok, Ref} = py_event_loop:create_task('__main__', slow_end, [self()], #{loop => Pid}),
    {<<"begun">>, 1} = told(),
    exit(Pid, kill),
    {<<"ended">>, 1} = told(),
    {error, cancelled} = py_event_loop:await(Ref),
    [] = py_test:messages().

%% One that is too far off for a timer does not keep the loop busy.
times_of_every_kind_are_kept(_Config) ->
    ok = py:exec(<<"
async def at_an_integer():
    loop = asyncio.get_running_loop()
    future = loop.create_future()
    loop.call_at(int(loop.time()) + 1, future.set_result, 'in time')
    return await future

async def for_ever(to, seconds):
    asyncio.get_running_loop().call_soon(erlang.send, to, ('begun', seconds))
    await asyncio.sleep(float(seconds))
">>),
    {ok, <<"in time">>} = run(at_an_integer, []),
    {ok, Pid} = py_event_loop:start_link(),
    {ok, Loop} = py_event_loop:get_loop(Pid),
    [begin
         {ok, Ref} = py_event_loop:create_task('__main__', for_ever, [self(), Seconds], #{loop => Loop}),
         {<<"begun">>, Seconds} = told(),
         Turns = maps:get(turns, py_nif:loop_info(Loop)),
         timer:sleep(50),
         ?assert(maps:get(turns, py_nif:loop_info(Loop)) < Turns + 10),
         ok = py_event_loop:cancel(Ref)
     end || Seconds <- [<<"inf">>, <<"1e12">>]],
    ok = py_event_loop:stop(Pid),
    [] = py_test:messages().

cancel_of_what_is_over_leaves_no_message(_Config) ->
    [begin
         Ref = begin_task(echo, [N]),
         %% At all moments: before, during and after.
         [erlang:yield() || _ <- lists:seq(1, N rem 50)],
         ok = py_event_loop:cancel(Ref)
     end || N <- lists:seq(1, py_test:fewer(1000))],
    await_no_tasks(),
    {ok, 1} = run(echo, [1]),
    [] = py_test:messages().

killed_callers_leave_nothing(_Config) ->
    Processes = erlang:system_info(process_count),
    Work = fun Loop() ->
                   Refs = [begin_task(echo, [N]) || N <- lists:seq(1, 5)],
                   ok = py_event_loop:cancel(hd(Refs)),
                   _ = [py_event_loop:await(Ref, 5) || Ref <- tl(Refs)],
                   {ok, 1} = run(echo, [1]),
                   Loop()
           end,
    [begin
         {Pid, Monitor} = spawn_monitor(fun() -> define(), Work() end),
         timer:sleep(rand:uniform(4) - 1), % any moment will do
         exit(Pid, kill),
         receive {'DOWN', Monitor, process, Pid, killed} -> ok end
     end || _ <- lists:seq(1, py_test:fewer(200))],
    [await_no_tasks(L) || #{pid := P} <- py_event_loop:infos(), {ok, L} <- [py_event_loop:get_loop(P)]],
    py_test:wait_until(fun() -> erlang:system_info(process_count) =< Processes + 2 end),
    {ok, 1} = run(echo, [1]).

%%% Tasks that nobody waits for

a_spawned_task_outlives_its_caller(_Config) ->
    Case = self(),
    ok = py:exec(<<"async def tell(to, x):\n    await asyncio.sleep(0.01)\n    erlang.send(to, ('told', x))">>),
    ok = py_event_loop:spawn_task('__main__', tell, [Case, 1]),
    {<<"told">>, 1} = told(),
    py_test:in_process(fun() ->
                               ok = py:exec(<<"
import asyncio, erlang
async def tell(to, x):
    await asyncio.sleep(0.01)
    erlang.send(to, ('told', x))
">>),
                               ok = py_event_loop:spawn_task('__main__', tell, [], #{kwargs => #{to => Case, x => 2}})
                       end),
    {<<"told">>, 2} = told(),
    await_no_tasks(),
    [] = py_test:messages().

a_spawned_task_that_fails_is_logged(_Config) ->
    Log = py_test:log_start(),
    ok = py_event_loop:spawn_task('__main__', fail, [<<"logged">>]),
    _ = py_test:log_await(Log, {warning, "fail.*ValueError"}),
    ok = py_event_loop:spawn_task(no_such_module, f, []),
    _ = py_test:log_await(Log, {warning, "no_such_module.*ModuleNotFoundError"}),
    ok = py_event_loop:spawn_task('__main__', echo, [1]),
    {ok, 1} = run(echo, [1]),
    await_no_tasks(),
    ?assertEqual([], py_test:log_stop(Log)),
    [] = py_test:messages().

a_result_comes_as_a_message(_Config) ->
    Task = #{ref => {any, term}, caller => self(), module => '__main__', func => echo, args => [1]},
    Result = fun() -> receive {async_result, {any, term}, R} -> R after 60000 -> error(no_result) end end,
    ok = run_async(Task),
    {ok, 1} = Result(),
    ok = run_async(Task#{args => [], kwargs => #{x => 2}}),
    {ok, 2} = Result(),
    ok = run_async(Task#{func => fail}),
    {error, {'ValueError', _}} = Result(),
    %% To another process.
    Worker = py_test:worker(),
    ok = run_async(Task#{caller => element(1, Worker)}),
    await_no_tasks(),
    {ok, 1} = py_test:run(Worker, Result),
    py_test:end_worker(Worker),
    [] = py_test:messages().

the_death_of_the_receiver_cancels_its_task(_Config) ->
    Worker = py_test:worker(),
    ok = run_async(#{ref => 1, caller => element(1, Worker), module => '__main__', func => tell_end,
                     args => [self(), 1]}),
    {<<"begun">>, 1} = told(),
    py_test:kill(Worker),
    {<<"cancelled">>, 1} = told(),
    await_no_tasks().

%%% Callbacks

a_callback_of_a_call_runs_a_task(_Config) ->
    ok = py:register_function(nested, fun([X]) -> {ok, Y} = run(echo, [X + 1]), Y end),
    {ok, 2} = py:call(erlang, call, [nested, 1]).

%% A callback that a loop waits for in a coroutine does not block it; its process is not the
%% one that waits for the task, and so has no part in its namespace.
a_callback_of_a_task_runs_a_task(_Config) ->
    {ok, Loop} = py_event_loop:get_loop(),
    ok = py:register_function(nested, fun([X]) ->
                                              {ok, Y} = py_event_loop:run(operator, add, [X, 1], #{loop => Loop}),
                                              Y
                                      end),
    ok = py:exec(<<"
async def nest(n):
    return sorted(await asyncio.gather(*[erlang.async_call('nested', i) for i in range(n)]))
">>),
    Expected = lists:seq(1, 50),
    {ok, Expected} = run(nest, [50]),
    await_no_tasks().

a_task_knows_who_asked_for_it(_Config) ->
    ok = py:exec(<<"async def me(): return erlang.self()">>),
    ?assertEqual({ok, self()}, run(me, [])),
    ?assertEqual({ok, self()}, py_event_loop:await(begin_task(me, []))),
    Pids = py_test:at_once(lists:duplicate(20, fun() ->
                                                       ok = py:exec(<<"
import asyncio, erlang
async def me():
    await asyncio.sleep(0)
    return erlang.self()
">>),
                                                       Me = self(),
                                                       {ok, Me} = run(me, []),
                                                       Me
                                               end)),
    ?assertEqual(20, length(lists:usort(Pids))).

each_task_has_its_own_context(_Config) ->
    ok = py:exec(<<"
var = contextvars.ContextVar('var', default='unset')
async def set_and_get(x):
    before = var.get()
    var.set(x)
    await asyncio.sleep(0)
    return before, var.get()
">>),
    Refs = [begin_task(set_and_get, [N]) || N <- lists:seq(1, 20)],
    ?assertEqual([{ok, {<<"unset">>, N}} || N <- lists:seq(1, 20)], [py_event_loop:await(Ref) || Ref <- Refs]).

the_trace_context_goes_with_a_task(_Config) ->
    ok = py:enable_tracing(),
    ok = py:exec(<<"
import _erlang
async def traceparent():
    await asyncio.sleep(0)
    return _erlang.trace_context.get(None)
">>),
    Context = fun(Id) -> <<"00-", (binary:copy(Id, 32))/binary, "-", (binary:copy(Id, 16))/binary, "-01">> end,
    Begin = fun(Id) -> py_tracer:with_context(Context(Id), fun() -> begin_task(traceparent, []) end) end,
    First = Begin(<<"1">>),
    Second = Begin(<<"2">>),
    ?assertEqual({ok, Context(<<"1">>)}, py_event_loop:await(First)),
    ?assertEqual({ok, Context(<<"2">>)}, py_event_loop:await(Second)),
    ?assertEqual({ok, none}, run(traceparent, [])),
    ok = py:disable_tracing().

%%% Limits and lives

more_tasks_than_can_wait_are_refused(_Config) ->
    {ok, Pid} = py_event_loop:start_link(),
    {ok, Loop} = py_event_loop:get_loop(Pid),
    Blocked = block(Loop),
    Create = fun() -> py_event_loop:create_task(builtins, abs, [-1], #{loop => Loop}) end,
    Created = [Create() || _ <- lists:seq(1, ?MAX_WAITING)],
    ?assertEqual({error, {overloaded, ?MAX_WAITING, ?MAX_WAITING}}, Create()),
    {error, {overloaded, _, _}} = py_event_loop:run(math, sqrt, [16], #{loop => Loop}),
    {error, {overloaded, _, _}} = py_event_loop:spawn_task(math, sqrt, [16], #{loop => Pid}),
    {error, {overloaded, _, _}} = py_event_loop:run_async(Pid, #{ref => 1, caller => self(), module => math,
                                                                 func => sqrt, args => [16]}),
    {error, {overloaded, _, _}} = py:async_await(py:async_call(math, sqrt, [16], {opts, #{loop => Loop}})),
    %% Other loops have nothing to do with it.
    {ok, 1} = run(echo, [1]),
    let_go(Blocked),
    [{ok, 1} = py_event_loop:await(Ref) || {ok, Ref} <- Created],
    {ok, 4.0} = py_event_loop:run(math, sqrt, [16], #{loop => Loop}),
    await_no_tasks(Loop),
    ok = py_event_loop:stop(Pid),
    [] = py_test:messages().

a_process_has_a_loop_of_its_own(_Config) ->
    {ok, Pid} = py_event_loop:start_link(),
    {ok, Loop} = py_event_loop:get_loop(Pid),
    {ok, Own} = py_event_loop:run('__main__', loop_id, [], #{loop => Pid}),
    {ok, Own} = py_event_loop:run('__main__', loop_id, [], #{loop => Loop}),
    {ok, Default} = run(loop_id, []),
    ?assertNotEqual(Own, Default),
    {ok, Ref} = py_event_loop:create_task('__main__', tell_end, [self(), 1], #{loop => Pid}),
    {<<"begun">>, 1} = told(),
    ok = py_event_loop:stop(Pid),
    {<<"cancelled">>, 1} = told(),
    {error, cancelled} = py_event_loop:await(Ref),
    {error, {_, _}} = py_event_loop:run(math, sqrt, [16], #{loop => Loop}),
    {error, {'ValueError', _}} = py_event_loop:run(math, sqrt, [16], #{loop => Pid}),
    %% Wherever it is.
    [begin
         {ok, Other} = py_event_loop:start_link(#{worker => N}),
         {ok, 4.0} = py_event_loop:run(math, sqrt, [16], #{loop => Other}),
         ok = py_event_loop:stop(Other)
     end || N <- [1, 2, 3, 1000]],
    [] = py_test:messages().

the_end_of_its_process_ends_a_loop(_Config) ->
    Worker = py_test:worker(),
    Here = own_worker(),
    {ok, Pid} = py_test:run(Worker, fun() -> py_event_loop:start_link(#{worker => Here}) end),
    {ok, Loop} = py_event_loop:get_loop(Pid),
    Begin = fun(N) -> py_event_loop:create_task('__main__', tell_end, [self(), N], #{loop => Loop}) end,
    {ok, Ref} = Begin(1),
    {<<"begun">>, 1} = told(),
    %% The process that it is linked with.
    py_test:kill(Worker),
    {<<"cancelled">>, 1} = told(),
    {error, cancelled} = py_event_loop:await(Ref),
    {error, {_, _}} = Begin(2),
    %% Its own.
    {ok, Other} = py_event_loop:start_link(),
    true = unlink(Other),
    {ok, Third} = py_event_loop:create_task('__main__', tell_end, [self(), 3], #{loop => Other}),
    {<<"begun">>, 3} = told(),
    exit(Other, kill),
    {<<"cancelled">>, 3} = told(),
    {error, cancelled} = py_event_loop:await(Third),
    py_test:wait_until(fun() -> [] =:= [1 || #{pid := P} <- py_event_loop:infos(), P =:= Other orelse P =:= Pid] end),
    [] = py_test:messages().

%% A loop that is busy meanwhile.
%% Closed one by one or all at once.
one_look_finds_the_tasks_of_all_loops_that_are_closed(_Config) ->
    py_test:python_version() < {3, 14} orelse throw({skip, "from Python 3.14 on asyncio looks by itself"}),
    define_children(),
    N = py_test:fewer(200),
    Close = [fun(Pids) -> [ok = py_event_loop:stop(Pid) || Pid <- Pids] end,
             fun(Pids) -> py_test:at_once([fun() -> ok = py_event_loop:stop(Pid) end || Pid <- Pids]) end],
    [begin
         Loops = [loop_with_children([<<"create">>]) || _ <- lists:seq(1, N)],
         Before = looks(),
         _ = End([Pid || {Pid, _} <- Loops]),
         await_children(N),
         ?assert(looks() - Before =< 3 orelse {looks() - Before, N})
     end || End <- Close].

looks() ->
    {ok, Looks} = py:eval(<<"__import__('erlang._closing')._closing.looks">>),
    Looks.

all_tasks_are_found_however_they_were_made(_Config) ->
    define_children(),
    Ways = [<<"create">>, <<"task">>, <<"ensure">>, <<"factory">>]
        ++ [Way || py_test:python_version() >= {3, 12}, Way <- [<<"eager">>, <<"eager factory">>]],
    Loops = [loop_with_children(Ways) || _ <- lists:seq(1, 3)],
    [ok = py_event_loop:stop(Pid) || {Pid, _} <- Loops],
    await_children(3 * length(Ways)).

tasks_made_after_a_look_are_found(_Config) ->
    define_children(),
    [{First, _}, {Second, Loop}] = [loop_with_children([<<"create">>]) || _ <- [1, 2]],
    ok = py_event_loop:stop(First),
    await_children(1),
    {ok, 1} = py_event_loop:run('__main__', begin_children, [self(), [<<"create">>]], #{loop => Loop}),
    ok = py_event_loop:stop(Second),
    await_children(2).

define_children() ->
    ok = py:exec(<<"
kept = set()
async def child(to):
    try:
        await asyncio.get_running_loop().create_future()
    finally:
        erlang.send(to, erlang.atom('child_ended'))

class Task(asyncio.Task):
    pass

def made(loop, way, coro):
    if way == 'create': return loop.create_task(coro)
    if way == 'ensure': return asyncio.ensure_future(coro)
    if way == 'task': return asyncio.Task(coro, loop=loop)
    if way == 'eager': return asyncio.Task(coro, loop=loop, eager_start=True)
    loop.set_task_factory(asyncio.eager_task_factory if way == 'eager factory' else
                          lambda loop, coro, **kwargs: Task(coro, loop=loop, **kwargs))
    try: return loop.create_task(coro)
    finally: loop.set_task_factory(None)

async def begin_children(to, ways):
    loop = asyncio.get_running_loop()
    kept.update(made(loop, way, child(to)) for way in ways)
    await asyncio.sleep(0)
    return len(ways)
">>).

loop_with_children(Ways) ->
    {ok, Pid} = py_event_loop:start_link(),
    {ok, Loop} = py_event_loop:get_loop(Pid),
    Count = length(Ways),
    {ok, Count} = py_event_loop:run('__main__', begin_children, [self(), Ways], #{loop => Loop}),
    {Pid, Loop}.

await_children(N) ->
    [receive child_ended -> ok end || _ <- lists:seq(1, N)],
    [] = py_test:messages().

tasks_that_wait_when_their_loop_is_closed_never_begin(_Config) ->
    {ok, Pid} = py_event_loop:start_link(),
    {ok, Loop} = py_event_loop:get_loop(Pid),
    {Blocker, Callback} = block(Loop),
    Refs = [element(2, py_event_loop:create_task('__main__', tell_end, [self(), N], #{loop => Loop}))
            || N <- lists:seq(1, 1000)],
    {Stopper, Monitor} = spawn_monitor(fun() -> py_event_loop:stop(Pid) end),
    py_test:wait_until(fun() -> maps:get(closing, py_nif:loop_info(Loop)) end),
    Callback ! go_on,
    receive {'DOWN', Monitor, process, Stopper, normal} -> ok end,
    {ok, none} = py_event_loop:await(Blocker),
    [{error, cancelled} = py_event_loop:await(Ref) || Ref <- Refs],
    [] = py_test:messages().

%% Its selector is closed, so that no turn works any more: its tasks are told, and others come after
%% it, more often than a supervisor would bear.
a_loop_that_cannot_go_on_is_replaced(_Config) ->
    ok = py:exec(<<"
async def break_it():
    asyncio.get_running_loop()._selector.close()
    while True:
        await asyncio.sleep(0.001)  # until a timer has the loop look at its selector
">>),
    Supervisor = whereis(py_event_loop_sup),
    [begin
         {ok, Loop} = py_event_loop:get_loop(),
         {ok, Waits} = py_event_loop:create_task('__main__', wait_for, [N]),
         {error, cancelled} = run(break_it, []),
         {error, cancelled} = py_event_loop:await(Waits),
         py_test:wait_until(fun() -> {ok, Loop} =/= py_event_loop:get_loop() end),
         {ok, 1} = run(echo, [1])
     end || N <- lists:seq(1, 15)],
    Supervisor = whereis(py_event_loop_sup),
    %% One of a process ends with it.
    process_flag(trap_exit, true),
    {ok, Pid} = py_event_loop:start_link(),
    {error, cancelled} = py_event_loop:run('__main__', break_it, [], #{loop => Pid}),
    receive {'EXIT', Pid, {shutdown, loop_failed}} -> ok end,
    process_flag(trap_exit, false),
    [] = py_test:messages().

a_loop_that_died_is_replaced(_Config) ->
    {ok, Loop} = py_event_loop:get_loop(),
    [Owner] = [P || #{pid := P} <- py_event_loop:infos(), {ok, Loop} =:= py_event_loop:get_loop(P)],
    Ref = begin_task(tell_end, [self(), 1]),
    {<<"begun">>, 1} = told(),
    exit(Owner, kill),
    {<<"cancelled">>, 1} = told(),
    {error, cancelled} = py_event_loop:await(Ref),
    py_test:wait_until(fun() -> py_event_loop:get_loop() =/= {ok, Loop} end),
    {ok, 1} = run(echo, [1]),
    Count = erlang:length(py_event_loop:infos()),
    #{num_loops := Count} = py_event_loop_pool:get_stats(),
    [] = py_test:messages().

a_loop_of_the_main_interpreter_is_replaced(_Config) ->
    [begin
         Main = [P || #{interp := 0, number := N, pid := P} <- py_event_loop:infos(), N =/= none],
         Monitors = [monitor(process, P) || P <- Main],
         [exit(P, kill) || P <- Main],
         [receive {'DOWN', M, process, _, killed} -> ok end || M <- Monitors],
         py_test:wait_until(fun() ->
                                    length([P || #{interp := 0, number := N, pid := P} <- py_event_loop:infos(),
                                                 N =/= none, not lists:member(P, Main)]) =:= length(Main)
                            end),
         %% Which the main interpreter runs.
         {ok, 0} = py_event_loop:run(readline, get_current_history_length, [])
     end || _ <- [1, 2]].

the_stop_of_the_application_ends_tasks(_Config) ->
    {ok, Loop} = py_event_loop:get_loop(),
    {ok, Pid} = py_event_loop:start_link(),
    Monitor = monitor(process, Pid),
    true = unlink(Pid),
    Refs = [begin_task(tell_end, [self(), 1]), begin_task(tell_end, [self(), 2])],
    {ok, Third} = py_event_loop:create_task('__main__', tell_end, [self(), 3], #{loop => Pid}),
    [{<<"begun">>, _} = told() || _ <- [1, 2, 3]],
    ok = application:stop(erlang_python),
    ?assertEqual([{<<"cancelled">>, N} || N <- [1, 2, 3]], lists:sort([told() || _ <- [1, 2, 3]])),
    [{error, cancelled} = py_event_loop:await(Ref) || Ref <- [Third | Refs]],
    receive {'DOWN', Monitor, process, Pid, _} -> ok end,
    NotRunning = {error, not_running},
    NotRunning = py_event_loop:get_loop(),
    NotRunning = py_event_loop:get_loop(Pid),
    NotRunning = py_event_loop:run(math, sqrt, [16]),
    {error, _} = py_event_loop:run(math, sqrt, [16], #{loop => Loop}),
    NotRunning = py_event_loop:create_task(math, sqrt, [16]),
    NotRunning = py_event_loop:spawn_task(math, sqrt, [16]),
    NotRunning = py_event_loop:start_link(),
    NotRunning = py_event_loop_pool:run(math, sqrt, [16]),
    NotRunning = py_event_loop_pool:get_stats(),
    NotRunning = py:async_await(py:async_call(math, sqrt, [16])),
    NotRunning = py:async_gather([{math, sqrt, [16]}]),
    NotRunning = py:async_stream(math, sqrt, [16]),
    ok = application:start(erlang_python),
    {ok, 4.0} = py_event_loop:run(math, sqrt, [16]),
    {error, {_, _}} = py_event_loop:run(math, sqrt, [16], #{loop => Loop}),
    [] = py_test:messages().

%% Whatever the moment is, each gets one answer, and nothing comes later.
the_application_stops_in_traffic(_Config) ->
    Case = self(),
    Traffic = fun Loop(Begun) ->
                      Answers = [py_event_loop:run(asyncio, sleep, [0.001]),
                                 py_event_loop_pool:run(math, sqrt, [16]),
                                 py:async_await(py:async_call(asyncio, sleep, [0])),
                                 py_event_loop:run(asyncio, sleep, [600], #{timeout => 1})],
                      _ = py_event_loop:spawn_task(asyncio, sleep, [600]),
                      Begun =:= 5 andalso (Case ! in_traffic),
                      case [Bad || {error, Reason} = Bad <- Answers, not is_end(Reason)] of
                          [] -> ok;
                          Bad -> exit({bad_answers, Bad})
                      end,
                      case lists:last(Answers) of
                          {error, not_running} -> py_test:messages();
                          _ -> Loop(Begun + 1)
                      end
              end,
    [begin
         Workers = [py_test:worker() || _ <- lists:seq(1, 5)],
         [py_test:start(W, fun() -> Traffic(1) end) || W <- Workers],
         [receive in_traffic -> ok end || _ <- Workers],
         ok = application:stop(erlang_python),
         ?assertEqual(lists:duplicate(5, []), [py_test:answer(W, 60000) || W <- Workers]),
         [py_test:end_worker(W) || W <- Workers],
         ok = application:start(erlang_python)
     end || _ <- [1, 2, 3]],
    {ok, 4.0} = py_event_loop:run(math, sqrt, [16]),
    [] = py_test:messages().

is_end(timeout) -> true;
is_end(cancelled) -> true;
is_end(not_running) -> true;
is_end({'RuntimeError', <<"the event loop is closed">>}) -> true;
is_end(_) -> false.

twenty_stops_and_starts_leave_nothing(_Config) ->
    Restart = fun() ->
                      define(),
                      Refs = [begin_task(tell_end, [self(), N]) || N <- lists:seq(1, 20)],
                      ok = py_event_loop:spawn_task(asyncio, sleep, [600]),
                      [{<<"begun">>, _} = told() || _ <- Refs],
                      ok = application:stop(erlang_python),
                      [{error, cancelled} = py_event_loop:await(Ref) || Ref <- Refs],
                      [{<<"cancelled">>, _} = told() || _ <- Refs],
                      ok = application:start(erlang_python)
              end,
    Restart(),
    {ok, none} = py_event_loop:run(asyncio, sleep, [0]),
    Before = descriptors(),
    Processes = erlang:system_info(process_count),
    [Restart() || _ <- lists:seq(1, max(2, py_test:fewer(19)))],
    {ok, none} = py_event_loop:run(asyncio, sleep, [0]),
    %% A loop that was closed is freed with the last reference to it.
    py_test:wait_until(fun() -> true = erlang:garbage_collect(), descriptors() =< Before + 4 end),
    py_test:wait_until(fun() -> erlang:system_info(process_count) =< Processes + 2 end),
    [] = py_test:messages().

descriptors() ->
    {ok, Names} = file:list_dir("/proc/self/fd"),
    length(Names).

idle_loops_have_no_threads(_Config) ->
    {ok, none} = py_event_loop:run(asyncio, sleep, [0]),
    Pids = [Pid || _ <- lists:seq(1, 20), {ok, Pid} <- [py_event_loop:start_link()]],
    [{ok, none} = py_event_loop:run(asyncio, sleep, [0], #{loop => Pid}) || Pid <- Pids],
    Threads = py_test:thread_names(),
    More = [Pid || _ <- lists:seq(1, 100), {ok, Pid} <- [py_event_loop:start_link()]],
    Refs = [Ref || Pid <- More, {ok, Ref} <- [py_event_loop:create_task(asyncio, sleep, [600], #{loop => Pid})]],
    [{ok, none} = py_event_loop:run(asyncio, sleep, [0], #{loop => Pid}) || Pid <- More],
    py_test:await_threads(Threads),
    [ok = py_event_loop:stop(Pid) || Pid <- Pids ++ More],
    [{error, cancelled} = py_event_loop:await(Ref) || Ref <- Refs],
    [] = py_test:messages().

loops_are_told_of(_Config) ->
    #{loops := Loops} = py:info(),
    #{num_loops := Count, loops := Loops2} = py_event_loop_pool:get_stats(),
    ?assertEqual(Count, length(Loops)),
    ?assertEqual([N || #{number := N} <- Loops], [N || #{number := N} <- Loops2]),
    ?assertEqual(lists:seq(1, Count), [N || #{number := N} <- Loops]),
    Ref = begin_task(wait_for, [a]),
    {ok, 1} = run(echo, [1]),
    #{tasks := 1, waiting := 0} = py_event_loop_pool:get_stats(),
    {ok, Pid} = py_event_loop:start_link(),
    ?assertMatch([#{number := none, interp := _, turns := _}],
                 [L || #{pid := P} = L <- maps:get(loops, py:info()), P =:= Pid]),
    ok = py_event_loop:stop(Pid),
    {ok, none} = run(answer, [a, 1]),
    {ok, 1} = py_event_loop:await(Ref).

the_number_of_loops_is_checked(_Config) ->
    ok = py_env:check(num_async_workers, 1),
    [?assertMatch({error, <<"num_async_workers takes an integer", _/binary>>}, py_env:check(num_async_workers, Wrong))
     || Wrong <- [0, -1, 1000000, 1.0, "1", many]].

%%% py:async_*

async_call_and_async_await_are_a_task(_Config) ->
    {ok, 1} = py:async_await(py:async_call('__main__', echo, [1])),
    {ok, 2} = py:async_await(py:async_call('__main__', echo, [], #{x => 2}), 60000),
    {ok, Handle} = py:async_await(py:async_call('__main__', echo, [3], {opts, #{return => handle}})),
    {ok, 3} = py:to_term(Handle),
    {error, {'ValueError', _}} = py:async_await(py:async_call('__main__', fail, [x])),
    {error, {'ModuleNotFoundError', _}} = py:async_await(py:async_call(no_such_module, f, [])),
    Ref = py:async_call('__main__', tell_end, [self(), 1]),
    {<<"begun">>, 1} = told(),
    {error, timeout} = py:async_await(Ref, 10),
    {<<"cancelled">>, 1} = told(),
    [] = py_test:messages().

%% The first waits for the last.
async_gather_runs_all_at_once(_Config) ->
    Calls = [{'__main__', wait_for, [a]}, {'__main__', fail, [<<"x">>]}, {'__main__', echo, [], #{x => 2}},
             {no_such_module, f, []}, {'__main__', answer, [a, 1]}],
    {ok, [{ok, 1}, {error, {'ValueError', <<"x">>}}, {ok, 2}, {error, {'ModuleNotFoundError', _}}, {ok, none}]} =
        py:async_gather(Calls),
    {ok, []} = py:async_gather([]),
    Many = lists:seq(1, 500),
    {ok, Results} = py:async_gather([{'__main__', echo, [N]} || N <- Many], {opts, #{timeout => 120000}}),
    ?assertEqual([{ok, N} || N <- Many], Results),
    [] = py_test:messages().

async_gather_has_its_time(_Config) ->
    gathers_in_time(50),
    [] = py_test:messages().

%% The last one begins after those before it.
gathers_in_time(Timeout) when Timeout < 60000 ->
    Calls = [{'__main__', tell_end, [self(), 1]}, {'__main__', tell_end, [self(), 2]}, {'__main__', echo, [1]}],
    {ok, [{error, timeout}, {error, timeout}, Last]} = py:async_gather(Calls, Timeout),
    await_no_tasks(),
    Begun = lists:sort(flush(<<"begun">>)),
    ?assertEqual(Begun, lists:sort(flush(<<"cancelled">>))),
    case Last of
        {ok, 1} -> ?assertEqual([1, 2], Begun);
        {error, timeout} -> gathers_in_time(4 * Timeout)
    end.

flush(What) ->
    receive {What, X} -> [X | flush(What)] after 0 -> [] end.

async_stream_collects_what_is_yielded(_Config) ->
    {ok, [0, 1, 2]} = py:async_stream('__main__', ticks, [self(), 3]),
    {<<"stream">>, <<"exhausted">>} = told(),
    {ok, []} = py:async_stream('__main__', ticks, [self()], #{n => 0}),
    {<<"stream">>, <<"exhausted">>} = told(),
    ok = py:exec(<<"
class Three:
    def __init__(self): self.n = 0
    def __aiter__(self): return self
    async def __anext__(self):
        if self.n == 3: raise StopAsyncIteration
        self.n += 1
        return self.n

async def later(): return Three()
">>),
    {ok, [1, 2, 3]} = py:async_stream('__main__', 'Three', []),
    {ok, [1, 2, 3]} = py:async_stream('__main__', later, [], 60000),
    {error, {'TypeError', _}} = py:async_stream(builtins, list, []),
    {error, {'ModuleNotFoundError', _}} = py:async_stream(no_such_module, f, []),
    {ok, Many} = py:async_stream('__main__', ticks, [self(), 10000]),
    ?assertEqual(lists:seq(0, 9999), Many),
    {<<"stream">>, <<"exhausted">>} = told(),
    [] = py_test:messages().

async_stream_closes_its_generator(_Config) ->
    ok = py:exec(<<"
async def endless(to):
    try:
        yield 1
        erlang.send(to, ('begun', 1))
        await asyncio.sleep(600)
    finally:
        erlang.send(to, ('closed', 1))

async def broken(to):
    try:
        yield 1
        raise ValueError('broken')
    finally:
        erlang.send(to, ('closed', 2))
">>),
    py_test:timed_out(fun(Timeout) -> py:async_stream('__main__', endless, [self()], Timeout) end, fun has_begun/0),
    {<<"closed">>, 1} = told(),
    _ = flush(<<"closed">>), % of those that had not begun to wait
    {error, {'ValueError', <<"broken">>}} = py:async_stream('__main__', broken, [self()]),
    {<<"closed">>, 2} = told(),
    await_no_tasks(),
    [] = py_test:messages().

%%% The pool

the_pool_takes_its_loops_in_turn(Config) ->
    ok = py_test:restart(#{num_async_workers => 3}),
    #{num_loops := Count} = py_event_loop_pool:get_stats(),
    ?assert(Count >= 3),
    Dir = py_test:write_module(Config, loop_of, "import asyncio\n"
                               "async def loop_of(): return id(asyncio.get_running_loop())\n"),
    ok = py_import:add_path(Dir),
    %% Where addresses are those of one interpreter, they tell loops apart.
    {Ids, []} = lists:partition(fun({ok, _}) -> true; (_) -> false end,
                                [py_event_loop_pool:run(loop_of, loop_of, []) || _ <- lists:seq(1, 2 * Count)]),
    ?assertEqual(Count, length(lists:usort(Ids))),
    %% A process has one loop all the same.
    {ok, Id} = py_event_loop:run(loop_of, loop_of, []),
    [{ok, Id} = py_event_loop:run(loop_of, loop_of, []) || _ <- lists:seq(1, 2 * Count)],
    ok.

the_pool_does_all_that_a_loop_does(_Config) ->
    #{loops := Stats} = py_event_loop_pool:get_stats(),
    {ok, 4.0} = py_event_loop_pool:run(math, sqrt, [16]),
    {ok, [2, 1]} = py_event_loop_pool:run(builtins, sorted, [[1, 2]], #{kwargs => #{reverse => true}}),
    {error, timeout} = py_event_loop_pool:run(asyncio, sleep, [600], #{timeout => 10}),
    {ok, Ref} = py_event_loop_pool:create_task(asyncio, sleep, [0, 1]),
    {ok, 1} = py_event_loop_pool:await(Ref),
    {ok, Second} = py_event_loop_pool:create_task(asyncio, sleep, [600]),
    {error, timeout} = py_event_loop_pool:await(Second, 10),
    {ok, Third} = py_event_loop_pool:create_task(asyncio, sleep, [600], {opts, #{errors => full}}),
    ok = py_event_loop_pool:cancel(Third),
    ok = py_event_loop_pool:spawn_task(erlang, send, [self(), {<<"sent">>, 1}]),
    {<<"sent">>, 1} = told(),
    {ok, Loop} = py_event_loop:get_loop(),
    {ok, Id} = run(loop_id, []),
    [{ok, Id} = py_event_loop_pool:run('__main__', loop_id, [], #{loop => Loop}) || _ <- lists:seq(1, 10)],
    Loops = [element(2, py_event_loop_pool:get_loop()) || _ <- lists:seq(1, 2 * length(Stats))],
    ?assertEqual(length(Stats), length(lists:usort(Loops))),
    [pool_answers(On) || On <- [next | Loops]],
    [] = py_test:messages().

pool_answers(On) ->
    Ref = make_ref(),
    Task = #{ref => Ref, caller => self(), module => math, func => sqrt, args => [16]},
    ok = py_event_loop_pool:run_async(On, Task),
    {ok, 4.0} = receive {async_result, Ref, Result} -> Result end.
