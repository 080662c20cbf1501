%% SPDX-License-Identifier: Apache-2.0
%% @doc A stream of bytes that Erlang writes and Python reads as a file.
%%
%% Python code opens it with `erlang.channel.PyBuffer(ref)', an `io.BufferedReader': reading waits
%% for what is not there yet, and ends where Erlang closed the buffer. When Python closes the
%% file, or gives it up, Erlang is told {error, closed}. It serves as the `wsgi.input' of a
%% request whose body comes piece by piece.
-module(py_buffer).

-export([new/0, new/1, write/2, write/3, close/1, info/1]).
-export_type([buffer/0]).

-type buffer() :: py_nif:channel().

-define(STREAM, 2).

%% @equiv new(#{})
-spec new() -> {ok, buffer()} | {error, py:reason()}.
new() ->
    new(#{}).

%% @doc A buffer, which belongs to the calling process. max_size: how many bytes may wait in it.
-spec new(py_channel:options()) -> {ok, buffer()} | {error, py:reason()}.
new(Options) ->
    py_channels:new(?STREAM, Options).

%% @doc Appends bytes; `busy': there is no room for them now. An empty buffer has room for any
%% number.
-spec write(buffer(), iodata()) -> ok | busy | {error, closed | py:reason()}.
write(Buffer, Data) ->
    case is_nothing(Data) of
        true -> open(Buffer);
        false -> py_channels:send_bytes(Buffer, Data)
    end.

%% @doc Appends bytes, and waits until there is room for them.
-spec write(buffer(), iodata(), timeout()) -> ok | {error, closed | timeout | py:reason()}.
write(Buffer, Data, Timeout) ->
    case is_nothing(Data) of
        true -> open(Buffer);
        false -> py_channels:send_bytes(Buffer, Data, Timeout)
    end.

%% @doc Ends the stream: Python reads what was written, and then the end of the file.
-spec close(buffer()) -> ok | {error, py:reason()}.
close(Buffer) ->
    py_channels:close(Buffer).

%% @doc How much was written and not read yet, in bytes and writes; how many wait to read; and
%% whether it is closed.
-spec info(buffer()) -> #{size := non_neg_integer(), items := non_neg_integer(), waiting := non_neg_integer(),
                          max_size := pos_integer() | infinity, closed := boolean()}
                      | {error, py:reason()}.
info(Buffer) ->
    py_channels:info(Buffer).

%% Which would be taken for the end of the file.
is_nothing(Data) ->
    Data =:= <<>> orelse (is_list(Data) andalso is_empty(Data)).

is_empty(List) ->
    try iolist_size(List) =:= 0
    catch error:badarg -> false % it is refused where it is sent
    end.

open(Buffer) ->
    case py_channels:info(Buffer) of
        #{closed := true} -> {error, closed};
        #{closed := false} -> ok;
        {error, _} = Error -> Error
    end.
