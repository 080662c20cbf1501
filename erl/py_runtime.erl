%% SPDX-License-Identifier: Apache-2.0
%% @private
%% The process that starts Python and stops it.  Calls do not go through it.
-module(py_runtime).
-behaviour(gen_server).

-export([start_link/0]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

-define(START_TIMEOUT, 60000).
%% Calls get a second to end and one more when interrupted, see epy_runtime.c.
-define(STOP_TIMEOUT, 4000).

-spec start_link() -> gen_server:start_ret().
start_link() ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

init([]) ->
    process_flag(trap_exit, true),
    Path = unicode:characters_to_binary(filename:absname(filename:join(py_variant:priv_dir(),
                                                                       "python"))),
    case py_nif:start(py_env:get(num_executors), py_env:get(num_subinterp_workers),
                      py_env:get(max_spare_executors), erlang:system_info(schedulers_online),
                      Path) of
        ok -> await_start();
        {error, Reason} -> {stop, {python_does_not_start, Reason}}
    end.

await_start() ->
    receive
        {py_runtime, started} -> {ok, []};
        {py_runtime, {error, Text}} -> {stop, {python_does_not_start, Text}}
    after ?START_TIMEOUT ->
        {stop, {python_does_not_start, timeout}}
    end.

handle_call(_Request, _From, State) ->
    {reply, {error, unknown_call}, State}.

handle_cast(_Request, State) ->
    {noreply, State}.

handle_info(_Info, State) ->
    {noreply, State}.

terminate(_Reason, _State) ->
    ok = py_nif:stop(),
    receive
        {py_runtime, stopped} -> ok
    after ?STOP_TIMEOUT ->
        logger:error("erlang_python: Python did not stop within ~b ms", [?STOP_TIMEOUT])
    end.
