%% SPDX-License-Identifier: Apache-2.0
%% @doc Spans of Python code and of Erlang code, and the trace context that connects them.
%%
%% A trace context is a `traceparent' of the W3C's Trace Context
%% (https://www.w3.org/TR/trace-context/), version 00: `<<"00-", TraceId:32/binary, "-",
%% SpanId:16/binary, "-", Flags:2/binary>>' in lower-case hexadecimal digits.  A process has
%% one or none.  Its requests to Python carry it along, so that spans there are children of
%% that span; and what Python calls runs in the context that the Python code had.
%%
%% While tracing is off, no spans are made.  Contexts are kept and carried all the same.
-module(py_tracer).
-behaviour(gen_server).

-export([enable/0, disable/0, get_traces/0, clear/0]).
-export([set_context/1, get_context/0, with_context/2, span/3]).
-export([new_table/0, start_link/0]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).
-export_type([traceparent/0, span/0, event/0]).

-type traceparent() :: binary().
%% `start_time' and `time' are nanoseconds since the epoch.
-type span() :: #{name := binary(), trace_id := binary(), span_id := binary(),
                  parent_span_id := binary() | undefined, start_time := integer(), duration_ns := non_neg_integer(),
                  attributes := #{binary() => term()}, events := [event()],
                  status := ok | {error, Text :: binary()}, kind := python | erlang}.
-type event() :: #{name := binary(), time := integer(), attributes := #{binary() => term()}}.

-define(TABLE, ?MODULE).
%% After so many at the latest the library hears how many are dealt with.
-define(BATCH, 1000).
-define(ALL, 16#FFFFFFFF).

%% @doc Has spans made from now on.
-spec enable() -> ok | {error, not_running}.
enable() -> call({enable, true}).

%% @doc Has none made any more.  Those that there are stay.
-spec disable() -> ok | {error, not_running}.
disable() -> call({enable, false}).

%% @doc The spans that have ended, the oldest first; no more than the newest `max_traces'.
-spec get_traces() -> {ok, [span()]} | {error, not_running}.
get_traces() -> call(get_traces).

%% @doc Forgets them.
-spec clear() -> ok | {error, not_running}.
clear() -> call(clear).

call(Request) ->
    try gen_server:call(?MODULE, Request, infinity)
    catch exit:{Reason, _} when Reason =:= noproc; Reason =:= shutdown; Reason =:= normal ->
            {error, not_running}
    end.

%%% The context of a process

%% @doc Gives the calling process a context, such as that of a request that it serves, or
%% takes its context away.
-spec set_context(traceparent() | string() | undefined) -> ok | {error, {py:exception(), binary()}}.
set_context(Traceparent) ->
    case parse(Traceparent) of
        {ok, Context} ->
            py_request:set_trace_context(Context);
        error ->
            Text = io_lib:format("this is no traceparent of version 00: ~tP", [Traceparent, 20]),
            {error, {'ValueError', unicode:characters_to_binary(Text)}}
    end.

%% @doc The context of the calling process: that of the span, or of the callback of Python's,
%% that it is in, or what set_context/1 gave it.
-spec get_context() -> traceparent() | undefined.
get_context() ->
    py_request:trace_context().

%% @doc The value of `Fun()', while the calling process has that context.  What is none is a
%% badarg.
-spec with_context(traceparent() | string() | undefined, fun(() -> T)) -> T.
with_context(Traceparent, Fun) ->
    case parse(Traceparent) of
        {ok, Context} -> within(Context, Fun);
        error -> error(badarg, [Traceparent, Fun])
    end.

within(Context, Fun) ->
    Outer = py_request:trace_context(),
    ok = py_request:set_trace_context(Context),
    try Fun()
    after
        ok = py_request:set_trace_context(Outer)
    end.

parse(undefined) ->
    {ok, undefined};
parse(Text) when is_list(Text), length(Text) =:= 55 ->
    try parse(list_to_binary(Text))
    catch error:badarg -> error
    end;
parse(<<"00-", Trace:32/binary, "-", Span:16/binary, "-", Flags:2/binary>> = Traceparent) ->
    case is_id(Trace) andalso is_id(Span) andalso is_hex(Flags) of
        true -> {ok, Traceparent};
        false -> error
    end;
parse(_Other) ->
    error.

%% All zeros is none.
is_id(Text) ->
    is_hex(Text) andalso binary:replace(Text, <<"0">>, <<>>, [global]) =/= <<>>.

is_hex(Text) ->
    lists:all(fun(C) -> (C >= $0 andalso C =< $9) orelse (C >= $a andalso C =< $f) end, binary_to_list(Text)).

%%% Spans of Erlang

%% @doc The value of `Fun()', of which a span tells.  It is a child of the context that the
%% calling process has, and the context meanwhile.  An exception makes its status an error.
-spec span(Name :: py:name(), Attributes :: #{py:name() => term()}, fun(() -> T)) -> T.
span(Name, Attributes, Fun) ->
    case enabled() of
        {true, Salt} -> traced(started(text(Name), attributes(Attributes), Salt), Fun);
        {false, _} -> Fun()
    end.

started(Name, Attributes, Salt) ->
    <<Random:16/binary, SpanId:8/binary, _/binary>> = unique(Salt),
    {TraceId, Parent} = parent(Random),
    #{name => Name, trace_id => TraceId, span_id => hex(SpanId), parent_span_id => Parent,
      start_time => erlang:system_time(nanosecond), attributes => Attributes, events => [], kind => erlang}.

parent(Random) ->
    case py_request:trace_context() of
        undefined -> {hex(Random), undefined};
        <<"00-", TraceId:32/binary, "-", SpanId:16/binary, _/binary>> -> {TraceId, SpanId}
    end.

traced(#{trace_id := TraceId, span_id := SpanId} = Span, Fun) ->
    Started = erlang:monotonic_time(nanosecond),
    try within(<<"00-", TraceId/binary, "-", SpanId/binary, "-01">>, Fun) of
        Value ->
            ended(Span, Started, ok),
            Value
    catch
        Class:Reason:Stack ->
            ended(Span, Started, {error, unicode:characters_to_binary(io_lib:format("~w: ~tP", [Class, Reason, 20]))}),
            erlang:raise(Class, Reason, Stack)
    end.

ended(Span, Started, Status) ->
    Duration = erlang:monotonic_time(nanosecond) - Started,
    gen_server:cast(?MODULE, {span, Span#{duration_ns => Duration, status => Status}}).

attributes(Attributes) ->
    maps:fold(fun(Key, Value, Texts) -> Texts#{text(Key) => Value} end, #{}, Attributes).

text(Name) when is_atom(Name) -> atom_to_binary(Name);
text(Name) -> <<_/binary>> = unicode:characters_to_binary(Name).

%% 24 bytes that nobody else has, without the random numbers of the process, whose sequence is
%% the user's.
unique(Salt) ->
    Trace = erlang:md5(term_to_binary({Salt, self(), erlang:unique_integer(), erlang:system_time()})),
    <<Trace/binary, (erlang:md5(Trace))/binary>>.

%% What tells this node from others.
salt() ->
    erlang:md5(term_to_binary({node(), os:getpid(), erlang:system_time(), make_ref()})).

hex(Bytes) ->
    << <<(digit(N))>> || <<N:4>> <= Bytes >>.

digit(N) when N < 10 -> $0 + N;
digit(N) -> $a + N - 10.

%%% The process

-record(state, {spans = queue:new() :: queue:queue(span()),
                count = 0 :: non_neg_integer(),
                max :: pos_integer()}).

%% Whether tracing is on outlives the process.
enabled() ->
    try ets:lookup_element(?TABLE, enabled, 2)
    catch error:badarg -> {false, none} % the application does not run
    end.

%% @private
-spec new_table() -> ok.
new_table() ->
    ?TABLE = ets:new(?TABLE, [named_table, public, {read_concurrency, true}]),
    set_enabled(false).

set_enabled(On) ->
    true = ets:insert(?TABLE, {enabled, {On, salt()}}),
    py_nif:set_tracing(On).

%% @private
-spec start_link() -> gen_server:start_ret().
start_link() ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

%% What an earlier process left behind is lost.
init([]) ->
    _ = py_nif:span_done(?ALL),
    {ok, #state{max = py_env:get(max_traces)}}.

handle_call({enable, On}, _From, State) ->
    {reply, set_enabled(On), State};
handle_call(get_traces, _From, #state{spans = Spans} = State) ->
    {reply, {ok, queue:to_list(Spans)}, State};
handle_call(clear, _From, State) ->
    {reply, ok, State#state{spans = queue:new(), count = 0}};
handle_call(_Request, _From, State) ->
    {reply, {error, unknown_call}, State}.

handle_cast({span, Span}, State) ->
    {noreply, add(Span, State)};
handle_cast(_Request, State) ->
    {noreply, State}.

handle_info({py_span, Span}, State) ->
    {Count, Added} = drain(1, add(Span, State)),
    ok = tell_dropped(py_nif:span_done(Count)),
    {noreply, Added};
handle_info(_Info, State) ->
    {noreply, State}.

drain(?BATCH, State) ->
    {?BATCH, State};
drain(Count, State) ->
    receive {py_span, Span} -> drain(Count + 1, add(Span, State))
    after 0 -> {Count, State}
    end.

add(Span, #state{spans = Spans, count = Count, max = Max} = State) when Count < Max ->
    State#state{spans = queue:in(Span, Spans), count = Count + 1};
add(Span, #state{spans = Spans} = State) ->
    State#state{spans = queue:in(Span, queue:drop(Spans))}.

tell_dropped(0) ->
    ok;
tell_dropped(Count) ->
    logger:warning("erlang_python: ~b spans of Python were dropped, as too many came at once", [Count]).
