%% SPDX-License-Identifier: Apache-2.0
%%
%% The measurements of bench/run --core: admission, deadlines, slow calls beside fast
%% ones, inline, asynchronous and parallel calls, contexts. A line for each figure and
%% a column for each variant; bench_core_node does the measuring.
-module(bench_core).
-behaviour(bench).

-export([one_round/2, brief/1, report/1]).

-define(CALLERS, [50, 100]).
-define(LIMITS, [default, 1000]).

-spec one_round(bench:ask(), bench:options()) -> bench:result().
one_round(Ask, #{run_ms := RunMs, warm_ms := WarmMs, cpu_ms := CpuMs}) ->
    Measured = [
        Ask(bench_core_node, Function, Args, 2 * RunMs)
     || {Function, Args} <-
            [{throughput, [L, C, WarmMs, RunMs]} || C <- ?CALLERS, L <- ?LIMITS] ++
                [
                    {admission, []},
                    {beside_slow, []},
                    {inline, [WarmMs, RunMs]},
                    {async, [WarmMs, RunMs]},
                    {cast, []},
                    {parallel, [CpuMs]},
                    {contexts, []},
                    {loop_end, []},
                    {deadline, []}
                ]
    ],
    lists:foldl(fun maps:merge/2, #{}, Measured).

-spec brief(bench:result()) -> iodata().
brief(Result) ->
    lists:join("  ", [
        [Name, ": ", bench_lines:cell(Format, [maps:get(Key, Result)])]
     || {Key, Name, Format} <- [
            {admission, "admission", ratio},
            {{throughput, {default, 50}}, "50 callers, k/s", thousands},
            {beside_slow_max_us, "beside slow, us", us},
            {after_timeout_ms, "after timeout, ms", ms}
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
        {admission, "50 callers of 20 ms, 5 slots: time / ideal", ratio},
        {overtaking_ms, "  2 ms apart: overtaken by a later call, ms", ms}
    ] ++
        [
            {{throughput, {L, C}}, io_lib:format("~b callers, limit ~p, thousand calls/s", [C, L]), thousands}
         || C <- ?CALLERS, L <- ?LIMITS
        ] ++
        [
            {fast_p99_us, "10,000 fast calls: p99, us", us},
            {fast_max_us, "  the slowest, us", us},
            {beside_slow_p99_us, "  beside a slow call of 1 s: p99, us", us},
            {beside_slow_max_us, "  beside it: the slowest, us", us},
            {timeout_ms, "sleep of 10 s, timeout of 100 ms: answer, ms", ms},
            {after_timeout_ms, "  the next call, one executor, ms", ms},
            {loop_end_ms, "Python loop ends after its timeout by, ms", ms},
            {{inline_us, 1}, "inline, one caller: us a call", precise},
            {{inline_ratio, 1}, "  calls/s, by those of the normal path", ratio},
            {{moved_back, 1}, "  rounds in which it was moved back", count},
            {{inline_ratio, 2}, "inline, two callers: by the normal path", ratio},
            {{moved_back, 2}, "  rounds in which it was moved back", count},
            {async, "spawn_call, 50 in flight, thousand calls/s", thousands},
            {cast, "cast, thousand calls/s", thousands},
            {parallel, "parallel, one for each core: time / one", ratio},
            {{context_us, worker}, "call to a context, worker, us", us},
            {{context_us, owngil}, "call to a context, owngil, us", us},
            {{new_context_ms, worker}, "new context, worker, ms", precise},
            {{new_context_ms, owngil}, "new context, owngil, ms", precise},
            {new_python_ms, "new port with its Python, ms", precise}
        ].
