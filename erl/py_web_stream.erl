%% SPDX-License-Identifier: Apache-2.0
%% @private
%% A response that comes in parts, or a websocket: the process between the request of the
%% application and the owner, who gets messages.
%%
%%     application -- erlang.send: {py_web, Event} --> this -- {Tag, Stream, Event} --> owner
%%     application <-- more/1: credit, next/1: what the client said -- this <-- ack, send -- owner
%%     application <-- closed/1: the client has closed -- this <-- close -- owner
%%
%% Each direction has its own flow control, and the two shall never wait for each other.  The
%% application waits for credit, which its owner gives.  Who pushes waits while the application
%% has much that it has not taken; but not the owner where there is credit, as nobody would be
%% left to give it: that one is told `full', and hears of it when there is room (`ready').  A
%% close waits for nothing and overtakes what waits: closed/1 tells an application that only sends.
%%
%% It ends when the request has ended, and the request ends with it: when the owner dies, at
%% cancel/2 and when the application stops.  Python spends credit by itself, and asks when it
%% has none.
-module(py_web_stream).
-behaviour(gen_server).

-export([start/1, receiver/1, ack/2, cancel/2, push/2]).
-export([more/1, next/1, closed/1]).
-export([start_link/1]).
-export([init/1, handle_continue/2, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).
-export_type([start/0]).

%% request: begins the request, in this process; it gets the last arguments of the function,
%% which say how to reach this process.  moved: makes it again elsewhere, if this result says
%% that it is to be.  credit: none for as much as there is.  body: of the request.  inlet: is there
%% something to push?
-type start() :: #{tag := atom(), owner := pid(), credit := non_neg_integer() | none, timeout := timeout(),
                   body := py_web:body(), inlet := boolean(),
                   request := fun((Link :: [term()]) -> {ok, reference()} | {error, py:reason()}),
                   moved := fun((py:result(), Link :: [term()]) -> false | {ok, reference()} | {error, py:reason()}),
                   origin => term()}.

%% What a client may send before the application has taken any of it.
-define(QUEUE_MAX, 64).

-record(state, {tag :: atom(),
                owner :: pid(),
                monitor :: reference(),
                timer = none :: reference() | none,
                ticket = none :: reference() | none,       % of the request while that runs
                body :: py_web:body(),
                moved :: fun((py:result()) -> false | {ok, reference()} | {error, py:reason()}),
                credit = 0 :: non_neg_integer(),           % that Python has not fetched
                asking = none :: gen_server:from() | none, % for credit
                queue = queue:new() :: queue:queue(term()),
                taking = none :: gen_server:from() | none, % what is in the queue
                pushing = [] :: [gen_server:from()],       % into the queue, while that is full
                may_wait :: boolean(),                     % the owner for the application
                is_refused = false :: boolean(),           % the owner, as the queue was full
                is_closed = false :: boolean(),            % by the client
                watching = none :: gen_server:from() | none}). % for that

%%% For the owner

%% In the namespace and the trace context of the calling process.
-spec start(start()) -> {ok, pid()} | {error, not_running}.
start(#{body := Body} = Start) ->
    case begin_stream(py_request:current(), Start) of
        {ok, Stream} ->
            {ok, Stream};
        {error, not_running} ->
            ok = py_web:end_body(Body),
            {error, not_running}
    end.

begin_stream(not_running, _Start) ->
    {error, not_running};
begin_stream(Namespace, Start) ->
    py_web_sup:start_stream(Start#{origin => {Namespace, group_leader(), py_tracer:get_context()}}).

%% Who gets the messages, by the option `stream'.
-spec receiver(map()) -> pid() | none.
receiver(#{stream := true}) -> self();
receiver(#{stream := Pid}) when is_pid(Pid) -> Pid;
receiver(#{stream := false}) -> none;
receiver(#{stream := Other}) ->
    py_args:refuse('TypeError', "stream can be true, false or a pid, not ~tP", [Other, 10]);
receiver(#{}) -> none.

-spec ack(pid(), pos_integer()) -> ok.
ack(Stream, N) when is_integer(N), N > 0 ->
    gen_server:cast(Stream, {ack, N}).

-spec cancel(Tag :: atom(), pid()) -> ok.
cancel(Tag, Stream) ->
    ok = try gen_server:call(Stream, cancel, infinity)
         catch exit:_ -> ok % it has ended by itself
         end,
    forget(Tag, Stream).

forget(Tag, Stream) ->
    receive {Tag, Stream, _} -> forget(Tag, Stream)
    after 0 -> ok
    end.

%% Something for the application; waits, or is refused, while there is much that it has not taken.
-spec push(pid(), term()) -> ok | {error, closed | full}.
push(Stream, Item) ->
    try gen_server:call(Stream, {push, Item}, infinity)
    catch exit:_ -> {error, closed}
    end.

%%% For Python, by funs

%% Waits for credit.
-spec more(pid()) -> pos_integer().
more(Stream) ->
    gen_server:call(Stream, more, infinity).

%% Waits for what was pushed: all of it.
-spec next(pid()) -> [term(), ...].
next(Stream) ->
    gen_server:call(Stream, next, infinity).

%% Waits for a close to be pushed.
-spec closed(pid()) -> ok.
closed(Stream) ->
    gen_server:call(Stream, closed, infinity).

%%% The process

-spec start_link(start()) -> gen_server:start_ret().
start_link(Start) ->
    gen_server:start_link(?MODULE, Start, []).

init(#{tag := Tag, owner := Owner, timeout := Timeout, origin := {Namespace, Leader, Context}, moved := Moved,
       credit := Credit, body := Body, inlet := Inlet} = Start) ->
    process_flag(trap_exit, true),
    true = group_leader(Leader, self()),
    ok = py_request:bind(Namespace),
    ok = py_tracer:set_context(Context),
    Timer = case Timeout of
                infinity -> none;
                _ -> erlang:send_after(Timeout, self(), timeout)
            end,
    Self = self(),
    Link = [Self, fun() -> more(Self) end, Credit |
            [Fun || Inlet, Fun <- [fun() -> next(Self) end, fun() -> closed(Self) end]]],
    {ok, #state{tag = Tag, owner = Owner, monitor = monitor(process, Owner), timer = Timer, body = Body,
                may_wait = Credit =:= none,
                moved = fun(Result) -> Moved(Result, Link) end},
     {continue, {Start, Link}}}.

handle_continue({#{request := Request}, Link}, State) ->
    begun(Request(Link), State).

begun({ok, Ticket}, State) -> {noreply, State#state{ticket = Ticket}};
begun({error, Reason}, State) -> finish({error, Reason}, State).

handle_call(cancel, _From, State) ->
    {stop, normal, ok, State};
handle_call(more, From, #state{credit = 0} = State) ->
    {noreply, State#state{asking = From}};
handle_call(more, _From, #state{credit = Credit} = State) ->
    {reply, Credit, State#state{credit = 0}};
handle_call(next, From, #state{queue = Queue} = State) ->
    {noreply, hand_out(Queue, State#state{taking = From})};
handle_call(closed, _From, #state{is_closed = true} = State) ->
    {reply, ok, State};
handle_call(closed, From, State) ->
    {noreply, State#state{watching = From}};
handle_call({push, _Item}, _From, #state{is_closed = true} = State) ->
    {reply, {error, closed}, State};
handle_call({push, {close, _Code, _Reason} = Item}, _From, #state{queue = Queue, watching = Watching} = State) ->
    ok = reply(Watching, ok),
    {reply, ok, hand_out(queue:in(Item, Queue), State#state{is_closed = true, is_refused = false, watching = none})};
handle_call({push, Item}, From, #state{queue = Queue} = State) ->
    push(Item, From, queue:len(Queue) < ?QUEUE_MAX, State);
handle_call(_Request, _From, State) ->
    {reply, {error, unknown_call}, State}.

push(Item, _From, true, #state{queue = Queue} = State) ->
    {reply, ok, hand_out(queue:in(Item, Queue), State)};
push(_Item, {Owner, _Tag}, false, #state{owner = Owner, may_wait = false} = State) ->
    {reply, {error, full}, State#state{is_refused = true}};
push(Item, From, false, #state{queue = Queue, pushing = Pushing} = State) ->
    {noreply, State#state{queue = queue:in(Item, Queue), pushing = [From | Pushing]}}.

reply(none, _Answer) -> ok;
reply(From, Answer) -> gen_server:reply(From, Answer).

%% One of the two may wait for the other.
hand_out(Queue, #state{taking = From, pushing = Pushing, is_refused = IsRefused} = State) ->
    case From =:= none orelse queue:is_empty(Queue) of
        true ->
            State#state{queue = Queue};
        false ->
            ok = gen_server:reply(From, queue:to_list(Queue)),
            ok = lists:foreach(fun(Pusher) -> gen_server:reply(Pusher, ok) end, Pushing),
            _ = IsRefused andalso tell(ready, State),
            State#state{queue = queue:new(), taking = none, pushing = [], is_refused = false}
    end.

handle_cast({ack, N}, #state{credit = Credit, asking = none} = State) ->
    {noreply, State#state{credit = Credit + N}};
handle_cast({ack, N}, #state{asking = From} = State) ->
    ok = gen_server:reply(From, N),
    {noreply, State#state{asking = none}};
handle_cast(_Request, State) ->
    {noreply, State}.

handle_info({py_web, Event}, State) ->
    ok = tell(Event, State),
    {noreply, State};
handle_info({'DOWN', Monitor, process, _Pid, _Reason}, #state{monitor = Monitor} = State) ->
    {stop, normal, State};
handle_info(timeout, State) ->
    finish({error, timeout}, State);
handle_info(Message, #state{ticket = Ticket} = State) when element(1, Message) =:= Ticket ->
    ended(py_request:answer(Message), State#state{ticket = none});
handle_info(_Info, State) ->
    {noreply, State}.

ended({ok, _}, State) ->
    finish(done, State);
ended({error, _} = Error, #state{moved = Moved} = State) ->
    case Moved(Error) of
        false -> finish(Error, State);
        Begun -> begun(Begun, State#state{moved = fun(_Again) -> false end})
    end.

finish(Event, State) ->
    ok = tell(Event, State),
    {stop, normal, State}.

tell(Event, #state{tag = Tag, owner = Owner}) ->
    Owner ! {Tag, self(), Event},
    ok.

terminate(Reason, #state{ticket = Ticket, body = Body} = State) ->
    _ = Ticket =:= none orelse py_request:cancel(Ticket),
    ok = py_web:end_body(Body),
    case Reason of
        normal -> ok;
        _ -> tell({error, cancelled}, State)
    end.
