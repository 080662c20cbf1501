%% SPDX-License-Identifier: Apache-2.0
%% @doc Queues of binaries, from Erlang to Python and back.
%%
%% Python code has it as `erlang.channel.ByteChannel(ref)'. What is sent arrives as it was sent,
%% piece by piece; what Erlang sends is received by Python, and what Python sends by Erlang.
%% max_size holds for each direction.
%%
%% A channel is closed as py_channel says. What was sent before can still be received, by
%% either side.
-module(py_byte_channel).

-export([new/0, new/1, send/2, send/3, recv/1, recv/2, try_receive/1, close/1, info/1]).
-export_type([channel/0]).

-type channel() :: py_nif:channel().

-define(BYTES, 1).

%% @equiv new(#{})
-spec new() -> {ok, channel()} | {error, py:reason()}.
new() ->
    new(#{}).

%% @doc A channel, which belongs to the calling process.
-spec new(py_channel:options()) -> {ok, channel()} | {error, py:reason()}.
new(Options) ->
    py_channels:new(?BYTES, Options).

%% @doc Sends bytes to Python; `busy': there is no room for them now. An empty channel has room
%% for any number.
-spec send(channel(), iodata()) -> ok | busy | {error, closed | py:reason()}.
send(Channel, Data) ->
    py_channels:send_bytes(Channel, Data).

%% @doc Sends bytes to Python, and waits until there is room for them.
-spec send(channel(), iodata(), timeout()) -> ok | {error, closed | timeout | py:reason()}.
send(Channel, Data, Timeout) ->
    py_channels:send_bytes(Channel, Data, Timeout).

%% @equiv recv(Channel, infinity)
-spec recv(channel()) -> {ok, binary()} | {error, closed | py:reason()}.
recv(Channel) ->
    recv(Channel, infinity).

%% @doc Takes what Python sent next, and waits for it.
-spec recv(channel(), timeout()) -> {ok, binary()} | {error, closed | timeout | py:reason()}.
recv(Channel, Timeout) ->
    py_channels:receive_bytes(Channel, Timeout).

%% @doc Takes what Python sent next; `empty': there is nothing now.
-spec try_receive(channel()) -> {ok, binary()} | empty | {error, closed | py:reason()}.
try_receive(Channel) ->
    py_channels:try_receive(Channel).

%% @doc Closes the channel for both sides.
-spec close(channel()) -> ok | {error, py:reason()}.
close(Channel) ->
    py_channels:close(Channel).

%% @doc How much waits for Python, in bytes and items, and how many there wait to receive;
%% with the same for Erlang in `to_erlang', and whether the channel is closed.
-spec info(channel()) -> #{size := non_neg_integer(), items := non_neg_integer(), waiting := non_neg_integer(),
                           max_size := pos_integer() | infinity, closed := boolean(),
                           to_erlang := #{size := non_neg_integer(), items := non_neg_integer(),
                                          waiting := non_neg_integer()}}
                       | {error, py:reason()}.
info(Channel) ->
    case py_channels:queues(Channel) of
        {#{} = Info, ToErlang} -> Info#{to_erlang => ToErlang};
        {error, _} = Error -> Error
    end.
