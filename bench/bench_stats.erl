%% SPDX-License-Identifier: Apache-2.0
%%
%% Order statistics of samples. No means: one stall of the machine would rule them.
-module(bench_stats).

-export([summary/1, median/1]).

%% Median, 99th percentile (nearest rank), minimum and maximum of native time units in
%% 64-bit words, in microseconds.
-spec summary([binary()]) ->
    #{n := pos_integer(), p50 := float(), p99 := float(), min := float(), max := float()}.
summary(Binaries) ->
    Sorted = list_to_tuple(lists:sort([T || B <- Binaries, <<T:64>> <= B])),
    N = tuple_size(Sorted),
    N > 0 orelse error(no_samples),
    Rank = fun(P) -> us(element(max(1, ceil(P * N)), Sorted)) end,
    #{
        n => N,
        p50 => Rank(0.5),
        p99 => Rank(0.99),
        min => us(element(1, Sorted)),
        max => us(element(N, Sorted))
    }.

-spec median([number(), ...]) -> float().
median(Values) ->
    Sorted = lists:sort(Values),
    N = length(Sorted),
    (lists:nth((N + 1) div 2, Sorted) + lists:nth(N div 2 + 1, Sorted)) / 2.

%% Internals.

us(Native) ->
    Native * 1.0e6 / erlang:convert_time_unit(1, second, native).
