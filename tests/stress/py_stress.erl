%% SPDX-License-Identifier: Apache-2.0
%%
%% The load of py_load, for long, in rounds: kills and timeouts at random, restarts of the
%% application in between, and stops in the middle of a load.  After each round the
%% invariants must hold: every answer right, no message left, no thread and no memory more
%% than after the first rounds.
%%
%% Started by tests/stress/run as: erl ... -s py_stress main -extra SECONDS SEED
-module(py_stress).

-export([main/0]).

-define(WARM_UP, 3).    % rounds that may still grow
-define(ROUND, 3).      % seconds

main() ->
    [Seconds, Seed] = [list_to_integer(Text) || Text <- init:get_plain_arguments()],
    try rounds(1, erlang:monotonic_time(second) + Seconds, Seed, none) of
        Rounds ->
            io:format("~b rounds: all right~n", [Rounds]),
            halt(0)
    catch
        Class:Reason:Stack ->
            io:format("~tp: ~tp~n~tp~n", [Class, Reason, Stack]),
            halt(1)
    end.

rounds(N, End, Seed, Baseline0) ->
    {ok, _} = application:ensure_all_started(erlang_python),
    Counts = py_load:run(#{seconds => ?ROUND, seed => Seed + N, processes => 10 + N rem 40}),
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
    Workers = [py_test:worker() || _ <- lists:seq(1, 20)],
    [py_test:start(W, fun() -> until_it_stops(0) end) || W <- Workers],
    timer:sleep(rand:uniform(100)),
    ok = application:stop(erlang_python),
    [{stopped, []} = py_test:answer(W) || W <- Workers],
    ok = application:start(erlang_python),
    [{ok, 4.0} = py_test:run(W, fun() -> py:call(math, sqrt, [16]) end) || W <- Workers],
    [[] = py_test:run(W, fun py_test:messages/0) || W <- Workers],
    [py_test:end_worker(W) || W <- Workers],
    ok.

until_it_stops(N) ->
    Answer = case N rem 3 of
                 0 -> py:call(math, sqrt, [16]);
                 1 -> py:call(time, sleep, [0.01], #{}, 5);
                 2 -> py:eval(<<"sum(range(1000))">>)
             end,
    case Answer of
        {error, Reason} when Reason =:= not_running; Reason =:= cancelled -> {stopped, py_test:messages()};
        {error, timeout} -> until_it_stops(N + 1);
        {ok, _} -> until_it_stops(N + 1)
    end.

check_growth(N, Now, none) when N < ?WARM_UP -> _ = Now, none;
check_growth(_N, Now, none) -> Now;
check_growth(N, {Threads, Resident}, {Threads0, Resident0} = Baseline) ->
    Threads =< Threads0 + 64 orelse error({threads, Threads0, Threads}),
    %% What the allocators keep varies; a leak per call would be far beyond this.
    Most = Resident0 + 30 * 1024 + N * 50,
    Resident =< Most orelse error({kilobytes, Resident0, Resident}),
    Baseline.

sum(Outcome, Counts) ->
    lists:sum([Count || {{_, O}, Count} <- maps:to_list(Counts), O =:= Outcome]).
