%% SPDX-License-Identifier: Apache-2.0
%%
%% What is prepared before the calls: code that is preloaded for all, modules that are
%% imported, directories on the path, and modules that are loaded again.
-module(py_setup_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([preloaded_names_are_visible_to_all/1,
         preloaded_names_are_visible_in_contexts_and_pools/1,
         preload_does_not_make_processes_share_state/1,
         names_of_the_process_come_before_preloaded_ones/1,
         preloaded_code_can_be_replaced_and_cleared/1,
         preload_that_fails_is_an_error/1,
         preloaded_code_can_call_Erlang/1,
         the_environment_preloads/1,
         an_environment_that_fails_to_preload_is_an_error_of_the_start/1]).
-export([an_import_is_there_in_all_interpreters/1,
         an_import_that_fails_is_an_error/1,
         imports_are_listed_and_cleared/1,
         the_environment_imports/1,
         interpreters_that_come_later_have_the_imports/1]).
-export([a_path_makes_modules_importable_everywhere/1,
         paths_are_listed_and_cleared/1,
         the_environment_adds_paths/1]).
-export([a_reloaded_module_has_its_new_code_everywhere/1,
         a_reload_of_broken_code_is_an_error_and_keeps_the_old/1,
         a_reload_while_calls_run_disturbs_nobody/1]).

suite() -> [{timetrap, {minutes, 5}}].

all() -> py_test:cases(?MODULE).

init_per_suite(Config) -> py_test:start(Config).

end_per_suite(Config) -> py_test:stop(Config).

init_per_testcase(_Case, Config) -> Config.

%% What was preloaded and imported stays in the interpreters, so each case has its own
%% names; that it is not done again is what the next cases need.
end_per_testcase(_Case, _Config) ->
    py_test:restore(),
    ok = py_preload:clear_code(),
    ok = py_import:clear_imports(),
    ok = py_import:clear_paths(),
    py_context_router:pool_started(p) andalso py_context_router:stop_pool(p),
    ok.

%% A module that nobody can import yet, in a directory of its own.
new_module(Config, Source) ->
    Name = list_to_atom("setup_" ++ integer_to_list(erlang:unique_integer([positive]))),
    Dir = filename:join(proplists:get_value(priv_dir, Config), atom_to_list(Name) ++ "_dir"),
    ok = write(Dir, Name, Source),
    {Name, Dir}.

write(Dir, Name, Source) ->
    File = filename:join(Dir, atom_to_list(Name) ++ ".py"),
    ok = filelib:ensure_dir(File),
    %% At once: an interpreter that imports it meanwhile finds the old one or the new one.
    ok = file:write_file(File ++ ".new", Source),
    ok = file:rename(File ++ ".new", File).

%% In processes that are bound to each interpreter of the default pool.
everywhere(Fun) ->
    Workers = py_test:workers_apart(py:num_executors()),
    Answers = [py_test:run(W, Fun) || W <- Workers],
    [py_test:end_worker(W) || W <- Workers],
    lists:usort(Answers).

%%% Preload

preloaded_names_are_visible_to_all(_Config) ->
    false = py_preload:has_preload(),
    ok = py_preload:set_code(<<"import math as preloaded_math\n"
                               "preloaded_x = 17\n"
                               "def preloaded_f(a): return preloaded_x + a + preloaded_math.sqrt(16)\n">>),
    true = py_preload:has_preload(),
    Check = fun() ->
                    {ok, 17} = py:eval(<<"preloaded_x">>),
                    {ok, 22.0} = py:eval(<<"preloaded_f(1)">>),
                    {ok, 22.0} = py:call('__main__', preloaded_f, [1]),
                    ok = py:exec(<<"y = preloaded_f(2)">>),
                    {ok, 23.0} = py:eval(<<"y">>)
            end,
    [{ok, 23.0}] = everywhere(Check),
    %% Also in a process that had a namespace before.
    Check().

preloaded_names_are_visible_in_contexts_and_pools(_Config) ->
    ok = py_preload:set_code(<<"def preloaded_here(a): return ['preloaded', a]">>),
    Options = [#{}, #{mode => worker}] ++ [#{mode => owngil} || py:subinterp_supported()],
    [begin
         {ok, C} = py_context:new(O),
         {ok, [<<"preloaded">>, 1]} = py_context:eval(C, <<"preloaded_here(1)">>),
         {ok, [<<"preloaded">>, 2]} = py_context:call(C, '__main__', preloaded_here, [2]),
         ok = py_context:destroy(C)
     end || O <- Options],
    {ok, _} = py_context_router:start_pool(p, 2),
    [{ok, [<<"preloaded">>, 3]} = py:call(Pool, '__main__', preloaded_here, [3]) || Pool <- [p, io, default]].

%% It runs once for an interpreter or once for a namespace; what one process rebinds is
%% its own in either case.
preload_does_not_make_processes_share_state(_Config) ->
    ok = py_preload:set_code(<<"preloaded_n = 1">>),
    {ok, 1} = py:eval(<<"preloaded_n">>),
    ok = py:exec(<<"preloaded_n = 2">>),
    {ok, 2} = py:eval(<<"preloaded_n">>),
    {ok, 1} = py_test:in_process(fun() -> py:eval(<<"preloaded_n">>) end),
    [{ok, 1}] = everywhere(fun() -> py:eval(<<"preloaded_n">>) end).

names_of_the_process_come_before_preloaded_ones(_Config) ->
    ok = py:exec(<<"preloaded_mine = 'mine'">>),
    ok = py_preload:set_code(<<"preloaded_mine = 'preloaded'">>),
    {ok, <<"mine">>} = py:eval(<<"preloaded_mine">>),
    {ok, <<"preloaded">>} = py_test:in_process(fun() -> py:eval(<<"preloaded_mine">>) end).

preloaded_code_can_be_replaced_and_cleared(_Config) ->
    ok = py_preload:set_code(<<"preloaded_v = 1">>),
    {ok, 1} = py_test:in_process(fun() -> py:eval(<<"preloaded_v">>) end),
    ok = py_preload:set_code("preloaded_v = 2"),
    {ok, 2} = py_test:in_process(fun() -> py:eval(<<"preloaded_v">>) end),
    ?assertEqual(<<"preloaded_v = 2">>, iolist_to_binary(py_preload:get_code())),
    ok = py_preload:clear_code(),
    false = py_preload:has_preload(),
    ok = py_preload:clear_code().

preload_that_fails_is_an_error(_Config) ->
    {error, {'SyntaxError', _}} = py_preload:set_code(<<"1 +">>),
    {error, {'ZeroDivisionError', _}} = py_preload:set_code(<<"1/0">>),
    {error, {'TypeError', _}} = py_preload:set_code(17),
    false = py_preload:has_preload(),
    {ok, 1} = py_test:in_process(fun() -> py:eval(<<"1">>) end).

preloaded_code_can_call_Erlang(_Config) ->
    Self = self(),
    ok = py:register_function(f, fun([N]) -> {N + 1, self() =:= Self} end),
    ok = py_preload:set_code(<<"import erlang\npreloaded_answer = erlang.call('f', 1)">>),
    [{ok, {2, false}}] = everywhere(fun() -> py:eval(<<"preloaded_answer">>) end),
    ok = py:unregister_function(f),
    {error, {'Error', _}} = py_preload:set_code(<<"import erlang\nerlang.call('f', 1)">>).

the_environment_preloads(_Config) ->
    py_test:restart(#{preload => <<"preloaded_by_env = 5">>}),
    true = py_preload:has_preload(),
    [{ok, 5}] = everywhere(fun() -> py:eval(<<"preloaded_by_env">>) end),
    %% And again after a restart.
    ok = application:stop(erlang_python),
    ok = application:start(erlang_python),
    [{ok, 5}] = everywhere(fun() -> py:eval(<<"preloaded_by_env">>) end).

an_environment_that_fails_to_preload_is_an_error_of_the_start(_Config) ->
    ok = application:stop(erlang_python),
    [begin
         ok = application:set_env(erlang_python, preload, Code),
         {error, Reason} = application:start(erlang_python),
         Text = lists:flatten(io_lib:format("~tp", [Reason])),
         ?assertMatch({match, _}, re:run(Text, "preload")),
         ?assertMatch({match, _}, re:run(Text, Part))
     end || {Code, Part} <- [{<<"1/0">>, "ZeroDivisionError"}, {17, "17"}]],
    ok = application:unset_env(erlang_python, preload),
    ok = application:start(erlang_python),
    {ok, 4.0} = py:call(math, sqrt, [16]).

%%% Imports

is_loaded(Name) ->
    fun() -> py:eval(["'", atom_to_list(Name), "' in __import__('sys').modules"]) end.

an_import_is_there_in_all_interpreters(Config) ->
    {Name, Dir} = new_module(Config, "import builtins\n"
                                     "builtins.setup_count = getattr(builtins, 'setup_count', 0) + 1\n"),
    ok = py_import:add_path(Dir),
    [{ok, false}] = everywhere(is_loaded(Name)),
    false = py_import:is_imported(Name),
    ok = py_import:ensure_imported(Name),
    true = py_import:is_imported(Name),
    [{ok, true}] = everywhere(is_loaded(Name)),
    %% A second time does nothing.
    {ok, Count} = py:eval(<<"setup_count">>),
    ok = py_import:ensure_imported(Name),
    ok = py_import:ensure_imported(atom_to_binary(Name)),
    {ok, Count} = py:eval(<<"setup_count">>).

an_import_that_fails_is_an_error(Config) ->
    {error, {'ModuleNotFoundError', _}} = py_import:ensure_imported(no_such_module),
    {Name, Dir} = new_module(Config, "1/0\n"),
    ok = py_import:add_path(Dir),
    {error, {'ZeroDivisionError', _}} = py_import:ensure_imported(Name),
    [false = py_import:is_imported(M) || M <- [no_such_module, Name]],
    {ok, 4.0} = py:call(math, sqrt, [16]).

imports_are_listed_and_cleared(Config) ->
    {Name, Dir} = new_module(Config, "def f(): return 1\n"),
    ok = py_import:add_path(Dir),
    [] = py_import:all_imports(),
    ok = py_import:ensure_imported(Name),
    ok = py_import:ensure_imported(json, dumps),
    true = py_import:is_imported(json, dumps),
    All = py_import:all_imports(),
    2 = length(All),
    Text = lists:flatten(io_lib:format("~tp", [{All, py_import:import_list()}])),
    [?assertMatch({match, _}, re:run(Text, Part)) || Part <- [atom_to_list(Name), "json", "dumps"]],
    ok = py_import:clear_imports(),
    [] = py_import:all_imports(),
    false = py_import:is_imported(Name).

the_environment_imports(Config) ->
    {Name, Dir} = new_module(Config, "x = 1\n"),
    py_test:restart(#{imports => [json, Name], paths => [Dir]}),
    [{ok, true}] = everywhere(is_loaded(Name)),
    [{ok, true}] = everywhere(is_loaded(json)),
    true = py_import:is_imported(Name),
    %% What cannot be imported is said by the start, and what is no list of names as well.
    ok = application:stop(erlang_python),
    [begin
         ok = application:set_env(erlang_python, imports, Imports),
         {error, Reason} = application:start(erlang_python),
         Text = lists:flatten(io_lib:format("~tp", [Reason])),
         ?assertMatch({match, _}, re:run(Text, Part))
     end || {Imports, Part} <- [{[no_such_module], "no_such_module"}, {json, "imports"}, {[1], "imports"}]].

interpreters_that_come_later_have_the_imports(Config) ->
    {Name, Dir} = new_module(Config, "x = 1\n"),
    ok = py_import:add_path(Dir),
    ok = py_import:ensure_imported(Name),
    Options = [#{}] ++ [#{mode => owngil} || py:subinterp_supported()],
    [begin
         {ok, C} = py_context:new(O),
         {ok, true} = py_context:eval(C, ["'", atom_to_list(Name), "' in __import__('sys').modules"]),
         ok = py_context:destroy(C)
     end || O <- Options],
    {ok, _} = py_context_router:start_pool(p, 1),
    {ok, Modules} = py:call(p, builtins, eval, [<<"list(__import__('sys').modules)">>, #{}]),
    ?assert(lists:member(atom_to_binary(Name), Modules)).

%%% Paths

a_path_makes_modules_importable_everywhere(Config) ->
    {Name, Dir} = new_module(Config, "def f(): return 42\n"),
    {error, {'ModuleNotFoundError', _}} = py:call(Name, f, []),
    false = py_import:is_path_added(Dir),
    ok = py_import:add_path(Dir),
    true = py_import:is_path_added(Dir),
    [{ok, 42}] = everywhere(fun() -> py:call(Name, f, []) end),
    {ok, 42} = py:call(io, Name, f, []),
    {ok, C} = py_context:new(case py:subinterp_supported() of true -> #{mode => owngil}; false -> #{} end),
    {ok, 42} = py_context:call(C, Name, f, []),
    ok = py_context:destroy(C).

paths_are_listed_and_cleared(Config) ->
    Dirs = [filename:join(proplists:get_value(priv_dir, Config), D) || D <- ["path_a", "path_b"]],
    [] = py_import:all_paths(),
    ok = py_import:add_paths(Dirs),
    ?assertEqual(Dirs, [unicode:characters_to_list(P) || P <- py_import:all_paths()]),
    ok = py_import:add_path(hd(Dirs)),
    2 = length(py_import:all_paths()),
    ok = py_import:clear_paths(),
    [] = py_import:all_paths(),
    [false = py_import:is_path_added(D) || D <- Dirs],
    [{ok, false}] = everywhere(fun() -> py:eval(<<"any(p.endswith('path_a') for p in __import__('sys').path)">>) end).

the_environment_adds_paths(Config) ->
    {Name, Dir} = new_module(Config, "def f(): return 43\n"),
    py_test:restart(#{paths => [Dir]}),
    [{ok, 43}] = everywhere(fun() -> py:call(Name, f, []) end),
    ok = application:stop(erlang_python),
    ok = application:set_env(erlang_python, paths, not_a_list),
    {error, Reason} = application:start(erlang_python),
    ?assertMatch({match, _}, re:run(io_lib:format("~tp", [Reason]), "paths")).

%%% Reload

a_reloaded_module_has_its_new_code_everywhere(Config) ->
    {Name, Dir} = new_module(Config, "def f(): return 'old'\n"),
    ok = py_import:add_path(Dir),
    [{ok, <<"old">>}] = everywhere(fun() -> py:call(Name, f, []) end),
    {ok, <<"old">>} = py:call(io, Name, f, []),
    ok = write(Dir, Name, "def f(): return 'brand new'\n"),
    [{ok, <<"old">>}] = everywhere(fun() -> py:call(Name, f, []) end),
    ok = py:reload(Name),
    [{ok, <<"brand new">>}] = everywhere(fun() -> py:call(Name, f, []) end),
    {ok, <<"brand new">>} = py:call(io, Name, f, []).

a_reload_of_broken_code_is_an_error_and_keeps_the_old(Config) ->
    ok = py:reload(no_such_module),         % is loaded nowhere
    {error, {'TypeError', _}} = py:reload(1),
    {Name, Dir} = new_module(Config, "def f(): return 'old'\n"),
    ok = py_import:add_path(Dir),
    {ok, <<"old">>} = py:call(Name, f, []),
    ok = write(Dir, Name, "def f(: return 'new'\n"),
    {error, {'SyntaxError', _}} = py:reload(Name),
    {ok, <<"old">>} = py:call(Name, f, []).

a_reload_while_calls_run_disturbs_nobody(Config) ->
    {Name, Dir} = new_module(Config, "def f(x): return [x, 0]\n"),
    ok = py_import:add_path(Dir),
    Work = fun() ->
                   [begin {ok, [N, Version]} = py:call(Name, f, [N]), true = is_integer(Version) end
                    || N <- lists:seq(1, py_test:fewer(2000))],
                   done
           end,
    Reload = fun() ->
                     [begin
                          %% Of another size each, as the time of the file may be the same.
                          ok = write(Dir, Name, ["def f(x): return [x, ", integer_to_list(N), "]\n",
                                                 lists:duplicate(N, $#)]),
                          ok = py:reload(Name)
                      end || N <- lists:seq(1, 20)],
                     done
             end,
    ?assertEqual(lists:duplicate(5, done), py_test:at_once([Reload | lists:duplicate(4, Work)])),
    [{ok, [1, 20]}] = everywhere(fun() -> py:call(Name, f, [1]) end).
