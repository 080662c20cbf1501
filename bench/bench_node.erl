%% SPDX-License-Identifier: Apache-2.0
%%
%% The node under test. One Python per node is the rule of the application, so
%% each row of the table is a node of its own, driven over file descriptors 3
%% and 4 (standard output stays free for whatever the node wants to say): a
%% request is an external term {Module, Function, Args}, the answer {ok, Value} or
%% {error, Reason}. The node ends when descriptor 3 does, so that none outlives
%% the runner.
%%
%% Callers time their own calls with the monotonic clock, one reading a call: a
%% call lasts from the return of the one before to its own. All callers run
%% from the start of the warm-up, and record between two instants that are the
%% same for all.
-module(bench_node).

-export([main/0]).
-export([load/3, spaced/2, cpu_bound/3, squares/1, squares_for/1, together/1, native/1, ms/1]).

-type load() :: #{
    samples := [binary()],
    seconds := float(),
    cpu_us := float()
}.
-export_type([load/0]).

-define(PROBE, 200000).

-spec main() -> no_return().
main() ->
    Port = open_port({fd, 3, 4}, [{packet, 4}, binary, eof]),
    serve(Port).

%% Calls of math.sqrt by a number of callers at once.
-spec load(pos_integer(), non_neg_integer(), pos_integer()) -> load().
load(Callers, WarmMs, RunMs) ->
    Call = bench_backend:caller(math, sqrt, [16]),
    Cpu0 = bench_backend:cpu_us(),
    Begin = erlang:monotonic_time(),
    From = Begin + native(WarmMs),
    To = From + native(RunMs),
    Results = together([fun() -> caller_loop(Call, From, To) end || _ <- lists:seq(1, Callers)]),
    Cpu = bench_backend:cpu_us() - Cpu0,
    Samples = [S || {_, S} <- Results],
    Calls = lists:sum([Warm + byte_size(S) div 8 || {Warm, S} <- Results]),
    #{samples => Samples, seconds => RunMs / 1000, cpu_us => Cpu / Calls}.

%% Calls of one caller with a pause before each, after which whatever spins in
%% wait of the next call has gone to sleep: the wake-ups that calls without a
%% pause avoid are in these.
-spec spaced(pos_integer(), pos_integer()) -> [binary()].
spaced(PauseMs, RunMs) ->
    Call = bench_backend:caller(math, sqrt, [16]),
    To = erlang:monotonic_time() + native(RunMs),
    together([fun() -> spaced_loop(Call, PauseMs, To, <<>>) end]).

%% Milliseconds that so many calls of pure Python take when they run at once,
%% each summing N squares.
-spec cpu_bound(pos_integer(), pos_integer(), pos_integer()) -> [float()].
cpu_bound(Callers, N, Rounds) ->
    {M, F, Args} = squares(N),
    Call = bench_backend:caller(M, F, Args),
    Want = {ok, (N - 1) * N * (2 * N - 1) div 6},
    [
        begin
            Begin = erlang:monotonic_time(),
            Results = together([Call || _ <- lists:seq(1, Callers)]),
            Ms = ms(erlang:monotonic_time() - Begin),
            [Want = R || R <- Results],
            Ms
        end
     || _ <- lists:seq(1, Rounds)
    ].

%% The call that sums N squares.
-spec squares(pos_integer()) -> {module(), atom(), [term()]}.
squares(N) ->
    {builtins, eval, [<<"sum(i * i for i in range(", (integer_to_binary(N))/binary, "))">>, #{}]}.

%% So many squares as take about the time wanted, in this Python.
-spec squares_for(pos_integer()) -> pos_integer().
squares_for(Ms) ->
    max(1, round(?PROBE * Ms / lists:min(cpu_bound(1, ?PROBE, 3)))).

%% What each fun returns, once all of them have.
-spec together([fun(() -> Result)]) -> [Result].
together(Funs) ->
    Self = self(),
    Callers = [spawn_monitor(fun() -> Self ! {self(), F()} end) || F <- Funs],
    [
        receive
            {Pid, Result} ->
                demonitor(Ref, [flush]),
                Result;
            {'DOWN', Ref, process, Pid, Reason} ->
                error({caller_died, Reason})
        end
     || {Pid, Ref} <- Callers
    ].

-spec native(non_neg_integer()) -> integer().
native(Ms) ->
    erlang:convert_time_unit(Ms, millisecond, native).

-spec ms(integer()) -> float().
ms(Native) ->
    Native * 1000 / erlang:convert_time_unit(1, second, native).

%% Internals.

serve(Port) ->
    receive
        {Port, {data, Data}} ->
            {Module, Function, Args} = binary_to_term(Data),
            Answer =
                try
                    {ok, apply(Module, Function, Args)}
                catch
                    Class:Reason:Stack -> {error, {Class, Reason, Stack}}
                end,
            port_command(Port, term_to_binary(Answer)),
            serve(Port);
        {Port, eof} ->
            halt(0, [{flush, false}])
    end.

caller_loop(Call, From, To) ->
    warm(Call, From, To, 0).

warm(Call, From, To, N) ->
    {ok, 4.0} = Call(),
    case erlang:monotonic_time() of
        Now when Now >= From -> record(Call, To, Now, N + 1, <<>>);
        _ -> warm(Call, From, To, N + 1)
    end.

record(Call, To, Last, Warm, Samples) ->
    {ok, 4.0} = Call(),
    case erlang:monotonic_time() of
        Now when Now =< To -> record(Call, To, Now, Warm, <<Samples/binary, (Now - Last):64>>);
        _ -> {Warm + 1, Samples}
    end.

spaced_loop(Call, PauseMs, To, Samples) ->
    receive
    after PauseMs -> ok
    end,
    Begin = erlang:monotonic_time(),
    {ok, 4.0} = Call(),
    End = erlang:monotonic_time(),
    All = <<Samples/binary, (End - Begin):64>>,
    case End < To of
        true -> spaced_loop(Call, PauseMs, To, All);
        false -> All
    end.
