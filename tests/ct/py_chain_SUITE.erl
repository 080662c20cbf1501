%% SPDX-License-Identifier: Apache-2.0
%%
%% Chains: Python calls Erlang calls Python, from each place where Python code can begin, to
%% any depth, and for very many callers at once on two executors.
-module(py_chain_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([code_around_callbacks_runs_once_from_a_call/1,
         code_around_callbacks_runs_once_from_eval_and_exec/1,
         code_around_callbacks_runs_once_from_a_method/1,
         code_around_callbacks_runs_once_from_a_stream/1,
         code_around_callbacks_runs_once_from_a_cast/1,
         code_around_callbacks_runs_once_from_an_asynchronous_call/1,
         code_around_callbacks_runs_once_from_other_pools_and_contexts/1,
         code_around_callbacks_runs_once_from_a_thread/1,
         code_around_callbacks_runs_once_from_a_task/1,
         code_around_callbacks_runs_once_in_a_callback/1]).
-export([ping_pong_of_many_levels_is_right_and_fast/1,
         ping_pong_without_end_is_a_RecursionError/1,
         ping_pong_without_end_crosses_as_the_RecursionError_that_it_is/1,
         ping_pong_ends_by_an_exception_of_the_innermost_level/1,
         a_chain_through_eval_exec_methods_and_streams/1,
         a_chain_ends_with_its_time/1]).
-export([a_thousand_processes_three_levels_deep_on_two_executors/1,
         the_same_with_a_lock_held_by_each_outer_frame/1,
         the_same_with_one_lock_for_all/1]).
-export([a_callback_that_never_returns_ends_with_its_killed_caller/1,
         a_callback_that_never_returns_ends_with_the_time_of_its_caller/1,
         a_callback_that_never_returns_can_be_cancelled/1]).

%% How many executors may stand in for those that wait in a callback.
-define(SPARES, 16).

suite() -> [{timetrap, {minutes, 5}}].

all() -> py_test:cases(?MODULE).

init_per_suite(Config) -> py_test:start(Config).

end_per_suite(Config) -> py_test:stop(Config).

%% Each step tells the entries that there are so far: if any code ran twice, there were more.
init_per_testcase(_Case, Config) ->
    ok = define(),
    ok = py:register_function(step, fun([Entries]) -> length(Entries) end),
    Config.

end_per_testcase(_Case, _Config) ->
    [py:unregister_function(Name) || Name <- [step, report, next_level, down, never]],
    py_test:restore(),
    ok.

define() ->
    py:exec(<<"
import asyncio, erlang, threading

def steps():
    entries = []
    entries.append('first')
    one = erlang.call('step', entries)
    entries.append('second')
    two = erlang.call('step', entries)
    entries.append('third')
    return entries + [one, two]

class Stepping:
    def steps(self): return steps()

def stepping(n):
    for _ in range(n):
        yield steps()

async def stepping_async(n):
    for _ in range(n):
        yield steps()

def report_steps():
    erlang.call('report', steps())

def in_thread():
    found = []
    thread = threading.Thread(target=lambda: found.append(steps()))
    thread.start()
    thread.join()
    return found

async def steps_async():
    entries = []
    entries.append('first')
    one = await erlang.async_call('step', entries)
    entries.append('second')
    two = await erlang.async_call('step', entries)
    entries.append('third')
    return entries + [one, two]

async def both():
    task = asyncio.get_running_loop().create_task(steps_async())
    return [steps(), await task]

def level(n):
    return 0 if n == 0 else erlang.call('next_level', n - 1) + 1
">>).

%% What steps() returns if everything ran once.
once() ->
    [<<"first">>, <<"second">>, <<"third">>, 1, 2].

%%% Every entry point

code_around_callbacks_runs_once_from_a_call(_Config) ->
    {ok, Steps} = py:call('__main__', steps, []),
    Steps = once(),
    Steps = py:apply('__main__', steps, []),
    {ok, [{ok, Steps}]} = py:parallel([{'__main__', steps, []}]),
    [] = py_test:messages().

code_around_callbacks_runs_once_from_eval_and_exec(_Config) ->
    {ok, [Steps, Steps]} = py:eval(<<"[steps(), steps()]">>),
    Steps = once(),
    ok = py:exec(<<"entries = ['first']\n"
                   "entries.append(erlang.call('step', entries))\n"
                   "entries.append(erlang.call('step', entries))\n">>),
    {ok, [<<"first">>, 1, 2]} = py:eval(<<"entries">>).

code_around_callbacks_runs_once_from_a_method(_Config) ->
    Stepping = py_test:handle(<<"Stepping()">>),
    {ok, Steps} = py:call_method(Stepping, steps, []),
    Steps = once(),
    {ok, Steps} = py:call_object(py_test:handle(<<"steps">>), []).

code_around_callbacks_runs_once_from_a_stream(_Config) ->
    Steps = once(),
    [begin
         {ok, [Steps, Steps]} = py:stream('__main__', Function, [2]),
         {ok, Ref} = py:stream_start('__main__', Function, [2]),
         [Steps, Steps] = [receive {py_stream, Ref, {data, Item}} -> Item after 60000 -> error(no_item) end
                           || _ <- [1, 2]],
         receive {py_stream, Ref, End} -> done = End after 60000 -> error(no_end) end
     end || Function <- [stepping, stepping_async]],
    {ok, [Steps]} = py:stream_eval(<<"(steps() for _ in (1,))">>),
    [] = py_test:messages().

code_around_callbacks_runs_once_from_a_cast(_Config) ->
    Steps = once(),
    ok = reports(),
    ok = py:cast('__main__', report_steps, []),
    Steps = reported(),
    [] = py_test:messages().

code_around_callbacks_runs_once_from_an_asynchronous_call(_Config) ->
    {ok, Steps} = py:await(py:spawn_call('__main__', steps, [])),
    Steps = once(),
    [] = py_test:messages().

code_around_callbacks_runs_once_from_other_pools_and_contexts(_Config) ->
    Steps = once(),
    {ok, Steps} = py:call(default, '__main__', steps, []),
    {ok, Context} = py_context:new(#{}),
    ok = py_context:exec(Context, <<"import erlang\n"
                                    "def steps(entries):\n"
                                    "    entries.append('first')\n"
                                    "    one = erlang.call('step', entries)\n"
                                    "    entries.append('second')\n"
                                    "    two = erlang.call('step', entries)\n"
                                    "    entries.append('third')\n"
                                    "    return entries + [one, two]\n">>),
    {ok, Steps} = py_context:call(Context, '__main__', steps, [[]]),
    {ok, Steps} = py_context:eval(Context, <<"steps([])">>, #{}),
    ok = py_context:destroy(Context).

code_around_callbacks_runs_once_from_a_thread(_Config) ->
    {ok, [Steps]} = py:call('__main__', in_thread, []),
    Steps = once(),
    [] = py_test:messages().

%% With the blocking call in the coroutine that runs, and with async_call in a task of its own.
code_around_callbacks_runs_once_from_a_task(_Config) ->
    {ok, [Steps, Steps]} = py:eval(<<"asyncio.run(both())">>),
    Steps = once(),
    {ok, [[Steps, Steps]]} =
        py:eval(<<"(lambda found: (lambda t: (t.start(), t.join(), found))(\n"
                  "    threading.Thread(target=lambda: found.append(asyncio.run(both()))))[-1])([])">>),
    [] = py_test:messages().

code_around_callbacks_runs_once_in_a_callback(_Config) ->
    ok = py:register_function(down, fun([]) -> {ok, Steps} = py:call('__main__', steps, []), Steps end),
    {ok, [Steps, Steps]} = py:eval(<<"[erlang.call('down'), erlang.call('down')]">>),
    Steps = once().

reports() ->
    Test = self(),
    py:register_function(report, fun([Value]) -> Test ! {report, Value}, none end).

reported() ->
    receive {report, Value} -> Value after 60000 -> error({no_report, py_test:messages()}) end.

%%% Depth

next_level() ->
    py:register_function(next_level, fun([N]) -> py:apply('__main__', level, [N]) end).

ping_pong_of_many_levels_is_right_and_fast(_Config) ->
    ok = next_level(),
    [{ok, N} = py:call('__main__', level, [N]) || N <- [0, 1, 2, 10, 100, 1000]],
    Slower = case py_test:sanitizer(address) orelse py_test:sanitizer(thread) of true -> 20; false -> 1 end,
    py_test:within(1000 * Slower, 20,
                   fun() ->
                           {Time, {ok, 1000}} = py_test:milliseconds(fun() -> py:call('__main__', level, [1000]) end),
                           Time
                   end),
    [] = py_test:messages().

%% Each level takes some of the executor's stack: what is left in the end is an exception.  As
%% the level below has failed with it, each level fails, until somebody handles it.
ping_pong_without_end_is_a_RecursionError(_Config) ->
    Test = self(),
    Fails = fun(N) ->
                    case py:call('__main__', level, [N]) of
                        {ok, V} -> V;
                        {error, {'RecursionError', _}} = Error -> Test ! {bottom, N}, error(Error);
                        {error, _} -> error(below)
                    end
            end,
    Matches = fun(N) -> {ok, V} = py:call('__main__', level, [N]), V end,
    [begin
         ok = py:register_function(next_level, fun([N]) -> Next(N) end),
         {error, {'Error', _}} = py:call('__main__', level, [100000]),
         {ok, 100} = py:call('__main__', level, [100]),
         {ok, 4.0} = py:call(math, sqrt, [16])
     end || Next <- [Fails, Matches]],
    receive {bottom, N} -> ct:log("~b levels", [100000 - N]) after 0 -> error(no_bottom) end,
    [] = py_test:messages().

%% With py:apply it is the same exception at each level.
ping_pong_without_end_crosses_as_the_RecursionError_that_it_is(_Config) ->
    ok = next_level(),
    {error, {'RecursionError', _}} = py:call('__main__', level, [100000]),
    {ok, 100} = py:call('__main__', level, [100]),
    {ok, 4.0} = py:call(math, sqrt, [16]),
    [] = py_test:messages().

ping_pong_ends_by_an_exception_of_the_innermost_level(_Config) ->
    ok = next_level(),
    ok = py:exec(<<"class Deep(Exception): pass\n"
                   "def level(n):\n"
                   "    if n == 0: raise Deep('the bottom')\n"
                   "    return erlang.call('next_level', n - 1)\n">>),
    {error, {'Deep', <<"the bottom">>}} = py:call('__main__', level, [100]),
    [] = py_test:messages().

%% One level of each kind, and again.
a_chain_through_eval_exec_methods_and_streams(_Config) ->
    ok = py:exec(<<"class Level:\n"
                   "    def down(self, n): return level(n)\n"
                   "def levels(n):\n"
                   "    yield level(n)\n"
                   "def level(n):\n"
                   "    return [] if n == 0 else [n] + erlang.call('next_level', n - 1)\n">>),
    Object = py_test:handle(<<"Level()">>),
    ok = py:register_function(
           next_level,
           fun([N]) ->
                   case N rem 5 of
                       0 -> {ok, Below} = py:call('__main__', level, [N]), Below;
                       1 -> {ok, Below} = py:eval(<<"level(n)">>, #{n => N}), Below;
                       2 -> ok = py:exec(["below = level(", integer_to_list(N), ")"]),
                            {ok, Below} = py:eval(<<"below">>),
                            Below;
                       3 -> {ok, Below} = py:call_method(Object, down, [N]), Below;
                       4 -> {ok, [Below]} = py:stream('__main__', levels, [N]), Below
                   end
           end),
    {ok, Levels} = py:call('__main__', level, [52]),
    ?assertEqual(lists:seq(52, 1, -1), Levels),
    [] = py_test:messages().

%% The innermost level computes: it is ended, and with it all that wait for it.
a_chain_ends_with_its_time(_Config) ->
    ok = next_level(),
    ok = py:exec(<<"def level(n):\n"
                   "    if n: return erlang.call('next_level', n - 1)\n"
                   "    while True: pass\n">>),
    {Time, {error, timeout}} =
        py_test:milliseconds(fun() -> py:call('__main__', level, [20], #{}, 300) end),
    ?assert(Time < 30000 orelse Time),
    {ok, 4.0} = py:call(math, sqrt, [16], #{}, 60000),
    [] = py_test:messages().

%%% Very many at once

%% In subinterp mode two interpreters with an executor each.
on_two_executors() ->
    py_test:restart(#{num_executors => 2, num_subinterp_workers => 2, max_spare_executors => ?SPARES}).

%% What each calls is three levels deep in both languages.  The callbacks take a moment, so
%% that as many chains are under way at once as there may be.
many(Count, Code) ->
    ok = on_two_executors(),
    ok = py:register_function(down, fun([N, Me]) ->
                                            Me = get(me),
                                            receive after 1 -> ok end,
                                            {ok, Below} = py:call('__main__', level, [N, Me]),
                                            Below
                                    end),
    Work = fun(Me) ->
                   fun() ->
                           put(me, Me),
                           ok = py:exec(Code),
                           {ok, [3, 2, 1, {bottom, Me}]} = py:call('__main__', level, [3, Me]),
                           {ok, 4.0} = py:call(math, sqrt, [16]),
                           py_test:messages()
                   end
           end,
    _ = py_test:at_once([Work(Me) || Me <- lists:seq(1, 2)]),
    Before = py_test:threads(),
    Watcher = watch_threads(),
    Answers = py_test:at_once([Work(Me) || Me <- lists:seq(1, Count)]),
    ?assertEqual(lists:duplicate(Count, []), Answers),
    Most = stop_watching(Watcher) - Before,
    ct:log("~b threads more at the most", [Most]),
    %% Two groups in subinterp mode, with as many spares each; and some of the VM's own.
    ?assert(Most =< 2 * (2 + ?SPARES) + 8 orelse Most),
    py_test:wait_until(fun nobody_waits/0),
    py_test:wait_until(fun only_the_wanted_serve/0),
    {0, _, 0} = py_nif:slots(),
    [] = py_test:messages().

only_the_wanted_serve() ->
    lists:all(fun(#{executors := N, parked := Parked, wanted := Wanted}) -> N - Parked =< Wanted end,
              py_test:groups()).

nobody_waits() ->
    lists:all(fun(#{waiting_in_callback := N, queued := Q}) -> N =:= 0 andalso Q =:= 0 end, py_test:groups()).

%% The highest number of threads from now on.
watch_threads() ->
    spawn_link(fun() -> watch(0) end).

watch(Most) ->
    receive {stop, From} -> From ! {most, self(), Most}
    after 5 -> watch(max(Most, py_test:threads()))
    end.

stop_watching(Pid) ->
    Pid ! {stop, self()},
    receive {most, Pid, Most} -> Most after 60000 -> error(no_watcher) end.

a_thousand_processes_three_levels_deep_on_two_executors(_Config) ->
    many(1000, <<"import erlang\n"
                 "def level(n, me):\n"
                 "    if n == 0: return [(erlang.atom('bottom'), me)]\n"
                 "    return [n] + erlang.call('down', n - 1, me)\n">>).

%% The inner frames take the lock again, which only the same thread can.
the_same_with_a_lock_held_by_each_outer_frame(_Config) ->
    many(1000, <<"import erlang, threading\n"
                 "lock = threading.RLock()\n"
                 "def level(n, me):\n"
                 "    with lock:\n"
                 "        if n == 0: return [(erlang.atom('bottom'), me)]\n"
                 "        return [n] + erlang.call('down', n - 1, me)\n">>).

%% Who waits for it holds an executor: the one who has it needs none, as it goes on on its own.
the_same_with_one_lock_for_all(_Config) ->
    many(300, <<"import erlang, threading\n"
                "lock = threading.__dict__.setdefault('py_chain_lock', threading.RLock())\n"
                "def level(n, me):\n"
                "    with lock:\n"
                "        if n == 0: return [(erlang.atom('bottom'), me)]\n"
                "        return [n] + erlang.call('down', n - 1, me)\n">>).

%%% Callbacks that never return

%% They tell by a file how they ended, as Erlang does not listen any more.
never(Config) ->
    Test = self(),
    ok = py:register_function(never, fun([]) -> Test ! {in_callback, self()}, receive never -> ok end end),
    Name = "never" ++ integer_to_list(erlang:unique_integer([positive])),
    list_to_binary(filename:join(proplists:get_value(priv_dir, Config), Name)).

code_of_never() ->
    <<"import erlang, os\n"
      "def waits(path):\n"
      "    how = 'returned'\n"
      "    try: erlang.call('never')\n"
      "    except BaseException as e:\n"
      "        how = type(e).__name__\n"
      "        raise\n"
      "    finally:\n"
      "        with open(path + '.new', 'w') as f: f.write(how)\n"
      "        os.rename(path + '.new', path)\n">>.

in_callback() ->
    receive {in_callback, Pid} -> Pid after 60000 -> error(not_called) end.

ended_by(Path, How) ->
    py_test:wait_until(fun() -> filelib:is_file(Path) end),
    {ok, How} = file:read_file(Path),
    py_test:wait_until(fun nobody_waits/0),
    Count = 2 * py:num_executors(),
    Answers = py_test:at_once(lists:duplicate(Count, fun() -> py:call(math, sqrt, [16], #{}, 60000) end)),
    Answers = lists:duplicate(Count, {ok, 4.0}).

a_callback_that_never_returns_ends_with_its_killed_caller(Config) ->
    Path = never(Config),
    Worker = {Pid, _} = py_test:worker(),
    py_test:start(Worker, fun() -> ok = py:exec(code_of_never()), py:call('__main__', waits, [Path]) end),
    Pid = in_callback(),
    py_test:kill(Worker),
    ended_by(Path, <<"Cancelled">>),
    [] = py_test:messages().

%% Its process is one of its own, for which nobody waits any more.
a_callback_that_never_returns_ends_with_the_time_of_its_caller(Config) ->
    Path = never(Config),
    ok = py:exec(code_of_never()),
    Ref = py:spawn_call('__main__', waits, [Path]),
    Pid = in_callback(),
    {error, timeout} = py:await(Ref, 50),
    ended_by(Path, <<"Cancelled">>),
    exit(Pid, kill),
    [] = py_test:messages().

a_callback_that_never_returns_can_be_cancelled(Config) ->
    Path = never(Config),
    ok = py:exec(code_of_never()),
    Ref = py:spawn_call('__main__', waits, [Path]),
    Pid = in_callback(),
    ok = py:cancel(Ref),
    ended_by(Path, <<"Cancelled">>),
    exit(Pid, kill),
    [] = py_test:messages().
