%% SPDX-License-Identifier: Apache-2.0
%% @doc Coroutines on all event loops of the application in turn.
%%
%% Where py_event_loop has all tasks of a process on one loop, here each task goes to the next
%% one, whoever makes it.  So tasks of one process may run in parallel, where the mode allows
%% that; and in `subinterp' mode they run in different interpreters, so that what one of them
%% leaves in a module, or the process defined by py:exec/1, is not there for the next.
%%
%% The options are those of py_event_loop, with `next' in place of get_loop/0's loop.
-module(py_event_loop_pool).

-export([run/3, run/4, create_task/3, create_task/4, await/1, await/2, cancel/1]).
-export([spawn_task/3, spawn_task/4, run_async/2, get_loop/0, get_stats/0]).
-export([size/0]).

%% @equiv run(Module, Function, Args, #{})
-spec run(Module :: py:name(), Function :: py:name(), Args :: [term()]) -> py:result().
run(Module, Function, Args) ->
    run(Module, Function, Args, #{}).

%% @doc py_event_loop:run/4 on the next loop.
-spec run(Module :: py:name(), Function :: py:name(), Args :: [term()], py_event_loop:options()) -> py:result().
run(Module, Function, Args, Options) ->
    py_event_loop:run(Module, Function, Args, on_next(Options)).

%% @equiv create_task(Module, Function, Args, #{})
-spec create_task(Module :: py:name(), Function :: py:name(), Args :: [term()]) ->
          {ok, reference()} | {error, py:reason()}.
create_task(Module, Function, Args) ->
    create_task(Module, Function, Args, #{}).

%% @doc py_event_loop:create_task/4 on the next loop.
-spec create_task(Module :: py:name(), Function :: py:name(), Args :: [term()], py_event_loop:options()) ->
          {ok, reference()} | {error, py:reason()}.
create_task(Module, Function, Args, Options) ->
    py_event_loop:create_task(Module, Function, Args, on_next(Options)).

%% @equiv py_event_loop:await(Ref)
-spec await(reference()) -> py:result().
await(Ref) ->
    py_event_loop:await(Ref).

%% @equiv py_event_loop:await(Ref, Timeout)
-spec await(reference(), timeout()) -> py:result().
await(Ref, Timeout) ->
    py_event_loop:await(Ref, Timeout).

%% @equiv py_event_loop:cancel(Ref)
-spec cancel(reference()) -> ok | {error, py:reason()}.
cancel(Ref) ->
    py_event_loop:cancel(Ref).

%% @equiv spawn_task(Module, Function, Args, #{})
-spec spawn_task(Module :: py:name(), Function :: py:name(), Args :: [term()]) -> ok | {error, py:reason()}.
spawn_task(Module, Function, Args) ->
    spawn_task(Module, Function, Args, #{}).

%% @doc py_event_loop:spawn_task/4 on the next loop.
-spec spawn_task(Module :: py:name(), Function :: py:name(), Args :: [term()], py_event_loop:options()) ->
          ok | {error, py:reason()}.
spawn_task(Module, Function, Args, Options) ->
    py_event_loop:spawn_task(Module, Function, Args, on_next(Options)).

%% @doc py_event_loop:run_async/2 on this loop, or on the next one.
-spec run_async(py_event_loop:loop() | pid() | next, py_event_loop:task()) -> ok | {error, py:reason()}.
run_async(Loop, Task) ->
    py_event_loop:run_async(Loop, Task).

%% @doc The next loop, for what has to be on one and the same.
-spec get_loop() -> {ok, py_event_loop:loop()} | {error, not_running}.
get_loop() ->
    py_event_loop:next_loop().

%% @doc How many loops the application has, how many tasks they have and how many of these have
%% not begun, and the same of each loop.
-spec get_stats() -> #{num_loops := non_neg_integer(), tasks := non_neg_integer(), waiting := non_neg_integer(),
                       loops := [map()]}
                   | {error, not_running}.
get_stats() ->
    case [Info || #{number := Number} = Info <- py_event_loop:infos(), Number =/= none] of
        [] -> {error, not_running};
        Loops -> #{num_loops => length(Loops), tasks => sum(tasks, Loops), waiting => sum(waiting, Loops),
                   loops => Loops}
    end.

sum(Key, Maps) ->
    lists:sum([maps:get(Key, Map) || Map <- Maps]).

%% @private How many loops the application is to have.
-spec size() -> non_neg_integer().
size() ->
    case py_nif:loop_count() of
        0 -> 0;
        Interpreters -> max(Interpreters, py_env:get(num_async_workers))
    end.

on_next({opts, Options}) -> on_next(Options);
on_next(Options) when is_map(Options) -> maps:merge(#{loop => next}, Options);
on_next(Options) -> Options. % which is refused
