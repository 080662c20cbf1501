%% SPDX-License-Identifier: Apache-2.0
%%
%% The measurements of bench/run --channels, in the node under test.  Each sends so many items,
%% again and again for the time given, and counts until the last one has arrived; the figure is
%% the median, in microseconds an item.
-module(bench_channels_node).

-export([measure/2]).

-define(PY, bench_channels).
%% So many wait at most, where a channel has a limit.
-define(MAX_SIZE, 1000000).
-define(MANY, 100000).
-define(FEW, 2000).

-spec measure(term(), pos_integer()) -> #{term() => float()}.
measure(Figure, Ms) ->
    case bench_backend:is_port() of
        true ->
            #{};
        false ->
            ok = bench_backend:python_path(filename:dirname(code:which(?MODULE))),
            [Us] = bench_node:together([fun() -> median(Ms, fun() -> once(Figure) end) end]),
            #{Figure => Us}
    end.

%% Internals.

%% Three at the least.
median(Ms, Once) ->
    _ = Once(),
    bench_stats:median(samples(Once, erlang:monotonic_time() + bench_node:native(Ms), [])).

samples(Once, To, Samples) ->
    All = [Once() | Samples],
    case erlang:monotonic_time() < To orelse length(All) < 3 of
        true -> samples(Once, To, All);
        false -> All
    end.

once({to_python, Item}) -> drained(drain, Item);
once({to_task, Item}) -> drained(drain_task, Item);
once(bytes_to_python) -> bytes_drained();
once(bytes_to_erlang) -> bytes_sent();
once(replies) -> replied();
once(echo) -> echoed(echo);
once(echo_task) -> echoed(echo_task);
once(echo_bytes) -> bytes_echoed();
once(buffer) -> written().

%% Microseconds of each.
each(N, Fun) ->
    {Us, _} = timer:tc(Fun),
    Us / N.

term(integer, I) -> I;
term(binary, _) -> <<"16 bytes of data">>;
term(tuple, I) -> {item, I, <<"16 bytes of data">>};
term(map, I) -> #{number => I, text => <<"16 bytes of data">>}.

drained(Function, Item) ->
    {ok, Channel} = py_channel:new(#{max_size => ?MAX_SIZE}),
    Ticket = begun(Function, [Channel], Channel),
    each(?MANY, fun() ->
        [ok = send(Channel, term(Item, I)) || I <- lists:seq(1, ?MANY)],
        ok = py_channel:close(Channel),
        {ok, ?MANY} = py:await(Ticket, infinity)
    end).

%% It waits for the first item.
begun(Function, Args, Channel) ->
    Ticket = py:spawn_call(?PY, Function, Args),
    waits(Channel),
    Ticket.

waits(Channel) ->
    case py_channel:info(Channel) of
        #{waiting := 0} ->
            timer:sleep(1),
            waits(Channel);
        _ ->
            ok
    end.

send(Channel, Term) ->
    case py_channel:send(Channel, Term) of
        busy -> py_channel:send(Channel, Term, infinity);
        Ok -> Ok
    end.

bytes_drained() ->
    {ok, Channel} = py_byte_channel:new(#{max_size => ?MAX_SIZE}),
    Ticket = begun(drain_bytes, [Channel], Channel),
    each(?MANY, fun() ->
        [ok = send(Channel, <<"16 bytes of data">>) || _ <- lists:seq(1, ?MANY)],
        ok = py_byte_channel:close(Channel),
        {ok, ?MANY} = py:await(Ticket, infinity)
    end).

bytes_sent() ->
    {ok, Channel} = py_byte_channel:new(#{max_size => ?MAX_SIZE}),
    each(?MANY, fun() ->
        Ticket = py:spawn_call(?PY, send_bytes, [Channel, ?MANY]),
        [{ok, _} = py_byte_channel:recv(Channel) || _ <- lists:seq(1, ?MANY)],
        {ok, none} = py:await(Ticket, infinity)
    end).

replied() ->
    Self = self(),
    each(?MANY, fun() ->
        Ticket = py:spawn_call(?PY, replies, [Self, ?MANY]),
        replied(0),
        {ok, none} = py:await(Ticket, infinity)
    end).

replied(?MANY) ->
    ok;
replied(I) ->
    receive
        I -> replied(I + 1)
    end.

echoed(Function) ->
    {ok, Channel} = py_channel:new(),
    Ticket = begun(Function, [Channel, self()], Channel),
    Us = each(?FEW, fun() -> [echo(Channel, I) || I <- lists:seq(1, ?FEW)] end),
    ok = py_channel:close(Channel),
    {ok, none} = py:await(Ticket, infinity),
    Us.

echo(Channel, I) ->
    ok = py_channel:send(Channel, I),
    receive
        I -> ok
    end.

bytes_echoed() ->
    {ok, Channel} = py_byte_channel:new(),
    Ticket = begun(echo_bytes, [Channel], Channel),
    Us = each(?FEW, fun() -> [echo_bytes(Channel, <<I:128>>) || I <- lists:seq(1, ?FEW)] end),
    ok = py_byte_channel:close(Channel),
    {ok, none} = py:await(Ticket, infinity),
    Us.

echo_bytes(Channel, Bytes) ->
    ok = py_byte_channel:send(Channel, Bytes),
    {ok, Bytes} = py_byte_channel:recv(Channel).

%% A write of 1 KB.
written() ->
    {ok, Buffer} = py_buffer:new(#{max_size => ?MAX_SIZE}),
    Data = binary:copy(<<"x">>, 1024),
    Size = ?MANY * byte_size(Data),
    each(?MANY, fun() ->
        Ticket = py:spawn_call(?PY, read, [Buffer]),
        [ok = py_buffer:write(Buffer, Data, infinity) || _ <- lists:seq(1, ?MANY)],
        ok = py_buffer:close(Buffer),
        {ok, Size} = py:await(Ticket, infinity)
    end).
