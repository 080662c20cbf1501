%% SPDX-License-Identifier: Apache-2.0
%% @doc Queues of terms from Erlang to Python.
%%
%% Processes send terms, and Python code receives them by `erlang.channel.Channel(ref)', where
%% `ref' is what it got for the channel: with threads that wait, in loops, and from tasks of any
%% event loop. It answers with `erlang.channel.reply(pid, term)'.
%%
%% A channel is closed by close/1, by Python, by the end of the process that made it, and when
%% the application stops. What was sent before that can still be received.
%%
%% A wrong argument is `{error, {Type, Message}}', as in py.
-module(py_channel).

-export([new/0, new/1, send/2, send/3, close/1, info/1]).
-export_type([channel/0, options/0]).

-type channel() :: py_nif:channel().
%% max_size: how many bytes may wait in the channel. A term counts as many as it has in the
%% external format, a binary those that it has, an atom or a number 8. Default: `infinity'.
-type options() :: #{max_size => pos_integer() | infinity}.

-define(TERMS, 0).

%% @equiv new(#{})
-spec new() -> {ok, channel()} | {error, py:reason()}.
new() ->
    new(#{}).

%% @doc A channel, which belongs to the calling process.
-spec new(options()) -> {ok, channel()} | {error, py:reason()}.
new(Options) ->
    py_channels:new(?TERMS, Options).

%% @doc Sends a term; `busy': there is no room for it now. An empty channel has room for any.
-spec send(channel(), term()) -> ok | busy | {error, closed | py:reason()}.
send(Channel, Term) ->
    py_channels:send(Channel, Term).

%% @doc Sends a term, and waits until there is room for it.
-spec send(channel(), term(), timeout()) -> ok | {error, closed | timeout | py:reason()}.
send(Channel, Term, Timeout) ->
    py_channels:send(Channel, Term, Timeout).

%% @doc Closes the channel for both sides.
-spec close(channel()) -> ok | {error, py:reason()}.
close(Channel) ->
    py_channels:close(Channel).

%% @doc How much waits in the channel, in bytes and items; how many wait to receive; and whether
%% it is closed.
-spec info(channel()) -> #{size := non_neg_integer(), items := non_neg_integer(), waiting := non_neg_integer(),
                           max_size := pos_integer() | infinity, closed := boolean()}
                       | {error, py:reason()}.
info(Channel) ->
    py_channels:info(Channel).
