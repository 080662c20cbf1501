%% SPDX-License-Identifier: Apache-2.0
%%
%% Python calls Erlang: what is registered, who runs it, which errors cross in which
%% direction, and what becomes of the executor when somebody gives up in between.
-module(py_callback_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1, end_per_testcase/2]).
-export([a_registered_function_gets_its_arguments_and_returns/1,
         a_function_is_registered_as_module_and_function/1,
         names_are_atoms_binaries_or_strings/1,
         the_last_registration_counts/1,
         an_unregistered_function_is_unknown/1,
         what_is_no_function_is_not_registered/1,
         a_function_registered_by_a_process_that_died_stays/1]).
-export([the_caller_itself_runs_the_function/1,
         concurrent_callers_run_their_own_callbacks/1,
         python_code_runs_once_around_callbacks/1,
         a_thousand_callbacks_in_one_call/1,
         a_callback_may_come_during_an_import/1,
         a_callback_may_come_from_eval_and_exec/1]).
-export([erlang_exceptions_are_erlang_Error/1,
         an_Erlang_exception_that_Python_does_not_catch_fails_the_call/1,
         reasons_without_a_Python_value_are_shown_as_text/1,
         a_Python_exception_passes_through_a_callback/1,
         arguments_that_do_not_convert_are_not_sent/1,
         results_that_do_not_convert_raise/1,
         wrong_uses_of_erlang_call_are_TypeErrors/1]).
-export([nested_calls_run_on_the_same_thread/1,
         nested_calls_see_the_namespace_of_their_process/1,
         a_lock_of_the_outer_call_can_be_reentered/1,
         a_nested_call_can_time_out_and_the_outer_goes_on/1,
         nesting_without_end_is_a_RecursionError/1,
         a_call_of_another_process_in_a_callback_is_no_nested_call/1,
         calls_of_others_go_on_during_callbacks/1]).
-export([a_killed_caller_in_a_callback_frees_its_executor/1,
         a_timeout_in_a_callback_ends_the_call/1,
         a_cancelled_callback_raises_Cancelled_once/1,
         a_callback_after_the_timeout_does_not_run/1,
         nothing_is_left_in_the_mailbox/1]).
-export([a_fun_is_a_callable/1,
         a_fun_is_the_key_of_sorted/1,
         a_fun_of_any_kind_can_be_called/1,
         a_fun_runs_in_the_process_that_called_Python/1,
         a_fun_may_call_Python_again/1,
         a_fun_outlives_the_call_that_brought_it/1,
         exceptions_of_funs_are_erlang_Error/1,
         a_fun_takes_no_keyword_arguments/1]).
-export([registered_functions_are_attributes/1,
         registered_functions_can_be_imported/1,
         attributes_are_bound_late/1,
         what_is_not_registered_is_an_AttributeError/1]).
-export([a_Python_exception_comes_back_as_itself/1,
         a_Python_exception_crosses_many_levels/1,
         a_Python_exception_of_another_call_is_erlang_Error/1,
         an_erlang_Error_tells_what_it_was_with_all_errors/1,
         erlang_Error_is_an_exception_like_others/1]).
-export([called/1, plus/2]).

-define(ERROR(Type, Message), {error, {Type, Message}}).

suite() -> [{timetrap, {minutes, 5}}].

all() -> py_test:cases(?MODULE) -- [called].

init_per_suite(Config) -> py_test:start(Config).

end_per_suite(Config) -> py_test:stop(Config).

end_per_testcase(_Case, _Config) ->
    py_test:restore(),
    _ = py:unregister_function(f),
    ok.

called(Args) -> {called, Args}.

plus(A, B) -> A + B.

register_f(Fun) ->
    ok = py:register_function(f, Fun),
    ok = py:exec(<<"import erlang">>).

%%% Registration

a_registered_function_gets_its_arguments_and_returns(_Config) ->
    register_f(fun(Args) -> {got, Args} end),
    {ok, {got, []}} = py:eval(<<"erlang.call('f')">>),
    {ok, {got, [1, <<"two">>, [3.0], {four, none}]}} =
        py:eval(<<"erlang.call('f', 1, 'two', [3.0], (a, None))">>, #{a => four}),
    {ok, {got, [[1, 2]]}} = py:call(erlang, call, [f, [1, 2]]),
    {ok, true} = py:eval(<<"type(erlang.call('f')[0]) is erlang.Atom">>),
    {ok, 100001} = py:eval(<<"len(erlang.call('f', *range(100000))[1]) + 1">>).

a_function_is_registered_as_module_and_function(_Config) ->
    ok = py:register_function(f, ?MODULE, called),
    {ok, {called, [1]}} = py:call(erlang, call, [f, 1]),
    ok = py:register_function(f, lists, max),
    {ok, 5} = py:call(erlang, call, [f, 3, 5]),
    ok = py:register_function(f, ?MODULE, no_such_function),
    ?ERROR('Error', _) = py:call(erlang, call, [f, 1]).

names_are_atoms_binaries_or_strings(_Config) ->
    [begin
         ok = py:register_function(Name, fun([]) -> N end),
         {ok, N} = py:call(erlang, call, [<<"größe"/utf8>>]),
         {ok, N} = py:eval("__import__('erlang').call('größe')"),
         {ok, N} = py:eval("__import__('erlang').call(a)", #{a => 'größe'}),
         ok = py:unregister_function(Name),
         ?ERROR('Error', _) = py:call(erlang, call, [<<"größe"/utf8>>])
     end || {N, Name} <- [{1, 'größe'}, {2, <<"größe"/utf8>>}, {3, "größe"}]],
    ok.

the_last_registration_counts(_Config) ->
    [begin
         register_f(fun([]) -> N end),
         {ok, N} = py:call(erlang, call, [f])
     end || N <- [1, 2, 3]].

an_unregistered_function_is_unknown(_Config) ->
    register_f(fun(_) -> 1 end),
    ok = py:unregister_function(f),
    ok = py:unregister_function(f),
    ok = py:exec(<<"def reason():\n"
                   "    try: erlang.call('f')\n"
                   "    except erlang.Error as e: return (e.class_, e.reason)\n">>),
    {ok, {error, {undefined_function, <<"f">>}}} = py:call('__main__', reason, []).

what_is_no_function_is_not_registered(_Config) ->
    [?ERROR('TypeError', _) = py:register_function(f, X)
     || X <- [fun() -> 1 end, fun(_, _) -> 1 end, f, 1, {a}, {"lists", max}, {lists, <<"max">>}]],
    [{error, {_, _}} = py:register_function(X, fun(_) -> 1 end) || X <- [1, 1.5, {a}, #{}, [a], [-1]]].

a_function_registered_by_a_process_that_died_stays(_Config) ->
    py_test:in_process(fun() -> register_f(fun([X]) -> X + 1 end) end),
    {ok, 2} = py:call(erlang, call, [f, 1]).

%%% Who runs it

the_caller_itself_runs_the_function(_Config) ->
    Test = self(),
    put(mine, 17),
    register_f(fun([]) -> self() =:= Test andalso get(mine) end),
    {ok, 17} = py:call(erlang, call, [f]),
    {ok, false} = py_test:in_process(fun() -> py:call(erlang, call, [f]) end),
    %% What the function puts there stays, and nothing of ours is visible to a later call.
    register_f(fun([X]) -> put(mine, X) end),
    {ok, 17} = py:call(erlang, call, [f, 18]),
    18 = get(mine).

concurrent_callers_run_their_own_callbacks(_Config) ->
    register_f(fun([N]) -> {get(me), N} end),
    Work = fun(Me) ->
                   fun() ->
                           put(me, Me),
                           [{ok, {Me, N}} = py:call(erlang, call, [f, N]) || N <- lists:seq(1, 200)],
                           py_test:messages()
                   end
           end,
    Answers = py_test:at_once([Work(Me) || Me <- lists:seq(1, 20)]),
    Answers = lists:duplicate(20, []).

python_code_runs_once_around_callbacks(_Config) ->
    register_f(fun([X]) -> X * 2 end),
    ok = py:exec(<<"done = []\n"
                   "def steps():\n"
                   "    done.append('before')\n"
                   "    x = erlang.call('f', 1)\n"
                   "    done.append(x)\n"
                   "    try:\n"
                   "        y = erlang.call('f', x)\n"
                   "    finally:\n"
                   "        done.append('finally')\n"
                   "    done.append(y)\n"
                   "    return erlang.call('f', y)\n">>),
    {ok, 8} = py:call('__main__', steps, []),
    {ok, [<<"before">>, 2, <<"finally">>, 4]} = py:eval(<<"done">>).

a_thousand_callbacks_in_one_call(_Config) ->
    register_f(fun([X]) -> X + 1 end),
    ok = py:exec(<<"def count(n):\n    x = 0\n    while x < n: x = erlang.call('f', x)\n    return x\n">>),
    {ok, 1000} = py:call('__main__', count, [1000]),
    [] = py_test:messages().

a_callback_may_come_during_an_import(Config) ->
    register_f(fun([]) -> <<"from Erlang">> end),
    py_test:write_module(Config, asks_while_imported,
                         "import erlang\nvalue = erlang.call('f')\ndef get(): return value\n"),
    {ok, <<"from Erlang">>} = py:call(asks_while_imported, get, []).

a_callback_may_come_from_eval_and_exec(_Config) ->
    register_f(fun([X]) -> X + 1 end),
    {ok, [2, 3]} = py:eval(<<"[erlang.call('f', i) for i in (1, 2)]">>),
    ok = py:exec(<<"x = erlang.call('f', 41)">>),
    {ok, 42} = py:eval(<<"x">>),
    {ok, [2, 3]} = py:call(builtins, eval, [<<"[erlang.call('f', i) for i in (1, 2)]">>]).

%%% Errors

erlang_exceptions_are_erlang_Error(_Config) ->
    register_f(fun([Class, Reason]) -> erlang:raise(Class, Reason, []) end),
    ok = py:exec(<<"def attempt(class_, reason):\n"
                   "    try: return erlang.call('f', class_, reason)\n"
                   "    except erlang.Error as e:\n"
                   "        return (e.class_, e.reason, type(e.stack).__name__, isinstance(e, Exception))\n">>),
    [begin
         Expected = {ok, {Class, Reason, <<"list">>, true}},
         ?assertEqual(Expected, py:call('__main__', attempt, [Class, Reason]))
     end || Class <- [error, exit, throw],
            Reason <- [badarg, {my, <<"reason">>}, [1, 2], #{why => 'żółć'}, normal, kill, <<>>, 1 bsl 100]],
    %% The frames of Erlang, innermost first.
    register_f(fun([]) -> lists:nth(1, id([])) end),
    ok = py:exec(<<"def stack():\n"
                   "    try: erlang.call('f')\n"
                   "    except erlang.Error as e: return (e.reason, e.stack[0][:2])\n">>),
    {ok, {function_clause, {lists, nth}}} = py:call('__main__', stack, []).

id(X) -> X.

an_Erlang_exception_that_Python_does_not_catch_fails_the_call(_Config) ->
    register_f(fun([]) -> error(my_reason) end),
    ?ERROR('Error', Message) = py:call(erlang, call, [f]),
    ?assertMatch({_, _}, binary:match(Message, <<"my_reason">>)),
    {ok, 4.0} = py:call(math, sqrt, [16]).

reasons_without_a_Python_value_are_shown_as_text(_Config) ->
    Pid = self(),
    register_f(fun([]) -> error({gone, Pid, fun id/1}) end),
    ok = py:exec(<<"def reason():\n"
                   "    try: erlang.call('f')\n"
                   "    except erlang.Error as e: return str(e.reason)\n">>),
    {ok, Text} = py:call('__main__', reason, []),
    ?assertMatch({_, _}, binary:match(Text, list_to_binary(pid_to_list(Pid)))).

a_Python_exception_passes_through_a_callback(_Config) ->
    Test = self(),
    register_f(fun([]) ->
                       Result = py:eval(<<"{}['inner']">>),
                       Test ! {inner, Result},
                       {error, Reason} = Result,
                       error(Reason)
               end),
    ok = py:exec(<<"def outer():\n"
                   "    try: erlang.call('f')\n"
                   "    except erlang.Error as e: return e.reason\n">>),
    {ok, {'KeyError', <<"'inner'">>}} = py:call('__main__', outer, []),
    receive {inner, Inner} -> ?ERROR('KeyError', <<"'inner'">>) = Inner end.

arguments_that_do_not_convert_are_not_sent(_Config) ->
    Test = self(),
    register_f(fun(Args) -> Test ! {got, Args} end),
    ok = py:exec(<<"def attempt(*args):\n"
                   "    try: erlang.call('f', *args)\n"
                   "    except erlang.ConversionError as e: return str(e)\n">>),
    {ok, Text} = py:eval(<<"attempt(1, ['\\ud800'])">>),
    ?assertMatch({_, _}, binary:match(Text, <<"surrogate">>)),
    {error, _} = py:eval(<<"erlang.call('f', '\\ud800')">>),
    [] = py_test:messages().

results_that_do_not_convert_raise(_Config) ->
    register_f(fun([]) -> [1, #{1 => a, 1.0 => b}] end),
    ok = py:exec(<<"def attempt():\n"
                   "    try: erlang.call('f')\n"
                   "    except erlang.ConversionError as e: return str(e)\n">>),
    {ok, Text} = py:call('__main__', attempt, []),
    ?assertMatch({_, _}, binary:match(Text, <<"keys">>)),
    {error, _} = py:call(erlang, call, [f]).

wrong_uses_of_erlang_call_are_TypeErrors(_Config) ->
    ok = py:exec(<<"import erlang">>),
    [?ERROR('TypeError', _) = py:eval(Code)
     || Code <- ["erlang.call()", "erlang.call(1)", "erlang.call(b'f')", "erlang.call(None)", "erlang.call(['f'])",
                 "erlang.call('f', key=1)"]],
    {error, _} = py:eval(<<"erlang.call('\\ud800')">>),
    {error, _} = py:eval(<<"erlang.call('')">>),
    {error, _} = py:eval(<<"erlang.call('x' * 10000)">>).

%%% Nesting

%% Python -> Erlang -> Python -> ... fifty times.
nested_calls_run_on_the_same_thread(_Config) ->
    register_f(fun([N]) -> {ok, Threads} = py:call('__main__', down, [N]), Threads end),
    ok = py:exec(<<"import threading\n"
                   "local = threading.local()\n"
                   "def down(n):\n"
                   "    local.depth = getattr(local, 'depth', 0) + 1\n"
                   "    try:\n"
                   "        below = erlang.call('f', n - 1) if n else []\n"
                   "        return [(threading.get_ident(), local.depth)] + below\n"
                   "    finally:\n"
                   "        local.depth -= 1\n">>),
    {ok, [{Thread, _} | _] = Frames} = py:call('__main__', down, [50]),
    51 = length(Frames),
    [Thread] = lists:usort([T || {T, _} <- Frames]),
    %% The depth that a frame sees when it comes back is its own: the others were there.
    ?assertEqual(lists:seq(1, 51), [Depth || {_, Depth} <- Frames]),
    [] = py_test:messages().

nested_calls_see_the_namespace_of_their_process(_Config) ->
    register_f(fun([]) ->
                       {ok, 1} = py:eval(<<"x">>),
                       ok = py:exec(<<"x = 2">>),
                       {ok, 2} = py:eval(<<"x">>),
                       done
               end),
    ok = py:exec(<<"x = 1\ndef outer(): return (erlang.call('f'), x)">>),
    {ok, {done, 2}} = py:call('__main__', outer, []).

a_lock_of_the_outer_call_can_be_reentered(_Config) ->
    register_f(fun([]) -> {ok, V} = py:call('__main__', inner, []), V end),
    ok = py:exec(<<"import threading\n"
                   "lock = threading.RLock()\n"
                   "def inner():\n"
                   "    if not lock.acquire(timeout=60): return 'not reentered'\n"
                   "    lock.release()\n"
                   "    return 'reentered'\n"
                   "def outer():\n"
                   "    with lock: return erlang.call('f')\n">>),
    {ok, <<"reentered">>} = py:call('__main__', outer, []).

a_nested_call_can_time_out_and_the_outer_goes_on(_Config) ->
    register_f(fun([]) -> py:call('__main__', loop, [], #{}, 20) end),
    ok = py:exec(<<"def loop():\n"
                   "    while True: pass\n"
                   "def outer():\n"
                   "    first = erlang.call('f')\n"
                   "    return [first, erlang.call('f'), sum(range(100000))]\n">>),
    {ok, [{error, timeout}, {error, timeout}, 4999950000]} = py:call('__main__', outer, []),
    {ok, [{error, timeout}, {error, timeout}, 4999950000]} = py:call('__main__', outer, [], #{}, 60000),
    [] = py_test:messages().

%% Each level takes some of the executor's stack: what is left in the end is an exception.
nesting_without_end_is_a_RecursionError(_Config) ->
    register_f(fun([N]) ->
                       case py:call('__main__', deeper, [N + 1]) of
                           {ok, V} -> V;
                           ?ERROR(Type, _) -> {Type, N}
                       end
               end),
    ok = py:exec(<<"def deeper(n): return erlang.call('f', n)">>),
    {ok, {'RecursionError', N}} = py:call('__main__', deeper, [0]),
    ct:log("~b levels", [N]),
    ?assert(N >= 100 orelse N),
    {ok, 4.0} = py:call(math, sqrt, [16]),
    [] = py_test:messages().

a_call_of_another_process_in_a_callback_is_no_nested_call(_Config) ->
    register_f(fun([]) ->
                       {ok, V} = py_test:in_process(fun() -> py:eval(<<"'x' in globals()">>) end),
                       V
               end),
    ok = py:exec(<<"x = 1">>),
    [{ok, false} = py:call(erlang, call, [f]) || _ <- lists:seq(1, 20)],
    [] = py_test:messages().

%% As many callers as there are executors, and more, are in a callback; the callback ends
%% only when others have been served.
calls_of_others_go_on_during_callbacks(_Config) ->
    Test = self(),
    register_f(fun([]) -> Test ! {in_callback, self()}, receive go_on -> done end end),
    Workers = [py_test:worker() || _ <- lists:seq(1, 2 * py:num_executors() + 1)],
    [begin
         py_test:start(W, fun() -> py:call(erlang, call, [f]) end),
         receive {in_callback, Pid} when Pid =:= element(1, W) -> ok after 60000 -> error(not_called) end
     end || W <- Workers],
    Work = fun() -> [{ok, 4.0} = py:call(math, sqrt, [16], #{}, 60000) || _ <- lists:seq(1, 100)], done end,
    Answers = py_test:at_once(lists:duplicate(10, Work)),
    Answers = lists:duplicate(10, done),
    [Pid ! go_on || {Pid, _} <- Workers],
    [{ok, done} = py_test:answer(W) || W <- Workers],
    [py_test:end_worker(W) || W <- Workers],
    ok.

%%% Giving up

a_killed_caller_in_a_callback_frees_its_executor(_Config) ->
    Test = self(),
    register_f(fun([]) -> Test ! {in_callback, self()}, receive never -> ok end end),
    [begin
         {Pid, Monitor} = spawn_monitor(fun() -> py:call(erlang, call, [f]) end),
         receive {in_callback, Pid} -> ok after 60000 -> error({no_executor_left, N}) end,
         exit(Pid, kill),
         receive {'DOWN', Monitor, process, Pid, killed} -> ok end
     end || N <- lists:seq(1, 4 * py:num_executors() + 70)],
    Work = fun() -> py:call(math, sqrt, [16], #{}, 60000) end,
    Count = 2 * py:num_executors(),
    Answers = py_test:at_once(lists:duplicate(Count, Work)),
    Answers = lists:duplicate(Count, {ok, 4.0}),
    [] = py_test:messages().

%% The function is Erlang's and ends when it ends; the call does not outlive it.
a_timeout_in_a_callback_ends_the_call(_Config) ->
    register_f(fun([]) -> receive never -> ok after 50 -> late end end),
    ok = py:exec(<<"after = []\n"
                   "def outer():\n"
                   "    x = erlang.call('f')\n"
                   "    after.append(x)\n"
                   "    while True: pass\n">>),
    {Time, {error, timeout}} =
        py_test:milliseconds(fun() -> py:call('__main__', outer, [], #{}, 10) end),
    ?assert(Time < 30000 orelse Time),     % not for ever
    [] = py_test:messages(),
    {ok, 4.0} = py:call(math, sqrt, [16]),
    %% Of two callbacks the second is not run.
    ok = py:exec(<<"def twice(): return [erlang.call('f'), erlang.call('f')]">>),
    {error, timeout} = py:call('__main__', twice, [], #{}, 10),
    [] = py_test:messages().

a_callback_after_the_timeout_does_not_run(Config) ->
    Fifo = py_test:block(Config),
    Test = self(),
    register_f(fun([]) -> Test ! it_ran end),
    ok = py:exec(<<"import os\n"
                   "begun, raised = [], []\n"
                   "def outer(fifo):\n"
                   "    try:\n"
                   "        begun.append(1)\n"
                   "        os.close(os.open(fifo, 0))\n"
                   "        erlang.call('f')\n"
                   "    except BaseException as e:\n"
                   "        raised.append(type(e).__name__)\n"
                   "        raise\n">>),
    py_test:timed_out(fun(T) -> py:call('__main__', outer, [Fifo], #{}, T) end,
                      fun() -> py:eval(<<"len(begun)">>) =/= {ok, 0} end),
    py_test:wait_until(fun() ->
                               py_test:let_all_go(Fifo),
                               py:eval(<<"len(raised) == len(begun)">>) =:= {ok, true} orelse py_test:messages() =/= []
                       end),
    {ok, [<<"Cancelled">>]} = py:eval(<<"sorted(set(raised))">>),
    [] = py_test:messages().

nothing_is_left_in_the_mailbox(_Config) ->
    register_f(fun([X]) -> X end),
    ok = py:exec(<<"def many(n):\n    for i in range(n): erlang.call('f', i)\n    return n\n">>),
    Known = [{ok, 100}, {error, timeout}],
    [?assert(lists:member(py:call('__main__', many, [100], #{}, T), Known)) || _ <- lists:seq(1, 100), T <- [0, 1, 2]],
    [{ok, 1} = py:call('__main__', many, [1]) || _ <- lists:seq(1, 100)],
    [] = py_test:messages().

%% The cleanup that follows the exception is not interrupted by a second one.  It
%% tells so by a file, as its caller is gone.
a_cancelled_callback_raises_Cancelled_once(Config) ->
    Self = self(),
    File = filename:join(proplists:get_value(priv_dir, Config), "cancelled_once"),
    register_f(fun([<<"wait">>]) -> Self ! waiting, timer:sleep(infinity) end),
    Code = io_lib:format("
import erlang, os, time
log = []
try:
    erlang.call('f', 'wait')
except erlang.Cancelled:
    log.append('first')
    try:
        end = time.monotonic() + 0.3
        while time.monotonic() < end:
            pass
        log.append('cleaned')
    except erlang.Cancelled:
        log.append('second')
with open('~ts.new', 'w') as f:
    f.write(' '.join(log))
os.rename('~ts.new', '~ts')
", [File, File, File]),
    Caller = spawn(fun() -> py:exec(Code) end),
    receive waiting -> ok end,
    exit(Caller, kill),
    <<"first cleaned">> = read_when_there(File, 2000).

read_when_there(File, N) ->
    case file:read_file(File) of
        {error, enoent} when N > 0 -> timer:sleep(50), read_when_there(File, N - 1);
        {ok, Text} -> Text
    end.

%%% Funs

a_fun_is_a_callable(_Config) ->
    {ok, 3} = py:eval(<<"f(1, 2)">>, #{f => fun(A, B) -> A + B end}),
    {ok, done} = py:eval(<<"f()">>, #{f => fun() -> done end}),
    {ok, [true, true]} = py:eval(<<"[callable(f), isinstance(f, __import__('erlang').Fun)]">>, #{f => fun() -> 1 end}),
    {ok, [2, 4, 6]} = py:eval(<<"list(map(f, [1, 2, 3]))">>, #{f => fun(X) -> 2 * X end}),
    {ok, [3]} = py:eval(<<"list(filter(f, [1, 2, 3]))">>, #{f => fun(X) -> X > 2 end}),
    {ok, 6} = py:call(functools, reduce, [fun(A, B) -> A + B end, [1, 2, 3]]),
    Value = {a, [1, #{k => 2.5}], <<"s">>},
    {ok, [Value]} = py:eval(<<"[d['f'][0](x)]">>, #{d => #{f => [fun id/1]}, x => Value}),
    %% With as many arguments as a fun can have.
    F = fun(A, B, C, D, E, G, H, I, J, K) -> A + B + C + D + E + G + H + I + J + K end,
    {ok, 45} = py:eval(<<"f(*range(10))">>, #{f => F}).

a_fun_is_the_key_of_sorted(_Config) ->
    {ok, [5, 4, 3, 1, 1]} = py:call(builtins, sorted, [[3, 1, 4, 1, 5]], #{key => fun(X) -> -X end}),
    {ok, [<<"a">>, <<"bb">>, <<"ccc">>]} =
        py:call(builtins, sorted, [[<<"ccc">>, <<"a">>, <<"bb">>]], #{key => fun(X) -> byte_size(X) end}),
    {ok, {<<"b">>, 3}} = py:call(builtins, max, [[{<<"a">>, 1}, {<<"b">>, 3}]], #{key => fun({_, N}) -> N end}),
    N = 1000,
    {ok, Sorted} = py:call(builtins, sorted, [lists:seq(1, N)], #{key => fun(X) -> (X * 7919) rem N end}),
    ?assertEqual([X || {_, X} <- lists:sort([{(X * 7919) rem N, X} || X <- lists:seq(1, N)])], Sorted),
    [] = py_test:messages().

a_fun_of_any_kind_can_be_called(_Config) ->
    Added = 10,
    [{ok, Expected} = py:eval(<<"f(3, 4)">>, #{f => Fun})
     || {Expected, Fun} <- [{7, fun plus/2}, {7, fun ?MODULE:plus/2}, {7, fun erlang:'+'/2}, {17, fun(A, B) -> A + B + Added end}]],
    {ok, true} = py:eval(<<"f == g and hash(f) == hash(g) and f != h">>,
                         #{f => fun lists:max/1, g => fun lists:max/1, h => fun lists:min/1}),
    Fun = fun lists:max/1,
    {ok, Fun} = py_test:through(Fun).

a_fun_runs_in_the_process_that_called_Python(_Config) ->
    Me = self(),
    put(mine, 17),
    {ok, {Me, 17}} = py:eval(<<"f()">>, #{f => fun() -> {self(), get(mine)} end}),
    Answers = py_test:at_once([fun() -> py:eval(<<"f()">>, #{f => fun() -> {self(), N} end}) =:= {ok, {self(), N}} end
                               || N <- lists:seq(1, 20)]),
    Answers = lists:duplicate(20, true).

a_fun_may_call_Python_again(_Config) ->
    ok = py:exec(<<"import threading\n"
                   "def inner(x): return (x, threading.get_ident())\n"
                   "def outer(f): return (f(1), threading.get_ident())\n">>),
    {ok, {{1, Thread}, Thread}} =
        py:call('__main__', outer, [fun(X) -> {ok, V} = py:call('__main__', inner, [X]), V end]),
    %% And give it a fun in turn.
    {ok, 120} = py:eval(<<"f(f, 5)">>, #{f => fun factorial/2}).

factorial(_Self, 0) -> 1;
factorial(Self, N) ->
    {ok, V} = py:eval(<<"n * f(f, n - 1)">>, #{f => fun factorial/2, n => N}),
    true = is_function(Self, 2),
    V.

a_fun_outlives_the_call_that_brought_it(_Config) ->
    ok = py:exec(<<"kept = []">>),
    {ok, _} = py:eval(<<"kept.append(f)">>, #{f => fun(X) -> {self(), X} end}),
    erlang:garbage_collect(),
    Me = self(),
    {ok, {Me, 1}} = py:eval(<<"kept[0](1)">>),
    %% Also the process that made it, and that which runs it is the one that calls then.
    Handle = py_test:in_process(fun() -> py_test:handle(<<"f">>, #{f => fun(X) -> {self(), X} end}) end),
    {ok, {Me, 2}} = py:call_object(Handle, [2]).

exceptions_of_funs_are_erlang_Error(_Config) ->
    ok = py:exec(<<"import erlang\n"
                   "def attempt(f, *args):\n"
                   "    try: return f(*args)\n"
                   "    except erlang.Error as e: return (e.class_, e.reason)\n">>),
    [{ok, {Class, oops}} = py:call('__main__', attempt, [fun() -> erlang:raise(Class, oops, []) end])
     || Class <- [error, exit, throw]],
    {ok, {error, {badarity, _}}} = py:call('__main__', attempt, [fun(_) -> 1 end]),
    {ok, {error, {badarity, _}}} = py:call('__main__', attempt, [fun() -> 1 end, 1]),
    {ok, {error, undef}} = py:call('__main__', attempt, [fun ?MODULE:no_such_function/0]),
    {ok, {error, badarith}} = py:call('__main__', attempt, [fun plus/2, 1, <<"a">>]),
    ?ERROR('Error', _) = py:call(builtins, sorted, [[2, 1]], #{key => fun(_) -> error(oops) end}),
    {ok, 4.0} = py:call(math, sqrt, [16]),
    [] = py_test:messages().

a_fun_takes_no_keyword_arguments(_Config) ->
    F = fun(Args) -> Args end,
    ?ERROR('TypeError', _) = py:eval(<<"f(1, key=2)">>, #{f => F}),
    ?ERROR('TypeError', _) = py:eval(<<"f(key=2)">>, #{f => F}),
    {ok, 1} = py:eval(<<"f(*[1], **{})">>, #{f => F}),
    ?ERROR('TypeError', _) = py:eval(<<"p()">>, #{p => self()}).

%%% Names

registered_functions_are_attributes(_Config) ->
    register_f(fun(Args) -> {got, Args} end),
    {ok, {got, [1, [2], none]}} = py:eval(<<"erlang.f(1, [2], None)">>),
    {ok, {got, []}} = py:eval(<<"erlang.f()">>),
    {ok, {got, [1]}} = py:call(erlang, f, [1]),
    ok = py:register_function(<<"größe"/utf8>>, fun([]) -> 1 end),
    {ok, 1} = py:eval(<<"erlang.größe()"/utf8>>),
    ok = py:unregister_function(<<"größe"/utf8>>),
    {ok, [<<"f">>, true, true]} =
        py:eval(<<"[erlang.f.__name__, callable(erlang.f), \"'f'\" in repr(erlang.f)]">>),
    ?ERROR('TypeError', _) = py:eval(<<"erlang.f(key=1)">>).

registered_functions_can_be_imported(Config) ->
    register_f(fun([X]) -> X + 1 end),
    ok = py:exec(<<"from erlang import f\nfrom erlang import f as g\n">>),
    {ok, [2, 3]} = py:eval(<<"[f(1), g(2)]">>),
    py_test:write_module(Config, imports_f, "from erlang import f\ndef use(x): return f(x)\n"),
    {ok, 4} = py:call(imports_f, use, [3]),
    %% Functions that are registered after the first use, too.
    ok = py:register_function(registered_later, fun([]) -> later end),
    ok = py:exec(<<"from erlang import registered_later">>),
    {ok, later} = py:eval(<<"registered_later()">>),
    ok = py:unregister_function(registered_later).

attributes_are_bound_late(_Config) ->
    register_f(fun([]) -> 1 end),
    ok = py:exec(<<"from erlang import f">>),
    {ok, 1} = py:eval(<<"f()">>),
    register_f(fun([]) -> 2 end),
    {ok, [2, 2]} = py:eval(<<"[f(), erlang.f()]">>),
    ok = py:unregister_function(f),
    ok = py:exec(<<"def reason():\n"
                   "    try: f()\n"
                   "    except erlang.Error as e: return e.reason\n">>),
    {ok, {undefined_function, <<"f">>}} = py:call('__main__', reason, []),
    register_f(fun([]) -> 3 end),
    {ok, 3} = py:eval(<<"f()">>).

what_is_not_registered_is_an_AttributeError(_Config) ->
    ok = py:exec(<<"import erlang">>),
    ?ERROR('AttributeError', Message) = py:eval(<<"erlang.no_such_function">>),
    ?assertMatch({_, _}, binary:match(Message, <<"no_such_function">>)),
    ?assertMatch({_, _}, binary:match(Message, <<"register_function">>)),
    ?ERROR('ImportError', _) = py:exec(<<"from erlang import no_such_function">>),
    {ok, [false, false, none]} =
        py:eval(<<"[hasattr(erlang, 'no_such'), hasattr(erlang, '__no_such__'), getattr(erlang, 'no_such', None)]">>),
    ok = py:register_function(no_such_function, fun([]) -> there_now end),
    {ok, there_now} = py:eval(<<"erlang.no_such_function()">>),
    ok = py:unregister_function(no_such_function).

%%% Exceptions of Python's that cross Erlang

%% The very object, with what belongs to it.
a_Python_exception_comes_back_as_itself(_Config) ->
    ok = py:exec(<<"import erlang\n"
                   "class Mine(Exception):\n"
                   "    def __init__(self, what):\n"
                   "        super().__init__('mine', what)\n"
                   "        self.what = what\n"
                   "raised = []\n"
                   "def inner(what):\n"
                   "    e = Mine(what)\n"
                   "    raised.append(e)\n"
                   "    raise e\n"
                   "def outer(what):\n"
                   "    try: erlang.call('f', what)\n"
                   "    except Mine as e:\n"
                   "        names = []\n"
                   "        tb = e.__traceback__\n"
                   "        while tb:\n"
                   "            names.append(tb.tb_frame.f_code.co_name)\n"
                   "            tb = tb.tb_next\n"
                   "        return (e is raised[-1], e.what, names[0], names[-1])\n">>),
    register_f(fun([What]) -> py:apply('__main__', inner, [What]) end),
    [{ok, {true, What, <<"outer">>, <<"inner">>}} = py:call('__main__', outer, [What]) || What <- [1, <<"two">>]],
    %% As a fun, too.
    ok = py:exec(<<"def sort(f):\n"
                   "    try: sorted([1], key=f)\n"
                   "    except Mine as e: return e is raised[-1]\n">>),
    {ok, true} = py:call('__main__', sort, [fun(X) -> py:apply('__main__', inner, [X]) end]),
    %% If nobody catches it, the call fails with it.
    ok = py:exec(<<"def open_outer(): return erlang.call('f', 1)">>),
    ?ERROR('Mine', _) = py:call('__main__', open_outer, []),
    [] = py_test:messages().

a_Python_exception_crosses_many_levels(_Config) ->
    ok = py:exec(<<"import erlang\n"
                   "raised = []\n"
                   "def level(n):\n"
                   "    if n: return erlang.call('f', n - 1)\n"
                   "    raised.append(KeyError('deep'))\n"
                   "    raise raised[-1]\n"
                   "def top(n):\n"
                   "    try: level(n)\n"
                   "    except KeyError as e: return e is raised[-1]\n">>),
    register_f(fun([N]) -> py:apply('__main__', level, [N]) end),
    [{ok, true} = py:call('__main__', top, [N]) || N <- [1, 2, 10, 50]].

%% It did not happen in what this code called, or Erlang has made something else of it.
a_Python_exception_of_another_call_is_erlang_Error(_Config) ->
    ok = py:exec(<<"import erlang\n"
                   "def attempt():\n"
                   "    try: erlang.call('f')\n"
                   "    except erlang.Error as e: return (e.class_, e.reason)\n">>),
    register_f(fun([]) -> error({python, 'KeyError', <<"no">>}) end),
    {ok, {error, {python, 'KeyError', <<"no">>}}} = py:call('__main__', attempt, []),
    %% Of another process, on another stack.
    register_f(fun([]) ->
                       {python, _, _} = Reason = py_test:in_process(fun() -> catch_reason(<<"{}[1]">>) end),
                       error(Reason)
               end),
    {ok, {error, {python, 'KeyError', <<"1">>}}} = py:call('__main__', attempt, []),
    %% Caught in Erlang, and another one raised instead.
    register_f(fun([]) -> {python, _, _} = catch_reason(<<"{}[1]">>), error(other) end),
    {ok, {error, other}} = py:call('__main__', attempt, []),
    %% An earlier one is not the one that crosses.
    register_f(fun([]) ->
                       {python, _, _} = catch_reason(<<"{}[1]">>),
                       {python, _, _} = Second = catch_reason(<<"{}[2]">>),
                       error(Second)
               end),
    ok = py:exec(<<"def text():\n"
                   "    try: erlang.call('f')\n"
                   "    except (KeyError, erlang.Error) as e: return str(e)\n">>),
    {ok, Text} = py:call('__main__', text, []),
    ?assertMatch({_, _}, binary:match(Text, <<"2">>)).

catch_reason(Code) ->
    try py:apply(builtins, eval, [Code])
    catch error:Reason -> Reason
    end.

an_erlang_Error_tells_what_it_was_with_all_errors(_Config) ->
    register_f(fun([]) -> exit({gone, 1}) end),
    {error, #{type := 'Error', erlang := {exit, {gone, 1}, Stack}}} =
        py:call(erlang, call, [f], #{}, {opts, #{errors => full}}),
    ?assert(is_list(Stack) orelse Stack),
    {error, #{type := 'KeyError'} = Other} = py:eval(<<"{}[1]">>, #{}, {opts, #{errors => full}}),
    false = is_map_key(erlang, Other).

erlang_Error_is_an_exception_like_others(_Config) ->
    ok = py:exec(<<"import erlang">>),
    {ok, [true, true, true, false]} =
        py:eval(<<"[issubclass(erlang.Error, Exception), issubclass(erlang.ProcessError, RuntimeError), "
                  "issubclass(erlang.ConversionError, Exception), issubclass(erlang.Cancelled, Exception)]">>),
    register_f(fun([]) -> throw({ball, 1}) end),
    ok = py:exec(<<"def attempt():\n"
                   "    try:\n"
                   "        try: erlang.call('f')\n"
                   "        finally: ran = True\n"
                   "    except erlang.Error as e:\n"
                   "        return (ran, 'ball' in str(e), e.class_ == 'throw', isinstance(e.stack, list))\n">>),
    {ok, {true, true, true, true}} = py:call('__main__', attempt, []).
