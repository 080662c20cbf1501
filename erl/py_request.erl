%% SPDX-License-Identifier: Apache-2.0
%% @private
%% Requests, from the side of the process that makes them: submit, wait, give up, and
%% run the callbacks that Python makes meanwhile.
%%
%% The state of a process is in its process dictionary.  The fast path reads one key: the
%% process's namespace, or `{frame, Namespace, Frame}' while it runs a callback or has a trace
%% context.  While it is bound to a context, that namespace is the context's, and its own one
%% is kept aside.
-module(py_request).

-export([call/5, run/4, run/5, parallel/1]).
-export([async/4, cast/4, failed/1, await/2, answer/1, cancel/1]).
-export([acquire/1, release/0]).
-export([own/0, adopt/1]).
-export([serve/4, current/0, bind/1, unbind/0, trace_context/0, set_trace_context/1]).
-export_type([op/0, trace/0]).

-type op() :: call | eval | exec | task.
%% A traceparent of W3C's Trace Context.
-type trace() :: binary() | none.

%% The operations of c_src/epy_request.h.
-define(CALL, 0).
-define(EVAL, 1).
-define(EXEC, 2).
-define(SLOT, 3).
-define(TASK, 4).

-define(NAMESPACE, '$py_namespace').
%% While bound to a context: the own namespace, or `none' if there was none yet.
-define(OWN, '$py_own_namespace').
%% How many slots the process took by acquire/1.
-define(SLOTS, '$py_slots').
%% The library knows of those slots by the process's own namespace.  Requests to a context
%% name this frame, in which nobody waits: like nested ones they take no slot of their own.
-define(HELD, {0, 0}).
%% While in a callback: when the call ends that made it, if it has a timeout.
-define(DEADLINE, '$py_deadline').
%% The W3C trace context that the requests of this process carry, if it has one: with that flag
%% of the operation, as their last element.
-define(TRACE, '$py_trace_context').
-define(TRACED, (128 bsl 8)).
%% What an asynchronous request is, until somebody awaits or cancels it.
-define(ASYNC(Ticket), {'$py_async', Ticket}).

%% How long a reply that is on its way may take, when somebody else may have taken it.
-define(ON_ITS_WAY, 1000).

%%% Synchronous requests

%% py:call/5, its arguments being checked.  The fast path: one look into the process
%% dictionary, one reference, one native function, one message.
-spec call(atom(), atom(), list(), map(), timeout()) -> py:result().
call(Module, Function, Args, Kwargs, Timeout) ->
    Ref = make_ref(),
    Request = {Ref, Module, Function, Args, Kwargs},
    case get(?NAMESPACE) of
        Namespace when is_reference(Namespace) ->
            await(py_nif:submit(Namespace, ?CALL, Request), Ref, Timeout, {call, undefined}, Request);
        _ ->
            await(submit(undefined, ?CALL, Request), Ref, within(Timeout), {call, undefined}, Request)
    end.

%% Any request, to any place.  Terms are what py_args makes.
-spec run(py_args:place(), op(), Terms :: [term()], timeout()) -> py:result() | ok.
run(Place, Op, Terms, Timeout) ->
    run(Place, Op, Terms, Timeout, 0).

-spec run(py_args:place(), op(), Terms :: [term()], timeout(), py_nif:flags()) -> py:result() | ok.
run(Place, Op, Terms, Timeout, Flags) ->
    Ref = make_ref(),
    Request = list_to_tuple([Ref | Terms]),
    await(submit(Place, code(Op, Flags), Request), Ref, within(Timeout), {Op, pool(Place)}, Request).

code(Op, Flags) -> code(Op) bor (Flags bsl 8).

code(call) -> ?CALL;
code(eval) -> ?EVAL;
code(exec) -> ?EXEC;
code(task) -> ?TASK.

%% The name of a place.
pool({pool, Pool}) -> Pool;
pool({context, _}) -> context;
pool({object, _}) -> object;
pool({loop, _}) -> loop;
pool(undefined) -> undefined.

%% What the library takes for it, beside the namespace.
target({object, Handle}) -> Handle;
target({loop, Loop}) -> Loop;
target(Place) -> pool(Place).

submit({context, Namespace}, Op, Request) ->
    submit(Namespace, Op, Request, undefined, context_frame());
submit(Place, Op, Request) ->
    case namespace(Place) of
        not_running -> not_running;
        Namespace -> submit(Namespace, Op, Request, target(Place), frame())
    end.

submit(Namespace, Op, Request, Pool, Frame) ->
    {TracedOp, Traced} = traced(Op, Request),
    py_nif:submit(Namespace, TracedOp, Traced, Pool, Frame).

%% With the trace context of this process.
traced(Op, Request) ->
    case trace_context() of
        undefined -> {Op, Request};
        Traceparent -> {Op bor ?TRACED, erlang:append_element(Request, Traceparent)}
    end.

%% Awaits what submit/2,3 came to.
await(Id, Ref, Timeout, What, Request) when is_integer(Id) ->
    wait(Id, Ref, Timeout, deadline(Timeout), timeout, What, Request);
await({waiting, Id, AcquireTimeout}, Ref, Timeout, What, Request) when AcquireTimeout =< Timeout ->
    wait(Id, Ref, AcquireTimeout, deadline(Timeout), line, What, Request);
await({waiting, Id, _}, Ref, Timeout, What, Request) ->
    wait(Id, Ref, Timeout, deadline(Timeout), timeout, What, Request);
await({done, Result}, _Ref, _Timeout, _What, _Request) ->
    Result;
await({done, Result, RunNs}, _Ref, _Timeout, What, Request) ->
    py_telemetry:stop(What, names(Request), Result, {0, RunNs}),
    Result;
await(Refused, _Ref, _Timeout, {_, Pool}, _Request) ->
    refused(Refused, Pool).

%% Limit is what the wait ends with after Wait milliseconds: the timeout of the call, or of
%% the line for a slot.
wait(Id, Ref, Wait, Deadline, Limit, What, Request) ->
    receive
        {Ref, Result} ->
            Result;
        {Ref, Result, QueueNs, RunNs} ->
            py_telemetry:stop(What, names(Request), Result, {QueueNs, RunNs}),
            Result;
        {Ref, callback, Frame, Name, Args} ->
            serve_until(Deadline, Frame, Name, Args, none),
            wait_until(Id, Ref, Deadline, What, Request);
        {Ref, callback, Frame, Name, Args, Traceparent} ->
            serve_until(Deadline, Frame, Name, Args, Traceparent),
            wait_until(Id, Ref, Deadline, What, Request)
    after Wait ->
        late(Limit, Id, Ref, Deadline, What, Request)
    end.

%% Past the deadline the next callback is not run, even if it is there already: else
%% Python code that does nothing but call back would never time out.
wait_until(Id, Ref, Deadline, What, Request) ->
    case remaining(Deadline) of
        0 -> late(timeout, Id, Ref, Deadline, What, Request);
        Wait -> wait(Id, Ref, Wait, Deadline, timeout, What, Request)
    end.

%% Either the request ends without a message, but for a callback that may have
%% come before, or its reply was in the mailbox first.
late(timeout, Id, Ref, _Deadline, What, Request) ->
    case py_nif:cancel(Id) of
        true ->
            receive
                {Ref, callback, _, _, _} -> ok;
                {Ref, callback, _, _, _, _} -> ok
            after 0 -> ok
            end,
            given_up(What, names(Request), timeout);
        false ->
            wait(Id, Ref, infinity, infinity, timeout, What, Request)
    end;
late(line, Id, Ref, Deadline, What, Request) ->
    case py_nif:cancel_waiting(Id) of
        true -> given_up(What, names(Request), overloaded());
        false -> wait_until(Id, Ref, Deadline, What, Request)
    end.

given_up(What, Names, Reason) ->
    py_telemetry:cancel(What, Names, Reason),
    {error, Reason}.

overloaded() ->
    {Current, Max, _Waiting} = py_nif:slots(),
    {overloaded, Current, Max}.

refused(not_running, _Pool) ->
    case py_nif:info() of
        {_, _, _, running, _, _, _} -> {error, {'ValueError', <<"the context has ended">>}};
        _ -> {error, not_running}
    end;
refused(overloaded, _Pool) ->
    {error, overloaded()};
refused({overloaded, _, _} = Overloaded, _Pool) ->
    {error, Overloaded};
refused(no_loop, _Pool) ->
    {error, {'RuntimeError', <<"the event loop is closed">>}};
refused(no_object, _Pool) ->
    {error, {'ValueError', <<"the interpreter of the object has ended">>}};
refused(no_pool, Pool) ->
    {error, {'ValueError', unicode:characters_to_binary(io_lib:format("there is no pool ~tw", [Pool]))}}.

names({_Tag, Module, Function, _Args, _Kwargs}) -> {Module, Function};
names(_Code) -> {undefined, undefined}.

%% A nested request has no more time than the calls around it: the process that would look
%% at their clocks waits for the nested one.
within(Timeout) ->
    case get(?DEADLINE) of
        undefined -> Timeout;
        Deadline -> min(Timeout, remaining(Deadline))
    end.

deadline(infinity) -> infinity;
deadline(Timeout) -> erlang:monotonic_time(millisecond) + Timeout.

remaining(infinity) -> infinity;
remaining(Deadline) -> max(0, Deadline - erlang:monotonic_time(millisecond)).

%%% Many at once

-record(many, {ref :: reference(),
               open = #{} :: #{pos_integer() => term()},         % what has not ended
               line = [] :: [{integer(), pos_integer(), py_nif:id()}], % by deadline
               results = #{} :: #{pos_integer() => term()}}).

%% Runs calls at once, spread over the interpreters of the default pool.  The results are
%% in the order of the calls.
-spec parallel([Terms :: [term()]]) -> {ok, [py:result()]} | {error, not_running}.
parallel(Calls) ->
    case namespace({pool, default}) of
        not_running -> {error, not_running};
        Namespace -> all_or_none(results(collect(submit_all(Namespace, Calls))))
    end.

%% An application that does not run is one error, not many.
all_or_none([_ | _] = Results) ->
    case lists:usort(Results) of
        [{error, not_running}] -> {error, not_running};
        _ -> {ok, Results}
    end;
all_or_none([]) ->
    {ok, []}.

submit_all(Namespace, Calls) ->
    Ref = make_ref(),
    Frame = frame(),
    Many = lists:foldl(
             fun({I, Terms}, Many) ->
                     Request = list_to_tuple([{Ref, I} | Terms]),
                     Outcome = submit(Namespace, ?CALL, Request, '$spread', Frame),
                     submitted(Outcome, I, names(Request), Many)
             end, #many{ref = Ref}, lists:zip(lists:seq(1, length(Calls)), Calls)),
    Many#many{line = lists:reverse(Many#many.line)}.

submitted(Id, I, Names, #many{open = Open} = Many) when is_integer(Id) ->
    Many#many{open = Open#{I => Names}};
submitted({waiting, Id, AcquireTimeout}, I, Names, #many{open = Open, line = Line} = Many) ->
    Many#many{open = Open#{I => Names}, line = [{deadline(AcquireTimeout), I, Id} | Line]};
submitted({done, Result}, I, Names, Many) ->
    ended(I, Result, submitted(0, I, Names, Many));
submitted({done, Result, RunNs}, I, Names, Many) ->
    ended(I, Result, {0, RunNs}, submitted(0, I, Names, Many));
submitted(Refused, I, Names, Many) ->
    ended(I, refused(Refused, default), submitted(0, I, Names, Many)).

collect(#many{open = Open} = Many) when map_size(Open) =:= 0 ->
    Many;
collect(#many{ref = Ref, line = Line} = Many) ->
    receive
        {{Ref, I}, Result} ->
            collect(ended(I, Result, Many));
        {{Ref, I}, Result, QueueNs, RunNs} ->
            collect(ended(I, Result, {QueueNs, RunNs}, Many));
        {{Ref, _}, callback, Frame, Name, Args} ->
            serve(Frame, Name, Args, none),
            collect(Many);
        {{Ref, _}, callback, Frame, Name, Args, Traceparent} ->
            serve(Frame, Name, Args, Traceparent),
            collect(Many)
    after line_wait(Line) ->
        collect(overdue(Many))
    end.

ended(I, Result, Times, #many{open = Open} = Many) ->
    py_telemetry:stop({call, default}, maps:get(I, Open), Result, Times),
    ended(I, Result, Many).

ended(I, Result, #many{open = Open, results = Results} = Many) ->
    Many#many{open = maps:remove(I, Open), results = Results#{I => Result}}.

line_wait([]) -> infinity;
line_wait([{Deadline, _, _} | _]) -> remaining(Deadline).

%% The first of the line has waited for as long as it may, if it still waits.
overdue(#many{open = Open, line = [{_, I, Id} | Line]} = Many) ->
    case is_map_key(I, Open) andalso py_nif:cancel_waiting(Id) of
        true -> ended(I, given_up({call, default}, maps:get(I, Open), overloaded()), Many#many{line = Line});
        false -> Many#many{line = Line}
    end.

results(#many{results = Results}) ->
    [Result || {_, Result} <- lists:sort(maps:to_list(Results))].

%%% Asynchronous requests

%% The reference of a call whose result await/2 gives.
-spec async(py_args:place(), op(), Terms :: [term()], py_nif:flags()) ->
          {ok, reference()} | {error, py:reason()}.
async(Place, Op, Terms, Flags) ->
    Request = list_to_tuple([async | Terms]),
    case hand_over(fun py_nif:async/4, Place, code(Op, Flags), Request) of
        Ticket when is_reference(Ticket) ->
            put(?ASYNC(Ticket), {{Op, pool(Place)}, names(Request)}),
            {ok, Ticket};
        Refused ->
            refused(Refused, pool(Place))
    end.

%% A call whose result nobody wants to know.  What it prints goes to the group leader that
%% the calling process has now.
-spec cast(py_args:place(), op(), Terms :: [term()], py_nif:flags()) -> ok | {error, py:reason()}.
cast(Place, Op, Terms, Flags) ->
    Request = list_to_tuple([async | Terms]),
    Tag = {cast, {Op, pool(Place)}, names(Request), group_leader()},
    case hand_over(fun py_nif:cast/4, Place, code(Op, Flags), setelement(1, Request, Tag)) of
        ok -> ok;
        Refused -> refused(Refused, pool(Place))
    end.

hand_over(Submit, {context, Namespace}, Code, Request) ->
    hand_over(Submit, Namespace, Code, Request, undefined);
hand_over(Submit, Place, Code, Request) ->
    case namespace(Place) of
        not_running -> not_running;
        Namespace -> hand_over(Submit, Namespace, Code, Request, target(Place))
    end.

hand_over(Submit, Namespace, Code, Request, Target) ->
    {TracedCode, Traced} = traced(Code, Request),
    Submit(Namespace, TracedCode, Traced, Target).

%% The reference of a call that was refused before it began.
-spec failed(py:reason()) -> reference().
failed(Reason) ->
    Ref = make_ref(),
    put(?ASYNC(Ref), {error, Reason}),
    Ref.

%% The result of an asynchronous request of this process; {error, cancelled} if there is
%% none of this reference, or no more.
-spec await(reference(), timeout()) -> py:result().
await(Ref, Timeout) ->
    case erase(?ASYNC(Ref)) of
        undefined -> {error, cancelled};
        {error, _} = Error -> Error;
        {What, Names} -> await_reply(Ref, Timeout, What, Names)
    end.

await_reply(Ref, Timeout, What, Names) ->
    receive
        {Ref, Result} ->
            Result;
        {Ref, Result, QueueNs, RunNs} ->
            py_telemetry:stop(What, Names, Result, {QueueNs, RunNs}),
            Result
    after Timeout ->
        case py_nif:cancel(Ref) of
            true -> given_up(What, Names, timeout);
            false -> await_reply(Ref, infinity, What, Names)
        end
    end.

%% The result in the message of an asynchronous request, for a process that receives it by
%% itself.
-spec answer(Message :: tuple()) -> py:result().
answer({Ref, Result}) ->
    _ = erase(?ASYNC(Ref)),
    Result;
answer({Ref, Result, QueueNs, RunNs}) ->
    {What, Names} = erase(?ASYNC(Ref)),
    py_telemetry:stop(What, Names, Result, {QueueNs, RunNs}),
    Result.

%% Ends an asynchronous request of this process, and takes its reply if there is one.
-spec cancel(reference()) -> ok | {error, py:reason()}.
cancel(Ref) ->
    case erase(?ASYNC(Ref)) of
        undefined ->
            {error, {'ValueError', <<"this process has no such request under way">>}};
        {error, _} ->
            ok;
        {What, Names} ->
            end_async(py_nif:cancel(Ref), Ref, What, Names)
    end.

end_async(true, _Ref, What, Names) ->
    py_telemetry:cancel(What, Names, cancelled);
end_async(false, Ref, What, Names) ->
    receive
        {Ref, _} -> ok;
        {Ref, Result, QueueNs, RunNs} -> py_telemetry:stop(What, Names, Result, {QueueNs, RunNs})
    after ?ON_ITS_WAY ->
        ok % the process received it by itself
    end.

%%% Slots

%% Takes a slot for the requests that this process makes from now on.
-spec acquire(timeout()) -> ok | {error, {overloaded, non_neg_integer(), pos_integer()} | not_running}.
acquire(Timeout) ->
    case namespace({pool, default}) of
        not_running -> {error, not_running};
        Namespace -> acquired(acquire(Namespace, make_ref(), Timeout))
    end.

acquire(Namespace, Ref, Timeout) ->
    case py_nif:submit(Namespace, ?SLOT, {Ref}) of
        {waiting, Id, _} -> await_slot(Id, Ref, Timeout);
        Id when is_integer(Id) -> await_slot(Id, Ref, infinity);
        not_running -> {error, not_running}
    end.

await_slot(Id, Ref, Timeout) ->
    receive
        {Ref, Result} -> Result;
        {Ref, Result, _, _} -> Result
    after Timeout ->
        case py_nif:cancel(Id) of
            true -> {error, overloaded()};
            false -> await_slot(Id, Ref, infinity)
        end
    end.

acquired(ok) ->
    hold(held() + 1);
acquired({error, _} = Error) ->
    Error.

%% false: this process holds no slot.
-spec release() -> boolean() | not_running.
release() ->
    case namespace({pool, default}) of
        not_running -> not_running;
        Namespace -> released(py_nif:release(Namespace))
    end.

released(true) ->
    ok = hold(max(0, held() - 1)),
    true;
released(false) ->
    ok = hold(0),
    false.

held() ->
    case get(?SLOTS) of
        undefined -> 0;
        Count -> Count
    end.

hold(Count) ->
    _ = case Count of
            0 -> erase(?SLOTS);
            _ -> put(?SLOTS, Count)
        end,
    set_namespace(namespace()).

%%% Callbacks

%% Runs a function for Python code that waits for it there: in a frame on the stack of an
%% executor, or on a thread that serves no request or in a task of an event loop.  If there is
%% a trace context, the process has it meanwhile.
-spec serve(py_nif:place(), Name :: binary() | atom() | function(), Args :: [term()], trace()) -> ok.
serve(Place, Name, Args, Trace) ->
    serve_until(infinity, Place, Name, Args, Trace).

%% Requests that the function makes end by the deadline.
serve_until(Deadline, Place, Name, Args, none) ->
    serve_now(Deadline, Place, Name, Args);
serve_until(Deadline, Place, Name, Args, Traceparent) ->
    Outer = trace_context(),
    set_trace_context(Traceparent),
    serve_now(Deadline, Place, Name, Args),
    set_trace_context(Outer).

serve_now(Deadline, Place, Name, Args) ->
    Outer = enter(Place),
    Before = set_deadline(earlier(Deadline, get(?DEADLINE))),
    Outcome = try {ok, execute(Name, Args)}
              catch Class:Reason:Stack -> {error, {Class, Reason, Stack}}
              after
                  _ = set_deadline(Before),
                  leave(Outer)
              end,
    %% false: the request was cancelled meanwhile, and nobody waits for this.
    _ = py_nif:callback_return(Place, Outcome),
    ok.

%% Python's functions and what it prints come by the same way as what users registered, so
%% all of it is in order.
execute(Fun, Args) when is_function(Fun) -> apply(Fun, Args);
execute('$py_output', [Text, _Caller]) -> py_output:write(group_leader(), Text, within(infinity));
execute('$py_state', [Op | Args]) -> py_state:serve(Op, Args);
execute('$py_registered', [Name]) -> py_callback:is_registered(Name);
execute('$py_mode', []) -> py:execution_mode();
execute('$py_spawn', [Address]) -> py_subprocess:start(Address);
execute(Name, Args) -> py_callback:execute(Name, Args).

earlier(Deadline, undefined) -> Deadline;
earlier(Deadline, Outer) -> min(Deadline, Outer). % infinity is more than any number

set_deadline(Deadline) when is_integer(Deadline) -> put(?DEADLINE, Deadline);
set_deadline(_None) -> erase(?DEADLINE).

%% Only on the stack of an executor can requests of the function be nested.
enter(Place) when is_reference(Place) ->
    frame();
enter(Frame) ->
    Outer = frame(),
    put_namespace(namespace(), Frame),
    Outer.

%% A namespace, a binding or a slot that the function took stays.
leave(Outer) when Outer =:= none; Outer =:= ?HELD -> put_namespace(namespace(), no_frame());
leave(Outer) -> put_namespace(namespace(), Outer).

%%% The state of the process

frame() ->
    case get(?NAMESPACE) of
        {frame, _, Frame} -> Frame;
        _ -> none
    end.

%% Outside of callbacks.
no_frame() ->
    case get(?OWN) of
        undefined -> none;
        _ -> no_frame(held())
    end.

no_frame(0) -> none;
no_frame(_) -> ?HELD.

%% For a context that the caller named.
context_frame() ->
    case frame() of
        none -> no_frame(held());
        Frame -> Frame
    end.

namespace() ->
    case get(?NAMESPACE) of
        {frame, Namespace, _} -> Namespace;
        Namespace -> Namespace
    end.

set_namespace(Namespace) ->
    case frame() of
        none -> put_namespace(Namespace, no_frame());
        ?HELD -> put_namespace(Namespace, no_frame());
        Frame -> put_namespace(Namespace, Frame)
    end.

put_namespace(Namespace, Frame) ->
    _ = case {Namespace, Frame, trace_context()} of
            {undefined, none, _} -> erase(?NAMESPACE);
            {_, none, undefined} -> put(?NAMESPACE, Namespace);
            {_, _, _} -> put(?NAMESPACE, {frame, Namespace, Frame})
        end,
    ok.

%% The namespace for a request to this place.  Pools and objects take the process's own one,
%% also when it is bound to a context.
namespace(undefined) ->
    case namespace() of
        undefined -> new_namespace(fun set_namespace/1);
        Namespace -> Namespace
    end;
namespace(_PoolOrObject) ->
    case get(?OWN) of
        undefined -> namespace(undefined);
        none -> new_namespace(fun(Namespace) -> _ = put(?OWN, Namespace), ok end);
        Namespace -> Namespace
    end.

new_namespace(Keep) ->
    case py_nif:bind() of
        not_running ->
            not_running;
        Namespace ->
            ok = Keep(Namespace),
            Namespace
    end.

%% The trace context that requests of this process carry.
-spec trace_context() -> binary() | undefined.
trace_context() ->
    get(?TRACE).

%% Traceparent is a valid one, see py_tracer.
-spec set_trace_context(Traceparent :: binary() | undefined) -> ok.
set_trace_context(Traceparent) ->
    Frame = frame(),
    _ = case Traceparent of
            undefined -> erase(?TRACE);
            _ -> put(?TRACE, Traceparent)
        end,
    put_namespace(namespace(), Frame).

%% The namespace that the plain requests of this process have.
-spec current() -> py_nif:namespace() | not_running.
current() ->
    namespace(undefined).

%% The process's own namespace, also while it is bound to a context.
-spec own() -> py_nif:namespace() | not_running.
own() ->
    namespace({pool, default}).

%% This process, which has no namespace yet, shares that of another one.
-spec adopt(py_nif:namespace()) -> ok.
adopt(Namespace) ->
    set_namespace(Namespace).

%% From now on the plain requests of this process go to that context.
-spec bind(Context :: py_nif:namespace()) -> ok.
bind(Context) ->
    _ = case {get(?OWN), namespace()} of
            {undefined, undefined} -> put(?OWN, none);
            {undefined, Own} -> put(?OWN, Own);
            {_, _} -> bound_already
        end,
    set_namespace(Context).

%% Takes bind/1 back.
-spec unbind() -> ok.
unbind() ->
    case erase(?OWN) of
        undefined -> ok;
        none -> set_namespace(undefined);
        Own -> set_namespace(Own)
    end.
