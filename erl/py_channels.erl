%% SPDX-License-Identifier: Apache-2.0
%% @private
%% What py_channel, py_byte_channel and py_buffer have in common.
-module(py_channels).

-export([new/2, send/2, send/3, send_bytes/2, send_bytes/3, receive_bytes/2, try_receive/1, close/1, info/1, queues/1]).

%% How it was made: as C numbers it.
-type kind() :: 0..2.
-type info() :: #{size := non_neg_integer(), items := non_neg_integer(), waiting := non_neg_integer(),
                  max_size := pos_integer() | infinity, closed := boolean()}.

-spec new(kind(), term()) -> {ok, py_nif:channel()} | {error, py:reason()}.
new(Kind, Options) ->
    case py_args:checked(fun() -> max_size(py_args:options({opts, Options}, [max_size])) end) of
        {ok, MaxSize} -> made(py_nif:channel_new(Kind, MaxSize));
        {error, _} = Error -> Error
    end.

max_size(#{rest := #{max_size := N}}) when N =/= infinity ->
    min(py_args:positive(max_size, N), 16#FFFFFFFFFFFFFFFF); % which is none
max_size(#{}) ->
    infinity.

made(not_running) -> {error, not_running};
made(Channel) -> {ok, Channel}.

%%% Sending

-spec send(term(), term()) -> ok | busy | {error, closed | py:reason()}.
send(Channel, Term) ->
    send_sized(Channel, Term, size_of(Term)).

-spec send(term(), term(), term()) -> ok | {error, closed | timeout | py:reason()}.
send(Channel, Term, Timeout) ->
    with_deadline(Timeout, fun(Deadline) -> send_until(Channel, Term, size_of(Term), Deadline) end).

-spec send_bytes(term(), term()) -> ok | busy | {error, closed | py:reason()}.
send_bytes(Channel, Data) ->
    with_bytes(Data, fun(Bytes) -> send_sized(Channel, Bytes, byte_size(Bytes)) end).

-spec send_bytes(term(), term(), term()) -> ok | {error, closed | timeout | py:reason()}.
send_bytes(Channel, Data, Timeout) ->
    with_bytes(Data, fun(Bytes) -> send(Channel, Bytes, Timeout) end).

%% What the native function does not know by itself.
size_of(Term) when is_tuple(Term); is_list(Term); is_map(Term) -> erlang:external_size(Term);
size_of(Term) when is_binary(Term) -> byte_size(Term);
size_of(Term) when is_number(Term); is_atom(Term) -> 8;
size_of(Term) -> erlang:external_size(Term).

with_bytes(Bytes, Fun) when is_binary(Bytes) ->
    Fun(Bytes);
with_bytes(Data, Fun) ->
    try iolist_to_binary(Data) of
        Bytes -> Fun(Bytes)
    catch
        error:badarg -> refused("bytes are a binary or a list of such, not ~tP", [Data, 10])
    end.

send_sized(Channel, Term, Size) ->
    case put_item(Channel, Term, Size, none) of
        closed -> {error, closed};
        Other -> Other
    end.

put_item(Channel, Term, Size, Tag) ->
    try py_nif:channel_send(Channel, Term, Size, Tag)
    catch
        error:badarg -> unfit(Channel, "a channel of ~w takes bytes, not ~tP", [Term, 10]);
        error:not_loaded -> {error, not_running}
    end.

%%% Receiving

-spec receive_bytes(term(), term()) -> {ok, binary()} | {error, closed | timeout | py:reason()}.
receive_bytes(Channel, Timeout) ->
    with_deadline(Timeout, fun(Deadline) -> receive_until(Channel, make_ref(), Deadline) end).

receive_until(Channel, Tag, Deadline) ->
    case get_item(Channel, Tag) of
        closed -> {error, closed};
        empty -> received(wait(Channel, Tag, Deadline));
        OkOrError -> OkOrError
    end.

-spec try_receive(term()) -> {ok, binary()} | empty | {error, closed | py:reason()}.
try_receive(Channel) ->
    case get_item(Channel, none) of
        closed -> {error, closed};
        Other -> Other
    end.

get_item(Channel, Tag) ->
    try py_nif:channel_receive(Channel, Tag)
    catch
        error:badarg -> unfit(Channel, "of a channel of ~w only Python receives", []);
        error:not_loaded -> {error, not_running}
    end.

%%% The rest

-spec close(term()) -> ok | {error, py:reason()}.
close(Channel) ->
    try py_nif:channel_close(Channel)
    catch
        error:badarg -> no_channel(Channel);
        error:not_loaded -> {error, not_running}
    end.

-spec info(term()) -> info() | {error, py:reason()}.
info(Channel) ->
    case queues(Channel) of
        {error, _} = Error -> Error;
        {Info, _ToErlang} -> Info
    end.

%% The same, and what waits for Erlang.
-spec queues(term()) -> {info(), ToErlang :: map()} | {error, py:reason()}.
queues(Channel) ->
    try py_nif:channel_info(Channel) of
        {_Kind, Closed, MaxSize, ToPython, ToErlang} ->
            {(queue(ToPython))#{max_size => MaxSize, closed => Closed}, queue(ToErlang)}
    catch
        error:badarg -> no_channel(Channel);
        error:not_loaded -> {error, not_running}
    end.

queue({Size, Items, Waiting}) ->
    #{size => Size, items => Items, waiting => Waiting}.

%%% Refusals

%% It may be none, or one that was made by another module.
unfit(Channel, Format, Args) ->
    try py_nif:channel_info(Channel) of
        {Kind, _, _, _, _} -> refused(Format, [element(Kind + 1, {py_channel, py_byte_channel, py_buffer}) | Args])
    catch
        error:badarg -> no_channel(Channel)
    end.

no_channel(Term) ->
    refused("~tP is no channel", [Term, 10]).

refused(Format, Args) ->
    {error, {'TypeError', unicode:characters_to_binary(io_lib:format(Format, Args))}}.

%%% Waiting

received({ok, _} = Ok) -> Ok;
received(Reason) -> {error, Reason}.

send_until(Channel, Term, Size, Deadline) ->
    Tag = make_ref(),
    case put_item(Channel, Term, Size, Tag) of
        closed -> {error, closed};
        busy ->
            case wait(Channel, Tag, Deadline) of
                room -> send_until(Channel, Term, Size, Deadline);
                timeout -> {error, timeout}
            end;
        OkOrError -> OkOrError
    end.

%% The message, or `timeout': then none comes any more.
wait(Channel, Tag, Deadline) ->
    receive
        {Tag, What} -> What
    after left(Deadline) ->
            case py_nif:channel_leave(Channel, Tag) of
                true -> timeout;
                false -> receive {Tag, What} -> What end
            end
    end.

%% Before the process stands in line.
with_deadline(infinity, Fun) ->
    Fun(infinity);
with_deadline(Timeout, Fun) ->
    case py_args:checked(fun() -> py_args:timeout(Timeout) end) of
        {ok, Checked} -> Fun(erlang:monotonic_time(millisecond) + Checked);
        {error, _} = Error -> Error
    end.

left(infinity) -> infinity;
left(Deadline) -> max(0, Deadline - erlang:monotonic_time(millisecond)).
