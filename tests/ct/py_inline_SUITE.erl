%% SPDX-License-Identifier: Apache-2.0
%%
%% The pool inline: functions that run on the calling scheduler itself.  They have to give
%% what the normal path gives, and to leave the pool when they take too long.
-module(py_inline_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([an_inline_function_runs_on_a_scheduler/1,
         results_and_errors_are_those_of_the_normal_path/1,
         a_whole_module_can_be_inline/1,
         functions_of_the_namespace_can_be_inline/1,
         keywords_and_timeouts_work_as_elsewhere/1,
         an_inline_call_takes_less_than_half_the_time/1,
         inline_calls_of_a_hundred_processes_are_right/1,
         inline_and_normal_calls_get_on_together/1]).
-export([a_function_that_takes_too_long_is_moved_back_with_one_warning/1,
         a_function_of_a_module_is_moved_back_alone/1,
         a_function_that_was_moved_back_can_be_registered_again/1,
         a_busy_interpreter_sends_inline_calls_the_normal_way/1,
         a_callback_from_an_inline_function_fails_clearly/1,
         an_inline_function_in_a_nested_call/1,
         exceptions_that_would_end_a_program_do_not_end_the_node/1,
         deep_recursion_does_not_end_the_node/1,
         an_import_for_an_inline_call_is_made_elsewhere_or_here/1,
         an_inline_pool_cannot_be_named_in_a_call_for_more_than_it_is/1,
         inline_works_after_a_restart/1]).

suite() -> [{timetrap, {minutes, 5}}].

all() -> py_test:cases(?MODULE).

init_per_suite(Config) -> py_test:start(Config).

end_per_suite(Config) -> py_test:stop(Config).

init_per_testcase(_Case, Config) -> Config.

end_per_testcase(_Case, _Config) ->
    py_test:restore(),
    [ok = py:unregister_pool(Registered) || {Registered, _} <- py_context_router:list_pool_registrations()],
    ok.

inline(What) ->
    ok = py:register_pool(inline, What).

%% How many calls have run on schedulers.
runs() ->
    #{inline := #{runs := Runs}} = py_nif:stats(),
    Runs.

moved_back() ->
    #{inline := #{moved_back := Moved}} = py_nif:stats(),
    Moved.

%% The interpreter may be busy at the moment: an executor may not be asleep yet.
until_inline(Fun) ->
    repeat(Fun, runs(), moved_back(), 100000, []).

repeat(Fun, Before, Moved, N, Results) ->
    N > 0 andalso Moved =:= moved_back() orelse error({never_inline, Before, runs(), moved_back() -- Moved}),
    Now = lists:usort([Fun() | Results]),
    case runs() > Before of
        true -> ?assertMatch([_], Now), hd(Now);
        false -> repeat(Fun, Before, Moved, N - 1, Now)
    end.

%% A function that the machine stopped in took too long as well, and is moved back: then the
%% case begins anew.  The one that is to be moved back is time.sleep.
undisturbed(Case) ->
    undisturbed(Case, 5).

undisturbed(Case, Tries) ->
    Moved = moved_back(),
    try Case()
    catch error:Reason:Stack ->
            Disturbed = moved_back() -- [{time, sleep} | Moved],
            Disturbed =/= [] andalso Tries > 1 orelse erlang:raise(error, Reason, Stack),
            ct:log("~p were moved back: ~p", [Disturbed, Reason]),
            [ok = py:unregister_pool(Registered) || {Registered, _} <- py_context_router:list_pool_registrations()],
            py_test:restart(#{}),
            undisturbed(Case, Tries - 1)
    end.

%%% What comes of it

%% The thread is one of the emulator's.
an_inline_function_runs_on_a_scheduler(_Config) ->
    undisturbed(fun on_a_scheduler/0).

on_a_scheduler() ->
    {ok, Elsewhere} = py:call('_thread', get_native_id, []),
    inline({'_thread', get_native_id}),
    py_test:wait_until(fun() ->
                               {ok, Thread} = py:call('_thread', get_native_id, []),
                               Thread =/= Elsewhere andalso is_scheduler(Thread)
                       end).

is_scheduler(Thread) ->
    case file:read_file("/proc/self/task/" ++ integer_to_list(Thread) ++ "/comm") of
        {ok, Name} -> binary:match(Name, <<"sched">>) =/= nomatch;
        {error, _} -> false
    end.

results_and_errors_are_those_of_the_normal_path(_Config) ->
    undisturbed(fun results_and_errors/0).

results_and_errors() ->
    Calls = [{math, sqrt, [16]}, {math, sqrt, [-1]}, {math, sqrt, [<<"x">>]}, {math, sqrt, []},
             {builtins, abs, [-(1 bsl 200)]}, {builtins, sorted, [[3, 1, 2]]}, {builtins, sorted, [[1, <<"a">>]]},
             {builtins, dict, [[{a, 1}, {<<"b">>, [1.5, none, true]}]]},
             {builtins, len, [lists:seq(1, 1000)]}, {json, loads, [<<"{\"a\": [1, 2, null]}">>]},
             {json, loads, [<<"{">>]}, {binascii, hexlify, [{bytes, <<0, 255>>}]},
             {os, 'path.join', [<<"a">>, <<"b">>]}, {math, no_such_function, []}, {no_such_module, f, []},
             {operator, truediv, [1, 0]}, {operator, getitem, [#{}, x]}],
    Normal = [py:call(M, F, A) || {M, F, A} <- Calls],
    [inline({M, F}) || {M, F, _} <- Calls],
    Before = runs(),
    %% The interpreter may count as busy for some milliseconds, after the calls above.
    py_test:wait_until(fun() ->
                               [[?assertEqual({M, F, A, Expected}, {M, F, A, py:call(M, F, A)}) || _ <- lists:seq(1, 20)]
                                || {{M, F, A}, Expected} <- lists:zip(Calls, Normal)],
                               runs() > Before
                       end),
    0 = py_semaphore:current(),
    [] = py_test:messages().

a_whole_module_can_be_inline(_Config) ->
    undisturbed(fun whole_module/0).

whole_module() ->
    inline(math),
    {ok, 4.0} = until_inline(fun() -> py:call(math, sqrt, [16]) end),
    {ok, 120} = until_inline(fun() -> py:call(math, factorial, [5]) end),
    {ok, 4.0} = until_inline(fun() -> py:call("math", <<"sqrt">>, [16]) end),
    %% A function of it may be elsewhere.
    ok = py:register_pool(io, {math, factorial}),
    Before = runs(),
    [{ok, 120} = py:call(math, factorial, [5]) || _ <- lists:seq(1, 100)],
    ?assertEqual(Before, runs()),
    ok = py:unregister_pool(math),
    [{ok, 4.0} = py:call(math, sqrt, [16]) || _ <- lists:seq(1, 100)],
    ?assertEqual(Before, runs()).

functions_of_the_namespace_can_be_inline(_Config) ->
    inline({'__main__', mine}),
    Work = fun(N) ->
                   fun() ->
                           ok = py:exec(["def mine(x): return (", integer_to_list(N), ", x)"]),
                           [{ok, {N, X}} = py:call('__main__', mine, [X]) || X <- lists:seq(1, 200)],
                           py_test:messages()
                   end
           end,
    ?assertEqual(lists:duplicate(10, []), py_test:at_once([Work(N) || N <- lists:seq(1, 10)])).

keywords_and_timeouts_work_as_elsewhere(_Config) ->
    undisturbed(fun keywords_and_timeouts/0).

keywords_and_timeouts() ->
    inline({builtins, sorted}),
    {ok, [3, 2, 1]} = until_inline(fun() -> py:call(builtins, sorted, [[1, 2, 3]], #{reverse => true}) end),
    {ok, [1, 2, 3]} = until_inline(fun() -> py:call(builtins, sorted, [[1, 2, 3]], #{}, 60000) end),
    {error, {'TypeError', _}} = until_inline(fun() -> py:call(builtins, sorted, [[1]], #{colour => red}) end),
    {error, {'ValueError', _}} = py:call(builtins, sorted, [[1]], #{}, -1),
    [] = py_test:messages().

%% How many times is for bench/ to say; this is far from it.
an_inline_call_takes_less_than_half_the_time(_Config) ->
    py_test:sanitizer(address) orelse py_test:sanitizer(thread)
        andalso throw({skip, "a sanitizer costs more than what is measured"}),
    Loop = fun() ->
                   {Time, ok} = py_test:milliseconds(fun() -> loop(2000) end),
                   Time
           end,
    %% Each beside a normal one, as a processor may be twice as fast at another time.
    Ratio = fun() ->
                    ok = py:unregister_pool({math, sqrt}),
                    Normal = Loop(),
                    inline({math, sqrt}),
                    {ok, 4.0} = until_inline(fun() -> py:call(math, sqrt, [16]) end),
                    Loop() / Normal
            end,
    py_test:within(0.5, 50, fun() -> undisturbed(Ratio) end).

loop(0) -> ok;
loop(N) -> {ok, 4.0} = py:call(math, sqrt, [16]), loop(N - 1).

inline_calls_of_a_hundred_processes_are_right(_Config) ->
    inline({builtins, abs}),
    inline({builtins, divmod}),
    Calls = py_test:fewer(500),
    Work = fun(Me) ->
                   fun() ->
                           [begin
                                {ok, X} = py:call(builtins, abs, [-X]),
                                {ok, {Me, I}} = py:call(builtins, divmod, [X, 1000]),
                                {error, {'ZeroDivisionError', _}} = py:call(builtins, divmod, [X, 0])
                            end || I <- lists:seq(1, Calls), X <- [Me * 1000 + I]],
                           py_test:messages()
                   end
           end,
    ?assertEqual(lists:duplicate(100, []), py_test:at_once([Work(Me) || Me <- lists:seq(1, 100)])),
    0 = py_semaphore:current().

inline_and_normal_calls_get_on_together(_Config) ->
    inline({math, sqrt}),
    ok = py:register_function(f, fun([X]) -> {ok, V} = py:call(math, sqrt, [X]), V end),
    N = py_test:fewer(500),
    Works = [fun() ->
                     [?assert(lists:member(Call(), Right)) || _ <- lists:seq(1, Times)],
                     py_test:messages()
             end || {Times, Right, Call} <-
                        [{10 * N, [{ok, 4.0}], fun() -> py:call(math, sqrt, [16]) end},
                         {N, [{ok, 4.0}], fun() -> py:call(io, math, sqrt, [16]) end},
                         {N, [{ok, 5.0}], fun() -> py:call(erlang, call, [f, 25]) end},
                         {N, [{ok, 6}], fun() -> py:eval(<<"1 + 5">>) end},
                         {20, [{error, timeout}, {ok, none}], fun() -> py:call(time, sleep, [0.01], #{}, 1) end},
                         {N, [ok], fun() -> py:exec(<<"x = [i for i in range(100)]">>) end}]],
    ?assertEqual(lists:duplicate(12, []), py_test:at_once(Works ++ Works)).

%%% What does not belong there

a_function_that_takes_too_long_is_moved_back_with_one_warning(_Config) ->
    py_test:restart(#{}),       % what was warned of is not again
    Log = py_test:log_start(),
    Before = runs(),
    inline({time, sleep}),
    {ok, none} = until_inline(fun() -> py:call(time, sleep, [0.005]) end),
    Text = py_test:log_await(Log, {warning, "time.*sleep"}),
    ?assertMatch({match, _}, re:run(Text, "inline|default")),
    Runs = runs(),
    ?assertEqual(1, Runs - Before),
    %% From then on it is a call like others, which others need not wait for.
    [{ok, none} = py:call(time, sleep, [0.005]) || _ <- lists:seq(1, 20)],
    ?assertEqual(Runs, runs()),
    ?assert(lists:member({time, sleep}, moved_back())),
    %% As the list of routes has it.
    default = py_context_router:lookup_pool(time, sleep),
    {ok, 4.0} = py:call(math, sqrt, [16]),
    ?assertEqual([], [Other || {warning, Other} <- py_test:log_stop(Log)]).

a_function_of_a_module_is_moved_back_alone(_Config) ->
    undisturbed(fun moved_back_alone/0).

moved_back_alone() ->
    py_test:restart(#{}),       % what was moved back before stays so
    inline(time),
    {ok, none} = until_inline(fun() -> py:call(time, sleep, [0.005]) end),
    Before = runs(),
    [{ok, none} = py:call(time, sleep, [0.005]) || _ <- lists:seq(1, 10)],
    ?assertEqual(Before, runs()),
    %% The others of the module are still inline.
    {ok, true} = until_inline(fun() -> {ok, T} = py:call(time, time, []), {ok, is_float(T)} end),
    ?assert(lists:member({time, sleep}, moved_back())).

a_function_that_was_moved_back_can_be_registered_again(_Config) ->
    [begin
         inline({time, sleep}),
         {ok, none} = until_inline(fun() -> py:call(time, sleep, [0.005]) end),
         py_test:wait_until(fun() -> py_context_router:lookup_pool(time, sleep) =:= default end)
     end || _ <- [1, 2, 3]],
    %% Unless the machine stops just then.
    py_test:wait_until(fun() ->
                               inline({time, sleep}),
                               {ok, none} = until_inline(fun() -> py:call(time, sleep, [0]) end),
                               inline =:= py_context_router:lookup_pool(time, sleep)
                       end).

%% A loop holds the GIL of the interpreter that the process is bound to.  What the call
%% then waits for is an executor, not a scheduler: others of Erlang go on meanwhile.
a_busy_interpreter_sends_inline_calls_the_normal_way(_Config) ->
    undisturbed(fun busy_interpreter/0).

busy_interpreter() ->
    inline({math, sqrt}),
    {ok, 4.0} = until_inline(fun() -> py:call(math, sqrt, [16]) end),
    Count = case py_test:mode() of
                subinterp -> py:num_executors();
                _ -> py:num_executors() - 1     % one is left to serve, also what is inline no more
            end,
    Loops = [py_test:worker() || _ <- lists:seq(1, Count)],
    [py_test:start(W, fun() -> py:exec(<<"while True: pass">>) end) || W <- Loops],
    py_test:wait_until(fun() -> py_semaphore:current() =:= length(Loops) end),
    Ticker = py_test:worker(),
    py_test:start(Ticker, fun() -> longest_gap(200, erlang:monotonic_time(millisecond), 0) end),
    case py_test:mode() of
        free_threaded -> [{ok, 4.0} = py:call(math, sqrt, [16]) || _ <- lists:seq(1, 100)];
        multi_executor -> [{ok, 4.0} = py:call(math, sqrt, [16], #{}, 100000) || _ <- lists:seq(1, 5)];
        %% The only executor of the interpreter is busy for ever.
        subinterp -> [_ = py:call(math, sqrt, [16], #{}, 50) || _ <- lists:seq(1, 5)]
    end,
    Gap = py_test:answer(Ticker),
    ct:log("longest gap of a process that sleeps 1 ms: ~b ms", [Gap]),
    ?assert(Gap < 20000 orelse Gap),      % the loops have no end
    [py_test:kill(W) || W <- Loops],
    {ok, 4.0} = py:call(math, sqrt, [16]),
    py_test:end_worker(Ticker),
    [] = py_test:messages().

longest_gap(0, _Last, Longest) -> Longest;
longest_gap(N, Last, Longest) ->
    timer:sleep(1),
    Now = erlang:monotonic_time(millisecond),
    longest_gap(N - 1, Now, max(Longest, Now - Last)).

%% It cannot wait for Erlang on a scheduler.
a_callback_from_an_inline_function_fails_clearly(_Config) ->
    undisturbed(fun callback_from_inline/0).

callback_from_inline() ->
    Test = self(),
    ok = py:register_function(f, fun([]) -> Test ! it_ran, done end),
    ok = py:exec(<<"import erlang\n"
                   "def asks(): return erlang.call('f')\n"
                   "def caught():\n"
                   "    try: return erlang.call('f')\n"
                   "    except RuntimeError as e: return str(e)\n">>),
    inline({'__main__', asks}),
    inline({'__main__', caught}),
    Before = runs(),
    %% For longer than schedulers keep away from an interpreter that was seen busy.
    Results = [py:call('__main__', asks, []) || _ <- lists:seq(1, 5000)],
    Inline = [R || R <- Results, R =/= {ok, done}],
    ?assertEqual(runs() - Before, length(Inline)),
    ?assert(Inline =/= []),
    [{error, {'RuntimeError', Text}}] = lists:usort(Inline),
    ?assertMatch({match, _}, re:run(Text, "inline")),
    %% On the normal path, when the interpreter was busy, it is a callback.
    [receive it_ran -> ok after 0 -> error(not_run) end || {ok, done} <- Results],
    [] = py_test:messages(),
    Caught = [py:call('__main__', caught, []) || _ <- lists:seq(1, 50)],
    ?assertEqual([], Caught -- [R || R <- Caught, R =:= {ok, done} orelse R =:= {ok, Text}]),
    0 = py_semaphore:current().

an_inline_function_in_a_nested_call(_Config) ->
    inline({math, sqrt}),
    ok = py:register_function(f, fun([0]) -> {ok, V} = py:call(math, sqrt, [16]), V;
                                    ([N]) -> {ok, V} = py:call(erlang, call, [f, N - 1]), V
                                 end),
    [{ok, 4.0} = py:call(erlang, call, [f, N], #{}, 60000) || N <- [0, 1, 10, 1, 0]],
    [] = py_test:messages().

exceptions_that_would_end_a_program_do_not_end_the_node(_Config) ->
    undisturbed(fun exceptions_that_end_programs/0).

exceptions_that_end_programs() ->
    inline({sys, exit}),
    {error, {'SystemExit', <<"3">>}} = until_inline(fun() -> py:call(sys, exit, [3]) end),
    ok = py:exec(<<"def stop(): raise KeyboardInterrupt('stop')\ndef deep(): return deep()\n">>),
    inline({'__main__', stop}),
    {error, {'KeyboardInterrupt', <<"stop">>}} = until_inline(fun() -> py:call('__main__', stop, []) end),
    inline({'__main__', deep}),
    [{error, {'RecursionError', _}} = py:call('__main__', deep, []) || _ <- lists:seq(1, 20)],
    {ok, 4.0} = py:call(math, sqrt, [16]).

%% A scheduler has a small stack: 1 MB unless configured.
deep_recursion_does_not_end_the_node(_Config) ->
    Code = "{ok,_} = application:ensure_all_started(erlang_python),"
           "ok = py:register_pool(inline, {builtins, repr}),"
           "ok = py:register_pool(inline, {json, dumps}),"
           "ok = py:register_pool(inline, {copy, deepcopy}),"
           "Deep = lists:foldl(fun(_, L) -> [L] end, [], lists:seq(1, 50000)),"
           "Rs = [element(1, py:call(M, F, [D])) || {M, F} <- [{builtins, repr}, {json, dumps}, {copy, deepcopy}],"
           "      D <- [[1], Deep], _ <- lists:seq(1, 20)],"
           "true = lists:all(fun(R) -> R =:= ok orelse R =:= error end, Rs),"
           "{ok, 4.0} = py:call(math, sqrt, [16]), halt(0).",
    {0, <<>>, _} = py_test:node(Code).

an_import_for_an_inline_call_is_made_elsewhere_or_here(Config) ->
    py_test:write_module(Config, inline_imported, "count = 0\n"
                                                  "def more():\n"
                                                  "    global count\n"
                                                  "    count += 1\n"
                                                  "    return count\n"),
    inline(inline_imported),
    [{ok, N} = py:call(inline_imported, more, []) || N <- lists:seq(1, 100)].

%% It is a rule for a route, and not a place that an eval could be sent to.
an_inline_pool_cannot_be_named_in_a_call_for_more_than_it_is(_Config) ->
    case py:call(inline, math, sqrt, [16]) of
        {ok, 4.0} -> ok;
        {error, {_, Text}} -> ?assertMatch({_, _}, binary:match(Text, <<"inline">>))
    end,
    [] = py_test:messages(),
    0 = py_semaphore:current().

inline_works_after_a_restart(_Config) ->
    undisturbed(fun after_restarts/0).

after_restarts() ->
    [begin
         inline({math, sqrt}),
         {ok, 4.0} = until_inline(fun() -> py:call(math, sqrt, [16]) end),
         ok = application:stop(erlang_python),
         {error, not_running} = py:call(math, sqrt, [16]),
         ok = application:start(erlang_python),
         {ok, 4.0} = py:call(math, sqrt, [16])
     end || _ <- [1, 2, 3]].
