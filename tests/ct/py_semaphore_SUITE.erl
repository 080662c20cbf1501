%% SPDX-License-Identifier: Apache-2.0
%%
%% Admission: how many requests are under way at once, who is next, and that a slot comes
%% back whatever becomes of the one who had it.
-module(py_semaphore_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([the_limit_is_twice_the_schedulers_and_one_unless_configured/1,
         the_environment_sets_the_limit/1,
         current_counts_the_requests_under_way/1,
         every_entry_point_takes_a_slot/1,
         no_more_requests_run_at_once_than_the_limit/1,
         wrong_arguments_are_errors/1]).
-export([waiters_are_served_first_come_first_served/1,
         fifty_callers_begin_in_the_order_of_their_calls/1,
         fifty_callers_of_20_ms_get_the_throughput_of_the_executors/1,
         a_full_house_turns_exactly_the_surplus_away/1,
         every_entry_point_is_turned_away_when_full/1,
         a_waiter_is_turned_away_after_the_acquire_timeout/1,
         a_call_can_time_out_in_the_line/1,
         waiters_are_ended_by_a_stop/1]).
-export([a_higher_limit_lets_waiters_in_at_once/1,
         a_lower_limit_lets_nobody_in_until_below/1,
         a_limit_that_changes_all_the_time_loses_nobody/1]).
-export([nested_calls_ride_on_the_slot_of_the_outer_call/1,
         nested_calls_to_other_pools_and_contexts_wait_for_no_slot/1,
         nested_calls_of_all_slots_at_once_do_not_block_each_other/1]).
-export([an_acquired_slot_is_held_until_released/1,
         calls_of_a_holder_ride_on_its_slot/1,
         an_acquire_waits_for_its_turn/1,
         an_acquire_gives_up_after_its_timeout/1,
         a_process_may_hold_several_slots/1,
         a_release_without_a_slot_is_an_error/1]).
-export([a_slot_comes_back_however_a_request_ends/1,
         a_killed_caller_gives_its_slot_back/1,
         a_killed_holder_gives_its_slots_back/1,
         a_killed_waiter_does_not_block_the_line/1,
         killed_callers_leave_no_slot_taken/1]).
-export([two_hundred_thousand_calls_of_a_hundred_processes_are_right/1]).

-define(OVERLOADED(Current, Max), {error, {overloaded, Current, Max}}).

suite() -> [{timetrap, {minutes, 5}}].

all() -> py_test:cases(?MODULE).

init_per_suite(Config) -> py_test:start(Config).

end_per_suite(Config) -> py_test:stop(Config).

init_per_testcase(_Case, Config) ->
    ok = py_test:register_hold(),
    ok = py_semaphore:set_max_concurrent(1000),
    Config.

end_per_testcase(_Case, _Config) ->
    py_test:restore().

limit(N) ->
    ok = py_semaphore:set_max_concurrent(N).

%% The slots are all back; a request that was killed or timed out gives its back in a moment.
all_slots_are_back() ->
    py_test:wait_until(fun() -> py_semaphore:current() =:= 0 end),
    0 = py_test:waiting_in_line(),
    ok.

%% Each starts when those before it are in the line or have a slot.
holders_in_order(N) ->
    [begin
         Before = queue_length(),
         W = py_test:holder(),
         py_test:wait_until(fun() -> queue_length() =:= Before + 1 end),
         W
     end || _ <- lists:seq(1, N)].

queue_length() ->
    py_semaphore:current() + py_test:waiting_in_line().

wait_for_line(N) ->
    py_test:wait_until(fun() -> py_test:waiting_in_line() =:= N end).

%%% The limit

the_limit_is_twice_the_schedulers_and_one_unless_configured(_Config) ->
    py_test:restart(#{max_concurrent => default}),
    ?assertEqual(2 * erlang:system_info(schedulers) + 1, py_semaphore:max_concurrent()),
    ?assertEqual(0, py_semaphore:current()).

the_environment_sets_the_limit(_Config) ->
    py_test:restart(#{max_concurrent => 3}),
    3 = py_semaphore:max_concurrent(),
    limit(4),
    4 = py_semaphore:max_concurrent(),
    %% What was set goes with a stop; what is configured stays.
    ok = application:stop(erlang_python),
    ok = application:start(erlang_python),
    3 = py_semaphore:max_concurrent().

current_counts_the_requests_under_way(_Config) ->
    Counts = fun(Workers) ->
                     lists:foldl(fun(_, Held) -> W = py_test:held(), [{py_semaphore:current(), W} | Held] end,
                                 [], lists:seq(1, Workers))
             end,
    Held = Counts(5),
    ?assertEqual([5, 4, 3, 2, 1], [N || {N, _} <- Held]),
    [begin
         {ok, held} = py_test:let_go(W),
         py_test:wait_until(fun() -> py_semaphore:current() =:= N - 1 end)
     end || {N, W} <- Held],
    all_slots_are_back().

%% Each kind of request.  But for the last one, whose callbacks another process runs, they hold.
entry_points(Context) ->
    Code = <<"__import__('erlang').call('hold')">>,
    [{call, fun() -> py:call(erlang, call, [hold]) end},
     {pool, fun() -> py:call(io, erlang, call, [hold]) end},
     {eval, fun() -> py:eval(Code) end},
     {exec, fun() -> py:exec(["held = ", Code]) end},
     {context_call, fun() -> py_context:call(Context, erlang, call, [hold]) end},
     {context_eval, fun() -> py_context:eval(Context, Code) end},
     {context_exec, fun() -> py_context:exec(Context, Code) end},
     {parallel, fun() -> {ok, [R]} = py:parallel([{erlang, call, [hold]}]), R end},
     {spawn_call, fun() -> py:await(py:spawn_call(math, sqrt, [16])) end}].

every_entry_point_takes_a_slot(_Config) ->
    {ok, Context} = py_context:new(#{}),
    Before = py_semaphore:current(),
    [begin
         W = py_test:await_held(py_test:holder(Call)),
         ?assertEqual({Name, Before + 1}, {Name, py_semaphore:current()}),
         Answer = py_test:let_go(W),
         ?assert(lists:member(Answer, [ok, {ok, held}]) orelse {Name, Answer}),
         all_slots_are_back()
     end || {Name, Call} <- entry_points(Context),
            Name =/= spawn_call],
    %% Those whose callbacks another process runs.
    Test = self(),
    ok = py:register_function(hold_elsewhere, fun([]) -> Test ! {elsewhere, self()}, receive go_on -> held end end),
    Ref = py:spawn_call(erlang, call, [hold_elsewhere]),
    receive {elsewhere, Pid} -> ok end,
    ?assertEqual(Before + 1, py_semaphore:current()),
    Pid ! go_on,
    {ok, held} = py:await(Ref),
    all_slots_are_back(),
    ok = py:cast(erlang, call, [hold_elsewhere]),
    receive {elsewhere, Cast} -> ok end,
    ?assertEqual(Before + 1, py_semaphore:current()),
    Cast ! go_on,
    all_slots_are_back(),
    ok = py_context:destroy(Context).

%% Counted in Erlang, by callbacks at the begin and the end of the Python function.
no_more_requests_run_at_once_than_the_limit(_Config) ->
    limit(3),
    Running = counters:new(1, [atomics]),
    Test = self(),
    ok = py:register_function(enter, fun([]) ->
                                             ok = counters:add(Running, 1, 1),
                                             Test ! {running, counters:get(Running, 1)},
                                             none
                                     end),
    ok = py:register_function(leave, fun([]) -> ok = counters:sub(Running, 1, 1), none end),
    Work = fun() ->
                   ok = py:exec(<<"import erlang\ndef f():\n    erlang.call('enter')\n    erlang.call('leave')\n">>),
                   [{ok, none} = py:call('__main__', f, []) || _ <- lists:seq(1, 20)],
                   py_test:messages()
           end,
    ?assertEqual(lists:duplicate(30, []), py_test:at_once(lists:duplicate(30, Work))),
    Seen = [receive {running, N} -> N after 0 -> error(too_few) end || _ <- lists:seq(1, 30 * 20)],
    ?assert(lists:max(Seen) =< 3 orelse lists:max(Seen)),
    [] = py_test:messages(),
    all_slots_are_back().

wrong_arguments_are_errors(_Config) ->
    Error = fun(Fun) ->
                    try Fun() of
                        {error, {Type, Text}} when is_atom(Type), is_binary(Text) -> ok;
                        Other -> {returned, Other}
                    catch
                        error:Reason when Reason =:= badarg; Reason =:= function_clause -> {raised, Reason}
                    end
            end,
    Limit = py_semaphore:max_concurrent(),
    [?assertEqual({N, ok}, {N, Error(fun() -> py_semaphore:set_max_concurrent(N) end)})
     || N <- [0, -1, 1.5, infinity, "5", 1 bsl 64]],
    [?assertEqual({T, ok}, {T, Error(fun() -> py_semaphore:acquire(T) end)})
     || T <- [-1, 1.5, never, "5", 1 bsl 64]],
    ?assertEqual(Limit, py_semaphore:max_concurrent()),
    all_slots_are_back().

%%% The line

waiters_are_served_first_come_first_served(_Config) ->
    limit(1),
    Holders = [First | Waiters] = holders_in_order(51),
    wait_for_line(50),
    _ = py_test:await_held(First),
    lists:foldl(fun(Next, Previous) ->
                        %% Nobody has begun but the one whose turn it is.
                        py_test:none_held(),
                        {ok, held} = py_test:let_go(Previous),
                        py_test:await_held(Next)
                end, First, Waiters),
    {ok, held} = py_test:let_go(lists:last(Holders)),
    all_slots_are_back().

%% The ideal is that of the executors that can serve: a limit above their number does not
%% add any.
fifty_callers_of_20_ms_get_the_throughput_of_the_executors(_Config) ->
    limit(5),
    %% What each executor has to do, in one call, at about the same moment.
    AtOnce = min(5, py:num_executors()),
    Ideal = fun() -> py:eval(<<"[__import__('time').sleep(0.02) for _ in range(n)]">>, #{n => (50 + AtOnce - 1) div AtOnce}) end,
    Try = fun() ->
                  Workers = workers_with_sleep(50),
                  {Time, _} = py_test:milliseconds(fun() ->
                                                           [start_sleep(W) || W <- Workers],
                                                           [{ok, _} = py_test:answer(W) || W <- Workers]
                                                   end),
                  [py_test:end_worker(W) || W <- Workers],
                  {Best, {ok, _}} = py_test:milliseconds(Ideal),
                  Time / Best
          end,
    py_test:within(1.1, 30, Try),
    all_slots_are_back().

%% Up to five are let in at once, and which of those begins first is not said.  Who begins was
%% let in after all that called before, of whom at most four others have not ended: so no
%% more than these begin later, however long a thread is kept from running.  That holds for
%% those of an interpreter: a slot is not kept for one that is busy, if another is not.
fifty_callers_begin_in_the_order_of_their_calls(_Config) ->
    limit(5),
    Workers = workers_with_sleep(50),
    Held = [py_test:held() || _ <- lists:seq(1, 5)],
    [begin
         start_sleep(W),
         wait_for_line(N)
     end || {N, W} <- lists:zip(lists:seq(1, 50), Workers)],
    [{ok, held} = py_test:let_go(H) || H <- Held],
    Naps = [begin {ok, Nap} = py_test:answer(W), Nap end || W <- Workers],
    [?assertMatch({_, Overtaken} when length(Overtaken) =< 4,
                  {Start, [Earlier || {Earlier, I} <- lists:sublist(Naps, N - 1), I =:= Interpreter, Earlier > Start]})
     || {N, {Start, Interpreter}} <- lists:zip(lists:seq(1, 50), Naps)],
    [py_test:end_worker(W) || W <- Workers],
    all_slots_are_back().

%% Of 20 ms; says when it began, by a clock that all interpreters read, and in which of them.
workers_with_sleep(N) ->
    Function = <<"import sys, time\n"
                 "def nap():\n"
                 "    start = time.monotonic()\n"
                 "    time.sleep(0.02)\n"
                 "    return start, id(sys.modules)\n">>,
    [begin
         W = py_test:worker(),
         ok = py_test:run(W, fun() -> py:exec(Function) end),
         W
     end || _ <- lists:seq(1, N)].

start_sleep(Worker) ->
    py_test:start(Worker, fun() -> py:call('__main__', nap, []) end).

a_full_house_turns_exactly_the_surplus_away(_Config) ->
    py_test:restart(#{max_concurrent => 5, acquire_timeout => 0}),
    ok = py_test:register_hold(),
    Holders = [py_test:holder() || _ <- lists:seq(1, 50)],
    Turned = fun Turned(N, Away) when N =:= 45 -> Away;
                 Turned(N, Away) -> receive {answer, Pid, Answer} -> Turned(N + 1, [{Pid, Answer} | Away]) end
             end,
    Away = Turned(0, []),
    ?assertEqual([?OVERLOADED(5, 5)], lists:usort([Answer || {_, Answer} <- Away])),
    Rest = [W || {Pid, _} = W <- Holders, not lists:keymember(Pid, 1, Away)],
    5 = length(Rest),
    5 = py_semaphore:current(),
    [{ok, held} = py_test:let_go(py_test:await_held(W)) || W <- Rest],
    [py_test:end_worker(W) || {Pid, _} = W <- Holders, lists:keymember(Pid, 1, Away)],
    all_slots_are_back(),
    {ok, 4.0} = py:call(math, sqrt, [16]),
    [] = py_test:messages().

every_entry_point_is_turned_away_when_full(_Config) ->
    py_test:restart(#{max_concurrent => 1, acquire_timeout => 0}),
    ok = py_test:register_hold(),
    {ok, Context} = py_context:new(#{}),
    Log = py_test:log_start(),
    Held = py_test:held(),
    [?assertEqual({Name, ?OVERLOADED(1, 1)}, {Name, Call()}) || {Name, Call} <- entry_points(Context)],
    %% Nobody awaits a cast, so its failure is logged.
    ok = py:cast(math, sqrt, [16]),
    _ = py_test:log_await(Log, {warning, "sqrt.*overloaded"}),
    _ = py_test:log_stop(Log),
    1 = py_semaphore:current(),
    {ok, held} = py_test:let_go(Held),
    all_slots_are_back(),
    [] = py_test:messages().

a_waiter_is_turned_away_after_the_acquire_timeout(_Config) ->
    py_test:restart(#{max_concurrent => 1, acquire_timeout => 60}),
    ok = py_test:register_hold(),
    Held = py_test:held(),
    Try = fun() ->
                  {Time, ?OVERLOADED(1, 1)} = py_test:milliseconds(fun() -> py:call(math, sqrt, [16]) end),
                  ?assert(Time >= 59 orelse Time),
                  Time
          end,
    py_test:within(80, 20, Try),
    0 = py_test:waiting_in_line(),
    %% Also those that nobody waits for in the meantime.
    Ref = py:spawn_call(math, sqrt, [16]),
    ?OVERLOADED(1, 1) = py:await(Ref),
    {ok, [?OVERLOADED(1, 1), ?OVERLOADED(1, 1)]} = py:parallel([{math, sqrt, [16]}, {math, sqrt, [25]}]),
    0 = py_test:waiting_in_line(),
    {ok, held} = py_test:let_go(Held),
    {ok, 4.0} = py:call(math, sqrt, [16]),
    [] = py_test:messages().

%% Whichever of the two is shorter counts.
a_call_can_time_out_in_the_line(_Config) ->
    limit(1),
    Held = py_test:held(),
    [{error, timeout} = py:call(math, sqrt, [16], #{}, T) || T <- [0, 1, 20]],
    {error, timeout} = py:eval(<<"1">>, #{}, 20),
    0 = py_test:waiting_in_line(),
    1 = py_semaphore:current(),
    {ok, held} = py_test:let_go(Held),
    {ok, 4.0} = py:call(math, sqrt, [16]),
    all_slots_are_back(),
    [] = py_test:messages().

waiters_are_ended_by_a_stop(_Config) ->
    limit(2),
    Held = [py_test:held(), py_test:held()],
    Waiters = [py_test:worker() || _ <- lists:seq(1, 20)],
    [py_test:start(W, fun() -> {py:call(math, sqrt, [16]), py_test:messages()} end) || W <- Waiters],
    wait_for_line(20),
    ok = application:stop(erlang_python),
    [begin
         {{error, Reason}, []} = py_test:answer(W),
         ?assert(lists:member(Reason, [cancelled, not_running]) orelse Reason)
     end || W <- Waiters],
    ok = application:start(erlang_python),
    0 = py_semaphore:current(),
    0 = py_test:waiting_in_line(),
    [begin
         {ok, 4.0} = py_test:run(W, fun() -> py:call(math, sqrt, [16]) end),
         [] = py_test:run(W, fun py_test:messages/0),
         py_test:end_worker(W)
     end || W <- Waiters],
    [begin
         {error, cancelled} = py_test:let_go(H)
     end || H <- Held],
    all_slots_are_back().

%%% Another limit

a_higher_limit_lets_waiters_in_at_once(_Config) ->
    limit(1),
    [First | Waiters] = holders_in_order(11),
    _ = py_test:await_held(First),
    limit(4),
    %% Between interpreters the order is exact only where a slot is the last one.
    Held = [receive {held, Pid} -> Pid after 60000 -> error({not_held, py_nif:slots()}) end || _ <- [1, 2, 3]],
    {Next, Rest} = lists:partition(fun({Pid, _}) -> lists:member(Pid, Held) end, Waiters),
    py_test:shared_mode() andalso ?assertEqual(lists:sublist(Waiters, 3), Next),
    ?assertEqual({4, 4, 7}, py_nif:slots()),
    py_test:none_held(),
    limit(100),
    [py_test:await_held(W) || W <- Rest],
    ?assertEqual({11, 100, 0}, py_nif:slots()),
    [{ok, held} = py_test:let_go(W) || W <- [First | Waiters]],
    all_slots_are_back().

a_lower_limit_lets_nobody_in_until_below(_Config) ->
    limit(5),
    Held = [py_test:held() || _ <- lists:seq(1, 5)],
    [Next | Others] = holders_in_order(3),
    limit(2),
    2 = py_semaphore:max_concurrent(),
    {First, [Fourth, Fifth]} = lists:split(3, Held),
    [begin
         {ok, held} = py_test:let_go(W),
         py_test:wait_until(fun() -> py_semaphore:current() =:= Left end),
         ?assertEqual({Left, 2, 3}, py_nif:slots())
     end || {Left, W} <- lists:zip([4, 3, 2], First)],
    py_test:none_held(),
    {ok, held} = py_test:let_go(Fourth),
    _ = py_test:await_held(Next),
    ?assertEqual({2, 2, 2}, py_nif:slots()),
    [{ok, held} = py_test:let_go(W) || W <- [Fifth, Next]],
    [{ok, held} = py_test:let_go(py_test:await_held(W)) || W <- Others],
    all_slots_are_back().

a_limit_that_changes_all_the_time_loses_nobody(_Config) ->
    Changer = py_test:worker(),
    py_test:start(Changer, fun Change() ->
                                   limit(rand:uniform(8)),
                                   receive enough -> done after 0 -> Change() end
                           end),
    N = py_test:fewer(1000),
    Work = fun() -> [{ok, 4.0} = py:call(math, sqrt, [16]) || _ <- lists:seq(1, N)], py_test:messages() end,
    ?assertEqual(lists:duplicate(20, []), py_test:at_once(lists:duplicate(20, Work))),
    element(1, Changer) ! enough,
    done = py_test:answer(Changer),
    py_test:end_worker(Changer),
    all_slots_are_back().

%%% Nesting

nested_calls_ride_on_the_slot_of_the_outer_call(_Config) ->
    limit(1),
    ok = py:register_function(f, fun([0]) -> py_semaphore:current();
                                    ([N]) -> {ok, V} = py:call(erlang, call, [f, N - 1], #{}, 60000), V
                                 end),
    {ok, 1} = py:call(erlang, call, [f, 5], #{}, 60000),
    %% Also with others in the line, who come first where a slot is needed.
    Test = self(),
    ok = py:register_function(g, fun([]) ->
                                         Test ! {in_g, self()},
                                         receive go_on -> ok end,
                                         {ok, V} = py:call(erlang, call, [f, 3], #{}, 60000),
                                         V
                                 end),
    Outer = py_test:worker(),
    py_test:start(Outer, fun() -> py:call(erlang, call, [g]) end),
    receive {in_g, Pid} -> ok end,
    Waiters = [py_test:worker() || _ <- lists:seq(1, 5)],
    [py_test:start(W, fun() -> py:call(math, sqrt, [16]) end) || W <- Waiters],
    wait_for_line(5),
    Pid ! go_on,
    {ok, 1} = py_test:answer(Outer),
    [{ok, 4.0} = py_test:answer(W) || W <- Waiters],
    [py_test:end_worker(W) || W <- [Outer | Waiters]],
    all_slots_are_back().

nested_calls_to_other_pools_and_contexts_wait_for_no_slot(_Config) ->
    {ok, Context} = py_context:new(#{}),
    limit(1),
    Calls = [{pool, fun() -> py:call(io, math, sqrt, [16]) end},
             {context, fun() -> py_context:call(Context, math, sqrt, [16]) end},
             {eval, fun() -> py:eval(<<"4.0">>) end},
             {context_eval, fun() -> py_context:eval(Context, <<"4.0">>) end},
             {parallel, fun() -> {ok, [R, R]} = py:parallel([{math, sqrt, [16]}, {math, sqrt, [16]}]), R end}],
    [begin
         ok = py:register_function(f, fun([]) -> Call() end),
         ?assertEqual({Name, {ok, {ok, 4.0}}}, {Name, py:call(erlang, call, [f], #{}, 60000)}),
         all_slots_are_back()
     end || {Name, Call} <- Calls],
    limit(1000),
    ok = py_context:destroy(Context),
    [] = py_test:messages().

nested_calls_of_all_slots_at_once_do_not_block_each_other(_Config) ->
    limit(3),
    ok = py:register_function(f, fun([X]) -> {ok, V} = py:call(builtins, abs, [X]), V end),
    N = py_test:fewer(200),
    Work = fun() -> [{ok, 7} = py:call(erlang, call, [f, -7]) || _ <- lists:seq(1, N)], py_test:messages() end,
    ?assertEqual(lists:duplicate(30, []), py_test:at_once(lists:duplicate(30, Work))),
    all_slots_are_back().

%%% py_semaphore:acquire/1

an_acquired_slot_is_held_until_released(_Config) ->
    limit(1),
    ok = py_semaphore:acquire(infinity),
    1 = py_semaphore:current(),
    W = py_test:holder(),
    wait_for_line(1),
    ok = py_semaphore:release(),
    {ok, held} = py_test:let_go(py_test:await_held(W)),
    all_slots_are_back().

calls_of_a_holder_ride_on_its_slot(_Config) ->
    limit(1),
    {ok, Context} = py_context:new(#{}),
    ok = py_semaphore:acquire(60000),
    {ok, 4.0} = py:call(math, sqrt, [16], #{}, 60000),
    {ok, 2} = py:eval(<<"1 + 1">>, #{}, 60000),
    ok = py:exec(<<"x = 1">>),
    {ok, 4.0} = py_context:call(Context, math, sqrt, [16]),
    {ok, [{ok, 4.0}]} = py:parallel([{math, sqrt, [16]}]),
    1 = py_semaphore:current(),
    {error, timeout} = py_test:in_process(fun() -> py:call(math, sqrt, [16], #{}, 20) end),
    ok = py_semaphore:release(),
    ok = py_context:destroy(Context),
    all_slots_are_back().

an_acquire_waits_for_its_turn(_Config) ->
    limit(1),
    First = py_test:held(),
    Acquirer = py_test:worker(),
    py_test:start(Acquirer, fun() -> py_semaphore:acquire(infinity) end),
    wait_for_line(1),
    Behind = py_test:holder(),
    wait_for_line(2),
    {ok, held} = py_test:let_go(First),
    ok = py_test:answer(Acquirer),
    ?assertEqual({1, 1, 1}, py_nif:slots()),
    py_test:none_held(),
    ok = py_test:run(Acquirer, fun py_semaphore:release/0),
    {ok, held} = py_test:let_go(py_test:await_held(Behind)),
    [] = py_test:run(Acquirer, fun py_test:messages/0),
    py_test:end_worker(Acquirer),
    all_slots_are_back().

an_acquire_gives_up_after_its_timeout(_Config) ->
    limit(1),
    Held = py_test:held(),
    ?OVERLOADED(1, 1) = py_semaphore:acquire(0),
    Try = fun() ->
                  {Time, ?OVERLOADED(1, 1)} = py_test:milliseconds(fun() -> py_semaphore:acquire(50) end),
                  ?assert(Time >= 49 orelse Time),
                  Time
          end,
    py_test:within(70, 20, Try),
    0 = py_test:waiting_in_line(),
    {ok, held} = py_test:let_go(Held),
    all_slots_are_back(),
    ok = py_semaphore:acquire(0),
    ok = py_semaphore:release(),
    [] = py_test:messages().

a_process_may_hold_several_slots(_Config) ->
    limit(3),
    [ok = py_semaphore:acquire(0) || _ <- [1, 2, 3]],
    3 = py_semaphore:current(),
    ?OVERLOADED(3, 3) = py_semaphore:acquire(0),
    {ok, 4.0} = py:call(math, sqrt, [16], #{}, 60000),
    [begin ok = py_semaphore:release(), Left = py_semaphore:current() end || Left <- [2, 1, 0]],
    {error, _} = py_semaphore:release(),
    all_slots_are_back().

a_release_without_a_slot_is_an_error(_Config) ->
    {error, _} = py_semaphore:release(),
    0 = py_semaphore:current(),
    %% Another's slot cannot be released.
    W = py_test:worker(),
    ok = py_test:run(W, fun() -> py_semaphore:acquire(0) end),
    {error, _} = py_semaphore:release(),
    1 = py_semaphore:current(),
    ok = py_test:run(W, fun py_semaphore:release/0),
    py_test:end_worker(W).

%%% How a slot comes back

a_slot_comes_back_however_a_request_ends(Config) ->
    limit(1),
    Fifo = py_test:block(Config),
    Ends = [fun() -> {ok, 4.0} = py:call(math, sqrt, [16]) end,
            fun() -> {error, {'ValueError', _}} = py:call(math, sqrt, [-1]) end,
            fun() -> {error, {'ModuleNotFoundError', _}} = py:call(no_such_module, f, []) end,
            fun() -> {error, {'TypeError', _}} = py:call(math, sqrt, [a, b]) end,
            fun() -> {error, {conversion, _, _}} = py:eval(<<"'\\ud800'">>) end,
            fun() -> {error, {'SyntaxError', _}} = py:exec(<<"1 +">>) end,
            fun() -> {error, {'SystemExit', _}} = py:call(sys, exit, [0]) end,
            fun() -> {error, timeout} = py:call(os, open, [Fifo, 0], #{}, 20), ok = py_test:release(Fifo) end,
            fun() -> {error, timeout} = py:exec(<<"def loop():\n    while True: pass\n">>) =:= ok andalso
                                            py:call('__main__', loop, [], #{}, 20) end,
            fun() -> _ = py:call(math, sqrt, [16], #{}, 0) end,
            fun() -> {error, _} = py:call(erlang, call, [no_such_function]) end,
            fun() -> true = py:cancel(py:spawn_call(time, sleep, [0.1])) =/= impossible end,
            fun() -> ok = py:cast(math, sqrt, [-1]) end],
    [begin _ = End(), all_slots_are_back() end || End <- Ends],
    %% Who did not await the answer got it as a message.
    {ok, 4.0} = py:call(math, sqrt, [16]).

a_killed_caller_gives_its_slot_back(Config) ->
    limit(1),
    Fifo = py_test:block(Config),
    Calls = [fun() -> py_test:open_blocked(Fifo) end,
             fun() -> py:exec(<<"while True: pass">>) end,
             fun() -> py:call(erlang, call, [hold]) end,
             fun() -> py:parallel([{os, open, [Fifo, 0]}]) end,
             fun() -> py:await(py:spawn_call(os, open, [Fifo, 0])) end],
    [begin
         W = py_test:holder(Call),
         py_test:wait_until(fun() -> py_semaphore:current() =:= 1 end),
         py_test:kill(W),
         all_slots_are_back(),
         {ok, 4.0} = py:call(math, sqrt, [16], #{}, 60000)
     end || Call <- Calls, _ <- [1, 2]],
    py_test:let_all_go(Fifo).

a_killed_holder_gives_its_slots_back(_Config) ->
    limit(3),
    [begin
         W = py_test:worker(),
         [ok = py_test:run(W, fun() -> py_semaphore:acquire(0) end) || _ <- [1, 2, 3]],
         3 = py_semaphore:current(),
         Waiter = py_test:holder(),
         wait_for_line(1),
         py_test:kill(W),
         {ok, held} = py_test:let_go(py_test:await_held(Waiter)),
         all_slots_are_back()
     end || _ <- lists:seq(1, 5)].

a_killed_waiter_does_not_block_the_line(_Config) ->
    limit(1),
    Held = py_test:held(),
    Waiters = [A, B, C, D, E] = holders_in_order(5),
    [begin py_test:kill(W), wait_for_line(Left) end || {W, Left} <- [{C, 4}, {A, 3}, {E, 2}]],
    5 = length(Waiters),
    {ok, held} = py_test:let_go(Held),
    {ok, held} = py_test:let_go(py_test:await_held(B)),
    {ok, held} = py_test:let_go(py_test:await_held(D)),
    all_slots_are_back(),
    {ok, 4.0} = py:call(math, sqrt, [16]).

%% In all states: in the line, on the way in, in the queue, at work, on the way out.
killed_callers_leave_no_slot_taken(_Config) ->
    limit(3),
    Caller = fun() -> spawn_monitor(fun Loop() -> _ = py:call(math, sqrt, [16]), Loop() end) end,
    Kill = fun Kill(0, Callers) -> Callers;
               Kill(N, [{Pid, Monitor} | Callers]) ->
                   %% Not longer than some calls take.
                   [erlang:yield() || _ <- lists:seq(1, rand:uniform(300))],
                   exit(Pid, kill),
                   receive {'DOWN', Monitor, process, Pid, Reason} -> killed = Reason end,
                   Kill(N - 1, Callers ++ [Caller()])
           end,
    Left = Kill(py_test:fewer(2000), [Caller() || _ <- lists:seq(1, 10)]),
    [exit(Pid, kill) || {Pid, _} <- Left],
    [receive {'DOWN', Monitor, process, Pid, killed} -> ok end || {Pid, Monitor} <- Left],
    all_slots_are_back(),
    %% All three can be had.
    Held = [py_test:held() || _ <- [1, 2, 3]],
    [{ok, held} = py_test:let_go(W) || W <- Held],
    all_slots_are_back(),
    [] = py_test:messages().

%%% All together

two_hundred_thousand_calls_of_a_hundred_processes_are_right(_Config) ->
    py_test:restart(#{max_concurrent => default}),
    py_test:hundred_processes(py_test:fewer(2000)),
    all_slots_are_back().
