%% SPDX-License-Identifier: Apache-2.0
%%
%% py:call/3,4,5: what is found and called, which errors come back, and what a timeout does.
-module(py_call_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1, end_per_testcase/2]).
-export([functions_of_builtins_and_of_the_standard_library_are_called/1,
         functions_may_be_dotted/1,
         modules_may_be_dotted/1,
         names_are_atoms_binaries_or_strings/1,
         keyword_arguments_reach_the_function/1,
         a_keyword_given_twice_is_an_error/1,
         many_arguments_reach_the_function/1,
         a_new_module_is_found_by_sys_path/1,
         a_rebound_attribute_is_seen_at_once/1,
         a_replaced_module_is_seen_at_once/1,
         a_module_under_import_is_not_seen_half_executed/1,
         an_import_that_fails_can_be_tried_again/1]).
-export([an_unknown_module_is_ModuleNotFoundError/1,
         an_unknown_function_is_AttributeError/1,
         what_is_not_callable_is_a_TypeError/1,
         names_that_are_no_names_are_errors/1,
         a_module_name_of_10000_characters_is_an_error/1]).
-export([executors_block_no_signal/1]).
-export([exceptions_are_type_and_message/1,
         exceptions_have_the_name_of_their_class/1,
         exceptions_outside_Exception_do_not_end_the_node/1,
         a_class_name_that_is_no_atom_is_told_by_its_base/1,
         str_of_an_exception_may_fail/1,
         messages_with_lone_surrogates_are_escaped/1,
         a_huge_message_comes_whole/1]).
-export([a_timeout_in_a_C_call_answers_in_time/1,
         a_timeout_ends_a_loop_in_Python/1,
         a_timeout_of_one_process_does_not_touch_another/1,
         a_timeout_passes_except_Exception/1,
         a_timeout_of_0_is_allowed/1,
         a_call_that_timed_out_in_the_queue_does_not_run/1,
         timeouts_outside_the_range_are_errors/1,
         the_largest_timeout_is_accepted/1,
         ten_thousand_calls_after_late_interrupts_are_unhurt/1,
         nothing_is_left_in_the_mailbox/1,
         messages_of_others_stay_in_the_mailbox/1,
         arguments_of_the_wrong_type_are_errors/1,
         an_improper_list_of_arguments_is_an_error/1]).
-export([nothing_runs_before_the_start_and_after_the_stop/1]).

-define(ERROR(Type, Message), {error, {Type, Message}}).

suite() -> [{timetrap, {minutes, 5}}].

all() -> py_test:cases(?MODULE).

init_per_suite(Config) -> py_test:start(Config).

end_per_suite(Config) -> py_test:stop(Config).

end_per_testcase(_Case, _Config) -> py_test:restore().

%%% What is called

functions_of_builtins_and_of_the_standard_library_are_called(_Config) ->
    {ok, 4.0} = py:call(math, sqrt, [16]),
    {ok, 3} = py:call(builtins, len, [[a, b, c]]),
    {ok, <<"0x1f">>} = py:call(builtins, hex, [31]),
    {ok, #{<<"a">> := [1, 2.5, none, true]}} =
        py:call(json, loads, [<<"{\"a\": [1, 2.5, null, true]}">>]),
    {ok, <<"900150983cd24fb0d6963f7d28e17f72">>} =
        py:call(binascii, hexlify, [md5(<<"abc">>)]),
    {ok, [1, 2, 3]} = py:call(builtins, sorted, [[3, 1, 2]]).

md5(Binary) ->
    {bytes, erlang:md5(Binary)}.

functions_may_be_dotted(_Config) ->
    {ok, <<"a/b">>} = py:call(os, 'path.join', [<<"a">>, <<"b">>]),
    {ok, <<"ABC">>} = py:call(builtins, 'str.upper', [<<"abc">>]),
    {ok, 5} = py:call(<<"datetime">>, <<"date.max.month.__rsub__">>, [17]),  % 17 - 12
    {ok, #{<<"a">> := 0}} = py:call("collections", "OrderedDict.fromkeys", [[<<"a">>], 0]),
    ?ERROR('AttributeError', _) = py:call(os, 'path.nothing_of_the_kind', []),
    ?ERROR('AttributeError', _) = py:call(os, 'nothing.join', []).

modules_may_be_dotted(_Config) ->
    {ok, <<"a/b">>} = py:call('os.path', join, [<<"a">>, <<"b">>]),
    {ok, <<"a%20b">>} = py:call('urllib.parse', quote, [<<"a b">>]),
    {ok, <<"a%20b">>} = py:call(<<"urllib.parse">>, quote, [<<"a b">>]),
    ?ERROR('ModuleNotFoundError', _) = py:call('urllib.nothing', quote, []).

names_are_atoms_binaries_or_strings(_Config) ->
    [{ok, 4.0} = py:call(Module, Function, [16])
     || Module <- [math, <<"math">>, "math"], Function <- [sqrt, <<"sqrt">>, "sqrt"]],
    ok = py:exec(<<"def f(): return 'mine'">>),
    [{ok, <<"mine">>} = py:call(Module, Function, [])
     || Module <- ['__main__', <<"__main__">>, "__main__"], Function <- [f, <<"f">>, "f"]],
    ok = py:exec(<<"def größe(): return 'maß'"/utf8>>),
    {ok, <<"maß"/utf8>>} = py:call('__main__', <<"größe"/utf8>>, []),
    {ok, <<"maß"/utf8>>} = py:call('__main__', "größe", []),
    {ok, <<"maß"/utf8>>} = py:call('__main__', 'größe', []),
    %% That they are found as builtins must not depend on how they are named.
    ok = py:exec(<<"x = 41">>),
    [{ok, 42} = py:call(Module, eval, [<<"x + 1">>])
     || Module <- [builtins, <<"builtins">>, "builtins"]].

keyword_arguments_reach_the_function(_Config) ->
    {ok, 255} = py:call(builtins, int, [<<"ff">>], #{base => 16}),
    {ok, 255} = py:call(builtins, int, [<<"ff">>], #{<<"base">> => 16}),
    {ok, 255} = py:call(builtins, int, [<<"ff">>], #{"base" => 16}),
    {ok, 255} = py:call(builtins, int, [<<"ff">>], #{base => 16}, 60000),
    {ok, [3, 2, 1]} = py:call(builtins, sorted, [[1, 3, 2]], #{reverse => true}),
    ok = py:exec(<<"def f(a, *b, c=3, **d): return (a, b, c, d)">>),
    {ok, {1, {}, 3, #{}}} = py:call('__main__', f, [1], #{}),
    {ok, {1, {2}, 4, #{<<"größe"/utf8>> := 5}}} =
        py:call('__main__', f, [1, 2], #{c => 4, 'größe' => 5}),
    {ok, {1, {}, 3, #{}}} = py:call('__main__', f, [], #{a => 1}),
    ?ERROR('TypeError', _) = py:call('__main__', f, [], #{c => 4}),
    ?ERROR('TypeError', _) = py:call(math, sqrt, [16], #{no_such_keyword => 1}),
    {error, {conversion, _, [kwargs, {key, 1}]}} = py:call('__main__', f, [1], #{1 => 2}).

%% Neither of the two is dropped in silence.
a_keyword_given_twice_is_an_error(_Config) ->
    ok = py:exec(<<"def f(a=0, **d): return (a, d)">>),
    ?ERROR('TypeError', _) = py:call('__main__', f, [1], #{a => 2}),
    {error, _} = py:call('__main__', f, [], #{a => 1, <<"a">> => 2}),
    {error, _} = py:call('__main__', f, [], #{b => 1, <<"b">> => 2}),
    {error, _} = py:call('__main__', f, [], #{b => 1, "b" => 2}),
    {error, _} = py:call('__main__', f, [], #{<<"b">> => 1, "b" => 2}),
    {error, _} = py:call(builtins, dict, [], #{b => 1, <<"b">> => 2}).

many_arguments_reach_the_function(_Config) ->
    ok = py:exec(<<"def f(*a, **k): return (len(a), sum(a), len(k), sum(k.values()))">>),
    [begin
         Args = lists:seq(1, N),
         Kwargs = maps:from_list([{list_to_binary([$k | integer_to_list(I)]), I} || I <- Args]),
         Sum = N * (N + 1) div 2,
         {ok, {N, Sum, 0, 0}} = py:call('__main__', f, Args),
         {ok, {0, 0, N, Sum}} = py:call('__main__', f, [], Kwargs),
         {ok, {N, Sum, N, Sum}} = py:call('__main__', f, Args, Kwargs)
     end || N <- [1, 3, 4, 5, 7, 8, 9, 100, 5000]].

a_new_module_is_found_by_sys_path(Config) ->
    ?ERROR('ModuleNotFoundError', <<"No module named 'made_by_a_test'">>) =
        py:call(made_by_a_test, answer, []),
    py_test:write_module(Config, made_by_a_test, "def answer(): return 42\n"),
    {ok, 42} = py:call(made_by_a_test, answer, []),
    {ok, 42} = py:call("made_by_a_test", answer, []).

a_rebound_attribute_is_seen_at_once(Config) ->
    py_test:write_module(Config, to_be_rebound, "def answer(): return 1\n"),
    {ok, 1} = py:call(to_be_rebound, answer, []),
    ok = py:exec(<<"import to_be_rebound">>),
    [begin
         ok = py:exec(io_lib:format("to_be_rebound.answer = lambda: ~b", [N])),
         {ok, N} = py:call(to_be_rebound, answer, [])
     end || N <- lists:seq(2, 20)],
    ok = py:exec(<<"del to_be_rebound.answer">>),
    ?ERROR('AttributeError', _) = py:call(to_be_rebound, answer, []).

a_replaced_module_is_seen_at_once(Config) ->
    Source = "def answer(): return ~b\n",
    py_test:write_module(Config, to_be_replaced, io_lib:format(Source, [1])),
    {ok, 1} = py:call(to_be_replaced, answer, []),
    ok = py:exec(<<"import sys, types\n"
                   "m = types.ModuleType('to_be_replaced')\n"
                   "m.answer = lambda: 2\n"
                   "sys.modules['to_be_replaced'] = m\n">>),
    {ok, 2} = py:call(to_be_replaced, answer, []),
    ok = py:exec(<<"del sys.modules['to_be_replaced']">>),
    {ok, 1} = py:call(to_be_replaced, answer, []),
    ok = py:exec(<<"sys.modules['to_be_replaced'] = None">>),
    ?ERROR('ModuleNotFoundError', _) = py:call(to_be_replaced, answer, []),
    ok = py:exec(<<"del sys.modules['to_be_replaced']">>),
    {ok, 1} = py:call(to_be_replaced, answer, []).

%% The module is in sys.modules from the first line of its code on.  It waits in the middle,
%% in a callback, while another process calls a function that is there already.
a_module_under_import_is_not_seen_half_executed(Config) ->
    Test = self(),
    ok = py:register_function(half_way, fun([]) ->
                                                Test ! {half_way, self()},
                                                receive go_on -> ok end
                                        end),
    Source = "import erlang\n"
             "state = 'half'\n"
             "def answer(): return state\n"
             "erlang.call('half_way')\n"
             "state = 'whole'\n",
    [First, Second] = Workers = [py_test:worker(), py_test:worker()],
    Call = fun() -> py:call(imported_slowly, answer, []) end,
    [py_test:run(W, fun() -> py_test:write_module(Config, imported_slowly, Source) end)
     || W <- Workers],
    py_test:start(First, Call),
    receive {half_way, Pid} when Pid =:= element(1, First) -> ok end,
    py_test:start(Second, Call),
    %% The second one either waits, or imports the module into an interpreter of its own.
    receive {answer, _, Early} -> error({early, Early}) after 50 -> ok end,
    [element(1, W) ! go_on || W <- Workers],
    [{ok, <<"whole">>} = py_test:answer(W) || W <- Workers],
    [py_test:end_worker(W) || W <- Workers],
    receive {half_way, _} -> ok after 0 -> ok end,
    ok = py:unregister_function(half_way).

an_import_that_fails_can_be_tried_again(Config) ->
    py_test:write_module(Config, fails_first, "raise LookupError('not yet')\n"),
    [?ERROR('LookupError', <<"not yet">>) = py:call(fails_first, answer, []) || _ <- [1, 2, 3]],
    py_test:write_module(Config, fails_first, "def answer(): return 'this time it works'\n"),
    {ok, <<"this time it works">>} = py:call(fails_first, answer, []),
    py_test:write_module(Config, broken_syntax, "def answer(:\n"),
    ?ERROR('SyntaxError', _) = py:call(broken_syntax, answer, []).

%%% What cannot be called

an_unknown_module_is_ModuleNotFoundError(_Config) ->
    ?ERROR('ModuleNotFoundError', <<"No module named 'no_such_module'">>) =
        py:call(no_such_module, f, []),
    ?ERROR('ModuleNotFoundError', <<"No module named 'no_such_module'">>) =
        py:call(<<"no_such_module">>, f, []),
    ?ERROR('ModuleNotFoundError', <<"No module named 'żółć'"/utf8>>) = py:call("żółć", f, []).

an_unknown_function_is_AttributeError(_Config) ->
    ?ERROR('AttributeError', <<"module 'math' has no attribute 'no_such_function'">>) =
        py:call(math, no_such_function, []),
    ?ERROR('AttributeError', Message) = py:call('__main__', no_such_function, []),
    ?assertMatch({_, _}, binary:match(Message, <<"no_such_function">>)).

what_is_not_callable_is_a_TypeError(_Config) ->
    ?ERROR('TypeError', <<"'float' object is not callable">>) = py:call(math, pi, []),
    ?ERROR('TypeError', <<"'module' object is not callable">>) = py:call(os, path, []).

names_that_are_no_names_are_errors(_Config) ->
    Names = ['', <<>>, "", '.', <<"..">>, "math.", '.math', 'a..b', <<"ma\0th">>, 'ma\nth', " math",
             <<"math.sqrt">>, "/etc/passwd", <<"../math">>],
    [begin
         {error, {Type, Message}} = py:call(Name, sqrt, [16]),
         ?assert(is_atom(Type)),
         ?assert(is_binary(Message))
     end || Name <- Names],
    [?ERROR('AttributeError', _) = py:call(math, Name, [16])
     || Name <- ['', <<>>, "", '.', <<"..">>, "sqrt.", '.sqrt', <<"sq\0rt">>, " sqrt"]],
    ?ERROR('UnicodeDecodeError', _) = py:call(<<"math", 255>>, sqrt, [16]),
    ?ERROR('UnicodeDecodeError', _) = py:call(math, <<"sqrt", 255>>, [16]),
    {ok, 4.0} = py:call(math, sqrt, [16]).

a_module_name_of_10000_characters_is_an_error(_Config) ->
    Long = binary:copy(<<"m">>, 10000),
    [?ERROR('ModuleNotFoundError', _) = py:call(Name, f, [])
     || Name <- [Long, binary_to_list(Long), binary:copy(<<"ż"/utf8>>, 10000)]],
    %% 5000 packages, one in the other.
    {error, {_, _}} = py:call(binary:copy(<<"m.">>, 5000), f, []),
    ?ERROR('AttributeError', _) = py:call(math, Long, []),
    {ok, 4.0} = py:call(math, sqrt, [16]).

%%% Exceptions

exceptions_are_type_and_message(_Config) ->
    ?ERROR('ZeroDivisionError', <<"division by zero">>) = py:eval(<<"1/0">>),
    ?ERROR('ValueError', <<"math domain error">>) = sqrt_error(),
    ?ERROR('KeyError', <<"'nothing'">>) = py:eval(<<"{}['nothing']">>),
    ?ERROR('IndexError', <<"list index out of range">>) = py:eval(<<"[][0]">>),
    ?ERROR('TypeError', <<"unsupported operand type(s) for +: 'int' and 'str'">>) =
        py:eval(<<"1 + ''">>),
    ?ERROR('NameError', <<"name 'nothing' is not defined">>) = py:eval(<<"nothing">>),
    ?ERROR('StopIteration', <<"7">>) = raised("StopIteration(7)"),
    ?ERROR('StopAsyncIteration', <<>>) = raised("StopAsyncIteration"),
    ?ERROR('AssertionError', <<"no">>) = py:exec(<<"assert False, 'no'">>),
    ?ERROR('OverflowError', _) = py:call(math, exp, [100000]),
    ?ERROR('FileNotFoundError', <<"[Errno 2] No such file or directory: '/no/such/file'">>) =
        py:call(builtins, open, [<<"/no/such/file">>]),
    ?ERROR('UnicodeDecodeError', _) = py:eval(<<"b'\\xff'.decode()">>),
    ?ERROR('MemoryError', _) = raised("MemoryError()"),
    ?ERROR('RecursionError', _) = raised("RecursionError('deep')"),
    ?ERROR('NotImplementedError', <<>>) = raised("NotImplementedError"),
    ?ERROR('ValueError', <<"('a', 1)">>) = raised("ValueError('a', 1)"),
    ?ERROR('ValueError', <<"größer als π"/utf8>>) = raised("ValueError('größer als π')"),
    ?ERROR('ValueError', <<"a\0b">>) = raised("ValueError('a\\0b')").

sqrt_error() ->
    %% The words changed in 3.14.
    case py:call(math, sqrt, [-1]) of
        ?ERROR('ValueError', <<"expected a nonnegative input", _/binary>>) ->
            ?ERROR('ValueError', <<"math domain error">>);
        Other ->
            Other
    end.

raised(What) ->
    py:exec(["raise ", What]).

exceptions_have_the_name_of_their_class(_Config) ->
    ok = py:exec(<<"class MyError(Exception): pass\n"
                   "class Outer:\n"
                   "    class Inner(MyError): pass\n"
                   "class Größer(Exception): pass\n"/utf8>>),
    ?ERROR('MyError', <<"mine">>) = raised("MyError('mine')"),
    ?ERROR('Inner', <<>>) = raised("Outer.Inner()"),
    ?ERROR('Größer', <<>>) = raised("Größer()"),
    ?ERROR('JSONDecodeError', _) = py:call(json, loads, [<<"{">>]),
    ?ERROR(error, _) = py:call(struct, pack, [<<"b">>, 1000]).

exceptions_outside_Exception_do_not_end_the_node(_Config) ->
    ?ERROR('SystemExit', <<"3">>) = py:call(sys, exit, [3]),
    ?ERROR('SystemExit', <<>>) = raised("SystemExit"),
    ?ERROR('KeyboardInterrupt', <<"stop">>) = raised("KeyboardInterrupt('stop')"),
    ?ERROR('GeneratorExit', <<>>) = raised("GeneratorExit"),
    ?ERROR('BaseException', <<"base">>) = raised("BaseException('base')"),
    ?ERROR('SystemExit', <<"in a module">>) = py:eval(<<"exit('in a module')">>),
    {ok, 4.0} = py:call(math, sqrt, [16]).

%% No atom has more than 255 characters.
a_class_name_that_is_no_atom_is_told_by_its_base(_Config) ->
    ok = py:exec(<<"Long = type('L' * 256, (LookupError,), {})\n"
                   "Fits = type('L' * 255, (LookupError,), {})\n">>),
    Fits = list_to_atom(lists:duplicate(255, $L)),
    ?ERROR('LookupError', <<"x">>) = raised("Long('x')"),
    ?ERROR(Fits, <<"x">>) = raised("Fits('x')").

str_of_an_exception_may_fail(_Config) ->
    ok = py:exec(<<"class Mute(Exception):\n"
                   "    def __str__(self): raise ValueError('no words')\n"
                   "class Odd(Exception):\n"
                   "    def __str__(self): return 42\n"
                   "class Exits(Exception):\n"
                   "    def __str__(self): raise SystemExit\n">>),
    [begin
         ?ERROR(Type, Message) = raised([atom_to_list(Type), "()"]),
         ?assert(is_binary(Message))
     end || Type <- ['Mute', 'Odd', 'Exits']],
    {ok, 4.0} = py:call(math, sqrt, [16]).

messages_with_lone_surrogates_are_escaped(_Config) ->
    ?ERROR('ValueError', <<"a\\udcffb">>) = raised("ValueError('a\\udcffb')"),
    ?ERROR('ValueError', <<"\\ud800">>) = raised("ValueError('\\ud800')").

a_huge_message_comes_whole(_Config) ->
    ?ERROR('ValueError', Message) = raised("ValueError('x' * 10_000_000)"),
    10000000 = byte_size(Message).

%%% Timeouts

%% The C call never ends by itself, so an answer in time is due to the timeout alone.
a_timeout_in_a_C_call_answers_in_time(Config) ->
    Fifo = py_test:block(Config),
    py_test:within(120, 20, fun() ->
                                    {Time, Result} =
                                        py_test:milliseconds(fun() -> py:call(os, open, [Fifo, 0], #{}, 20) end),
                                    {error, timeout} = Result,
                                    ?assert(Time >= 20 orelse Time),
                                    py_test:let_all_go(Fifo),
                                    Time
                            end),
    {ok, 4.0} = py:call(math, sqrt, [16]),
    [] = py_test:messages().

%% Python 3.11 misses the handler of a loop that is the first statement in a try: n = 0.
a_timeout_ends_a_loop_in_Python(_Config) ->
    ok = py:exec(<<"begun, ended = [], []\n"
                   "def loop():\n"
                   "    try:\n"
                   "        begun.append(1)\n"
                   "        n = 0\n"
                   "        while True: n += 1\n"
                   "    finally:\n"
                   "        if begun: ended.append(begun.pop())\n">>),
    Ends = fun(Call) ->
                   py_test:timed_out(Call, fun() -> {ok, 0} =/= py:eval(<<"len(begun) + len(ended)">>) end),
                   py_test:wait_until(fun() -> {ok, [0, true]} =:= py:eval(<<"[len(begun), len(ended) > 0]">>) end),
                   ok = py:exec(<<"ended.clear()">>)
           end,
    [Ends(fun(T) -> py:call('__main__', loop, [], #{}, T) end) || _ <- lists:seq(1, 5)],
    Ends(fun(T) -> py:eval(<<"loop()">>, #{}, T) end),
    [{ok, 4.0} = py:call(math, sqrt, [16]) || _ <- lists:seq(1, 1000)],
    [] = py_test:messages().

a_timeout_of_one_process_does_not_touch_another(_Config) ->
    Loop = fun() ->
                   ok = py:exec(<<"def loop():\n    while True: pass\n">>),
                   [{error, timeout} = py:call('__main__', loop, [], #{}, 5) || _ <- lists:seq(1, 30)]
           end,
    Work = fun() ->
                   ok = py:exec(<<"def work(): return sum(i for i in range(1000))\n">>),
                   [{ok, 499500} = py:call('__main__', work, []) || _ <- lists:seq(1, 300)]
           end,
    _ = py_test:at_once([Loop, Work, Work, Work, Work, Loop]),
    ok.

a_timeout_passes_except_Exception(_Config) ->
    ok = py:exec(<<"begun, ended = [], []\n"
                   "def loop():\n"
                   "    while True:\n"
                   "        try:\n"
                   "            begun.append(1)\n"
                   "            n = 0\n"
                   "            while True: n += 1\n"
                   "        except Exception as e:\n"
                   "            ended.append(repr(e))\n"
                   "        except BaseException as e:\n"
                   "            ended.append(type(e).__name__)\n"
                   "            raise\n">>),
    py_test:timed_out(fun(T) -> py:call('__main__', loop, [], #{}, T) end,
                      fun() -> {ok, 0} =/= py:eval(<<"len(begun)">>) end),
    %% Each that had begun, and once.
    py_test:wait_until(fun() -> {ok, true} =:= py:eval(<<"ended == ['Cancelled'] * len(begun)">>) end).

a_timeout_of_0_is_allowed(Config) ->
    Fifo = py_test:block(Config),
    [?assert(lists:member(py:call(math, sqrt, [16], #{}, 0), [{ok, 4.0}, {error, timeout}]))
     || _ <- lists:seq(1, 1000)],
    {error, timeout} = py:call(os, open, [Fifo, 0], #{}, 0),
    [] = py_test:messages(),
    %% It may have been cancelled before it ran, and then nobody reads the FIFO.
    _ = os:cmd("timeout 0.1 sh -c ': > \"" ++ binary_to_list(Fifo) ++ "\"'"),
    ok.

%% All executors are kept busy, so that the request waits in the queue.
a_call_that_timed_out_in_the_queue_does_not_run(Config) ->
    Fifo = py_test:block(Config),
    Marker = filename:join(proplists:get_value(priv_dir, Config), "it_ran"),
    Workers = py_test:workers_apart(py:num_executors()),
    [{ok, _} = py_test:run(W, fun() -> py:call(math, sqrt, [1]) end) || W <- Workers],
    [py_test:start(W, fun() -> py_test:open_blocked(Fifo) end) || W <- Workers],
    py_test:await_at_work(default, length(Workers)),
    {error, timeout} = py:call(math, sqrt, [16], #{}, 50),
    {error, timeout} = py:call(os, mkdir, [list_to_binary(Marker)], #{}, 50),
    ok = release_all(Fifo, Workers),
    [py_test:end_worker(W) || W <- Workers],
    {ok, 4.0} = py:call(math, sqrt, [16]),
    {error, enoent} = file:read_file_info(Marker),
    [] = py_test:messages().

release_all(_Fifo, []) ->
    ok;
release_all(Fifo, Workers) ->
    _ = os:cmd("timeout 0.2 sh -c ': > \"" ++ binary_to_list(Fifo) ++ "\"'"),
    release_all(Fifo, [W || {Pid, _} = W <- Workers,
                            receive {answer, Pid, {ok, _}} -> false after 0 -> true end]).

timeouts_outside_the_range_are_errors(_Config) ->
    [?ERROR('ValueError', _) = py:call(math, sqrt, [16], #{}, Timeout)
     || Timeout <- [-1, -1000000000000, 16#FFFFFFFF + 1, 1 bsl 64]],
    [?ERROR('TypeError', _) = py:call(math, sqrt, [16], #{}, Timeout)
     || Timeout <- [1.5, never, "10", <<"10">>, [], #{}, self(), {1, second}]],
    [{error, {_, _}} = py:eval(<<"1">>, #{}, Timeout) || Timeout <- [-1, 1.5, 1 bsl 64, never]],
    [] = py_test:messages().

the_largest_timeout_is_accepted(_Config) ->
    {ok, 4.0} = py:call(math, sqrt, [16], #{}, 16#FFFFFFFF),
    {ok, 4.0} = py:call(math, sqrt, [16], #{}, infinity),
    {ok, 1} = py:eval(<<"1">>, #{}, 16#FFFFFFFF).

%% The interrupts of the first loop come about when the calls end.  None may hit a call
%% that comes after it, on the same executor or another.
ten_thousand_calls_after_late_interrupts_are_unhurt(_Config) ->
    ok = py:exec(<<"def spin(n):\n    for i in range(n): pass\n    return n\n">>),
    N = iterations_for(2000),
    Outcomes = [py:call('__main__', spin, [N], #{}, 2) || _ <- lists:seq(1, 200)],
    Known = [{error, timeout}, {ok, N}],
    [?assert(lists:member(Outcome, Known)) || Outcome <- Outcomes],
    ok = py:exec(<<"def plain(x): return [x]\n">>),
    [{ok, [I]} = py:call('__main__', plain, [I]) || I <- lists:seq(1, 10000)],
    [] = py_test:messages().

%% How many iterations take so many microseconds.
iterations_for(Microseconds) ->
    Times = [begin
                 {Time, {ok, 20000}} =
                     py_test:milliseconds(fun() -> py:call('__main__', spin, [20000]) end),
                 Time
             end || _ <- lists:seq(1, 5)],
    round(20000 * Microseconds / 1000 / lists:min(Times)).

nothing_is_left_in_the_mailbox(_Config) ->
    [_ = py:call(math, sqrt, [16], #{}, 0) || _ <- lists:seq(1, 2000)],
    [_ = py:call(time, sleep, [0.001], #{}, 1) || _ <- lists:seq(1, 200)],
    %% Whatever was on its way when a call timed out is there after these.
    [{ok, 4.0} = py:call(math, sqrt, [16]) || _ <- lists:seq(1, 100)],
    [] = py_test:messages().

messages_of_others_stay_in_the_mailbox(_Config) ->
    Mine = [{make_ref(), N} || N <- lists:seq(1, 100)] ++ [{make_ref(), callback, {0, 1}, f, []}],
    [self() ! Message || Message <- Mine],
    {ok, 4.0} = py:call(math, sqrt, [16]),
    _ = py:call(time, sleep, [0.01], #{}, 1),
    Mine = py_test:messages().

%%% Wrong arguments

arguments_of_the_wrong_type_are_errors(_Config) ->
    Wrong = [1, 1.5, {a}, #{}, self(), make_ref(), fun() -> ok end, <<1:3>>, [a | b], [-1], [{}]],
    [begin
         {error, {Type, Message}} = Result,
         ?assert(lists:member(Type, ['TypeError', 'ValueError', conversion]) orelse Result),
         ?assert(is_binary(Message) orelse Result)
     end || X <- Wrong,
            Result <- [py:call(X, sqrt, [16]), py:call(math, X, [16])]],
    [?ERROR('TypeError', _) = py:call(math, sqrt, X) || X <- [16, {16}, #{}, <<"16">>, a]],
    [?ERROR('TypeError', _) = py:call(math, sqrt, [16], X) || X <- [16, [], [{a, 1}], <<"16">>, a]],
    %% Where there are no arguments, too, these are not taken for a pool and a function.
    [?ERROR('TypeError', <<"kwargs must be a map, not ", _/binary>>) = Result
     || X <- [[{a, 1}], []],
        Result <- [py:call(builtins, dict, [], X), py:call(builtins, dict, [], X, 5000),
                   py:cast(builtins, dict, [], X), py:await(py:spawn_call(builtins, dict, [], X))]],
    {ok, 4.0} = py:call(math, sqrt, [16]),
    [] = py_test:messages().

an_improper_list_of_arguments_is_an_error(_Config) ->
    ?ERROR('TypeError', _) = py:call(math, sqrt, [16 | 17]),
    ?ERROR('TypeError', _) = py:call(math, sqrt, [1, 2, 3 | <<>>]).

%%% Without the application

nothing_runs_before_the_start_and_after_the_stop(_Config) ->
    {ok, 1} = py:eval(<<"1">>),
    ok = application:stop(erlang_python),
    NotRunning = {error, not_running},
    %% This process is bound to an interpreter already, the other is not.
    Calls = [fun() -> py:call(math, sqrt, [16]) end,
             fun() -> py:call(math, sqrt, [16], #{}, 1000) end,
             fun() -> py:call("math", "sqrt", [16]) end,
             fun() -> py:eval(<<"1">>) end,
             fun() -> py:eval(<<"1">>, #{}, 1000) end,
             fun() -> py:exec(<<"x = 1">>) end,
             fun() -> py:register_function(f, fun(_) -> 1 end) end,
             fun() -> py:unregister_function(f) end,
             fun py:execution_mode/0,
             fun py:num_executors/0,
             fun py:version/0,
             fun py:subinterp_supported/0],
    [?assertEqual(NotRunning, Call()) || Call <- Calls],
    [?assertEqual(NotRunning, py_test:in_process(Call)) || Call <- Calls],
    ok = application:start(erlang_python),
    {ok, 1} = py:eval(<<"1">>),
    {ok, 4.0} = py:call(math, sqrt, [16]),
    [] = py_test:messages().

%% A program that Python starts inherits the mask; with SIGTERM blocked it could not
%% be terminated.
executors_block_no_signal(_Config) ->
    {ok, [<<"SigBlk:\t0000000000000000\n">>]} =
        py:eval(<<"[line for line in open(f\"/proc/self/task/"
                  "{__import__('threading').get_native_id()}/status\") "
                  "if line.startswith('SigBlk')]">>).
