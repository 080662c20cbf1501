%% SPDX-License-Identifier: Apache-2.0
%%
%% Errors: the short shape, the full one with all that Python knows, and what py:apply
%% makes of it for who reads a stacktrace.  No exception, however broken, breaks the telling.
-module(py_error_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1, end_per_testcase/2]).
-export([errors_are_short_unless_asked_for/1,
         a_full_error_has_all_its_keys/1,
         every_kind_of_request_gives_full_errors/1,
         the_environment_sets_the_shape/1,
         the_environment_takes_no_other_shape/1,
         errors_that_are_no_exceptions_keep_their_shape/1]).
-export([the_traceback_names_file_line_function_and_code/1,
         the_traceback_begins_in_the_code_of_the_user/1,
         the_traceback_goes_through_callbacks/1,
         the_code_of_exec_and_eval_is_in_the_traceback/1,
         a_deep_traceback_is_bounded/1,
         the_cause_is_told/1,
         the_context_is_told/1,
         a_suppressed_context_is_not_told/1,
         a_long_chain_is_cut/1,
         a_chain_that_is_a_circle_is_cut/1,
         notes_are_told/1,
         groups_tell_their_exceptions/1,
         the_type_and_its_module_are_told/1,
         a_syntax_error_is_told/1]).
-export([an_exception_whose_text_fails_is_told/1,
         an_exception_with_broken_attributes_is_told/1,
         an_exception_with_broken_notes_is_told/1,
         messages_that_are_no_UTF8_are_told/1,
         a_long_message_is_told/1,
         names_make_no_atoms_without_bound/1,
         full_errors_leave_no_memory/1]).
-export([apply_gives_the_bare_value/1,
         apply_raises_what_Python_raised/1,
         apply_raises_other_errors/1,
         the_stacktrace_of_apply_has_the_frames_of_Python/1,
         the_stacktrace_of_apply_ends_in_that_of_Erlang/1,
         a_shell_prints_the_error_readably/1,
         format_error_tells_cause_and_notes/1,
         format_error_takes_any_reason/1]).

-export([make_names/0]).

-define(ERROR(Type, Message), {error, {Type, Message}}).
-define(FULL, {opts, #{errors => full}}).

suite() -> [{timetrap, {minutes, 5}}].

all() -> py_test:cases(?MODULE).

init_per_suite(Config) -> py_test:start(Config).

end_per_suite(Config) -> py_test:stop(Config).

end_per_testcase(_Case, _Config) ->
    py_test:restore(),
    _ = py:unregister_function(f),
    ok.

full(Code) ->
    {error, Error} = py:eval(Code, #{}, ?FULL),
    true = is_map(Error),
    Error.

%% f() raises what the statements raise.
raising(Statements) ->
    ok = py:exec(["def f():\n", [["    ", Line, "\n"] || Line <- string:split(Statements, "\n", all)]]),
    {error, Error} = py:call('__main__', f, [], ?FULL),
    true = is_map(Error),
    Error.

contains(Text, Part) ->
    ?assertMatch({_, _}, binary:match(unicode:characters_to_binary(Text), unicode:characters_to_binary(Part))).

contains_not(Text, Part) ->
    ?assertEqual(nomatch, binary:match(unicode:characters_to_binary(Text), unicode:characters_to_binary(Part))).

%%% The two shapes

errors_are_short_unless_asked_for(_Config) ->
    ?ERROR('ZeroDivisionError', <<"division by zero">>) = py:eval(<<"1 / 0">>),
    ?ERROR('ZeroDivisionError', <<"division by zero">>) = py:eval(<<"1 / 0">>, #{}, {opts, #{errors => short}}),
    ?ERROR('ValueError', _) = py:call(math, sqrt, [-1], {opts, #{}}),
    ?ERROR('ValueError', _) = py:eval(<<"1">>, #{}, {opts, #{errors => long}}).

a_full_error_has_all_its_keys(_Config) ->
    Error = full(<<"1 / 0">>),
    ?assertEqual([cause, context, message, module, notes, traceback, type], lists:sort(maps:keys(Error))),
    #{type := 'ZeroDivisionError', message := <<"division by zero">>, module := <<"builtins">>, cause := none,
      context := none, notes := [], traceback := [_ | _] = Frames} = Error,
    [begin
         ?assertEqual([code, file, function, line], lists:sort(maps:keys(Frame))),
         #{file := File, line := Line, function := Function, code := Code} = Frame,
         true = is_binary(File) andalso is_integer(Line) andalso is_binary(Function),
         true = is_binary(Code) orelse Code =:= none
     end || Frame <- Frames],
    ok.

every_kind_of_request_gives_full_errors(_Config) ->
    ok = py:exec(<<"class C:\n"
                   "    def m(self): raise KeyError('k')\n"
                   "    def __call__(self): raise KeyError('k')\n"
                   "def f(): raise KeyError('k')\n">>),
    H = py_test:handle("C()"),
    Ctx = py:context(1),
    Failed = [py:call('__main__', f, [], ?FULL), py:call('__main__', f, [], #{}, ?FULL),
              py:eval(<<"f()">>, #{}, ?FULL), py:call(operator, getitem, [#{}, <<"k">>], #{}, ?FULL),
              py:call(default, operator, getitem, [#{}, <<"k">>], #{}, ?FULL),
              py:call(io, operator, getitem, [#{}, <<"k">>], ?FULL),
              py:call(Ctx, operator, getitem, [#{}, <<"k">>], #{}, ?FULL),
              py:call_method(H, m, [], ?FULL), py:call_object(H, [], ?FULL)],
    [begin
         {error, #{type := 'KeyError', message := <<"'k'">>, module := <<"builtins">>}} = Error
     end || Error <- Failed],
    {error, #{type := 'ModuleNotFoundError'}} = py:call(no_such_module, f, [], ?FULL),
    {error, #{type := 'AttributeError'}} = py:call(math, no_such_function, [], ?FULL),
    {error, #{type := 'TypeError'}} = py:call(math, sqrt, [a, b], ?FULL),
    ok = py:stop_contexts().

the_environment_sets_the_shape(_Config) ->
    py_test:restart(#{errors => full}),
    {error, #{type := 'ValueError'}} = py:call(math, sqrt, [-1]),
    {error, #{type := 'ValueError'}} = py:exec(<<"raise ValueError('x')">>),
    {error, #{type := 'ValueError'}} = py:await(py:spawn_call(math, sqrt, [-1])),
    {ok, [{error, #{type := 'ValueError'}}]} = py:parallel([{math, sqrt, [-1]}]),
    ?ERROR('ValueError', _) = py:call(math, sqrt, [-1], {opts, #{errors => short}}),
    {error, timeout} = py:call(time, sleep, [5], #{}, 10),
    ok = py:register_function(f, fun([]) -> {error, Reason} = py:call(math, sqrt, [-1]), maps:get(type, Reason) end),
    {ok, 'ValueError'} = py:call(erlang, call, [f]),
    ?assertError({python, 'ValueError', _}, py:apply(math, sqrt, [-1])),
    py_test:restart(#{errors => short}),
    ?ERROR('ValueError', _) = py:call(math, sqrt, [-1]).

the_environment_takes_no_other_shape(_Config) ->
    ok = application:stop(erlang_python),
    [begin
         ok = application:set_env(erlang_python, errors, Value),
         {error, Reason} = application:start(erlang_python),
         contains(io_lib:format("~0tp", [Reason]), "errors takes short or full")
     end || Value <- [long, true, <<"full">>, 1]],
    ok = application:unset_env(erlang_python, errors),
    ok = application:start(erlang_python).

errors_that_are_no_exceptions_keep_their_shape(_Config) ->
    {error, timeout} = py:call(time, sleep, [5], {opts, #{errors => full, timeout => 10}}),
    {error, {conversion, _, [args, 1 | _]}} = py:call(builtins, repr, [#{1 => a, 1.0 => b}], ?FULL),
    {error, {conversion, _, [result]}} = py:eval(<<"'\\ud800'">>, #{}, ?FULL),
    ok = application:stop(erlang_python),
    {error, not_running} = py:call(math, sqrt, [16], ?FULL),
    ok = application:start(erlang_python).

%%% What a full error tells

the_traceback_names_file_line_function_and_code(Config) ->
    Dir = py_test:write_module(Config, error_trace,
                               "def outer(x):\n"
                               "    return [middle(y) for y in x]\n"
                               "\n"
                               "def middle(x):\n"
                               "    # größe\n"
                               "    return Inner().method(x)\n"
                               "\n"
                               "class Inner:\n"
                               "    def method(self, x):\n"
                               "        return 1 / x\n"),
    {error, #{traceback := Frames}} = py:call(error_trace, outer, [[1, 0]], ?FULL),
    File = unicode:characters_to_binary(filename:join(Dir, "error_trace.py")),
    [File] = lists:usort([F || #{file := F} <- Frames]),
    %% A comprehension has a frame of its own up to Python 3.11.
    Expected = [{2, <<"outer">>, <<"return [middle(y) for y in x]">>},
                {6, <<"middle">>, <<"return Inner().method(x)">>},
                {10, <<"method">>, <<"return 1 / x">>}],
    ?assertEqual(Expected, [{L, F, string:trim(C)} || #{line := L, function := F, code := C} <- Frames,
                                                      F =/= <<"<listcomp>">>]).

%% Neither in that of this library nor of the importing.
the_traceback_begins_in_the_code_of_the_user(Config) ->
    Dir = py_test:write_module(Config, error_import, "x = 1\nraise ValueError('while imported')\n"),
    File = unicode:characters_to_binary(filename:join(Dir, "error_import.py")),
    {error, #{type := 'ValueError', traceback := Imported}} = py:call(error_import, f, [], ?FULL),
    #{file := File, line := 2} = lists:last(Imported),
    [] = full_frames(py:call(math, sqrt, [-1], ?FULL)),
    Ours = fun(F) -> binary:match(F, <<"priv/python/erlang">>) =/= nomatch end,
    H = py_test:handle("object()"),
    [begin
         {error, #{traceback := Frames}} = Failed,
         ?assertEqual([], [F || #{file := F} <- Frames, Ours(F)])
     end || Failed <- [py:call(error_import, f, [], ?FULL), py:eval(<<"1 / 0">>, #{}, ?FULL),
                       py:call_method(H, no_such, [], ?FULL), py:getattr(H, no_such, ?FULL)]],
    ok.

full_frames({error, #{traceback := Frames}}) -> Frames.

the_traceback_goes_through_callbacks(_Config) ->
    ok = py:register_function(f, fun([]) -> error(in_erlang) end),
    ok = py:exec(<<"import erlang\ndef outer(): return erlang.call('f')\n">>),
    {error, #{type := 'Error', message := Message, traceback := [#{function := <<"outer">>} | _]}} =
        py:call('__main__', outer, [], ?FULL),
    contains(Message, "in_erlang").

the_code_of_exec_and_eval_is_in_the_traceback(_Config) ->
    ok = py:exec(<<"def f(x):\n    y = x\n    return g(y)\n\ndef g(x):\n    return 1 / x\n">>),
    #{traceback := Frames} = full(<<"f(0)">>),
    ?assertMatch([{1, <<"<module>">>}, {3, <<"f">>}, {6, <<"g">>}],
                 [{L, F} || #{line := L, function := F} <- Frames]),
    {error, #{type := 'ZeroDivisionError', traceback := [#{line := 3} | _]}} =
        in_full(fun() -> py:exec(<<"x = 1\n\ny = x / 0\n">>) end).

in_full(Fun) ->
    py_test:restart(#{errors => full}),
    Fun().

a_deep_traceback_is_bounded(_Config) ->
    ok = py:exec(<<"def deep(n): return deep(n + 1)\n">>),
    {Time, {error, #{type := 'RecursionError', traceback := Frames}}} =
        py_test:milliseconds(fun() -> py:call('__main__', deep, [0], ?FULL) end),
    ct:log("~b frames, ~.1f ms", [length(Frames), Time]),
    ?assert(length(Frames) >= 100 orelse length(Frames)),
    #{function := <<"deep">>} = hd(Frames),
    #{function := <<"deep">>} = lists:last(Frames).

the_cause_is_told(_Config) ->
    #{type := 'ValueError', message := <<"outer">>, cause := Cause, context := none} =
        raising("try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    raise ValueError('outer') from e"),
    #{type := 'ZeroDivisionError', message := <<"division by zero">>, cause := none, context := none, notes := [],
      module := <<"builtins">>, traceback := [#{function := <<"f">>, line := 3}]} = Cause,
    #{cause := #{type := 'KeyError', cause := #{type := 'OSError', cause := none}}} =
        raising("c = KeyError('x')\nc.__cause__ = OSError('y')\nraise ValueError from c").

the_context_is_told(_Config) ->
    #{type := 'ValueError', cause := none, context := #{type := 'ZeroDivisionError', message := <<"division by zero">>,
                                                        traceback := [_]}} =
        raising("try:\n    1 / 0\nexcept ZeroDivisionError:\n    raise ValueError('outer')").

a_suppressed_context_is_not_told(_Config) ->
    #{cause := none, context := none} =
        raising("try:\n    1 / 0\nexcept ZeroDivisionError:\n    raise ValueError('outer') from None").

chain_length(none, _) -> 0;
chain_length(Error, Key) -> 1 + chain_length(maps:get(Key, Error, none), Key).

a_long_chain_is_cut(_Config) ->
    [begin
         Error = raising(["e = None\nfor i in range(2000):\n    new = ValueError(i)\n    new.", Attribute,
                          " = e\n    e = new\nraise e"]),
         #{message := <<"1999">>} = Error,
         Length = chain_length(Error, Key),
         ct:log("~s: ~b", [Attribute, Length]),
         ?assert(Length >= 50 andalso Length =< 200 orelse Length)
     end || {Attribute, Key} <- [{"__cause__", cause}, {"__context__", context}]],
    ok.

a_chain_that_is_a_circle_is_cut(_Config) ->
    [begin
         #{message := <<"a">>} = Error =
             raising(["a = ValueError('a')\nb = KeyError('b')\na.", A, " = b\nb.", B, " = a\nraise a"]),
         ct:log("~0tp", [Error])
     end || A <- ["__cause__", "__context__"], B <- ["__cause__", "__context__"]],
    #{message := <<"a">>} = raising("a = ValueError('a')\na.__cause__ = a\nraise a").

notes_are_told(_Config) ->
    py_test:only_from_python({3, 11}),
    #{notes := [<<"first">>, <<"zwei: größe"/utf8>>]} =
        raising("e = ValueError('x')\ne.add_note('first')\ne.add_note('zwei: gr\\u00f6\\u00dfe')\nraise e").

groups_tell_their_exceptions(_Config) ->
    py_test:only_from_python({3, 11}),
    #{type := 'ExceptionGroup', message := Message, exceptions := [First, Second]} =
        raising("raise ExceptionGroup('several', [ValueError('one'), ExceptionGroup('inner', [KeyError('two')])])"),
    contains(Message, "several"),
    #{type := 'ValueError', message := <<"one">>} = First,
    false = maps:is_key(exceptions, First),
    #{type := 'ExceptionGroup', exceptions := [#{type := 'KeyError', message := <<"'two'">>}]} = Second,
    #{cause := #{exceptions := [#{type := 'OSError'}]}} =
        raising("raise ValueError from ExceptionGroup('g', [OSError()])"),
    %% As wide and as deep as memory allows in Python; here it ends.
    #{type := 'ExceptionGroup'} =
        raising("e = ValueError('x')\nfor i in range(500): e = ExceptionGroup('g', [e])\nraise e"),
    #{type := 'ExceptionGroup', exceptions := Many} =
        raising("raise ExceptionGroup('g', [ValueError(i) for i in range(10000)])"),
    ?assert(length(Many) >= 10),
    ?ERROR('ExceptionGroup', _) = py:eval(<<"(_ for _ in ()).throw(ExceptionGroup('g', [ValueError()]))">>).

the_type_and_its_module_are_told(Config) ->
    py_test:write_module(Config, error_types, "class Own(ValueError):\n    pass\n\ndef f(): raise Own('x')\n"),
    {error, #{type := 'Own', module := <<"error_types">>, message := <<"x">>}} = py:call(error_types, f, [], ?FULL),
    #{type := 'JSONDecodeError', module := <<"json.decoder">>} = full(<<"__import__('json').loads('{')">>),
    #{type := 'SystemExit', message := <<"3">>} = raising("import sys\nsys.exit(3)"),
    #{type := 'KeyboardInterrupt'} = raising("raise KeyboardInterrupt").

a_syntax_error_is_told(_Config) ->
    Error = full(<<"1 +">>),
    #{type := 'SyntaxError', message := Message, traceback := Frames} = Error,
    true = byte_size(Message) > 5 andalso is_list(Frames),
    #{type := 'IndentationError'} = raising("exec('if x:\\npass')").

%%% Broken exceptions

broken() ->
    <<"class NoText(Exception):\n    def __str__(self): raise ValueError('in __str__')\n"
      "class NotText(Exception):\n    def __str__(self): return 5\n"
      "class Exits(Exception):\n    def __str__(self): raise SystemExit\n"
      "class Deep(Exception):\n    def __str__(self): return str(self)\n">>.

an_exception_whose_text_fails_is_told(_Config) ->
    ok = py:exec(broken()),
    [begin
         Type = binary_to_atom(Name),
         ok = py:exec(["def f(): raise ", Name]),
         ?assertEqual(?ERROR(Type, <<"<str() of the exception failed>">>), py:call('__main__', f, [])),
         {error, #{type := Type, message := <<"<str() of the exception failed>">>, traceback := [#{function := <<"f">>}]}} =
             py:call('__main__', f, [], ?FULL)
     end || Name <- [<<"NoText">>, <<"NotText">>, <<"Exits">>, <<"Deep">>]],
    {ok, 4.0} = py:call(math, sqrt, [16]).

an_exception_with_broken_attributes_is_told(_Config) ->
    ok = py:exec(<<"
def fail(self): raise RuntimeError('broken')
class Meta(type):
    @property
    def __module__(cls): raise RuntimeError('broken')
Broken = Meta('Broken', (Exception,), {'__cause__': property(fail), '__context__': property(fail),
                                       '__notes__': property(fail), '__traceback__': property(fail),
                                       '__suppress_context__': property(fail), 'exceptions': property(fail)})
class Strange(Exception): pass
Strange.__module__ = 5
class Unnamed(Exception): pass
Unnamed.__name__ = ''
Unnamed.__qualname__ = ''
class Hashless(Exception):
    __hash__ = None
    def __eq__(self, other): raise RuntimeError('broken')
    def __bool__(self): raise RuntimeError('broken')
def f(E):
    try: raise E('x')
    except E as e: raise KeyError('outer') from e
">>),
    [begin
         {error, Error} = py:eval(["f(", Class, ")"], #{}, ?FULL),
         ?assertMatch(#{type := 'KeyError', cause := #{message := <<"x">>}}, Error),
         {error, Direct} = py:eval(["(_ for _ in ()).throw(", Class, "('x'))"], #{}, ?FULL),
         ?assertMatch(#{message := <<"x">>, type := Type, notes := []} when is_atom(Type), Direct)
     end || Class <- ["Broken", "Strange", "Unnamed", "Hashless"]],
    {ok, 4.0} = py:call(math, sqrt, [16]).

an_exception_with_broken_notes_is_told(_Config) ->
    [begin
         Error = raising(["e = ValueError('x')\ne.__notes__ = ", Notes, "\nraise e"]),
         #{type := 'ValueError', message := <<"x">>, notes := Told} = Error,
         [true = is_binary(Note) || Note <- Told]
     end || Notes <- ["5", "None", "'text'", "['a', 5, object()]", "['\\ud800']", "{'a': 1}", "('a', 'b')"]],
    ok.

messages_that_are_no_UTF8_are_told(_Config) ->
    ?ERROR('ValueError', Short) = py:eval(<<"(_ for _ in ()).throw(ValueError('a\\ud800b'))">>),
    #{message := Short} = full(<<"(_ for _ in ()).throw(ValueError('a\\ud800b'))">>),
    contains(Short, "a"),
    contains(Short, "b"),
    #{message := <<"a", 0, "b">>} = full(<<"(_ for _ in ()).throw(ValueError('a\\0b'))">>),
    %% A frame can have such a name too, and a file.
    ok = py:exec(<<"code = compile('def g():\\n    raise ValueError(\\'x\\')\\n', 'no\\udcff.py', 'exec')\nexec(code)\n"
                   "g.__code__ = g.__code__.replace(co_name='na\\udcffme')\n">>),
    #{traceback := Frames} = full(<<"g()">>),
    #{file := File, function := Function} = lists:last(Frames),
    true = is_binary(File) andalso is_binary(Function).

a_long_message_is_told(_Config) ->
    #{type := 'ValueError', message := Message} = full(<<"(_ for _ in ()).throw(ValueError('x' * 10000000))">>),
    ?assert(byte_size(Message) >= 1000).

%% Types and functions become atoms, which are never freed.  In a node of its own, as
%% afterwards there is none left for others.
names_make_no_atoms_without_bound(_Config) ->
    {0, Output, _} = py_test:node("py_error_SUITE:make_names(), halt(0)."),
    {match, [Made]} = re:run(Output, "made ([0-9]+) atoms", [{capture, all_but_first, list}]),
    ct:log("~s atoms", [Made]),
    ?assert(list_to_integer(Made) < 70000 orelse Made).

%% 70,000 and more, if there were no bound.
make_names() ->
    {ok, _} = application:ensure_all_started(erlang_python),
    ok = py:exec(<<"def f(i): raise type('Own%d' % i, (ValueError,), {})('x')\n"
                   "def g(i): exec(compile('def h%d(): 1 / 0\\nh%d()' % (i, i), 'm%d.py' % i, 'exec'), {})\n">>),
    Before = erlang:system_info(atom_count),
    [{error, {_, <<"x">>}} = py:call('__main__', f, [I]) || I <- lists:seq(1, 35000)],
    [{error, {python, 'ZeroDivisionError', _}, [_ | _]} = raised(fun() -> py:apply('__main__', g, [I]) end)
     || I <- lists:seq(1, 20000)],
    io:format("made ~b atoms", [erlang:system_info(atom_count) - Before]),
    {error, {Short, <<"x">>}} = py:call('__main__', f, [0]),
    {error, #{message := <<"x">>, type := Full}} = py:call('__main__', f, [0], ?FULL),
    true = is_atom(Short) andalso is_atom(Full).

full_errors_leave_no_memory(_Config) ->
    ok = py:exec(<<"def f(n):\n"
                   "    data = bytes(10000)\n"
                   "    if n: f(n - 1)\n"
                   "    try: 1 / 0\n"
                   "    except ZeroDivisionError as e: raise ValueError('x' * 1000) from e\n">>),
    Round = fun() ->
                    [{error, #{cause := #{}}} = py:call('__main__', f, [10], ?FULL) || _ <- lists:seq(1, 500)],
                    erlang:garbage_collect(),
                    {ok, _} = py:gc()
            end,
    [Round() || _ <- [1, 2]],
    %% 200 MB would be the frames.
    py_test:grows_less(20 bsl 20, fun() -> [Round() || _ <- [1, 2, 3, 4]] end).

%%% apply

apply_gives_the_bare_value(_Config) ->
    4.0 = py:apply(math, sqrt, [16]),
    [3, 2, 1] = py:apply(builtins, sorted, [[1, 2, 3]], #{reverse => true}),
    ok = py:exec(<<"def same(x): return x\n">>),
    [Value = py:apply('__main__', same, [Value]) || Value <- [{error, x}, {ok, 1}, error, none, []]].

raised(Fun) ->
    try Fun() of
        Value -> error({no_exception, Value})
    catch Class:Reason:Stack -> {Class, Reason, Stack}
    end.

apply_raises_what_Python_raised(_Config) ->
    {error, {python, 'ZeroDivisionError', Message}, [_ | _]} = raised(fun() -> py:apply(operator, truediv, [1, 0]) end),
    contains(Message, "division"),
    {error, {python, 'ModuleNotFoundError', _}, _} = raised(fun() -> py:apply(no_such_module, f, []) end),
    {error, {python, 'TypeError', _}, _} = raised(fun() -> py:apply(builtins, len, [], #{x => 1}) end).

apply_raises_other_errors(_Config) ->
    {error, {python, {conversion, _, [args, 1 | _]}}, _} = raised(fun() -> py:apply(builtins, len, [#{1 => a, 1.0 => b}]) end),
    ok = application:stop(erlang_python),
    {error, {python, not_running}, _} = raised(fun() -> py:apply(math, sqrt, [16]) end),
    ok = application:start(erlang_python).

%% Innermost first, as Erlang has it.
the_stacktrace_of_apply_has_the_frames_of_Python(Config) ->
    Dir = py_test:write_module(Config, error_apply,
                               "def outer(x):\n"
                               "    return inner(x)\n"
                               "\n"
                               "def inner(x):\n"
                               "    raise KeyError(x)\n"),
    File = filename:join(Dir, "error_apply.py"),
    {error, {python, 'KeyError', <<"5">>}, Stack} = raised(fun() -> py:apply(error_apply, outer, [5]) end),
    [{_, inner, Arity, Info1}, {_, outer, _, Info2} | Erlang] = Stack,
    true = is_integer(Arity) orelse is_list(Arity),
    ?assertEqual({File, 5}, {unicode:characters_to_list(proplists:get_value(file, Info1)), proplists:get_value(line, Info1)}),
    ?assertEqual({File, 2}, {unicode:characters_to_list(proplists:get_value(file, Info2)), proplists:get_value(line, Info2)}),
    #{module := py} = proplists:get_value(error_info, Info1),
    undefined = proplists:get_value(error_info, Info2),
    [true = is_atom(M) andalso is_atom(F) || {M, F, _, _} <- Stack],
    true = length(Erlang) > 0.

the_stacktrace_of_apply_ends_in_that_of_Erlang(_Config) ->
    ok = py:exec(<<"def f(): raise KeyError(1)\n">>),
    {error, _, [_ | Erlang]} = raised(fun() -> caller_of_apply('__main__', f) end),
    ?assertMatch([_ | _], [F || {?MODULE, caller_of_apply, _, _} = F <- Erlang]).

caller_of_apply(M, F) ->
    {applied, py:apply(M, F, [])}.

%% As the shell and the crash reports of OTP do it.
printed(Fun) ->
    {Class, Reason, Stack} = raised(Fun),
    unicode:characters_to_binary(erl_error:format_exception(Class, Reason, Stack, #{column => 1})).

a_shell_prints_the_error_readably(Config) ->
    Dir = py_test:write_module(Config, error_shell, "def f(x):\n    größe = 1 / x\n    return größe\n"),
    Text = printed(fun() -> py:apply(error_shell, f, [0]) end),
    ct:log("~ts", [Text]),
    contains(Text, "ZeroDivisionError"),
    contains(Text, "division by zero"),
    contains(Text, filename:join(Dir, "error_shell.py")),
    %% As this release writes it.
    ?assertMatch({match, _}, re:run(Text, "error_shell\\.py(, line |:)2")),
    contains(Text, "größe = 1 / x"),
    %% No list of numbers where text was meant.
    contains_not(Text, "<<"),
    contains_not(Text, ",32,").

format_error_tells_cause_and_notes(_Config) ->
    ok = py:exec(<<"def f():\n"
                   "    try: {}['inner key']\n"
                   "    except KeyError as e:\n"
                   "        new = ValueError('outer text')\n"
                   "        if hasattr(new, 'add_note'): new.add_note('a note of it')\n"
                   "        raise new from e\n">>),
    Text = printed(fun() -> py:apply('__main__', f, []) end),
    ct:log("~ts", [Text]),
    contains(Text, "outer text"),
    contains(Text, "KeyError"),
    contains(Text, "inner key"),
    py_test:only_from_python({3, 11}),
    contains(Text, "a note of it").

%% It is called by whoever prints, and must not fail there.
format_error_takes_any_reason(_Config) ->
    Stacks = [[], [{m, f, 0, []}], [{m, f, [1, 2], [{error_info, #{module => py}}]}],
              [{m, f, 0, [{error_info, #{module => py, cause => [<<"f(x)">>, <<"a\nnote">>]}}]}],
              [{py, apply, 3, [{error_info, #{module => py}}, {file, "x"}, {line, 1}]}]],
    [begin
         Map = py:format_error(Reason, Stack),
         true = is_map(Map),
         [begin
              true = is_atom(Key) orelse is_integer(Key),
              %% Elixir's logger drops the report of a crash where it is other chardata.
              true = is_binary(Text),
              Text = unicode:characters_to_binary(Text)
          end || {Key, Text} <- maps:to_list(Map)]
     end || Reason <- [badarg, {python, 'ValueError', <<"x">>}, {python, timeout}, {python, 'ValueError', <<255>>},
                       {python, {conversion, <<"what">>, [args, 1]}}, {other, "thing"}, 1], Stack <- Stacks],
    ok.
