%% SPDX-License-Identifier: Apache-2.0
%% @private
%% What has no process that waits for it: the callbacks of asynchronous requests and casts,
%% of threads that Python started and of tasks of event loops; what those requests print; and
%% the ends of casts.
%%
%% Each callback runs in a process of its own.  Should that be killed, Python gets an error
%% rather than wait for ever.  The processes are monitored, not supervised: a supervisor
%% would double the time of a callback.  They end with the application, but live on when this
%% process is started anew, as they answer by themselves.
-module(py_async).
-behaviour(gen_server).

-export([start_link/0]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).
-export([callback/6]).

%% Results that nobody wants may be handles, and are there until this process collects its
%% garbage: it does when it has had nothing to do for so many milliseconds.
-define(IDLE, 100).

%% The processes that run callbacks, by their monitors; and those whose callback may be
%% cancelled.
-record(state, {running = #{} :: #{reference() => {pid(), Tag :: term(), py_nif:place()}},
                cancellable = #{} :: #{id() => pid()}}).

%% Of a call by a task, whose tag is {async, Id}.
-type id() :: pos_integer().

-spec start_link() -> gen_server:start_ret().
start_link() ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

-spec init([]) -> {ok, #state{}}.
init([]) ->
    process_flag(trap_exit, true),
    {ok, #state{}}.

handle_call(_Request, _From, State) ->
    {reply, {error, unknown_call}, State}.

handle_cast(_Request, State) ->
    {noreply, State}.

handle_info({Tag, callback, Place, Name, Args}, State) ->
    {noreply, called(Tag, Place, Name, Args, none, State), ?IDLE};
handle_info({Tag, callback, Place, Name, Args, Traceparent}, State) ->
    {noreply, called(Tag, Place, Name, Args, Traceparent, State), ?IDLE};
handle_info({'DOWN', Monitor, process, _Pid, Reason}, State) ->
    {noreply, ended(Monitor, Reason, State), ?IDLE};
handle_info({cancel_callback, Id}, State) ->
    {noreply, cancelled(Id, State), ?IDLE};
handle_info({select, Loop, undefined, ready_input}, State) -> % of a loop whose process is gone
    ok = py_nif:loop_ready(Loop),
    {noreply, State, ?IDLE};
handle_info({py_loop, Loop}, State) ->
    _ = py_nif:loop_serve(Loop),
    {noreply, State, ?IDLE};
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
handle_info(_Info, State) ->
    {noreply, State, ?IDLE}.

%% By then Python waits for none of them any more.
terminate(_Reason, #state{running = Running}) ->
    [exit(Pid, kill) || {Pid, _Tag, _Place} <- maps:values(Running)],
    [receive {'DOWN', Monitor, process, _, _} -> ok end || Monitor <- maps:keys(Running)],
    ok.

%%% Callbacks

called(Tag, Place, Name, Args, Trace, State) ->
    case is_quick(Name, Args) of
        true ->
            ok = py_request:serve(Place, Name, Args, Trace),
            State;
        false ->
            start(Tag, Place, Name, Args, Trace, State)
    end.

%% What takes no longer than starting a process for it.
is_quick('$py_state', [Op | _]) -> Op =:= get orelse Op =:= incr;
is_quick('$py_registered', _Args) -> true;
is_quick(_Name, _Args) -> false.

start(Tag, Place, Name, Args, Trace, #state{running = Running, cancellable = Cancellable} = State) ->
    Leader = leader(Tag, Name, Args),
    try spawn_opt(?MODULE, callback, [self(), Leader, Place, Name, Args, Trace], [monitor]) of
        {Pid, Monitor} ->
            State#state{running = Running#{Monitor => {Pid, Tag, Place}},
                        cancellable = case Tag of
                                          {async, Id} -> Cancellable#{Id => Pid};
                                          _ -> Cancellable
                                      end}
    catch
        error:system_limit ->
            ok = answer(Place, system_limit),
            State
    end.

%% @private The process of a callback.  It says of itself what processes of proc_lib do.
-spec callback(pid(), Leader :: pid(), py_nif:place(), Name :: term(), Args :: [term()], py_request:trace()) -> ok.
callback(Parent, Leader, Place, Name, Args, Trace) ->
    _ = put('$ancestors', [Parent]),
    _ = put('$initial_call', {?MODULE, callback, 6}),
    true = group_leader(Leader, self()),
    py_request:serve(Place, Name, Args, Trace).

%% Where that callback prints: as the process that submitted the request, if it lives.
leader({cast, _What, _Names, Leader}, _Name, _Args) ->
    Leader;
leader(_Ticket, '$py_output', [_Text, Caller]) ->
    case process_info(Caller, group_leader) of
        {group_leader, Leader} -> Leader;
        undefined -> whereis(user)
    end;
leader(_Tag, _Name, _Args) ->
    group_leader().

%% A process that ended by itself has answered, and one that was killed has not.
ended(Monitor, Reason, #state{running = Running, cancellable = Cancellable} = State) ->
    {{_Pid, Tag, Place}, Left} = maps:take(Monitor, Running),
    ok = case Reason of
             normal -> ok;
             _ -> answer(Place, Reason)
         end,
    State#state{running = Left,
                cancellable = case Tag of
                                  {async, Id} -> maps:remove(Id, Cancellable);
                                  _ -> Cancellable
                              end}.

answer(Place, Reason) ->
    %% false: it had answered, or nobody waits any more.
    _ = py_nif:callback_return(Place, {error, {exit, Reason, []}}),
    ok.

%% Nobody waits for it any more.
cancelled(Id, #state{cancellable = Cancellable} = State) ->
    case Cancellable of
        #{Id := Pid} -> true = exit(Pid, cancelled);
        #{} -> true % it has ended meanwhile
    end,
    State.

%%% Casts

%% By the end of its pool, context or event loop, which may have had thousands.
log({Module, Function}, {error, cancelled}) ->
    logger:info("erlang_python: the cast of ~ts.~ts was cancelled", [Module, Function]);
log({Module, Function}, {error, Reason}) ->
    logger:warning("erlang_python: the cast of ~ts.~ts failed: ~tp", [Module, Function, Reason]);
log(_Names, _Result) ->
    ok.
