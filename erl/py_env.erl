%% SPDX-License-Identifier: Apache-2.0
%% @private
%% The application environment: its keys, their defaults, and what they take.
%% A key that is not known is an error too, as a misspelt one would be ignored.
-module(py_env).

-export([validate/0, get/1]).
-export_type([key/0]).

-type key() :: python | mode | num_executors | num_subinterp_workers
             | max_spare_executors.

%% {Key, Default, Check, What it takes}
-spec keys() -> [{key(), term(), fun((term()) -> boolean()), string()}].
keys() ->
    Schedulers = erlang:system_info(schedulers_online),
    [{python, undefined, fun is_python/1,
      "a version such as \"3.13\", a tag such as \"cp313t\", a variant such as "
      "\"cp313-subinterp\" or the path of an interpreter"},
     {mode, undefined, fun is_mode/1, "multi_executor, subinterp or free_threaded"},
     {num_executors, 4, fun(N) -> is_count(N, 256) end, "an integer from 1 to 256"},
     {num_subinterp_workers, Schedulers, fun(N) -> is_count(N, 255) end,
      "an integer from 1 to 255"},
     {max_spare_executors, 64, fun(N) -> N =:= 0 orelse is_count(N, 256) end,
      "an integer from 0 to 256"}].

%% Checks all keys that are set.
-spec validate() -> ok | {error, {bad_environment, binary()}}.
validate() ->
    %% included_applications is put there by the application controller.
    Set = application:get_all_env(erlang_python) -- [{included_applications, []}],
    case lists:filtermap(fun complaint/1, Set) of
        [] -> ok;
        Complaints -> {error, {bad_environment, iolist_to_binary(lists:join("; ", Complaints))}}
    end.

-spec get(key()) -> term().
get(Key) ->
    {Key, Default, _, _} = lists:keyfind(Key, 1, keys()),
    application:get_env(erlang_python, Key, Default).

complaint({Key, Value}) ->
    case lists:keyfind(Key, 1, keys()) of
        {Key, Default, Check, Takes} ->
            (Value =/= Default andalso not Check(Value)) andalso
                {true, io_lib:format("~p takes ~ts, not ~tp", [Key, Takes, Value])};
        false ->
            Known = lists:join(", ", [atom_to_list(K) || {K, _, _, _} <- keys()]),
            {true, io_lib:format("~p is not a key of erlang_python (~ts)", [Key, Known])}
    end.

is_python(Value) ->
    is_binary(Value) orelse (is_list(Value) andalso io_lib:char_list(Value) andalso Value =/= []).

is_mode(Value) ->
    lists:member(Value, [multi_executor, subinterp, free_threaded]).

is_count(N, Max) ->
    is_integer(N) andalso N >= 1 andalso N =< Max.
