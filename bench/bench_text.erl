%% SPDX-License-Identifier: Apache-2.0
%%
%% Numbers and columns of the tables.
-module(bench_text).

-export([us/1, thousands/1, fixed/2, columns/2]).

-spec us(number()) -> string().
us(Us) when Us >= 100 -> integer_to_list(round(Us));
us(Us) -> fixed(Us, 1).

-spec thousands(number()) -> string().
thousands(Rate) -> fixed(Rate / 1000, 1).

-spec fixed(number(), non_neg_integer()) -> string().
fixed(F, Digits) -> float_to_list(float(F), [{decimals, Digits}]).

%% The lines under each other, the first so many columns to the left, the others to
%% the right; and the widths of the columns.
-spec columns([[string()]], non_neg_integer()) -> {Lines :: iodata(), Widths :: [non_neg_integer()]}.
columns([First | _] = Lines, Left) ->
    Widths = [
        lists:max([string:length(lists:nth(I, L)) || L <- Lines])
     || I <- lists:seq(1, length(First))
    ],
    {[[line(L, Widths, Left), "\n"] || L <- Lines], Widths}.

%% Internals.

line(Cells, Widths, Left) ->
    Padded = [pad(C, W, I =< Left) || {I, C, W} <- lists:zip3(lists:seq(1, length(Cells)), Cells, Widths)],
    lists:join("  ", Padded).

pad(Cell, Width, true) -> string:pad(Cell, Width);
pad(Cell, Width, false) -> string:pad(Cell, Width, leading).
