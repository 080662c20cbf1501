%% SPDX-License-Identifier: Apache-2.0
%%
%% The measurements of bench/run --core, in the node under test. Each function is one
%% of them and returns a map of figures. What the row cannot do is not in the map:
%% a port has no inline calls, not every Python has sub-interpreters.
-module(bench_core_node).

-export([admission/0, throughput/4, deadline/0, loop_end/0, beside_slow/0]).
-export([inline/2, async/2, cast/0, parallel/1, contexts/0]).

-define(POOL, bench_core).

%% Admission: so many callers of a function that sleeps, and so many slots.
-define(CALLERS, 50).
-define(SLOTS, 5).
-define(SLEEP_MS, 20).
-define(EXECUTORS, 10).
-define(APART_MS, 2).

-define(TIMEOUT_MS, 100).
-define(STUCK_S, 10).

-define(SLOW_S, 1).
-define(FAST_CALLERS, 10).
-define(FAST_CALLS, 1000). % of each of them

-define(IN_FLIGHT, 50).
-define(CASTS, 50000).
-define(CONTEXT_CALLS, 1000).
-define(CONTEXTS, 5).
%% Calls between two readings of the clock, where the calls are counted only.
-define(BATCH, 10).

-type figures() :: #{atom() | {atom(), term()} => float()}.
-export_type([figures/0]).

%% Callers that come at once: the time that all took, by the least that they can take with
%% so many slots. Callers that come one after the other: the most by which an answer came
%% before the one of a call that began earlier.
-spec admission() -> figures().
admission() ->
    bench_backend:with_limit(?SLOTS, fun() ->
        bench_backend:with_pool(?POOL, ?EXECUTORS, fun admission_in_pool/0)
    end).

%% Calls a second of so many callers with so many slots.
-spec throughput(default | pos_integer(), pos_integer(), non_neg_integer(), pos_integer()) -> figures().
throughput(Limit, Callers, WarmMs, RunMs) ->
    Rate = bench_backend:with_limit(Limit, fun() -> rate(sqrt(), Callers, WarmMs, RunMs) end),
    #{{throughput, {Limit, Callers}} => Rate}.

%% When the caller of a function that sits in C has its timeout, and how long the next
%% call takes in that pool of one executor.
-spec deadline() -> figures().
deadline() ->
    Stuck = bench_backend:caller(?POOL, time, sleep, [?STUCK_S], ?TIMEOUT_MS),
    Next = bench_backend:caller(?POOL, math, sqrt, [16], infinity),
    bench_backend:with_pool(?POOL, 1, fun() ->
        {ok, 4.0} = Next(),
        TimeoutMs = duration_ms(Stuck, {error, timeout}),
        #{timeout_ms => TimeoutMs, after_timeout_ms => duration_ms(Next, {ok, 4.0})}
    end).

%% When a loop of pure Python has ended, counted from its timeout. It tells that itself.
-spec loop_end() -> figures().
loop_end() ->
    case bench_backend:is_port() of
        true ->
            #{};
        false ->
            %% In a process of its own, as the names are those of the process.
            [Seconds] = bench_node:together([fun ended_loop/0]),
            #{loop_end_ms => Seconds * 1000 - ?TIMEOUT_MS}
    end.

%% Fast calls alone, and while a slow one runs that began before.
-spec beside_slow() -> figures().
beside_slow() ->
    Slow = bench_backend:caller(time, sleep, [?SLOW_S]),
    #{p99 := AloneP99, max := AloneMax} = fast_calls(),
    {_, Monitor} = spawn_monitor(fun() -> {ok, none} = Slow() end),
    timer:sleep(50),
    #{p99 := P99, max := Max} = fast_calls(),
    receive
        {'DOWN', Monitor, process, _, Reason} -> normal = Reason
    end,
    #{
        fast_p99_us => AloneP99,
        fast_max_us => AloneMax,
        beside_slow_p99_us => P99,
        beside_slow_max_us => Max
    }.

%% math.sqrt on the scheduler of the caller: microseconds of a call, and calls a second
%% by those of the normal path.
-spec inline(non_neg_integer(), pos_integer()) -> figures().
inline(WarmMs, RunMs) ->
    case bench_backend:is_port() of
        true -> #{};
        false -> lists:foldl(fun maps:merge/2, #{}, [inline(N, WarmMs, RunMs) || N <- [1, 2]])
    end.

%% Calls a second of one process that begins many before it awaits them.
-spec async(non_neg_integer(), pos_integer()) -> figures().
async(WarmMs, RunMs) ->
    Many = fun() ->
        Refs = [bench_backend:submit(math, sqrt, [16]) || _ <- lists:seq(1, ?IN_FLIGHT)],
        [{ok, 4.0} = bench_backend:await(Ref) || Ref <- Refs],
        {ok, 4.0}
    end,
    #{async => ?IN_FLIGHT * rate(Many, 1, WarmMs, RunMs)}.

%% Calls a second of one process that casts, until Python has done them all.
-spec cast() -> figures().
cast() ->
    ok = bench_backend:drain(),
    Ms = duration_ms(
        fun() ->
            [bench_backend:cast(math, sqrt, [16]) || _ <- lists:seq(1, ?CASTS)],
            bench_backend:drain()
        end,
        ok
    ),
    #{cast => ?CASTS * 1000 / Ms}.

%% The time of computations in pure Python, one for each core, by the time of one. One
%% takes about so many milliseconds.
-spec parallel(pos_integer()) -> figures().
parallel(CpuMs) ->
    Call = bench_node:squares(bench_node:squares_for(CpuMs)),
    Cores = erlang:system_info(schedulers_online),
    [Alone1, All, Alone2] = [parallel_ms(Call, N) || N <- [1, Cores, 1]],
    #{parallel => All / ((Alone1 + Alone2) / 2)}.

%% Microseconds of a call to a context, and milliseconds that it takes to make one. What a
%% port has in place of it is another Python.
-spec contexts() -> figures().
contexts() ->
    case bench_backend:is_port() of
        true -> #{new_python_ms => median_of_new(fun new_port/0)};
        false -> maps:merge(context(worker), context(owngil))
    end.

%% Internals.

admission_in_pool() ->
    Call = bench_backend:caller(?POOL, time, sleep, [?SLEEP_MS / 1000], infinity),
    {ok, none} = Call(),
    AtOnce = sleepers(Call, fun(_) -> 0 end),
    InTurn = sleepers(Call, fun(I) -> I * ?APART_MS end),
    Total = lists:max([E || {_, E} <- AtOnce]) - lists:min([B || {B, _} <- AtOnce]),
    #{
        admission => bench_node:ms(Total) / (?CALLERS / ?SLOTS * ?SLEEP_MS),
        overtaking_ms => bench_node:ms(overtaking(lists:sort(InTurn)))
    }.

%% When each began and ended. Delay says how long the Ith waits before its call.
sleepers(Call, Delay) ->
    Caller = fun(I) ->
        timer:sleep(Delay(I)),
        span(Call, {ok, none})
    end,
    bench_node:together([fun() -> Caller(I) end || I <- lists:seq(1, ?CALLERS)]).

sqrt() ->
    bench_backend:caller(math, sqrt, [16]).

%% When a call began and ended.
span(Call, Want) ->
    Begin = erlang:monotonic_time(),
    Want = Call(),
    {Begin, erlang:monotonic_time()}.

duration_ms(Call, Want) ->
    {Begin, End} = span(Call, Want),
    bench_node:ms(End - Begin).

%% Of calls in the order of their beginning.
overtaking([{_, End} | Rest]) -> overtaking(Rest, End, 0).

overtaking([], _Latest, Most) -> Most;
overtaking([{_, End} | Rest], Latest, Most) -> overtaking(Rest, max(End, Latest), max(Most, Latest - End)).

%% Calls a second, of all callers together. Each counts those between two readings of its
%% own clock, so that callers whose batch takes long are counted right.
rate(Call, Callers, WarmMs, RunMs) ->
    From = erlang:monotonic_time() + bench_node:native(WarmMs),
    To = From + bench_node:native(RunMs),
    Caller = fun() ->
        {_, Begin} = batches(Call, From, 0),
        {Batches, End} = batches(Call, To, 0),
        Batches * ?BATCH * 1000 / bench_node:ms(End - Begin)
    end,
    lists:sum(bench_node:together(lists:duplicate(Callers, Caller))).

batches(Call, To, N) ->
    batch(Call, ?BATCH),
    case erlang:monotonic_time() of
        Now when Now >= To -> {N + 1, Now};
        _ -> batches(Call, To, N + 1)
    end.

batch(_Call, 0) ->
    ok;
batch(Call, N) ->
    {ok, 4.0} = Call(),
    batch(Call, N - 1).

%% Each call timed by itself.
samples(_Call, 0, Samples) ->
    Samples;
samples(Call, N, Samples) ->
    {Begin, End} = span(Call, {ok, 4.0}),
    samples(Call, N - 1, <<Samples/binary, (End - Begin):64>>).

fast_calls() ->
    Caller = fun() -> samples(sqrt(), ?FAST_CALLS, <<>>) end,
    bench_stats:summary(bench_node:together(lists:duplicate(?FAST_CALLERS, Caller))).

ended_loop() ->
    ok = py:exec(
        "import time\n"
        "ended = None\n"
        "def loop():\n"
        "    global ended\n"
        "    begin = time.monotonic()\n"
        "    try:\n"
        "        while True:\n"
        "            pass\n"
        "    finally:\n"
        "        ended = time.monotonic() - begin\n"
    ),
    {error, timeout} = py:call('__main__', loop, [], #{}, ?TIMEOUT_MS),
    ended().

%% Not so often that the question delays the end.
ended() ->
    timer:sleep(100),
    case py:eval("ended") of
        {ok, none} -> ended();
        {ok, Seconds} -> Seconds
    end.

inline(Callers, WarmMs, RunMs) ->
    Normal = rate(sqrt(), Callers, WarmMs, RunMs),
    ok = py:register_pool(inline, {math, sqrt}),
    try
        Rate = rate(sqrt(), Callers, WarmMs, RunMs),
        inline_figures(py_context_router:lookup_pool(math, sqrt), Callers, Rate, Normal)
    after
        ok = py:unregister_pool({math, sqrt})
    end.

%% Where the system stops a scheduler now and then, the function may have been moved back to
%% the normal path meanwhile. Then the rate is one of both paths, and says nothing.
inline_figures(inline, Callers, Rate, Normal) ->
    #{
        {inline_us, Callers} => Callers * 1.0e6 / Rate,
        {inline_ratio, Callers} => Rate / Normal,
        {moved_back, Callers} => 0
    };
inline_figures(_, Callers, _Rate, _Normal) ->
    #{{moved_back, Callers} => 1}.

parallel_ms(Call, N) ->
    Calls = lists:duplicate(N, Call),
    {Begin, End} = span(fun() -> [ok = element(1, R) || R <- bench_backend:parallel(Calls)], ok end, ok),
    bench_node:ms(End - Begin).

context(Mode) ->
    case py_context:new(#{mode => Mode}) of
        {ok, Context} ->
            Call = bench_backend:caller(Context, math, sqrt, [16], infinity),
            #{p50 := P50} = bench_stats:summary([samples(Call, ?CONTEXT_CALLS, <<>>)]),
            ok = py_context:stop(Context),
            #{
                {context_us, Mode} => P50,
                {new_context_ms, Mode} => median_of_new(fun() -> new_context(Mode) end)
            };
        {error, _} ->
            #{}
    end.

%% New makes one, and returns how to end it again.
median_of_new(New) ->
    bench_stats:median([
        begin
            {Begin, {End, Stop}} = {erlang:monotonic_time(), made(New)},
            ok = Stop(),
            bench_node:ms(End - Begin)
        end
     || _ <- lists:seq(1, ?CONTEXTS)
    ]).

made(New) ->
    Stop = New(),
    {erlang:monotonic_time(), Stop}.

new_context(Mode) ->
    {ok, Context} = py_context:new(#{mode => Mode}),
    fun() -> py_context:stop(Context) end.

%% A port is there when it has answered.
new_port() ->
    Server = bench_port:start(bench_backend:python()),
    {ok, 4.0} = bench_port:call(Server, math, sqrt, [16]),
    fun() -> bench_port:stop(Server) end.
