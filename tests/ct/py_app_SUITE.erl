%% SPDX-License-Identifier: Apache-2.0
%%
%% The application: start, stop and start again, its environment, and which library a
%% node takes.  What must happen before the first start happens in nodes of their own.
-module(py_app_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([start_and_stop_fifty_times_grow_nothing/1,
         starting_twice_and_stopping_twice_are_harmless/1,
         what_was_imported_outlives_a_restart/1,
         registered_functions_go_with_a_stop/1,
         processes_bound_before_a_restart_work_after_it/1]).
-export([each_caller_gets_one_answer_when_the_application_stops/1,
         a_stop_ends_calls_that_wait_in_C/1,
         a_stop_is_bounded_in_time/1,
         a_crash_of_the_runtime_process_is_survived/1,
         a_halt_with_calls_under_way_ends_the_node/1]).
-export([a_reloaded_module_keeps_its_library/1,
         a_restart_with_other_numbers_of_executors/1,
         a_wrong_environment_is_an_error_that_says_what_it_takes/1,
         a_restart_as_another_variant_is_an_error/1,
         the_message_of_a_wrong_environment_reaches_the_user/1]).
-export([a_node_takes_the_variant_it_is_told/1,
         a_node_takes_the_best_variant_unless_told/1,
         the_application_environment_chooses_too/1,
         what_is_no_Python_is_an_error/1,
         a_library_that_does_not_load_is_skipped/1,
         the_error_lists_each_library_and_why/1]).
-export([killed_callers_and_mixed_load_leave_it_usable/1]).

suite() -> [{timetrap, {minutes, 5}}].

all() -> py_test:cases(?MODULE).

init_per_suite(Config) -> Config.

end_per_suite(Config) -> Config.

init_per_testcase(_Case, Config) ->
    py_test:start(Config).

end_per_testcase(_Case, _Config) ->
    py_test:release_for_good(),
    _ = application:stop(erlang_python),
    [application:unset_env(erlang_python, Key)
     || {Key, _} <- application:get_all_env(erlang_python), Key =/= included_applications],
    ok.

restart() ->
    ok = application:stop(erlang_python),
    ok = application:start(erlang_python).

%%% Again and again

start_and_stop_fifty_times_grow_nothing(_Config) ->
    [cycle(N) || N <- lists:seq(1, 10)],
    Before = py_test:threads(),
    %% A sub-interpreter each time would be 100 MB, a thread each time at least 20 MB.
    py_test:grows_less(6 bsl 20, fun() -> [cycle(N) || N <- lists:seq(1, 50)] end),
    %% Four callbacks at once may have left up to four spare executors in each group.
    Spares = 4 * length(py_test:groups()),
    py_test:wait_until(fun() -> py_test:threads() =< Before + Spares end).

cycle(N) ->
    restart(),
    ok = py:register_function(f, fun([X]) -> X + N end),
    Work = fun() ->
                   ok = py:exec(<<"import erlang, json\nx = list(range(1000))">>),
                   {ok, 4.0} = py:call(math, sqrt, [16]),
                   {error, {'ZeroDivisionError', _}} = py:eval(<<"1/0">>),
                   M = N + 1,
                   {ok, M} = py:call(erlang, call, [f, 1]),
                   {error, timeout} = py:exec(<<"pass">>) =:= ok andalso py:call(time, sleep, [0.02], #{}, 0),
                   done
           end,
    Answers = py_test:at_once(lists:duplicate(4, Work)),
    Answers = lists:duplicate(4, done).

starting_twice_and_stopping_twice_are_harmless(_Config) ->
    {ok, []} = application:ensure_all_started(erlang_python),
    {error, {already_started, erlang_python}} = application:start(erlang_python),
    {ok, 4.0} = py:call(math, sqrt, [16]),
    ok = application:stop(erlang_python),
    {error, {not_started, erlang_python}} = application:stop(erlang_python),
    {error, not_running} = py:call(math, sqrt, [16]),
    ok = application:start(erlang_python),
    {ok, 4.0} = py:call(math, sqrt, [16]).

what_was_imported_outlives_a_restart(Config) ->
    py_test:write_module(Config, kept_over_restart, "count = 0\ndef more():\n    global count\n    count += 1\n    return count\n"),
    {ok, 1} = py:call(kept_over_restart, more, []),
    restart(),
    {ok, 2} = py:call(kept_over_restart, more, []).

registered_functions_go_with_a_stop(_Config) ->
    ok = py:register_function(f, fun(_) -> 1 end),
    {ok, 1} = py:call(erlang, call, [f]),
    restart(),
    {error, {'Error', _}} = py:call(erlang, call, [f]).

processes_bound_before_a_restart_work_after_it(_Config) ->
    Workers = [py_test:worker() || _ <- lists:seq(1, 10)],
    [ok = py_test:run(W, fun() -> py:exec(<<"x = 1">>) end) || W <- Workers],
    ok = application:stop(erlang_python),
    [{error, not_running} = py_test:run(W, fun() -> py:eval(<<"x">>) end) || W <- Workers],
    ok = application:start(erlang_python),
    [{ok, 1} = py_test:run(W, fun() -> py:eval(<<"x">>) end) || W <- Workers],
    [py_test:end_worker(W) || W <- Workers],
    ok.

%%% Stop under load

%% Whatever a caller does when the application stops, its call gives one answer, and no
%% message comes later.
each_caller_gets_one_answer_when_the_application_stops(_Config) ->
    Test = self(),
    ok = py:register_function(slow, fun([]) -> receive never -> ok after 300 -> done end end),
    Calls = [fun() -> py:call(math, sqrt, [16]) end,
             fun() -> py:call(math, sqrt, [16], #{}, 20) end,
             fun() -> py:eval(<<"sum(range(10000))">>) end,
             fun() -> py:call('__main__', loop, []) end,
             fun() -> py:call('__main__', loop, [], #{}, 30) end,
             fun() -> py:call(time, sleep, [0.05]) end,
             fun() -> py:call(erlang, call, [slow]) end],
    Loop = fun(Call) ->
                   fun() ->
                           ok = py:exec(<<"import erlang\ndef loop():\n    while True: pass\n">>),
                           Test ! ready,
                           receive go -> ok end,
                           Last = until_it_stops(Call),
                           {Last, py_test:messages()}
                   end
           end,
    [begin
         Workers = [{py_test:worker(), Call} || Call <- Calls, _ <- [1, 2, 3]],
         [py_test:start(W, Loop(Call)) || {W, Call} <- Workers],
         [receive ready -> ok after 60000 -> error(not_ready) end || _ <- Workers],
         [Pid ! go || {{Pid, _}, _} <- Workers],
         timer:sleep(20 * Round),        % at different moments of the load
         ok = application:stop(erlang_python),
         Answers = [py_test:answer(W) || {W, _} <- Workers],
         [?assert(lists:member(A, [{{error, not_running}, []}, {{error, cancelled}, []}]) orelse A) || A <- Answers],
         %% Nothing comes of it after the next start either.
         ok = application:start(erlang_python),
         ok = py:register_function(slow, fun([]) -> receive never -> ok after 300 -> done end end),
         [[] = py_test:run(W, fun py_test:messages/0) || {W, _} <- Workers],
         [{ok, 4.0} = py_test:run(W, fun() -> py:call(math, sqrt, [16]) end) || {W, _} <- Workers],
         [py_test:end_worker(W) || {W, _} <- Workers]
     end || Round <- [0, 1, 2]],
    [] = py_test:messages().

until_it_stops(Call) ->
    case Call() of
        {error, Reason} = Error when Reason =:= not_running; Reason =:= cancelled -> Error;
        {error, timeout} -> until_it_stops(Call);
        {ok, _} -> until_it_stops(Call)
    end.

a_stop_ends_calls_that_wait_in_C(Config) ->
    Fifo = py_test:block(Config),
    Worker = py_test:worker(),
    py_test:start(Worker, fun() -> {py_test:open_blocked(Fifo), py_test:messages()} end),
    wait_until_open(Fifo),
    ok = application:stop(erlang_python),
    {{error, cancelled}, []} = py_test:answer(Worker),
    %% The executor is still there; when the C call returns, it serves again.
    ok = application:start(erlang_python),
    ok = py_test:release(Fifo),
    Answers = py_test:at_once([fun() -> py:call(math, sqrt, [16], #{}, 60000) end || _ <- lists:seq(1, 20)]),
    Answers = lists:duplicate(20, {ok, 4.0}),
    [] = py_test:run(Worker, fun py_test:messages/0),
    py_test:end_worker(Worker).

%% A thread of ours waits in the open of the FIFO.
wait_until_open(_Fifo) ->
    py_test:wait_until(fun() ->
                               %% Its thread may begin only now.
                               {ok, Tasks} = file:list_dir("/proc/self/task"),
                               lists:any(fun(Task) ->
                                                 case file:read_file("/proc/self/task/" ++ Task ++ "/wchan") of
                                                     {ok, <<"wait_for_partner", _/binary>>} -> true;
                                                     {ok, <<"fifo_open", _/binary>>} -> true;
                                                     _ -> in_open("/proc/self/task/" ++ Task ++ "/syscall")
                                                 end
                                         end, Tasks)
                       end).

%% 257: openat, where the kernel names no places to wait in.
in_open(File) ->
    case file:read_file(File) of
        {ok, <<"257 ", _/binary>>} -> true;
        {ok, <<"56 ", _/binary>>} -> erlang:system_info(system_architecture) =/= "x86_64-pc-linux-gnu";
        _ -> false
    end.

%% Calls may end for a second, and have one more after the interrupt.  These never end.
a_stop_is_bounded_in_time(Config) ->
    Fifo = py_test:block(Config),
    Workers = [py_test:worker() || _ <- lists:seq(1, 3 * py:num_executors())],
    [py_test:start(W, fun() -> py_test:open_blocked(Fifo) end) || W <- Workers],
    wait_until_open(Fifo),
    {Time, ok} = py_test:milliseconds(fun() -> application:stop(erlang_python) end),
    ?assert(Time < 30000 orelse Time),
    [?assertMatch({error, _}, py_test:answer(W)) || W <- Workers],
    [py_test:end_worker(W) || W <- Workers],
    let_go(Fifo, py_test:threads()),
    ok = application:start(erlang_python),
    {ok, 4.0} = py:call(math, sqrt, [16]).

%% As many may wait for the FIFO as there are executors.
let_go(Fifo, Threads) ->
    [os:cmd("timeout 0.1 sh -c ': > \"" ++ binary_to_list(Fifo) ++ "\"'") || _ <- lists:seq(1, min(3, Threads))],
    ok.

a_crash_of_the_runtime_process_is_survived(_Config) ->
    ok = py:register_function(f, fun(_) -> 1 end),
    Pid = whereis(py_runtime),
    exit(Pid, kill),
    py_test:wait_until(fun() -> is_pid(whereis(py_runtime)) andalso whereis(py_runtime) =/= Pid end),
    py_test:wait_until(fun() -> py:call(math, sqrt, [16]) =:= {ok, 4.0} end),
    {ok, 1} = py:call(erlang, call, [f]),
    restart(),
    {ok, 4.0} = py:call(math, sqrt, [16]).

a_halt_with_calls_under_way_ends_the_node(_Config) ->
    Code = "{ok,_}=application:ensure_all_started(erlang_python),"
           "[spawn(fun() -> py:exec(\\\"while True: pass\\\") end) || _ <- lists:seq(1,4)],"
           "[spawn(fun() -> py:call(time, sleep, [100]) end) || _ <- lists:seq(1,4)],"
           "spawn(fun L() -> py:call(math, sqrt, [16]), L() end),"
           "{error, timeout} = py:call(time, sleep, [100], #{}, 200),"
           "~s.",
    [begin
         {Status, Output} = run_node(io_lib:format(Code, [Halt])),
         ?assertEqual({7, <<>>}, {Status, Output})
     end || Halt <- ["halt(7)", "init:stop(7)"]].

%%% Environment

a_restart_with_other_numbers_of_executors(_Config) ->
    {Key, Default} = case py:execution_mode() of
                         multi_executor -> {num_executors, 4};
                         subinterp -> {num_subinterp_workers, erlang:system_info(schedulers_online)};
                         free_threaded -> throw({skip, "free_threaded mode has an executor per scheduler"})
                     end,
    Default = py:num_executors(),
    [begin
         ok = application:stop(erlang_python),
         ok = application:set_env(erlang_python, Key, N),
         ok = application:start(erlang_python),
         ?assertEqual(N, py:num_executors()),
         Answers = py_test:at_once([fun() -> py:call(math, sqrt, [16], #{}, 60000) end || _ <- lists:seq(1, 50)]),
         ?assertEqual([{ok, 4.0}], lists:usort(Answers)),
         N = in_callbacks_at_once(N)
     end || N <- [1, 2, 6, 3, 1, Default]],
    [] = py_test:messages().

%% How many different threads are inside calls that wait for each other.
in_callbacks_at_once(N) ->
    Test = self(),
    ok = py:register_function(here, fun([Thread]) -> Test ! {here, Thread}, receive go_on -> ok end end),
    Workers = py_test:workers_apart(N),
    [py_test:start(W, fun() -> py:exec(<<"import erlang, threading\n"
                                         "erlang.call('here', threading.get_ident())">>) end) || W <- Workers],
    Threads = [receive {here, Thread} -> Thread after 60000 -> error(too_few) end || _ <- Workers],
    [Pid ! go_on || {Pid, _} <- Workers],
    [ok = py_test:answer(W) || W <- Workers],
    [py_test:end_worker(W) || W <- Workers],
    length(lists:usort(Threads)).

a_wrong_environment_is_an_error_that_says_what_it_takes(_Config) ->
    ok = application:stop(erlang_python),
    Wrong = [{num_executors, 0}, {num_executors, -1}, {num_executors, 1000000}, {num_executors, 4.0},
             {num_executors, "4"}, {num_executors, undefined_atom}, {num_subinterp_workers, 0},
             {num_subinterp_workers, many}, {mode, fast}, {mode, "subinterp"}, {python, 3.13}, {python, ""},
             {python, cp313}, {no_such_key, 1}],
    [begin
         ok = application:set_env(erlang_python, Key, Value),
         {error, Reason} = application:start(erlang_python),
         Text = lists:flatten(io_lib:format("~tp", [Reason])),
         [?assertMatch({match, _}, re:run(Text, Part, [unicode]), {Key, Value, Text})
          || Part <- [atom_to_list(Key) | value_parts(Key, Value)]],
         ok = application:unset_env(erlang_python, Key)
     end || {Key, Value} <- Wrong],
    %% Two at once are both named.
    ok = application:set_env(erlang_python, num_executors, none),
    ok = application:set_env(erlang_python, mode, none),
    {error, Both} = application:start(erlang_python),
    Text = lists:flatten(io_lib:format("~tp", [Both])),
    [?assertMatch({match, _}, re:run(Text, Part)) || Part <- ["num_executors", "mode"]],
    [application:unset_env(erlang_python, Key) || Key <- [num_executors, mode]],
    ok = application:start(erlang_python).

%% An unknown key is told which there are, a known one what it got and takes.
value_parts(no_such_key, _) -> ["num_executors"];
value_parts(mode, Value) -> [got(Value), "free_threaded"];
value_parts(python, Value) -> [got(Value), "version"];
value_parts(_, Value) -> [got(Value), "integer from 1"].

got(Value) when is_list(Value) -> Value;
got(Value) -> re:replace(io_lib:format("~tp", [Value]), "[.+]", "\\\\&", [global, {return, list}]).

a_restart_as_another_variant_is_an_error(_Config) ->
    ok = application:stop(erlang_python),
    [_Tag, Mode] = string:split(py_test:variant(), "-"),
    [Other | _] = [M || M <- [multi_executor, subinterp, free_threaded], atom_to_list(M) =/= Mode],
    ok = application:set_env(erlang_python, mode, Other),
    {error, Reason} = application:start(erlang_python),
    Text = lists:flatten(io_lib:format("~tp", [Reason])),
    ?assertMatch({match, _}, re:run(Text, py_test:variant())),
    ok = application:unset_env(erlang_python, mode),
    ok = application:set_env(erlang_python, python, "9.99"),
    {error, _} = application:start(erlang_python),
    ok = application:unset_env(erlang_python, python),
    ok = application:start(erlang_python),
    {ok, 4.0} = py:call(math, sqrt, [16]).

the_message_of_a_wrong_environment_reaches_the_user(_Config) ->
    {Status, Output} = run_node("{error,E}=application:start(erlang_python),io:format(\\\"~tp~n\\\",[E]),halt(3).",
                                ["-erlang_python", "num_executors", "500"]),
    ?assertEqual(3, Status),
    [?assertMatch({_, _}, binary:match(Output, Part)) || Part <- [<<"num_executors">>, <<"500">>, <<"1 to 256">>]].

%%% Which library

variants() ->
    [#{name => Name, tag => Tag, mode => Mode, version => {list_to_integer(Major), list_to_integer(Minor)}}
     || File <- filelib:wildcard("epy-*.so", py_variant:priv_dir()),
        Name <- [filename:rootname(string:prefix(File, "epy-"))],
        {match, [Tag, Major, Minor, Mode]} <-
            [re:run(Name, "^(cp(\\d)(\\d+)t?)-(.*)$", [{capture, all_but_first, list}])]].

%% As the documentation has it: free_threaded, then subinterp from 3.13 on, then
%% multi_executor, and of each the newest.
best(Variants) ->
    Rank = fun(#{mode := Mode, version := Version}) ->
                   {case Mode of
                        "free_threaded" -> 3;
                        "subinterp" when Version >= {3, 13} -> 2;
                        "multi_executor" -> 1;
                        "subinterp" -> 0
                    end, Version}
           end,
    [Best | _] = lists:sort(fun(A, B) -> Rank(A) >= Rank(B) end, Variants),
    maps:get(name, Best).

me() ->
    [Me] = [V || #{name := Name} = V <- variants(), Name =:= py_test:variant()],
    Me.

%% The variant that a new node loads, or why it loads none.
chosen(Python) -> chosen(Python, [], ebin()).

chosen(Python, Args, Ebin) ->
    Code = "case application:ensure_all_started(erlang_python) of"
           " {ok, _} -> {ok, 4.0} = py:call(math, sqrt, [16]),"
           "   {V,_,_,_,_,_,_} = py_nif:info(), io:format(\\\"~ts\\\", [V]), halt(0);"
           " {error, {erlang_python, {{python, T}, _}}} -> io:format(\\\"~ts\\\", [T]), halt(1);"
           " {error, E} -> io:format(\\\"~tp\\\", [E]), halt(2) end.",
    case run_node(Code, Args, Ebin, [{"ERLANG_PYTHON", Python}]) of
        {0, Variant} -> {ok, binary_to_list(Variant)};
        {Status, Text} when Status =:= 1; Status =:= 2 -> {error, Text};
        Other -> error({node, Other})
    end.

ebin() ->
    filename:dirname(code:which(py)).

run_node(Code) -> run_node(Code, []).

run_node(Code, Args) -> run_node(Code, Args, ebin(), []).

%% Not the module peer: how the node ends and what it prints is what is looked at.
run_node(Code, Args, Ebin, Env) ->
    py_test:sanitizer(thread) andalso
        throw({skip, "the erl script does not survive the preload of ThreadSanitizer"}),
    Erl = filename:join([code:root_dir(), "bin", "erl"]),
    Eval = lists:flatten(string:replace(lists:flatten(Code), "\\\"", "\"", all)),
    Port = open_port({spawn_executable, Erl},
                     %% Set by those who run this node under a sanitizer; not every Python takes it.
                     [{args, ["-noinput", "-boot", "no_dot_erlang", "-kernel", "logger_level", "emergency",
                              "-pa", Ebin | Args] ++ ["-eval", Eval]},
                      {env, [{"PYTHONMALLOC", false} | Env]}, exit_status, stderr_to_stdout, binary]),
    collect(Port, <<>>).

collect(Port, Output) ->
    receive
        {Port, {data, Data}} -> collect(Port, <<Output/binary, Data/binary>>);
        {Port, {exit_status, Status}} -> {Status, Output}
    after 120000 ->
        port_close(Port),
        error({node_does_not_end, Output})
    end.

a_node_takes_the_variant_it_is_told(_Config) ->
    #{name := Name, tag := Tag, version := {Major, Minor} = Version} = me(),
    All = variants(),
    {ok, Executable} = py:eval(<<"__import__('sys').executable">>),
    OfTag = best([V || #{tag := T} = V <- All, T =:= Tag]),
    %% The free-threaded build is also called by its version and a t.
    FreeThreaded = ["3." ++ Minor_t || "cp3" ++ Minor_t <- [Tag], lists:suffix("t", Tag)],
    Wishes = [{Wish, OfTag} || Wish <- [Tag | FreeThreaded]] ++
             [{Name, Name},
              {lists:concat([Major, ".", Minor]), best([V || #{version := V0} = V <- All, V0 =:= Version])},
              {binary_to_list(Executable), OfTag}],
    [?assertEqual({Python, {ok, Expected}}, {Python, chosen(Python)}) || {Python, Expected} <- Wishes].

a_node_takes_the_best_variant_unless_told(_Config) ->
    Best = {ok, best(variants())},
    ?assertEqual(Best, chosen(false)),
    ?assertEqual(Best, chosen("")).

the_application_environment_chooses_too(_Config) ->
    #{name := Name, tag := Tag, mode := Mode} = me(),
    ?assertEqual({ok, Name}, chosen(false, ["-erlang_python", "python", "\"" ++ Name ++ "\""], ebin())),
    ?assertEqual({ok, Name}, chosen(Tag, ["-erlang_python", "mode", Mode], ebin())),
    %% It comes before the variable.
    ?assertEqual({ok, Name}, chosen("cp399", ["-erlang_python", "python", "\"" ++ Name ++ "\""], ebin())).

what_is_no_Python_is_an_error(_Config) ->
    [begin
         {error, Text} = chosen(Python),
         [?assertMatch({_, _}, binary:match(Text, Part), {Python, Text}) || Part <- Parts]
     end || {Python, Parts} <- [{"python3", [<<"python3">>]},
                                {"3.99", [list_to_binary(py_test:variant())]},
                                {"3.99t", [list_to_binary(py_test:variant())]},
                                {"3.13tt", [<<"a version">>]},
                                {"cp399-subinterp", [list_to_binary(py_test:variant())]},
                                {"/no/such/python", [<<"/no/such/python">>]},
                                {"/bin/false", [<<"/bin/false">>]}]].

%% A copy of the application whose libraries are what Files says.
copy_of_app(Config, Name, Files) ->
    Dir = filename:join(proplists:get_value(priv_dir, Config), Name),
    Ebin = filename:join(Dir, "ebin"),
    Priv = filename:join(Dir, "priv"),
    ok = filelib:ensure_dir(filename:join(Ebin, "x")),
    ok = filelib:ensure_dir(filename:join(Priv, "x")),
    [{ok, _} = file:copy(filename:join(ebin(), File), filename:join(Ebin, File))
     || File <- filelib:wildcard("*.{beam,app}", ebin())],
    "" = os:cmd("cp -r '" ++ filename:join(py_variant:priv_dir(), "python") ++ "' '" ++ Priv ++ "'"),
    [begin
         Target = filename:join(Priv, "epy-" ++ Variant ++ ".so"),
         case Content of
             real -> {ok, _} = file:copy(filename:join(py_variant:priv_dir(), "epy-" ++ Variant ++ ".so"), Target);
             _ -> ok = file:write_file(Target, Content)
         end
     end || {Variant, Content} <- Files],
    Ebin.

a_library_that_does_not_load_is_skipped(Config) ->
    Name = py_test:variant(),
    Ebin = copy_of_app(Config, "skipped", [{"cp399-free_threaded", "no library"}, {"cp399-subinterp", ""},
                                           {"cp399-multi_executor", without_libpython(Name)}, {Name, real}]),
    ?assertEqual({ok, Name}, chosen(false, [], Ebin)).

the_error_lists_each_library_and_why(Config) ->
    Name = py_test:variant(),
    Ebin = copy_of_app(Config, "none", [{"cp399-subinterp", "no library"},
                                        {"cp399-multi_executor", without_libpython(Name)}]),
    {error, Text} = chosen(false, [], Ebin),
    [?assertMatch({_, _}, binary:match(Text, Part), Text)
     || Part <- [<<"cp399-subinterp: ">>, <<"cp399-multi_executor: ">>, <<"libpythonX">>]],
    %% Of the one that is named, and that there is another.
    {error, Named} = chosen("cp399-subinterp", [], Ebin),
    [?assertMatch({_, _}, binary:match(Named, Part), Named)
     || Part <- [<<"cp399-subinterp: ">>, <<"cp399-multi_executor: not what was asked for">>]],
    Empty = copy_of_app(Config, "empty", []),
    {error, Nothing} = chosen(false, [], Empty),
    ?assertMatch({_, _}, binary:match(Nothing, <<"no library">>)).

%% The library of this variant, which asks for a libpython that nobody has.
without_libpython(Name) ->
    {ok, Library} = file:read_file(filename:join(py_variant:priv_dir(), "epy-" ++ Name ++ ".so")),
    {Start, Length} = binary:match(Library, <<"libpython3.">>),
    <<Before:Start/binary, _:Length/binary, After/binary>> = Library,
    <<Before/binary, "libpythonX.", After/binary>>.

%%% Load

killed_callers_and_mixed_load_leave_it_usable(_Config) ->
    Report = py_load:run(#{seconds => 5, processes => 30, kill => true}),
    ct:log("~p", [Report]).

a_reloaded_module_keeps_its_library(_Config) ->
    {ok, _} = application:ensure_all_started(erlang_python),
    ok = py:exec(<<"before = 1">>),
    [begin
         _ = code:purge(py_nif),
         {module, py_nif} = code:load_file(py_nif),
         {ok, 4.0} = py:call(math, sqrt, [16]),
         {ok, 1} = py:eval(<<"before">>)
     end || _ <- lists:seq(1, 3)],
    ok = application:stop(erlang_python),
    ok = application:start(erlang_python),
    {ok, 4.0} = py:call(math, sqrt, [16]).
