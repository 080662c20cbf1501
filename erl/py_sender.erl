%% SPDX-License-Identifier: Apache-2.0
%% @private
%% erlang.send() to what the library does not reach by itself: processes of other nodes,
%% aliases, ports.
%%
%% A send to another node may wait until the nodes are connected, or until the other one
%% reads; one to a port until that is not busy.  So each node and each port has a process that
%% sends to it, in the order of what came, and ends when it has had nothing to do for a while.
%% As with `!', what cannot be delivered is dropped.
-module(py_sender).
-behaviour(gen_server).

-export([start_link/0]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).
-export([forwarder/2]).

-define(IDLE, 10000).
%% A send that takes so many milliseconds waited for a connection.
-define(LONG, 500).

-type destination() :: pid() | port() | reference() | {Name :: atom(), node()}.
%% What a forwarder sends to.
-type target() :: node() | port().
%% The forwarders, with how much each was given.
-type state() :: #{target() => {pid(), Given :: non_neg_integer()}}.

-spec start_link() -> gen_server:start_ret().
start_link() ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

-spec init([]) -> {ok, state()}.
init([]) ->
    process_flag(trap_exit, true),
    {ok, #{}}.

handle_call(_Request, _From, State) ->
    {reply, {error, unknown_call}, State}.

handle_cast(_Request, State) ->
    {noreply, State}.

handle_info({py_send, Dest, Term}, State) ->
    case target(Dest) of
        here ->
            _ = Dest ! Term,
            {noreply, State};
        Target ->
            {Pid, Given} = forwarder_of(Target, State),
            Pid ! {send, Dest, Term},
            {noreply, State#{Target => {Pid, Given + 1}}}
    end;
handle_info({idle, Target, Pid, Done}, State) ->
    case State of
        #{Target := {Pid, Done}} ->
            Pid ! stop,
            {noreply, maps:remove(Target, State)};
        #{} ->
            {noreply, State} % there is more on its way to it
    end;
handle_info({'EXIT', Pid, _Reason}, State) -> % that is not its idle end if it is still known
    {noreply, maps:filter(fun(_Target, {Known, _Given}) -> Known =/= Pid end, State)};
handle_info(_Info, State) ->
    {noreply, State}.

-spec target(destination()) -> here | target().
target(Port) when is_port(Port), node(Port) =:= node() -> Port;
target({_Name, Node}) when Node =:= node() -> here;
target({_Name, Node}) -> Node;
target(Dest) when node(Dest) =:= node() -> here;
target(Dest) -> node(Dest).

forwarder_of(Target, State) ->
    case State of
        #{Target := Known} -> Known;
        #{} -> {proc_lib:spawn_link(?MODULE, forwarder, [self(), Target]), 0}
    end.

%%% The process that sends to one node or port

%% @private
-spec forwarder(Server :: pid(), target()) -> ok.
forwarder(Server, Target) ->
    forward(Server, Target, 0, ?IDLE).

%% Done: how much it has dealt with, so that the server knows whether more is on its way.
forward(Server, Target, Done, Wait) ->
    receive
        {send, Dest, Term} ->
            Started = erlang:monotonic_time(millisecond),
            _ = Dest ! Term,
            Took = erlang:monotonic_time(millisecond) - Started,
            forward(Server, Target, Done + 1 + given_up(Target, Took), ?IDLE);
        stop ->
            ok
    after Wait ->
        Server ! {idle, Target, self(), Done},
        forward(Server, Target, Done, infinity)
    end.

%% What came while a node was tried in vain is dropped: else each of it would be tried for as
%% long.  How much that was.
given_up(Node, Took) when is_atom(Node), Took >= ?LONG ->
    case lists:member(Node, nodes(connected)) of
        true -> 0;
        false -> drop(0)
    end;
given_up(_Target, _Took) ->
    0.

drop(Count) ->
    receive {send, _, _} -> drop(Count + 1)
    after 0 -> Count
    end.
