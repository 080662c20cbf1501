%% SPDX-License-Identifier: Apache-2.0
%% @doc ASGI applications (ASGI 3): Starlette, FastAPI, Django, Quart and others.
%%
%% A request is a task on the event loop of the calling process, or of the one that the option
%% `loop' names.  It is told that its client has gone when it is cancelled, when it times out
%% and when the calling process dies: `receive()' gives `http.disconnect', `send()' raises
%% `OSError'.  An application that has not ended five seconds later is cancelled.
%%
%% What an application does after the end of its response, it does in the background: the
%% response does not wait for that.
-module(py_asgi).

-export([run/3, run/4, run/5, build_scope/1, build_scope/2]).
-export([websocket/3, websocket/4, send/2, close/1, close/2, close/3]).
-export([ack/2, cancel/1]).
-export([start_link/2, start_link/3, stop/1]).
-export_type([scope/0, options/0, websocket_options/0, response/0]).

%% As the specification has it; binaries where that has `str' or `bytes'.  What is missing is
%% that of a GET of `/'.
-type scope() :: #{atom() | binary() => term()}.
%% response: `{Status, Headers, Body}' or a map.  stream: the response comes as messages to
%% this process, or to the caller.  credit: how many of those with data come before ack/2.
-type options() :: timeout()
                 | #{timeout => timeout(), errors => short | full, loop => py_event_loop:loop() | pid() | next,
                     response => tuple | map, stream => boolean() | pid(),
                     credit => non_neg_integer() | infinity}
                 | {opts, map()}.
-type websocket_options() :: timeout()
                           | #{timeout => timeout(), errors => short | full, loop => py_event_loop:loop() | pid() | next,
                               owner => pid(), credit => non_neg_integer() | infinity}
                           | {opts, map()}.
-type response() :: {ok, {Status :: 200..999, [{Name :: binary(), Value :: binary()}], Body :: binary()}}
                  | {ok, #{status := 200..999, headers := [{binary(), binary()}], body := binary()}}
                  | {ok, Stream :: pid()}
                  | {error, py:reason()}.

-define(PYTHON, 'erlang._asgi').

%%% Requests

%% @equiv run(Module, App, Scope, <<>>, #{})
-spec run(Module :: py:name(), App :: py:name(), scope()) -> response().
run(Module, App, Scope) ->
    run(Module, App, Scope, <<>>, #{}).

%% @equiv run(Module, App, Scope, Body, #{})
-spec run(Module :: py:name(), App :: py:name(), scope(), py_web:body()) -> response().
run(Module, App, Scope, Body) ->
    run(Module, App, Scope, Body, #{}).

%% @doc The response of the application `App' of the Python module `Module' to an HTTP request.
%%
%% The body is iodata, or a fun of no argument that gives the next part at each call: `{ok, Data}',
%% `eof' or `{error, Reason}', as file:read/2 does; each call is in a process of its own.  It
%% may be a py_buffer or a py_byte_channel as well.
%%
%% With the option `stream' the answer is `{ok, Stream}' at once, and messages come:
%% `{py_asgi, Stream, {start, Status, Headers}}', then `{py_asgi, Stream, {data, Binary}}' any
%% number of times, then `{py_asgi, Stream, done}'; or `{py_asgi, Stream, {error, Reason}}' in
%% place of what was to come.  With `credit' the application waits in `send()' after so many of
%% the second kind, until ack/2.
-spec run(Module :: py:name(), App :: py:name(), scope(), py_web:body(), options()) -> response().
run(Module, App, Scope, Body, Options) ->
    case py_args:checked(fun() -> checked(Module, App, Scope, [py_web:body(Body)], Options,
                                          [loop, response, stream, credit])
                         end) of
        {ok, {Loop, Args, Checked, none}} -> py_web:with_body(Body, fun() -> wait(Loop, Args, Checked) end);
        {ok, {Loop, Args, Checked, Owner}} -> start(stream, Loop, Args, Body, Checked, Owner);
        {error, _} = Error -> Error
    end.

checked(Module, App, Scope, More, Options, Keys) ->
    #{rest := Rest} = Checked = py_web:options(Options, Keys),
    _ = py_web:credit(Rest),
    Owner = py_web_stream:receiver(Rest),
    Args = py_web:app(Module, App) ++ [scope(Scope) | More],
    {py_web:loop(Rest, Args), Args, Checked, Owner}.

scope(Scope) when is_map(Scope) -> Scope;
scope(Other) -> py_args:refuse('TypeError', "a scope must be a map, not ~tP", [Other, 10]).

wait(Loop, Args, #{timeout := Timeout, flags := Flags, rest := Rest} = Options) ->
    Result = py_request:run({loop, Loop}, task, [?PYTHON, run, Args, #{}], Timeout, Flags),
    case other_loop(Loop, Result, Rest, Args) of
        {ok, Main} -> wait(Main, Args, Options);
        none -> py_web:result(Result, Options)
    end.

start(Function, Loop, Args, Body, #{timeout := Timeout, flags := Flags, rest := Rest}, Owner) ->
    Request = fun(On, Link) -> py_request:async({loop, On}, task, [?PYTHON, Function, Args ++ Link, #{}], Flags) end,
    py_web_stream:start(#{tag => ?MODULE, owner => Owner, timeout => Timeout, credit => py_web:credit(Rest),
                          body => Body, inlet => Function =:= websocket,
                          request => fun(Link) -> Request(Loop, Link) end,
                          moved => fun(Result, Link) ->
                                           case other_loop(Loop, Result, Rest, Args) of
                                               {ok, Main} -> Request(Main, Link);
                                               none -> false
                                           end
                                   end}).

%% The main interpreter's, if the application does not load in that of this one.
other_loop(Loop, Result, Options, Args) ->
    case py_web:moves(Result, Options, Args) andalso py_web:main_loop() of
        {ok, Main} when Main =/= Loop -> {ok, Main};
        _ -> none
    end.

%% @doc Lets so many more messages with data come: of a stream, or of a websocket.
-spec ack(Stream :: pid(), pos_integer()) -> ok.
ack(Stream, N) ->
    py_web_stream:ack(Stream, N).

%% @doc Ends a stream or a websocket and its request.  No message of it comes afterwards, and
%% those that are in the mailbox of the calling process are taken out.
-spec cancel(Stream :: pid()) -> ok.
cancel(Stream) ->
    py_web_stream:cancel(?MODULE, Stream).

%%% Scopes

%% @equiv build_scope(Request, #{})
-spec build_scope(py_web:request()) -> scope().
build_scope(Request) ->
    build_scope(Request, #{}).

%% @doc The scope of a request, with these keys besides or instead.  The path is decoded; in
%% `raw_path' it is as it came.
-spec build_scope(py_web:request(), scope()) -> scope().
build_scope(Request, More) ->
    case py_args:checked(fun() -> of_request(py_web:request(Request)) end) of
        {ok, Scope} -> maps:merge(Scope, maps:from_list([{key(K), V} || {K, V} <- maps:to_list(More)]));
        {error, Reason} -> error({badarg, Reason})
    end.

key(Key) when is_atom(Key) -> atom_to_binary(Key);
key(Key) -> Key.

of_request(#{type := Type, raw_path := Path, scheme := Scheme} = Request) ->
    Keys = [headers, http_version, query_string, root_path, client, server, extensions] ++ keys(Type),
    Given = maps:from_list([{atom_to_binary(Key), maps:get(Key, Request)} || Key <- Keys]),
    with_state(Request, Given#{<<"type">> => atom_to_binary(Type),
                               <<"path">> => py_web:percent_decode(Path),
                               <<"raw_path">> => Path,
                               <<"scheme">> => scheme(Type, Scheme)}).

keys(http) -> [method];
keys(websocket) -> [subprotocols].

scheme(http, undefined) -> <<"http">>;
scheme(websocket, undefined) -> <<"ws">>;
scheme(websocket, <<"http">>) -> <<"ws">>;
scheme(websocket, <<"https">>) -> <<"wss">>;
scheme(_, Scheme) -> Scheme.

with_state(#{state := undefined}, Scope) -> Scope;
with_state(#{state := State}, Scope) -> Scope#{<<"state">> => State}.

%%% Websockets

%% @equiv websocket(Module, App, Scope, #{})
-spec websocket(Module :: py:name(), App :: py:name(), scope()) -> {ok, WebSocket :: pid()} | {error, py:reason()}.
websocket(Module, App, Scope) ->
    websocket(Module, App, Scope, #{}).

%% @doc Begins a websocket of an application.  The caller, or the option `owner', gets messages
%% `{py_asgi, WebSocket, Event}'.  Events are: `{accept, Subprotocol | none, Headers}'; `{text,
%% Binary}' and `{binary, Binary}'; `{close, Code, Reason}', which without an `accept' before it
%% is a refusal, to be answered with 403; `{start, Status, Headers}' and `{data, Binary}' of
%% another refusal, for a scope with the extension `websocket.http.response'; `ready' after a
%% refused send/2; and at the end `done' or `{error, Reason}'.
-spec websocket(Module :: py:name(), App :: py:name(), scope(), websocket_options()) ->
          {ok, WebSocket :: pid()} | {error, py:reason()}.
websocket(Module, App, Scope, Options) ->
    case py_args:checked(fun() ->
                                 {Loop, Args, #{rest := Rest} = Checked, none} =
                                     checked(Module, App, Scope, [], Options, [loop, owner, credit]),
                                 {Loop, Args, Checked, owner(Rest)}
                         end) of
        {ok, {Loop, Args, Checked, Owner}} -> start(websocket, Loop, Args, <<>>, Checked, Owner);
        {error, _} = Error -> Error
    end.

owner(#{owner := Pid}) when is_pid(Pid) -> Pid;
owner(#{owner := Other}) -> py_args:refuse('TypeError', "the owner must be a pid, not ~tP", [Other, 10]);
owner(#{}) -> self().

%% @doc A message of the client's.  Waits while the application has 64 that it has not taken; but in
%% the owner of a websocket with `credit', for which the application may wait in turn, the answer
%% is `{error, full}' then: the message was not taken, and the event `ready' comes when there is room.
-spec send(WebSocket :: pid(), {text | binary, iodata()}) ->
          ok | {error, closed | full | {py:exception(), binary()}}.
send(WebSocket, {binary, Data}) ->
    py_web_stream:push(WebSocket, {binary, {bytes, iolist_to_binary(Data)}});
send(WebSocket, {text, Text}) ->
    case py_args:checked(fun() -> py_args:text(text, iolist_to_binary(Text)) end) of
        {ok, Checked} -> py_web_stream:push(WebSocket, {text, Checked});
        {error, _} = Error -> Error
    end.

%% @equiv close(WebSocket, 1005)
-spec close(WebSocket :: pid()) -> ok | {error, py:reason() | closed}.
close(WebSocket) ->
    close(WebSocket, 1005).

%% @equiv close(WebSocket, Code, <<>>)
-spec close(WebSocket :: pid(), Code :: 1000..4999) -> ok | {error, py:reason() | closed}.
close(WebSocket, Code) ->
    close(WebSocket, Code, <<>>).

%% @doc The client has closed the websocket: the application's `send()' raises `OSError' from now on, and
%% its `receive()' gives `websocket.disconnect' after the messages that came before.  Never waits.
-spec close(WebSocket :: pid(), Code :: 1000..4999, Reason :: unicode:chardata()) ->
          ok | {error, py:reason() | closed}.
close(WebSocket, Code, Reason) ->
    case py_args:checked(fun() -> {close, close_code(Code), py_args:text(reason, Reason)} end) of
        {ok, Close} -> py_web_stream:push(WebSocket, Close);
        {error, _} = Error -> Error
    end.

%% RFC 6455, 7.4.2.
close_code(Code) when is_integer(Code), Code >= 1000, Code =< 4999 -> Code;
close_code(Other) ->
    py_args:refuse('ValueError', "the code of a close must be an integer from 1000 to 4999, not ~tP", [Other, 10]).

%%% Lifespans

%% @equiv start_link(Module, App, #{})
-spec start_link(Module :: py:name(), App :: py:name()) -> {ok, pid()} | {error, py:reason()}.
start_link(Module, App) ->
    start_link(Module, App, #{}).

%% @doc Starts an application (`lifespan.startup') and returns when it has started.  What it puts
%% into `state' its requests have in their scopes.  With the process that this starts the application
%% stops (`lifespan.shutdown').
%%
%% Each interpreter that has event loops has a lifespan of its own, on the first of them, where its
%% requests are served; an application in `__main__' has one, as has one with the option `loop', which
%% its requests need as well then.  `lifespan => on': an application that knows of none is an error.
%% `startup_timeout' and `shutdown_timeout' are in milliseconds.
-spec start_link(Module :: py:name(), App :: py:name(),
                 #{lifespan => auto | on, loop => py_event_loop:loop() | pid() | next,
                   startup_timeout => timeout(), shutdown_timeout => timeout()}) ->
          {ok, pid()} | {error, py:reason()}.
start_link(Module, App, Options) ->
    case py_args:checked(fun() -> py_asgi_lifespan:checked(Module, App, Options) end) of
        {ok, Checked} -> py_asgi_lifespan:start_link(Checked);
        {error, _} = Error -> Error
    end.

%% @doc Stops an application that start_link/2,3 started.
-spec stop(pid()) -> ok.
stop(Pid) ->
    gen_server:stop(Pid, normal, infinity).
