%% SPDX-License-Identifier: Apache-2.0
%% @private
%% What web applications of both kinds, py_wsgi and py_asgi, have in common: how a request is
%% described, where its body comes from, how the application is named, and the response.
-module(py_web).

-export([request/1, percent_decode/1, text/1, host/1]).
-export([app/2, body/1, with_body/2, end_body/1, options/2, result/2, credit/1]).
-export([loop/2, place/2, moves/3, is_elsewhere/1, main_loop/0]).
-export_type([request/0, headers/0, body/0, source/0, response/0, response_map/0]).

%% All keys but `path' may be missing.  path: as it came, percent-encoded, maybe with the query.
%% headers: names and values as they came; a name may be one of the atoms of
%% erlang:decode_packet/3.  root_path: below which path the application is mounted.  state,
%% subprotocols, type and extensions: of ASGI only.
-type request() :: #{method => atom() | iodata(), path := iodata(), query_string => iodata(),
                     headers => headers() | #{name() => iodata()}, scheme => atom() | iodata(),
                     http_version => {non_neg_integer(), non_neg_integer()} | binary(),
                     root_path => iodata(), client => address(), server => address(),
                     type => http | websocket, subprotocols => [iodata()], state => map(), extensions => map()}.
-type headers() :: [{name(), iodata()}].
-type name() :: atom() | iodata().
-type address() :: {inet:ip_address() | iodata(), inet:port_number()} | undefined.
%% A body that is there, or where it comes from.
-type body() :: iodata() | source() | {stream, source()}.
%% A fun that gives the next part at each call; or a py_buffer or py_byte_channel.
-type source() :: fun(() -> {ok, iodata()} | eof | {error, term()}) | term().
-type response() :: {ok, {Status :: term(), [{binary(), binary()}], Body :: binary()} | response_map()}
                  | {error, py:reason()}.
-type response_map() :: #{status := term(), headers := [{binary(), binary()}], body := binary()}.

-define(KEYS, [method, path, query_string, headers, scheme, http_version, root_path, client, server,
               type, subprotocols, state, extensions]).

-define(TERMS, 0). % the kind of a py_channel

%%% Requests

%% The request with a value for each key, all text as binaries; `raw_path' is the path without
%% the query.
-spec request(request()) -> map().
request(#{path := Path} = Request) ->
    case maps:keys(maps:without(?KEYS, Request)) of
        [] -> checked(Request, binary(path, Path));
        [Key | _] -> py_args:refuse('TypeError', "a request has no ~tP (it has ~ts)", [Key, 10, names(?KEYS)])
    end;
request(Request) ->
    py_args:refuse('TypeError', "a request must be a map with a path, not ~tP", [Request, 10]).

checked(Request, Path) ->
    {RawPath, Query} = split_query(Path, Request),
    #{method => name_of(method, maps:get(method, Request, <<"GET">>)),
      raw_path => RawPath,
      query_string => Query,
      headers => header_list(maps:get(headers, Request, [])),
      scheme => name_of(scheme, maps:get(scheme, Request, undefined)),
      http_version => http_version(maps:get(http_version, Request, {1, 1})),
      root_path => binary(root_path, maps:get(root_path, Request, <<>>)),
      client => address(client, maps:get(client, Request, undefined)),
      server => address(server, maps:get(server, Request, undefined)),
      type => type(maps:get(type, Request, http)),
      subprotocols => [binary(subprotocols, Name) || Name <- list(subprotocols, maps:get(subprotocols, Request, []))],
      state => maps:get(state, Request, undefined),
      extensions => maps:get(extensions, Request, #{})}.

split_query(Path, #{query_string := Query}) ->
    {Path, binary(query_string, Query)};
split_query(Path, _Request) ->
    case binary:split(Path, <<"?">>) of
        [Raw, Query] -> {Raw, Query};
        [Raw] -> {Raw, <<>>}
    end.

type(http) -> http;
type(websocket) -> websocket;
type(Type) -> py_args:refuse('ValueError', "the type can be http or websocket, not ~tP", [Type, 10]).

http_version({2, 0}) -> <<"2">>;
http_version({3, 0}) -> <<"3">>;
http_version({Major, Minor}) when is_integer(Major), is_integer(Minor) ->
    <<(integer_to_binary(Major))/binary, $., (integer_to_binary(Minor))/binary>>;
http_version(Version) -> binary(http_version, Version).

address(_What, undefined) -> undefined;
address(What, {Host, Port}) when is_integer(Port) -> {host(What, Host), Port};
address(What, Address) -> py_args:refuse('TypeError', "~tw must be {Host, Port}, not ~tP", [What, Address, 10]).

host(What, Host) when is_tuple(Host) ->
    case inet:ntoa(Host) of
        {error, einval} -> py_args:refuse('ValueError', "~tw has no such address: ~tP", [What, Host, 10]);
        Text -> list_to_binary(Text)
    end;
host(What, Host) ->
    binary(What, Host).

%% The host that the client asked for, without the port, or `undefined'.
-spec host([{binary(), binary()}]) -> binary() | undefined.
host(Headers) ->
    case lists:keyfind(<<"host">>, 1, Headers) of
        false -> undefined;
        {_, <<"[", _/binary>> = Host} -> <<(hd(binary:split(Host, <<"]">>)))/binary, $]>>;
        {_, Host} -> hd(binary:split(Host, <<":">>))
    end.

%% Names in lower case, both as binaries, in their order.
header_list(Headers) when is_map(Headers) ->
    header_list(maps:to_list(Headers));
header_list(Headers) ->
    [header(Header) || Header <- list(headers, Headers)].

header({Name, Value}) -> {lowercase(name_of(headers, Name)), header_value(Value)};
header(Header) -> py_args:refuse('TypeError', "a header must be {Name, Value}, not ~tP", [Header, 10]).

%% Of ASCII only, whatever else there is: names of headers are bytes.
lowercase(Name) ->
    << <<(if C >= $A, C =< $Z -> C + 32; true -> C end)>> || <<C>> <= Name >>.

header_value(Value) when is_integer(Value) -> integer_to_binary(Value);
header_value(Value) -> binary(headers, Value).

list(_What, List) when is_list(List) -> List;
list(What, Other) -> py_args:refuse('TypeError', "~tw must be a list, not ~tP", [What, Other, 10]).

name_of(_What, undefined) -> undefined;
name_of(_What, Name) when is_atom(Name) -> atom_to_binary(Name);
name_of(What, Name) -> binary(What, Name).

binary(What, Value) ->
    try iolist_to_binary(Value)
    catch error:badarg -> py_args:refuse('TypeError', "~tw must be a binary or an iolist, not ~tP", [What, Value, 10])
    end.

%% A percent sign that nothing hexadecimal follows stays as it is.
-spec percent_decode(binary()) -> binary().
percent_decode(Text) ->
    case binary:match(Text, <<"%">>) of
        nomatch -> Text;
        _ -> percent_decode(Text, <<>>)
    end.

percent_decode(<<$%, High, Low, Rest/binary>>, Done) ->
    case {digit(High), digit(Low)} of
        {H, L} when is_integer(H), is_integer(L) -> percent_decode(Rest, <<Done/binary, (H * 16 + L)>>);
        _ -> percent_decode(<<High, Low, Rest/binary>>, <<Done/binary, $%>>)
    end;
percent_decode(<<Char, Rest/binary>>, Done) ->
    percent_decode(Rest, <<Done/binary, Char>>);
percent_decode(<<>>, Done) ->
    Done.

digit(D) when D >= $0, D =< $9 -> D - $0;
digit(D) when D >= $a, D =< $f -> D - $a + 10;
digit(D) when D >= $A, D =< $F -> D - $A + 10;
digit(_) -> none.

%% A binary that arrives as a str whose characters are these bytes, as PEP 3333 wants it.
-spec text(binary()) -> binary().
text(Bytes) ->
    unicode:characters_to_binary(Bytes, latin1).

%%% Applications

%% What names the application in a request: its module and its name there, or none and the
%% object itself.  In `__main__' it is what the calling process defined.
-spec app(py:name(), py:name()) -> [term()].
app(Module, App) ->
    case {text_of(py_args:module(Module)), text_of(py_args:function(App))} of
        {<<"__main__">>, Name} -> [none, own_object(Name)];
        {ModuleName, Name} -> [ModuleName, Name]
    end.

text_of(Name) when is_atom(Name) -> atom_to_binary(Name);
text_of(Name) -> Name.

own_object(Name) ->
    case py:eval(Name, #{}, {opts, #{return => handle}}) of
        {ok, Object} -> Object;
        {error, Reason} -> py_args:refuse(Reason)
    end.

%%% Where an application runs

%% In the mode subinterp a module may refuse to load in the interpreter of the calling process.
%% Then its requests go to the main one, the first after it was tried, unless the caller has
%% said where they are to run.
-define(ELSEWHERE(Module), {?MODULE, elsewhere, Module}).

%% The loop for an application: of the option, else of the calling process.
-spec loop(map(), App :: [term()]) -> py_event_loop:loop().
loop(#{loop := _} = Options, _App) ->
    py_event_loop:loop(Options);
loop(#{}, [Module | _]) ->
    case is_elsewhere(Module) of
        true -> allowed(main_loop());
        false -> py_event_loop:loop(#{})
    end.

allowed({ok, Loop}) -> Loop;
allowed({error, Reason}) -> py_args:refuse(Reason).

-spec is_elsewhere(Module :: term()) -> boolean().
is_elsewhere(Module) ->
    persistent_term:get(?ELSEWHERE(Module), false).

-spec main_loop() -> {ok, py_event_loop:loop()} | {error, py:reason()}.
main_loop() ->
    case [Pid || #{interp := 0, number := Number, pid := Pid} <- py_event_loop:infos(), Number =/= none] of
        [Pid | _] -> py_event_loop:get_loop(Pid);
        [] -> {error, not_running}
    end.

%% The place for a call of an application: of the option, else where calls go.
-spec place(map(), App :: [term()]) -> py_args:place().
place(#{pool := Pool}, _App) -> py_args:place({in, Pool});
place(#{}, [Module | _]) ->
    case is_elsewhere(Module) of
        true -> {pool, main};
        false -> undefined
    end.

%% Did the module refuse, so that the request is to be made again in the main interpreter?
-spec moves(py:result(), map(), App :: [term()]) -> boolean().
moves({error, Reason}, Options, [Module | _]) ->
    case refusal(Reason) of
        {ok, Message} when Module =/= none, not is_map_key(loop, Options), not is_map_key(pool, Options) ->
            _ = is_elsewhere(Module) orelse noticed(Module, Message),
            true;
        _ ->
            false
    end;
moves(_Result, _Options, _App) ->
    false.

refusal({'RefusedImport', Message}) -> {ok, Message};
refusal(#{type := 'RefusedImport', message := Message}) -> {ok, Message};
refusal(_Reason) -> none.

noticed(Module, Message) ->
    logger:warning("erlang_python: the web application ~ts is served by the main interpreter: ~ts", [Module, Message]),
    persistent_term:put(?ELSEWHERE(Module), true).

%%% Bodies

%% What Python gets for a body: bytes, a fun that gives bytes, or what it reads from by itself.
-spec body(body()) -> term().
body({stream, Source}) -> source(Source);
body(Body) when is_binary(Body) -> {bytes, Body};
body(Body) when is_list(Body) -> {bytes, binary(body, Body)};
body(Source) -> source(Source).

source(Fun) when is_function(Fun, 0) -> fun() -> next_part(Fun) end;
source(Fun) when is_function(Fun) ->
    py_args:refuse('TypeError', "the fun of a body takes no argument, but ~tw does", [Fun]);
source(Ref) when is_reference(Ref) -> Ref;
source(Other) ->
    py_args:refuse('TypeError', "a body must be iodata, a fun, a py_buffer or a py_byte_channel, not ~tP", [Other, 10]).

%% What the request gives, which has this body until then.
-spec with_body(body(), fun(() -> Result)) -> Result.
with_body(Body, Request) ->
    try Request()
    after end_body(Body)
    end.

%% The request is over: nobody reads its body any more, and who writes it is told so.  Only where the
%% request has ended or was cancelled, as who still reads would take that for the end of the body.
-spec end_body(body()) -> ok.
end_body({stream, Source}) -> end_body(Source);
end_body(Ref) when is_reference(Ref) ->
    try py_nif:channel_info(Ref) of
        {?TERMS, _, _, _, _} -> ok; % it was refused, as was what is no channel
        _ -> py_nif:channel_close(Ref)
    catch
        error:badarg -> ok
    end;
end_body(_Body) -> ok.

%% Nothing is not the end, but would be taken for it.
next_part(Fun) ->
    case part(Fun()) of
        {ok, {bytes, <<>>}} -> next_part(Fun);
        Part -> Part
    end.

part({ok, Data}) -> {ok, {bytes, iolist_to_binary(Data)}};
part(eof) -> eof;
part({error, Reason}) -> {error, unicode:characters_to_binary(io_lib:format("~tP", [Reason, 20]))};
part(Other) -> error({bad_body_part, Other}).

%%% Options and results

%% Options are a map, `{opts, Map}' or a timeout; `response' says how a response looks.
-spec options(term(), Keys :: [atom()]) -> py_args:options().
options(Options, Keys) when is_map(Options) ->
    options({opts, Options}, Keys);
options(Options, Keys) ->
    #{rest := Rest} = Checked = py_args:options(Options, [timeout, errors | Keys]),
    case maps:get(response, Rest, tuple) of
        Shape when Shape =:= tuple; Shape =:= map -> Checked;
        Shape -> py_args:refuse('ValueError', "response can be tuple or map, not ~tP", [Shape, 10])
    end.

-spec credit(map()) -> non_neg_integer() | none.
credit(#{credit := infinity}) -> none;
credit(#{credit := N}) when is_integer(N), N >= 0 -> N;
credit(#{credit := N}) ->
    py_args:refuse('ValueError', "credit can be an integer from 0 or infinity, not ~tP", [N, 10]);
credit(#{}) -> none.

-spec result(py:result(), py_args:options()) -> response().
result({ok, {Status, Headers, Body}}, #{rest := #{response := map}}) ->
    {ok, #{status => Status, headers => Headers, body => Body}};
result(Result, _Options) ->
    Result.

names(Keys) ->
    lists:join(", ", [atom_to_list(Key) || Key <- Keys]).
