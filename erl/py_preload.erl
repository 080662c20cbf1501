%% SPDX-License-Identifier: Apache-2.0
%% @doc Code that runs once in every interpreter: in those that run, and in those that come
%% later.  What it defines is visible in every namespace.
%%
%% It runs in `__main__' on a thread that serves no requests, so what it calls in Erlang runs in
%% a process of its own.
-module(py_preload).

-export([set_code/1, get_code/0, clear_code/0, has_preload/0]).

%% @doc Runs the code in all interpreters.  It is kept for later ones, in place of an earlier
%% one, if it raises no exception anywhere.
-spec set_code(py:code()) -> ok | {error, py:reason()}.
set_code(Code) ->
    case py_args:checked(fun() -> py_args:exec(Code) end) of
        {ok, [Text]} -> py_setup:set_preload(Text);
        {error, _} = Error -> Error
    end.

%% @doc The code, if there is one.
-spec get_code() -> binary() | undefined.
get_code() ->
    py_setup:preload().

%% @doc Forgets the code, so that later interpreters do not run it.  What it defined stays
%% where it ran.
-spec clear_code() -> ok | {error, py:reason()}.
clear_code() ->
    py_setup:set_preload(undefined).

%% @doc Is there such code?
-spec has_preload() -> boolean().
has_preload() ->
    get_code() =/= undefined.
