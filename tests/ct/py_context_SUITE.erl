%% SPDX-License-Identifier: Apache-2.0
%%
%% Contexts: processes that stand for an interpreter and a namespace of their own, and on
%% request for one thread; who shares their state, and what becomes of their callers when
%% they end.  Then sub-interpreters by their own functions.
-module(py_context_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([state_persists_between_calls/1,
         contexts_do_not_see_each_other/1,
         processes_share_the_state_of_a_context/1,
         a_context_outlives_the_processes_that_call_it/1,
         calls_of_a_context_run_one_after_the_other/1,
         keywords_locals_and_timeouts_are_taken/1,
         errors_are_those_of_py_call/1,
         callbacks_run_in_the_caller/1,
         a_nested_call_into_the_same_context_goes_through/1,
         contexts_may_call_each_other/1,
         py_call_eval_and_exec_take_a_context/1,
         preload_runs_in_a_new_context/1,
         what_is_no_context_is_an_error/1,
         wrong_options_are_errors/1]).
-export([a_context_with_a_thread_has_always_the_same/1,
         thread_local_state_persists_where_asked_for/1,
         contexts_run_at_the_same_time/1,
         a_context_of_the_default_mode_is_where_the_mode_has_it/1,
         contexts_with_own_interpreters_share_nothing/1,
         own_interpreters_where_there_are_none_are_an_error/1]).
-export([stop_lets_requests_end/1,
         interrupt_ends_what_runs/1,
         interrupt_of_an_idle_context_harms_no_later_call/1,
         a_timeout_leaves_the_context_usable/1,
         a_context_that_is_stuck_serves_the_next_call/1,
         destroy_cancels_what_runs_and_what_waits/1,
         a_second_destroy_says_that_there_is_no_context/1,
         a_killed_context_cancels_its_calls/1,
         a_linked_context_goes_with_its_owner/1,
         a_killed_caller_leaves_the_context_usable/1]).
-export([the_router_has_a_context_per_index/1,
         a_process_keeps_its_context_of_the_router/1,
         a_bound_context_serves_the_calls_of_its_process/1,
         a_dead_context_is_replaced_at_its_index/1,
         contexts_start_and_stop/1,
         contexts_go_with_a_stop_of_the_application/1,
         a_hundred_contexts_leave_nothing/1,
         a_memory_limit_is_kept_or_refused/1]).
-export([sub_interpreters_are_created_called_and_destroyed/1,
         sub_interpreters_are_isolated/1,
         sub_interpreters_take_casts_and_async_calls/1,
         sub_interpreters_where_there_are_none_are_an_error/1,
         the_pool_of_sub_interpreters_serves/1]).

suite() -> [{timetrap, {minutes, 5}}].

all() -> py_test:cases(?MODULE).

init_per_suite(Config) -> py_test:start(Config).

end_per_suite(Config) -> py_test:stop(Config).

init_per_testcase(_Case, Config) ->
    ok = py_test:register_hold(),
    Config.

end_per_testcase(_Case, _Config) ->
    py_test:restore(),
    _ = py_context_router:is_started() andalso py_context_router:stop(),
    ok.

new() -> new(#{}).

new(Options) ->
    {ok, Context} = py_context:new(Options),
    ?assert(is_pid(Context)),
    Context.

destroy(Context) ->
    ok = py_context:destroy(Context).

modules_of(Context) ->
    {ok, Id} = py_context:eval(Context, <<"id(__import__('sys').modules)">>),
    Id.

thread_of(Context) ->
    {ok, Thread} = py_context:call(Context, '_thread', get_ident, []),
    Thread.

%% Everything is back; a request that was cancelled gives its slot back in a moment.
all_slots_are_back() ->
    py_test:wait_until(fun() -> py_semaphore:current() =:= 0 end).

in_the_middle_of_something() ->
    py_test:wait_until(fun() -> py_semaphore:current() =:= 1 end).

%%% State

state_persists_between_calls(_Config) ->
    C = new(),
    ok = py_context:exec(C, <<"n = 0\ndef more(by=1):\n    global n\n    n += by\n    return n\n">>),
    [{ok, N} = py_context:call(C, '__main__', more, []) || N <- lists:seq(1, 100)],
    {ok, 100} = py_context:eval(C, <<"n">>),
    {ok, 110} = py_context:call(C, '__main__', more, [], #{by => 10}),
    {ok, none} = py_context:call(C, builtins, exec, [<<"n = 7">>]),
    {ok, 7} = py_context:eval(C, <<"n">>),
    destroy(C).

contexts_do_not_see_each_other(_Config) ->
    [A, B] = Contexts = [new(), new()],
    [ok = py_context:exec(C, ["x = ", integer_to_list(N)]) || {N, C} <- [{1, A}, {2, B}]],
    ok = py:exec(<<"x = 3">>),
    {ok, 1} = py_context:eval(A, <<"x">>),
    {ok, 2} = py_context:eval(B, <<"x">>),
    {ok, 3} = py:eval(<<"x">>),
    ok = py_context:exec(A, <<"del x">>),
    {error, {'NameError', _}} = py_context:eval(A, <<"x">>),
    {ok, 2} = py_context:eval(B, <<"x">>),
    [destroy(C) || C <- Contexts].

processes_share_the_state_of_a_context(_Config) ->
    C = new(),
    ok = py_context:exec(C, <<"seen = set()">>),
    Work = fun(N) -> fun() -> py_context:exec(C, ["seen.add(", integer_to_list(N), ")"]) end end,
    ?assertEqual(lists:duplicate(50, ok), py_test:at_once([Work(N) || N <- lists:seq(1, 50)])),
    {ok, lists} = {py_test:in_process(fun() -> element(1, py_context:eval(C, <<"len(seen)">>)) end), lists},
    ?assertEqual({ok, lists:seq(1, 50)}, py_context:eval(C, <<"sorted(seen)">>)),
    destroy(C).

a_context_outlives_the_processes_that_call_it(_Config) ->
    C = new(),
    ok = py_test:in_process(fun() -> py_context:exec(C, <<"x = 1">>) end),
    {ok, 1} = py_test:in_process(fun() -> py_context:eval(C, <<"x">>) end),
    destroy(C).

%% It has one executor.  Each adds in two steps, which would get mixed up.
calls_of_a_context_run_one_after_the_other(_Config) ->
    C = new(),
    ok = py_context:exec(C, <<"import time\nn = 0\n"
                              "def more():\n    global n\n    m = n\n    time.sleep(0.0005)\n    n = m + 1\n">>),
    Work = fun() -> [{ok, none} = py_context:call(C, '__main__', more, []) || _ <- lists:seq(1, 20)], ok end,
    ?assertEqual(lists:duplicate(10, ok), py_test:at_once(lists:duplicate(10, Work))),
    {ok, 200} = py_context:eval(C, <<"n">>),
    destroy(C).

keywords_locals_and_timeouts_are_taken(Config) ->
    C = new(),
    {ok, [3, 2, 1]} = py_context:call(C, builtins, sorted, [[2, 3, 1]], #{reverse => true}),
    {ok, [3, 2, 1]} = py_context:call(C, "builtins", <<"sorted">>, [[2, 3, 1]], #{"reverse" => true}, 60000),
    {ok, 4.0} = py_context:call(C, math, sqrt, [16], #{}, infinity),
    {ok, 3} = py_context:eval(C, <<"a + b">>, #{a => 1, <<"b">> => 2}),
    {ok, 3} = py_context:eval(C, "a + b", #{a => 1, b => 2}, 60000),
    Fifo = py_test:block(Config),
    {error, timeout} = py_context:call(C, os, open, [Fifo, 0], #{}, 20),
    {error, timeout} = py_context:eval(C, <<"[None for i in iter(int, 1)]">>, #{}, 20),
    {ok, 4.0} = py_context:call(C, math, sqrt, [16]),
    py_test:let_all_go(Fifo),
    [] = py_test:messages(),
    destroy(C).

errors_are_those_of_py_call(_Config) ->
    C = new(),
    [?assertEqual(Expected, Result)
     || {Expected, Result} <- [{py:call(no_such_module, f, []), py_context:call(C, no_such_module, f, [])},
                               {py:call(math, nothing, []), py_context:call(C, math, nothing, [])},
                               {py:call(math, sqrt, [x]), py_context:call(C, math, sqrt, [x])},
                               {py:call(math, sqrt, 16), py_context:call(C, math, sqrt, 16)},
                               {py:call(1, sqrt, [16]), py_context:call(C, 1, sqrt, [16])},
                               {py:call(math, sqrt, [16], x, 1), py_context:call(C, math, sqrt, [16], x, 1)},
                               {py:call(math, sqrt, [16], #{}, -1), py_context:call(C, math, sqrt, [16], #{}, -1)},
                               {py:eval(<<"1/0">>), py_context:eval(C, <<"1/0">>)},
                               {py:eval({a}), py_context:eval(C, {a})},
                               {py:eval(<<"1">>, []), py_context:eval(C, <<"1">>, [])},
                               {py:exec(<<"1 +">>), py_context:exec(C, <<"1 +">>)},
                               {py:eval(<<"{1: '\\ud800'}">>), py_context:eval(C, <<"{1: '\\ud800'}">>)}]],
    destroy(C).

callbacks_run_in_the_caller(_Config) ->
    Test = self(),
    C = new(),
    ok = py:register_function(who, fun([]) -> self() =:= Test end),
    {ok, true} = py_context:call(C, erlang, call, [who]),
    {ok, false} = py_test:in_process(fun() -> py_context:call(C, erlang, call, [who]) end),
    destroy(C).

a_nested_call_into_the_same_context_goes_through(_Config) ->
    C = new(),
    ok = py:register_function(f, fun([0]) -> {ok, V} = py_context:eval(C, <<"x">>), V;
                                    ([N]) -> {ok, V} = py_context:call(C, erlang, call, [f, N - 1]), V
                                 end),
    ok = py_context:exec(C, <<"x = 'here'">>),
    {ok, <<"here">>} = py_context:call(C, erlang, call, [f, 10], #{}, 60000),
    %% And in a context with one thread, where nobody stands in.
    D = new(#{thread => true}),
    ok = py:register_function(g, fun([]) -> py_context:call(D, '_thread', get_ident, []) end),
    {ok, {ok, Thread}} = py_context:call(D, erlang, call, [g], #{}, 60000),
    Thread = thread_of(D),
    [destroy(X) || X <- [C, D]].

contexts_may_call_each_other(_Config) ->
    [A, B] = Contexts = [new(), new()],
    [ok = py_context:exec(C, ["x = ", integer_to_list(N)]) || {N, C} <- [{1, A}, {2, B}]],
    ok = py:register_function(f, fun([0, _]) -> [];
                                    ([N, Me]) ->
                                         {C, Other} = case Me of 1 -> {B, 2}; 2 -> {A, 1} end,
                                         Code = <<"[x] + __import__('erlang').call('f', n, me)">>,
                                         {ok, [X | Rest]} = py_context:eval(C, Code, #{n => N - 1, me => Other}),
                                         [X | Rest]
                                 end),
    ?assertEqual({ok, [1, 2, 1, 2, 1, 2, 1]},
                 py_context:eval(A, <<"[x] + __import__('erlang').call('f', 6, 1)">>, #{}, 60000)),
    [destroy(C) || C <- Contexts].

py_call_eval_and_exec_take_a_context(_Config) ->
    C = new(),
    ok = py:exec(C, <<"x = 5\ndef f(a, b=0): return x + a + b">>),
    {ok, 5} = py:eval(C, <<"x">>),
    {ok, 6} = py:eval(C, <<"x + y">>, #{y => 1}),
    {ok, 7} = py:call(C, '__main__', f, [2]),
    {ok, 17} = py:call(C, '__main__', f, [2], #{b => 10}),
    {error, {'NameError', _}} = py:eval(<<"x">>),
    destroy(C).

preload_runs_in_a_new_context(_Config) ->
    C = new(#{preload => <<"base = 40\ndef f(x): return base + x">>}),
    {ok, 42} = py_context:call(C, '__main__', f, [2]),
    destroy(C),
    %% One that fails is an error of new.
    {error, {'ZeroDivisionError', _}} = py_context:new(#{preload => <<"1/0">>}).

what_is_no_context_is_an_error(_Config) ->
    C = new(),
    destroy(C),
    Calls = [fun(P) -> py_context:call(P, math, sqrt, [16]) end,
             fun(P) -> py_context:eval(P, <<"1">>) end,
             fun(P) -> py_context:exec(P, <<"x = 1">>) end,
             fun(P) -> py:call(P, math, sqrt, [16]) end,
             fun(P) -> py_context:interrupt(P) end],
    [?assertMatch({error, _}, Call(C)) || Call <- Calls],
    {Other, Monitor} = spawn_monitor(fun() -> receive stop -> ok end end),
    [?assertMatch({error, _}, Call(Other)) || Call <- Calls],
    Other ! stop,
    receive {'DOWN', Monitor, process, Other, normal} -> ok end,
    [] = py_test:messages(),
    all_slots_are_back().

wrong_options_are_errors(_Config) ->
    [begin
         {error, {Type, Text}} = py_context:new(Options),
         ?assert(is_atom(Type)),
         ?assertMatch({_, _}, binary:match(Text, Part))
     end || {Options, Part} <- [{#{mode => fast}, <<"fast">>}, {#{thread => maybe_later}, <<"maybe_later">>},
                                {#{memory_limit => lots}, <<"lots">>}, {#{memory_limit => -1}, <<"-1">>},
                                {#{colour => red}, <<"colour">>}, {#{preload => 17}, <<"17">>}]].

%%% Where they run

a_context_with_a_thread_has_always_the_same(_Config) ->
    C = new(#{thread => true}),
    ok = py_context:exec(C, <<"import _thread">>),
    Threads = lists:append(py_test:at_once(
                             lists:duplicate(10, fun() ->
                                                         [begin
                                                              {ok, T} = py_context:eval(C, <<"_thread.get_ident()">>),
                                                              T
                                                          end || _ <- lists:seq(1, 50)]
                                                 end))),
    [Thread] = lists:usort(Threads),
    %% Not one of another context or of a pool.
    D = new(#{thread => true}),
    false = lists:member(thread_of(D), [Thread]),
    {ok, Default} = py:call('_thread', get_ident, []),
    false = lists:member(Default, [Thread, thread_of(D)]),
    %% Nor another after it was in a callback, or timed out.
    ok = py:register_function(f, fun([]) -> 1 end),
    {ok, 1} = py_context:call(C, erlang, call, [f]),
    {error, timeout} = py_context:call(C, builtins, exec, [<<"while True: pass">>], #{}, 10),
    Thread = thread_of(C),
    [destroy(X) || X <- [C, D]].

thread_local_state_persists_where_asked_for(_Config) ->
    C = new(#{thread => true}),
    ok = py_context:exec(C, <<"import threading\nlocal = threading.local()\nlocal.x = 1">>),
    {ok, 1} = py_context:eval(C, <<"local.x">>),
    {ok, 1} = py_test:in_process(fun() -> py_context:eval(C, <<"local.x">>) end),
    ok = py_context:exec(C, <<"local.x += 1">>),
    {ok, 2} = py_context:eval(C, <<"local.x">>),
    destroy(C).

%% Each waits in C until all wait.
contexts_run_at_the_same_time(Config) ->
    Contexts = [new() || _ <- lists:seq(1, 6)],
    Fifo = py_test:block(Config),
    Workers = [begin
                   W = py_test:worker(),
                   py_test:start(W, fun() -> py_context:call(C, os, open, [Fifo, 0]) end),
                   W
               end || C <- Contexts],
    py_test:wait_until(fun() -> py_semaphore:current() =:= 6 end),
    py_test:await_at_work(context, 6),
    %% The default pool serves meanwhile.
    {ok, 4.0} = py:call(math, sqrt, [16], #{}, 60000),
    [{ok, _} = py_test:answer_after_release(W, Fifo) || W <- Workers],
    [py_test:end_worker(W) || W <- Workers],
    [destroy(C) || C <- Contexts].

a_context_of_the_default_mode_is_where_the_mode_has_it(_Config) ->
    {ok, Main} = py:call(io, builtins, eval, [<<"id(__import__('sys').modules)">>, #{}]),
    C = new(),
    ?assertEqual(py_test:shared_mode(), modules_of(C) =:= Main),
    {ok, Id} = py_context:get_interp_id(C),
    ?assertEqual(py_test:shared_mode(), Id =:= 0),
    Worker = new(#{mode => worker}),
    Main = modules_of(Worker),
    {ok, 0} = py_context:get_interp_id(Worker),
    [destroy(X) || X <- [C, Worker]].

contexts_with_own_interpreters_share_nothing(_Config) ->
    py:subinterp_supported() orelse throw({skip, "this variant has no sub-interpreters"}),
    Contexts = [A, B] = [new(#{mode => owngil}), new(#{mode => owngil})],
    Places = [modules_of(C) || C <- Contexts],
    {ok, Default} = py:call(builtins, eval, [<<"id(__import__('sys').modules)">>, #{}]),
    3 = length(lists:usort([Default | Places])),
    Ids = [begin {ok, Id} = py_context:get_interp_id(C), Id end || C <- Contexts],
    2 = length(lists:usort(Ids)),
    false = lists:member(0, Ids),
    ok = py_context:exec(A, <<"import json\njson.mine = 1">>),
    {ok, 1} = py_context:eval(A, <<"__import__('json').mine">>),
    {error, {'AttributeError', _}} = py_context:eval(B, <<"__import__('json').mine">>),
    [destroy(C) || C <- Contexts].

own_interpreters_where_there_are_none_are_an_error(_Config) ->
    py:subinterp_supported() andalso throw({skip, "this variant has sub-interpreters"}),
    {error, {_, Text}} = py_context:new(#{mode => owngil}),
    ?assertMatch({match, _}, re:run(Text, "sub-?interpreter", [caseless])).

%%% Giving up

interrupt_ends_what_runs(Config) ->
    C = new(),
    Fifo = py_test:block(Config),
    Runs = fun(_) -> in_the_middle_of_something(), py_test:await_at_work(context, 1) end,
    Calls = [{fun() -> py_context:exec(C, <<"while True: pass">>) end, Runs},
             {fun() -> py_context:call(C, os, open, [Fifo, 0]) end, Runs},
             {fun() -> py_context:call(C, erlang, call, [hold]) end, fun py_test:await_held/1}],
    [begin
         W = py_test:holder(fun() -> {Call(), py_test:messages()} end),
         _ = Running(W),
         interrupt_until_it_is_over(fun() -> Interrupt(C) end),
         element(1, W) ! go_on,     % for the one that is in Erlang
         {{error, cancelled}, Messages} = py_test:answer(W),
         ?assert(Messages =:= [] orelse Messages =:= [go_on]),
         all_slots_are_back(),
         py_test:end_worker(W)
     end || {Call, Running} <- Calls, Interrupt <- [fun py:interrupt/1, fun py_context:interrupt/1]],
    py_test:let_all_go(Fifo),
    {ok, 4.0} = py_context:call(C, math, sqrt, [16]),
    destroy(C).

%% It may be between the queue and its first instruction.
interrupt_until_it_is_over(Interrupt) ->
    ok = Interrupt(),
    timer:sleep(10),
    py_semaphore:current() =:= 0 orelse interrupt_until_it_is_over(Interrupt).

interrupt_of_an_idle_context_harms_no_later_call(_Config) ->
    C = new(),
    ok = py_context:exec(C, <<"def spin():\n    for i in range(100): pass\n    return 'done'">>),
    [begin
         ok = py_context:interrupt(C),
         {ok, <<"done">>} = py_context:call(C, '__main__', spin, [])
     end || _ <- lists:seq(1, 500)],
    destroy(C).

a_timeout_leaves_the_context_usable(_Config) ->
    [begin
         C = new(Options),
         ok = py_context:exec(C, <<"x = 1\ndef loop():\n    while True: pass\n">>),
         [{error, timeout} = py_context:call(C, '__main__', loop, [], #{}, 10) || _ <- lists:seq(1, 10)],
         {ok, 1} = py_context:eval(C, <<"x">>),
         [] = py_test:messages(),
         destroy(C)
     end || Options <- [#{}, #{thread => true}]].

%% Another thread takes the place of the one that is in C, with the same state; but where
%% one thread was asked for, the next call has to wait for it.
a_context_that_is_stuck_serves_the_next_call(Config) ->
    Fifo = py_test:block(Config),
    C = new(),
    ok = py_context:exec(C, <<"x = 1">>),
    py_test:stuck(context, fun(T) -> py_context:call(C, os, open, [Fifo, 0], #{}, T) end),
    {ok, 1} = py_context:eval(C, <<"x">>, #{}, 60000),
    D = new(#{thread => true}),
    ok = py_context:exec(D, <<"x = 2">>),
    Thread = thread_of(D),
    py_test:stuck(context, fun(T) -> py_context:call(D, os, open, [Fifo, 0], #{}, T) end),
    {error, timeout} = py_context:eval(D, <<"x">>, #{}, 50),
    ok = py_test:release(Fifo),
    {ok, 2} = py_context:eval(D, <<"x">>, #{}, 60000),
    Thread = thread_of(D),
    [destroy(X) || X <- [C, D]],
    [] = py_test:messages().

stop_lets_requests_end(Config) ->
    Fifo = py_test:block(Config),
    C = new(),
    Running = py_test:worker(),
    py_test:start(Running, fun() -> py_context:call(C, os, open, [Fifo, 0]) end),
    in_the_middle_of_something(),
    Waiting = py_test:worker(),
    py_test:start(Waiting, fun() -> py_context:call(C, math, sqrt, [16]) end),
    py_test:wait_until(fun() -> py_semaphore:current() =:= 2 end),
    Stopper = py_test:worker(),
    py_test:start(Stopper, fun() -> py_context:stop(C) end),
    {ok, _} = py_test:answer_after_release(Running, Fifo),
    {ok, 4.0} = py_test:answer(Waiting),
    ok = py_test:answer(Stopper),
    {error, _} = py_context:call(C, math, sqrt, [16]),
    [py_test:end_worker(W) || W <- [Running, Waiting, Stopper]].

destroy_cancels_what_runs_and_what_waits(Config) ->
    Fifo = py_test:block(Config),
    Own = [#{mode => owngil} || py:subinterp_supported()],
    [begin
         C = new(Options),
         Running = py_test:worker(),
         py_test:start(Running, fun() -> {Call(C), py_test:messages()} end),
         in_the_middle_of_something(),
         Waiting = [py_test:worker() || _ <- lists:seq(1, 5)],
         [py_test:start(W, fun() -> {py_context:call(C, math, sqrt, [16]), py_test:messages()} end) || W <- Waiting],
         py_test:wait_until(fun() -> py_semaphore:current() =:= 6 end),
         destroy(C),
         [?assertEqual({{error, cancelled}, []}, py_test:answer(W)) || W <- [Running | Waiting]],
         all_slots_are_back(),
         py_test:let_all_go(Fifo),
         [[] = py_test:run(W, fun py_test:messages/0) || W <- [Running | Waiting]],
         [py_test:end_worker(W) || W <- [Running | Waiting]],
         {error, _} = py_context:call(C, math, sqrt, [16])
     end || Options <- [#{}, #{thread => true} | Own],
            Call <- [fun(C) -> py_context:exec(C, <<"while True: pass">>) end,
                     fun(C) -> py_context:call(C, os, open, [Fifo, 0]) end]].

a_second_destroy_says_that_there_is_no_context(_Config) ->
    C = new(),
    ok = py_context:destroy(C),
    {error, {'ValueError', _}} = py_context:destroy(C),
    D = new(),
    ok = py_context:stop(D),
    {error, {'ValueError', _}} = py_context:stop(D),
    {error, {'ValueError', _}} = py_context:destroy(D).

a_killed_context_cancels_its_calls(_Config) ->
    Before = py_test:thread_names(),
    [begin
         C = new(),
         W = py_test:worker(),
         py_test:start(W, fun() -> {py_context:exec(C, <<"while True: pass">>), py_test:messages()} end),
         in_the_middle_of_something(),
         unlink(C),
         exit(C, kill),
         {{error, cancelled}, []} = py_test:answer(W),
         {error, _} = py_test:run(W, fun() -> py_context:call(C, math, sqrt, [16]) end),
         py_test:end_worker(W),
         all_slots_are_back()
     end || _ <- lists:seq(1, 10)],
    py_test:await_threads(Before),
    {ok, 4.0} = py:call(math, sqrt, [16]).

a_linked_context_goes_with_its_owner(_Config) ->
    Owner = py_test:worker(),
    {ok, C} = py_test:run(Owner, fun() -> py_context:start_link(mine) end),
    {ok, 4.0} = py_context:call(C, math, sqrt, [16]),
    Monitor = monitor(process, C),
    py_test:kill(Owner),
    receive {'DOWN', Monitor, process, C, _} -> ok end,
    {error, _} = py_context:call(C, math, sqrt, [16]).

a_killed_caller_leaves_the_context_usable(_Config) ->
    C = new(),
    ok = py_context:exec(C, <<"x = 1">>),
    [begin
         W = py_test:worker(),
         py_test:start(W, fun() -> py_context:exec(C, <<"while True: pass">>) end),
         in_the_middle_of_something(),
         py_test:kill(W),
         {ok, 1} = py_context:eval(C, <<"x">>, #{}, 60000),
         all_slots_are_back()
     end || _ <- lists:seq(1, 10)],
    destroy(C).

%%% The router

the_router_has_a_context_per_index(_Config) ->
    {ok, _} = py_context_router:start(#{contexts => 3}),
    true = py_context_router:is_started(),
    3 = py_context_router:num_contexts(),
    Contexts = py_context_router:contexts(),
    3 = length(lists:usort(Contexts)),
    ?assertEqual(Contexts, [py_context_router:get_context(N) || N <- [1, 2, 3]]),
    ?assertEqual(Contexts, [py:context(N) || N <- [1, 2, 3]]),
    [{ok, 4.0} = py_context:call(C, math, sqrt, [16]) || C <- Contexts],
    ok = py_context_router:stop(),
    false = py_context_router:is_started(),
    [{error, _} = py_context:call(C, math, sqrt, [16]) || C <- Contexts].

a_process_keeps_its_context_of_the_router(_Config) ->
    {ok, _} = py_context_router:start(#{contexts => 3}),
    Work = fun() ->
                   [C] = lists:usort([py:context() || _ <- lists:seq(1, 50)]),
                   C
           end,
    Found = py_test:at_once(lists:duplicate(12, Work)),
    [?assert(lists:member(C, py_context_router:contexts())) || C <- Found].

a_bound_context_serves_the_calls_of_its_process(_Config) ->
    {ok, _} = py_context_router:start(#{contexts => 2}),
    [A, B] = py_context_router:contexts(),
    ok = py_test:in_process(
      fun() ->
              ok = py:exec(<<"x = 'own'">>),
              [begin
                   ok = py_context_router:bind_context(C),
                   C = py_context_router:get_context(),
                   C = py:context(),
                   %% Plain requests go there, and those that name a place do not.
                   ok = py:exec(["x = ", N]),
                   {ok, X} = py_context:eval(C, <<"x">>),
                   X = list_to_integer(N),
                   {ok, X} = py:eval(<<"x">>),
                   {ok, X} = py:call('__main__', 'x.__int__', []),
                   py_test:shared_mode() andalso ({ok, <<"own">>} = py:call(io, builtins, eval, [<<"x">>]))
               end || {C, N} <- [{B, "2"}, {A, "1"}]],
              {error, _} = py_context_router:bind_context(self()),
              ok = py_context_router:unbind_context(),
              {ok, <<"own">>} = py:eval(<<"x">>),
              true = lists:member(py:context(), [A, B]),
              ok = py_context_router:unbind_context()
      end),
    ?assertEqual([{ok, 1}, {ok, 2}], [py_context:eval(C, <<"x">>) || C <- [A, B]]).

a_dead_context_is_replaced_at_its_index(_Config) ->
    {ok, _} = py_context_router:start(#{contexts => 3}),
    [A, B, C] = py_context_router:contexts(),
    ok = py_context:exec(B, <<"x = 1">>),
    exit(B, kill),
    py_test:wait_until(fun() ->
                               New = py_context_router:get_context(2),
                               is_pid(New) andalso New =/= B
                       end),
    New = py_context_router:get_context(2),
    ?assertEqual([A, New, C], py_context_router:contexts()),
    {ok, 4.0} = py_context:call(New, math, sqrt, [16]),
    %% With nothing of the old one's state.
    {error, {'NameError', _}} = py_context:eval(New, <<"x">>),
    %% Also one that was destroyed.
    ok = py_context:destroy(A),
    py_test:wait_until(fun() -> is_pid(py:context(1)) andalso py:context(1) =/= A end),
    {ok, 4.0} = py_context:call(py:context(1), math, sqrt, [16]).

contexts_start_and_stop(_Config) ->
    false = py:contexts_started(),
    {ok, Contexts} = py:start_contexts(),
    true = py:contexts_started(),
    ?assert(length(Contexts) >= 1),
    ok = py:stop_contexts(),
    false = py:contexts_started(),
    {ok, Two} = py:start_contexts(#{contexts => 2}),
    2 = length(Two),
    ok = py:stop_contexts(),
    %% Each has an executor, which goes with it.
    Threads = py_test:thread_names(),
    [begin
         {ok, Some} = py:start_contexts(#{contexts => 4}),
         [{ok, 4.0} = py_context:call(C, math, sqrt, [16]) || C <- Some],
         ok = py:stop_contexts()
     end || _ <- lists:seq(1, 10)],
    py_test:await_threads(Threads).

contexts_go_with_a_stop_of_the_application(_Config) ->
    C = new(),
    {ok, 4.0} = py_context:call(C, math, sqrt, [16]),
    Monitor = monitor(process, C),
    W = py_test:worker(),
    py_test:start(W, fun() -> {py_context:exec(C, <<"while True: pass">>), py_test:messages()} end),
    in_the_middle_of_something(),
    ok = application:stop(erlang_python),
    receive {'DOWN', Monitor, process, C, _} -> ok end,
    {{error, cancelled}, []} = py_test:answer(W),
    {error, _} = py_context:call(C, math, sqrt, [16]),
    {error, _} = py_context:new(#{}),
    ok = application:start(erlang_python),
    {error, _} = py_context:call(C, math, sqrt, [16]),
    D = new(),
    {ok, 4.0} = py_context:call(D, math, sqrt, [16]),
    destroy(D),
    py_test:end_worker(W).

%% Own interpreters are few: each leaks some MB in Python itself.
a_hundred_contexts_leave_nothing(_Config) ->
    Round = fun(N, Options) ->
                    [begin
                         C = new(Options),
                         ok = py_context:exec(C, <<"x = bytearray(100000)">>),
                         destroy(C)
                     end || _ <- lists:seq(1, N)]
            end,
    Round(20, #{}),
    {Threads, Groups} = {py_test:thread_names(), length(py_test:groups())},
    Rounds = fun() ->
                     Round(100, #{}),
                     Round(20, #{thread => true}),
                     py:subinterp_supported() andalso Round(5, #{mode => owngil}),
                     py_test:await_threads(Threads),
                     py_test:wait_until(fun() -> length(py_test:groups()) =< Groups end)
             end,
    Most = case py:subinterp_supported() of true -> 50 bsl 20; false -> 8 bsl 20 end,
    py_test:grows_less(Most, Rounds).

%% Where Python lets nobody count it is refused, not ignored.
a_memory_limit_is_kept_or_refused(_Config) ->
    case py_context:new(#{mode => owngil, memory_limit => 50 bsl 20}) of
        {ok, C} ->
            ok = py_context:exec(C, <<"x = bytearray(1000000)">>),
            Code = <<"y = [bytes(1000000) + bytes([i]) for i in range(200)]">>,
            {error, {'MemoryError', _}} = py_context:exec(C, Code),
            ok = py_context:exec(C, <<"z = bytearray(1000000)">>),
            destroy(C);
        {error, {_, Text}} ->
            ?assertMatch({match, _}, re:run(Text, "memory|sub-?interpreter", [caseless]))
    end,
    {ok, 4.0} = py:call(math, sqrt, [16]).

%%% Sub-interpreters

only_with_sub_interpreters() ->
    py:subinterp_supported() orelse throw({skip, "this variant has no sub-interpreters"}).

sub_interpreters_are_created_called_and_destroyed(_Config) ->
    only_with_sub_interpreters(),
    {ok, I} = py:subinterp_create(),
    {ok, 4.0} = py:subinterp_call(I, math, sqrt, [16]),
    {ok, [2, 1]} = py:subinterp_call(I, builtins, sorted, [[1, 2]], #{reverse => true}),
    ok = py:subinterp_exec(I, <<"x = 5">>),
    {ok, 5} = py:subinterp_eval(I, <<"x">>),
    {ok, 6} = py:subinterp_eval(I, <<"x + y">>, #{y => 1}),
    {error, {'ValueError', _}} = py:subinterp_call(I, math, sqrt, [-1]),
    ok = py:subinterp_destroy(I),
    {error, _} = py:subinterp_call(I, math, sqrt, [16]),
    {error, _} = py:subinterp_eval(I, <<"x">>),
    [] = py_test:messages().

sub_interpreters_are_isolated(_Config) ->
    only_with_sub_interpreters(),
    Interpreters = [begin {ok, I} = py:subinterp_create(), I end || _ <- [1, 2]],
    Places = [begin {ok, Id} = py:subinterp_eval(I, <<"id(__import__('sys').modules)">>), Id end || I <- Interpreters],
    {ok, Default} = py:eval(<<"id(__import__('sys').modules)">>),
    3 = length(lists:usort([Default | Places])),
    [A, B] = Interpreters,
    ok = py:subinterp_exec(A, <<"x = 1">>),
    {error, {'NameError', _}} = py:subinterp_eval(B, <<"x">>),
    {error, {'NameError', _}} = py:eval(<<"x">>),
    [ok = py:subinterp_destroy(I) || I <- Interpreters].

sub_interpreters_take_casts_and_async_calls(_Config) ->
    only_with_sub_interpreters(),
    {ok, I} = py:subinterp_create(),
    Test = self(),
    ok = py:register_function(tell, fun([X]) -> Test ! {told, X}, none end),
    ok = py:subinterp_cast(I, erlang, call, [tell, 17]),
    receive {told, 17} -> ok end,
    Ref = py:subinterp_async_call(I, math, sqrt, [16]),
    {ok, 4.0} = py:subinterp_await(Ref),
    Slow = py:subinterp_async_call(I, builtins, exec, [<<"while True: pass">>]),
    {error, timeout} = py:subinterp_await(Slow, 10),
    ok = py:subinterp_destroy(I),
    [] = py_test:messages().

sub_interpreters_where_there_are_none_are_an_error(_Config) ->
    py:subinterp_supported() andalso throw({skip, "this variant has sub-interpreters"}),
    {error, {_, Text}} = py:subinterp_create(),
    ?assertMatch({match, _}, re:run(Text, "sub-?interpreter", [caseless])),
    {error, {_, _}} = py:subinterp_pool_start(),
    false = py:subinterp_pool_ready().

the_pool_of_sub_interpreters_serves(_Config) ->
    only_with_sub_interpreters(),
    false = py:subinterp_pool_ready(),
    ok = py:subinterp_pool_start(2),
    {ok, 4.0} = py:subinterp_call(subinterp, math, sqrt, [16]),
    true = py:subinterp_pool_ready(),
    {ok, #{}} = py:subinterp_pool_stats(),
    ok = py:subinterp_pool_stop(),
    false = py:subinterp_pool_ready(),
    ok = py:subinterp_pool_start(),
    true = py:subinterp_pool_ready(),
    ok = py:subinterp_pool_stop().
