%% SPDX-License-Identifier: Apache-2.0
%% @private
%% The native functions.  Each runs on a normal scheduler and none waits.
%%
%% Which library implements them is chosen when the application starts
%% (py_variant), and stays for the life of the node.
-module(py_nif).

-export([load/1]).
-on_load(load_again/0).
-export([start/5, stop/0, info/0, bind/0, submit/3, nest/4, cancel/1, callback_return/2]).
-export_type([namespace/0, id/0, frame/0, info/0]).

-nifs([start/5, stop/0, info/0, bind/0, submit/3, nest/4, cancel/1, callback_return/2]).

-opaque namespace() :: reference().
-opaque id() :: non_neg_integer().
-opaque frame() :: {non_neg_integer(), non_neg_integer()}.
-type info() :: {Variant :: binary(), Mode :: py:mode(), Version :: binary(), State :: atom(),
                 Executors :: non_neg_integer(), HasSubinterps :: boolean(), Stdlib :: binary()}.

%% Loads the library at this path, without its ending.
-spec load(file:filename()) -> ok | {error, {atom(), string()}}.
load(Path) ->
    case erlang:load_nif(Path, 0) of
        ok -> persistent_term:put(?MODULE, Path);
        {error, _} = Error -> Error
    end.

%% When this module is loaded again, the library that the node chose stays.
load_again() ->
    case persistent_term:get(?MODULE, undefined) of
        undefined -> ok;
        Path -> erlang:load_nif(Path, 0)
    end.

%% Begins to start.  The calling process gets {py_runtime, started} or
%% {py_runtime, {error, Text}}.
-spec start(NumExecutors :: pos_integer(), NumSubinterps :: pos_integer(),
            MaxSpares :: non_neg_integer(), Schedulers :: pos_integer(), PythonPath :: binary()) ->
          ok | {error, state | thread}.
start(_NumExecutors, _NumSubinterps, _MaxSpares, _Schedulers, _PythonPath) ->
    erlang:nif_error(not_loaded).

%% Begins to stop.  The calling process gets {py_runtime, stopped}.
-spec stop() -> ok | {error, state}.
stop() ->
    erlang:nif_error(not_loaded).

-spec info() -> info() | not_loaded.
info() ->
    not_loaded.

%% A namespace for the calling process, bound to an interpreter.  Without a
%% library there is nothing to bind to, and that is what callers are told.
-spec bind() -> namespace() | not_running.
bind() ->
    not_running.

%% Queues a request.  The calling process gets {Tag, Result} once, and
%% {Tag, callback, Frame, Name, Args} for each call from Python before that.
-spec submit(namespace(), Op :: 0..2, Request :: tuple()) -> id() | not_running.
submit(_Namespace, _Op, _Request) ->
    erlang:nif_error(not_loaded).

%% The same for a request from within a callback: it runs on the stack of the
%% executor that waits in Frame.
-spec nest(namespace(), Op :: 0..2, Request :: tuple(), frame()) -> id() | not_running.
nest(_Namespace, _Op, _Request, _Frame) ->
    erlang:nif_error(not_loaded).

%% true: the request ends without a reply, and no message of it comes any more.
%% false: its reply is in the mailbox or on its way.
-spec cancel(id()) -> boolean().
cancel(_Id) ->
    erlang:nif_error(not_loaded).

%% Ends a callback; false when nobody waits for it any more.
-spec callback_return(frame(), {ok, term()} | {error, {atom(), term(), list()}}) -> boolean().
callback_return(_Frame, _Outcome) ->
    erlang:nif_error(not_loaded).
