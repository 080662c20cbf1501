%% SPDX-License-Identifier: Apache-2.0
%%
%% Calls that nobody waits for, and calls that somebody waits for later: cast, spawn_call,
%% await and cancel.  Where the answer goes, and that nothing else comes.
-module(py_async_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([a_cast_runs_and_says_nothing/1,
         a_cast_takes_keywords_and_a_pool/1,
         a_cast_that_fails_is_logged/1,
         a_cast_outlives_its_caller/1,
         a_cast_may_call_back/1,
         casts_of_a_process_run_in_its_namespace/1,
         ten_thousand_casts_run/1]).
-export([a_spawned_call_is_awaited/1,
         answers_are_awaited_in_any_order/1,
         a_spawned_call_takes_keywords_and_a_pool/1,
         errors_of_a_spawned_call_come_with_await/1,
         callbacks_of_a_spawned_call_run_in_another_process/1,
         a_spawned_call_is_no_part_of_the_chain/1,
         spawned_calls_run_while_their_caller_does_other_things/1,
         the_older_name_does_the_same/1]).
-export([await_gives_up_after_its_timeout/1,
         await_of_what_was_awaited_does_not_hang/1,
         a_cancelled_call_sends_nothing/1,
         cancel_in_the_queue_keeps_the_function_from_running/1,
         cancel_of_what_is_over_leaves_no_message/1,
         a_killed_caller_cancels_its_spawned_calls/1,
         spawned_calls_of_a_stopped_application_are_cancelled/1,
         wrong_arguments_are_errors/1,
         killed_callers_and_their_calls_leave_nothing/1]).

suite() -> [{timetrap, {minutes, 5}}].

all() -> py_test:cases(?MODULE).

init_per_suite(Config) -> py_test:start(Config).

end_per_suite(Config) -> py_test:stop(Config).

init_per_testcase(_Case, Config) ->
    Test = self(),
    ok = py:register_function(tell, fun([X]) -> Test ! {told, X}, none end),
    ok = py:register_function(ask, fun([X]) -> Test ! {asked, X, self()}, receive {answer, A} -> A end end),
    Config.

end_per_testcase(_Case, _Config) ->
    py_test:restore(),
    py_context_router:pool_started(p) andalso py_context_router:stop_pool(p),
    ok.

told() ->
    receive {told, X} -> X after 60000 -> error(not_told) end.

asked() ->
    receive {asked, X, Pid} -> {X, Pid} after 60000 -> error(not_asked) end.

all_slots_are_back() ->
    py_test:wait_until(fun() -> py_semaphore:current() =:= 0 end).

%%% Casts

a_cast_runs_and_says_nothing(_Config) ->
    ok = py:cast(erlang, call, [tell, 1]),
    1 = told(),
    all_slots_are_back(),
    [] = py_test:messages().

a_cast_takes_keywords_and_a_pool(_Config) ->
    {ok, _} = py_context_router:start_pool(p, 1),
    {ok, Thread} = py:call(p, '_thread', get_ident, []),
    Code = <<"import erlang, _thread\nerlang.call('tell', [x, _thread.get_ident()])">>,
    ok = py:cast(builtins, exec, [Code, #{<<"x">> => 1}]),
    [1, _] = told(),
    ok = py:cast(p, builtins, exec, [Code, #{<<"x">> => 2}]),
    [2, Thread] = told(),
    %% By keyword where Python takes it so.
    ok = py:exec(<<"import erlang\ndef f(a, b=0): erlang.call('tell', [a, b])">>),
    ok = py:cast('__main__', f, [1], #{b => 2}),
    [1, 2] = told(),
    ok = py:cast(p, '__main__', no_such_function, [1], #{b => 2}),
    all_slots_are_back(),
    [] = py_test:messages().

a_cast_that_fails_is_logged(_Config) ->
    Log = py_test:log_start(),
    ok = py:cast(math, sqrt, [-1]),
    _ = py_test:log_await(Log, {warning, "math.*sqrt.*ValueError"}),
    ok = py:cast(no_such_module, f, []),
    _ = py_test:log_await(Log, {warning, "no_such_module.*ModuleNotFoundError"}),
    %% Once each; and one that does not fail is not told.
    ok = py:cast(math, sqrt, [16]),
    all_slots_are_back(),
    ok = py:cast(erlang, call, [tell, done]),
    done = told(),
    all_slots_are_back(),
    ?assertEqual([], py_test:log_stop(Log)),
    [] = py_test:messages().

a_cast_outlives_its_caller(_Config) ->
    py_test:in_process(fun() -> ok = py:cast(erlang, call, [ask, 1]) end),
    {1, Pid} = asked(),
    1 = py_semaphore:current(),
    Pid ! {answer, none},
    all_slots_are_back(),
    %% Also one that had not begun when its caller ended.
    [py_test:in_process(fun() -> ok = py:cast(erlang, call, [tell, N]) end) || N <- lists:seq(1, 100)],
    ?assertEqual(lists:seq(1, 100), lists:sort([told() || _ <- lists:seq(1, 100)])).

a_cast_may_call_back(_Config) ->
    ok = py:exec(<<"import erlang\n"
                   "def f(n):\n"
                   "    for i in range(n): erlang.call('tell', i)\n"
                   "    erlang.call('tell', erlang.call('ask', 'more'))\n">>),
    ok = py:cast('__main__', f, [3]),
    [0, 1, 2] = [told() || _ <- [1, 2, 3]],
    {<<"more">>, Pid} = asked(),
    ?assertNotEqual(self(), Pid),
    Pid ! {answer, last},
    last = told(),
    all_slots_are_back(),
    [] = py_test:messages().

casts_of_a_process_run_in_its_namespace(_Config) ->
    ok = py:exec(<<"import erlang\nx = 'mine'\ndef f(): erlang.call('tell', x)">>),
    ok = py:cast('__main__', f, []),
    <<"mine">> = told().

ten_thousand_casts_run(_Config) ->
    N = py_test:fewer(10000),
    Count = counters:new(1, [atomics]),
    ok = py:register_function(count, fun([]) -> counters:add(Count, 1, 1), none end),
    Cast = fun() -> [ok = py:cast(erlang, call, [count]) || _ <- lists:seq(1, N div 10)], py_test:messages() end,
    Processes = erlang:system_info(process_count),
    ?assertEqual(lists:duplicate(10, []), py_test:at_once(lists:duplicate(10, Cast))),
    py_test:wait_until(fun() -> counters:get(Count, 1) =:= 10 * (N div 10) end),
    all_slots_are_back(),
    py_test:wait_until(fun() -> erlang:system_info(process_count) =< Processes + 2 end).

%%% Calls that are awaited

a_spawned_call_is_awaited(_Config) ->
    Ref = py:spawn_call(math, sqrt, [16]),
    ?assert(is_reference(Ref)),
    {ok, 4.0} = py:await(Ref),
    {ok, 5.0} = py:await(py:spawn_call("math", <<"sqrt">>, [25]), 10000),
    {ok, 5.0} = py:await(py:spawn_call(math, sqrt, [25]), infinity),
    [] = py_test:messages().

answers_are_awaited_in_any_order(_Config) ->
    Refs = [{N, py:spawn_call(builtins, abs, [-N])} || N <- lists:seq(1, 200)],
    Shuffled = [X || {_, X} <- lists:sort([{erlang:phash2(N), R} || {N, _} = R <- Refs])],
    [{ok, N} = py:await(Ref) || {N, Ref} <- Shuffled],
    [] = py_test:messages().

a_spawned_call_takes_keywords_and_a_pool(_Config) ->
    {ok, _} = py_context_router:start_pool(p, 1),
    {ok, Thread} = py:call(p, '_thread', get_ident, []),
    {ok, [3, 2, 1]} = py:await(py:spawn_call(builtins, sorted, [[1, 2, 3]], #{reverse => true})),
    {ok, Thread} = py:await(py:spawn_call(p, '_thread', get_ident, [])),
    {ok, [3, 2, 1]} = py:await(py:spawn_call(p, builtins, sorted, [[1, 2, 3]], #{reverse => true})),
    {error, {_, Text}} = await_or_error(fun() -> py:spawn_call(no_such_pool, math, sqrt, [16]) end),
    ?assertMatch({_, _}, binary:match(Text, <<"no_such_pool">>)),
    [] = py_test:messages().

%% What is refused before it is submitted is told at once or by await.
await_or_error(Spawn) ->
    case Spawn() of
        Ref when is_reference(Ref) -> py:await(Ref, 60000);
        {error, _} = Error -> Error
    end.

errors_of_a_spawned_call_come_with_await(_Config) ->
    {error, {'ValueError', _}} = py:await(py:spawn_call(math, sqrt, [-1])),
    {error, {'ModuleNotFoundError', _}} = py:await(py:spawn_call(no_such_module, f, [])),
    {error, {conversion, _, _}} = py:await(py:spawn_call(builtins, chr, [16#D800])),
    [] = py_test:messages().

callbacks_of_a_spawned_call_run_in_another_process(_Config) ->
    Ref = py:spawn_call(erlang, call, [ask, 1]),
    {1, Pid} = asked(),
    ?assertNotEqual(self(), Pid),
    Pid ! {answer, 2},
    {ok, 2} = py:await(Ref),
    %% Whose end before the answer is an Erlang exception in Python.
    Second = py:spawn_call(erlang, call, [ask, 1]),
    {1, Victim} = asked(),
    exit(Victim, kill),
    {error, {'Error', _}} = py:await(Second, 60000),
    all_slots_are_back(),
    [] = py_test:messages().

%% The caller may wait for it in a callback, or end the callback first.
a_spawned_call_is_no_part_of_the_chain(_Config) ->
    ok = py:register_function(f, fun([]) -> {ok, V} = py:await(py:spawn_call(math, sqrt, [16]), 10000), V end),
    {ok, 4.0} = py:call(erlang, call, [f]),
    ok = py:register_function(f, fun([]) -> put(ref, py:spawn_call(math, sqrt, [16])), none end),
    {ok, none} = py:call(erlang, call, [f]),
    {ok, 4.0} = py:await(erase(ref)),
    [] = py_test:messages().

spawned_calls_run_while_their_caller_does_other_things(_Config) ->
    Refs = [py:spawn_call(erlang, call, [ask, N]) || N <- lists:seq(1, 10)],
    {ok, 4.0} = py:call(math, sqrt, [16]),
    ok = py:exec(<<"x = 1">>),
    Asked = [asked() || _ <- Refs],
    [Pid ! {answer, N} || {N, Pid} <- Asked],
    {ok, 1} = py:eval(<<"x">>),
    ?assertEqual([{ok, N} || N <- lists:seq(1, 10)], [py:await(Ref) || Ref <- Refs]),
    [] = py_test:messages().

the_older_name_does_the_same(_Config) ->
    {ok, 4.0} = py:await(py:call_async(math, sqrt, [16])),
    {ok, [2, 1]} = py:await(py:call_async(builtins, sorted, [[1, 2]], #{reverse => true})).

%%% Giving up

await_gives_up_after_its_timeout(Config) ->
    Fifo = py_test:block(Config),
    Ref = py:spawn_call(os, open, [Fifo, 0]),
    py_test:within(60, 20, fun() ->
                                   Ref0 = py:spawn_call(time, sleep, [0.3]),
                                   case py_test:milliseconds(fun() -> py:await(Ref0, 40) end) of
                                       {Time, {error, timeout}} -> ?assert(Time >= 39 orelse Time), Time;
                                       %% The machine stopped for that long.
                                       {_, {ok, none}} -> infinity
                                   end
                           end),
    {error, timeout} = py:await(Ref, 0),
    ok = py_test:release(Fifo),
    all_slots_are_back(),
    %% What was given up is cancelled: nothing comes when it is through.
    Answers = py_test:at_once(lists:duplicate(20, fun() -> py:call(math, sqrt, [16], #{}, 60000) end)),
    Answers = lists:duplicate(20, {ok, 4.0}),
    [] = py_test:messages().

await_of_what_was_awaited_does_not_hang(_Config) ->
    Ref = py:spawn_call(math, sqrt, [16]),
    {ok, 4.0} = py:await(Ref),
    {error, _} = py:await(Ref, 50),
    {error, _} = py:await(make_ref(), 50),
    [] = py_test:messages().

a_cancelled_call_sends_nothing(Config) ->
    Fifo = py_test:block(Config),
    Calls = [{builtins, exec, [<<"while True: pass">>]}, {os, open, [Fifo, 0]}, {time, sleep, [0.1]}],
    [begin
         Ref = py:spawn_call(M, F, A),
         _ = py:cancel(Ref),
         {error, _} = py:await(Ref, 50)
     end || {M, F, A} <- Calls, _ <- [1, 2, 3]],
    all_slots_are_back(),
    py_test:let_all_go(Fifo),
    Answers = py_test:at_once(lists:duplicate(20, fun() -> py:call(math, sqrt, [16], #{}, 60000) end)),
    Answers = lists:duplicate(20, {ok, 4.0}),
    [] = py_test:messages().

cancel_in_the_queue_keeps_the_function_from_running(_Config) ->
    {ok, _} = py_context_router:start_pool(p, 1),
    ok = py_semaphore:set_max_concurrent(1),
    First = py:spawn_call(p, erlang, call, [ask, 1]),
    {1, Pid} = asked(),
    %% In the line for a slot.
    Line = py:spawn_call(p, erlang, call, [tell, line]),
    1 = py_test:waiting_in_line(),
    _ = py:cancel(Line),
    0 = py_test:waiting_in_line(),
    ok = py_semaphore:set_max_concurrent(1000),
    Pid ! {answer, 1},
    {ok, 1} = py:await(First),
    {ok, 4.0} = py:call(p, math, sqrt, [16]),
    all_slots_are_back(),
    [] = py_test:messages().

cancel_of_what_is_over_leaves_no_message(_Config) ->
    [begin
         Ref = py:spawn_call(math, sqrt, [16]),
         %% At all moments: before, during and after.
         [erlang:yield() || _ <- lists:seq(1, N rem 50)],
         _ = py:cancel(Ref)
     end || N <- lists:seq(1, py_test:fewer(2000))],
    all_slots_are_back(),
    [{ok, 4.0} = py:call(math, sqrt, [16]) || _ <- lists:seq(1, 100)],
    [] = py_test:messages(),
    _ = py:cancel(make_ref()),
    [] = py_test:messages().

a_killed_caller_cancels_its_spawned_calls(Config) ->
    Fifo = py_test:block(Config),
    W = py_test:worker(),
    ok = py_test:run(W, fun() ->
                                _ = [py:spawn_call(builtins, exec, [<<"while True: pass">>]) || _ <- [1, 2]],
                                _ = [py:spawn_call(os, open, [Fifo, 0]) || _ <- [1, 2]],
                                _ = [py:spawn_call(erlang, call, [ask, N]) || N <- [1, 2]],
                                ok
                        end),
    py_test:wait_until(fun() -> py_semaphore:current() =:= 6 end),
    py_test:kill(W),
    all_slots_are_back(),
    py_test:let_all_go(Fifo),
    Count = 4 * py:num_executors(),
    Answers = py_test:at_once(lists:duplicate(Count, fun() -> py:call(math, sqrt, [16], #{}, 60000) end)),
    Answers = lists:duplicate(Count, {ok, 4.0}).

spawned_calls_of_a_stopped_application_are_cancelled(_Config) ->
    Refs = [py:spawn_call(builtins, exec, [<<"while True: pass">>]) || _ <- lists:seq(1, 5)],
    ok = py:cast(builtins, exec, [<<"while True: pass">>]),
    py_test:wait_until(fun() -> py_semaphore:current() =:= 6 end),
    ok = application:stop(erlang_python),
    [begin
         {error, Reason} = py:await(Ref, 60000),
         ?assert(lists:member(Reason, [cancelled, not_running]) orelse Reason)
     end || Ref <- Refs],
    {error, not_running} = await_or_error(fun() -> py:spawn_call(math, sqrt, [16]) end),
    {error, not_running} = py:cast(math, sqrt, [16]),
    ok = application:start(erlang_python),
    {ok, 4.0} = py:await(py:spawn_call(math, sqrt, [16])),
    all_slots_are_back(),
    [] = py_test:messages().

wrong_arguments_are_errors(_Config) ->
    [begin
         {error, {Type, Text}} = Error,
         ?assert(is_atom(Type) andalso is_binary(Text))
     end || Wrong <- [{1, sqrt, [16]}, {math, 1, [16]}, {math, sqrt, 16}],
            {M, F, A} <- [Wrong],
            Error <- [await_or_error(fun() -> py:spawn_call(M, F, A) end), py:cast(M, F, A)]],
    {error, {'TypeError', _}} = await_or_error(fun() -> py:spawn_call(math, sqrt, [16], x) end),
    {error, {_, _}} = py:cast(math, sqrt, [16], x),
    0 = py_semaphore:current(),
    [] = py_test:messages().

killed_callers_and_their_calls_leave_nothing(_Config) ->
    Processes = erlang:system_info(process_count),
    Work = fun Loop() ->
                   Refs = [py:spawn_call(builtins, abs, [-N]) || N <- lists:seq(1, 5)],
                   ok = py:cast(builtins, abs, [1]),
                   _ = py:cancel(hd(Refs)),
                   _ = [py:await(Ref, 5) || Ref <- tl(Refs)],
                   Loop()
           end,
    [begin
         {Pid, Monitor} = spawn_monitor(Work),
         [erlang:yield() || _ <- lists:seq(1, rand:uniform(500))],
         exit(Pid, kill),
         receive {'DOWN', Monitor, process, Pid, killed} -> ok end
     end || _ <- lists:seq(1, py_test:fewer(500))],
    all_slots_are_back(),
    py_test:wait_until(fun() -> erlang:system_info(process_count) =< Processes + 2 end),
    {ok, 4.0} = py:call(math, sqrt, [16]).
