%% SPDX-License-Identifier: Apache-2.0
%% @private
%% Child processes of Python's event loops.
%%
%% The emulator does not fork, so a port starts a program of ours, which is the child's parent
%% and talks with the loop over a connection of their own: see c_src/py_spawn.c.  This process
%% owns the ports.  It is not needed any more once a child runs: when it ends, children go on,
%% and loops still learn how they end.
-module(py_subprocess).
-behaviour(gen_server).

-export([start_link/0, start/1, count/0]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

%% Who waits for the program of a port to connect; `connected' when it has.
-record(state, {ports = #{} :: #{port() => gen_server:from() | connected}}).

-spec start_link() -> gen_server:start_ret().
start_link() ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

%% Has a new py_spawn connect to the abstract socket of this name: the process id by which the
%% loop knows that it is ours, or the error of the system's that there is none.
-spec start(Address :: binary()) -> pos_integer() | {error, atom()}.
start(Address) ->
    gen_server:call(?MODULE, {start, Address}, infinity).

%% How many run, and so how many children there are.
-spec count() -> non_neg_integer().
count() ->
    gen_server:call(?MODULE, count, infinity).

-spec init([]) -> {ok, #state{}}.
init([]) ->
    process_flag(trap_exit, true), % for the ports that cannot be started
    {ok, #state{}}.

handle_call({start, Address}, From, #state{ports = Ports} = State) ->
    case open(Address) of
        {ok, Port} -> {noreply, State#state{ports = Ports#{Port => From}}};
        {error, _} = Error -> {reply, Error, State}
    end;
handle_call(count, _From, #state{ports = Ports} = State) ->
    {reply, map_size(Ports), State};
handle_call(_Request, _From, State) ->
    {reply, {error, unknown_call}, State}.

handle_cast(_Request, State) ->
    {noreply, State}.

handle_info({Port, {data, _}}, #state{ports = Ports} = State) when is_map_key(Port, Ports) ->
    reply(maps:get(Port, Ports), os_pid(Port)),
    {noreply, State#state{ports = Ports#{Port := connected}}};
handle_info({Port, {exit_status, _}}, State) ->
    {noreply, ended(Port, State)};
handle_info({'EXIT', Port, _Reason}, State) when is_port(Port) ->
    {noreply, ended(Port, State)};
handle_info(_Info, State) ->
    {noreply, State}.

open(Address) ->
    Program = filename:join([py_variant:priv_dir(), "bin", "py_spawn"]),
    try {ok, open_port({spawn_executable, Program}, [{args, [Address]}, binary, exit_status])}
    catch error:Reason -> {error, Reason}
    end.

os_pid(Port) ->
    case erlang:port_info(Port, os_pid) of
        {os_pid, Pid} -> Pid;
        undefined -> {error, econnreset} % it has been killed
    end.

%% One that ends before it connects has found nobody at the address.
ended(Port, #state{ports = Ports} = State) ->
    case maps:take(Port, Ports) of
        {Waiting, Left} ->
            reply(Waiting, {error, econnrefused}),
            State#state{ports = Left};
        error ->
            State
    end.

reply(connected, _Answer) -> ok;
reply(From, Answer) -> gen_server:reply(From, Answer).
