%% SPDX-License-Identifier: Apache-2.0
%% @private
%% File descriptors by their numbers, and the sockets of Erlang's that have one.
-module(py_fd).

-export([number/1, dup/1, close/1]).
-export_type([source/0]).

%% The number of a descriptor, or a socket.
-type source() :: non_neg_integer() | inet:socket() | socket:socket().

%% The number of its descriptor.
-spec number(term()) -> {ok, integer()} | {error, py:reason()}.
number(Fd) when is_integer(Fd) -> {ok, Fd};
number(Port) when is_port(Port) -> had(inet:getfd(Port));
number({'$inet', _, _} = Socket) -> had(inet:getfd(Socket));
number({'$socket', _} = Socket) -> had(socket:getopt(Socket, {otp, fd}));
number(Other) -> refused('TypeError', "a descriptor is given by its number or a socket, not ~tP", Other).

had({ok, _} = Ok) -> Ok;
had({error, Reason}) -> refused('OSError', "the socket has no descriptor: ~tP", Reason).

refused(Type, Format, Term) ->
    {error, {Type, unicode:characters_to_binary(io_lib:format(Format, [Term, 10]))}}.

%% Another descriptor of the same file.
-spec dup(term()) -> {ok, non_neg_integer()} | {error, py:reason()}.
dup(Source) ->
    case number(Source) of
        {ok, Fd} -> py_nif:dup_fd(Fd);
        {error, _} = Error -> Error
    end.

%% Closes a socket.  A descriptor that was given by its number is somebody else's to close.
-spec close(source()) -> ok | {error, term()}.
close(Fd) when is_integer(Fd) -> ok;
close(Port) when is_port(Port) -> inet:close(Port);
close({'$inet', _, _} = Socket) -> inet:close(Socket);
close({'$socket', _} = Socket) -> socket:close(Socket).
