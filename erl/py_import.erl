%% SPDX-License-Identifier: Apache-2.0
%% @doc Modules that every interpreter imports, and directories that every interpreter looks
%% into: those that run, and those that come later.
%%
%% What the application environment asks for by `imports' and `paths' is listed here too.
-module(py_import).

-export([ensure_imported/1, ensure_imported/2, is_imported/1, is_imported/2]).
-export([all_imports/0, import_list/0, clear_imports/0]).
-export([add_path/1, add_paths/1, all_paths/0, is_path_added/1, clear_paths/0]).

%% @doc Imports a module in all interpreters.
-spec ensure_imported(Module :: py:name()) -> ok | {error, py:reason()}.
ensure_imported(Module) ->
    checked(fun() -> {name(Module), all} end, fun py_setup:ensure_imported/1).

%% @doc The same, and there must be that function.
-spec ensure_imported(Module :: py:name(), Function :: py:name()) -> ok | {error, py:reason()}.
ensure_imported(Module, Function) ->
    checked(fun() -> {name(Module), name(Function)} end, fun py_setup:ensure_imported/1).

%% @doc Was ensure_imported called for this module, or for a function of it?
-spec is_imported(Module :: py:name()) -> boolean() | {error, py:reason()}.
is_imported(Module) ->
    checked(fun() -> name(Module) end, fun(Name) -> lists:keymember(Name, 1, py_setup:imports()) end).

%% @doc Was ensure_imported called for this function?
-spec is_imported(Module :: py:name(), Function :: py:name()) -> boolean() | {error, py:reason()}.
is_imported(Module, Function) ->
    checked(fun() -> {name(Module), name(Function)} end,
            fun(Import) -> lists:member(Import, py_setup:imports()) end).

%% @doc What was asked for, in that order.
-spec all_imports() -> [{Module :: binary(), all | Function :: binary()}].
all_imports() ->
    py_setup:imports().

%% @doc The same by module.
-spec import_list() -> {ok, #{Module :: binary() => [Function :: binary()]}}.
import_list() ->
    {ok, lists:foldr(fun add/2, #{}, py_setup:imports())}.

add({Module, all}, List) -> maps:merge(#{Module => []}, List);
add({Module, Function}, List) -> maps:update_with(Module, fun(Fs) -> [Function | Fs] end, [Function], List).

%% @doc Forgets the list, so that later interpreters do not import it.  What is imported stays.
-spec clear_imports() -> ok | {error, py:reason()}.
clear_imports() ->
    py_setup:clear_imports().

%% @equiv add_paths([Path])
-spec add_path(Path :: file:name_all()) -> ok | {error, py:reason()}.
add_path(Path) ->
    add_paths([Path]).

%% @doc Adds directories to `sys.path', in front of what Python itself put there and behind
%% those that were added before.
-spec add_paths([file:name_all()]) -> ok | {error, py:reason()}.
add_paths(Paths) when is_list(Paths) ->
    checked(fun() -> [path(Path) || Path <- Paths] end, fun py_setup:add_paths/1);
add_paths(Paths) ->
    checked(fun() -> py_args:refuse('TypeError', "the paths must be a list, not ~tP", [Paths, 10]) end,
            fun py_setup:add_paths/1).

%% @doc The directories that were added.
-spec all_paths() -> [binary()].
all_paths() ->
    py_setup:paths().

%% @doc Was this directory added?
-spec is_path_added(Path :: file:name_all()) -> boolean() | {error, py:reason()}.
is_path_added(Path) ->
    checked(fun() -> path(Path) end, fun(Text) -> lists:member(Text, py_setup:paths()) end).

%% @doc Takes all of them out of `sys.path'.  What was imported from there stays.
-spec clear_paths() -> ok | {error, py:reason()}.
clear_paths() ->
    py_setup:clear_paths().

name(Name) when is_atom(Name) -> atom_to_binary(Name);
name(Name) when is_binary(Name); is_list(Name) -> py_args:text(name, Name);
name(Name) -> py_args:refuse('TypeError', "a name must be an atom, a binary or a string, not ~tP", [Name, 10]).

path(Path) when is_binary(Path); is_list(Path) -> py_args:text(path, Path);
path(Path) -> py_args:refuse('TypeError', "a path must be a binary or a string, not ~tP", [Path, 10]).

checked(Check, Fun) ->
    case py_args:checked(Check) of
        {ok, Value} -> Fun(Value);
        {error, _} = Error -> Error
    end.
