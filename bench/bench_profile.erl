%% SPDX-License-Identifier: Apache-2.0
%%
%% Where the time of a call goes, and on which thread.
%%
%% One node runs the load of the benchmark while perf samples all of its threads,
%% by the clock if the machine has no counters (in virtual machines it often has
%% none; such samples cannot fall where the kernel has interrupts off, and land
%% at the next place where it has them on). Shown are, for each kind of thread,
%% its share of the samples, how often it went to sleep in a call, and its most
%% expensive functions, all in nanoseconds of a call: CPU time of the node by
%% calls, times share of the samples. Time asleep is not in it.
-module(bench_profile).

-export([run/1]).

-define(SYMBOLS, 14).
-define(WARM_MS, 300).

-spec run(bench:options()) -> 0 | 1.
run(#{only := all}) ->
    bench:usage("bench/profile needs --only ROW");
run(#{graph := Graph, flags := Flags} = Options) ->
    os:find_executable("perf") =/= false orelse bench:usage("no perf in PATH"),
    [Name] = one(bench:row_names(Options)),
    %% Names for what the JIT made; the emulator leaves them in a file.
    Jit = [F || erlang:system_info(emu_flavor) =:= jit, F <- ["+JPperf", "true"]],
    case bench:start_row(Name, Options#{flags := Flags ++ Jit}) of
        {ok, Peer, #{os_pids := Pids}} ->
            Data = filename:join(filename:dirname(code:which(?MODULE)), "perf.data"),
            Maps = ["/tmp/perf-" ++ integer_to_list(P) ++ ".map" || P <- Pids],
            try
                measure(Name, Peer, Pids, Data, Options),
                [io:put_chars(call_graph(Data)) || Graph],
                0
            after
                bench_peer:stop(Peer),
                [file:delete(M) || M <- Maps]
            end;
        {error, Reason} ->
            io:format("~ts does not start: ~0tP~n", [element(1, Name), Reason, 30]),
            1
    end.

%% Internals.

one([_] = Names) -> Names;
one(_) -> bench:usage("bench/profile takes one row at a time").

measure({Label, _, _}, Peer, Pids, Data, #{callers := Callers, run_ms := RunMs, graph := Graph}) ->
    {ok, _} = bench_peer:ask(Peer, bench_node, load, [Callers, 0, ?WARM_MS], 60000),
    Before = switches(Pids),
    %% perf ends with the sleep that it starts, just before the load does.
    Seconds = io_lib:format("~.3f", [RunMs / 1000]),
    Perf = spawn_perf(Pids, Data, Seconds, Graph),
    {ok, #{samples := Samples, seconds := S, cpu_us := Cpu}} =
        bench_peer:ask(Peer, bench_node, load, [Callers, ?WARM_MS, RunMs], RunMs + 60000),
    After = switches(Pids),
    perf_done(Perf),
    #{n := N, p50 := P50} = bench_stats:summary(Samples),
    Calls = N * (RunMs + ?WARM_MS) / RunMs,
    io:format("~ts, callers: ~b, under perf: ~b calls/s, p50 ~.1f us, CPU ~.2f us a call~n~n", [
        Label, Callers, round(N / S), P50, Cpu
    ]),
    io:put_chars(report(Data, Cpu * 1000, slept(Before, After, Calls))).

%% Stacks are taken only on demand: unwinding at each sample makes a call
%% measurably slower. 1999 a second, so as not to beat with the kernel's tick.
spawn_perf(Pids, Data, Seconds, Graph) ->
    Perf = os:find_executable("perf"),
    List = lists:join(",", [integer_to_list(P) || P <- Pids]),
    open_port({spawn_executable, Perf}, [
        {args,
            ["record", "-q", "-e", "cpu-clock", "-F", "1999", "-o", Data] ++
                [Option || Graph, Option <- ["--call-graph", "fp"]] ++
                ["-p", lists:flatten(List), "--", "sleep", lists:flatten(Seconds)]},
        stderr_to_stdout, binary, exit_status
    ]).

perf_done(Perf) ->
    perf_done(Perf, []).

perf_done(Perf, Said) ->
    receive
        {Perf, {data, Data}} -> perf_done(Perf, [Said, Data]);
        {Perf, {exit_status, 0}} -> ok;
        {Perf, {exit_status, Status}} -> error({perf_record, Status, iolist_to_binary(Said)})
    after 60000 -> error({perf_record, does_not_end})
    end.

switches(Pids) ->
    [bench_proc:switches(P) || P <- Pids].

%% Sleeps in a call of each kind of thread.
slept(Before, After, Calls) ->
    lists:foldl(
        fun({Kind, N}, Acc) -> maps:update_with(Kind, fun(X) -> X + N end, N, Acc) end,
        #{},
        [
            {kind(Name), (S1 - S0) / Calls}
         || {B, A} <- lists:zip(Before, After),
            {Tid, {Name, S1, _}} <- maps:to_list(A),
            {_, S0, _} <- [maps:get(Tid, B, {Name, 0, 0})]
        ]
    ).

report(Data, CpuNs, Slept) ->
    Lines = [
        {kind(Comm), Dso, Symbol, Share}
     || {Comm, Dso, Symbol, Share} <- samples(Data)
    ],
    Total = lists:sum([Share || {_, _, _, Share} <- Lines]),
    Total > 0 orelse error(perf_took_no_samples),
    Kinds = lists:reverse(lists:keysort(2, sums([{K, S} || {K, _, _, S} <- Lines]))),
    Ns = fun(Share) -> round(CpuNs * Share / Total) end,
    [
        [
            io_lib:format("~-22ts ~6b ns  ~5.1f %  asleep ~.3f times a call~n", [
                Kind, Ns(Share), 100 * Share / Total, maps:get(Kind, Slept, 0.0)
            ]),
            [
                io_lib:format("    ~6b ns  ~5.1f %  ~ts [~ts]~n", [
                    Ns(S), 100 * S / Total, Symbol, Dso
                ])
             || {{Symbol, Dso}, S} <- top([{{Sy, D}, S} || {K, D, Sy, S} <- Lines, K =:= Kind], Total)
            ],
            "\n"
        ]
     || {Kind, Share} <- Kinds, Share >= Total * 0.005
    ].

top(Costs, Total) ->
    Sorted = lists:reverse(lists:keysort(2, sums(Costs))),
    [C || {_, S} = C <- lists:sublist(Sorted, ?SYMBOLS), S >= Total * 0.004].

sums(Costs) ->
    maps:to_list(
        lists:foldl(
            fun({K, S}, Acc) -> maps:update_with(K, fun(X) -> X + S end, S, Acc) end,
            #{},
            Costs
        )
    ).

%% One tuple for each thread name, library and function.
samples(Data) ->
    Out = perf_report(Data, "--no-children -g none -F sample,comm,dso,sym -t '|'"),
    [
        {string:trim(Comm), filename:basename(string:trim(Dso)), symbol(Symbol),
            list_to_integer(string:trim(Count))}
     || Line <- string:lexemes(Out, "\n"),
        hd(Line) =/= $#,
        [Count, Comm, Dso, Symbol] <- [string:split(Line, "|", all)]
    ].

%% "[.] name": the k or . says where it ran, which the library says as well. Of a
%% stripped library the static functions have addresses only; they are one line.
symbol(Text) ->
    case string:trim(Text) of
        "[" ++ [_, $], $\s, $0, $x | _] -> "(functions without a name)";
        "[" ++ [_, $], $\s | Name] -> Name;
        Name -> Name
    end.

call_graph(Data) ->
    perf_report(Data, "--no-children -s comm,sym -g caller,0.5,callee --percent-limit 2").

perf_report(Data, Options) ->
    os:cmd("perf report -i '" ++ Data ++ "' --stdio -q " ++ Options ++ " 2>/dev/null").

%% Threads that do the same are one kind, whatever the release calls them.
kind(Comm) ->
    Kinds = [
        {"^(erts_sched_)?[0-9]+(_scheduler)?$", "BEAM schedulers"},
        {"^[0-9]+_dirty_|^erts_d", "BEAM dirty schedulers"},
        {"poller$|^erts_poll", "BEAM pollers"},
        {"^(erts_)?[0-9]*_?aux$", "BEAM aux thread"},
        {"^epy_exec_", "executors"}
    ],
    hd([Kind || {Pattern, Kind} <- Kinds, re:run(Comm, Pattern) =/= nomatch] ++ [Comm]).
