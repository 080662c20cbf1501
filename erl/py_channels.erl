%% SPDX-License-Identifier: Apache-2.0
%% @private
%% What py_channel, py_byte_channel and py_buffer have in common.
-module(py_channels).

-export([new/2, size/1, send/3, send/4, receive_bytes/2, info/1]).

-spec new(0..2, py_channel:options()) -> {ok, py_nif:channel()} | {error, not_running}.
new(Kind, Options) ->
    case maps:to_list(maps:remove(max_size, Options)) of
        [] -> ok;
        [{Key, _} | _] -> error(badarg, [Options], [{error_info, #{cause => #{1 => {unknown_option, Key}}}}])
    end,
    case py_nif:channel_new(Kind, maps:get(max_size, Options, infinity)) of
        not_running -> {error, not_running};
        Channel -> {ok, Channel}
    end.

%% What the native function does not know by itself.
-spec size(term()) -> non_neg_integer().
size(Term) when is_tuple(Term); is_list(Term); is_map(Term) -> erlang:external_size(Term);
size(Term) when is_binary(Term) -> byte_size(Term);
size(Term) when is_number(Term); is_atom(Term) -> 8;
size(Term) -> erlang:external_size(Term).

-spec send(py_nif:channel(), term(), Size :: non_neg_integer()) -> ok | busy | {error, closed}.
send(Channel, Term, Size) ->
    case py_nif:channel_send(Channel, Term, Size, none) of
        closed -> {error, closed};
        OkOrBusy -> OkOrBusy
    end.

-spec send(py_nif:channel(), term(), Size :: non_neg_integer(), timeout()) -> ok | {error, closed | timeout}.
send(Channel, Term, Size, Timeout) ->
    send_until(Channel, Term, Size, deadline(Timeout)).

-spec receive_bytes(py_nif:channel(), timeout()) -> {ok, binary()} | {error, closed | timeout}.
receive_bytes(Channel, Timeout) ->
    Deadline = deadline(Timeout), % which may fail, before the process stands in line
    Tag = make_ref(),
    case py_nif:channel_receive(Channel, Tag) of
        {ok, _} = Ok -> Ok;
        closed -> {error, closed};
        empty -> received(wait(Channel, Tag, Deadline))
    end.

-spec info(py_nif:channel()) -> #{size := non_neg_integer(), items := non_neg_integer(), waiting := non_neg_integer(),
                                  max_size := pos_integer() | infinity, closed := boolean()}.
info(Channel) ->
    {_Kind, Closed, MaxSize, {Size, Items, Waiting}, _ToErlang} = py_nif:channel_info(Channel),
    #{size => Size, items => Items, waiting => Waiting, max_size => MaxSize, closed => Closed}.

%%% Waiting

received({ok, _} = Ok) -> Ok;
received(Reason) -> {error, Reason}.

send_until(Channel, Term, Size, Deadline) ->
    Tag = make_ref(),
    case py_nif:channel_send(Channel, Term, Size, Tag) of
        ok -> ok;
        closed -> {error, closed};
        busy ->
            case wait(Channel, Tag, Deadline) of
                room -> send_until(Channel, Term, Size, Deadline);
                timeout -> {error, timeout}
            end
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

deadline(infinity) -> infinity;
deadline(Timeout) when is_integer(Timeout), Timeout >= 0, Timeout =< 16#FFFFFFFF -> erlang:monotonic_time(millisecond) + Timeout;
deadline(Timeout) -> error(badarg, [Timeout]).

left(infinity) -> infinity;
left(Deadline) -> max(0, Deadline - erlang:monotonic_time(millisecond)).
