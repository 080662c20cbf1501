%% SPDX-License-Identifier: Apache-2.0
%%
%% py:eval/1,2,3 and py:exec/1: Python source, the namespaces that it runs in, and the
%% cache of compiled code, which nobody must be able to notice.
-module(py_code_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1]).
-export([eval_gives_the_value_of_an_expression/1,
         eval_refuses_statements/1,
         white_space_around_an_expression_is_allowed/1,
         code_is_binary_string_or_iolist/1,
         what_is_no_code_is_an_error/1,
         locals_are_visible_everywhere_in_an_expression/1,
         names_of_locals_are_atoms_binaries_or_strings/1,
         a_local_given_twice_is_an_error/1,
         locals_are_gone_after_eval/1,
         locals_shadow_and_do_not_replace/1,
         many_locals_are_visible/1]).
-export([exec_answers_ok_whatever_the_statements_do/1,
         what_exec_defines_stays/1,
         functions_that_exec_defined_are_called/1,
         functions_that_exec_defined_see_later_changes/1,
         a_namespace_belongs_to_one_process/1,
         a_namespace_is_freed_with_its_process/1,
         modules_are_shared_by_namespaces/1,
         builtins_run_in_the_namespace/1,
         an_assignment_expression_stays/1,
         an_exception_keeps_what_was_done_before/1]).
-export([syntax_errors_are_errors/1,
         a_NUL_byte_is_an_error/1,
         code_that_is_not_UTF8_is_an_error/1,
         empty_code_is_nothing_to_exec_and_an_error_to_eval/1,
         a_megabyte_of_source_runs/1,
         a_line_of_a_megabyte_runs/1,
         too_deeply_nested_source_is_an_error/1,
         endless_recursion_is_a_RecursionError/1,
         endless_recursion_through_C_is_a_RecursionError/1,
         warnings_do_not_become_answers/1]).
-export([the_same_source_serves_eval_and_exec/1,
         cached_code_sees_the_globals_of_its_caller/1,
         sources_that_differ_in_little_are_different/1,
         a_full_cache_is_not_noticed/1,
         code_that_is_run_at_once_by_many_is_right/1,
         eval_can_time_out/1]).

-define(ERROR(Type, Message), {error, {Type, Message}}).

suite() -> [{timetrap, {minutes, 5}}].

all() -> py_test:cases(?MODULE).

init_per_suite(Config) -> py_test:start(Config).

end_per_suite(Config) -> py_test:stop(Config).

%%% eval

eval_gives_the_value_of_an_expression(_Config) ->
    {ok, 2} = py:eval(<<"1+1">>),
    {ok, <<"ab">>} = py:eval(<<"'a' + 'b'">>),
    {ok, [0, 1, 4]} = py:eval(<<"[i*i for i in range(3)]">>),
    {ok, none} = py:eval(<<"[].sort()">>),
    {ok, 7} = py:eval(<<"(lambda x: x + 4)(3)">>).

eval_refuses_statements(_Config) ->
    [?ERROR('SyntaxError', _) = py:eval(Code)
     || Code <- ["x = 1", "import os", "pass", "1; 2", "def f(): pass", "1\n2"]],
    ?ERROR('NameError', _) = py:eval(<<"x">>).

white_space_around_an_expression_is_allowed(_Config) ->
    [{ok, 2} = py:eval(Code) || Code <- ["1+1", " 1+1", "\t1+1", "   \t 1+1", "1+1\n", "1+1 \n\n",
                                         "1+1 # two", "(1\n+\n1)", "1+\\\n1"]].

code_is_binary_string_or_iolist(_Config) ->
    [{ok, 42} = py:eval(Code)
     || Code <- [<<"40 + 2">>, "40 + 2", ["40", " + ", <<"2">>], [[["40 "], $+, [" 2"]]],
                 [<<"40">> | <<" + 2">>]]],
    ok = py:exec(["x", <<" = ">>, [$4, "2"]]),
    {ok, 42} = py:eval("x"),
    [{ok, <<"żółć €"/utf8>>} = py:eval(Code)
     || Code <- [<<"'żółć €'"/utf8>>, "'żółć €'", ["'", <<"żółć"/utf8>>, " €", $']]],
    ok = py:exec("größe = 'żółć'"),
    {ok, <<"żółć"/utf8>>} = py:eval("größe"),
    {ok, 1} = py:eval("len('\x{1F40D}')").

what_is_no_code_is_an_error(_Config) ->
    Wrong = [atom, 1, 1.5, {<<"1">>}, #{}, self(), <<1:3>>, [a], [-1], ["1", 1.5]],
    [begin
         ?ERROR(Type, _) = Result,
         ?assert(lists:member(Type, ['TypeError', 'ValueError']))
     end || X <- Wrong, Result <- [py:eval(X), py:exec(X)]],
    [?ERROR('TypeError', _) = py:eval(<<"1">>, X) || X <- [1, [], [{a, 1}], <<>>, none]],
    [] = py_test:messages().

%%% Locals

locals_are_visible_everywhere_in_an_expression(_Config) ->
    {ok, 3} = py:eval(<<"a + b">>, #{a => 1, b => 2}),
    {ok, [11, 12]} = py:eval(<<"[a + i for i in l]">>, #{a => 10, l => [1, 2]}),
    {ok, 13} = py:eval(<<"(lambda: a + 3)()">>, #{a => 10}),
    {ok, #{1 := 10}} = py:eval(<<"{i: a for i in [1]}">>, #{a => 10}),
    {ok, 12} = py:eval(<<"sum(a for _ in range(2) if [a for _ in range(a)])">>, #{a => 6}),
    {ok, [3, 2, 1]} = py:eval(<<"sorted(l, key=lambda i: sign * i)">>, #{l => [1, 2, 3], sign => -1}),
    {ok, 5} = py:eval(<<"eval('a')">>, #{a => 5}).

names_of_locals_are_atoms_binaries_or_strings(_Config) ->
    {ok, 6} = py:eval(<<"a + b + c">>, #{a => 1, <<"b">> => 2, "c" => 3}),
    {ok, 1} = py:eval("größe", #{'größe' => 1}),
    {ok, 1} = py:eval("größe", #{<<"größe"/utf8>> => 1}),
    {ok, 1} = py:eval("größe", #{"größe" => 1}),
    {error, _} = py:eval(<<"1">>, #{1 => 1}),
    {error, _} = py:eval(<<"1">>, #{{a} => 1}),
    {error, _} = py:eval(<<"1">>, #{<<255>> => 1}),
    {error, {conversion, _, [locals, {value, a}, {key, _}]}} = py:eval(<<"1">>, #{a => #{1 => a, 1.0 => b}}).

%% Neither of the two is dropped in silence.
a_local_given_twice_is_an_error(_Config) ->
    {error, _} = py:eval(<<"a">>, #{a => 1, <<"a">> => 2}),
    {error, _} = py:eval(<<"a">>, #{a => 1, "a" => 2}),
    {error, _} = py:eval(<<"a">>, #{<<"a">> => 1, "a" => 2}).

locals_are_gone_after_eval(_Config) ->
    {ok, 1} = py:eval(<<"a">>, #{a => 1}),
    ?ERROR('NameError', _) = py:eval(<<"a">>),
    {ok, false} = py:eval(<<"'a' in globals()">>).

locals_shadow_and_do_not_replace(_Config) ->
    ok = py:exec(<<"a = 'kept'\ndef f(): return a">>),
    {ok, {1, <<"kept">>}} = py:eval(<<"(a, f())">>, #{a => 1}),
    {ok, <<"kept">>} = py:eval(<<"a">>),
    {ok, 17} = py:eval(<<"len">>, #{len => 17}),
    {ok, 3} = py:eval(<<"len('abc')">>).

many_locals_are_visible(_Config) ->
    Locals = maps:from_list([{list_to_binary(["n", integer_to_list(I)]), I} || I <- lists:seq(1, 5000)]),
    {ok, {1, 5000, 4711}} = py:eval(<<"(n1, n5000, n4711)">>, Locals).

%%% exec

exec_answers_ok_whatever_the_statements_do(_Config) ->
    [ok = py:exec(Code) || Code <- ["x = 1", "1 + 1", "import os", "pass", "x = 1; y = 2", "x = 1\ny = 2\n",
                                    "if True:\n  x = 1\nelse:\n  x = 2\n", "for i in range(3): pass",
                                    "# nothing", "\n\n", "object()"]].

what_exec_defines_stays(_Config) ->
    ok = py:exec(<<"import math\nx = 1\nclass C:\n    y = 2\n">>),
    {ok, 1} = py:eval(<<"x">>),
    {ok, 2} = py:eval(<<"C.y">>),
    {ok, 3.0} = py:eval(<<"math.sqrt(9)">>),
    ok = py:exec(<<"x += 1">>),
    {ok, 2} = py:eval(<<"x">>),
    ok = py:exec(<<"del x">>),
    ?ERROR('NameError', _) = py:eval(<<"x">>),
    {ok, <<"__main__">>} = py:eval(<<"__name__">>).

functions_that_exec_defined_are_called(_Config) ->
    ok = py:exec(<<"def add(a, b=10):\n    return a + b\n"
                   "class Counter:\n"
                   "    n = 0\n"
                   "    def next(self):\n"
                   "        self.n += 1\n"
                   "        return self.n\n"
                   "counter = Counter()\n">>),
    {ok, 3} = py:call('__main__', add, [1, 2]),
    {ok, 11} = py:call('__main__', add, [1]),
    {ok, 6} = py:call('__main__', add, [1], #{b => 5}),
    %% Dotted names as in any other module.
    {ok, 1} = py:call('__main__', 'counter.next', []),
    {ok, 2} = py:call('__main__', 'counter.next', []),
    ?ERROR('TypeError', _) = py:call('__main__', add, []),
    ?ERROR('AttributeError', _) = py:call('__main__', subtract, [1]).

functions_that_exec_defined_see_later_changes(_Config) ->
    ok = py:exec(<<"x = 1\ndef f(): return x\ndef inc():\n    global x\n    x += 1\n">>),
    {ok, 1} = py:call('__main__', f, []),
    ok = py:exec(<<"x = 2">>),
    {ok, 2} = py:call('__main__', f, []),
    {ok, none} = py:call('__main__', inc, []),
    {ok, 3} = py:eval(<<"x">>),
    ok = py:exec(<<"def f(): return 'another'">>),
    {ok, <<"another">>} = py:call('__main__', f, []).

%% Of twenty processes at once, each sees its own x, whichever executor serves it.
a_namespace_belongs_to_one_process(_Config) ->
    ok = py:exec(<<"x = 'mine'\ndef f(): return x">>),
    Other = fun(N) ->
                    fun() ->
                            ?ERROR('NameError', _) = py:eval(<<"x">>),
                            ?ERROR('AttributeError', _) = py:call('__main__', f, []),
                            ok = py:exec(io_lib:format("x = ~b\ndef f(): return x + 1", [N])),
                            [begin
                                 {ok, N} = py:eval(<<"x">>),
                                 ok = py:exec(<<"x = x">>),
                                 {ok, M} = py:call('__main__', f, []),
                                 M = N + 1
                             end || _ <- lists:seq(1, 50)],
                            done
                    end
            end,
    Answers = py_test:at_once([Other(N) || N <- lists:seq(1, 20)]),
    Answers = lists:duplicate(20, done),
    {ok, <<"mine">>} = py:eval(<<"x">>),
    {ok, <<"mine">>} = py:call('__main__', f, []).

%% A temporary file is deleted when the object goes.
a_namespace_is_freed_with_its_process(_Config) ->
    Worker = py_test:worker(),
    ok = py_test:run(Worker, fun() -> py:exec(<<"import tempfile\n"
                                                "file = tempfile.NamedTemporaryFile()\n">>) end),
    {ok, Name} = py_test:run(Worker, fun() -> py:eval(<<"file.name">>) end),
    true = filelib:is_file(Name),
    py_test:end_worker(Worker),
    %% A free-threaded Python frees the objects of a thread when that thread runs next.
    Run = fun() -> py:eval(<<"(lambda: 1)()">>) end,
    py_test:wait_until(fun() ->
                               py_test:at_once(lists:duplicate(2 * py:num_executors(), Run)),
                               not filelib:is_file(Name)
                       end).

modules_are_shared_by_namespaces(_Config) ->
    ok = py_test:only_in_shared_modes(),
    ok = py:exec(<<"import types, sys\nsys.modules['shared_by_a_test'] = types.ModuleType('m')\n"
                   "import shared_by_a_test\nshared_by_a_test.x = 17\n">>),
    {ok, 17} = py_test:in_process(fun() ->
                                          ok = py:exec(<<"import shared_by_a_test as m">>),
                                          py:eval(<<"m.x">>)
                                  end).

%% eval, exec, globals and the like, when called, act on the caller's namespace.
builtins_run_in_the_namespace(_Config) ->
    ok = py:exec(<<"x = 41">>),
    {ok, 42} = py:call(builtins, eval, [<<"x + 1">>]),
    ?ERROR('NameError', _) = py:call(builtins, eval, [<<"args">>]),
    ?ERROR('NameError', _) = py:call(builtins, eval, [<<"function">>]),
    {ok, none} = py:call(builtins, exec, [<<"y = x + 2">>]),
    {ok, 43} = py:eval(<<"y">>).

an_assignment_expression_stays(_Config) ->
    {ok, 5} = py:eval(<<"(n := 5)">>),
    {ok, 5} = py:eval(<<"n">>),
    {ok, [1, 2, 3]} = py:eval(<<"[last := i for i in (1, 2, 3)]">>),
    {ok, 3} = py:eval(<<"last">>).

an_exception_keeps_what_was_done_before(_Config) ->
    ?ERROR('ZeroDivisionError', _) = py:exec(<<"x = 1\n1/0\nx = 2\n">>),
    {ok, 1} = py:eval(<<"x">>),
    ?ERROR('SyntaxError', _) = py:exec(<<"x = 3\n)\n">>),
    {ok, 1} = py:eval(<<"x">>).

%%% Source that is not what it should be

syntax_errors_are_errors(_Config) ->
    [?ERROR('SyntaxError', _) = py:eval(Code)
     || Code <- ["1 +", "(", ")", "a b", "'", "1 = 2", "yield 1", "await x", "return 1", "?", "0777"]],
    [?ERROR('SyntaxError', _) = py:exec(Code)
     || Code <- ["def f(:\n", "return 1", "x = = 1", "if True", "break", "nonlocal x"]],
    ?ERROR('IndentationError', _) = py:exec(<<"if True:\npass">>),
    ?ERROR('TabError', _) = py:exec(<<"if True:\n        x = 1\n\tx = 2\n">>),
    {ok, 2} = py:eval(<<"1+1">>).

a_NUL_byte_is_an_error(_Config) ->
    Expected = ['SyntaxError', 'ValueError'],     % the latter up to 3.11
    [begin
         ?ERROR(Type, Message) = Result,
         ?assert(lists:member(Type, Expected) orelse Type),
         ?assertMatch({_, _}, binary:match(Message, <<"null byte">>))
     end || Code <- [<<"1\0">>, <<"\0">>, <<"1+1\0+1">>, <<"'\0'">>, "1\0"],
            Result <- [py:eval(Code), py:exec(Code)]],
    {ok, 2} = py:eval(<<"1+1">>).

code_that_is_not_UTF8_is_an_error(_Config) ->
    [?ERROR('UnicodeDecodeError', _) = Result
     || Code <- [<<255>>, <<"'", 16#C3, "'">>, <<"1 # ", 16#ED, 16#A0, 16#80>>, <<16#FE, 16#FF, 0, $1>>],
        Result <- [py:eval(Code), py:exec(Code)]],
    [?ERROR(_, _) = py:eval(Code) || Code <- [[$1, $#, 16#D800], [<<"1 # ">>, <<255>>]]],
    %% The text is what Erlang says it is, whatever a declaration in it says.
    ok = py:exec(<<"# -*- coding: latin-1 -*-\nx = 'ö'\n"/utf8>>),
    {ok, <<"ö"/utf8>>} = py:eval(<<"x">>),
    {ok, 2} = py:eval(<<"1+1">>).

empty_code_is_nothing_to_exec_and_an_error_to_eval(_Config) ->
    [ok = py:exec(Code) || Code <- [<<>>, "", [[], <<>>], "\n"]],
    [?ERROR('SyntaxError', _) = py:eval(Code) || Code <- [<<>>, "", [[], <<>>], " ", "\n", "# x"]].

a_megabyte_of_source_runs(_Config) ->
    Line = <<"total += 1  # a line of a long program, which needs no cache for its code\n">>,
    Lines = 1000000 div byte_size(Line) + 1,
    Code = [<<"total = 0\n">>, binary:copy(Line, Lines)],
    [begin ok = py:exec(Code), {ok, Lines} = py:eval(<<"total">>) end || _ <- [1, 2]].

a_line_of_a_megabyte_runs(_Config) ->
    {ok, 1000000} = py:eval([<<"len('">>, binary:copy(<<"x">>, 1000000), <<"')">>]),
    {ok, 200000} = py:eval([<<"sum([">>, binary:copy(<<"1,">>, 200000), <<"])">>]).

too_deeply_nested_source_is_an_error(_Config) ->
    [begin
         {error, {Type, _}} = py:eval([binary:copy(Open, N), <<"1">>, binary:copy(Close, N)]),
         ?assert(lists:member(Type, ['SyntaxError', 'RecursionError', 'MemoryError']))
     end || {Open, Close} <- [{<<"(">>, <<")">>}, {<<"[">>, <<"]">>}], N <- [1000, 100000]],
    {error, {Unary, _}} = py:eval([binary:copy(<<"-">>, 100000), <<"1">>]),
    ?assert(lists:member(Unary, ['SyntaxError', 'RecursionError', 'MemoryError'])),
    {ok, 2} = py:eval(<<"1+1">>).

endless_recursion_is_a_RecursionError(_Config) ->
    ok = py:exec(<<"def f(n): return f(n + 1)">>),
    [?ERROR('RecursionError', _) = py:call('__main__', f, [0]) || _ <- lists:seq(1, 10)],
    ?ERROR('RecursionError', _) = py:eval(<<"f(0)">>),
    {ok, 2} = py:eval(<<"1+1">>).

%% Frames of C functions lie between those of Python, where the stack could overflow.
endless_recursion_through_C_is_a_RecursionError(_Config) ->
    ok = py:exec(<<"class R:\n"
                   "    def __repr__(self): return repr([self])\n"
                   "    def __eq__(self, other): return [self] == [other]\n"
                   "    def __getattr__(self, name): return getattr(self, name + 'x')\n"
                   "    def __call__(self): return max([1], key=lambda _: self())\n"
                   "r = R()\n">>),
    [?ERROR('RecursionError', _) = py:eval(Code) || Code <- ["repr(r)", "r == R()", "r.a", "r()"]],
    {ok, 2} = py:eval(<<"1+1">>).

warnings_do_not_become_answers(_Config) ->
    ok = py:exec(<<"import warnings\nwarnings.simplefilter('ignore')\n">>),
    {ok, true} = py:eval(<<"1 is 1">>),
    {ok, <<"\\d">>} = py:eval(<<"'\\d'">>).

%%% The cache

the_same_source_serves_eval_and_exec(_Config) ->
    [begin
         ok = py:exec(<<"(counted := globals().get('counted', 0) + 1)">>),
         {ok, N} = py:eval(<<"(counted := globals().get('counted', 0) + 1)">>),
         ok = py:exec(<<"x = 1">>),
         ?ERROR('SyntaxError', _) = py:eval(<<"x = 1">>)
     end || N <- [2, 4, 6]].

cached_code_sees_the_globals_of_its_caller(_Config) ->
    [begin
         ok = py:exec(["x = ", integer_to_list(N)]),
         {ok, N} = py:eval(<<"x">>),
         {ok, {N, N}} = py:eval(<<"(x, y)">>, #{y => N}),
         {ok, {a, N}} = py:eval(<<"(x, y)">>, #{x => a, y => N})
     end || N <- lists:seq(1, 50)],
    ?ERROR('NameError', _) = py_test:in_process(fun() -> py:eval(<<"x">>) end).

sources_that_differ_in_little_are_different(_Config) ->
    {ok, 1} = py:eval(<<"1">>),
    {ok, true} = py:eval(<<"True">>),
    {ok, 1.0} = py:eval(<<"1.0">>),
    {ok, <<"a">>} = py:eval(<<"'a'">>),
    {ok, <<"A">>} = py:eval(<<"'A'">>),
    {ok, <<"a ">>} = py:eval(<<"'a '">>),
    {ok, <<"é"/utf8>>} = py:eval("'é'"),
    {ok, <<"e", 769/utf8>>} = py:eval([$', $e, 769, $']).

%% More sources than are kept, again and again.
a_full_cache_is_not_noticed(_Config) ->
    [{ok, N} = py:eval(integer_to_list(N)) || _ <- [1, 2], N <- lists:seq(1, 3000)],
    [begin ok = py:exec(["x = ", integer_to_list(N)]), {ok, N} = py:eval(<<"x">>) end
     || N <- lists:seq(1, 1500)].

code_that_is_run_at_once_by_many_is_right(_Config) ->
    Work = fun(Me) ->
                   fun() ->
                           [begin
                                ok = py:exec(["x = ", integer_to_list(N)]),
                                {ok, {Me, N}} = py:eval(<<"(me, x)">>, #{me => Me}),
                                {ok, N} = py:eval([integer_to_list(N), " # cached or not"])
                            end || N <- lists:seq(1, 300)],
                           done
                   end
           end,
    Answers = py_test:at_once([Work(Me) || Me <- lists:seq(1, 8)]),
    Answers = lists:duplicate(8, done).

eval_can_time_out(_Config) ->
    ok = py:exec(<<"def loop():\n    while True: pass\n">>),
    {error, timeout} = py:eval(<<"loop()">>, #{}, 10),
    {error, timeout} = py:eval(<<"[x for x in iter(int, 1)]">>, #{}, 10),
    {ok, 2} = py:eval(<<"1+1">>, #{}, 60000),
    [] = py_test:messages().
