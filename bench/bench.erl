%% SPDX-License-Identifier: Apache-2.0
%%
%% Is a call through this bridge worth it, compared with the port that anyone
%% can write, and how do the variants compare with each other?
%%
%% Each row of the table is a node of its own. All nodes are started first, then
%% measured in turn, round after round (A B C A B C ...), so that a machine that
%% gets slower or busier during the run does so for every row alike; a figure is
%% the median of its rounds. Nodes that are not measured are idle.
-module(bench).

-export([main/0]).
-export([usage/1, parse/1, row_names/1, start_row/2]).

%% A set of measurements: bench_calls, bench_core, bench_values, bench_callbacks, bench_channels,
%% bench_loop or bench_echo.
%% Figures of a row in one round. Ask(Module, Function, Args, Ms) has the node do
%% something that takes about so many milliseconds.
-type ask() :: fun((module(), atom(), [term()], non_neg_integer()) -> term()).
-type result() :: #{term() => term()}.
-type row() :: #{label := string(), what := bench_backend:row(), info := map(), results := [result()]}.
-callback one_round(ask(), options()) -> result().
%% One line about a round, and all that is printed in the end.
-callback brief(result()) -> iodata().
-callback report([row()]) -> iodata().

-type options() :: #{
    builds := [file:filename()],
    only := [string()] | all,
    python := string(),
    flags := [string()],
    rounds := pos_integer(),
    quiet := pos_integer(),
    run_ms := pos_integer(),
    warm_ms := pos_integer(),
    cpu_ms := pos_integer(),
    callers := pos_integer(),
    profile := boolean(),
    graph := boolean(),
    set := module()
}.
%% A row: its name in the table, what it runs, and the build it comes from.
-type name() :: {string(), bench_backend:row(), file:filename() | none}.
-export_type([options/0, name/0, ask/0, result/0, row/0]).

-spec main() -> no_return().
main() ->
    %% Progress goes to standard error; only the table to standard output.
    Status =
        try
            case parse(init:get_plain_arguments()) of
                #{profile := true} = Options -> bench_profile:run(Options);
                Options -> run(Options)
            end
        catch
            throw:{usage, Text} ->
                say("~ts~n", [Text]),
                2
        end,
    halt(Status).

-spec usage(string()) -> no_return().
usage(Problem) ->
    throw({usage, Problem ++ "\nTry bench/run --help."}).

-spec parse([string()]) -> options().
parse(Args) ->
    Default = #{
        builds => [],
        only => all,
        python => "python3",
        flags => [],
        rounds => 5,
        quiet => 100,
        run_ms => 1000,
        warm_ms => 300,
        cpu_ms => 500,
        callers => 1,
        profile => false,
        graph => false,
        set => bench_calls
    },
    Options = #{builds := Builds, python := Python} = parse(Args, Default),
    Options#{
        builds := [B || B <- builds(lists:reverse(Builds)), usable_build(B, Builds)],
        python := interpreter(Python)
    }.

%% All rows that the options ask for, the port first.
-spec row_names(options()) -> [name()].
row_names(#{builds := Builds, only := Only}) ->
    Rows = [
        {"port", port, none}
        | [
            {label(Variant, Build, Builds), {variant, Variant}, Build}
         || Build <- Builds, Variant <- variants(Build)
        ]
    ],
    case Only of
        all ->
            Rows;
        Names ->
            Kept = [R || {Label, What, _} = R <- Rows, named(Label, What, Names)],
            [
                usage("no such row: " ++ N ++ "; there are: " ++ lists:join(", ", [L || {L, _, _} <- Rows]))
             || N <- Names, not lists:any(fun({L, W, _}) -> named(L, W, [N]) end, Rows)
            ],
            Kept
    end.

%% A running node for a row, and what it said about itself.
-spec start_row(name(), options()) -> {ok, bench_peer:peer(), map()} | {error, term()}.
start_row({_Label, What, Build}, #{python := Python, flags := Flags}) ->
    Env =
        case What of
            port -> [];
            {variant, Variant} -> [{"ERLANG_PYTHON", Variant}]
        end,
    Peer = bench_peer:start(Build, Flags, Env),
    case bench_peer:ask(Peer, bench_backend, start, [{What, Python}], 60000) of
        {ok, Info} ->
            {ok, Peer, Info};
        {error, Reason} ->
            bench_peer:stop(Peer),
            {error, Reason}
    end.

%% Internals: options.

parse([], O) -> O;
parse(["--quick" | T], O) -> parse(T, O#{rounds := 3, run_ms := 250, warm_ms := 100, cpu_ms := 250});
parse(["--build", Dir | T], #{builds := B} = O) -> parse(T, O#{builds := [Dir | B]});
parse(["--only", Names | T], O) -> parse(T, O#{only := string:lexemes(Names, ",")});
parse(["--python", Python | T], O) -> parse(T, O#{python := Python});
parse(["--erl", Flags | T], O) -> parse(T, O#{flags := string:lexemes(Flags, " ")});
parse(["--rounds", N | T], O) -> parse(T, O#{rounds := count(N)});
parse(["--quiet", N | T], O) -> parse(T, O#{quiet := count(N)});
parse(["--ms", N | T], O) -> parse(T, O#{run_ms := count(N)});
parse(["--callers", N | T], O) -> parse(T, O#{callers := count(N)});
parse(["--core" | T], O) -> parse(T, O#{set := bench_core});
parse(["--values" | T], O) -> parse(T, O#{set := bench_values});
parse(["--callbacks" | T], O) -> parse(T, O#{set := bench_callbacks});
parse(["--loop" | T], O) -> parse(T, O#{set := bench_loop});
parse(["--echo" | T], O) -> parse(T, O#{set := bench_echo});
parse(["--channels" | T], O) -> parse(T, O#{set := bench_channels});
parse(["--graph" | T], O) -> parse(T, O#{graph := true});
parse(["--profile" | T], O) -> parse(T, O#{profile := true});
parse([Other | _], _) -> usage("unknown or incomplete option: " ++ Other).

count(S) ->
    case string:to_integer(S) of
        {N, ""} when N > 0 -> N;
        _ -> usage("not a positive number: " ++ S)
    end.

builds([]) -> [os:getenv("BENCH_DEFAULT_BUILD", "_build")];
builds(Given) -> Given.

%% A build that was named must be there; without one, the port alone is measured.
usable_build(Dir, Named) ->
    case {filelib:is_regular(filename:join([Dir, "ebin", "py.beam"])), Named} of
        {true, _} ->
            true;
        {false, []} ->
            say("no build in ~ts: measuring the port alone (make first, or --build DIR)~n", [Dir]),
            false;
        {false, _} ->
            usage("no ebin/py.beam in " ++ Dir)
    end.

%% The path behind a name: a version manager's shim would be started each time,
%% and could choose another Python in another directory.
interpreter(Name) ->
    Path = os:find_executable(Name),
    Path =/= false orelse usage("no such Python: " ++ Name),
    case string:trim(os:cmd("'" ++ Path ++ "' -c 'import sys; print(sys.executable)'")) of
        "/" ++ _ = Executable -> Executable;
        Other -> usage(Path ++ " does not run: " ++ Other)
    end.

variants(Build) ->
    Files = filelib:wildcard(filename:join([Build, "priv", "epy-*.so"])),
    [V || "epy-" ++ V <- [filename:basename(F, ".so") || F <- lists:sort(Files)]].

label(Variant, _Build, [_]) -> Variant;
label(Variant, Build, _Many) -> Variant ++ " (" ++ Build ++ ")".

named(Label, {variant, Variant}, Names) -> lists:member(Label, Names) orelse lists:member(Variant, Names);
named(Label, port, Names) -> lists:member(Label, Names).

%% Internals: measuring.

run(#{set := Set} = Options) ->
    Names = row_names(Options),
    {Rows, Failed} = start_all(Names, Options),
    Wakeup = wakeup(Options),
    {Measured, FailedLater, Others, Dropped} =
        rounds([R#{results => []} || R <- Rows], Options, [], []),
    [bench_peer:stop(P) || #{peer := P} <- Measured],
    io:put_chars(machine(Options, Wakeup)),
    io:put_chars(Set:report(Measured)),
    io:format("Taken by others, in per cent of all cores, round by round:~ts.~n", [
        [io_lib:format(" ~b", [Share]) || Share <- Others]
    ]),
    [
        io:format("Not counted, as others took more than asked for with --quiet:~ts.~n", [
            [io_lib:format(" ~b", [Share]) || Share <- Dropped]
        ])
     || Dropped =/= []
    ],
    AllFailed = Failed ++ FailedLater,
    [io:format("NO FIGURES for ~ts: ~0tP~n", [Label, Reason, 30]) || {Label, Reason} <- AllFailed],
    length(AllFailed).

start_all(Names, Options) ->
    lists:foldr(
        fun({Label, What, _} = Name, {Rows, Failed}) ->
            case start_row(Name, Options) of
                {ok, Peer, Info} ->
                    say("started ~ts: Python ~ts~n", [Label, maps:get(python, Info)]),
                    {[#{label => Label, what => What, peer => Peer, info => Info} | Rows], Failed};
                {error, Reason} ->
                    say("~ts does not start: ~0tP~n", [Label, Reason, 30]),
                    {Rows, [{Label, Reason} | Failed]}
            end
        end,
        {[], []},
        Names
    ).

%% The rows with their results, those that failed on the way, and the share of
%% the machine that others took in each round: of those that count, and of those
%% that were dropped. A round is dropped for that share and for nothing else, the
%% figures in it are not looked at; else the run would choose its own result.
rounds(Rows, #{rounds := Rounds}, Others, Dropped) when length(Others) =:= Rounds ->
    {Rows, [], lists:reverse(Others), lists:reverse(Dropped)};
rounds(_Rows, #{rounds := Rounds, quiet := Quiet}, Others, Dropped) when
    length(Dropped) >= 3 * Rounds
->
    usage(
        lists:flatten(
            io_lib:format("others took more than ~b % in ~b rounds, and less in ~b", [
                Quiet, length(Dropped), length(Others)
            ])
        )
    );
rounds(Rows, #{rounds := Rounds, quiet := Quiet, set := Set} = Options, Others, Dropped) ->
    {Outcomes, Share} = others(Rows, fun() -> [{Row, one_round(Row, Options)} || Row <- Rows] end),
    Counts = Share =< Quiet,
    say("round ~b of ~b, others took ~b % of the machine~ts~n", [
        length(Others) + 1, Rounds, Share, [": not counted" || not Counts]
    ]),
    [say("  ~-28ts ~ts~n", [L, Set:brief(Result)]) || {#{label := L}, {ok, Result}} <- Outcomes],
    Good = [
        case Counts of
            true -> R#{results := [Result | Rs]};
            false -> R
        end
     || {#{results := Rs} = R, {ok, Result}} <- Outcomes
    ],
    Bad = [{L, Reason} || {#{label := L}, {error, Reason}} <- Outcomes],
    [bench_peer:stop(P) || {#{peer := P}, {error, _}} <- Outcomes],
    {Others1, Dropped1} =
        case Counts of
            true -> {[Share | Others], Dropped};
            false -> {Others, [Share | Dropped]}
        end,
    {Measured, BadLater, All, AllDropped} = rounds(Good, Options, Others1, Dropped1),
    {Measured, Bad ++ BadLater, All, AllDropped}.

%% What a fun returns, and the per cent of all cores' time that went meanwhile
%% to processes that are neither this one nor under test: figures of a round in
%% which it is not near 0 are too bad.
others(Rows, Fun) ->
    Pids = [list_to_integer(os:getpid()) | lists:append([P || #{info := #{os_pids := P}} <- Rows])],
    {Begin, Busy0, Own0} = {erlang:monotonic_time(microsecond), bench_proc:machine_cpu_us(), cpu(Pids)},
    Result = Fun(),
    {End, Busy1, Own1} = {erlang:monotonic_time(microsecond), bench_proc:machine_cpu_us(), cpu(Pids)},
    %% A process that died within the round is missing in the second sum.
    Ours = lists:sum([maps:get(P, Own1) - T || {P, T} <- maps:to_list(Own0), is_map_key(P, Own1)]),
    Total = (End - Begin) * erlang:system_info(logical_processors),
    {Result, max(0, round(100 * (Busy1 - Busy0 - Ours) / Total))}.

cpu(Pids) ->
    maps:from_list([
        {P, bench_proc:cpu_us(P)}
     || P <- Pids, filelib:is_dir("/proc/" ++ integer_to_list(P))
    ]).

%% The figures of one row, or why there are none.
one_round(#{peer := Peer}, #{set := Set} = Options) ->
    Ask = fun(Module, Function, Args, Ms) ->
        case bench_peer:ask(Peer, Module, Function, Args, Ms + 60000) of
            {ok, Value} -> Value;
            {error, Reason} -> throw({failed, {Function, Args, Reason}})
        end
    end,
    try
        {ok, Set:one_round(Ask, Options)}
    catch
        throw:{failed, Why} -> {error, Why}
    end.

wakeup(#{python := Python}) ->
    Script = filename:join(filename:dirname(code:which(?MODULE)), "wakeup.py"),
    Out = os:cmd("'" ++ Python ++ "' '" ++ Script ++ "'"),
    case io_lib:fread("~d ~d", Out) of
        {ok, [One, Two], _} -> {One / 1000, Two / 1000};
        _ -> error({wakeup, Out})
    end.

%% Internals: showing.

machine(#{flags := Flags}, {One, Two}) ->
    [
        io_lib:format("~ts, ~b cores, ~ts; Erlang/OTP ~ts, ~ts~ts~n", [
            cpu_name(),
            erlang:system_info(logical_processors),
            string:trim(os:cmd("uname -sr")),
            erlang:system_info(otp_release),
            erlang:system_info(emu_flavor),
            [[" ", F] || F <- Flags]
        ]),
        io_lib:format(
            "A byte through a pipe to another process and back: ~.1f us on one core, ~ts.~n~n",
            [One, [io_lib:format("~.1f us across two", [Two]) || Two > 0]]
        )
    ].

cpu_name() ->
    {ok, Info} = file:read_file("/proc/cpuinfo"),
    case re:run(Info, "^model name\\s*:\\s*(.*)$", [multiline, {capture, [1], list}]) of
        {match, [Name]} -> Name;
        nomatch -> string:trim(os:cmd("uname -m"))
    end.

say(Format, Args) ->
    io:format(standard_error, Format, Args).
