%% SPDX-License-Identifier: Apache-2.0
%%
%% The measurements of bench/run --callbacks: what Python code pays when it turns to Erlang,
%% by callbacks, messages, shared state, logs and spans. A line for each figure and a column
%% for each variant; bench_callbacks_node does the measuring. A port has none of it.
-module(bench_callbacks).
-behaviour(bench).

-export([one_round/2, brief/1, report/1]).

-spec one_round(bench:ask(), bench:options()) -> bench:result().
one_round(Ask, #{run_ms := RunMs}) ->
    Measured = [Ask(bench_callbacks_node, measure, [Figure, RunMs], 5 * RunMs) || {Figure, _, _} <- lines()],
    lists:foldl(fun maps:merge/2, #{}, Measured).

-spec brief(bench:result()) -> iodata().
brief(Result) ->
    lists:join("  ", [
        [Name, ": ", bench_lines:cell(precise, [maps:get(Key, Result)])]
     || {Key, Name} <- [
            {{call, 1000}, "call, us"},
            {thread, "thread"},
            {{tasks, 100}, "async_call"},
            {send, "send"},
            {incr, "state_incr"},
            {get, "state_get"}
        ],
        is_map_key(Key, Result)
    ]).

-spec report([bench:row()]) -> iodata().
report(Rows) ->
    bench_lines:report(
        "us each, medians",
        lines(),
        Rows,
        "Measured in Python, the loop around it included. A dash stands where the row has no such\n"
        "thing. docs/guide/benchmarks.md explains the lines.\n"
    ).

%% Internals.

-spec lines() -> [bench_lines:line()].
lines() ->
    [
        {{call, 1000}, "erlang.call, 1,000 in one call", precise},
        {{call, 10000}, "  10,000 in one call", precise},
        {attribute, "  by its name, erlang.f(x)", precise},
        {sort, "  a fun as the key of sorted()", precise},
        {nest, "  that calls Python in turn", precise},
        {thread, "erlang.call on a thread of Python's", precise},
        {{tasks, 1}, "erlang.async_call, one after the other", precise},
        {{tasks, 100}, "  100 at once", precise},
        {send, "erlang.send to a pid", precise},
        {send_name, "  to a name", precise},
        {incr, "state_incr", precise},
        {get, "state_get of a small value", precise},
        {put, "state_set of a small value", precise},
        {log, "logging, a message that is handled", precise},
        {log_off, "  one that is below the level", precise},
        {span, "a span", precise},
        {span_off, "  while tracing is off", precise}
    ].
