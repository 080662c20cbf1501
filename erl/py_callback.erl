%% SPDX-License-Identifier: Apache-2.0
%% The Erlang functions that Python may call by name.
-module(py_callback).

-export([register/2, unregister/1, lookup/1, execute/2]).
-export([new_table/0, is_registered/1]).
-export_type([name/0, callable/0]).

-type name() :: atom() | binary() | string().
-type callable() :: fun((Args :: [term()]) -> term()) | {module(), Function :: atom()}.

%% @doc Lets Python call this function by this name, in place of an earlier one.
%% The function gets the list of the arguments.
-spec register(name(), callable()) -> ok | {error, not_running | {py:exception(), binary()}}.
register(Name, Function) when is_function(Function, 1) ->
    insert(Name, Function);
register(Name, {M, F}) when is_atom(M), is_atom(F) ->
    insert(Name, {M, F});
register(_Name, _Function) ->
    {error, {'TypeError', <<"the function must be a fun of one argument or {Module, Function}">>}}.

%% @doc Takes a function back.  One that is not registered is no error.
-spec unregister(name()) -> ok | {error, not_running}.
unregister(Name) ->
    in_table(fun() -> ets:delete(?MODULE, key(Name)), ok end).

-spec lookup(name()) -> {ok, callable()} | {error, not_found | not_running}.
lookup(Name) ->
    in_table(fun() ->
                     case ets:lookup(?MODULE, key(Name)) of
                         [{_, Function}] -> {ok, Function};
                         [] -> {error, not_found}
                     end
             end).

%% @doc Runs a registered function in the calling process.  Its exceptions are
%% the caller's, and an unknown name is `error:{undefined_function, Name}'.
-spec execute(name(), [term()]) -> term().
execute(Name, Args) ->
    case lookup(Name) of
        {ok, {M, F}} -> M:F(Args);
        {ok, Fun} -> Fun(Args);
        {error, not_found} -> error({undefined_function, Name});
        {error, not_running} -> error(not_running)
    end.

%% @private Can Python call this name?
-spec is_registered(name()) -> boolean().
is_registered(Name) ->
    case lookup(Name) of
        {ok, _} -> true;
        {error, not_found} -> false;
        {error, not_running} -> error(not_running)
    end.

%% @private
-spec new_table() -> ok.
new_table() ->
    ?MODULE = ets:new(?MODULE, [named_table, public, {read_concurrency, true}]),
    ok.

insert(Name, Function) ->
    try key(Name) of
        Key when is_binary(Key) -> in_table(fun() -> ets:insert(?MODULE, {Key, Function}), ok end);
        _ -> {error, {'ValueError', <<"the name is not valid UTF-8">>}}
    catch
        error:_ -> {error, {'TypeError', <<"the name must be an atom, a binary or a string">>}}
    end.

key(Name) when is_binary(Name) -> Name;
key(Name) when is_atom(Name) -> atom_to_binary(Name);
key(Name) when is_list(Name) -> unicode:characters_to_binary(Name).

%% The table goes with the application, at any moment.
in_table(Fun) ->
    try Fun()
    catch error:badarg:Stack -> no_table(ets:whereis(?MODULE), Stack)
    end.

no_table(undefined, _Stack) -> {error, not_running};
no_table(_Table, Stack) -> erlang:raise(error, badarg, Stack).
