%% SPDX-License-Identifier: Apache-2.0
%%
%% Memory limits: what counts, what happens past the limit, and to whom; and how much memory
%% each interpreter has.
-module(py_memory_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([a_large_object_past_the_limit_is_a_memory_error/1,
         many_small_objects_past_the_limit_are_a_memory_error/1,
         an_object_cannot_grow_past_the_limit/1,
         arguments_past_the_limit_are_a_memory_error/1,
         threads_of_python_code_are_counted/1,
         a_context_that_is_full_serves_what_needs_little/1,
         a_context_without_any_memory_left_answers/1,
         a_full_context_takes_a_nested_call/1,
         others_are_not_touched/1]).
-export([released_memory_is_counted_back/1,
         threads_that_ended_leave_nothing/1,
         a_full_context_ends/1,
         the_next_context_starts_from_nothing/1]).
-export([there_is_no_limit_by_default/1,
         the_application_has_a_limit_for_all/1,
         a_limit_below_an_empty_interpreter_is_refused/1,
         limits_of_shared_interpreters_are_refused/1,
         limits_without_own_interpreters_are_refused/1,
         limits_without_counting_are_refused/1]).
-export([stats_have_the_memory_of_each_interpreter/1]).

-define(MB, 1048576).
%% An interpreter with our modules takes about eight.
-define(LIMIT, 40 * ?MB).

suite() -> [{timetrap, {minutes, 5}}].

all() -> py_test:cases(?MODULE).

init_per_suite(Config) -> py_test:start(Config).

end_per_suite(Config) -> py_test:stop(Config).

init_per_testcase(_Case, Config) ->
    ok = py_test:register_hold(),
    Config.

end_per_testcase(_Case, _Config) -> py_test:restore().

only_where_limits_are() ->
    py:subinterp_supported() orelse throw({skip, "this variant has no interpreters of their own"}),
    #{interpreters := [#{memory := Memory} | _]} = py_nif:stats(),
    Memory =/= undefined orelse throw({skip, "memory is not counted with this PYTHONMALLOC"}),
    ok.

limited() -> limited(?LIMIT).

limited(Limit) ->
    {ok, C} = py_context:new(#{mode => owngil, memory_limit => Limit}),
    C.

unlimited() ->
    {ok, C} = py_context:new(#{mode => owngil}),
    C.

destroy(C) -> ok = py_context:destroy(C).

%% As C counts it, of the one context that has this limit.
used() -> used(?LIMIT).

used(Limit) ->
    #{interpreters := Interpreters} = py_nif:stats(),
    [Used] = [U || #{own := true, memory := U, memory_limit := L} <- Interpreters, L =:= Limit],
    Used.

await_no_own_interpreters() ->
    py_test:wait_until(fun() ->
                               #{interpreters := Interpreters} = py_nif:stats(),
                               [] =:= [I || #{own := true} = I <- Interpreters]
                       end).

%%% Past the limit

a_large_object_past_the_limit_is_a_memory_error(_Config) ->
    only_where_limits_are(),
    C = limited(),
    [begin
         {error, {'MemoryError', _}} = py_context:exec(C, ["x = ", Code]),
         {error, {'NameError', _}} = py_context:eval(C, <<"x">>)
     end || Code <- ["bytes(50000000)", "bytearray(50000000)", "[None] * 10000000", "'x' * 50000000",
                     "1 << 400000000", "bytes(1 << 62)"],
            _ <- [1, 2]],
    {ok, 20000000} = py_context:eval(C, <<"len(bytes(20000000))">>),
    ?assert(used() < ?LIMIT),
    destroy(C).

many_small_objects_past_the_limit_are_a_memory_error(_Config) ->
    only_where_limits_are(),
    C = limited(),
    [begin
         %% What the function holds goes with it, so that there is memory again.
         ok = py_context:exec(C, ["def fill():\n    x = []\n    while True:\n        x.append(", Element, ")\n"
                                  "        assert len(x) < 10000000\n"]),
         {error, {'MemoryError', _}} = py_context:call(C, '__main__', fill, []),
         ?assert(used() =< ?LIMIT),
         {ok, 10000000} = py_context:eval(C, <<"len(bytes(10000000))">>)
     end || Element <- ["object()", "{}", "[len(x)]", "str(len(x))", "bytes(600)", "lambda: None"]],
    destroy(C).

an_object_cannot_grow_past_the_limit(_Config) ->
    only_where_limits_are(),
    C = limited(),
    {error, {'MemoryError', _}} =
        py_context:exec(C, <<"b = bytearray()\nwhile True:\n    b += bytes(100000)\n    assert len(b) < 50000000\n">>),
    {ok, N} = py_context:eval(C, <<"len(b)">>),
    ?assert(N > 5 * ?MB),
    ?assert(N < ?LIMIT),
    ?assert(used() =< ?LIMIT),
    {error, {'MemoryError', _}} =
        py_context:exec(C, <<"d = {}\nwhile True:\n    d[len(d)] = None\n    assert len(d) < 10000000\n">>),
    destroy(C).

arguments_past_the_limit_are_a_memory_error(_Config) ->
    only_where_limits_are(),
    C = limited(),
    Large = binary:copy(<<1>>, 50 * ?MB),
    {error, {'MemoryError', _}} = py_context:call(C, builtins, len, [Large]),
    {error, {'MemoryError', _}} = py_context:call(C, builtins, len, [lists:seq(1, 3000000)]),
    {ok, 3} = py_context:call(C, builtins, len, [<<"abc">>]),
    destroy(C).

threads_of_python_code_are_counted(_Config) ->
    only_where_limits_are(),
    C = limited(),
    ok = py_context:exec(C, <<"import threading\nresult = []\nheld = []\n"
                              "def work(size):\n"
                              "    try:\n"
                              "        held.append(bytes(size))\n"
                              "        result.append('ok')\n"
                              "    except MemoryError:\n"
                              "        result.append('none')\n"
                              "def run(size):\n"
                              "    t = threading.Thread(target=work, args=(size,))\n"
                              "    t.start()\n"
                              "    t.join()\n"
                              "    return result.pop()\n">>),
    {ok, <<"none">>} = py_context:call(C, '__main__', run, [50 * ?MB]),
    Before = used(),
    {ok, <<"ok">>} = py_context:call(C, '__main__', run, [20 * ?MB]),
    ?assert(used() >= Before + 20 * ?MB),
    {ok, <<"none">>} = py_context:call(C, '__main__', run, [20 * ?MB]),
    destroy(C).

%% All but the last megabyte and a half, as small objects take a megabyte at a time.
fill(C) ->
    fill(C, "1500000").

fill(C, Left) ->
    {error, {'MemoryError', _}} =
        py_context:exec(C, ["held = []\nleft = bytes(", Left, ")\nfor size in (1000000, 50000, 3000, 64):\n"
                            "    try:\n"
                            "        while True:\n            held.append(bytes(size))\n"
                            "    except MemoryError:\n        pass\n"
                            "del left\nbytes(2000000)\n"]).

a_context_that_is_full_serves_what_needs_little(_Config) ->
    only_where_limits_are(),
    C = limited(),
    fill(C),
    ?assert(used() > ?LIMIT - 3 * ?MB),
    [{ok, 4.0} = py_context:call(C, math, sqrt, [16]) || _ <- lists:seq(1, 1000)],
    [{error, {'MemoryError', _}} = py_context:eval(C, <<"bytes(2000000)">>) || _ <- lists:seq(1, 1000)],
    {error, {'ZeroDivisionError', _}} = py_context:eval(C, <<"1/0">>),
    ok = py_context:exec(C, <<"held.clear()">>),
    {ok, 2000000} = py_context:eval(C, <<"len(bytes(2000000))">>),
    destroy(C).

%% Whatever is asked of it is done or is an error.  Whether it has the few bytes that it takes
%% to let go of some is chance; it can be ended in any case.
a_context_without_any_memory_left_answers(_Config) ->
    only_where_limits_are(),
    C = limited(),
    ok = py_context:exec(C, <<"def clear():\n    held.clear()\n">>),
    fill(C, "1"),
    ?assert(used() > ?LIMIT - 3 * ?MB),
    Calls = [fun() -> py_context:call(C, math, sqrt, [16]) end,
             fun() -> py_context:eval(C, <<"1/0">>) end,
             fun() -> py_context:exec(C, <<"import json, decimal, textwrap">>) end,
             fun() -> py_context:call(C, builtins, len, [lists:seq(1, 100000)]) end,
             fun() -> py_context:call(C, erlang, call, [nothing_of_this_name]) end,
             fun() -> py_context:eval(C, <<"{'a': [1, 2, {3, 4}], **{str(i): i for i in range(100)}}">>) end],
    [case Call() of
         ok -> ok;
         {ok, _} -> ok;
         {error, {Type, _}} when is_atom(Type) -> ok
     end || Call <- Calls, _ <- lists:seq(1, 100)],
    case py_context:call(C, '__main__', clear, []) of
        {ok, none} -> {ok, 2000000} = py_context:eval(C, <<"len(bytes(2000000))">>);
        {error, {'MemoryError', _}} -> ok
    end,
    destroy(C).

%% The stand-in that takes it is a new thread, which Python needs memory for.
a_full_context_takes_a_nested_call(_Config) ->
    only_where_limits_are(),
    C = limited(),
    fill(C),
    ok = py:register_function(nested, fun([]) -> py_context:call(C, math, sqrt, [16]) end),
    {ok, {ok, 4.0}} = py_context:call(C, erlang, call, [nested], #{}, 60000),
    destroy(C).

others_are_not_touched(_Config) ->
    only_where_limits_are(),
    [C, D, U] = Contexts = [limited(), limited(60 * ?MB), unlimited()],
    Large = <<"len(bytes(45000000))">>,
    fill(C),
    {error, {'MemoryError', _}} = py_context:eval(C, Large),
    [{ok, 45000000} = py_context:eval(X, Large) || X <- [D, U]],
    {ok, 45000000} = py:eval(Large),
    {ok, 200000000} = py_context:eval(U, <<"len(bytes(200000000))">>),
    %% All at once.
    Full = fun() -> [{error, {'MemoryError', _}} = py_context:eval(C, Large) || _ <- lists:seq(1, 100)], full end,
    Others = [fun() -> [{ok, 45000000} = Eval(Large) || _ <- lists:seq(1, 5)], fine end
              || Eval <- [fun py:eval/1, fun(Code) -> py_context:eval(D, Code) end]],
    [full, fine, fine] = py_test:at_once([Full | Others]),
    [destroy(X) || X <- Contexts].

%%% Counted back

released_memory_is_counted_back(_Config) ->
    only_where_limits_are(),
    C = limited(),
    Round = fun() ->
                    ok = py_context:exec(C, <<"x = bytes(15000000)\ny = [{} for _ in range(50000)]\n"
                                              "z = bytearray()\nfor _ in range(50):\n    z += bytes(100000)\n"
                                              "del x, y, z\n">>)
            end,
    [Round() || _ <- lists:seq(1, 3)],
    Before = used(),
    [Round() || _ <- lists:seq(1, py_test:fewer(50))],
    ?assert(abs(used() - Before) =< 2 * ?MB),
    destroy(C).

%% What a thread takes is allocated by the one that starts it.
threads_that_ended_leave_nothing(_Config) ->
    only_where_limits_are(),
    C = limited(),
    ok = py_context:exec(C, <<"import threading\n"
                              "def f(n):\n    return n and f(n - 1)\n"
                              "def run(n):\n"
                              "    for _ in range(n):\n"
                              "        t = threading.Thread(target=f, args=(100,))\n"
                              "        t.start()\n"
                              "        t.join()\n">>),
    {ok, none} = py_context:call(C, '__main__', run, [20]),
    Before = used(),
    {ok, none} = py_context:call(C, '__main__', run, [py_test:fewer(1000)]),
    ?assert(abs(used() - Before) =< 100000),
    destroy(C).

a_full_context_ends(_Config) ->
    only_where_limits_are(),
    Threads = py_test:thread_names(),
    [begin C = limited(), fill(C), destroy(C) end || _ <- lists:seq(1, 5)],
    py_test:await_threads(Threads),
    await_no_own_interpreters(),
    {ok, 4.0} = py:call(math, sqrt, [16]).

the_next_context_starts_from_nothing(_Config) ->
    only_where_limits_are(),
    Use = fun() -> C = limited(), Used = used(), fill(C), destroy(C), await_no_own_interpreters(), Used end,
    [First | Later] = [Use() || _ <- lists:seq(1, 5)],
    [?assert(abs(Used - First) < 3 * ?MB) || Used <- Later],
    U = unlimited(),
    {ok, 100000000} = py_context:eval(U, <<"len(bytes(100000000))">>),
    destroy(U).

%%% Where there is a limit

there_is_no_limit_by_default(_Config) ->
    #{interpreters := Before} = py_nif:stats(),
    [infinity = L || #{memory_limit := L} <- Before],
    {ok, C} = py_context:new(#{}),
    {ok, 200000000} = py_context:eval(C, <<"len(bytes(200000000))">>),
    destroy(C).

the_application_has_a_limit_for_all(_Config) ->
    only_where_limits_are(),
    py_test:restart(#{memory_limit => 30 * ?MB}),
    [begin
         {ok, C} = py_context:new(Options#{mode => owngil}),
         Expected(py_context:eval(C, <<"len(bytes(35000000))">>)),
         destroy(C)
     end || {Options, Expected} <- [{#{}, fun({error, {'MemoryError', _}}) -> ok end},
                                    {#{memory_limit => 60 * ?MB}, fun({ok, 35000000}) -> ok end},
                                    {#{memory_limit => 0}, fun({ok, 35000000}) -> ok end}]],
    await_no_own_interpreters(). %% the start after this case would ask them

a_limit_below_an_empty_interpreter_is_refused(_Config) ->
    only_where_limits_are(),
    Threads = py_test:thread_names(),
    [begin
         {error, {_, Text}} = py_context:new(#{mode => owngil, memory_limit => Limit}),
         ?assertMatch({match, _}, re:run(Text, integer_to_list(Limit)))
     end || Limit <- [1, 1000, ?MB]],
    py_test:await_threads(Threads).

limits_of_shared_interpreters_are_refused(_Config) ->
    [{error, {_, _}} = py_context:new(#{mode => Mode, memory_limit => ?LIMIT}) || Mode <- [auto, worker]].

limits_without_own_interpreters_are_refused(_Config) ->
    py:subinterp_supported() andalso throw({skip, "this variant has interpreters of their own"}),
    {error, {_, _}} = py_context:new(#{mode => owngil, memory_limit => ?LIMIT}),
    #{interpreters := Interpreters} = py_nif:stats(),
    [undefined = M || #{memory := M} <- Interpreters],
    ok.

%% Debug hooks return no blocks of malloc; with PYTHONMALLOC=malloc there are no arenas.
limits_without_counting_are_refused(_Config) ->
    only_where_limits_are(),
    py_test:sanitizer(thread) andalso
        throw({skip, "the erl script does not survive the preload of ThreadSanitizer"}),
    Code = "{ok, _} = application:ensure_all_started(erlang_python),"
        "io:format(\"~p\", [case py_context:new(#{mode => owngil, memory_limit => 40000000}) of"
        "  {ok, C} -> {py_context:eval(C, <<\"len([{} for _ in range(10000)])\">>),"
        "              element(1, py_context:eval(C, <<\"[{} for _ in range(1000000)]\">>)),"
        "              py_context:eval(C, <<\"1\">>)};"
        "  {error, {_, Text}} -> re:run(Text, \"PYTHONMALLOC\", [{capture, none}])"
        " end]), halt().",
    Erl = filename:join([code:root_dir(), "bin", "erl"]),
    [begin
         Output = os:cmd(["PYTHONMALLOC=", Allocator, " ERLANG_PYTHON=", py_test:variant(), " '", Erl, "'",
                          " -noinput -boot no_dot_erlang -pa '", filename:dirname(code:which(py)), "'",
                          " -eval '", Code, "'"]),
         ?assertEqual({Allocator, Expected}, {Allocator, Output})
     end || {Allocator, Expected} <- [{"debug", "match"}, {"malloc_debug", "match"},
                                      {"malloc", "{{ok,10000},error,{ok,1}}"},
                                      {"pymalloc", "{{ok,10000},error,{ok,1}}"}]].

%%% Facts

stats_have_the_memory_of_each_interpreter(_Config) ->
    only_where_limits_are(),
    #{interpreters := Before} = py_nif:stats(),
    [#{id := 0, own := false, memory := Main, memory_limit := infinity} | _] = Before,
    ?assert(Main > ?MB),
    C = limited(),
    #{interpreters := After} = py_nif:stats(),
    ?assertEqual(length(Before) + 1, length(After)),
    Used = used(),
    ?assert(Used > ?MB),
    ok = py_context:exec(C, <<"x = bytes(10000000)">>),
    ?assert(abs(used() - Used - 10000000) < 3 * ?MB),
    %% It was not the main one's.
    #{interpreters := [#{id := 0, memory := Main2} | _]} = py_nif:stats(),
    ?assert(abs(Main2 - Main) < 3 * ?MB),
    destroy(C).
