%% SPDX-License-Identifier: Apache-2.0
%%
%% The measurements of bench/run --loop, in the node under test.
-module(bench_loop_node).

-export([measure/3]).

-define(PY, bench_loop).
-define(AT_ONCE, 1000).
-define(ASLEEP, 10000).
%% Descriptors that a loop has: the epoll set, a duplicate of it, and a timer.
-define(PER_LOOP, 3).
-define(SLEEP_S, 600).
-define(PAUSE_MS, 10).

-spec measure(term(), non_neg_integer(), pos_integer()) -> #{term() => number()}.
measure(Figure, WarmMs, RunMs) ->
    case bench_backend:is_port() of
        true ->
            #{};
        false ->
            ok = bench_backend:python_path(filename:dirname(code:which(?MODULE))),
            [Figures] = bench_node:together([fun() -> figure(Figure, WarmMs, RunMs) end]),
            Figures
    end.

%% Internals.

figure(run, WarmMs, RunMs) ->
    #{p50 := P50, p99 := P99} = bench_stats:summary(samples(fun coroutine/0, WarmMs, RunMs)),
    #{run => P50, run_p99 => P99};
figure(spaced, WarmMs, RunMs) ->
    Call = fun() -> timer:sleep(?PAUSE_MS), Begin = erlang:monotonic_time(), {ok, 4.0} = coroutine(), Begin end,
    #{spaced => p50(spaced(Call, WarmMs, RunMs))};
figure(plain, WarmMs, RunMs) ->
    #{plain => p50(samples(fun() -> py_event_loop:run(math, sqrt, [16]) end, WarmMs, RunMs))};
figure(await, WarmMs, RunMs) ->
    Call = fun() ->
        {ok, Ref} = py_event_loop:create_task(?PY, now, []),
        py_event_loop:await(Ref)
    end,
    #{await => p50(samples(Call, WarmMs, RunMs))};
figure({callers, N} = Key, WarmMs, RunMs) ->
    #{Key => rate(fun coroutine/0, N, WarmMs, RunMs)};
figure({pool, N} = Key, WarmMs, RunMs) ->
    #{Key => rate(fun() -> py_event_loop_pool:run(?PY, now, []) end, N, WarmMs, RunMs)};
figure(gather, WarmMs, RunMs) ->
    Calls = lists:duplicate(?AT_ONCE, {?PY, now, []}),
    Gather = fun() ->
        {ok, [{ok, 4.0} | _]} = py:async_gather(Calls),
        {ok, 4.0}
    end,
    #{gather => ?AT_ONCE * rate(Gather, 1, WarmMs, RunMs)};
figure(late, _WarmMs, RunMs) ->
    Sleep = fun() ->
        {ok, Results} = py:async_gather(lists:duplicate(?AT_ONCE, {?PY, late, [0.01]})),
        [Ms || {ok, Ms} <- Results]
    end,
    lateness(late, late_max, Sleep, RunMs);
figure(late_alone, _WarmMs, RunMs) ->
    Sleep = fun() ->
        {ok, Ms} = py:call(?PY, late_alone, [?AT_ONCE, 0.01]),
        Ms
    end,
    lateness(late_alone, late_alone_max, Sleep, RunMs);
figure(asleep, _WarmMs, RunMs) ->
    %% Those that start once, so that they are not counted.
    {ok, _} = py:async_gather(lists:duplicate(?AT_ONCE, {?PY, now, []})),
    Before = facts(),
    Refs = [element(2, py_event_loop:create_task(asyncio, sleep, [?SLEEP_S])) || _ <- lists:seq(1, ?ASLEEP)],
    {ok, 4.0} = coroutine(),
    Figures = named(asleep, asleep(RunMs, Before, ?ASLEEP)),
    [ok = py_event_loop:cancel(Ref) || Ref <- Refs],
    {ok, 4.0} = coroutine(),
    Figures;
figure(idle, _WarmMs, RunMs) ->
    N = min(?ASLEEP, (max_descriptors() - descriptors() - 200) div ?PER_LOOP),
    Before = facts(),
    Pids = [element(2, py_event_loop:start_link()) || _ <- lists:seq(1, N)],
    [{ok, 4.0} = py_event_loop:run(?PY, now, [], #{loop => Pid}) || Pid <- Pids],
    Refs = [
        element(2, py_event_loop:create_task(asyncio, sleep, [?SLEEP_S], #{loop => Pid}))
     || Pid <- Pids
    ],
    [{ok, 4.0} = py_event_loop:run(?PY, now, [], #{loop => Pid}) || Pid <- Pids],
    Figures = named(idle, asleep(RunMs, Before, N)),
    [ok = py_event_loop:stop(Pid) || Pid <- Pids],
    [{error, cancelled} = py_event_loop:await(Ref) || Ref <- Refs],
    Figures#{idle_loops => N}.

coroutine() ->
    py_event_loop:run(?PY, now, []).

p50(Samples) ->
    #{p50 := P50} = bench_stats:summary(Samples),
    P50.

%% One caller, each call by itself.
samples(Call, WarmMs, RunMs) ->
    From = erlang:monotonic_time() + bench_node:native(WarmMs),
    ok = until(Call, From),
    [record(Call, From + bench_node:native(RunMs), erlang:monotonic_time(), <<>>)].

until(Call, To) ->
    {ok, 4.0} = Call(),
    case erlang:monotonic_time() of
        Now when Now >= To -> ok;
        _ -> until(Call, To)
    end.

record(Call, To, Last, Samples) ->
    {ok, 4.0} = Call(),
    case erlang:monotonic_time() of
        Now when Now =< To -> record(Call, To, Now, <<Samples/binary, (Now - Last):64>>);
        Now -> <<Samples/binary, (Now - Last):64>>
    end.

%% The same where Call says when it began.
spaced(Call, WarmMs, RunMs) ->
    [spaced_until(Call, erlang:monotonic_time() + bench_node:native(WarmMs + RunMs), <<>>)].

spaced_until(Call, To, Samples) ->
    Begin = Call(),
    Now = erlang:monotonic_time(),
    All = <<Samples/binary, (Now - Begin):64>>,
    case Now < To of
        true -> spaced_until(Call, To, All);
        false -> All
    end.

%% Calls a second, of all callers together, each by its own clock.
rate(Call, Callers, WarmMs, RunMs) ->
    From = erlang:monotonic_time() + bench_node:native(WarmMs),
    To = From + bench_node:native(RunMs),
    Caller = fun() ->
        ok = until(Call, From),
        Begin = erlang:monotonic_time(),
        Calls = count(Call, To, 0),
        Calls * 1000 / bench_node:ms(erlang:monotonic_time() - Begin)
    end,
    lists:sum(bench_node:together(lists:duplicate(Callers, Caller))).

count(Call, To, N) ->
    {ok, 4.0} = Call(),
    case erlang:monotonic_time() of
        Now when Now >= To -> N + 1;
        _ -> count(Call, To, N + 1)
    end.

%% The median of all, and the median of the latest of each time.
lateness(Key, MaxKey, Sleep, RunMs) ->
    _ = Sleep(),
    To = erlang:monotonic_time() + bench_node:native(RunMs),
    Times = sleeps(Sleep, To, []),
    #{Key => bench_stats:median(lists:append(Times)), MaxKey => bench_stats:median([lists:max(T) || T <- Times])}.

sleeps(Sleep, To, Times) ->
    All = [Sleep() | Times],
    case erlang:monotonic_time() < To orelse length(All) < 3 of
        true -> sleeps(Sleep, To, All);
        false -> All
    end.

%% What the node takes while all sleep, by what it had before. It rests for a moment first, as
%% executors look for more work before they sleep.
asleep(RunMs, Before, N) ->
    timer:sleep(200),
    #{threads := Threads, kb := Kb} = facts(),
    Cpu0 = bench_backend:cpu_us(),
    Begin = erlang:monotonic_time(),
    timer:sleep(2 * RunMs),
    Ms = bench_node:ms(erlang:monotonic_time() - Begin),
    #{
        cpu => (bench_backend:cpu_us() - Cpu0) / 10 / Ms,
        threads => Threads - maps:get(threads, Before),
        kb => (Kb - maps:get(kb, Before)) / N
    }.

named(asleep, #{cpu := Cpu, threads := Threads, kb := Kb}) ->
    #{asleep_cpu => Cpu, asleep_threads => Threads, asleep_kb => Kb};
named(idle, #{cpu := Cpu, threads := Threads, kb := Kb}) ->
    #{idle_cpu => Cpu, idle_threads => Threads, idle_kb => Kb}.

facts() ->
    {ok, Tasks} = file:list_dir("/proc/self/task"),
    {ok, Statm} = file:read_file("/proc/self/statm"),
    [_, Pages | _] = string:lexemes(Statm, " "),
    #{threads => length(Tasks), kb => binary_to_integer(Pages) * 4}.

descriptors() ->
    {ok, Names} = file:list_dir("/proc/self/fd"),
    length(Names).

max_descriptors() ->
    {ok, Limits} = file:read_file("/proc/self/limits"),
    {match, [Soft]} = re:run(Limits, "Max open files\\s+(\\d+)", [{capture, [1], binary}]),
    binary_to_integer(Soft).
