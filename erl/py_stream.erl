%% SPDX-License-Identifier: Apache-2.0
%% @private
%% What a generator, or anything else that Python iterates over, yields: as a list for the
%% process that waits, or as messages to a process that goes on.
%%
%% Each stream is an object of erlang/_stream.py, made of the object that the call returned,
%% in its interpreter; each step is a request there and gives a batch of items.  The batches
%% of a list are large.  Those of messages are as large as what comes in BATCH_MS, and never
%% larger than the credit.
%%
%% A stream of messages is a process, which ends with its owner.  Whatever ends it while it is
%% not through, a step is cancelled if one runs, and the generator is closed.
-module(py_stream).
-behaviour(gen_server).

-export([options/1, start_options/1, collect/3]).
-export([start/2, ack/2, cancel/1]).
-export([new_table/0, start_link/5]).
-export([init/1, handle_continue/2, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).
-export_type([options/0]).

-type options() :: {opts, #{credit => non_neg_integer() | infinity, batch => pos_integer(),
                            errors => short | full, binary => auto | str | bytes, atom => atom | str}}.

-define(TABLE, ?MODULE).
-define(PYTHON, 'erlang._stream').
-define(LIST_BATCH, 10000).
-define(BATCH, 2000).
-define(BATCH_MS, 10).
%% How long the generator has to end when the application stops.
-define(STOP_TIMEOUT, 2000).

%%% Lists

-spec options(py:options()) -> py_args:options().
options(Options) ->
    py_args:options(Options, [timeout, errors, binary, atom]).

%% All items of the value of a call or an expression.
-spec collect(call | eval, Terms :: [term()], py_args:options()) -> {ok, [term()]} | {error, py:reason()}.
collect(Op, Terms, #{timeout := Timeout, flags := Flags}) ->
    Run = with_deadline(Timeout),
    case Run(undefined, Op, Terms, py_args:handle_flag(Flags)) of
        {ok, Source} -> collect_of(open(Source, Flags, Run), Flags, Run);
        {error, _} = Error -> Error
    end.

with_deadline(infinity) ->
    fun(Place, Op, Terms, Flags) -> py_request:run(Place, Op, Terms, infinity, Flags) end;
with_deadline(Timeout) ->
    Deadline = erlang:monotonic_time(millisecond) + Timeout,
    fun(Place, Op, Terms, Flags) ->
            Left = max(0, Deadline - erlang:monotonic_time(millisecond)),
            py_request:run(Place, Op, Terms, Left, Flags)
    end.

open(Source, Flags, Run) ->
    Run({object, Source}, call, terms('Stream', [Source]), py_args:handle_flag(Flags)).

collect_of({ok, Stream}, Flags, Run) ->
    Step = fun(Function, Args) ->
                   Run({object, Stream}, call, terms(Function, [Stream | Args]), Flags)
           end,
    case batches(Step, [], 0) of
        {ok, _} = Ok ->
            Ok;
        {error, _} = Error ->
            ok = close(Stream),
            Error
    end;
collect_of({error, _} = Error, _Flags, _Run) ->
    Error.

batches(Step, Batches, Count) ->
    case Step('Stream.next', [?LIST_BATCH, none]) of
        {ok, {true, Items}} -> {ok, lists:append(lists:reverse(Batches, [Items]))};
        {ok, {false, Items}} -> batches(Step, [Items | Batches], Count + length(Items));
        {error, {conversion, What, [result, 2, I | Where]}} ->
            {error, {conversion, What, [result, Count + I | Where]}};
        {error, _} = Error -> Error
    end.

terms(Function, Args) ->
    [?PYTHON, Function, Args, #{}].

%% For a stream that has ended by itself this does nothing.  Nobody waits for code that may
%% take long; if it fails, that is logged.
close(Stream) ->
    _ = py_request:cast({object, Stream}, call, terms('Stream.close', [Stream]), 0),
    ok.

%%% Messages

-spec start_options(options()) -> py_args:options().
start_options(Options) ->
    #{rest := Rest} = Checked = py_args:options(Options, [credit, batch, errors, binary, atom]),
    Checked#{rest := #{credit => credit(maps:get(credit, Rest, infinity)),
                       batch => py_args:positive(batch, maps:get(batch, Rest, ?BATCH))}}.

credit(infinity) -> infinity;
credit(N) when is_integer(N), N >= 0 -> N;
credit(N) -> py_args:refuse('ValueError', "credit can be an integer from 0 or infinity, not ~tP", [N, 10]).

%% Begins a stream of what the call gives to the calling process.
-spec start(Terms :: [term()], py_args:options()) -> {ok, reference()} | {error, py:reason()}.
start(Terms, Options) ->
    case py_request:current() of
        not_running -> {error, not_running};
        Namespace -> start_process(make_ref(), Namespace, Terms, Options)
    end.

start_process(Ref, Namespace, Terms, Options) ->
    Owner = {self(), group_leader(), py_tracer:get_context()},
    try py_stream_sup:start_stream([Ref, Owner, Namespace, Terms, Options]) of
        {ok, _Pid} -> {ok, Ref}
    catch
        exit:{Reason, _} when Reason =:= noproc; Reason =:= shutdown; Reason =:= normal -> {error, not_running}
    end.

-spec ack(reference(), pos_integer()) -> ok.
ack(Ref, N) ->
    case find(Ref) of
        {ok, Pid} -> gen_server:cast(Pid, {ack, N});
        error -> ok
    end.

-spec cancel(reference()) -> ok.
cancel(Ref) ->
    ok = case find(Ref) of
             {ok, Pid} -> stop(Pid);
             error -> ok
         end,
    forget(Ref).

stop(Pid) ->
    try gen_server:call(Pid, cancel, infinity)
    catch exit:_ -> ok % it has just ended by itself
    end.

forget(Ref) ->
    receive {py_stream, Ref, _} -> forget(Ref)
    after 0 -> ok
    end.

%%% The process

-record(state, {ref :: reference(),
                owner :: pid(),
                monitor :: reference(),
                credit :: non_neg_integer() | infinity,
                batch :: pos_integer(),
                flags :: py_nif:flags(),
                stream = none :: py_nif:handle() | none, % none: not yet, or not any more
                request = none :: {Ticket :: reference(), What :: call | open | next | {again, py:reason()}}
                                | none}).

-spec new_table() -> ok.
new_table() ->
    ?TABLE = ets:new(?TABLE, [named_table, public, {read_concurrency, true}, {write_concurrency, true}]),
    ok.

find(Ref) ->
    try ets:lookup(?TABLE, Ref) of
        [{Ref, Pid}] -> {ok, Pid};
        [] -> error
    catch
        error:badarg -> error % the application does not run
    end.

-spec start_link(reference(), {Owner :: pid(), Leader :: pid(), py_tracer:traceparent() | undefined},
                 py_nif:namespace(), [term()], py_args:options()) ->
          gen_server:start_ret().
start_link(Ref, Owner, Namespace, Terms, Options) ->
    gen_server:start_link(?MODULE, {Ref, Owner, Namespace, Terms, Options}, []).

%% The owner's namespace and trace context, and its group leader for what is printed.
init({Ref, {Owner, Leader, Context}, Namespace, Terms, #{flags := Flags, rest := #{credit := Credit, batch := Batch}}}) ->
    process_flag(trap_exit, true),
    true = group_leader(Leader, self()),
    ok = py_request:bind(Namespace),
    ok = py_tracer:set_context(Context),
    true = ets:insert(?TABLE, {Ref, self()}),
    {ok, #state{ref = Ref, owner = Owner, monitor = monitor(process, Owner), credit = Credit, batch = Batch,
                flags = Flags},
     {continue, Terms}}.

handle_continue(Terms, #state{flags = Flags} = State) ->
    request(call, undefined, Terms, py_args:handle_flag(Flags), State).

handle_call(cancel, _From, State) ->
    {stop, normal, ok, State};
handle_call(_Request, _From, State) ->
    {reply, {error, unknown_call}, State}.

handle_cast({ack, _N}, #state{credit = infinity} = State) ->
    {noreply, State};
handle_cast({ack, N}, #state{credit = Credit} = State) ->
    next(State#state{credit = Credit + N});
handle_cast(_Request, State) ->
    {noreply, State}.

handle_info({'DOWN', Monitor, process, _Pid, _Reason}, #state{monitor = Monitor} = State) ->
    {stop, normal, State};
handle_info(Message, #state{request = {Ticket, What}} = State) when element(1, Message) =:= Ticket ->
    answered(What, py_request:answer(Message), State#state{request = none});
handle_info(_Info, State) ->
    {noreply, State}.

request(What, Place, Terms, Flags, State) ->
    case py_request:async(Place, call, Terms, Flags) of
        {ok, Ticket} -> {noreply, State#state{request = {Ticket, What}}};
        {error, Reason} -> finish({error, Reason}, State)
    end.

answered(call, {ok, Source}, #state{flags = Flags} = State) ->
    request(open, {object, Source}, terms('Stream', [Source]), py_args:handle_flag(Flags), State);
answered(open, {ok, Stream}, State) ->
    next(State#state{stream = Stream});
answered(next, {ok, {IsDone, Items}}, State) ->
    delivered(IsDone, deliver(Items, State));
answered(next, {error, {conversion, What, [result, 2, I | Where]}}, State) ->
    step({again, {conversion, What, [result | Where]}}, 'Stream.again', [I - 1], State);
answered({again, Reason}, {ok, Items}, State) ->
    finish({error, Reason}, deliver(Items, State));
answered(_What, {error, Reason}, State) ->
    finish({error, Reason}, State).

delivered(true, State) -> finish(done, State#state{stream = none});
delivered(false, State) -> next(State).

deliver(Items, #state{credit = Credit} = State) ->
    ok = lists:foreach(fun(Item) -> send({data, Item}, State) end, Items),
    State#state{credit = spend(Credit, length(Items))}.

spend(infinity, _Count) -> infinity;
spend(Credit, Count) -> Credit - Count.

next(#state{stream = Stream, request = Request, credit = Credit} = State)
  when Stream =:= none; Request =/= none; Credit =:= 0 ->
    {noreply, State};
next(#state{credit = Credit, batch = Batch} = State) -> % infinity is more than any number
    step(next, 'Stream.next', [min(Credit, Batch), ?BATCH_MS], State).

step(What, Function, Args, #state{stream = Stream, flags = Flags} = State) ->
    request(What, {object, Stream}, terms(Function, [Stream | Args]), Flags, State).

finish(Event, #state{ref = Ref} = State) ->
    true = ets:delete(?TABLE, Ref),
    ok = send(Event, State),
    {stop, normal, State}.

send(Event, #state{ref = Ref, owner = Owner}) ->
    Owner ! {py_stream, Ref, Event},
    ok.

terminate(Reason, #state{ref = Ref} = State) ->
    true = ets:delete(?TABLE, Ref),
    ok = cancel_request(State),
    ok = close(Reason, State),
    ok = told(Reason, State).

told(normal, _State) -> ok;
told(_Stop, State) -> send({error, cancelled}, State).

cancel_request(#state{request = none}) -> ok;
cancel_request(#state{request = {Ticket, _What}}) -> py_request:cancel(Ticket).

close(_Reason, #state{stream = none}) ->
    ok;
close(normal, #state{stream = Stream}) ->
    close(Stream);
close(_Stop, #state{stream = Stream}) ->
    _ = py_request:run({object, Stream}, call, terms('Stream.close', [Stream]), ?STOP_TIMEOUT),
    ok.
