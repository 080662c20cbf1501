%% SPDX-License-Identifier: Apache-2.0
%%
%% The load of py_load, for long, in rounds: kills and timeouts at random, restarts of the
%% application in between, and stops in the middle of a load.  After each round the
%% invariants must hold: every answer right, no message left, no thread and no memory more
%% than after the first rounds.
%%
%% Or, as killed/0, one round of that length, with callers killed all the time: afterwards
%% slots, executors, threads, descriptors and memory are back where they were.
%%
%% Started by tests/stress/run as: erl ... -s py_stress main|killed -extra SECONDS SEED
-module(py_stress).

-export([main/0, killed/0]).

-define(WARM_UP, 3).    % rounds that may still grow
-define(ROUND, 3).      % seconds

main() ->
    run(fun(Seconds, Seed) ->
                Rounds = rounds(1, erlang:monotonic_time(second) + Seconds, Seed, none),
                io:format("~b rounds: all right~n", [Rounds])
        end).

killed() ->
    run(fun(Seconds, Seed) ->
                {ok, _} = application:ensure_all_started(erlang_python),
                %% What is made at the first time stays.
                _ = py_load:run(#{seconds => ?WARM_UP * ?ROUND, seed => Seed, processes => 40, back => true}),
                Before = py_load:state(),
                Counts = py_load:run(#{seconds => Seconds, seed => Seed + 1, processes => 40, back => true}),
                Killed = maps:get(killed, Counts),
                io:format("~b calls, ~b timeouts, ~b killed~n", [sum(right, Counts), sum(timeout, Counts), Killed]),
                ok = py_load:check_state(py_load:state(), Before),
                %% Some seconds kill hundreds already.
                Killed >= 15 * Seconds orelse error({too_few, Killed}),
                {ok, 4.0} = py:call(math, sqrt, [16])
        end).

run(Fun) ->
    [Seconds, Seed] = [list_to_integer(Text) || Text <- init:get_plain_arguments()],
    try Fun(Seconds, Seed) of
        _ -> halt(0)
    catch
        Class:Reason:Stack ->
            io:format("~tp: ~tp~n~tp~n", [Class, Reason, Stack]),
            halt(1)
    end.

rounds(N, End, Seed, Baseline0) ->
    {ok, _} = application:ensure_all_started(erlang_python),
    %% With and without a line for the slots.
    ok = py_semaphore:set_max_concurrent(case N rem 2 of 0 -> 1000; 1 -> 5 end),
    Counts = py_load:run(#{seconds => ?ROUND, seed => Seed + N, processes => 10 + N rem 40, back => true}),
    stop_under_load(Seed + N),
    Now = {py_test:threads(), py_test:resident() div 1024},
    Baseline = check_growth(N, Now, Baseline0),
    io:format("round ~b: ~b calls, ~b timeouts, ~b killed; ~b threads, ~b KB~n",
              [N, sum(right, Counts), sum(timeout, Counts), maps:get(killed, Counts, 0),
               element(1, Now), element(2, Now)]),
    case erlang:monotonic_time(second) < End of
        true -> rounds(N + 1, End, Seed, Baseline);
        false -> N
    end.

%% Each call gives one answer, whatever the application does.
stop_under_load(Seed) ->
    rand:seed(exsss, Seed),
    ok = py:register_function(stress_echo, fun([X]) -> X end),
    Workers = [py_test:worker() || _ <- lists:seq(1, 20)],
    [py_test:start(W, fun() -> ok = py:exec(code()), until_it_stops(0) end) || W <- Workers],
    timer:sleep(rand:uniform(100)),
    ok = application:stop(erlang_python),
    [{stopped, []} = py_test:answer(W) || W <- Workers],
    ok = application:start(erlang_python),
    [{ok, 4.0} = py_test:run(W, fun() -> py:call(math, sqrt, [16]) end) || W <- Workers],
    [[] = py_test:run(W, fun py_test:messages/0) || W <- Workers],
    [py_test:end_worker(W) || W <- Workers],
    ok.

code() ->
    <<"import asyncio, erlang, threading\n"
      "def thread():\n"
      "    t = threading.Thread(target=count)\n"
      "    t.start()\n"
      "    t.join()\n"
      "def count():\n"
      "    try: erlang.state_incr('stress', erlang.call('stress_echo', 1))\n"
      "    except (erlang.Error, erlang.ProcessError, erlang.Cancelled): pass\n"
      "async def task(): return await erlang.async_call('stress_echo', 1)\n"
      "def tasks(): return asyncio.run(task())\n">>.

until_it_stops(N) ->
    Answer = case N rem 8 of
                 0 -> py:call(math, sqrt, [16]);
                 1 -> py:call(time, sleep, [0.01], #{}, 5);
                 2 -> py:eval(<<"sum(range(1000))">>);
                 3 -> py:call(io, math, sqrt, [16]);
                 4 -> py:await(py:spawn_call(math, sqrt, [16]));
                 5 -> first(py:parallel([{math, sqrt, [16]}, {math, sqrt, [25]}]));
                 6 -> py:call('__main__', thread, []);
                 7 -> py:call('__main__', tasks, [])
             end,
    case Answer of
        {error, Reason} when Reason =:= not_running; Reason =:= cancelled -> {stopped, py_test:messages()};
        {error, timeout} -> until_it_stops(N + 1);
        %% The loop heard of it first, or the call began after it.
        {error, {Type, _}} when N rem 8 =:= 7, Type =:= 'Error' orelse Type =:= 'ProcessError' -> until_it_stops(N + 1);
        {ok, _} -> until_it_stops(N + 1)
    end.

%% A stop may come between two of them.
first({ok, Results}) -> hd(lists:sort(fun(A, _) -> element(1, A) =:= error end, Results));
first(Error) -> Error.

check_growth(N, Now, none) when N < ?WARM_UP -> _ = Now, none;
check_growth(_N, Now, none) -> Now;
check_growth(N, {Threads, Resident}, {Threads0, Resident0} = Baseline) ->
    Threads =< Threads0 + 64 orelse error({threads, Threads0, Threads}),
    %% What the allocators keep varies; a leak per call would be far beyond this.  For
    %% the functions of each process that 3.13t never frees see docs/guide/variants.md.
    Lost = case py_test:mode() of free_threaded -> 2000; _ -> 50 end,
    Most = Resident0 + 30 * 1024 + N * Lost,
    Resident =< Most orelse error({kilobytes, Resident0, Resident}),
    Baseline.

sum(Outcome, Counts) ->
    lists:sum([Count || {{_, O}, Count} <- maps:to_list(Counts), O =:= Outcome]).
