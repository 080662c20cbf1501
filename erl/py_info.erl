%% SPDX-License-Identifier: Apache-2.0
%% @private
%% What py:info/0 and its like tell.
-module(py_info).

-export([info/1, pool/1, stacks/0, memory_stats/0, gc/1, tracemalloc_start/1, tracemalloc_stop/0]).

%% For interpreters whose GIL is not given up.
-define(TIMEOUT, 5000).

%%% py:info/0

-spec info(py_nif:info()) -> map().
info({Variant, Mode, Version, State, Executors, HasSubinterps, Stdlib}) ->
    Stats = py_nif:stats(),
    {Current, Max, Waiting} = maps:get(slots, Stats),
    Stats#{variant => Variant, mode => Mode, version => Version, state => State,
           num_executors => Executors, subinterp_supported => HasSubinterps, stdlib => Stdlib,
           slots => #{current => Current, max => Max, waiting => Waiting},
           pools => pools(maps:get(groups, Stats)),
           loops => py_event_loop:infos(),
           contexts => py_contexts:all(), contexts_replaced => py_context_router:replaced(),
           registrations => py_context_router:list_pool_registrations()}.

%% One pool of them.
-spec pool(atom()) -> {ok, map()} | {error, py:reason()}.
pool(Name) ->
    case py_context_router:pool_started(Name) andalso pools(maps:get(groups, py_nif:stats())) of
        #{Name := Pool} -> {ok, Pool};
        _ -> {error, {'ValueError', unicode:characters_to_binary(io_lib:format("there is no pool ~tw", [Name]))}}
    end.

%% The groups of each pool together.  All contexts are together under `context'.
pools(Groups) ->
    lists:foldl(fun(#{pool := Name, interp := Interp} = Group, Pools) ->
                        Facts = (maps:without([id, interp, pool], Group))#{interpreters => [Interp]},
                        maps:update_with(Name, fun(Sum) -> add(Sum, Facts) end, Facts, Pools)
                end, #{}, Groups).

add(Sum, Facts) ->
    maps:map(fun(Key, Value) -> add(Key, Value, maps:get(Key, Facts)) end, Sum).

add(interpreters, Some, More) -> lists:usort(Some ++ More);
add(_Counter, N, M) when is_integer(N) -> N + M;
add(_Histogram, Counts, More) -> add_counts(Counts, More).

%% Both are in the order of their bounds; `infinity' comes after all numbers.
add_counts([{Bound, N} | Rest], [{Bound, M} | More]) -> [{Bound, N + M} | add_counts(Rest, More)];
add_counts([{A, _} = Count | Rest], [{B, _} | _] = More) when A < B -> [Count | add_counts(Rest, More)];
add_counts([_ | _] = Counts, [Count | More]) -> [Count | add_counts(Counts, More)];
add_counts([], More) -> More;
add_counts(Counts, []) -> Counts.

%%% The stacks

-spec stacks() -> {ok, [map()]}.
stacks() ->
    {ok, lists:append([stacks(Id, Answer) || {Id, Answer} <- in_all(stacks, [])])}.

stacks(Id, {ok, Threads}) ->
    [#{interpreter => Id, name => Name, thread => Thread, frames => [frame(F) || F <- Frames]}
     || {Name, Thread, Frames} <- Threads];
stacks(Id, {error, Reason}) ->
    [#{interpreter => Id, error => Reason}].

frame({File, Line, Function, Code}) ->
    #{file => File, line => Line, function => Function, code => Code}.

%%% Memory

-spec memory_stats() -> {ok, map()} | {error, py:reason()}.
memory_stats() ->
    Answers = in_all(memory, []),
    case [{Id, memory(Facts)} || {Id, {ok, Facts}} <- Answers] of
        [] ->
            [{_, Error} | _] = Answers,
            Error;
        [{_, First} | _] = All ->
            Failed = [{Id, #{error => Reason}} || {Id, {error, Reason}} <- Answers],
            Sum = sum([Facts || {_, Facts} <- All]),
            {ok, maps:merge(First, Sum#{interpreters => maps:from_list(All ++ Failed)})}
    end.

memory({Stats, Count, Threshold, Traced}) ->
    Facts = #{gc_stats => [generation(S) || S <- Stats], gc_count => tuple_to_list(Count),
              gc_threshold => tuple_to_list(Threshold)},
    case Traced of
        none -> Facts;
        {Current, Peak} -> Facts#{traced_memory_current => Current, traced_memory_peak => Peak}
    end.

generation({Collections, Collected, Uncollectable}) ->
    #{collections => Collections, collected => Collected, uncollectable => Uncollectable}.

sum(All) ->
    #{gc_stats => columns(fun sum_generations/1, [Stats || #{gc_stats := Stats} <- All]),
      gc_count => columns(fun lists:sum/1, [Count || #{gc_count := Count} <- All])}.

sum_generations(Stats) ->
    maps:from_list([{Key, lists:sum([maps:get(Key, S) || S <- Stats])}
                    || Key <- [collections, collected, uncollectable]]).

columns(_Fun, [[] | _]) -> [];
columns(Fun, Lists) -> [Fun([hd(L) || L <- Lists]) | columns(Fun, [tl(L) || L <- Lists])].

-spec gc(term()) -> {ok, non_neg_integer()} | {error, py:reason()}.
gc(Generation) when Generation =:= 0; Generation =:= 1; Generation =:= 2 ->
    %% A collection takes as long as it takes.
    Answers = py_service:run(py_service:interpreters(), 'erlang._inspect', collect, [Generation], infinity),
    case [Error || {_, {error, _} = Error} <- Answers] of
        [] -> {ok, lists:sum([N || {_, {ok, N}} <- Answers])};
        [Error | _] -> Error
    end;
gc(Generation) ->
    refused("the generation must be 0, 1 or 2, not ~tP", [Generation, 10]).

%% Python traces for the whole process, and does it from the main interpreter only.
-spec tracemalloc_start(term()) -> ok | {error, py:reason()}.
tracemalloc_start(Frames) when is_integer(Frames), Frames >= 1, Frames =< 65535 ->
    IsParallel = py:execution_mode() =:= free_threaded orelse py_service:interpreters() =/= [0],
    in_main(trace_start, [Frames, IsParallel]);
tracemalloc_start(Frames) ->
    refused("the number of frames must be from 1 to 65535, not ~tP", [Frames, 10]).

-spec tracemalloc_stop() -> ok | {error, py:reason()}.
tracemalloc_stop() ->
    in_main(trace_stop, []).

refused(Format, Args) ->
    {error, {'ValueError', unicode:characters_to_binary(io_lib:format(Format, Args))}}.

in_main(Function, Args) ->
    case py_service:run([0], 'erlang._inspect', Function, Args, ?TIMEOUT) of
        [{0, {ok, _}}] -> ok;
        [{0, {error, _} = Error}] -> Error
    end.

in_all(Function, Args) ->
    py_service:run(py_service:interpreters(), 'erlang._inspect', Function, Args, ?TIMEOUT).
