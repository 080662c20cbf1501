%% SPDX-License-Identifier: Apache-2.0
%%
%% The measurements of bench/run --echo: a TCP server in Python under several event loops, alone
%% and in the node, with the same client. A line for each figure and a column for each variant;
%% bench_echo_node does the measuring. A port has none of it.
-module(bench_echo).
-behaviour(bench).

-export([one_round/2, brief/1, report/1]).

-define(LOADS, [{1, 50}, {100, 50}, {1, 1}]). % KB, connections
-define(SERVERS, [asyncio, in_request, uvloop, hosted, like_node]).

-spec one_round(bench:ask(), bench:options()) -> bench:result().
one_round(Ask, #{run_ms := RunMs, warm_ms := WarmMs}) ->
    Measured = [
        Ask(bench_echo_node, measure, [Server, Load, WarmMs, RunMs], 10 * RunMs + 30000)
     || Load <- ?LOADS, Server <- ?SERVERS
    ],
    with_ratios(lists:foldl(fun maps:merge/2, #{}, Measured)).

-spec brief(bench:result()) -> iodata().
brief(Result) ->
    lists:join("  ", [
        io_lib:format("~s of ~b KB by ~b, k/s: ~ts", [Server, Size, N, bench_lines:cell(thousands, [maps:get(Key, Result)])])
     || {Size, N} = Load <- ?LOADS, Server <- ?SERVERS, Key <- [{Server, Load}], is_map_key(Key, Result)
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

%% By those of asyncio alone in the same round.
with_ratios(Result) ->
    maps:merge(
        Result,
        maps:from_list([
            {{Server, Load, ratio}, Rate / maps:get({asyncio, Load}, Result)}
         || {{Server, Load}, Rate} <- maps:to_list(Result), Server =/= asyncio
        ])
    ).

-spec lines() -> [bench_lines:line()].
lines() ->
    lists:append([lines(Load) || Load <- ?LOADS]).

lines({Size, N} = Load) ->
    Title = io_lib:format("echo of ~b KB, ~b at a time: asyncio alone, 1,000 a second", [Size, N]),
    [
        {{asyncio, Load}, Title, thousands},
        {{asyncio, Load, cpu}, "    processor time, us each", precise}
        | lists:append([
            [
                {{Server, Load}, ["  ", Name], thousands},
                {{Server, Load, ratio}, "    by asyncio alone", ratio},
                {{Server, Load, cpu}, "    processor time, us each", precise}
            ]
         || {Server, Name} <- [
                {like_node, "asyncio alone, malloc() as in the node"},
                {uvloop, "uvloop alone"},
                {in_request, "erlang.run in a call"},
                {hosted, "a task of a loop that Erlang drives"}
            ]
        ])
    ].
