%% SPDX-License-Identifier: Apache-2.0
%%
%% A mixed load that checks every answer, with callers that are killed and calls that time
%% out at random; at the end, that nothing is lost or left behind.  The suites run it for
%% some seconds, tests/stress/run for as long as one likes.
-module(py_load).

-include_lib("stdlib/include/assert.hrl").

-export([run/1, state/0, check_state/2]).

%% `back': Python also calls back from threads and tasks, counts and sends, and event loops run
%% tasks.  `killed': it goes on
%% until so many were.
-type options() :: #{seconds := pos_integer(), processes => pos_integer(), kill => boolean(),
                     killed => non_neg_integer(), back => boolean(), seed => integer()}.

%% What the callers share: where they count, two contexts, how many casts were begun, made
%% and done, and how many kinds of operations there are.
-record(shared, {counts, contexts, casts, kinds, killed = 0}).   % at least

-define(POOL, load_pool).
-define(SINK, load_sink).
-define(KINDS, 20).
-define(KINDS_WITH_BACK, 27).
-define(BEGUN, 1).
-define(MADE, 2).
-define(DONE, 3).

%% Counts by kind of operation and outcome.  Exits when an answer is wrong.
-spec run(options()) -> #{term() => non_neg_integer()}.
run(Options) ->
    Seed = maps:get(seed, Options, erlang:system_time(microsecond)),
    io:format("seed ~b~n", [Seed]),
    rand:seed(exsss, Seed),
    Casts = counters:new(3, [atomics]),
    ok = register_functions(Casts),
    Counts = ets:new(counts, [public, {write_concurrency, true}]),
    true = ets:insert(Counts, {killed, 0}),
    Before = {py_test:threads(), erlang:system_info(process_count)},
    Contexts = start_contexts(),
    Sink = spawn(fun sink/0),
    true = register(?SINK, Sink),
    Kinds = case maps:get(back, Options, false) of
                true -> ok = import_for_back(), ?KINDS_WITH_BACK;
                false -> ?KINDS
            end,
    Shared = #shared{counts = Counts, contexts = Contexts, casts = Casts, kinds = Kinds,
                     killed = maps:get(killed, Options, 0)},
    Processes = [start_caller(Shared) || _ <- lists:seq(1, maps:get(processes, Options, 30))],
    End = erlang:monotonic_time(millisecond) + 1000 * maps:get(seconds, Options),
    Left = supervise(Processes, Shared, End, maps:get(kill, Options, true)),
    [finish(Process) || Process <- Left],
    ok = check_usable(),
    ok = check_casts(Casts),
    ok = check_contexts(Contexts),
    ok = stop_contexts(Contexts),
    ok = py:state_clear(), % of those who were killed
    Sink ! stop,
    ok = check_nothing_left(Before),
    Result = maps:from_list(ets:tab2list(Counts)),
    ets:delete(Counts),
    Result.

%% One context is free to take another thread, the other has one for ever.
start_contexts() ->
    {ok, _} = py_context_router:start_pool(?POOL, 2, worker),
    [begin
         {ok, Context} = py_context:new(Options),
         ok = py_context:exec(Context, <<"def load_plain(x): return [x]\nload_state = 'kept'">>),
         Context
     end || Options <- [#{}, #{thread => true}]].

%% An import that is interrupted leaves modules behind that lack what it had not reached, and
%% Python does not make them whole again.
import_for_back() ->
    [ok = py_import:ensure_imported(Module)
     || Module <- [asyncio, threading, 'concurrent.futures.thread', 'erlang._async', 'erlang._state']],
    ok.

%% Where messages go: those of requests that were given up come late.
sink() ->
    receive stop -> ok; {load, _} -> sink() end.

stop_contexts(Contexts) ->
    [ok = py_context:destroy(Context) || Context <- Contexts],
    py_context_router:stop_pool(?POOL).

register_functions(Casts) ->
    ok = py:register_function(load_cast, fun([]) -> ok = counters:add(Casts, ?DONE, 1), none end),
    ok = py:register_function(load_echo, fun([X]) -> X end),
    ok = py:register_function(load_fail, fun([X]) -> error({load, X}) end),
    ok = py:register_function(load_nest, fun([X]) -> py:call('__main__', load_plain, [X]) end),
    ok = py:register_function(load_slow, fun([X]) -> timer:sleep(X rem 5), X end),
    ok.

%%% Callers

start_caller(Shared) ->
    Seed = rand:uniform(1 bsl 30),
    spawn_monitor(fun() ->
                          rand:seed(exsss, Seed),
                          ok = define(),
                          caller(Shared, 0)
                  end).

define() ->
    py:exec(<<"import erlang\n"
              "def load_plain(x): return [x]\n"
              "def load_loop(n):\n"
              "    for i in range(n): pass\n"
              "    return n\n"
              "def load_echo(x): return erlang.call('load_echo', x)\n"
              "def load_slow(x): return erlang.call('load_slow', x)\n"
              "def load_nest(x): return erlang.call('load_nest', x)\n"
              "def load_fail(x):\n"
              "    try: erlang.call('load_fail', x)\n"
              "    except erlang.Error as e: return e.reason\n"
              "def load_raise(x): raise KeyError(x)\n"
              "def load_thread(x):\n"
              "    import threading\n"
              "    found = []\n"
              "    def call():\n"
              "        try: found.append(erlang.call('load_echo', x))\n"
              %% Of one who was killed, when the application stops.
              "        except erlang.Cancelled: pass\n"
              "    thread = threading.Thread(target=call)\n"
              "    thread.start()\n"
              "    thread.join()\n"
              "    return found\n"
              "def load_tasks(x):\n"
              "    import asyncio\n"
              "    async def tasks():\n"
              "        return await asyncio.gather(*[erlang.async_call('load_slow', x + i) for i in range(3)])\n"
              "    return asyncio.run(tasks())\n"
              "async def load_task(x, seconds):\n"
              "    import asyncio\n"
              "    await asyncio.sleep(seconds)\n"
              "    return x\n"
              "async def load_task_echo(x): return await erlang.async_call('load_slow', x)\n"
              "def load_count(key, x):\n"
              "    erlang.state_set(key, x)\n"
              "    counts = [erlang.state_incr(key), erlang.state_incr(key, 1 << 64), erlang.state_decr(key, 1 << 64),\n"
              "              erlang.state_incr(key)]\n"
              "    return counts + [erlang.state_get(key), erlang.state_delete(key)]\n"
              "def load_send(to, x):\n"
              "    erlang.send(to, (erlang.atom('load'), x))\n"
              "    return erlang.whereis('load_sink') is not None\n">>).

caller(#shared{counts = Counts} = Shared, N) ->
    receive
        finish -> [] = py_test:messages(), ok
    after 0 ->
        {Kind, Call, Right} = operation(rand:uniform(Shared#shared.kinds), N, Shared),
        Timeout = timeout(),
        Answer = Call(Timeout),
        Outcome = case Answer of
                      {error, timeout} when Timeout =/= infinity -> timeout;
                      {ok, {error, timeout}} when Kind =:= nest, Timeout =/= infinity -> timeout;
                      Right -> right;
                      Wrong -> exit({wrong_answer, Kind, Wrong, Right})
                  end,
        ets:update_counter(Counts, {Kind, Outcome}, 1, {{Kind, Outcome}, 0}),
        caller(Shared, N + 1)
    end.

%% One of ten calls has little time.
timeout() ->
    case rand:uniform(10) of
        1 -> rand:uniform(6) - 1;
        2 -> 100000;
        _ -> infinity
    end.

operation(1, N, _) ->
    {sqrt, fun(T) -> py:call(math, sqrt, [N * N], #{}, T) end, {ok, float(N)}};
operation(2, N, _) ->
    {plain, fun(T) -> py:call('__main__', load_plain, [N], #{}, T) end, {ok, [N]}};
operation(3, N, _) ->
    {eval, fun(T) -> py:eval(<<"a + b">>, #{a => N, b => 1}, T) end, {ok, N + 1}};
operation(4, N, _) ->
    {exec, fun(_) -> ok = py:exec(["x = ", integer_to_list(N)]), py:eval(<<"x">>) end, {ok, N}};
operation(5, _, _) ->
    {loop, fun(T) -> py:call('__main__', load_loop, [20000], #{}, T) end, {ok, 20000}};
operation(6, _, _) ->
    {sleep, fun(T) -> py:call(time, sleep, [0.002], #{}, T) end, {ok, none}};
operation(7, N, _) ->
    {echo, fun(T) -> py:call('__main__', load_echo, [{N, a}], #{}, T) end, {ok, {N, a}}};
operation(8, N, _) ->
    {nest, fun(T) -> py:call('__main__', load_nest, [N], #{}, T) end, {ok, {ok, [N]}}};
operation(9, N, _) ->
    {fail, fun(T) -> py:call('__main__', load_fail, [N], #{}, T) end, {ok, {load, N}}};
operation(10, N, _) ->
    Key = integer_to_binary(N),
    {raise, fun(T) -> py:call('__main__', load_raise, [N], #{}, T) end, {error, {'KeyError', Key}}};
operation(11, N, _) ->
    {slow, fun(T) -> py:call('__main__', load_slow, [N], #{}, T) end, {ok, N}};
operation(12, N, _) ->
    Value = #{n => N, <<"l">> => lists:seq(1, N rem 50), t => {1.5, none, <<N:64>>}},
    {value, fun(T) -> py:eval(<<"v">>, #{v => Value}, T) end, {ok, Value}};
operation(13, N, _) ->
    {pool, fun(T) -> py:call(?POOL, math, sqrt, [N * N], #{}, T) end, {ok, float(N)}};
operation(14, N, _) ->
    {io, fun(T) -> py:call(io, erlang, call, [load_slow, N], #{}, T) end, {ok, N}};
operation(15, N, Shared) ->
    Context = context(Shared),
    {context, fun(T) -> py_context:call(Context, '__main__', load_plain, [N], #{}, T) end, {ok, [N]}};
operation(16, _, Shared) ->
    Context = context(Shared),
    {context_eval, fun(T) -> py_context:eval(Context, <<"load_state">>, #{}, T) end, {ok, <<"kept">>}};
operation(17, _, #shared{casts = Casts}) ->
    {cast, fun(_) ->
                   ok = counters:add(Casts, ?BEGUN, 1),
                   ok = py:cast(erlang, call, [load_cast]),
                   counters:add(Casts, ?MADE, 1)
           end, ok};
operation(18, N, _) ->
    {spawn_call, fun(T) -> py:await(py:spawn_call('__main__', load_echo, [N]), T) end, {ok, N}};
operation(19, N, _) ->
    {cancel, fun(_) ->
                     Ref = case N rem 3 of
                               0 -> py:spawn_call(math, sqrt, [N]);
                               1 -> py:spawn_call('__main__', load_loop, [20000]);
                               2 -> py:spawn_call(time, sleep, [0.002])
                           end,
                     [erlang:yield() || _ <- lists:seq(1, N rem 20)],
                     py:cancel(Ref)
             end, ok};
operation(20, N, _) ->
    {parallel, fun(_) -> py:parallel([{builtins, abs, [-N]}, {erlang, call, [load_echo, N]}, {time, sleep, [0.001]},
                                      {operator, truediv, [1, 0]}])
               end, {ok, [{ok, N}, {ok, N}, {ok, none}, {error, {'ZeroDivisionError', <<"division by zero">>}}]}};
operation(21, N, _) ->
    {thread, fun(T) -> py:call('__main__', load_thread, [N], #{}, T) end, {ok, [N]}};
operation(22, N, _) ->
    {tasks, fun(T) -> py:call('__main__', load_tasks, [N], #{}, T) end, {ok, [N, N + 1, N + 2]}};
operation(23, N, _) ->
    %% A request that was given up may still run: no two have the same key.
    Key = <<"load ", (integer_to_binary(erlang:unique_integer()))/binary>>,
    Large = N + 1 + (1 bsl 64),
    {count, fun(T) -> py:call('__main__', load_count, [Key, N], #{}, T) end,
     {ok, [N + 1, Large, N + 1, N + 2, N + 2, true]}};
operation(24, N, _) ->
    To = case N rem 3 of
             0 -> whereis(?SINK);
             1 -> ?SINK;
             2 -> {?SINK, node()}
         end,
    {send, fun(T) -> py:call('__main__', load_send, [To, N], #{}, T) end, {ok, true}};
operation(25, N, _) ->
    {task, fun(T) -> py_event_loop:run('__main__', load_task, [N, 0], #{timeout => T}) end, {ok, N}};
operation(26, N, _) ->
    {task_sleep, fun(T) -> py_event_loop:run('__main__', load_task, [N, 0.002], #{timeout => T}) end, {ok, N}};
operation(27, N, _) ->
    {task_echo, fun(T) -> py_event_loop:run('__main__', load_task_echo, [N], #{timeout => T}) end, {ok, N}}.

context(#shared{contexts = Contexts}) ->
    lists:nth(rand:uniform(length(Contexts)), Contexts).

%%% Their life

supervise(Processes, Shared, End, Kill) ->
    Enough = ets:lookup_element(Shared#shared.counts, killed, 2) >= Shared#shared.killed,
    Left = case End - erlang:monotonic_time(millisecond) of
               Over when Over =< 0, not Enough -> 1;
               Time -> Time
           end,
    receive
        {'DOWN', _, process, _, Reason} -> error({caller_died, Reason})
    after max(0, min(Left, rand:uniform(4))) ->
        case Left > 0 of
            true when Kill -> supervise(replace_one(Processes, Shared), Shared, End, Kill);
            true -> supervise(Processes, Shared, End, Kill);
            false -> Processes
        end
    end.

replace_one(Processes, #shared{counts = Counts} = Shared) ->
    {Pid, Monitor} = Victim = lists:nth(rand:uniform(length(Processes)), Processes),
    exit(Pid, kill),
    receive
        {'DOWN', Monitor, process, Pid, killed} -> ok;
        {'DOWN', Monitor, process, Pid, Reason} -> error({caller_died, Reason})
    end,
    ets:update_counter(Counts, killed, 1, {killed, 0}),
    [start_caller(Shared) | lists:delete(Victim, Processes)].

finish({Pid, Monitor}) ->
    Pid ! finish,
    receive
        {'DOWN', Monitor, process, Pid, normal} -> ok;
        {'DOWN', Monitor, process, Pid, Reason} -> error({caller_died, Reason})
    after 60000 ->
        error({caller_hangs, process_info(Pid, [current_stacktrace, messages, dictionary])})
    end.

%%% The end

%% More calls at once than there are executors, all answered at once.
check_usable() ->
    Count = 10 * py:num_executors(),
    Work = fun() -> ok = define(), py:call('__main__', load_echo, [17], #{}, 60000) end,
    Answers = py_test:at_once(lists:duplicate(Count, Work)),
    ?assertEqual(lists:duplicate(Count, {ok, 17}), Answers),
    [] = py_test:messages(),
    ok.

%% Of a cast whose caller was killed nobody knows whether it was made.
check_casts(Casts) ->
    py_test:wait_until(fun() -> counters:get(Casts, ?DONE) >= counters:get(Casts, ?MADE) end),
    py_test:wait_until(fun() -> py_semaphore:current() =:= 0 end),
    ?assert(counters:get(Casts, ?DONE) =< counters:get(Casts, ?BEGUN)),
    ok.

check_contexts(Contexts) ->
    [?assertEqual({ok, <<"kept">>}, py_context:eval(Context, <<"load_state">>, #{}, 60000)) || Context <- Contexts],
    0 = py_semaphore:current(),
    0 = py_test:waiting_in_line(),
    ok.

%% Spare executors stay, and are bounded.
check_nothing_left({Threads, Processes}) ->
    Most = Threads + 2 * 64,
    ?assert(py_test:threads() =< Most),
    py_test:wait_until(fun() -> erlang:system_info(process_count) =< Processes + 2 end),
    ok.

%%% Before and after

%% What must be the same when nothing runs, or not grow beyond measure.
state() ->
    {ok, _} = py:gc(), % what was interrupted while it was set up, such as an event loop, goes with its cycles
    py_test:wait_until(fun() -> py_semaphore:current() =:= 0 end),
    py_test:wait_until(fun() ->
                               0 =:= lists:sum([Stuck + Queued + Calling
                                                || #{stuck := Stuck, queued := Queued, waiting_in_callback := Calling}
                                                       <- py_test:groups()])
                       end),
    {ok, Descriptors} = file:list_dir("/proc/self/fd"),
    Groups = py_test:groups(),
    %% Executors start when they are needed, up to those that are wanted, and others stay
    %% parked for those that wait at once: how many of each there are is chance.
    [?assert(N - Parked =< Wanted orelse Group)
     || #{executors := N, parked := Parked, wanted := Wanted} = Group <- Groups],
    #{threads => py_test:threads() - lists:sum([N || #{executors := N} <- Groups]),
      executors => lists:sort([{Pool, Wanted} || #{pool := Pool, wanted := Wanted} <- Groups]),
      processes => erlang:system_info(process_count),
      descriptors => length(Descriptors),
      kilobytes => py_test:resident() div 1024}.

%% After, against before.  Threads of contexts that were closed end when their calls do.
check_state(First, Before) ->
    After = settled(First, maps:get(threads, Before), 100),
    io:format("before: ~p~nafter: ~p~n", [Before, After]),
    ?assertEqual(maps:get(executors, Before), maps:get(executors, After)),
    [?assert(maps:get(Key, After) =< maps:get(Key, Before) + Slack orelse {Key, Before, After})
     || {Key, Slack} <- [{threads, 2}, {processes, 2}, {descriptors, 2}]],
    ?assert(maps:get(kilobytes, After) =< maps:get(kilobytes, Before) + growth()
            orelse py_test:sanitizer(address) orelse {kilobytes, Before, After}),
    {0, _, 0} = py_nif:slots(),
    ok.

settled(#{threads := Threads} = State, Most, Tries) when Threads =< Most + 2; Tries =:= 0 ->
    State;
settled(_State, Most, Tries) ->
    timer:sleep(100),
    settled(state(), Most, Tries - 1).

%% What allocators may keep.  Python 3.13t never frees functions and their code, such as those
%% of each process: see docs/guide/variants.md.
growth() ->
    case py_test:mode() of
        free_threaded -> 90 * 1024;
        _ -> 30 * 1024
    end.
