%% SPDX-License-Identifier: Apache-2.0
%%
%% Modules that do not load in a sub-interpreter: the main one serves them, whichever way
%% they are asked for first.  faulthandler is of the standard library and refuses in every
%% version; numpy is Debian's, where it is installed.
-module(py_compat_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([a_module_that_refuses_works_from_a_plain_call/1,
         it_is_said_once_and_listed/1,
         many_processes_may_ask_for_it_at_once/1,
         it_works_in_parallel_and_asynchronously/1,
         code_that_begins_with_its_import_runs_in_the_main_interpreter/1,
         a_process_that_has_defined_something_does_not_move/1,
         a_module_that_imports_it_is_served_by_the_main_interpreter/1,
         a_module_that_does_not_exist_is_not_taken_for_one_that_refuses/1,
         a_context_of_a_sub_interpreter_is_told_that_it_does_not_load/1,
         a_timeout_ends_the_wait_for_an_import/1,
         numpy_works_from_a_plain_call/1,
         numpy_works_from_code/1,
         an_import_that_needs_the_gil_is_named/1]).

suite() -> [{timetrap, {minutes, 5}}].

all() -> py_test:cases(?MODULE).

init_per_suite(Config) -> py_test:start(Config).

end_per_suite(Config) -> py_test:stop(Config).

init_per_testcase(_Case, Config) -> Config.

end_per_testcase(_Case, _Config) -> py_test:restore().

%%% What refuses

a_module_that_refuses_works_from_a_plain_call(_Config) ->
    [{ok, false} = py:call(faulthandler, is_enabled, []) || _ <- [1, 2, 3]],
    {ok, false} = py_test:in_process(fun() -> py:call(<<"faulthandler">>, "is_enabled", []) end),
    [] = py_test:messages().

it_is_said_once_and_listed(_Config) ->
    only_in_sub_interpreters(),
    Log = py_test:log_start(),
    [{ok, _} = py_test:in_process(fun() -> py:call('_curses', baudrate_or_name(), []) end) || _ <- [1, 2]],
    py_test:wait_until(fun() -> lists:member(<<"_curses">>, maps:get(refused_modules, py:info())) end),
    %% The process that says it has been told before the calls returned.
    _ = sys:get_state(py_events),
    Said = [Text || {_, Text} <- py_test:log_stop(Log), binary:match(text(Text), <<"_curses">>) =/= nomatch],
    ?assertEqual(1, length(Said)).

%% A function of _curses that needs no terminal.
baudrate_or_name() -> '__dir__'.

text(Text) -> unicode:characters_to_binary(Text).

many_processes_may_ask_for_it_at_once(_Config) ->
    Ask = fun() -> [py:call(readline, get_history_length, []) || _ <- lists:seq(1, 20)] end,
    Results = lists:usort(lists:append(py_test:at_once(lists:duplicate(20, Ask)))),
    case Results of
        [{ok, -1}] -> ok;
        [{error, {'ModuleNotFoundError', _}}] -> {skip, "this Python has no readline"}
    end.

it_works_in_parallel_and_asynchronously(_Config) ->
    {ok, Results} = py:parallel(lists:duplicate(10, {faulthandler, is_enabled, []})),
    [{ok, false}] = lists:usort(Results),
    {ok, false} = py:await(py:spawn_call(faulthandler, is_enabled, [])),
    [] = py_test:messages().

code_that_begins_with_its_import_runs_in_the_main_interpreter(_Config) ->
    py_test:in_process(
      fun() ->
              ok = py:exec(<<"# a comment\nimport sys, faulthandler as f\nfrom faulthandler import enable\n"
                             "def enabled(): return f.is_enabled()\n">>),
              {ok, false} = py:call('__main__', enabled, []),
              {ok, false} = py:eval(<<"f.is_enabled()">>),
              {ok, Here} = py:eval(<<"id(sys.modules)">>),
              {ok, Main} = py:call(main, builtins, eval, [<<"id(__import__('sys').modules)">>, #{}]),
              ?assertEqual(Main, Here)
      end).

%% Its definitions would stay behind.
a_process_that_has_defined_something_does_not_move(_Config) ->
    only_in_sub_interpreters(),
    py_test:in_process(
      fun() ->
              ok = py:exec(<<"x = 17">>),
              {error, {'ImportError', Text}} = py:exec(<<"import faulthandler">>),
              ?assertNotEqual(nomatch, binary:match(Text, <<"py:register_pool(main">>)),
              {ok, 17} = py:eval(<<"x">>)
      end).

a_module_that_imports_it_is_served_by_the_main_interpreter(Config) ->
    Dir = py_test:write_module(Config, compat_importer,
                               <<"import faulthandler, sys\ndef where(): return id(sys.modules)\n">>),
    ok = py_import:add_path(Dir),
    {ok, Main} = py:call(main, builtins, eval, [<<"id(__import__('sys').modules)">>, #{}]),
    {ok, Main} = py_test:in_process(fun() -> py:call(compat_importer, where, []) end),
    ok = py_import:clear_paths().

a_module_that_does_not_exist_is_not_taken_for_one_that_refuses(_Config) ->
    {error, {'ModuleNotFoundError', _}} = py:call(no_such_module_at_all, f, []),
    {error, {'AttributeError', _}} = py:call(faulthandler, no_such_function, []),
    false = lists:member(<<"no_such_module_at_all">>, maps:get(refused_modules, py:info())).

a_context_of_a_sub_interpreter_is_told_that_it_does_not_load(_Config) ->
    only_in_sub_interpreters(),
    {ok, Context} = py_context:new(#{mode => owngil}),
    {error, {'ImportError', _}} = py_context:call(Context, faulthandler, is_enabled, []),
    {ok, 4.0} = py_context:call(Context, math, sqrt, [16]),
    ok = py_context:destroy(Context).

a_timeout_ends_the_wait_for_an_import(Config) ->
    Fifo = py_test:block(Config),
    Dir = py_test:write_module(Config, compat_slow,
                               ["import os\nos.close(os.open('", Fifo, "', 0))\n"]),
    ok = py_import:add_path(Dir),
    {error, timeout} = py:call(compat_slow, f, [], #{}, 50),
    ok = py_test:release(Fifo),
    {ok, 4.0} = py:call(math, sqrt, [16]),
    ok = py_import:clear_paths().

%%% numpy

numpy_works_from_a_plain_call(_Config) ->
    with_numpy(),
    Ask = fun() -> [py:call(numpy, 'linalg.norm', [[3.0, 4.0]]) || _ <- lists:seq(1, 20)] end,
    [{ok, 5.0}] = lists:usort(lists:append(py_test:at_once(lists:duplicate(10, Ask)))),
    py:execution_mode() =/= subinterp orelse
        ?assert(lists:member(<<"numpy">>, maps:get(refused_modules, py:info()))).

numpy_works_from_code(_Config) ->
    with_numpy(),
    [py_test:in_process(fun() ->
                                ok = py:exec(<<"import numpy as np">>),
                                {ok, [0, 1, 2]} = py:eval(<<"np.arange(3).tolist()">>)
                        end) || _ <- [1, 2, 3]].

with_numpy() ->
    {ok, Found} = py:call(main, builtins, eval,
                          [<<"__import__('importlib.util').util.find_spec('numpy') is not None">>, #{}]),
    Found orelse throw({skip, "this Python has no numpy"}).

%%% Without a GIL

an_import_that_needs_the_gil_is_named(_Config) ->
    py:execution_mode() =:= free_threaded orelse throw({skip, "this Python has a GIL"}),
    [] = maps:get(gil_enablers, py:info()),
    {ok, false} = py:call(sys, '_is_gil_enabled', []).

only_in_sub_interpreters() ->
    py:execution_mode() =:= subinterp
        orelse throw({skip, "in the shared modes every module loads in the main interpreter"}),
    ok.
