%% SPDX-License-Identifier: Apache-2.0
%%
%% The measurements of bench/run --loop: coroutines that Erlang runs on event loops, and what
%% loops and tasks cost that sleep. A line for each figure and a column for each variant;
%% bench_loop_node does the measuring. A port has none of it.
-module(bench_loop).
-behaviour(bench).

-export([one_round/2, brief/1, report/1]).

-spec one_round(bench:ask(), bench:options()) -> bench:result().
one_round(Ask, #{run_ms := RunMs, warm_ms := WarmMs}) ->
    Measured = [
        Ask(bench_loop_node, measure, [Figure, WarmMs, RunMs], 10 * RunMs + 30000)
     || Figure <- [run, spaced, plain, await, {callers, 100}, {pool, 100}, gather, late, late_alone, asleep, idle]
    ],
    lists:foldl(fun maps:merge/2, #{}, Measured).

-spec brief(bench:result()) -> iodata().
brief(Result) ->
    lists:join("  ", [
        [Name, ": ", bench_lines:cell(Format, [maps:get(Key, Result)])]
     || {Key, Name, Format} <- [
            {run, "run, us", precise},
            {{callers, 100}, "100 callers, k/s", thousands},
            {late_max, "late, ms", precise},
            {asleep_cpu, "asleep, % CPU", precise}
        ],
        is_map_key(Key, Result)
    ]).

-spec report([bench:row()]) -> iodata().
report(Rows) ->
    bench_lines:report(
        "Medians",
        lines(),
        Rows,
        "A dash stands where the row has no such thing. docs/guide/benchmarks.md explains the lines.\n"
    ).

%% Internals.

-spec lines() -> [bench_lines:line()].
lines() ->
    [
        {run, "py_event_loop:run of a coroutine, us", precise},
        {run_p99, "  99th percentile", precise},
        {spaced, "  with a pause of 10 ms before each", precise},
        {plain, "  of a function, math.sqrt", precise},
        {await, "create_task and await, us", precise},
        {{callers, 100}, "100 callers of run, 1,000 a second", thousands},
        {{pool, 100}, "  of py_event_loop_pool:run", thousands},
        {gather, "async_gather of 1,000, 1,000 a second", thousands},
        {late, "1,000 times asyncio.sleep(0.01): late by, ms", precise},
        {late_max, "  the latest", precise},
        {late_alone, "  in asyncio alone", precise},
        {late_alone_max, "  the latest", precise},
        {asleep_cpu, "10,000 tasks asleep: % of a core", precise},
        {asleep_threads, "  threads more", precise},
        {asleep_kb, "  KB each", precise},
        {idle_loops, "loops that sleep, as many as descriptors allow, 1,000", thousands},
        {idle_cpu, "  % of a core", precise},
        {idle_threads, "  threads more", precise},
        {idle_kb, "  KB each", precise}
    ].
