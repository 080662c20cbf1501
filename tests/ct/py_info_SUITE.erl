%% SPDX-License-Identifier: Apache-2.0
%%
%% Seeing inside: that what py:info/0 and py:stacks/0 tell is true, which modules were
%% served elsewhere, and the events for the application telemetry.
-module(py_info_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([info_has_its_keys/1,
         info_names_the_variant/1,
         info_counts_requests_by_their_end/1,
         info_counts_replies_of_dead_callers/1,
         info_counts_an_executor_that_is_stuck/1,
         info_counts_what_waits/1,
         info_lists_pools_and_contexts/1,
         info_tells_the_slots/1,
         histograms_count_each_request_once/1,
         info_costs_little_and_disturbs_nobody/1]).
-export([stacks_show_the_functions_that_run/1,
         stacks_show_a_stuck_executor_and_one_in_a_callback/1,
         stacks_of_an_idle_node_are_harmless/1]).
-export([a_module_that_refuses_is_served_by_the_main_interpreter/1,
         modules_that_do_not_refuse_are_not_listed/1,
         numpy_works_from_a_plain_call/1,
         a_module_that_turns_the_GIL_on_is_named/1]).
-export([telemetry_gets_an_event_for_each_request/1,
         telemetry_that_is_not_loaded_is_not_called/1]).
-export([memory_is_counted_and_collected/1,
         allocations_are_traced_on_request/1,
         nothing_is_told_when_not_running/1]).

%% The application telemetry, for these cases.
-define(TELEMETRY, {application, telemetry,
                    [{description, "stands in for the application of that name"}, {vsn, "1.0.0"},
                     {modules, [telemetry]}, {registered, []}, {applications, [kernel, stdlib]}]}).

suite() -> [{timetrap, {minutes, 5}}].

all() -> py_test:cases(?MODULE).

init_per_suite(Config) -> py_test:start(Config).

end_per_suite(Config) -> py_test:stop(Config).

init_per_testcase(_Case, Config) ->
    ok = py_test:register_hold(),
    Config.

end_per_testcase(_Case, _Config) ->
    _ = code:which(telemetry) =/= non_existing andalso unload_telemetry(),
    py_test:restore(),
    py_context_router:pool_started(p) andalso py_context_router:stop_pool(p),
    ok.

%% Requests that were killed or timed out are counted in a moment.
settle() ->
    py_test:wait_until(fun() -> py_semaphore:current() =:= 0 end).

%%% py:info/0

info_has_its_keys(_Config) ->
    Info = py:info(),
    Keys = [variant, mode, version, state, num_executors, subinterp_supported, stdlib, slots, pools, contexts,
            contexts_replaced, registrations, interpreters, groups, requests, replies, spares, refused_modules,
            gil_enablers, inline],
    ?assertEqual([], Keys -- maps:keys(Info)),
    #{requests := Requests, replies := Replies, spares := Spares, slots := Slots, inline := Inline,
      pools := Pools} = Info,
    ?assertEqual([cancelled, done, failed, overloaded, refused], lists:sort(maps:keys(Requests))),
    ?assertEqual([failed, sent], lists:sort(maps:keys(Replies))),
    ?assertEqual([current, max, waiting], lists:sort(maps:keys(Slots))),
    ?assertEqual([busy, moved_back, runs], lists:sort(maps:keys(Inline))),
    ?assert(is_integer(Spares)),
    PoolKeys = [interpreters, executors, idle, parked, waiting_in_callback, stuck, replaced, queued, wanted,
                done, failed, cancelled, queue_time, run_time],
    [?assertEqual([], PoolKeys -- maps:keys(maps:get(Pool, Pools))) || Pool <- [default, io]].

info_names_the_variant(_Config) ->
    Variant = list_to_binary(py_test:variant()),
    Mode = py:execution_mode(),
    Executors = py:num_executors(),
    Supported = py:subinterp_supported(),
    {ok, Version} = py:version(),
    {ok, Stdlib} = py:eval(<<"__import__('os').path.dirname(__import__('os').__file__)">>),
    ?assertMatch(#{variant := Variant, mode := Mode, num_executors := Executors, version := Version,
                   state := running, subinterp_supported := Supported, stdlib := Stdlib}, py:info()),
    %% In subinterp mode the main one is beside those of the executors.
    Count = case py_test:shared_mode() of true -> 1; false -> Executors end,
    #{interpreters := OfDefault} = pool(default),
    #{interpreters := OfIo} = pool(io),
    #{interpreters := Interpreters} = py:info(),
    ?assertEqual(Count, length(OfDefault)),
    ?assertEqual([0], OfIo),
    ?assertEqual(py_test:shared_mode(), OfDefault =:= OfIo),
    ?assertEqual([], lists:usort(OfDefault ++ OfIo) -- [Id || #{id := Id} <- Interpreters]).

requests() ->
    #{requests := Requests} = py:info(),
    Requests.

pool(Name) ->
    #{pools := #{Name := Pool}} = py:info(),
    Pool.

%% What was counted since then.
since(Before, Now) ->
    maps:filter(fun(_, N) -> N =/= 0 end, maps:map(fun(Key, N) -> N - maps:get(Key, Before) end, Now)).

info_counts_requests_by_their_end(Config) ->
    Fifo = py_test:block(Config),
    Cases = [{#{done => 1}, fun() -> {ok, 4.0} = py:call(math, sqrt, [16]) end},
             {#{done => 1}, fun() -> ok = py:exec(<<"x = 1">>) end},
             {#{failed => 1}, fun() -> {error, {'ValueError', _}} = py:call(math, sqrt, [-1]) end},
             {#{failed => 1}, fun() -> {error, {conversion, _, _}} = py:eval(<<"'\\ud800'">>) end},
             {#{cancelled => 1}, fun() -> {error, timeout} = py:call(os, open, [Fifo, 0], #{}, 10) end},
             {#{done => 2}, fun() -> {ok, _} = py:parallel([{math, sqrt, [16]}, {math, sqrt, [25]}]) end},
             {#{done => 1}, fun() -> {ok, 4.0} = py:await(py:spawn_call(math, sqrt, [16])) end},
             {#{done => 1}, fun() -> ok = py:cast(math, sqrt, [16]) end}],
    [begin
         settle(),
         Before = requests(),
         _ = Case(),
         settle(),
         py_test:wait_until(fun() -> since(Before, requests()) =:= Expected end)
     end || {Expected, Case} <- Cases],
    ok = py_test:release(Fifo),
    %% Those that found no slot, and those that a stop of their pool refused.
    Held = py_test:held(),
    ok = py_semaphore:set_max_concurrent(1),
    Overloaded = requests(),
    {error, {overloaded, 1, 1}} = py_semaphore:acquire(0),
    ok = py_semaphore:set_max_concurrent(1000),
    {ok, held} = py_test:let_go(Held),
    ?assertMatch(#{overloaded := _, refused := _}, Overloaded).

%% Its message is for nobody.
info_counts_replies_of_dead_callers(_Config) ->
    %% A reply is counted when it was sent: those before these are.
    py_test:await_idle(),
    #{replies := #{sent := Sent}} = py:info(),
    [{ok, 4.0} = py:call(math, sqrt, [16]) || _ <- lists:seq(1, 100)],
    %% The caller may be here first.
    py_test:wait_until(fun() ->
                               #{replies := #{sent := Later, failed := Failed}} = py:info(),
                               ?assert(is_integer(Failed)),
                               Later - Sent =:= 100
                       end).

%% One while a sleep that timed out goes on, and none after it.
info_counts_an_executor_that_is_stuck(Config) ->
    Fifo = py_test:block(Config),
    {ok, _} = py_context_router:start_pool(p, 1),
    Stuck = fun(Pool) -> maps:get(stuck, pool(Pool)) end,
    0 = Stuck(p),
    py_test:stuck(p, fun(T) -> py:call(p, os, open, [Fifo, 0], #{}, T) end),
    1 = Stuck(p),
    0 = Stuck(default),
    {ok, 4.0} = py:call(p, math, sqrt, [16]),
    1 = maps:get(replaced, pool(p)),
    ok = py_test:release(Fifo),
    py_test:wait_until(fun() -> Stuck(p) =:= 0 end),
    {ok, 4.0} = py:call(p, math, sqrt, [16]),
    1 = maps:get(replaced, pool(p)).

info_counts_what_waits(Config) ->
    Fifo = py_test:block(Config),
    {ok, _} = py_context_router:start_pool(p, 1),
    Workers = [py_test:worker() || _ <- lists:seq(1, 6)],
    [py_test:start(W, fun() -> py:call(p, os, open, [Fifo, 0]) end) || W <- Workers],
    py_test:wait_until(fun() -> maps:get(queued, pool(p)) =:= 5 end),
    [{ok, _} = py_test:answer_after_release(W, Fifo) || W <- Workers],
    [py_test:end_worker(W) || W <- Workers],
    0 = maps:get(queued, pool(p)),
    %% Those that wait for Erlang.
    Held = [py_test:held() || _ <- [1, 2, 3]],
    %% An executor that was asked to call back counts when it begins to wait.
    py_test:wait_until(fun() -> maps:get(waiting_in_callback, pool(default)) =:= 3 end),
    [{ok, held} = py_test:let_go(W) || W <- Held],
    py_test:wait_until(fun() -> maps:get(waiting_in_callback, pool(default)) =:= 0 end).

info_lists_pools_and_contexts(_Config) ->
    {ok, _} = py_context_router:start_pool(p, 2),
    {ok, C} = py_context:new(#{mode => worker}),
    ok = py:register_pool(p, math),
    #{pools := Pools, contexts := Contexts, registrations := Registrations, contexts_replaced := Replaced} = py:info(),
    ?assertMatch(#{p := #{wanted := 2}, io := #{wanted := 10}, default := _}, Pools),
    ?assertMatch([#{mode := worker, interpreter := 0}], [Context || #{pid := Pid} = Context <- Contexts, Pid =:= C]),
    ?assertEqual([{math, p}], Registrations),
    ok = py:unregister_pool(math),
    {ok, _} = py:start_contexts(),
    [First | _] = py_context_router:contexts(),
    exit(First, kill),
    py_test:wait_until(fun() -> maps:get(contexts_replaced, py:info()) =:= Replaced + 1 end),
    ok = py:stop_contexts(),
    ok = py_context:destroy(C),
    ok = py_context_router:stop_pool(p),
    #{pools := Left, contexts := Fewer} = py:info(),
    ?assertNot(is_map_key(p, Left)),
    ?assertEqual([], [Context || #{pid := Pid} = Context <- Fewer, Pid =:= C]).

info_tells_the_slots(_Config) ->
    ?assertMatch(#{slots := #{current := 0, max := 1000, waiting := 0}}, py:info()),
    Held = py_test:held(),
    ok = py_semaphore:set_max_concurrent(1),
    W = py_test:holder(),
    py_test:wait_until(fun() -> #{slots := Slots} = py:info(), Slots =:= #{current => 1, max => 1, waiting => 1} end),
    ok = py_semaphore:set_max_concurrent(1000),
    _ = py_test:await_held(W),
    [{ok, held} = py_test:let_go(H) || H <- [Held, W]].

histograms_count_each_request_once(_Config) ->
    {ok, _} = py_context_router:start_pool(p, 1),
    Total = fun(Key) -> lists:sum([N || {_, N} <- maps:get(Key, pool(p))]) end,
    Before = {Total(queue_time), Total(run_time)},
    [{ok, 4.0} = py:call(p, math, sqrt, [16]) || _ <- lists:seq(1, 200)],
    Long = fun() -> lists:sum([N || {B, N} <- maps:get(run_time, pool(p)), B >= 50000]) end,
    LongBefore = Long(),
    {ok, none} = py:call(p, time, sleep, [0.05]),
    ?assertEqual({element(1, Before) + 201, element(2, Before) + 201}, {Total(queue_time), Total(run_time)}),
    %% In the order of their bounds, in microseconds; the sleep is beyond 50 ms.
    Bounds = [B || {B, _} <- maps:get(run_time, pool(p))],
    ?assertEqual(Bounds, lists:sort(Bounds)),
    ?assertEqual(LongBefore + 1, Long()).

info_costs_little_and_disturbs_nobody(_Config) ->
    Calls = py_test:fewer(2000),
    Work = fun() -> [{ok, 4.0} = py:call(math, sqrt, [16]) || _ <- lists:seq(1, Calls)], py_test:messages() end,
    Look = fun() -> [#{} = py:info() || _ <- lists:seq(1, 200)], py_test:messages() end,
    ?assertEqual([[], [], [], []], py_test:at_once([Work, Look, Work, Look])).

%%% py:stacks/0

%% The functions on all stacks.
stacks() ->
    {ok, Stacks} = py:stacks(),
    [?assertMatch(#{interpreter := _, name := _, thread := _, frames := _}, S) || S <- Stacks],
    [Function || #{frames := Frames} <- Stacks, #{file := _, line := _, function := Function, code := _} <- Frames].

has(Functions, Function) when is_list(Functions) -> lists:member(Function, Functions);
has(Text, Part) -> binary:match(Text, Part) =/= nomatch.

stacks_show_the_functions_that_run(_Config) ->
    Loop = py_test:worker(),
    py_test:start(Loop, fun() ->
                                py:exec(<<"def inner_loop():\n"
                                          "    while True: pass\n"
                                          "def outer_loop():\n"
                                          "    inner_loop()\n"
                                          "outer_loop()\n">>)
                        end),
    py_test:wait_until(fun() -> Text = stacks(), has(Text, <<"inner_loop">>) andalso has(Text, <<"outer_loop">>) end),
    py_test:kill(Loop),
    py_test:wait_until(fun() -> not has(stacks(), <<"inner_loop">>) end).

%% They work without an executor: all are stuck.
stacks_show_a_stuck_executor_and_one_in_a_callback(Config) ->
    Fifo = py_test:block(Config),
    {ok, C} = py_context:new(#{}),
    Asking = <<"import erlang\ndef asking(): erlang.call('hold')\nasking()">>,
    InCallback = py_test:await_held(py_test:holder(fun() -> py_context:exec(C, Asking) end)),
    Workers = [py_test:worker() || _ <- lists:seq(1, 2 * py:num_executors())],
    Code = <<"import os\ndef blocked_in_open(f): os.close(os.open(f, 0))\n">>,
    [ok = py_test:run(W, fun() -> py:exec(Code) end) || W <- Workers],
    [py_test:start(W, fun() -> py:call('__main__', blocked_in_open, [Fifo]) end) || W <- Workers],
    py_test:wait_until(fun() -> has(stacks(), <<"blocked_in_open">>) end),
    Text = stacks(),
    ?assert(has(Text, <<"asking">>) orelse Text),
    ok = py_test:let_go(InCallback),
    [{ok, none} = py_test:answer_after_release(W, Fifo) || W <- Workers],
    [py_test:end_worker(W) || W <- Workers],
    ok = py_context:destroy(C),
    %% One that timed out, until it comes back.
    Late = py_test:worker(),
    ok = py_test:run(Late, fun() -> py:exec(Code) end),
    true = py_test:run(Late, fun() ->
                                     py_test:stuck(default, fun(T) -> py:call('__main__', blocked_in_open, [Fifo], #{}, T) end)
                             end),
    ?assert(has(stacks(), <<"blocked_in_open">>)),
    ok = py_test:release(Fifo),
    py_test:wait_until(fun() -> not has(stacks(), <<"blocked_in_open">>) end),
    py_test:end_worker(Late).

stacks_of_an_idle_node_are_harmless(_Config) ->
    Work = fun() -> [{ok, 4.0} = py:call(math, sqrt, [16]) || _ <- lists:seq(1, py_test:fewer(2000))], done end,
    Look = fun() -> [_ = stacks() || _ <- lists:seq(1, 30)], done end,
    ?assertEqual(lists:duplicate(4, done), py_test:at_once([Work, Work, Look, Work])),
    [] = py_test:messages().

%%% Modules

%% faulthandler and tracemalloc are about the process, so a sub-interpreter may not have
%% them.
a_module_that_refuses_is_served_by_the_main_interpreter(Config) ->
    py_test:mode() =:= subinterp orelse throw({skip, "only subinterp mode has interpreters that modules refuse"}),
    %% A module of its own, as one is told of once in the life of the node.
    Dir = py_test:write_module(Config, info_refuser, <<"from faulthandler import is_enabled\n">>),
    ok = py_import:add_path(Dir),
    Log = py_test:log_start(),
    Workers = py_test:workers_apart(py:num_executors()),
    [begin
         {ok, Enabled} = py_test:run(W, fun() -> py:call(info_refuser, is_enabled, []) end),
         ?assert(is_boolean(Enabled))
     end || _ <- [1, 2], W <- Workers],
    [py_test:end_worker(W) || W <- Workers],
    _ = py_test:log_await(Log, {notice, "info_refuser"}),
    {ok, {0, 0}} = py:call(tracemalloc, get_traced_memory, []),
    %% Such a module is known from then on, and said once.
    ?assert(lists:member(<<"info_refuser">>, refused())),
    _ = py_test:log_await(Log, {notice, "tracemalloc"}),
    ?assertEqual([], [Text || {_, Text} <- py_test:log_stop(Log), has(Text, <<"info_refuser">>)]),
    %% Others of the process are where they were.
    {ok, 4.0} = py:call(math, sqrt, [16]),
    ok = py_import:clear_paths().

refused() ->
    #{refused_modules := Refused} = py_nif:stats(),
    Refused.

modules_that_do_not_refuse_are_not_listed(_Config) ->
    Before = refused(),
    [{ok, _} = py:call(M, F, A)
     || {M, F, A} <- [{json, dumps, [[1]]}, {decimal, 'Decimal.__name__.upper', []},
                      {datetime, 'date.max.isoformat', []}, {sqlite3, 'sqlite_version.upper', []}]],
    {error, {'ModuleNotFoundError', _}} = py:call(no_such_module, f, []),
    Before = refused(),
    py_test:mode() =:= subinterp orelse (?assertEqual([], Before)).

%% It refuses each sub-interpreter, and aborts the process if it is tried twice.
numpy_works_from_a_plain_call(_Config) ->
    Work = fun() -> py:call('numpy.linalg', norm, [[3, 4]]) end,
    case Work() of
        {ok, 5.0} ->
            Workers = py_test:workers_apart(py:num_executors()),
            [{ok, 5.0} = py_test:run(W, Work) || _ <- [1, 2], W <- Workers],
            [py_test:end_worker(W) || W <- Workers],
            ?assertEqual(py_test:mode() =:= subinterp, lists:member(<<"numpy">>, refused()));
        {error, {'ModuleNotFoundError', _}} ->
            throw({skip, "this Python has no numpy"})
    end.

%% Which is for the whole process and for ever, so in a node of its own.
a_module_that_turns_the_GIL_on_is_named(Config) ->
    py_test:mode() =:= free_threaded orelse throw({skip, "only free_threaded mode has no GIL"}),
    Dir = filename:join(proplists:get_value(priv_dir, Config), "gil"),
    ok = filelib:ensure_dir(filename:join(Dir, "x")),
    ok = build_extension(Dir, "wants_gil"),
    Code = io_lib:format("{ok,_} = application:ensure_all_started(erlang_python),"
                         "{ok,none} = py:call(sys, 'path.append', [<<\"~ts\">>]),"
                         "{ok, 42} = py:call(wants_gil, answer, []),"
                         "#{gil_enablers := [<<\"wants_gil\">>]} = py_nif:stats(),"
                         "{ok, true} = py:call(sys, '_is_gil_enabled', []),"
                         "{ok, 4.0} = py:call(math, sqrt, [16]),"
                         "sys:get_state(py_events), timer:sleep(1000), halt(0).", [Dir]),
    {Status, Output, _} = py_test:node(Code, ["-kernel", "logger_level", "warning"]),
    ?assertEqual(0, Status, Output),
    ?assertMatch({match, _}, re:run(Output, "wants_gil")),
    ?assertMatch({match, _}, re:run(Output, "GIL")).

%% A module that says nothing of the GIL.
build_extension(Dir, Name) ->
    Source = filename:join(Dir, Name ++ ".c"),
    ok = file:write_file(Source,
                         ["#include <Python.h>\n"
                          "static PyObject *answer(PyObject *self, PyObject *args) { return PyLong_FromLong(42); }\n"
                          "static PyMethodDef methods[] = {{\"answer\", answer, METH_NOARGS, \"\"}, {0}};\n"
                          "static struct PyModuleDef def = {\n"
                          "    PyModuleDef_HEAD_INIT, .m_name = \"", Name, "\", .m_methods = methods};\n"
                          "PyMODINIT_FUNC PyInit_", Name, "(void) { return PyModule_Create(&def); }\n"]),
    {ok, Include} = py:eval(<<"__import__('sysconfig').get_path('include')">>),
    Command = lists:flatten(io_lib:format("cc -shared -fPIC -I'~ts' -o '~ts/~ts.so' '~ts' 2>&1; echo $?",
                                          [Include, Dir, Name, Source])),
    case string:lexemes(os:cmd(Command), "\n") of
        ["0"] -> ok;
        Output -> throw({skip, "no extension module can be built here: " ++ lists:flatten(lists:join(" ", Output))})
    end.

%%% Telemetry

%% The event handler is the application itself: a module that sends what it is given.
load_telemetry() ->
    Forms = [begin
                 {ok, Tokens, _} = erl_scan:string(Form),
                 {ok, Parsed} = erl_parse:parse_form(Tokens),
                 Parsed
             end || Form <- ["-module(telemetry).", "-export([execute/3]).",
                             "execute(Event, Measurements, Metadata) ->"
                             " py_info_telemetry ! {event, Event, Measurements, Metadata}, ok."]],
    {ok, telemetry, Beam} = compile:forms(Forms),
    {module, telemetry} = code:load_binary(telemetry, "telemetry", Beam),
    ok = application:load(?TELEMETRY),
    true = register(py_info_telemetry, self()).

unload_telemetry() ->
    _ = application:unload(telemetry),
    _ = code:purge(telemetry),
    _ = code:delete(telemetry),
    _ = code:purge(telemetry),
    py_test:restart(#{}).       % which looks for it

event() ->
    receive
        {event, [erlang_python, request, Event], Measurements, Metadata} -> {Event, Measurements, Metadata}
    after 60000 ->
        error(no_event)
    end.

telemetry_gets_an_event_for_each_request(Config) ->
    application:load(telemetry) =:= {error, {"no such file or directory", "telemetry.app"}}
        orelse throw({skip, "the application telemetry is installed here"}),
    load_telemetry(),
    Fifo = py_test:block(Config),
    py_test:restart(#{}),
    {ok, _} = py_context_router:start_pool(p, 1),
    Flush = fun Flush() -> receive {event, _, _, _} -> Flush() after 0 -> ok end end,
    Flush(),
    {ok, Context} = py_context:new(#{}),
    Flush(),
    Requests =
        [{fun() -> py:call(math, sqrt, [16]) end,
          #{operation => call, module => math, function => sqrt, pool => default, result => ok}},
         {fun() -> py:call(math, sqrt, [-1]) end,
          #{operation => call, module => math, function => sqrt, result => error}},
         {fun() -> py:eval(<<"1">>) end, #{operation => eval, result => ok}},
         {fun() -> py:exec(<<"1">>) end, #{operation => exec, result => ok}},
         {fun() -> py:call(p, math, sqrt, [16]) end, #{operation => call, pool => p, result => ok}},
         {fun() -> py:call(io, math, sqrt, [16]) end, #{operation => call, pool => io, result => ok}},
         {fun() -> py_context:call(Context, math, sqrt, [16]) end, #{operation => call, pool => context, result => ok}},
         {fun() -> py:await(py:spawn_call(math, sqrt, [16])) end, #{operation => call, module => math, result => ok}},
         {fun() -> py:cast(math, sqrt, [16]) end, #{operation => call, module => math, result => ok}}],
    [begin
         _ = Request(),
         {stop, #{queue_time := Queue, duration := Duration}, Metadata} = event(),
         ?assert(is_integer(Queue) andalso Queue >= 0 andalso is_integer(Duration) andalso Duration >= 0),
         ?assertEqual(Expected, maps:with(maps:keys(Expected), Metadata))
     end || {Request, Expected} <- Requests],
    %% How long it ran is true.
    {ok, none} = py:call(time, sleep, [0.05]),
    {stop, #{duration := Slept}, _} = event(),
    Milliseconds = erlang:convert_time_unit(Slept, native, millisecond),
    ?assert(Milliseconds >= 49 andalso Milliseconds < 60000 orelse Milliseconds),
    %% One for each of many.
    {ok, _} = py:parallel([{math, sqrt, [16]} || _ <- lists:seq(1, 10)]),
    [{stop, _, #{function := sqrt}} = event() || _ <- lists:seq(1, 10)],
    %% What ended without an answer.
    {error, timeout} = py:call(os, open, [Fifo, 0], #{}, 10),
    {cancel, #{count := 1}, #{result := timeout, module := os}} = event(),
    py_test:let_all_go(Fifo),
    settle(),
    [] = py_test:messages(),
    unregister(py_info_telemetry).

telemetry_that_is_not_loaded_is_not_called(_Config) ->
    %% It would fail, as there is no such module.
    [{ok, 4.0} = py:call(math, sqrt, [16]) || _ <- lists:seq(1, 10)],
    {error, timeout} = py:call(builtins, exec, [<<"while True: pass">>], #{}, 10),
    ?assertEqual(non_existing, code:which(telemetry)).

%%% Memory

memory_is_counted_and_collected(_Config) ->
    {ok, #{gc_stats := _}} = py:memory_stats(),
    {ok, _} = py:gc(),
    ok = py:exec(<<"class Node: pass\n"
                   "def cycles(n):\n"
                   "    for i in range(n):\n"
                   "        a = Node()\n"
                   "        a.me = a\n">>),
    ok = py:exec(<<"import gc\ngc.disable()">>),
    {ok, none} = py:call('__main__', cycles, [1000]),
    {ok, Found} = py:gc(),
    ok = py:exec(<<"gc.enable()">>),
    ?assert(Found >= 1000 orelse Found),
    {ok, N} = py:gc(0),
    ?assert(is_integer(N)),
    [?assertMatch({error, {_, _}}, py:gc(G), G) || G <- [-1, 3, all]].

allocations_are_traced_on_request(_Config) ->
    case py:tracemalloc_start() of
        ok -> trace_allocations();
        {error, {'RuntimeError', Text}} ->
            %% Some versions crash there.
            true = py_test:mode() =/= multi_executor,
            ?assertMatch({match, _}, re:run(Text, "GIL")),
            ok = py:tracemalloc_stop()
    end,
    [?assertMatch({error, {_, _}}, py:tracemalloc_start(N), N) || N <- [0, -1, many]].

trace_allocations() ->
    ok = py:exec(<<"kept = bytearray(3000000)">>),
    {ok, #{traced_memory_current := Current, traced_memory_peak := Peak}} = py:memory_stats(),
    ?assert(Current >= 3000000 andalso Peak >= Current orelse {Current, Peak}),
    ok = py:tracemalloc_stop(),
    ok = py:tracemalloc_start(5),
    ok = py:tracemalloc_stop(),
    ok = py:tracemalloc_stop(),
    {ok, Stats} = py:memory_stats(),
    ?assertNot(is_map_key(traced_memory_current, Stats)).

nothing_is_told_when_not_running(_Config) ->
    ok = application:stop(erlang_python),
    [?assertEqual({error, not_running}, Fun())
     || Fun <- [fun py:info/0, fun py:stacks/0, fun py:memory_stats/0, fun py:gc/0, fun py:tracemalloc_start/0]].
