%% SPDX-License-Identifier: Apache-2.0
%%
%% Pools: where a call runs.  A pool of one executor has one thread, so the thread that
%% answers threading.get_ident tells which pool a call was in.
-module(py_pool_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([default_and_io_are_there_from_the_start/1,
         the_io_pool_runs_ten_calls_at_once/1,
         the_size_of_the_io_pool_can_be_configured/1,
         a_busy_io_pool_does_not_delay_the_default_pool/1,
         a_pool_is_named_in_the_call/1,
         an_unknown_pool_is_an_error_that_names_it/1]).
-export([a_module_is_routed_to_a_pool/1,
         a_function_is_routed_to_a_pool/1,
         the_route_of_a_function_wins_over_that_of_its_module/1,
         a_pool_named_in_the_call_wins_over_the_routes/1,
         routes_hold_however_the_call_names_the_function/1,
         routes_are_listed_and_looked_up/1,
         a_route_can_be_changed_and_taken_back/1,
         routes_to_unknown_pools_are_errors/1]).
-export([a_pool_has_as_many_executors_as_asked_for/1,
         a_pool_of_sub_interpreters_spreads_its_processes/1,
         processes_that_come_at_once_go_to_different_interpreters/1,
         own_interpreters_where_there_are_none_are_an_error/1,
         a_process_keeps_its_namespace_in_a_pool/1,
         a_namespace_is_shared_by_the_pools_of_an_interpreter/1,
         a_nested_call_into_its_own_full_pool_goes_through/1,
         a_nested_call_into_another_pool_runs_there/1]).
-export([pools_start_and_stop_twenty_times_and_leave_no_thread/1,
         a_name_can_be_used_again/1,
         a_name_that_is_taken_is_an_error/1,
         wrong_names_and_sizes_are_errors/1,
         calls_of_a_pool_that_is_stopped_are_cancelled/1,
         a_pool_may_be_stopped_while_it_is_looked_for/1,
         routes_to_a_pool_go_with_it/1,
         pools_go_with_a_stop_of_the_application/1,
         a_pool_that_starts_while_others_work_disturbs_nobody/1,
         crashes_of_our_own_processes_are_survived/1]).
-export([parallel_answers_in_the_order_of_the_calls/1,
         parallel_has_errors_inside/1,
         parallel_of_nothing_is_nothing/1,
         parallel_of_what_is_no_call_is_an_error/1,
         parallel_runs_on_all_executors_at_once/1,
         parallel_calls_may_call_back/1,
         parallel_may_be_called_from_a_callback/1,
         parallel_of_thousands/1,
         a_killed_caller_of_parallel_leaves_nothing/1]).

suite() -> [{timetrap, {minutes, 5}}].

all() -> py_test:cases(?MODULE).

init_per_suite(Config) -> py_test:start(Config).

end_per_suite(Config) -> py_test:stop(Config).

init_per_testcase(_Case, Config) ->
    ok = py_test:register_hold(),
    Config.

%% What a case that failed has left would fail the next one, too.
end_per_testcase(_Case, _Config) ->
    py_test:restore(),
    [py_context_router:stop_pool(Pool) || Pool <- [p, q], py_context_router:pool_started(Pool)],
    [ok = py:unregister_pool(Registered) || {Registered, _} <- py_context_router:list_pool_registrations()],
    ok.

start_pool(Name, Size) ->
    {ok, Contexts} = py_context_router:start_pool(Name, Size),
    ?assertEqual(Size, length(Contexts)),
    ok.

%% The thread of a pool of one executor.
thread(Pool) ->
    {ok, Thread} = py:call(Pool, '_thread', get_ident, []),
    Thread.

start_pools_of_one(Names) ->
    [ok = start_pool(Name, 1) || Name <- Names],
    Threads = [thread(Name) || Name <- Names],
    ?assertEqual(length(Names), length(lists:usort(Threads))),
    %% Later calls are on the same thread.
    ?assertEqual(Threads, [thread(Name) || Name <- Names]),
    Threads.

%%% The pools that are always there

default_and_io_are_there_from_the_start(_Config) ->
    [?assert(py_context_router:pool_started(Pool)) || Pool <- [default, io]],
    ?assertNot(py_context_router:pool_started(p)),
    [{ok, 4.0} = py:call(Pool, math, sqrt, [16]) || Pool <- [default, io]],
    [{ok, #{<<"a">> := 1}} = py:call(Pool, builtins, dict, [], #{a => 1}) || Pool <- [default, io]],
    ?assertEqual([], py_context_router:list_pool_registrations()).

%% They wait for each other.
meet(Pool, N) ->
    Code = io_lib:format("import builtins, threading\nbuiltins.meeting = threading.Barrier(~b)\n", [N]),
    {ok, none} = py:call(Pool, builtins, exec, [iolist_to_binary(Code), #{}]),
    Meet = fun() -> py:call(Pool, builtins, eval, [<<"meeting.wait(60)">>, #{}]) end,
    Met = py_test:at_once(lists:duplicate(N, Meet)),
    ?assertEqual([{ok, I} || I <- lists:seq(0, N - 1)], lists:sort(Met)).

the_io_pool_runs_ten_calls_at_once(_Config) ->
    meet(io, 10),
    %% As the sleeps that it is for.
    py_test:within(300, 20, fun() ->
                                    {Time, Answers} = py_test:milliseconds(fun() -> sleep_ten_times(io) end),
                                    ?assertEqual(lists:duplicate(10, {ok, none}), Answers),
                                    Time
                            end).

sleep_ten_times(Pool) ->
    py_test:at_once(lists:duplicate(10, fun() -> py:call(Pool, time, sleep, [0.2]) end)).

the_size_of_the_io_pool_can_be_configured(_Config) ->
    py_test:restart(#{io_pool_size => 13}),
    meet(io, 13).

a_busy_io_pool_does_not_delay_the_default_pool(Config) ->
    Fifo = py_test:block(Config),
    Busy = [py_test:worker() || _ <- lists:seq(1, 20)],
    [py_test:start(W, fun() -> py:call(io, os, open, [Fifo, 0]) end) || W <- Busy],
    [{ok, 4.0} = py:call(math, sqrt, [16], #{}, 60000) || _ <- lists:seq(1, 1000)],
    [{ok, _} = py_test:answer_after_release(W, Fifo) || W <- Busy],
    [py_test:end_worker(W) || W <- Busy],
    [] = py_test:messages().

a_pool_is_named_in_the_call(_Config) ->
    [P, Q] = start_pools_of_one([p, q]),
    {ok, Elsewhere} = py:call('_thread', get_ident, []),
    3 = length(lists:usort([P, Q, Elsewhere])),
    {ok, [1, 2]} = py:call(p, builtins, sorted, [[2, 1]]),
    {ok, [2, 1]} = py:call(p, builtins, sorted, [[2, 1]], #{reverse => true}),
    {error, {'ValueError', _}} = py:call(p, math, sqrt, [-1]),
    %% Modules and functions of all kinds of names.
    [{ok, P} = py:call(p, M, F, [])
     || M <- ['_thread', <<"_thread">>, "_thread"], F <- [get_ident, <<"get_ident">>, "get_ident"]],
    [] = py_test:messages().

an_unknown_pool_is_an_error_that_names_it(_Config) ->
    Errors = [py:call(no_such_pool, math, sqrt, [16]),
              py:call(no_such_pool, math, sqrt, [16], #{}),
              py_context_router:stop_pool(no_such_pool)],
    [begin
         {error, {Type, Text}} = Error,
         ?assert(is_atom(Type)),
         ?assertMatch({_, _}, binary:match(Text, <<"no_such_pool">>))
     end || Error <- Errors],
    0 = py_semaphore:current().

%%% Routes

a_module_is_routed_to_a_pool(_Config) ->
    [P] = start_pools_of_one([p]),
    {ok, Before} = py:call('_thread', get_ident, []),
    ?assertNotEqual(P, Before),
    ok = py:register_pool(p, '_thread'),
    [{ok, P} = py:call('_thread', get_ident, []) || _ <- lists:seq(1, 100)],
    %% For all processes, those that had called it before too; other modules stay.
    {ok, P} = py_test:in_process(fun() -> py:call('_thread', get_ident, []) end),
    {ok, Other} = py:eval(<<"__import__('_thread').get_ident()">>),
    ?assertNotEqual(P, Other),
    {ok, Threading} = py:call(threading, get_ident, []),
    ?assertNotEqual(P, Threading).

a_function_is_routed_to_a_pool(_Config) ->
    [P] = start_pools_of_one([p]),
    ok = py:register_pool(p, {'_thread', get_ident}),
    {ok, P} = py:call('_thread', get_ident, []),
    {ok, Native} = py:call(p, '_thread', get_native_id, []),
    {ok, Other} = py:call('_thread', get_native_id, []),
    ?assertNotEqual(Native, Other).

the_route_of_a_function_wins_over_that_of_its_module(_Config) ->
    [P, Q] = start_pools_of_one([p, q]),
    {ok, NativeP} = py:call(p, '_thread', get_native_id, []),
    Check = fun() ->
                    {ok, Q} = py:call('_thread', get_ident, []),
                    {ok, NativeP} = py:call('_thread', get_native_id, []),
                    ok
            end,
    ok = py:register_pool(p, '_thread'),
    {ok, P} = py:call('_thread', get_ident, []),
    ok = py:register_pool(q, {'_thread', get_ident}),
    ok = Check(),
    %% Whichever came first.
    ok = py:unregister_pool('_thread'),
    ok = py:register_pool(p, '_thread'),
    ok = Check(),
    %% Back to that of the module.
    ok = py:unregister_pool({'_thread', get_ident}),
    {ok, P} = py:call('_thread', get_ident, []).

a_pool_named_in_the_call_wins_over_the_routes(_Config) ->
    [P, Q] = start_pools_of_one([p, q]),
    ok = py:register_pool(p, '_thread'),
    {ok, P} = py:call('_thread', get_ident, []),
    {ok, Q} = py:call(q, '_thread', get_ident, []),
    {ok, Default} = py:call(default, '_thread', get_ident, []),
    false = lists:member(Default, [P, Q]).

routes_hold_however_the_call_names_the_function(_Config) ->
    [P] = start_pools_of_one([p]),
    [begin
         ok = py:register_pool(p, Route),
         [?assertEqual({Route, M, F, {ok, P}}, {Route, M, F, py:call(M, F, [])})
          || M <- ['_thread', <<"_thread">>, "_thread"], F <- [get_ident, <<"get_ident">>, "get_ident"]],
         ok = py:unregister_pool(Route)
     end || Route <- ['_thread', {'_thread', get_ident}]].

routes_are_listed_and_looked_up(_Config) ->
    ok = start_pool(p, 1),
    default = py_context_router:lookup_pool(requests, get),
    ok = py_context_router:register_pool(io, requests),
    ok = py_context_router:register_pool(p, requests, get),
    ok = py:register_pool(io, psycopg),
    ?assertEqual(p, py_context_router:lookup_pool(requests, get)),
    ?assertEqual(io, py_context_router:lookup_pool(requests, post)),
    ?assertEqual(default, py_context_router:lookup_pool(json, dumps)),
    ?assertEqual([{psycopg, io}, {requests, io}, {{requests, get}, p}],
                 lists:sort(py_context_router:list_pool_registrations())),
    ok = py_context_router:unregister_pool(requests, get),
    ?assertEqual(io, py_context_router:lookup_pool(requests, get)),
    ok = py_context_router:unregister_pool(requests),
    ok = py:unregister_pool(psycopg),
    ?assertEqual([], py_context_router:list_pool_registrations()).

a_route_can_be_changed_and_taken_back(_Config) ->
    [P, Q] = start_pools_of_one([p, q]),
    [begin
         ok = py:register_pool(Pool, '_thread'),
         {ok, Thread} = py:call('_thread', get_ident, [])
     end || {Pool, Thread} <- [{p, P}, {q, Q}, {p, P}, {p, P}]],
    ok = py:unregister_pool('_thread'),
    {ok, Default} = py:call('_thread', get_ident, []),
    false = lists:member(Default, [P, Q]),
    %% One that is not there is no error, as with functions.
    ok = py:unregister_pool('_thread').

routes_to_unknown_pools_are_errors(_Config) ->
    [begin
         {error, {_, Text}} = py:register_pool(no_such_pool, Route),
         ?assertMatch({_, _}, binary:match(Text, <<"no_such_pool">>))
     end || Route <- [math, {math, sqrt}]],
    [{error, {_, _}} = py:register_pool(io, Route)
     || Route <- [1, {math}, {math, 1}, {a, b, c}, [], <<"math">>, {math, undefined}]],
    [] = py_context_router:list_pool_registrations().

%%% Their executors

a_pool_has_as_many_executors_as_asked_for(Config) ->
    [begin
         ok = start_pool(p, N),
         ?assertEqual(N, lists:sum([maps:get(wanted, G) || #{pool := p} = G <- py_test:groups()])),
         Fifo = py_test:block(Config),
         Workers = [py_test:worker() || _ <- lists:seq(1, N)],
         %% One after the other: two at once may choose the same one of several interpreters.
         [{ok, 4.0} = py_test:run(W, fun() -> py:call(p, math, sqrt, [16]) end) || W <- Workers],
         [py_test:start(W, fun() -> py:call(p, os, open, [Fifo, 0]) end) || W <- Workers],
         %% All executors wait in C, so one more has nobody.
         py_test:wait_until(fun() -> py_semaphore:current() =:= N end),
         py_test:await_at_work(p, N),
         {error, timeout} = py:call(p, math, sqrt, [16], #{}, 50),
         [{ok, _} = py_test:answer_after_release(W, Fifo) || W <- Workers],
         [py_test:end_worker(W) || W <- Workers],
         {ok, 4.0} = py:call(p, math, sqrt, [16]),
         ok = py_context_router:stop_pool(p)
     end || N <- [1, 2, 3]].

modules_of(Pool) ->
    {ok, Id} = py:call(Pool, builtins, eval, [<<"id(__import__('sys').modules)">>, #{}]),
    Id.

a_pool_of_sub_interpreters_spreads_its_processes(_Config) ->
    py:subinterp_supported() orelse throw({skip, "this variant has no sub-interpreters"}),
    {ok, _} = py_context_router:start_pool(p, 3, owngil),
    Workers = [py_test:worker() || _ <- lists:seq(1, 9)],
    Places = [py_test:run(W, fun() -> modules_of(p) end) || W <- Workers],
    Interpreters = lists:usort(Places),
    ?assertEqual(3, length(Interpreters)),
    ?assertEqual([3, 3, 3], [length([P || P <- Places, P =:= I]) || I <- Interpreters]),
    %% None is that of the default pool or the main one, and a process stays with its own.
    [false = lists:member(modules_of(Other), Interpreters) || Other <- [default, io]],
    ?assertEqual(Places, [py_test:run(W, fun() -> modules_of(p) end) || W <- Workers]),
    [py_test:end_worker(W) || W <- Workers],
    ok = py_context_router:stop_pool(p),
    %% In the shared mode it is the main one.
    {ok, _} = py_context_router:start_pool(q, 2, worker),
    ?assertEqual(modules_of(io), modules_of(q)).

%% Two at a time, which meet before each round: both look for the least loaded one at once.
processes_that_come_at_once_go_to_different_interpreters(_Config) ->
    py_test:shared_mode() andalso throw({skip, "all processes are bound to the one group there is"}),
    py_test:restart(#{num_subinterp_workers => 8}),
    Rounds = lists:seq(1, py_test:fewer(1000)),
    Come = atomics:new(1, []),
    Bind = fun() -> exit([begin meet_at(Come, 2 * Round), py_nif:bind() end || Round <- Rounds]) end,
    Binders = [spawn_opt(Bind, [monitor, {scheduler, S}]) || S <- [1, erlang:system_info(schedulers_online)]],
    [Some, Others] = [receive {'DOWN', Monitor, process, Pid, Namespaces} -> Namespaces end || {Pid, Monitor} <- Binders],
    %% Calls make interpreters busy, so that all are bound before any.
    Places = [{place(One), place(Other)} || {One, Other} <- lists:zip(Some, Others)],
    ?assertEqual([], [Same || {Same, Same} <- Places]),
    ?assertEqual(8, length(lists:usort([Place || {Place, _} <- Places]))).

meet_at(Come, N) ->
    _ = atomics:add(Come, 1, 1),
    wait_at(Come, N).

wait_at(Come, N) ->
    case atomics:get(Come, 1) >= N of
        true -> ok;
        false -> wait_at(Come, N)
    end.

place(Namespace) ->
    ok = py_request:bind(Namespace),
    {ok, Place} = py:eval(<<"id(__import__('sys').modules)">>),
    ok = py_request:unbind(),
    Place.

own_interpreters_where_there_are_none_are_an_error(_Config) ->
    py:subinterp_supported() andalso throw({skip, "this variant has sub-interpreters"}),
    {error, {_, Text}} = py_context_router:start_pool(p, 2, owngil),
    ?assertMatch({match, _}, re:run(Text, "sub-?interpreter", [caseless])),
    ?assertNot(py_context_router:pool_started(p)).

a_process_keeps_its_namespace_in_a_pool(_Config) ->
    ok = start_pool(p, 2),
    ok = py:exec(<<"x = 'default'\ndef where(): return x">>),
    {ok, none} = py:call(p, builtins, exec, [<<"x = 'p'\ndef where(): return x">>]),
    [{ok, <<"p">>} = py:call(p, '__main__', where, []) || _ <- lists:seq(1, 20)],
    %% And nobody else has it.
    {error, {'AttributeError', _}} = py_test:in_process(fun() -> py:call(p, '__main__', where, []) end).

%% Of the main interpreter in the shared modes; that of io is another than the default
%% pool's in subinterp mode.
a_namespace_is_shared_by_the_pools_of_an_interpreter(_Config) ->
    ok = py:exec(<<"def mine(): return 1">>),
    case py_test:shared_mode() of
        true -> {ok, 1} = py:call(io, '__main__', mine, []);
        false -> {error, {'AttributeError', _}} = py:call(io, '__main__', mine, [])
    end.

a_nested_call_into_its_own_full_pool_goes_through(_Config) ->
    ok = start_pool(p, 1),
    ok = py:register_function(f, fun([]) -> {ok, V} = py:call(p, math, sqrt, [16], #{}), V end),
    [{ok, 4.0} = py:call(p, erlang, call, [f], #{}) || _ <- lists:seq(1, 100)],
    [] = py_test:messages().

a_nested_call_into_another_pool_runs_there(_Config) ->
    [P, Q] = start_pools_of_one([p, q]),
    ok = py:register_function(f, fun([]) ->
                                         {ok, There} = py:call(q, '_thread', get_ident, []),
                                         {ok, Here} = py:call('_thread', get_ident, []),
                                         {There, Here}
                                 end),
    %% Without a pool it is on the stack of the outer one, if that is the interpreter.
    {ok, {Q, Here}} = py:call(p, erlang, call, [f]),
    ?assert(Here =:= P orelse not py_test:shared_mode()).

%%% Their life

pools_start_and_stop_twenty_times_and_leave_no_thread(_Config) ->
    Cycle = fun(N) ->
                    ok = start_pool(p, 1 + N rem 4),
                    Work = fun() -> py:call(p, math, sqrt, [N * N]) end,
                    Root = float(N),
                    ?assertEqual(lists:duplicate(8, {ok, Root}), py_test:at_once(lists:duplicate(8, Work))),
                    ok = py_context_router:stop_pool(p)
            end,
    Cycle(1),
    Groups = length(py_test:groups()),
    Threads = py_test:thread_names(),
    [Cycle(N) || N <- lists:seq(1, 20)],
    py_test:await_threads(Threads),
    py_test:wait_until(fun() -> length(py_test:groups()) =< Groups end).

a_name_can_be_used_again(_Config) ->
    [First] = start_pools_of_one([p]),
    {ok, none} = py:call(p, builtins, exec, [<<"x = 1">>]),
    ok = py_context_router:stop_pool(p),
    ?assertNot(py_context_router:pool_started(p)),
    {error, {_, _}} = py:call(p, math, sqrt, [16]),
    ok = start_pool(p, 2),
    ?assert(py_context_router:pool_started(p)),
    {ok, 4.0} = py:call(p, math, sqrt, [16]),
    ok = py_context_router:stop_pool(p),
    ok = start_pool(p, 1),
    {ok, 4.0} = py:call(p, math, sqrt, [16]),
    true = is_integer(First).

a_name_that_is_taken_is_an_error(_Config) ->
    ok = start_pool(p, 1),
    [begin
         {error, {_, Text}} = py_context_router:start_pool(Name, 2),
         ?assertMatch({_, _}, binary:match(Text, atom_to_binary(Name)))
     end || Name <- [p, default, io, inline]],
    {ok, 4.0} = py:call(p, math, sqrt, [16]),
    %% Nor can those that are always there be stopped.
    [{error, {_, _}} = py_context_router:stop_pool(Name) || Name <- [default, io, inline]],
    [{ok, 4.0} = py:call(Pool, math, sqrt, [16]) || Pool <- [default, io]].

wrong_names_and_sizes_are_errors(_Config) ->
    [?assertMatch({error, {_, _}}, py_context_router:start_pool(p, Size), Size)
     || Size <- [0, -1, 1.5, many, "2", 1 bsl 40]],
    [?assertMatch({error, {_, _}}, py_context_router:start_pool(Name, 1), Name)
     || Name <- ["p", <<"p">>, 1, {p}, undefined]],
    [?assertMatch({error, {_, _}}, py_context_router:start_pool(p, 1, Mode), Mode)
     || Mode <- [fast, "worker", 1]],
    ?assertNot(py_context_router:pool_started(p)).

calls_of_a_pool_that_is_stopped_are_cancelled(Config) ->
    Fifo = py_test:block(Config),
    ok = start_pool(p, 1),
    Calls = [fun() -> py:call(p, os, open, [Fifo, 0]) end,
             fun() -> py:call(p, math, sqrt, [16]) end,
             fun() -> py:call(p, builtins, exec, [<<"while True: pass">>]) end],
    Workers = [py_test:worker() || _ <- Calls],
    [begin
         py_test:start(W, Call),
         py_test:wait_until(fun() -> py_semaphore:current() =:= N end)
     end || {N, W, Call} <- lists:zip3(lists:seq(1, length(Calls)), Workers, Calls)],
    ok = py_context_router:stop_pool(p),
    [?assertEqual({error, cancelled}, py_test:answer(W)) || W <- Workers],
    [[] = py_test:run(W, fun py_test:messages/0) || W <- Workers],
    py_test:wait_until(fun() -> py_semaphore:current() =:= 0 end),
    ok = py_test:release(Fifo),
    %% Whatever it was doing when it was stopped, the name is free.
    ok = start_pool(p, 1),
    {ok, 4.0} = py:call(p, math, sqrt, [16]),
    [py_test:end_worker(W) || W <- Workers].

a_pool_may_be_stopped_while_it_is_looked_for(_Config) ->
    Done = atomics:new(1, []),
    Call = fun() -> call_until(Done) end,
    Workers = [py_test:worker() || _ <- lists:seq(1, 2)],
    [py_test:start(W, Call) || W <- Workers],
    [begin
         ok = start_pool(p, 1 + N rem 3),
         py_test:wait_until(fun() -> {ok, 2} =:= py:call(p, builtins, abs, [-2]) end),
         ok = py_context_router:stop_pool(p)
     end || N <- lists:seq(1, py_test:fewer(100))],
    ok = atomics:put(Done, 1, 1),
    [?assertEqual(done, py_test:answer(W)) || W <- Workers],
    [py_test:end_worker(W) || W <- Workers].

%% Whatever the answers, calls return.
call_until(Done) ->
    case py:call(p, builtins, abs, [-1]) of
        {ok, 1} -> ok;
        {error, _} -> ok
    end,
    case atomics:get(Done, 1) of
        0 -> call_until(Done);
        1 -> done
    end.

routes_to_a_pool_go_with_it(_Config) ->
    ok = start_pool(p, 1),
    ok = py:register_pool(p, math),
    ok = py:register_pool(p, {math, sqrt}),
    ok = py:register_pool(io, json),
    ok = py_context_router:stop_pool(p),
    {ok, 4.0} = py:call(math, sqrt, [16]),
    ?assertEqual([{json, io}], py_context_router:list_pool_registrations()).

pools_go_with_a_stop_of_the_application(_Config) ->
    ok = start_pool(p, 2),
    {ok, 4.0} = py:call(p, math, sqrt, [16]),
    ok = py:register_pool(p, math),
    ok = py:register_pool(io, json),
    py_test:restart(#{}),
    ?assertNot(py_context_router:pool_started(p)),
    [] = py_context_router:list_pool_registrations(),
    {error, {_, _}} = py:call(p, math, sqrt, [16]),
    {ok, 4.0} = py:call(math, sqrt, [16]),
    [?assert(py_context_router:pool_started(Pool)) || Pool <- [default, io]],
    meet(io, 10),
    ok = start_pool(p, 1),
    {ok, 4.0} = py:call(p, math, sqrt, [16]).

a_pool_that_starts_while_others_work_disturbs_nobody(_Config) ->
    Work = fun() -> [{ok, 4.0} = py:call(math, sqrt, [16]) || _ <- lists:seq(1, py_test:fewer(3000))], done end,
    Pools = fun() ->
                    [begin
                         ok = start_pool(p, 2),
                         {ok, 5.0} = py:call(p, math, sqrt, [25]),
                         ok = py_context_router:stop_pool(p)
                     end || _ <- lists:seq(1, 10)],
                    done
            end,
    ?assertEqual(lists:duplicate(6, done), py_test:at_once([Pools | lists:duplicate(5, Work)])).

%% One after the other; too many within seconds would rightly end the application.
crashes_of_our_own_processes_are_survived(_Config) ->
    [begin
         py_test:restart(#{}),
         ok = start_pool(p, 1),
         ok = py:register_pool(io, json),
         {ok, _} = py:start_contexts(#{contexts => 2}),
         Pid = whereis(Name),
         exit(Pid, kill),
         py_test:wait_until(fun() -> is_pid(whereis(Name)) andalso whereis(Name) =/= Pid end),
         py_test:wait_until(fun() -> is_pid(whereis(py_context_router)) end),
         Works = [fun() -> py:call(math, sqrt, [16]) end,
                  fun() -> py:call(io, math, sqrt, [16]) end,
                  fun() -> py:call(p, math, sqrt, [16]) end,
                  fun() -> py:await(py:spawn_call(math, sqrt, [16])) end,
                  fun() -> py_context:call(py:context(), math, sqrt, [16]) end],
         [py_test:wait_until(fun() -> Work() =:= {ok, 4.0} end) || Work <- Works],
         ?assertEqual({Name, true}, {Name, py_context_router:pool_started(p)}),
         ok = py_context_router:stop_pool(p)
     end || Name <- [py_events, py_async, py_sender, py_logger, py_tracer, py_runtime, py_setup, py_contexts, py_context_sup,
                     py_context_router]].

%%% py:parallel/1

parallel_answers_in_the_order_of_the_calls(_Config) ->
    {ok, Results} = py:parallel([{builtins, abs, [-N]} || N <- lists:seq(1, 100)]),
    ?assertEqual([{ok, N} || N <- lists:seq(1, 100)], Results),
    %% Also when they end in another one.
    {ok, Sleeps} = py:parallel([{time, sleep, [S]} || S <- [0.05, 0.0, 0.02]] ++ [{math, sqrt, [16]}]),
    ?assertEqual([{ok, none}, {ok, none}, {ok, none}, {ok, 4.0}], Sleeps),
    {ok, [{ok, 4.0}, {ok, 3}]} = py:parallel([{<<"math">>, "sqrt", [16]}, {"builtins", <<"len">>, [[1, 2, 3]]}]),
    [] = py_test:messages().

parallel_has_errors_inside(_Config) ->
    {ok, [{ok, 4.0}, {error, {'ValueError', _}}, {error, {'ModuleNotFoundError', _}},
          {error, {conversion, _, _}}, {ok, 5.0}]} =
        py:parallel([{math, sqrt, [16]}, {math, sqrt, [-1]}, {no_such_module, f, []},
                     {builtins, chr, [16#D800]}, {math, sqrt, [25]}]),
    [] = py_test:messages().

parallel_of_nothing_is_nothing(_Config) ->
    {ok, []} = py:parallel([]).

parallel_of_what_is_no_call_is_an_error(_Config) ->
    [?assertMatch({error, {_, _}}, py:parallel(What), What)
     || What <- [x, #{}, {math, sqrt, [16]}, [x], [{math, sqrt}], [{math, sqrt, [16]} | x]]],
    %% Of one call among others it is told in its place, or of all.
    case py:parallel([{math, sqrt, [16]}, {math, sqrt, 16}]) of
        {ok, [{ok, 4.0}, {error, {'TypeError', _}}]} -> ok;
        {error, {'TypeError', _}} -> ok
    end,
    0 = py_semaphore:current(),
    [] = py_test:messages().

%% Each waits in C until all executors do, and says where it was.  A module, as functions
%% of the caller's namespace are only where that is.
parallel_runs_on_all_executors_at_once(Config) ->
    N = py:num_executors(),
    Fifo = py_test:block(Config),
    Dir = filename:join(proplists:get_value(priv_dir, Config), "parallel"),
    ok = filelib:ensure_dir(filename:join(Dir, "x")),
    ok = file:write_file(filename:join(Dir, "parallel_where.py"),
                         "import os, sys, _thread\n"
                         "def where(fifo):\n"
                         "    os.close(os.open(fifo, 0))\n"
                         "    return id(sys.modules), _thread.get_ident()\n"),
    ok = py_import:add_path(Dir),
    Caller = py_test:worker(),
    py_test:start(Caller, fun() -> py:parallel(lists:duplicate(N, {parallel_where, where, [Fifo]})) end),
    py_test:wait_until(fun() -> py_semaphore:current() =:= N end),
    py_test:await_at_work(default, N),
    {ok, Results} = py_test:answer_after_release(Caller, Fifo),
    Places = [Place || {ok, Place} <- Results],
    ?assertEqual(N, length(lists:usort([Thread || {_, Thread} <- Places]))),
    ?assertEqual(case py_test:shared_mode() of true -> 1; false -> N end,
                 length(lists:usort([Modules || {Modules, _} <- Places]))),
    py_test:end_worker(Caller),
    ok = py_import:clear_paths().

parallel_calls_may_call_back(_Config) ->
    ok = py:register_function(double, fun([X]) -> 2 * X end),
    {ok, Results} = py:parallel([{erlang, call, [double, N]} || N <- lists:seq(1, 50)]),
    ?assertEqual([{ok, 2 * N} || N <- lists:seq(1, 50)], Results),
    ok = py:register_function(fail, fun([X]) -> error({no, X}) end),
    {ok, [{error, {'Error', Text}}, {ok, 2}]} = py:parallel([{erlang, call, [fail, 1]}, {erlang, call, [double, 1]}]),
    ?assertMatch({_, _}, binary:match(Text, <<"no">>)),
    [] = py_test:messages().

parallel_may_be_called_from_a_callback(_Config) ->
    ok = py:register_function(f, fun([N]) ->
                                         {ok, Results} = py:parallel([{builtins, abs, [-I]} || I <- lists:seq(1, N)]),
                                         [V || {ok, V} <- Results]
                                 end),
    Expected = {ok, lists:seq(1, 20)},
    ?assertEqual(Expected, py:call(erlang, call, [f, 20], #{}, 60000)),
    %% From as many as there are executors, and in a parallel.
    Many = 3 * py:num_executors(),
    ?assertEqual(lists:duplicate(Many, Expected),
                 py_test:at_once(lists:duplicate(Many, fun() -> py:call(erlang, call, [f, 20], #{}, 60000) end))),
    ?assertEqual({ok, lists:duplicate(Many, Expected)}, py:parallel(lists:duplicate(Many, {erlang, call, [f, 20]}))),
    [] = py_test:messages().

parallel_of_thousands(_Config) ->
    N = py_test:fewer(20000),
    ok = py_semaphore:set_max_concurrent(7),
    {ok, Results} = py:parallel([{builtins, abs, [-I]} || I <- lists:seq(1, N)]),
    ?assertEqual([{ok, I} || I <- lists:seq(1, N)], Results),
    ok = py_semaphore:set_max_concurrent(1000),
    py_test:wait_until(fun() -> py_semaphore:current() =:= 0 end).

a_killed_caller_of_parallel_leaves_nothing(Config) ->
    Fifo = py_test:block(Config),
    N = 2 * py:num_executors(),
    W = py_test:worker(),
    py_test:start(W, fun() -> py:parallel(lists:duplicate(N, {os, open, [Fifo, 0]})) end),
    py_test:wait_until(fun() -> py_semaphore:current() =:= N end),
    py_test:kill(W),
    py_test:wait_until(fun() -> py_semaphore:current() =:= 0 end),
    py_test:let_all_go(Fifo),
    Count = 4 * py:num_executors(),
    ?assertEqual(lists:duplicate(Count, {ok, 4.0}),
                 py_test:at_once(lists:duplicate(Count, fun() -> py:call(math, sqrt, [16], #{}, 60000) end))).
