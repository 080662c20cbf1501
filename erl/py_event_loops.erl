%% SPDX-License-Identifier: Apache-2.0
%% @private
%% Which processes have event loops.  Whoever wants to know reads it here.  This process
%% forgets those that are gone.  When the application stops it has them all end at once, before
%% Python does: one that is blocked takes its time, and those that users started have tasks too.
-module(py_event_loops).
-behaviour(gen_server).

-export([find/1, all/0, register/2, unregister/0, in_turn/1]).
-export([new_table/0, start_link/0]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

%% The rows: {Pid, Loop, Number}.
-define(TABLE, ?MODULE).
%% How long processes have to end; less than the supervisor gives this one.
-define(STOP_TIMEOUT, 5000).

-spec find(pid()) -> {ok, py_nif:loop()} | {error, py:reason()}.
find(Pid) ->
    try {ok, ets:lookup_element(?TABLE, Pid, 2)}
    catch error:badarg -> {error, unknown(Pid)}
    end.

unknown(Pid) ->
    case ets:whereis(?TABLE) of
        undefined -> not_running;
        _ -> {'ValueError', unicode:characters_to_binary(io_lib:format("~tP has no event loop", [Pid, 10]))}
    end.

%% By the number that those of the application have; the others follow.
-spec all() -> [{Number :: pos_integer() | none, pid(), py_nif:loop()}].
all() ->
    case ets:whereis(?TABLE) of
        undefined -> [];
        _ -> lists:sort([{Number, Pid, Loop} || {Pid, Loop, Number} <- ets:tab2list(?TABLE)])
    end.

%% The calling process has this loop from now on.  The application's loops are older than the
%% process here.
-spec register(py_nif:loop(), Number :: pos_integer() | none) -> ok | not_running.
register(Loop, none) ->
    try gen_server:call(?MODULE, {register, {self(), Loop, none}}, infinity)
    catch exit:{Reason, _} when Reason =:= noproc; Reason =:= shutdown; Reason =:= normal -> not_running
    end;
register(Loop, Number) ->
    true = ets:insert(?TABLE, {self(), Loop, Number}),
    gen_server:cast(?MODULE, {watch, self()}).

%% It has not any more.  It may be later than the table.
-spec unregister() -> ok.
unregister() ->
    true = ets:whereis(?TABLE) =:= undefined orelse ets:delete(?TABLE, self()),
    ok.

%% One at a time.  While this process is not there yet, the supervisor starts one loop after
%% the other.
-spec in_turn(fun(() -> Result)) -> Result.
in_turn(Fun) ->
    case whereis(?MODULE) of
        undefined -> Fun();
        _ -> gen_server:call(?MODULE, {in_turn, Fun}, infinity)
    end.

-spec new_table() -> ok.
new_table() ->
    ?TABLE = ets:new(?TABLE, [named_table, public, {read_concurrency, true}]),
    ok.

-spec start_link() -> gen_server:start_ret().
start_link() ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

%% The table may be older than this process.
init([]) ->
    process_flag(trap_exit, true),
    [monitor(process, Pid) || {Pid, _, _} <- ets:tab2list(?TABLE)],
    {ok, []}.

handle_call({register, {Pid, _, _} = Row}, _From, State) ->
    _ = monitor(process, Pid),
    true = ets:insert(?TABLE, Row),
    {reply, ok, State};
handle_call({in_turn, Fun}, _From, State) ->
    {reply, Fun(), State};
handle_call(_Request, _From, State) ->
    {reply, {error, unknown_call}, State}.

handle_cast({watch, Pid}, State) ->
    _ = monitor(process, Pid),
    {noreply, State};
handle_cast(_Request, State) ->
    {noreply, State}.

handle_info({'DOWN', _Monitor, process, Pid, _Reason}, State) ->
    true = ets:delete(?TABLE, Pid),
    {noreply, State};
handle_info(_Info, State) ->
    {noreply, State}.

%% They live on when only this process ends.
terminate(shutdown, _State) ->
    Pids = [Pid || {Pid, _Loop, _Number} <- ets:tab2list(?TABLE)],
    [ok = py_event_loop:application_stops(Pid) || Pid <- Pids],
    await_ends(maps:from_list([{monitor(process, Pid), Pid} || Pid <- Pids]),
               erlang:monotonic_time(millisecond) + ?STOP_TIMEOUT);
terminate(_Reason, _State) ->
    ok.

await_ends(Monitors, _Deadline) when map_size(Monitors) =:= 0 ->
    ok;
await_ends(Monitors, Deadline) ->
    receive
        {'DOWN', Monitor, process, _Pid, _Reason} -> await_ends(maps:remove(Monitor, Monitors), Deadline)
    after max(0, Deadline - erlang:monotonic_time(millisecond)) ->
        ok % each has said why
    end.
