%% SPDX-License-Identifier: Apache-2.0
%% @private
%% The OTP application.  The library is loaded here, before any process starts,
%% so that an error in the environment or a missing Python is the very error
%% that application:start/1 returns.
-module(erlang_python_app).
-behaviour(application).

-export([start/2, stop/1]).

start(_Type, _Args) ->
    case py_env:validate() of
        ok -> load();
        {error, _} = Error -> Error
    end.

stop(_State) ->
    ok = py_event_loop:forget(),
    py_state:forget().

load() ->
    case py_variant:load() of
        ok ->
            _ = forget_routes(),
            ok = let_children_be_reaped(),
            erlang_python_sup:start_link();
        {error, Reason} -> {error, {python, iolist_to_text(py_variant:format_error(Reason))}}
    end.

%% The emulator ignores the signal that a child ended.  The kernel then throws away the status
%% of children, and Python's subprocess would take each of them for successful.
let_children_be_reaped() ->
    os:set_signal(sigchld, default).

%% Registrations end with the application, however that ended.
forget_routes() ->
    [ok = py_nif:route(Module, Function, none) || {Module, Function, _Pool} <- py_nif:routes()].

iolist_to_text(Chars) ->
    unicode:characters_to_binary(Chars).
