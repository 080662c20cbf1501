%% SPDX-License-Identifier: Apache-2.0
%%
%% The node under test. One Python per node is the rule of the application, so
%% each row of the table is a node of its own, driven over file descriptors 3
%% and 4 (standard output stays free for whatever the node wants to say): a
%% request is an external term {Function, Args}, the answer {ok, Value} or
%% {error, Reason}. The node ends when descriptor 3 does, so that none outlives
%% the runner.
%%
%% Callers time their own calls with the monotonic clock, one reading a call: a
%% call lasts from the return of the one before to its own. All callers run
%% from the start of the warm-up, and record between two instants that are the
%% same for all.
-module(bench_node).

-export([main/0]).
-export([start/1, load/3, spaced/2, cpu_bound/3]).

-type row() :: port | {variant, string()}.
-type load() :: #{
    samples := [binary()],
    seconds := float(),
    cpu_us := float()
}.
-export_type([row/0, load/0]).

-define(BACKEND, {?MODULE, backend}).

-spec main() -> no_return().
main() ->
    Port = open_port({fd, 3, 4}, [{packet, 4}, binary, eof]),
    serve(Port).

%% Bring up what the row is about. Returns what it runs in.
-spec start({row(), file:filename()}) ->
    #{os_pids := [non_neg_integer()], python := string()}.
start({port, Python}) ->
    Server = bench_port:start(Python),
    backend({port, Server}),
    {ok, Version} = call(platform, python_version, []),
    #{os_pids => os_pids(), python => binary_to_list(Version)};
start({{variant, Variant}, _Python}) ->
    {ok, _} = application:ensure_all_started(erlang_python),
    backend(py),
    %% The environment names the variant; a node that runs another one would
    %% put its figures in the wrong row.
    Mode = atom_to_list(py:execution_mode()),
    lists:suffix("-" ++ Mode, Variant) orelse error({not_this_mode, Mode}),
    {ok, Version} = py:version(),
    #{os_pids => os_pids(), python => binary_to_list(Version)}.

%% Calls of math.sqrt by a number of callers at once.
-spec load(pos_integer(), non_neg_integer(), pos_integer()) -> load().
load(Callers, WarmMs, RunMs) ->
    Call = caller(math, sqrt, [16]),
    Cpu0 = cpu_us(),
    Begin = erlang:monotonic_time(),
    From = Begin + native(WarmMs),
    To = From + native(RunMs),
    Results = together([fun() -> caller_loop(Call, From, To) end || _ <- lists:seq(1, Callers)]),
    Cpu = cpu_us() - Cpu0,
    Samples = [S || {_, S} <- Results],
    Calls = lists:sum([Warm + byte_size(S) div 8 || {Warm, S} <- Results]),
    #{samples => Samples, seconds => RunMs / 1000, cpu_us => Cpu / Calls}.

%% Calls of one caller with a pause before each, after which whatever spins in
%% wait of the next call has gone to sleep: the wake-ups that calls without a
%% pause avoid are in these.
-spec spaced(pos_integer(), pos_integer()) -> [binary()].
spaced(PauseMs, RunMs) ->
    Call = caller(math, sqrt, [16]),
    To = erlang:monotonic_time() + native(RunMs),
    together([fun() -> spaced_loop(Call, PauseMs, To, <<>>) end]).

%% Milliseconds that so many calls of pure Python take when they run at once,
%% each summing N squares.
-spec cpu_bound(pos_integer(), pos_integer(), pos_integer()) -> [float()].
cpu_bound(Callers, N, Rounds) ->
    Code = <<"sum(i * i for i in range(", (integer_to_binary(N))/binary, "))">>,
    Call = caller(builtins, eval, [Code, #{}]),
    Want = {ok, (N - 1) * N * (2 * N - 1) div 6},
    [
        begin
            Begin = erlang:monotonic_time(),
            Results = together([Call || _ <- lists:seq(1, Callers)]),
            Ms = (erlang:monotonic_time() - Begin) * 1000 / native_per_second(),
            [Want = R || R <- Results],
            Ms
        end
     || _ <- lists:seq(1, Rounds)
    ].

%% Internals.

serve(Port) ->
    receive
        {Port, {data, Data}} ->
            {Function, Args} = binary_to_term(Data),
            Answer =
                try
                    {ok, apply(?MODULE, Function, Args)}
                catch
                    Class:Reason:Stack -> {error, {Class, Reason, Stack}}
                end,
            port_command(Port, term_to_binary(Answer)),
            serve(Port);
        {Port, eof} ->
            halt(0, [{flush, false}])
    end.

backend(Backend) ->
    persistent_term:put(?BACKEND, Backend).

call(M, F, Args) ->
    (caller(M, F, Args))().

caller(M, F, Args) ->
    case persistent_term:get(?BACKEND) of
        py -> fun() -> py:call(M, F, Args) end;
        {port, Server} -> fun() -> bench_port:call(Server, M, F, Args) end
    end.

cpu_us() ->
    lists:sum([bench_proc:cpu_us(Pid) || Pid <- os_pids()]).

%% This node and, if it is another process, its Python.
os_pids() ->
    Own = list_to_integer(os:getpid()),
    case persistent_term:get(?BACKEND) of
        py -> [Own];
        {port, Server} -> [Own, bench_port:os_pid(Server)]
    end.

%% What each fun returns, once all of them have.
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

native(Ms) ->
    erlang:convert_time_unit(Ms, millisecond, native).

native_per_second() ->
    erlang:convert_time_unit(1, second, native).
