%% SPDX-License-Identifier: Apache-2.0
%% @doc A reactor context: connections whose descriptors Erlang hands over, and which Python
%% reads and writes on an event loop without a process or a message of Erlang's.
%%
%% What is done with a connection, a protocol says, a class in Python: see `erlang.reactor'.
%% The context is a process, which ends all its connections with it.
-module(py_reactor_context).
-behaviour(gen_server).

-export([start_link/1, start_link/2, start_link/3, stop/1, handoff/2, handoff/3, stats/1]).
-export([new_table/0, enter/1]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).
-export_type([mode/0, options/0, socket/0]).

%% auto: the event loop of the calling process.  worker: that, and it must be one of the main
%% interpreter; owngil: one of a sub-interpreter.
-type mode() :: auto | worker | owngil.
%% factory: what makes the protocol of a connection, a class for example.  setup_code: runs in
%% the context before the first connection; it may call erlang.reactor.set_protocol_factory().
-type options() :: #{factory => {Module :: py:name(), Name :: py:name()}, setup_code => py:code(),
                     max_connections => pos_integer() | infinity, loop => py_event_loop:loop() | pid() | next}.
%% The number of a descriptor, or a socket that is passive and of which nothing was read that
%% Erlang still has.
-type socket() :: py_fd:source().

-define(TABLE, ?MODULE).
-define(PYTHON, 'erlang.reactor').
-define(STOP_TIMEOUT, 5000).

-record(state, {ticket :: reference() | none}).

%%% Life

%% @equiv start_link(Id, auto)
-spec start_link(Id :: term()) -> {ok, pid()} | {error, py:reason()}.
start_link(Id) ->
    start_link(Id, auto).

%% @equiv start_link(Id, Mode, #{})
-spec start_link(Id :: term(), mode()) -> {ok, pid()} | {error, py:reason()}.
start_link(Id, Mode) ->
    start_link(Id, Mode, #{}).

%% @doc Starts a context, linked to the calling process.  Id is told by stats/1.
-spec start_link(Id :: term(), mode(), options()) -> {ok, pid()} | {error, py:reason()}.
start_link(Id, Mode, Options) ->
    case py_args:checked(fun() -> checked(Id, Mode, Options) end) of
        {ok, Checked} -> proc_lib:start_link(?MODULE, enter, [Checked]);
        {error, _} = Error -> Error
    end.

checked(Id, Mode, Options) ->
    #{rest := Rest} = py_args:options({opts, Options}, [factory, setup_code, max_connections, loop]),
    Loop = py_web:loop(Rest, [none]),
    ok = mode(Mode, Loop),
    #{id => Id, loop => Loop, namespace => py_request:current(),
      args => factory(Rest) ++ [code(Rest), max_connections(maps:get(max_connections, Rest, infinity))]}.

mode(auto, _Loop) -> ok;
mode(Mode, Loop) when Mode =:= worker; Mode =:= owngil ->
    (Mode =:= worker) =:= (interp(Loop) =:= 0) orelse
        py_args:refuse('ValueError', "the event loop is of no interpreter of the kind ~tw", [Mode]),
    ok;
mode(Mode, _Loop) -> py_args:refuse('ValueError', "the mode can be auto, worker or owngil, not ~tP", [Mode, 10]).

interp(Loop) ->
    try py_nif:loop_info(Loop) of
        #{interp := Interp} -> Interp
    catch
        error:badarg -> py_args:refuse('ValueError', "~tw is no event loop", [Loop]);
        error:not_loaded -> py_args:refuse(not_running)
    end.

factory(#{factory := {Module, Name}}) -> [text(py_args:module(Module)), text(py_args:function(Name))];
factory(#{factory := Other}) ->
    py_args:refuse('TypeError', "the factory must be {Module, Name}, not ~tP", [Other, 10]);
factory(#{}) -> [none, none].

text(Name) when is_atom(Name) -> atom_to_binary(Name);
text(Name) -> Name.

code(#{setup_code := Code}) -> hd(py_args:exec(Code));
code(#{}) -> none.

max_connections(infinity) -> none;
max_connections(N) -> py_args:positive(max_connections, N).

%% @doc Ends a context and its connections.
-spec stop(Context :: pid()) -> ok | {error, py:reason()}.
stop(Context) ->
    case find(Context) of
        {ok, _Loop, _Number} -> end_process(Context);
        {error, _} = Error -> Error
    end.

end_process(Context) ->
    try gen_server:stop(Context, normal, infinity)
    catch exit:_ -> ok % it has ended meanwhile
    end.

%%% Connections

%% @doc handoff/3 to one of the contexts that run, at random.
-spec handoff(socket(), ClientInfo :: map()) -> {ok, Fd :: non_neg_integer()} | {error, py:reason()}.
handoff(Socket, ClientInfo) ->
    case ets:whereis(?TABLE) =/= undefined andalso [Pid || {Pid, _, _, _} <- ets:tab2list(?TABLE), is_alive(Pid)] of
        false -> {error, not_running};
        [] -> {error, {'RuntimeError', <<"there is no reactor context">>}};
        Contexts -> handoff(lists:nth(rand:uniform(length(Contexts)), Contexts), Socket, ClientInfo)
    end.

%% @doc Lets a context serve a connection.  It gets a duplicate of the descriptor, whose number is
%% the answer.  A socket of Erlang's is closed here then, without a word to the other side; a
%% descriptor that is given by its number stays open and the caller's.  ClientInfo is what the
%% protocol gets to know.  The context may as well be the last argument.
-spec handoff(Context :: pid(), socket(), ClientInfo :: map()) ->
          {ok, Fd :: non_neg_integer()} | {error, py:reason()};
             (socket(), ClientInfo :: map(), Context :: pid()) ->
          {ok, Fd :: non_neg_integer()} | {error, py:reason()}.
handoff(Socket, ClientInfo, Context) when is_pid(Context), not is_pid(Socket) ->
    handoff(Context, Socket, ClientInfo);
handoff(Context, Socket, ClientInfo) when is_map(ClientInfo) ->
    case {find(Context), py_fd:number(Socket)} of
        {{ok, Loop, Number}, {ok, Fd}} -> handed_over(on_loop(Loop, handoff, [Number, Fd, ClientInfo]), Socket);
        {{error, _} = Error, _} -> Error;
        {_, {error, _} = Error} -> Error
    end;
handoff(_Context, _Socket, ClientInfo) ->
    py_args:checked(fun() ->
                            py_args:refuse('TypeError', "what is told of the client must be a map, not ~tP",
                                           [ClientInfo, 10])
                    end).

handed_over({ok, _} = Ok, Socket) ->
    ok = py_fd:close(Socket),
    Ok;
handed_over({error, _} = Error, _Socket) ->
    Error.

%% @doc What a context has done: `connections', which it has now, `accepted', `failed', `bytes_in'
%% and `bytes_out', and its `id'.
-spec stats(Context :: pid()) ->
          {ok, #{id := term(), connections := non_neg_integer(), accepted := non_neg_integer(),
                 failed := non_neg_integer(), bytes_in := non_neg_integer(), bytes_out := non_neg_integer()}}
        | {error, py:reason()}.
stats(Context) ->
    case find(Context) of
        {ok, Loop, Number} -> with_id(Context, on_loop(Loop, stats, [Number]));
        {error, _} = Error -> Error
    end.

with_id(Context, {ok, Stats}) ->
    case ets:lookup(?TABLE, Context) of
        [{_, _, _, Id}] -> {ok, Stats#{id => Id}};
        [] -> {error, ended()}
    end;
with_id(_Context, {error, _} = Error) ->
    Error.

on_loop(Loop, Function, Args) ->
    py_request:run({loop, Loop}, task, [?PYTHON, Function, Args, #{}], infinity).

%% @private
-spec new_table() -> ok.
new_table() ->
    ?TABLE = ets:new(?TABLE, [named_table, public, {read_concurrency, true}]),
    ok.

find(Context) when is_pid(Context), node(Context) =:= node() ->
    try is_alive(Context) andalso ets:lookup(?TABLE, Context) of
        [{_, Loop, Number, _Id}] -> {ok, Loop, Number};
        _ -> {error, ended()}
    catch
        error:badarg -> {error, not_running}
    end;
find(Context) when is_pid(Context) ->
    {error, ended()};
find(Other) ->
    py_args:checked(fun() -> py_args:refuse('TypeError', "a reactor context is a pid, not ~tP", [Other, 10]) end).

%% One that was killed has left its row.
is_alive(Context) ->
    is_process_alive(Context) orelse ets:delete(?TABLE, Context) =/= true.

ended() ->
    {'ValueError', <<"there is no such reactor context">>}.

%%% The process

%% @private A context that does not start is an answer, and does not end the process that asked.
-spec enter(map()) -> no_return().
enter(#{id := Id, loop := Loop, namespace := Namespace, args := Args}) ->
    process_flag(trap_exit, true),
    ok = py_request:bind(Namespace),
    Number = erlang:unique_integer([positive]),
    Terms = [?PYTHON, serve, [Number, self() | Args], #{}],
    case started(py_request:async({loop, Loop}, task, Terms, 0)) of
        {ok, Ticket} ->
            true = ets:insert(?TABLE, {self(), Loop, Number, Id}),
            ok = proc_lib:init_ack({ok, self()}),
            gen_server:enter_loop(?MODULE, [], #state{ticket = Ticket});
        {error, Reason} ->
            ok = proc_lib:init_ack({error, Reason}),
            exit(normal)
    end.

started({ok, Ticket}) ->
    receive
        {py_reactor, started} -> {ok, Ticket};
        Message when element(1, Message) =:= Ticket -> py_request:answer(Message);
        {'EXIT', _Pid, Reason} -> exit(Reason) % the parent's
    end;
started({error, _} = Error) ->
    Error.

init(_Args) ->
    ignore. % enter/1 has done all

handle_call(_Request, _From, State) ->
    {reply, {error, unknown_call}, State}.

handle_cast(_Request, State) ->
    {noreply, State}.

handle_info(Message, #state{ticket = Ticket} = State) when element(1, Message) =:= Ticket ->
    %% It ends by itself only with its loop.
    {error, Reason} = py_request:answer(Message),
    {stop, {shutdown, Reason}, State#state{ticket = none}};
handle_info(_Info, State) ->
    {noreply, State}.

terminate(_Reason, #state{ticket = Ticket}) ->
    _ = ets:whereis(?TABLE) =/= undefined andalso ets:delete(?TABLE, self()),
    _ = Ticket =:= none orelse stop_task(Ticket),
    ok.

stop_task(Ticket) ->
    ok = py_request:cancel(Ticket),
    receive
        {py_reactor, stopped} -> ok
    after ?STOP_TIMEOUT ->
        logger:warning("erlang_python: a reactor context did not close its connections in time")
    end.
