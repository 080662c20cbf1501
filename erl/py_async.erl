%% SPDX-License-Identifier: Apache-2.0
%% @private
%% What has no process that waits for it: the callbacks of asynchronous requests and casts,
%% what these print, and the ends of casts.
%%
%% Each callback runs in a process of its own.  Should that be killed, Python gets an error
%% rather than wait for ever.
-module(py_async).
-behaviour(gen_server).

-export([start_link/0]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

%% Results that nobody wants may be handles, and are there until this process collects its
%% garbage: it does when it has had nothing to do for so many milliseconds.
-define(IDLE, 100).

%% The frames in which Python waits, by the monitor of the process that runs the function.
-type state() :: #{reference() => py_nif:frame()}.

-spec start_link() -> gen_server:start_ret().
start_link() ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

-spec init([]) -> {ok, state()}.
init([]) ->
    {ok, #{}}.

handle_call(_Request, _From, State) ->
    {reply, {error, unknown_call}, State}.

handle_cast(_Request, State) ->
    {noreply, State}.

handle_info({Tag, callback, Frame, Name, Args}, State) ->
    {noreply, run(Frame, Name, Args, leader(Tag, Name, Args), State), ?IDLE};
handle_info({py_output, Text}, State) -> % of a thread that serves no request
    ok = py_output:post(user, Text),
    {noreply, State, ?IDLE};
handle_info({{cast, _What, Names, _Leader}, Result}, State) ->
    log(Names, Result),
    {noreply, State, ?IDLE};
handle_info({{cast, What, Names, _Leader}, Result, QueueNs, RunNs}, State) ->
    py_telemetry:stop(What, Names, Result, {QueueNs, RunNs}),
    log(Names, Result),
    {noreply, State, ?IDLE};
handle_info(timeout, State) ->
    {noreply, State, hibernate};
handle_info({'DOWN', Monitor, process, _Pid, Reason}, State) ->
    {Frame, Left} = maps:take(Monitor, State),
    ended(Frame, Reason),
    {noreply, Left, ?IDLE};
handle_info(_Info, State) ->
    {noreply, State, ?IDLE}.

%% Where that callback prints: as the process that submitted the request, if it lives.
leader({cast, _What, _Names, Leader}, _Name, _Args) ->
    Leader;
leader(_Ticket, '$py_output', [_Text, Caller]) ->
    case process_info(Caller, group_leader) of
        {group_leader, Leader} -> Leader;
        undefined -> whereis(user)
    end;
leader(_Ticket, _Name, _Args) ->
    group_leader().

run(Frame, Name, Args, Leader, State) ->
    case py_async_sup:start_callback(Frame, Name, Args, Leader) of
        {ok, Pid} ->
            State#{monitor(process, Pid) => Frame};
        {error, Reason} ->
            ended(Frame, Reason),
            State
    end.

%% A process that ended by itself has answered, and one that was killed has not.
ended(_Frame, normal) ->
    ok;
ended(Frame, Reason) ->
    %% false: it had answered, or nobody waits any more.
    _ = py_nif:callback_return(Frame, {error, {exit, Reason, []}}),
    ok.

log({Module, Function}, {error, Reason}) ->
    logger:warning("erlang_python: the cast of ~ts.~ts failed: ~tp", [Module, Function, Reason]);
log(_Names, _Result) ->
    ok.
