%% SPDX-License-Identifier: Apache-2.0
%%
%% The measurements of bench/run --channels: what an item costs that goes through a channel, each
%% way and to and fro. A line for each figure and a column for each variant;
%% bench_channels_node does the measuring. A port has none of it.
-module(bench_channels).
-behaviour(bench).

-export([one_round/2, brief/1, report/1]).

-spec one_round(bench:ask(), bench:options()) -> bench:result().
one_round(Ask, #{run_ms := RunMs}) ->
    Measured = [Ask(bench_channels_node, measure, [Figure, RunMs], 5 * RunMs) || {Figure, _, _} <- lines()],
    lists:foldl(fun maps:merge/2, #{}, Measured).

-spec brief(bench:result()) -> iodata().
brief(Result) ->
    lists:join("  ", [
        [Name, ": ", bench_lines:cell(precise, [maps:get(Key, Result)])]
     || {Key, Name} <- [
            {{to_python, integer}, "integer, us"},
            {{to_python, tuple}, "tuple"},
            {bytes_to_erlang, "bytes to Erlang"},
            {echo, "to and fro"},
            {echo_bytes, "bytes"}
        ],
        is_map_key(Key, Result)
    ]).

-spec report([bench:row()]) -> iodata().
report(Rows) ->
    bench_lines:report(
        "us each, medians",
        lines(),
        Rows,
        "From the first item sent to the last one received, one sender and one receiver. 1.00 us each is\n"
        "1,000,000 a second. docs/guide/benchmarks.md explains the lines.\n"
    ).

%% Internals.

-spec lines() -> [bench_lines:line()].
lines() ->
    [
        {{to_python, integer}, "to Python, an integer", precise},
        {{to_python, binary}, "  a binary of 16 bytes", precise},
        {{to_python, tuple}, "  a tuple of three", precise},
        {{to_python, map}, "  a map of two", precise},
        {{to_task, integer}, "  an integer, to a task of asyncio", precise},
        {bytes_to_python, "byte channel to Python, 16 bytes", precise},
        {bytes_to_erlang, "  to Erlang", precise},
        {replies, "reply to a process", precise},
        {buffer, "buffer, 1 KB written and read", precise},
        {echo, "to Python and back by reply", precise},
        {echo_task, "  by a task of asyncio", precise},
        {echo_bytes, "  by a byte channel both ways", precise}
    ].
