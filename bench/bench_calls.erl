%% SPDX-License-Identifier: Apache-2.0
%%
%% The calls of bench/run: how fast one caller is served, and many, beside the port.
-module(bench_calls).
-behaviour(bench).

-export([one_round/2, brief/1, report/1]).

-define(CALLERS, [1, 10, 50, 100]).
-define(PAUSE_MS, 1).

%% {load, Callers} => ..., parallel => Ratio, spaced => ....
-spec one_round(bench:ask(), bench:options()) -> bench:result().
one_round(Ask, #{run_ms := RunMs, warm_ms := WarmMs, cpu_ms := CpuMs}) ->
    Loads = [
        {{load, Callers}, load(Ask(bench_node, load, [Callers, WarmMs, RunMs], WarmMs + RunMs))}
     || Callers <- ?CALLERS
    ],
    N = Ask(bench_node, squares_for, [CpuMs], CpuMs),
    CpuBound = fun(Callers) -> hd(Ask(bench_node, cpu_bound, [Callers, N, 1], Callers * CpuMs)) end,
    [Alone1, Both, Alone2] = [CpuBound(Callers) || Callers <- [1, 2, 1]],
    Parallel = Both / ((Alone1 + Alone2) / 2),
    Spaced = bench_stats:summary(Ask(bench_node, spaced, [?PAUSE_MS, RunMs], RunMs)),
    maps:from_list([{parallel, Parallel}, {spaced, Spaced} | Loads]).

-spec brief(bench:result()) -> iodata().
brief(#{parallel := Parallel, spaced := #{p50 := Spaced}} = Result) ->
    [
        [
            io_lib:format("~b: ~ts us ~tsk/s  ", [C, us(P50), thousands(Rate)])
         || C <- ?CALLERS, #{p50 := P50, rate := Rate} <- [maps:get({load, C}, Result)]
        ],
        io_lib:format("spaced: ~ts us  two/one: ~.2f", [us(Spaced), Parallel])
    ].

-spec report([bench:row()]) -> iodata().
report(Rows) ->
    [
        table(Rows),
        "spaced: p50 and p99 of calls 1 ms apart, which find all threads asleep.\n"
        "CPU us: processor time of a call, all processes and threads, with 1 and 50 callers.\n"
        "2 at once: time of two CPU-bound calls of pure Python, by the time of one alone.\n"
        "x port: calls/s by those of the port, with 1 and 50 callers.\n"
        "Thousand calls/s with 1 and 50 callers, lowest to highest of the rounds:\n",
        [
            io_lib:format("  ~ts: ~ts, ~ts~n", [L, range(R, 1), range(R, 50)])
         || #{label := L} = R <- Rows
        ]
    ].

%% Internals.

load(#{samples := Samples, seconds := Seconds, cpu_us := Cpu}) ->
    #{n := N} = Summary = bench_stats:summary(Samples),
    Summary#{rate => N / Seconds, cpu => Cpu}.

%% Two lines of header: what a group of columns is, and what each of it is.
table(Rows) ->
    Base = [R || #{what := port} = R <- Rows],
    Titles = [
        "", "", "one caller, us", "", "", "", "", "thousand calls/s of callers", "", "", "",
        "p50 / p99 us of callers", "", "", "CPU us", "", "2 at", "x port", ""
    ],
    Columns = [
        "variant", "Python", "p50", "p99", "min", "spaced", "p99", "1", "10", "50", "100",
        "10", "50", "100", "1", "50", "once", "1", "50"
    ],
    {Text, Widths} = bench_text:columns([Columns | [line(R, Base) || R <- Rows]], 2),
    [titles(Titles, Widths), "\n", Text, "\n"].

line(#{label := Label, info := #{python := Python}} = Row, Base) ->
    At = fun(Callers, Key) -> figure(Row, Callers, Key) end,
    [Label, hd(string:lexemes(Python, " "))] ++
        [us(At(1, K)) || K <- [p50, p99, min]] ++
        [us(median(Row, spaced, K)) || K <- [p50, p99]] ++
        [thousands(At(C, rate)) || C <- ?CALLERS] ++
        [us(At(C, p50)) ++ " / " ++ us(At(C, p99)) || C <- [10, 50, 100]] ++
        [us(At(C, cpu)) || C <- [1, 50]] ++
        [fixed(bench_stats:median([P || #{parallel := P} <- maps:get(results, Row)]), 2)] ++
        [times(Row, Base, C) || C <- [1, 50]].

figure(#{results := Results}, Callers, min) ->
    lists:min([maps:get(min, maps:get({load, Callers}, R)) || R <- Results]);
figure(Row, Callers, Key) ->
    median(Row, {load, Callers}, Key).

%% Over all rounds of a row.
median(#{results := Results}, What, Key) ->
    bench_stats:median([maps:get(Key, maps:get(What, R)) || R <- Results]).

%% Ratios of medians mean little where these overlap.
range(#{results := Results}, Callers) ->
    Rates = [maps:get(rate, maps:get({load, Callers}, R)) || R <- Results],
    [thousands(lists:min(Rates)), " to ", thousands(lists:max(Rates))].

%% Calls per second, compared with the port's.
times(_Row, [], _Callers) -> "-";
times(Row, [Port], Callers) -> fixed(figure(Row, Callers, rate) / figure(Port, Callers, rate), 2).

%% A title stands over the first column of its group and may run on over the rest.
titles(Titles, Widths) ->
    {Line, _} = lists:foldl(
        fun
            ({"", Width}, {Acc, Column}) ->
                {Acc, Column + Width + 2};
            ({Title, Width}, {Acc, Column}) ->
                Gap = max(1, Column - string:length(Acc)),
                {[Acc, lists:duplicate(Gap, $\s), Title], Column + Width + 2}
        end,
        {"", 0},
        lists:zip(Titles, Widths)
    ),
    Line.

us(Us) -> bench_text:us(Us).
thousands(Rate) -> bench_text:thousands(Rate).
fixed(F, Digits) -> bench_text:fixed(F, Digits).
