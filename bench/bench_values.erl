%% SPDX-License-Identifier: Apache-2.0
%%
%% The measurements of bench/run --values: what it costs to carry a value to Python and
%% back, by itself, and as a text in JSON through the same call. A line for each value and
%% a column for each variant; bench_values_node does the measuring.
%%
%% Both ways of JSON leave out what Erlang would have to do, as its library has no JSON
%% before OTP 27: the text to Python is there beforehand, and the one that comes back is
%% not read. So those figures are less than what JSON costs.
-module(bench_values).
-behaviour(bench).

-export([one_round/2, brief/1, report/1]).

%% Share of the time of a measurement that one value gets: there are many.
-define(SHARE, 5).

-spec one_round(bench:ask(), bench:options()) -> bench:result().
one_round(Ask, #{run_ms := RunMs}) ->
    Ms = max(1, RunMs div ?SHARE),
    ok = Ask(bench_values_node, prepare, [], 0),
    Empty = Ask(bench_values_node, empty, [Ms], Ms),
    Around = Ask(bench_values_node, around, [Ms], Ms),
    Figures = [
        figures(Direction, Value, Form, Empty, Us)
     || {Direction, Function} <- [{in, to_python}, {out, to_erlang}],
        {Value, Form, _Name} <- forms(),
        Us <- [Ask(bench_values_node, Function, [Value, Form, Ms], Ms)],
        Us =/= false
    ],
    lists:foldl(fun maps:merge/2, #{empty => Empty, around => Around}, Figures).

-spec brief(bench:result()) -> iodata().
brief(Result) ->
    lists:join("  ", [
        [Name, ": ", bench_lines:cell(Format, [maps:get(Key, Result)])]
     || {Key, Name, Format} <- [
            {empty, "empty, us", us},
            {{ns, in, integers, plain}, "integer in, ns", us},
            {{ns, out, integers, plain}, "out", us},
            {{us, in, mb64, buffer}, "64 MB buffer in, us", us},
            {{us, out, mb64, buffer}, "out", us}
        ],
        is_map_key(Key, Result)
    ]).

-spec report([bench:row()]) -> iodata().
report(Rows) ->
    Calls = [{empty, "a call without a value", us}, {around, "  around a function of 200 us", us}],
    In = Calls ++ lines(us, in),
    Out = lines(us, out),
    [
        bench_lines:medians("Erlang to Python, us a call", In, Rows),
        bench_lines:medians("Python to Erlang, us a call", Out, Rows),
        bench_lines:medians("Erlang to Python, ns an element", lines(ns, in), Rows),
        bench_lines:medians("Python to Erlang, ns an element", lines(ns, out), Rows),
        bench_lines:ranges("Erlang to Python, us: lowest to highest of the rounds", In, Rows),
        bench_lines:ranges("Python to Erlang, us: lowest to highest of the rounds", Out, Rows),
        "An element is an item of a list, a pair of a map, a field of a row; its time is that of a\n"
        "call less that of one without a value. json: a text through the same call, with json.loads\n"
        "or json.dumps, but without what Erlang would do to write or read it. A dash stands where\n"
        "the row has no such thing. docs/guide/benchmarks.md explains the lines.\n"
    ].

%% Internals.

%% What is measured, and its name in the table.
forms() ->
    [
        {Value, Form, Name}
     || {Value, Title} <- [
            {integers, "10,000 integers"},
            {floats, "10,000 floats"},
            {map, "map of 1,000 entries"},
            {rows, "100 rows, maps of 5 fields"}
        ],
        {Form, Name} <- [{plain, Title}, {json, "  json"}]
    ] ++
        [
            {Value, Form, Name}
         || {Value, Title} <- [{kb, "1 KB"}, {mb, "1 MB"}, {mb64, "64 MB"}],
            {Form, Name} <- [
                {plain, Title ++ ", str"},
                {bytes, "  bytes"},
                {buffer, "  buffer"},
                {json, "  json"}
            ]
        ].

%% `none': it is the time of the whole that counts.
elements(integers) -> 10000;
elements(floats) -> 10000;
elements(map) -> 1000;
elements(rows) -> 500;
elements(_Binary) -> none.

figures(Direction, Value, Form, Empty, Us) ->
    Time = #{{us, Direction, Value, Form} => Us},
    case elements(Value) of
        none -> Time;
        N -> Time#{{ns, Direction, Value, Form} => (Us - Empty) * 1000 / N}
    end.

lines(Unit, Direction) ->
    [
        {{Unit, Direction, Value, Form}, Name, us}
     || {Value, Form, Name} <- forms(), Unit =:= us orelse elements(Value) =/= none
    ].
