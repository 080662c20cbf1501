%% SPDX-License-Identifier: Apache-2.0
%%
%% Handles: what has no term of its own stays in Python, and Erlang has a reference that is
%% that very object wherever it goes, keeps it alive, and lets it go.
-module(py_handle_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1, end_per_testcase/2]).
-export([an_object_without_a_term_is_a_handle/1,
         objects_in_containers_are_handles/1,
         any_value_is_a_handle_if_asked_for/1,
         what_has_no_value_to_return_refuses_the_option/1,
         is_ref_knows_handles/1,
         a_handle_is_a_reference/1]).
-export([getattr_gives_attributes/1,
         setattr_sets_attributes/1,
         call_method_calls_methods/1,
         call_object_calls_what_is_callable/1,
         to_term_gives_the_value/1,
         functions_of_handles_obey_their_timeout/1,
         what_is_no_handle_is_refused/1]).
-export([a_handle_as_argument_is_the_object_itself/1,
         a_handle_in_containers_is_the_object_itself/1,
         an_object_keeps_its_state_between_requests/1,
         a_handle_works_in_other_processes/1,
         a_handle_in_a_callback_is_the_object/1,
         a_handle_works_in_a_nested_call/1,
         a_handle_survives_ets_and_the_external_format/1,
         functions_and_classes_and_modules_are_handles/1]).
-export([a_forgotten_object_is_freed/1,
         the_death_of_its_process_frees_an_object/1,
         an_object_is_freed_in_its_own_interpreter/1,
         an_object_lives_as_long_as_any_copy_of_its_handle/1,
         a_result_that_nobody_takes_is_freed/1,
         a_hundred_thousand_handles_leave_nothing/1,
         a_destructor_that_raises_or_calls_Erlang_harms_nothing/1]).
-export([a_handle_of_another_interpreter_is_refused/1,
         a_handle_leads_to_its_interpreter/1,
         a_handle_of_an_ended_interpreter_is_refused/1,
         a_handle_of_a_context_is_used_through_it/1,
         a_handle_outlives_a_restart/1,
         without_the_application_handles_are_not_running/1]).
-export([a_handle_works_through_its_home_node/1,
         a_handle_whose_home_node_forgot_it_is_a_clear_error/1,
         a_handle_whose_home_node_is_gone_is_a_clear_error/1,
         a_handle_that_comes_home_is_the_object/1,
         a_handle_of_another_node_is_an_ordinary_reference_for_Python/1]).

-define(ERROR(Type, Message), {error, {Type, Message}}).
-define(REFUSED(Where), {error, {conversion, _, Where}}).
-define(HANDLE, {opts, #{return => handle}}).

suite() -> [{timetrap, {minutes, 5}}].

all() -> py_test:cases(?MODULE).

init_per_suite(Config) -> py_test:start(Config).

end_per_suite(Config) -> py_test:stop(Config).

end_per_testcase(_Case, _Config) ->
    py_test:restore(),
    _ = py:unregister_function(f),
    ok.

handle(Code) -> py_test:handle(Code).
handle(Code, Locals) -> py_test:handle(Code, Locals).

%% A class whose objects say when they go, and the list in which they say so.
mortals() ->
    ok = py:exec(<<"gone = []\n"
                   "class Mortal:\n"
                   "    def __init__(self, name): self.name = name\n"
                   "    def __del__(self): gone.append(self.name)\n">>).

gone() ->
    {ok, Names} = py:eval(<<"sorted(gone)">>),
    Names.

await_gone(Names) ->
    py_test:wait_until_freed(fun() -> erlang:garbage_collect(), gone() =:= Names end).

%%% What is a handle

an_object_without_a_term_is_a_handle(_Config) ->
    [begin
         {ok, Handle} = py:eval(Code),
         true = py:is_ref(Handle),
         {ok, true} = py:eval(["type(h) is type(", Code, ")"], #{h => Handle})
     end || Code <- ["object()", "1j", "len", "lambda: 1", "iter([])", "(x for x in [])", "range(3)", "__import__('math')",
                     "type", "...", "NotImplemented", "slice(1)", "Exception('e')", "object"]],
    {ok, Handle} = py:call(builtins, object, []),
    true = py:is_ref(Handle).

objects_in_containers_are_handles(_Config) ->
    ok = py:exec(<<"o = object()">>),
    {ok, [1, A, {B, #{<<"k">> := C}}, [D]]} = py:eval(<<"[1, o, (o, {'k': o}), {o}]">>),
    {ok, Map} = py:eval(<<"{o: 1}">>),
    [E] = maps:keys(Map),
    [begin
         true = py:is_ref(X),
         {ok, true} = py:eval(<<"o is x">>, #{x => X})
     end || X <- [A, B, C, D, E]],
    ok.

any_value_is_a_handle_if_asked_for(_Config) ->
    [begin
         Handle = handle(Code),
         ?assertEqual({ok, Term}, py:to_term(Handle))
     end || {Code, Term} <- [{"17", 17}, {"'text'", <<"text">>}, {"None", none}, {"[1, (2,)]", [1, {2}]}, {"{}", #{}},
                             {"True", true}, {"2 ** 100", 1 bsl 100}, {"b'\\xff'", <<255>>}, {"float('inf')", infinity}]],
    {ok, A} = py:call(builtins, list, [[1]], #{}, ?HANDLE),
    {ok, B} = py:call(builtins, list, [[2]], ?HANDLE),
    {ok, C} = py:call(io, builtins, list, [[3]], #{}, ?HANDLE),
    [{ok, [1]}, {ok, [2]}, {ok, [3]}] = [py:to_term(H) || H <- [A, B, C]],
    {ok, 3} = py:eval(<<"1 + 2">>, #{}, {opts, #{return => value}}),
    ?ERROR('ZeroDivisionError', _) = py:eval(<<"1 / 0">>, #{}, ?HANDLE),
    ?ERROR('ValueError', _) = py:eval(<<"1">>, #{}, {opts, #{return => nonsense}}).

%% A misspelt option is said as well.
what_has_no_value_to_return_refuses_the_option(_Config) ->
    {error, {_, _}} = py:cast(math, sqrt, [16], ?HANDLE),
    {error, {_, _}} = py:call(math, sqrt, [16], {opts, #{retrun => handle}}).

is_ref_knows_handles(_Config) ->
    true = py:is_ref(handle("object()")),
    [false = py:is_ref(X) || X <- [make_ref(), self(), 1, handle, <<"h">>, [], {handle("1")}, fun() -> 1 end]].

%% So it can be a key, and is equal to its copies.
a_handle_is_a_reference(_Config) ->
    Handle = handle("object()"),
    true = is_reference(Handle),
    #{Handle := x} = #{Handle => x},
    Handle = py_test:in_process(fun() -> Handle end),
    true = Handle =/= handle("object()").

%%% What can be done with it

getattr_gives_attributes(_Config) ->
    H = handle("__import__('types').SimpleNamespace(a=1, größe='b', o=object(), n=__import__('types').SimpleNamespace(x=[5]))"),
    [{ok, 1} = py:getattr(H, Name) || Name <- [a, "a", <<"a">>]],
    [{ok, <<"b">>} = py:getattr(H, Name) || Name <- ['größe', "größe", <<"größe"/utf8>>]],
    {ok, [5]} = py:getattr(H, 'n.x'),
    {ok, <<"SimpleNamespace">>} = py:getattr(H, <<"__class__.__name__">>),
    {ok, O} = py:getattr(H, o),
    {ok, true} = py:eval(<<"h.o is o">>, #{h => H, o => O}),
    ?ERROR('AttributeError', Message) = py:getattr(H, no_such),
    ?assertMatch({_, _}, binary:match(Message, <<"no_such">>)),
    ?ERROR('AttributeError', _) = py:getattr(H, 'n.no_such'),
    [?ERROR(_, _) = py:getattr(H, Name) || Name <- [1, {a}, <<255>>, #{}]].

setattr_sets_attributes(_Config) ->
    H = handle("__import__('types').SimpleNamespace()"),
    [begin
         ok = py:setattr(H, Name, Value),
         {ok, Value} = py:getattr(H, Name)
     end || {Name, Value} <- [{a, 1}, {"b", <<"x">>}, {<<"größe"/utf8>>, [self()]}, {a, {2, none}}]],
    ok = py:setattr(H, itself, H),
    {ok, true} = py:eval(<<"h.itself is h">>, #{h => H}),
    ok = py:setattr(H, itself, none),
    ?ERROR('AttributeError', _) = py:setattr(handle("object()"), a, 1),
    ?ERROR('TypeError', _) = py:setattr(handle("int"), a, 1),
    ?REFUSED(_) = py:setattr(H, a, #{1 => a, 1.0 => b}),
    {ok, {2, none}} = py:getattr(H, a).

call_method_calls_methods(_Config) ->
    H = handle("[3, 1, 2]"),
    {ok, none} = py:call_method(H, append, [5]),
    {ok, none} = py:call_method(H, "sort", [], #{reverse => true}),
    {ok, [5, 3, 2, 1]} = py:to_term(H),
    {ok, 1} = py:call_method(H, <<"count">>, [5]),
    {ok, <<"LIST">>} = py:call_method(H, '__class__.__name__.upper', []),
    {ok, Copy} = py:call_method(H, copy, [], ?HANDLE),
    {ok, {true, false}} = py:eval(<<"(a == b, a is b)">>, #{a => H, b => Copy}),
    ?ERROR('AttributeError', _) = py:call_method(H, no_such, []),
    ?ERROR('IndexError', _) = py:call_method(H, pop, [100]),
    ?ERROR('TypeError', _) = py:call_method(H, append, []),
    ?ERROR('TypeError', _) = py:call_method(H, append, not_a_list),
    {ok, 4} = py:call_method(H, '__len__', []).

call_object_calls_what_is_callable(_Config) ->
    ok = py:exec(<<"def f(*a, **k): return (a, k)\n"
                   "class C:\n    def __call__(self, x): return x + 1\n">>),
    F = handle("f"),
    {ok, {{}, Empty}} = py:call_object(F, []),
    0 = map_size(Empty),
    {ok, {{1, [2]}, #{<<"k">> := 3}}} = py:call_object(F, [1, [2]], #{k => 3}),
    {ok, 2} = py:call_object(handle("C()"), [1]),
    {ok, Object} = py:call_object(handle("C"), []),
    {ok, 6} = py:call_object(Object, [5]),
    {ok, Result} = py:call_object(F, [], ?HANDLE),
    {ok, {{}, Empty}} = py:to_term(Result),
    ?ERROR('TypeError', _) = py:call_object(handle("object()"), []),
    ?ERROR('ZeroDivisionError', _) = py:call_object(handle("lambda x: 1 / x"), [0]).

to_term_gives_the_value(_Config) ->
    H = handle("{'a': [1, 2.5, (None, b'\\xff')]}"),
    {ok, #{<<"a">> := [1, 2.5, {none, <<255>>}]}} = py:to_term(H),
    %% As it is now.
    {ok, none} = py:call_method(H, update, [#{<<"b">> => 1}]),
    {ok, #{<<"b">> := 1}} = py:to_term(H),
    ?REFUSED(_) = py:to_term(handle("'\\ud800'")).

functions_of_handles_obey_their_timeout(_Config) ->
    ok = py:exec(<<"class Slow:\n"
                   "    def __call__(self):\n"
                   "        while True: pass\n"
                   "    loop = __call__\n">>),
    H = handle("Slow()"),
    {error, timeout} = py:call_method(H, loop, [], {opts, #{timeout => 30}}),
    {error, timeout} = py:call_object(H, [], {opts, #{timeout => 30}}),
    [] = py_test:messages().

what_is_no_handle_is_refused(_Config) ->
    [begin
         ?ERROR(_, _) = py:getattr(X, a),
         ?ERROR(_, _) = py:setattr(X, a, 1),
         ?ERROR(_, _) = py:call_method(X, a, []),
         ?ERROR(_, _) = py:call_object(X, []),
         ?ERROR(_, _) = py:to_term(X)
     end || X <- [make_ref(), self(), 1, <<"h">>, none]],
    ok.

%%% Where it can go

a_handle_as_argument_is_the_object_itself(_Config) ->
    H = handle("[object()]"),
    {ok, true} = py:eval(<<"a is b and type(a) is list">>, #{a => H, b => H}),
    {ok, 1} = py:call(builtins, len, [H]),
    {ok, true} = py:call(operator, is_, [H, H]),
    {ok, Id} = py:call(builtins, id, [H]),
    {ok, Id} = py:eval(<<"id(h)">>, #{h => H}),
    {ok, 1} = py:call(builtins, max, [1, 2], #{key => handle("lambda x: -x")}),
    %% A value comes back as what it is: only what has no term stays a handle.
    {ok, [Object]} = py_test:through(H),
    true = py:is_ref(Object).

a_handle_in_containers_is_the_object_itself(_Config) ->
    H = handle("object()"),
    {ok, true} = py:eval(<<"l[0] is h and t[1][0] is h and m['k'] is h and h in n and d[(1, h)] == 2">>,
                         #{h => H, l => [H], t => {1, [H]}, m => #{k => H}, n => #{H => 1}, d => #{{1, H} => 2}}),
    {ok, {Back, [Back2]}} = py_test:through({H, [H]}),
    {ok, true} = py:eval(<<"a is b and b is c">>, #{a => H, b => Back, c => Back2}).

an_object_keeps_its_state_between_requests(_Config) ->
    H = handle("__import__('itertools').count()"),
    [{ok, N} = py:call_method(H, '__next__', []) || N <- lists:seq(0, 100)],
    {ok, 101} = py:call(builtins, next, [H]),
    ok.

a_handle_works_in_other_processes(_Config) ->
    H = handle("[]"),
    Work = fun(N) -> fun() -> [{ok, none} = py:call_method(H, append, [{N, I}]) || I <- lists:seq(1, 100)], done end end,
    ?assertEqual(lists:duplicate(10, done), py_test:at_once([Work(N) || N <- lists:seq(1, 10)])),
    {ok, List} = py:to_term(H),
    ?assertEqual([{N, I} || N <- lists:seq(1, 10), I <- lists:seq(1, 100)], lists:sort(List)).

a_handle_in_a_callback_is_the_object(_Config) ->
    Test = self(),
    ok = py:register_function(f, fun([X]) -> Test ! {got, X}, [X, {X}] end),
    ok = py:exec(<<"import erlang\n"
                   "def f():\n"
                   "    o = object()\n"
                   "    a, (b,) = erlang.call('f', o)\n"
                   "    return a is o and b is o\n">>),
    {ok, true} = py:call('__main__', f, []),
    receive {got, X} -> true = py:is_ref(X) end.

%% On the stack of the very executor that waits.
a_handle_works_in_a_nested_call(_Config) ->
    ok = py:exec(<<"import erlang\n"
                   "class Box:\n"
                   "    def __init__(self, x): self.x = x\n"
                   "    def append(self, v): self.x.append(v)\n">>),
    H = handle("[]"),
    Box = handle("Box(h)", #{h => H}),
    ok = py:register_function(f, fun([B]) ->
                                         {ok, none} = py:call_method(B, append, [2]),
                                         {ok, V} = py:getattr(B, x),
                                         V
                                 end),
    ok = py:exec(<<"def f(b):\n"
                   "    b.append(1)\n"
                   "    return erlang.call('f', b)\n">>),
    {ok, [1, 2]} = py:call('__main__', f, [Box]),
    {ok, [1, 2]} = py:to_term(H).

a_handle_survives_ets_and_the_external_format(_Config) ->
    H = handle("[1]"),
    Table = ets:new(t, []),
    true = ets:insert(Table, {h, H}),
    [{h, FromTable}] = ets:lookup(Table, h),
    {ok, [1]} = py:to_term(FromTable),
    {ok, [1]} = py:to_term(binary_to_term(term_to_binary(H))),
    {ok, [1]} = py:to_term(H).

functions_and_classes_and_modules_are_handles(_Config) ->
    {ok, Module} = py:call(importlib, import_module, [<<"math">>]),
    {ok, 4.0} = py:call_method(Module, sqrt, [16]),
    {ok, Sqrt} = py:getattr(Module, sqrt),
    {ok, 5.0} = py:call_object(Sqrt, [25]),
    {ok, Class} = py:call(builtins, getattr, [Module, <<"__class__">>]),
    {ok, <<"module">>} = py:getattr(Class, '__name__').

%%% When it goes

a_forgotten_object_is_freed(_Config) ->
    mortals(),
    make_and_forget(<<"a">>),
    await_gone([<<"a">>]),
    [make_and_forget(<<"b">>) || _ <- lists:seq(1, 10)],
    await_gone([<<"a">> | lists:duplicate(10, <<"b">>)]).

make_and_forget(Name) ->
    Handle = handle("Mortal(name)", #{name => Name}),
    {ok, Name} = py:getattr(Handle, name),
    ok.

the_death_of_its_process_frees_an_object(_Config) ->
    mortals(),
    W = py_test:worker(),
    hand_over(W, <<"a">>),
    {ok, <<"a">>} = py_test:run(W, fun() -> py:getattr(get(h), name) end),
    erlang:garbage_collect(),
    [] = gone(),
    py_test:kill(W),
    await_gone([<<"a">>]).

hand_over(Worker, Name) ->
    Handle = handle("Mortal(name)", #{name => Name}),
    undefined = py_test:run(Worker, fun() -> put(h, Handle) end),
    ok.

%% Not in that of whoever collects the garbage.
an_object_is_freed_in_its_own_interpreter(_Config) ->
    ok = py:exec(<<"import sys\n"
                   "places = []\n"
                   "class Mortal:\n"
                   "    def __init__(self, name): self.name = name\n"
                   "    def __del__(self): places.append(id(__import__('sys').modules) == id(sys.modules))\n">>),
    [begin
         W = py_test:worker(),
         hand_over(W, <<"x">>),
         py_test:end_worker(W),
         erlang:garbage_collect()
     end || _ <- lists:seq(1, 20)],
    py_test:wait_until_freed(fun() -> erlang:garbage_collect(), py:eval(<<"len(places)">>) =:= {ok, 20} end),
    {ok, true} = py:eval(<<"all(places)">>).

an_object_lives_as_long_as_any_copy_of_its_handle(_Config) ->
    mortals(),
    Table = ets:new(t, []),
    store(Table, <<"a">>),
    erlang:garbage_collect(),
    {ok, _} = py:gc(),
    [] = gone(),
    true = ets:delete(Table, h),
    await_gone([<<"a">>]).

store(Table, Name) ->
    true = ets:insert(Table, {h, handle("Mortal(name)", #{name => Name})}).

%% The reply is on its way, or in a mailbox, or refused.
a_result_that_nobody_takes_is_freed(_Config) ->
    mortals(),
    _ = py:spawn_call('__main__', 'Mortal', [<<"a">>]),
    py_test:wait_until(fun() -> py_test:messages() =/= [] end),
    [] = gone(),
    [receive M when is_tuple(M) -> forget end || _ <- py_test:messages()],
    await_gone([<<"a">>]),
    ok = py:cast('__main__', 'Mortal', [<<"b">>]),
    await_gone([<<"a">>, <<"b">>]),
    Ref = py:spawn_call('__main__', 'Mortal', [<<"c">>]),
    py_test:wait_until(fun() -> py_test:messages() =/= [] end),
    ok = py:cancel(Ref),
    await_gone([<<"a">>, <<"b">>, <<"c">>]),
    %% One that is made already when what comes after it does not convert.
    ?REFUSED([result, 2]) = py:eval(<<"[Mortal('d'), '\\ud800']">>),
    await_gone([<<"a">>, <<"b">>, <<"c">>, <<"d">>]).

a_hundred_thousand_handles_leave_nothing(_Config) ->
    ok = py:exec(<<"import gc\n"
                   "class Thing:\n    def __init__(self): self.data = bytes(1000)\n"
                   "def count():\n"
                   "    gc.collect()\n"
                   "    return sum(type(o) is Thing for o in gc.get_objects())\n">>),
    Round = fun() ->
                    [{ok, _} = py:eval(<<"[Thing() for _ in range(100)]">>) || _ <- lists:seq(1, py_test:fewer(200))],
                    erlang:garbage_collect(),
                    py_test:wait_until_freed(fun() -> py:call('__main__', count, []) =:= {ok, 0} end)
            end,
    [Round() || _ <- lists:seq(1, 2)],
    %% 100 MB would be all.
    py_test:grows_less(20 bsl 20, fun() -> [Round() || _ <- lists:seq(1, 5)] end).

a_destructor_that_raises_or_calls_Erlang_harms_nothing(_Config) ->
    Test = self(),
    ok = py:register_function(f, fun([X]) -> Test ! {called, X}, none end),
    ok = py:exec(<<"import erlang, sys\n"
                   %% Ours goes before it, and has to be there for the cases to come.
                   "hook, sys.unraisablehook = sys.unraisablehook, lambda u: None\n"
                   "gone = []\n"
                   "class Bad:\n"
                   "    def __del__(self):\n"
                   "        gone.append('bad')\n"
                   "        raise ValueError('in __del__')\n"
                   "class Caller:\n"
                   "    def __del__(self):\n"
                   "        gone.append('caller')\n"
                   "        erlang.call('f', 1)\n"
                   "class Slow:\n"
                   "    def __del__(self):\n"
                   "        gone.append('slow')\n"
                   "        sum(range(100000))\n">>),
    [forget(Code) || Code <- ["Bad()", "Caller()", "Slow()", "Bad()"]],
    await_gone([<<"bad">>, <<"bad">>, <<"caller">>, <<"slow">>]),
    {ok, 4.0} = py:call(math, sqrt, [16]),
    ok = py:exec(<<"sys.unraisablehook = hook">>).

forget(Code) ->
    _ = handle(Code),
    ok.

%%% Interpreters

%% An interpreter beside that of the calling process.
other_interpreter() ->
    py:subinterp_supported() orelse throw({skip, "this Python has no interpreters with a GIL of their own"}),
    {ok, Interp} = py:subinterp_create(),
    Interp.

a_handle_of_another_interpreter_is_refused(_Config) ->
    Interp = other_interpreter(),
    {ok, H} = py:call(Interp, builtins, list, [[1]], ?HANDLE),
    Mine = handle("[2]"),
    {error, {conversion, What, [args, 1]}} = py:call(builtins, len, [H]),
    ?assertMatch({_, _}, binary:match(What, <<"interpreter">>)),
    ?REFUSED([args, 2, {value, k}, 1]) = py:call(builtins, print, [1, #{k => [H]}]),
    ?REFUSED([locals, {value, h}]) = py:eval(<<"h">>, #{h => H}),
    ?REFUSED(_) = py:setattr(Mine, x, H),
    ?REFUSED(_) = py:call_method(Mine, append, [H]),
    ?REFUSED([args, 1]) = py:call(Interp, builtins, len, [Mine]),
    {ok, 1} = py:call(Interp, builtins, len, [H]),
    ok = py:subinterp_destroy(Interp).

%% Wherever the process is bound.
a_handle_leads_to_its_interpreter(_Config) ->
    Interp = other_interpreter(),
    {ok, H} = py:call(Interp, builtins, list, [[1]], ?HANDLE),
    {ok, none} = py:call_method(H, append, [2]),
    {ok, [1, 2]} = py:to_term(H),
    {ok, Sys} = py:call(Interp, importlib, import_module, [sys]),
    {ok, Modules} = py:getattr(Sys, modules, ?HANDLE),
    {ok, Theirs} = py:eval(Interp, <<"id(__import__('sys').modules)">>),
    {ok, Theirs} = py:call_object(handle_of(Interp, <<"id">>), [Modules]),
    {ok, [1, 2]} = py_test:in_process(fun() -> py:to_term(H) end),
    ok = py:subinterp_destroy(Interp).

handle_of(Interp, Code) ->
    {ok, Handle} = py:eval(Interp, Code),
    true = py:is_ref(Handle),
    Handle.

a_handle_of_an_ended_interpreter_is_refused(_Config) ->
    Interp = other_interpreter(),
    {ok, H} = py:call(Interp, builtins, list, [[1]], ?HANDLE),
    {ok, G} = py:eval(Interp, <<"object()">>),
    ok = py:subinterp_destroy(Interp),
    [begin
         ?ERROR('ValueError', Text) = Failed,
         ?assertMatch({_, _}, binary:match(Text, <<"ended">>))
     end || X <- [H, G],
            Failed <- [py:getattr(X, '__class__'), py:setattr(X, a, 1), py:call_method(X, append, [2]),
                       py:call_object(X, []), py:to_term(X)]],
    ?REFUSED([args, 1]) = py:call(builtins, len, [H]),
    false = py:is_ref(H),
    %% Forgetting them now does nothing to nobody.
    _ = [H, G],
    erlang:garbage_collect(),
    {ok, 4.0} = py:call(math, sqrt, [16]).

a_handle_of_a_context_is_used_through_it(_Config) ->
    {ok, Context} = py_context:new(#{}),
    {ok, H} = py_context:eval(Context, <<"__import__('collections').Counter('aab')">>, #{}),
    true = is_map(H),
    {ok, List} = py:call(Context, builtins, list, [[3, 1]], ?HANDLE),
    {ok, none} = py_context:call_method(Context, List, sort, []),
    {ok, [1, 3]} = py_context:to_term(List),
    {ok, 2} = py:call(Context, builtins, len, [List]),
    {ok, true} = py:eval(Context, <<"type(x) is list">>, #{x => List}),
    {ok, [1, 3]} = py_test:in_process(fun() -> py:to_term(List) end),
    ok = py_context:stop(Context).

%% The interpreters of the default pool live on.
a_handle_outlives_a_restart(_Config) ->
    H = handle("[1]"),
    py_test:restart(#{}),
    {ok, [1]} = py:to_term(H),
    {ok, none} = py:call_method(H, append, [2]),
    {ok, [1, 2]} = py:to_term(H).

without_the_application_handles_are_not_running(_Config) ->
    H = handle("[1]"),
    ok = application:stop(erlang_python),
    [{error, not_running} = Failed
     || Failed <- [py:getattr(H, a), py:setattr(H, a, 1), py:call_method(H, a, []), py:call_object(H, []), py:to_term(H)]],
    _ = py:is_ref(H),
    ok = application:start(erlang_python).

%%% Other nodes

%% What keeps the handle there, as one here would not: {Handle, Keeper}.
kept_at(Peer, Code) ->
    py_test:at(Peer, fun() ->
                             Self = self(),
                             Keeper = spawn(fun() ->
                                                    {ok, H} = py:eval(Code, #{}, {opts, #{return => handle}}),
                                                    Self ! {handle, H},
                                                    receive stop -> H end
                                            end),
                             receive {handle, H} -> {H, Keeper} end
                     end).

with_peer(Fun) ->
    Peer = py_test:peer(),
    try Fun(Peer) after py_test:end_peer(Peer) end.

a_handle_works_through_its_home_node(_Config) ->
    with_peer(fun(Peer) ->
                      {H, _} = kept_at(Peer, <<"[1]">>),
                      true = node(H) =/= node(),
                      {ok, none} = py:call_method(H, append, [2]),
                      {ok, none} = py:call_method(H, sort, [], #{reverse => true}),
                      {ok, [2, 1]} = py:to_term(H),
                      {ok, <<"list">>} = py:getattr(H, '__class__.__name__'),
                      ?ERROR('AttributeError', _) = py:setattr(H, a, 1),
                      {F, _} = kept_at(Peer, <<"lambda *a: a">>),
                      Me = self(),
                      {ok, {1, [Me]}} = py:call_object(F, [1, [Me]]),
                      ?ERROR('IndexError', _) = py:call_method(H, pop, [9]),
                      {Loop, _} = kept_at(Peer, <<"lambda: [0 for _ in iter(int, 1)]">>),
                      {error, timeout} = py:call_object(Loop, [], {opts, #{timeout => 50}})
              end).

a_handle_whose_home_node_forgot_it_is_a_clear_error(_Config) ->
    with_peer(fun(Peer) ->
                      {H, Keeper} = kept_at(Peer, <<"[1]">>),
                      {ok, [1]} = py:to_term(H),
                      Keeper ! stop,
                      py_test:wait_until(fun() ->
                                                 py_test:at(Peer, fun() -> [garbage_collect(P) || P <- processes()] end),
                                                 py:to_term(H) =/= {ok, [1]}
                                         end),
                      ?ERROR('ValueError', Text) = py:to_term(H),
                      ?assertMatch({_, _}, binary:match(Text, <<"handle">>)),
                      ?ERROR('ValueError', Text) = py:call_method(H, append, [1])
              end).

a_handle_whose_home_node_is_gone_is_a_clear_error(_Config) ->
    with_peer(fun({Process, _} = Peer) ->
                      {H, _} = kept_at(Peer, <<"[1]">>),
                      peer:stop(Process),
                      [?ERROR('ConnectionError', _) = Failed
                       || Failed <- [py:to_term(H), py:getattr(H, a), py:setattr(H, a, 1), py:call_method(H, a, []),
                                     py:call_object(H, [])]]
              end).

a_handle_that_comes_home_is_the_object(_Config) ->
    H = handle("[1]"),
    with_peer(fun(Peer) ->
                      H = py_test:at(Peer, fun() -> H end),
                      {ok, [1]} = py:to_term(py_test:at(Peer, fun() -> H end)),
                      %% And from there to here.
                      {ok, none} = py_test:at(Peer, fun() -> py:call_method(H, append, [2]) end),
                      {ok, [1, 2]} = py:to_term(H)
              end).

a_handle_of_another_node_is_an_ordinary_reference_for_Python(_Config) ->
    with_peer(fun(Peer) ->
                      {H, _} = kept_at(Peer, <<"[1]">>),
                      {ok, {<<"Ref">>, H}} = py:eval(<<"(type(h).__name__, h)">>, #{h => H})
              end).
