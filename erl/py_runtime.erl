%% SPDX-License-Identifier: Apache-2.0
%% @private
%% The process that starts Python and stops it.  Calls do not go through it.
-module(py_runtime).
-behaviour(gen_server).

-export([start_link/0, command/1]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

-define(START_TIMEOUT, 60000).
%% Calls get a second to end and one more when interrupted, see epy_runtime.c.
-define(STOP_TIMEOUT, 4000).
-define(COMMAND_TIMEOUT, 60000).

-spec start_link() -> gen_server:start_ret().
start_link() ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

%% Gives the runtime's thread a command and waits for its answer.  After a timeout a late
%% answer may come, which the calling process must be able to take.
-spec command(fun((reference()) -> ok | not_running)) -> ok | {ok, term()} | {error, py:reason()}.
command(Give) ->
    Ref = make_ref(),
    case Give(Ref) of
        ok -> answer(await(Ref, ?COMMAND_TIMEOUT));
        not_running -> {error, not_running}
    end.

answer({error, Text}) when is_binary(Text) -> {error, {'RuntimeError', Text}};
answer(Answer) -> Answer.

await(Ref, Timeout) ->
    receive
        {py_runtime, Ref, Answer} -> Answer
    after Timeout ->
        {error, timeout}
    end.

init([]) ->
    process_flag(trap_exit, true),
    Ref = make_ref(),
    case py_nif:start(Ref, config()) of
        ok -> started(await(Ref, ?START_TIMEOUT));
        {error, Reason} -> {stop, {python_does_not_start, Reason}}
    end.

config() ->
    Path = filename:absname(filename:join(py_variant:priv_dir(), "python")),
    {py_env:get(num_executors), py_env:get(num_subinterp_workers), py_env:get(io_pool_size),
     py_env:get(max_spare_executors), erlang:system_info(schedulers_online),
     py_env:get(max_concurrent), py_env:get(acquire_timeout), py_telemetry:detect(),
     py_env:get(errors) =:= full, py_env:get(redirect_output),
     unicode:characters_to_binary(Path), py_env:get(num_async_workers)}.

started(ok) -> {ok, []};
started({error, Reason}) -> {stop, {python_does_not_start, Reason}}.

handle_call(_Request, _From, State) ->
    {reply, {error, unknown_call}, State}.

handle_cast(_Request, State) ->
    {noreply, State}.

handle_info(_Info, State) ->
    {noreply, State}.

terminate(_Reason, _State) ->
    Ref = make_ref(),
    ok = py_nif:stop(Ref),
    case await(Ref, ?STOP_TIMEOUT) of
        ok -> ok;
        {error, timeout} ->
            logger:error("erlang_python: Python did not stop within ~b ms", [?STOP_TIMEOUT])
    end.
