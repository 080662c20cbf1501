%% SPDX-License-Identifier: Apache-2.0
%%
%% A mixed load that checks every answer, with callers that are killed and calls that time
%% out at random; at the end, that nothing is lost or left behind.  The suites run it for
%% some seconds, tests/stress/run for as long as one likes.
-module(py_load).

-include_lib("stdlib/include/assert.hrl").

-export([run/1]).

-type options() :: #{seconds := pos_integer(), processes => pos_integer(), kill => boolean(),
                     seed => integer()}.

%% Counts by kind of operation and outcome.  Exits when an answer is wrong.
-spec run(options()) -> #{term() => non_neg_integer()}.
run(Options) ->
    Seed = maps:get(seed, Options, erlang:system_time(microsecond)),
    io:format("seed ~b~n", [Seed]),
    rand:seed(exsss, Seed),
    ok = register_functions(),
    Counts = ets:new(counts, [public, {write_concurrency, true}]),
    Before = {py_test:threads(), erlang:system_info(process_count)},
    Processes = [start_caller(Counts) || _ <- lists:seq(1, maps:get(processes, Options, 30))],
    End = erlang:monotonic_time(millisecond) + 1000 * maps:get(seconds, Options),
    Left = supervise(Processes, Counts, End, maps:get(kill, Options, true)),
    [finish(Process) || Process <- Left],
    ok = check_usable(),
    ok = check_nothing_left(Before),
    Result = maps:from_list(ets:tab2list(Counts)),
    ets:delete(Counts),
    Result.

register_functions() ->
    ok = py:register_function(load_echo, fun([X]) -> X end),
    ok = py:register_function(load_fail, fun([X]) -> error({load, X}) end),
    ok = py:register_function(load_nest, fun([X]) -> py:call('__main__', load_plain, [X]) end),
    ok = py:register_function(load_slow, fun([X]) -> timer:sleep(X rem 5), X end),
    ok.

%%% Callers

start_caller(Counts) ->
    Seed = rand:uniform(1 bsl 30),
    spawn_monitor(fun() ->
                          rand:seed(exsss, Seed),
                          ok = define(),
                          caller(Counts, 0)
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
              "def load_raise(x): raise KeyError(x)\n">>).

caller(Counts, N) ->
    receive
        finish -> [] = py_test:messages(), ok
    after 0 ->
        {Kind, Call, Right} = operation(N),
        Timeout = timeout(),
        Answer = Call(Timeout),
        Outcome = case Answer of
                      {error, timeout} when Timeout =/= infinity -> timeout;
                      Right -> right;
                      Wrong -> exit({wrong_answer, Kind, Wrong, Right})
                  end,
        ets:update_counter(Counts, {Kind, Outcome}, 1, {{Kind, Outcome}, 0}),
        caller(Counts, N + 1)
    end.

%% One of ten calls has little time.
timeout() ->
    case rand:uniform(10) of
        1 -> rand:uniform(6) - 1;
        2 -> 100000;
        _ -> infinity
    end.

operation(N) ->
    case rand:uniform(12) of
        1 -> {sqrt, fun(T) -> py:call(math, sqrt, [N * N], #{}, T) end, {ok, float(N)}};
        2 -> {plain, fun(T) -> py:call('__main__', load_plain, [N], #{}, T) end, {ok, [N]}};
        3 -> {eval, fun(T) -> py:eval(<<"a + b">>, #{a => N, b => 1}, T) end, {ok, N + 1}};
        4 -> {exec, fun(_) -> ok = py:exec(["x = ", integer_to_list(N)]), py:eval(<<"x">>) end, {ok, N}};
        5 -> {loop, fun(T) -> py:call('__main__', load_loop, [20000], #{}, T) end, {ok, 20000}};
        6 -> {sleep, fun(T) -> py:call(time, sleep, [0.002], #{}, T) end, {ok, none}};
        7 -> {echo, fun(T) -> py:call('__main__', load_echo, [{N, a}], #{}, T) end, {ok, {N, a}}};
        8 -> {nest, fun(T) -> py:call('__main__', load_nest, [N], #{}, T) end, {ok, {ok, [N]}}};
        9 -> {fail, fun(T) -> py:call('__main__', load_fail, [N], #{}, T) end, {ok, {load, N}}};
        10 -> Key = integer_to_binary(N),
              {raise, fun(T) -> py:call('__main__', load_raise, [N], #{}, T) end, {error, {'KeyError', Key}}};
        11 -> {slow, fun(T) -> py:call('__main__', load_slow, [N], #{}, T) end, {ok, N}};
        12 -> Value = #{n => N, <<"l">> => lists:seq(1, N rem 50), t => {1.5, none, <<N:64>>}},
              {value, fun(T) -> py:eval(<<"v">>, #{v => Value}, T) end, {ok, Value}}
    end.

%%% Their life

supervise(Processes, Counts, End, Kill) ->
    Left = End - erlang:monotonic_time(millisecond),
    receive
        {'DOWN', _, process, _, Reason} -> error({caller_died, Reason})
    after max(0, min(Left, rand:uniform(4))) ->
        case Left > 0 of
            true when Kill -> supervise(replace_one(Processes, Counts), Counts, End, Kill);
            true -> supervise(Processes, Counts, End, Kill);
            false -> Processes
        end
    end.

replace_one(Processes, Counts) ->
    {Pid, Monitor} = Victim = lists:nth(rand:uniform(length(Processes)), Processes),
    exit(Pid, kill),
    receive
        {'DOWN', Monitor, process, Pid, killed} -> ok;
        {'DOWN', Monitor, process, Pid, Reason} -> error({caller_died, Reason})
    end,
    ets:update_counter(Counts, killed, 1, {killed, 0}),
    [start_caller(Counts) | lists:delete(Victim, Processes)].

finish({Pid, Monitor}) ->
    Pid ! finish,
    receive
        {'DOWN', Monitor, process, Pid, normal} -> ok;
        {'DOWN', Monitor, process, Pid, Reason} -> error({caller_died, Reason})
    after 30000 ->
        error({caller_hangs, process_info(Pid, [current_stacktrace, messages, dictionary])})
    end.

%%% The end

%% More calls at once than there are executors, all answered at once.
check_usable() ->
    Count = 10 * py:num_executors(),
    Work = fun() -> ok = define(), py:call('__main__', load_echo, [17], #{}, 10000) end,
    Answers = py_test:at_once(lists:duplicate(Count, Work)),
    ?assertEqual(lists:duplicate(Count, {ok, 17}), Answers),
    [] = py_test:messages(),
    ok.

%% Spare executors stay, and are bounded.
check_nothing_left({Threads, Processes}) ->
    Most = Threads + 2 * 64,
    ?assert(py_test:threads() =< Most),
    py_test:wait_until(fun() -> erlang:system_info(process_count) =< Processes + 2 end),
    ok.
