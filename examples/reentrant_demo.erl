%% SPDX-License-Identifier: Apache-2.0
%%
%% Erlang calls Python calls Erlang calls Python ...:
%%
%%     escript examples/reentrant_demo.erl [DIRECTORY_OF_EBIN]
%%
%% Without an argument, erlang_python is looked for in Erlang's library path.  Each line shows
%% the time, what was asked, and what came back.  The program checks its own answers and exits
%% with 1 if one is not what it says.  The Python half is reentrant_demo.py.
-module(reentrant_demo).
-export([main/1]).
-mode(compile).

main([Ebin]) ->
    true = code:add_patha(Ebin),
    demo();
main([]) ->
    demo().

demo() ->
    {ok, _} = application:ensure_all_started(erlang_python),
    ok = py_import:add_path(filename:absname(filename:dirname(escript:script_name()))),
    io:format("Python ~ts, mode ~s~n", [hd(string:lexemes(element(2, py:version()), " ")), py:execution_mode()]),
    arithmetic(),
    fibonacci(),
    nesting(),
    methods(),
    errors(),
    functions(),
    once(),
    io:format("~nAll answers were right.~n").

%%% Sums are Python's work, products Erlang's

arithmetic() ->
    title("Arithmetic: Python adds, Erlang multiplies, and each asks the other"),
    ok = py:register_function(evaluate, fun([Expression]) -> evaluate(Expression) end),
    %% ((1 + 2) * (10 - 3)) + ((4 * 5) / 2)
    Expression = {'+', {'*', {'+', 1, 2}, {'-', 10, 3}}, {'/', {'*', 4, 5}, 2}},
    show("py:call(reentrant_demo, evaluate, [((1 + 2) * (10 - 3)) + (4 * 5) / 2])",
         fun() -> py:call(reentrant_demo, evaluate, [Expression]) end, {ok, 31}),
    Deep = lists:foldl(fun(N, Inner) -> {'+', N, {'*', 2, Inner}} end, 0, lists:seq(1, 20)),
    show("20 sums and 20 products, each within the other",
         fun() -> py:call(reentrant_demo, evaluate, [Deep]) end,
         {ok, lists:foldl(fun(N, Inner) -> N + 2 * Inner end, 0, lists:seq(1, 20))}).

evaluate({'*', Left, Right}) -> evaluate(Left) * evaluate(Right);
evaluate({'/', Left, Right}) -> evaluate(Left) div evaluate(Right);
evaluate({_, _, _} = Sum) ->
    {ok, Value} = py:call(reentrant_demo, evaluate, [Sum]),
    Value;
evaluate(Number) -> Number.

%%% Python computes, Erlang remembers

fibonacci() ->
    title("Fibonacci numbers: Python computes each of them once, Erlang remembers"),
    Table = ets:new(fibonacci, [public]),
    ok = py:register_function(fibonacci, fun([N]) -> remembered(Table, N) end),
    show("py:call(reentrant_demo, fibonacci, [30])",
         fun() -> py:call(reentrant_demo, fibonacci, [30]) end, {ok, 832040}),
    show("py:call(reentrant_demo, computed, [])   % 31 calls, and not 2,692,537",
         fun() -> py:call(reentrant_demo, computed, []) end, {ok, lists:seq(30, 0, -1)}),
    true = ets:delete(Table).

remembered(Table, N) ->
    case ets:lookup(Table, N) of
        [{_, Value}] ->
            Value;
        [] ->
            {ok, Value} = py:call(reentrant_demo, fibonacci, [N]),
            true = ets:insert(Table, {N, Value}),
            Value
    end.

%%% Levels

nesting() ->
    title("Nesting: each level is a call from the other language"),
    ok = py:register_function(descend, fun([Levels]) -> descend(Levels) end),
    show("3 levels", fun() -> py:call(reentrant_demo, descend, [3]) end,
         {ok, [<<"python">>, erlang, <<"python">>]}),
    [show(io_lib:format("~b levels", [Levels]),
          fun() -> {ok, List} = py:call(reentrant_demo, descend, [Levels]), length(List) end, Levels)
     || Levels <- [10, 50, 200]],
    show("100 processes at once, 10 levels each", fun hundred/0, 10).

descend(1) ->
    [erlang];
descend(Levels) ->
    {ok, Below} = py:call(reentrant_demo, descend, [Levels - 1]),
    [erlang | Below].

hundred() ->
    Descend = fun() -> {ok, List} = py:call(reentrant_demo, descend, [10]), exit({levels, length(List)}) end,
    Running = [spawn_monitor(Descend) || _ <- lists:seq(1, 100)],
    [Levels] = lists:usort([receive {'DOWN', Monitor, process, Pid, {levels, Reached}} -> Reached end
                            || {Pid, Monitor} <- Running]),
    Levels.

%%% Methods

methods() ->
    title("Methods of a class, on objects that Erlang holds"),
    ok = py:register_function(rate, fun([<<"ann">>]) -> 10; ([_]) -> 5 end),
    {ok, Ann} = account(<<"ann">>, 1000),
    {ok, Bob} = account(<<"bob">>, 100),
    show("py:call_method(Ann, add_interest, [])   % 10 percent, by Erlang",
         fun() -> py:call_method(Ann, add_interest, []) end, {ok, 1100}),
    ok = py:register_function(approve,
                              fun([_Owner, Amount]) when Amount =< 500 -> ok;
                                 ([Owner, Amount]) -> error({too_much, Owner, Amount})
                              end),
    show("py:call_method(Ann, give, [500, Bob])",
         fun() -> py:call_method(Ann, give, [500, Bob]) end, {ok, {600, 600}}),
    show("the same with 501, which Erlang refuses",
         fun() -> py:call(reentrant_demo, careful, [Ann, 501, Bob]) end,
         {ok, {error, {too_much, <<"ann">>, 501}}}),
    show("nobody has lost anything",
         fun() -> [py:getattr(Account, balance) || Account <- [Ann, Bob]] end, [{ok, 600}, {ok, 600}]).

account(Owner, Balance) ->
    py:call(reentrant_demo, 'Account', [Owner, Balance], {opts, #{return => handle}}).

%%% Errors

errors() ->
    title("Errors cross in both directions"),
    %% py:apply raises what went wrong in Python, and so the function ends with it.
    ok = py:register_function(look_up, fun([Key]) -> py:apply(reentrant_demo, look_up, [Key]) end),
    show("Python -> Erlang -> Python, where there is a KeyError; Python catches it as that",
         fun() -> py:call(reentrant_demo, recover, [<<"b">>]) end, {ok, {<<"no such key">>, <<"b">>}}),
    show("py:eval(\"erlang.no_such_function\")",
         fun() -> ok = py:exec("import erlang"), py:eval("erlang.no_such_function") end,
         fun({error, {'AttributeError', _}}) -> true; (_) -> false end).

%%% Erlang's functions as Python's

functions() ->
    title("Erlang funs are functions in Python"),
    show("py:call(builtins, sorted, [[3, 1, 2]], #{key => fun(X) -> -X end})",
         fun() -> py:call(builtins, sorted, [[3, 1, 2]], #{key => fun(X) -> -X end}) end, {ok, [3, 2, 1]}),
    show("py:eval(\"list(map(double, numbers))\", #{double => fun(X) -> 2 * X end, numbers => [1, 2, 3]})",
         fun() -> py:eval("list(map(double, numbers))", #{double => fun(X) -> 2 * X end, numbers => [1, 2, 3]}) end,
         {ok, [2, 4, 6]}),
    ok = py:register_function(factorial,
                              fun([0]) -> 1;
                                 ([N]) -> {ok, F} = py:eval("n * factorial(n - 1)", #{n => N}), F
                              end),
    show("from erlang import factorial; factorial(20)",
         fun() -> ok = py:exec("from erlang import factorial"), py:eval("factorial(20)") end,
         {ok, 2432902008176640000}).

%%% Once

once() ->
    title("Nothing runs twice: a list that is appended to around two calls of Erlang"),
    show("py:call(reentrant_demo, record, [])",
         fun() -> py:call(reentrant_demo, record, []) end, {ok, [<<"begin">>, 5, 5]}).

%%% How it is shown

title(Text) ->
    io:format("~n~ts~n", [Text]).

show(What, Fun, Expected) ->
    {Micros, Result} = timer:tc(Fun),
    io:format("  ~9.1f us  ~ts~n                ~tP~n", [Micros * 1.0, What, Result, 30]),
    is_expected(Result, Expected) orelse
        begin
            io:format("This is not what was expected: ~tp~n", [Expected]),
            halt(1)
        end.

is_expected(Result, Expected) when is_function(Expected) -> Expected(Result);
is_expected(Result, Expected) -> Result =:= Expected.
