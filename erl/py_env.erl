%% SPDX-License-Identifier: Apache-2.0
%% @private
%% The application environment: its keys, their defaults, and what they take.
%% A key that is not known is an error too, as a misspelt one would be ignored.
-module(py_env).

-export([validate/0, get/1, check/2]).
-export_type([key/0]).

-type key() :: python | mode | num_executors | num_subinterp_workers | max_spare_executors
             | io_pool_size | num_async_workers | max_concurrent | acquire_timeout | num_contexts | num_workers
             | memory_limit | paths | imports | preload | errors | redirect_output
             | logging | max_traces.

%% {Key, Default, Check, What it takes}
-spec keys() -> [{key(), term(), fun((term()) -> boolean()), string()}].
keys() ->
    Schedulers = erlang:system_info(schedulers_online),
    [{python, undefined, fun is_python/1,
      "a version such as \"3.13\" or \"3.13t\", a tag such as \"cp313t\", a variant such as "
      "\"cp313-subinterp\" or the path of an interpreter"},
     {mode, undefined, fun is_mode/1, "multi_executor, subinterp or free_threaded"},
     count(num_executors, 4, 256),
     count(num_subinterp_workers, Schedulers, 255),
     {max_spare_executors, 64, fun(N) -> N =:= 0 orelse is_count(N, 256) end,
      "an integer from 0 to 256"},
     count(io_pool_size, 10, 256),
     count(num_async_workers, Schedulers, 256),
     count(max_concurrent, Schedulers * 2 + 1, 1000000),
     {acquire_timeout, 30000, fun(N) -> N =:= 0 orelse is_count(N, 16#FFFFFFFF) end,
      "an integer from 0 to 4294967295 (ms)"},
     count(num_contexts, Schedulers, 1000),
     count(num_workers, Schedulers, 1000), % the older name of num_contexts
     {memory_limit, undefined, fun is_memory/1, "an integer (bytes), or undefined or 0 for none"},
     {paths, [], fun(Paths) -> is_all(Paths, fun is_text/1) end, "a list of directories, each a string or binary"},
     {imports, [], fun(Imports) -> is_all(Imports, fun is_import/1) end,
      "a list of modules, or of {Module, Function}"},
     {preload, undefined, fun is_code/1, "Python code, a string or binary in UTF-8"},
     {errors, short, fun(Errors) -> Errors =:= full end, "short or full"},
     {redirect_output, true, fun(On) -> On =:= false end, "true or false"},
     {logging, none, fun py_logger:level/1, "a level of logger, all, or none"},
     count(max_traces, 10000, 10000000)].

count(Key, Default, Max) ->
    {Key, Default, fun(N) -> is_count(N, Max) end,
     lists:flatten(io_lib:format("an integer from 1 to ~b", [Max]))}.

%% Checks all keys that are set.
-spec validate() -> ok | {error, {bad_environment, binary()}}.
validate() ->
    %% included_applications is put there by the application controller.
    Set = application:get_all_env(erlang_python) -- [{included_applications, []}],
    case lists:filtermap(fun complaint/1, Set) ++ contradictions(Set) of
        [] -> ok;
        Complaints -> {error, {bad_environment, to_text(lists:join("; ", Complaints))}}
    end.

-spec get(key()) -> term().
get(num_contexts) ->
    application:get_env(erlang_python, num_contexts, ?MODULE:get(num_workers));
get(Key) ->
    {Key, Default, _, _} = lists:keyfind(Key, 1, keys()),
    application:get_env(erlang_python, Key, Default).

%% Is this a value of that key?
-spec check(key(), term()) -> ok | {error, binary()}.
check(Key, Value) ->
    case complaint({Key, Value}) of
        false -> ok;
        {true, Complaint} -> {error, to_text(Complaint)}
    end.

to_text(Chars) ->
    unicode:characters_to_binary(Chars).

complaint({Key, Value}) ->
    case lists:keyfind(Key, 1, keys()) of
        {Key, Default, Check, Takes} ->
            (Value =/= Default andalso not Check(Value)) andalso
                {true, io_lib:format("~p takes ~ts, not ~tp", [Key, Takes, Value])};
        false ->
            Known = lists:join(", ", [atom_to_list(K) || {K, _, _, _} <- keys()]),
            {true, io_lib:format("~p is not a key of erlang_python (~ts)", [Key, Known])}
    end.

%% num_workers is the older name of num_contexts.
contradictions(Set) ->
    case {lists:keyfind(num_contexts, 1, Set), lists:keyfind(num_workers, 1, Set)} of
        {{_, N}, {_, M}} when N =/= M ->
            [io_lib:format("num_workers (~tp) is another name for num_contexts (~tp): set one of them", [M, N])];
        _ ->
            []
    end.

is_python(Value) ->
    is_binary(Value) orelse (is_list(Value) andalso io_lib:char_list(Value) andalso Value =/= []).

is_mode(Value) ->
    lists:member(Value, [multi_executor, subinterp, free_threaded]).

is_count(N, Max) ->
    is_integer(N) andalso N >= 1 andalso N =< Max.

is_memory(N) ->
    is_integer(N) andalso N >= 0.

is_all(Values, Check) ->
    is_list(Values) andalso length_or_none(Values) =/= none andalso lists:all(Check, Values).

length_or_none(List) ->
    try length(List)
    catch error:badarg -> none
    end.

is_import({Module, Function}) -> is_name(Module) andalso is_name(Function);
is_import(Module) -> is_name(Module).

is_name(Name) ->
    (is_atom(Name) andalso Name =/= undefined) orelse is_text(Name).

%% Not empty, and valid UTF-8.
is_text(Value) ->
    is_code(Value) andalso Value =/= "" andalso Value =/= <<>>.

is_code(Value) when is_binary(Value); is_list(Value) ->
    try is_binary(unicode:characters_to_binary(Value))
    catch error:badarg -> false
    end;
is_code(_Value) ->
    false.
