%% SPDX-License-Identifier: Apache-2.0
%% @doc Admission: how many requests may be queued or run at a time.
%%
%% Every request takes a slot by itself, and gives it back when it ends; one that finds none
%% waits in line, first come, first served.  A process that takes a slot by acquire/1 holds
%% it until release/0 or its end, and its requests ride on that slot.
-module(py_semaphore).

-export([acquire/1, release/0, current/0, max_concurrent/0, set_max_concurrent/1]).

%% @doc Takes a slot; waits in line for it for at most Timeout milliseconds.
-spec acquire(timeout()) -> ok | {error, py:reason()}.
acquire(Timeout) ->
    case py_args:checked(fun() -> py_args:timeout(Timeout) end) of
        {ok, _} -> py_request:acquire(Timeout);
        {error, _} = Error -> Error
    end.

%% @doc Gives back a slot that this process took by acquire/1.
-spec release() -> ok | {error, py:reason()}.
release() ->
    case py_request:release() of
        true -> ok;
        false -> {error, {'RuntimeError', <<"this process holds no slot">>}};
        not_running -> {error, not_running}
    end.

%% @doc How many slots are taken.
-spec current() -> non_neg_integer() | {error, not_running}.
current() ->
    if_running(fun() -> element(1, py_nif:slots()) end).

%% @doc How many slots there are.
-spec max_concurrent() -> pos_integer() | {error, not_running}.
max_concurrent() ->
    if_running(fun() -> element(2, py_nif:slots()) end).

%% @doc Sets how many slots there are, until the application stops.  More serve those that
%% wait at once; fewer take effect as requests end.
-spec set_max_concurrent(pos_integer()) -> ok | {error, py:reason()}.
set_max_concurrent(Max) ->
    case py_env:check(max_concurrent, Max) of
        ok -> if_running(fun() -> py_nif:set_max(Max) end);
        {error, Message} -> {error, {'ValueError', Message}}
    end.

if_running(Fun) ->
    case py_nif:info() of
        {_, _, _, running, _, _, _} -> Fun();
        _ -> {error, not_running}
    end.
