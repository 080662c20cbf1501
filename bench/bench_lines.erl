%% SPDX-License-Identifier: Apache-2.0
%%
%% Tables with a line for each figure and a column for each row of the benchmark: of the
%% medians of all rounds, and of the lowest and the highest.
-module(bench_lines).

-export([report/4, medians/3, ranges/3, cell/2]).

-type format() :: thousands | us | ms | precise | ratio | count.
%% The key of a figure in the results, its name in the table, and how it is shown.
-type line() :: {Key :: term(), Name :: iodata(), format()}.
-export_type([line/0]).

%% Both tables of the same lines, and what there is to say of them.
-spec report(Title :: string(), [line()], [bench:row()], Note :: string()) -> iodata().
report(Title, Lines, Rows, Note) ->
    [medians(Title, Lines, Rows), ranges("Lowest to highest of the rounds", Lines, Rows), Note].

-spec medians(Title :: string(), [line()], [bench:row()]) -> iodata().
medians(Title, Lines, Rows) ->
    table(Title, Lines, Rows, fun cell/2).

-spec ranges(Title :: string(), [line()], [bench:row()]) -> iodata().
ranges(Title, Lines, Rows) ->
    table(Title, Lines, Rows, fun range/2).

%% The median; of counts, the sum.
-spec cell(format(), [number()]) -> string().
cell(_Format, []) -> "-";
cell(count, Values) -> integer_to_list(lists:sum(Values));
cell(Format, Values) -> show(Format, bench_stats:median(Values)).

%% Internals.

table(Title, Lines, Rows, Cell) ->
    Header = [Title | [Label || #{label := Label} <- Rows]],
    {Text, _Widths} = bench_text:columns([Header | [line(Line, Rows, Cell) || Line <- Lines]], 1),
    [Text, "\n"].

line({Key, Name, Format}, Rows, Cell) ->
    [lists:flatten(Name) | [Cell(Format, values(Key, Row)) || Row <- Rows]].

values(Key, #{results := Results}) ->
    [maps:get(Key, R) || R <- Results, is_map_key(Key, R)].

range(_Format, []) -> "-";
range(count, Values) -> cell(count, Values);
range(Format, Values) -> show(Format, lists:min(Values)) ++ " to " ++ show(Format, lists:max(Values)).

show(thousands, Value) -> bench_text:thousands(Value);
show(us, Value) -> bench_text:us(Value);
show(ms, Value) -> bench_text:fixed(Value, 1);
show(_, Value) -> bench_text:fixed(Value, 2).
