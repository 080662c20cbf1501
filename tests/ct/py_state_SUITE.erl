%% SPDX-License-Identifier: Apache-2.0
%%
%% Shared state: what Python and Erlang, all processes and all interpreters see of it, and
%% that no increment is lost, whatever others do to the key meanwhile.
-module(py_state_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([what_Erlang_stores_Python_finds/1,
         what_Python_sets_Erlang_finds/1,
         every_value_comes_back_equal/1,
         what_is_not_there_is_the_default/1,
         keys_are_any_values/1,
         an_atom_and_its_text_are_one_key/1,
         keys_and_clear/1,
         all_interpreters_and_processes_share_it/1,
         it_works_from_threads_tasks_and_casts/1]).
-export([counting_from_both_sides/1,
         counting_starts_at_nothing/1,
         what_is_no_integer_is_not_counted/1,
         counters_have_any_size/1,
         a_counter_can_be_set_and_deleted/1,
         counting_in_Python_takes_no_messages/1]).
-export([no_increment_is_lost/1,
         no_increment_is_lost_when_counters_grow_large/1,
         counters_that_are_deleted_meanwhile_begin_anew/1,
         sets_and_counts_at_once_keep_it_an_integer/1,
         counting_at_the_same_time_as_clear/1]).
-export([a_restart_begins_with_nothing/1,
         without_the_application_there_is_no_state/1,
         a_thread_does_not_count_in_what_is_gone/1,
         keys_that_go_leave_nothing/1,
         wrong_uses_are_refused/1]).

-define(ERROR(Type, Message), {error, {Type, Message}}).

suite() -> [{timetrap, {minutes, 5}}].

all() -> py_test:cases(?MODULE).

init_per_suite(Config) -> py_test:start(Config).

end_per_suite(Config) -> py_test:stop(Config).

init_per_testcase(_Case, Config) ->
    ok = py:state_clear(),
    ok = define(),
    Config.

end_per_testcase(_Case, _Config) ->
    py_test:restore(),
    ok.

define() ->
    py:exec(<<"import asyncio, erlang, os, threading\n"
              "def get(key): return erlang.state_get(key)\n"
              "def put(key, value): return erlang.state_set(key, value)\n"
              "def incr(key, n=1): return erlang.state_incr(key, n)\n"
              "def count(key, n, by=1):\n"
              "    for _ in range(n): erlang.state_incr(key, by)\n"
              "def counted(key, n): return [erlang.state_incr(key) for _ in range(n)]\n"
              "def in_threads(n, function, *args):\n"
              "    threads = [threading.Thread(target=function, args=args) for _ in range(n)]\n"
              "    for thread in threads: thread.start()\n"
              "    for thread in threads: thread.join()\n">>).

%% Funs at once, each in a process that has the functions above.
at_once(Funs) ->
    py_test:at_once([fun() -> ok = define(), Fun() end || Fun <- Funs]).

%%% Keys and values

what_Erlang_stores_Python_finds(_Config) ->
    ok = py:state_store(k, 1),
    {ok, 1} = py:eval(<<"erlang.state_get('k')">>),
    ok = py_state:store(k, <<"two">>),
    {ok, <<"two">>} = py:eval(<<"erlang.state_get('k')">>),
    {ok, <<"two">>} = py_state:fetch(k),
    ok = py:state_remove(k),
    ok = py:state_remove(k),
    {ok, none} = py:eval(<<"erlang.state_get('k')">>),
    {error, not_found} = py:state_fetch(k).

what_Python_sets_Erlang_finds(_Config) ->
    {ok, none} = py:eval(<<"erlang.state_set('k', [1, {'a': 2.5}])">>),
    {ok, [1, #{<<"a">> := 2.5}]} = py:state_fetch(k),
    {ok, [true, false]} = py:eval(<<"[erlang.state_delete('k'), erlang.state_delete('k')]">>),
    {error, not_found} = py:state_fetch(k).

every_value_comes_back_equal(_Config) ->
    [begin
         ok = py:state_store(k, Value),
         ?assertEqual({ok, Value}, py:call('__main__', get, [k])),
         {ok, none} = py:call('__main__', put, [l, Value]),
         ?assertEqual({ok, Value}, py:state_fetch(l))
     end || Value <- [0, -1, 1 bsl 62, 1 bsl 63, -(1 bsl 63), 1 bsl 200, 1.5, true, false, none, atom, <<>>, <<"größe"/utf8>>,
                      <<255>>, [], [1, [2]], {}, {a, 1}, #{}, #{a => [1]}, self(), make_ref(), fun lists:max/1, [a | b],
                      lists:seq(1, 1000), {cell, 1}, {ending, none}, '_', '$1', {'$1', '_'}, [{const, 1}]]],
    ok.

what_is_not_there_is_the_default(_Config) ->
    {ok, [none, 7, <<"d">>]} =
        py:eval(<<"[erlang.state_get('no'), erlang.state_get('no', 7), erlang.state_get('no', default='d')]">>),
    ok = py:state_store(k, none),
    ok = py:state_store(f, false),
    {ok, [none, false]} = py:eval(<<"[erlang.state_get('k', 7), erlang.state_get('f', 7)]">>).

keys_are_any_values(_Config) ->
    Keys = [1, -1, 1 bsl 100, 1.5, a, <<"b">>, <<255>>, {a, 1}, [1, 2], [], {}, #{k => [v]}, self(), {'_', '$1'}, '_', '$1',
            {<<"b">>}, fun lists:max/1, none, true],
    [ok = py:state_store(Key, {value, Key}) || Key <- Keys],
    ?assertEqual([{ok, {value, Key}} || Key <- Keys], [py:state_fetch(Key) || Key <- Keys]),
    ?assertEqual([{ok, {value, Key}} || Key <- Keys], [py:call('__main__', get, [Key]) || Key <- Keys]),
    ?assertEqual(length(Keys), length(py:state_keys())),
    [{ok, N} = py:call('__main__', incr, [{counter, Key}, N]) || {N, Key} <- lists:zip(lists:seq(1, length(Keys)), Keys)],
    [ok = py:state_remove(Key) || Key <- Keys],
    ?assertEqual(length(Keys), length(py:state_keys())).

an_atom_and_its_text_are_one_key(_Config) ->
    ok = py:state_store(k, 1),
    ok = py:state_store(<<"k">>, 2),
    {ok, 2} = py:state_fetch(k),
    [<<"k">>] = py:state_keys(),
    {ok, [2, 2]} = py:eval(<<"[erlang.state_get('k'), erlang.state_get(erlang.atom('k'))]">>),
    3 = py:state_incr(k),
    4 = py:state_incr(<<"k">>),
    {ok, [5, 6]} = py:eval(<<"[erlang.state_incr('k'), erlang.state_incr(erlang.atom('k'))]">>),
    ok = py:state_remove(<<"k">>),
    {error, not_found} = py:state_fetch(k).

keys_and_clear(_Config) ->
    [] = py:state_keys(),
    {ok, []} = py:eval(<<"erlang.state_keys()">>),
    ok = py:state_store(a, 1),
    1 = py:state_incr(b),
    {ok, 1} = py:eval(<<"erlang.state_incr('c')">>),
    [<<"a">>, <<"b">>, <<"c">>] = lists:sort(py:state_keys()),
    {ok, [<<"a">>, <<"b">>, <<"c">>]} = py:eval(<<"sorted(erlang.state_keys())">>),
    {ok, none} = py:eval(<<"erlang.state_clear()">>),
    [] = py:state_keys(),
    {ok, 1} = py:eval(<<"erlang.state_incr('c')">>),
    ok = py:state_clear(),
    1 = py:state_incr(c).

all_interpreters_and_processes_share_it(_Config) ->
    Workers = py_test:workers_apart(min(2, py:num_executors())),
    [begin
         ok = py_test:run(W, fun define/0),
         {ok, none} = py_test:run(W, fun() -> py:call('__main__', put, [k, N]) end),
         [{ok, N} = py_test:run(Other, fun() -> py:eval(<<"__import__('erlang').state_get('k')">>) end) || Other <- Workers]
     end || {N, W} <- lists:zip(lists:seq(1, length(Workers)), Workers)],
    [ok = py_test:run(W, fun() -> {ok, none} = py:call('__main__', count, [n, 100]), ok end) || W <- Workers, _ <- [1, 2]],
    Sum = 200 * length(Workers),
    {ok, Sum} = py:state_fetch(n),
    [py_test:end_worker(W) || W <- Workers],
    ok.

it_works_from_threads_tasks_and_casts(_Config) ->
    ok = py:exec(<<"def all_of_it(key):\n"
                   "    erlang.state_set(key, 1)\n"
                   "    erlang.state_incr(key)\n"
                   "    erlang.state_incr(key, erlang.state_get(key))\n"
                   "    erlang.state_incr('done')\n"
                   "async def task(key): all_of_it(key)\n"
                   "def run_task(key): asyncio.run(task(key))\n">>),
    {ok, none} = py:eval(<<"in_threads(1, all_of_it, 'thread')">>),
    {ok, none} = py:call('__main__', run_task, [task]),
    ok = py:cast('__main__', all_of_it, [cast]),
    py_test:wait_until(fun() -> py:state_fetch(done) =:= {ok, 3} end),
    [{ok, 4} = py:state_fetch(Key) || Key <- [thread, task, cast]],
    ok.

%%% Counters

counting_from_both_sides(_Config) ->
    1 = py:state_incr(k),
    {ok, 2} = py:eval(<<"erlang.state_incr('k')">>),
    12 = py:state_incr(k, 10),
    {ok, 7} = py:eval(<<"erlang.state_decr('k', 5)">>),
    6 = py:state_decr(k),
    {ok, [5, 10, 10]} = py:eval(<<"[erlang.state_decr('k'), erlang.state_incr('k', n=5), erlang.state_get('k')]">>),
    -10 = py:state_decr(k, 20),
    {ok, -10} = py:state_fetch(k),
    -10 = py:state_incr(k, 0).

counting_starts_at_nothing(_Config) ->
    -1 = py:state_decr(a),
    {ok, -3} = py:eval(<<"erlang.state_decr('b', 3)">>),
    ok = py:state_store(c, 41),
    {ok, 42} = py:eval(<<"erlang.state_incr('c')">>),
    {ok, none} = py:eval(<<"erlang.state_set('d', 41)">>),
    42 = py:state_incr(d).

what_is_no_integer_is_not_counted(_Config) ->
    [begin
         ok = py:state_store(k, Value),
         ?ERROR('TypeError', _) = py:state_incr(k),
         ?ERROR('TypeError', _) = py:call('__main__', incr, [k]),
         ?ERROR('TypeError', _) = py:eval(<<"erlang.state_decr('k')">>),
         {ok, Value} = py:state_fetch(k)
     end || Value <- [1.5, <<"1">>, none, true, [], {1}]],
    ok = py:state_store(k, 1),
    2 = py:state_incr(k),
    [?ERROR('TypeError', _) = py:state_incr(k, N) || N <- [1.5, a, <<"1">>]],
    [?ERROR('TypeError', _) = py:eval(["erlang.state_incr('k', ", N, ")"]) || N <- ["1.5", "'1'", "None", "[]"]],
    {ok, 2} = py:state_fetch(k).

counters_have_any_size(_Config) ->
    Max = (1 bsl 63) - 1,
    Steps = [{Max, 1}, {-Max - 1, -1}, {Max - 1, 1}, {Max, Max}, {-Max, -Max}, {Max + 1, -1}, {Max + 1, 1}, {1 bsl 100, 1},
             {1 bsl 100, -(1 bsl 100)}, {5, 1 bsl 64}, {0, -(1 bsl 63)}, {Max, -(1 bsl 64)}],
    [begin
         Sum = From + N,
         ok = py:state_store(k, From),
         Sum = py:state_incr(k, N),
         {ok, Sum} = py:state_fetch(k),
         %% Also of a key that Python counts already.
         ok = py:state_store(k, 0),
         From = py:state_incr(k, From),
         ?assertEqual({ok, [From, Sum, Sum + 1, Sum]},
                      py:eval(<<"[erlang.state_incr('k', 0), erlang.state_incr('k', n), "
                                "erlang.state_incr('k'), erlang.state_decr('k')]">>, #{n => N})),
         {ok, Sum} = py:state_fetch(k)
     end || {From, N} <- Steps],
    ok.

%% Whatever the key becomes, Python that counted it before sees that.
a_counter_can_be_set_and_deleted(_Config) ->
    Counted = fun() -> {ok, N} = py:call('__main__', incr, [k]), N end,
    1 = Counted(),
    ok = py:state_store(k, 10),
    11 = Counted(),
    ok = py:state_remove(k),
    1 = Counted(),
    ok = py:state_store(k, <<"text">>),
    ?ERROR('TypeError', _) = py:call('__main__', incr, [k]),
    {ok, <<"text">>} = py:call('__main__', get, [k]),
    ok = py:state_store(k, 20),
    21 = Counted(),
    ok = py:state_clear(),
    1 = Counted(),
    {ok, none} = py:call('__main__', put, [k, 1 bsl 70]),
    Big = (1 bsl 70) + 1,
    Big = Counted(),
    {ok, none} = py:call('__main__', put, [k, 5]),
    6 = Counted(),
    {ok, true} = py:eval(<<"erlang.state_delete('k')">>),
    1 = Counted().

%% Each message would come here, as this process serves the callbacks.
counting_in_Python_takes_no_messages(_Config) ->
    {ok, none} = py:call('__main__', count, [k, 1]),
    Self = self(),
    Tracer = spawn_link(fun() -> received(Self, 0) end),
    1 = erlang:trace(self(), true, ['receive', {tracer, Tracer}]),
    {ok, none} = py:call('__main__', count, [k, 10000]),
    1 = erlang:trace(self(), false, ['receive']),
    Delivered = erlang:trace_delivered(self()),
    receive {trace_delivered, Self, Delivered} -> ok end,
    Tracer ! {how_many, self()},
    receive {seen, N} -> ?assert(N =< 3 orelse N) end,
    {ok, 10001} = py:state_fetch(k).

received(By, N) ->
    receive
        {trace, By, 'receive', _} -> received(By, N + 1);
        {how_many, To} -> To ! {seen, N}
    end.

%%% Races

no_increment_is_lost(_Config) ->
    N = py_test:fewer(20000),
    Funs = [fun() -> [py:state_incr(k) || _ <- lists:seq(1, N)], ok end || _ <- lists:seq(1, 4)]
        ++ [fun() -> {ok, none} = py:call('__main__', count, [k, N]), ok end || _ <- lists:seq(1, 4)]
        ++ [fun() -> {ok, none} = py:eval(<<"in_threads(4, count, 'k', n)">>, #{n => N}), ok end],
    _ = at_once(Funs),
    ?assertEqual({ok, 12 * N}, py:state_fetch(k)).

%% It changes again and again between a cell, which holds 64 bits, and an integer of any size.
no_increment_is_lost_when_counters_grow_large(_Config) ->
    N = py_test:fewer(1000),
    Large = 1 bsl 62,
    Erlang = fun(By) -> fun() -> [begin py:state_incr(k, By), py:state_incr(k) end || _ <- lists:seq(1, N)], ok end end,
    Python = fun(By) -> fun() ->
                                ok = py:exec(<<"def both(n, by):\n    for _ in range(n):\n"
                                               "        erlang.state_incr('k', by)\n        erlang.state_incr('k')\n">>),
                                {ok, none} = py:call('__main__', both, [N, By]),
                                ok
                        end end,
    _ = at_once([Erlang(Large), Erlang(-Large), Erlang(Large), Erlang(-Large),
                 Python(Large), Python(-Large), Python(3 * Large), Python(-3 * Large)]),
    ?assertEqual({ok, 8 * N}, py:state_fetch(k)).

%% In each life of the counter every number from 1 on is seen once.  So no number is seen more
%% often than the one before it, and the ones are as many as the lives.
counters_that_are_deleted_meanwhile_begin_anew(_Config) ->
    N = py_test:fewer(5000),
    Counts = [fun() -> {counted, [py:state_incr(k) || _ <- lists:seq(1, N)]} end || _ <- [1, 2]]
        ++ [fun() -> {ok, Seen} = py:call('__main__', counted, [k, N]), {counted, Seen} end || _ <- [1, 2]],
    Deletes = [fun() ->
                       {ok, Deleted} = py:eval(<<"sum(erlang.state_delete('k') for _ in range(n))">>, #{n => N div 10}),
                       {deleted, Deleted}
               end || _ <- [1, 2]],
    Outcomes = at_once(Counts ++ Deletes),
    Deleted = lists:sum([D || {deleted, D} <- Outcomes]),
    Seen = lists:sort(lists:append([S || {counted, S} <- Outcomes])),
    ?assertEqual(4 * N, length(Seen)),
    Last = case py:state_fetch(k) of {ok, Value} -> Value; {error, not_found} -> 0 end,
    Often = lists:foldl(fun(V, Map) -> maps:update_with(V, fun(C) -> C + 1 end, 1, Map) end, #{}, Seen),
    ct:log("~b lives, the last of ~b; the highest number is ~b", [Deleted, Last, lists:last(Seen)]),
    ?assertEqual(Deleted + case Last of 0 -> 0; _ -> 1 end, maps:get(1, Often)),
    [?assert(maps:get(V, Often) =< maps:get(V - 1, Often, 0) orelse {V, Often}) || V <- maps:keys(Often), V > 1],
    ?assert(Last =:= 0 orelse is_map_key(Last, Often)).

%% Nobody can say what it is in the end, but what it can be.
sets_and_counts_at_once_keep_it_an_integer(_Config) ->
    N = py_test:fewer(3000),
    Counts = [fun() -> [true = is_integer(py:state_incr(k)) || _ <- lists:seq(1, N)], ok end || _ <- [1, 2]]
        ++ [fun() -> {ok, none} = py:call('__main__', count, [k, N]), ok end || _ <- [1, 2]],
    Sets = [fun() ->
                    [ok = py:state_store(k, V) || _ <- lists:seq(1, N div 10), V <- [0, 1 bsl 64, -(1 bsl 64)]],
                    ok = py:state_store(k, 0)
            end,
            fun() ->
                    {ok, _} = py:eval(<<"[erlang.state_set('k', v) for _ in range(n) for v in (0, 1 << 64)]">>,
                                      #{n => N div 10}),
                    ok = py:state_store(k, 0)
            end],
    Outcomes = at_once(Counts ++ Sets),
    ?assertEqual(lists:duplicate(6, ok), Outcomes),
    {ok, Last} = py:state_fetch(k),
    ?assert((is_integer(Last) andalso Last >= 0 andalso Last =< 4 * N) orelse Last),
    Next = Last + 1,
    {ok, Next} = py:call('__main__', incr, [k]).

counting_at_the_same_time_as_clear(_Config) ->
    N = py_test:fewer(2000),
    Counts = [fun() -> [true = py:state_incr({k, I rem 7}) > 0 || I <- lists:seq(1, N)], ok end || _ <- [1, 2]]
        ++ [fun() ->
                    {ok, N} = py:eval(<<"len([erlang.state_incr('k%d' % (i % 7)) for i in range(n)])">>, #{n => N}),
                    ok
            end || _ <- [1, 2]],
    Clear = fun() -> [ok = py:state_clear() || _ <- lists:seq(1, N div 10)], ok end,
    Outcomes = at_once([Clear | Counts]),
    ?assertEqual(lists:duplicate(5, ok), Outcomes),
    ok = py:state_clear(),
    [] = py:state_keys().

%%% The end

a_restart_begins_with_nothing(_Config) ->
    ok = py:state_store(a, 1),
    {ok, none} = py:call('__main__', count, [k, 5]),
    ok = application:stop(erlang_python),
    ok = application:start(erlang_python),
    [] = py:state_keys(),
    ok = define(),
    {ok, 1} = py:call('__main__', incr, [k]),
    2 = py:state_incr(k).

without_the_application_there_is_no_state(_Config) ->
    ok = application:stop(erlang_python),
    Not = {error, not_running},
    [Not = Answer || Answer <- [py:state_fetch(k), py:state_store(k, 1), py:state_remove(k), py:state_keys(), py:state_clear(),
                                py:state_incr(k), py:state_incr(k, 2), py:state_decr(k), py:state_decr(k, 2)]],
    ok = application:start(erlang_python).

%% It goes on while the application restarts: it has an error then, or counts what is there.
a_thread_does_not_count_in_what_is_gone(Config) ->
    Path = list_to_binary(filename:join(proplists:get_value(priv_dir, Config), "counted")),
    ok = py:exec(<<"stop = threading.Event()\n"
                   "failed = []\n"
                   "def counts(path):\n"
                   "    while not stop.is_set():\n"
                   "        try: erlang.state_incr('k')\n"
                   "        except BaseException as e: failed.append(type(e).__name__)\n"
                   "        if os.path.exists(path): break\n"
                   "    with open(path + '.done', 'w') as f: f.write(' '.join(['failed:'] + sorted(set(failed))))\n">>),
    {ok, none} = py:eval(<<"threading.Thread(target=counts, args=(path,)).start()">>, #{path => Path}),
    py_test:wait_until(fun() -> py:state_fetch(k) =/= {error, not_found} end),
    [begin
         ok = application:stop(erlang_python),
         receive after 5 -> ok end, % it meets this, or does not
         ok = application:start(erlang_python),
         py_test:wait_until(fun() -> py:state_fetch(k) =/= {error, not_found} end)
     end || _ <- [1, 2, 3]],
    ok = file:write_file(Path, <<>>),
    Done = <<Path/binary, ".done">>,
    py_test:wait_until(fun() -> filelib:file_size(Done) > 0 end),
    {ok, Failed} = file:read_file(Done),
    ct:log("while it did not run: ~ts", [Failed]),
    {ok, Last} = py:state_fetch(k),
    true = is_integer(Last).

keys_that_go_leave_nothing(_Config) ->
    ok = py:exec(<<"def round_of_keys(r, n):\n"
                   "    for i in range(n):\n"
                   "        key = 'key %d %d' % (r, i)\n"
                   "        erlang.state_incr(key)\n"
                   "        erlang.state_incr(key)\n"
                   "    erlang.state_clear()\n">>),
    Round = fun(R) ->
                    {ok, none} = py:call('__main__', round_of_keys, [R, py_test:fewer(10000)]),
                    [py:state_incr({R, I}) || I <- lists:seq(1, py_test:fewer(10000))],
                    ok = py:state_clear(),
                    {ok, _} = py:gc(),
                    erlang:garbage_collect()
            end,
    [Round(R) || R <- [1, 2]],
    py_test:grows_less(20 bsl 20, fun() -> [Round(R) || R <- [3, 4, 5]] end),
    [] = py:state_keys().

wrong_uses_are_refused(_Config) ->
    [?ERROR('TypeError', _) = py:eval(Code)
     || Code <- ["erlang.state_get()", "erlang.state_set('k')", "erlang.state_incr()", "erlang.state_delete()",
                 "erlang.state_keys(1)", "erlang.state_incr('k', 1, 2)"]],
    {error, _} = py:eval(<<"erlang.state_set('k', '\\ud800')">>),
    {error, _} = py:eval(<<"erlang.state_get('\\ud800')">>),
    {error, _} = py:eval(<<"erlang.state_incr('\\ud800')">>),
    [] = py:state_keys().
