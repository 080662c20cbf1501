%% SPDX-License-Identifier: Apache-2.0
%% @doc WSGI applications (PEP 3333): Flask, Django and others.
%%
%% A request is an ordinary call: it takes a slot and an executor, in the pool that the option
%% `pool' names.  What describes it is an environ, as CGI has it, or a map that
%% build_environ/1 makes one of.
%%
%% The body is iodata, or a fun of no argument that gives the next part at each call: `{ok, Data}',
%% `eof' or `{error, Reason}', as file:read/2 does; run/3,4,5 call it in the calling process.  It
%% may be a py_buffer or a py_byte_channel as well.
-module(py_wsgi).

-export([run/3, run/4, run/5, build_environ/1, build_environ/2]).
-export([ack/2, cancel/1]).
-export_type([environ/0, options/0, response/0]).

%% Names are text.  Values of CGI's variables are binaries, strings, atoms or integers; what has
%% a dot in its name may be any term.  `wsgi.input' is the body.
-type environ() :: #{atom() | binary() | string() => term()}.
%% response: `{Status, Headers, Body}' or a map.  stream: the response comes as messages to
%% this process, or to the caller.  credit: how many of those with data come before ack/2.
-type options() :: timeout()
                 | #{timeout => timeout(), errors => short | full, pool => py:place(), response => tuple | map,
                     stream => boolean() | pid(), credit => non_neg_integer() | infinity}
                 | {opts, map()}.
%% Status as in `<<"404 Not Found">>'.
-type response() :: {ok, {Status :: binary(), [{Name :: binary(), Value :: binary()}], Body :: binary()}}
                  | {ok, #{status := binary(), headers := [{binary(), binary()}], body := binary()}}
                  | {ok, Stream :: pid()}
                  | {error, py:reason()}.

-define(PYTHON, 'erlang._wsgi').
-define(KEYS, [pool, response, stream, credit]).

%% @equiv run(Module, App, Request, #{})
-spec run(Module :: py:name(), App :: py:name(), environ() | py_web:request()) -> response().
run(Module, App, Request) ->
    run(Module, App, Request, #{}).

%% @doc The response of the application `App' of the Python module `Module' to a request
%% without a body, or with that of the environ's `wsgi.input'.
-spec run(Module :: py:name(), App :: py:name(), environ() | py_web:request(), options()) -> response().
run(Module, App, Request, Options) ->
    checked_run(fun() -> taken_input(environ(Request)) end, Module, App, Options).

%% @doc The response to a request with this body.
%%
%% With the option `stream' the answer is `{ok, Stream}' at once, and messages come:
%% `{py_wsgi, Stream, {start, Status, Headers}}', then `{py_wsgi, Stream, {data, Binary}}' any
%% number of times, then `{py_wsgi, Stream, done}'; or `{py_wsgi, Stream, {error, Reason}}' in
%% place of what was to come.  With `credit' the application waits in its next `yield' or write
%% after so many of the second kind, until ack/2.
-spec run(Module :: py:name(), App :: py:name(), environ() | py_web:request(), py_web:body(), options()) ->
          response().
run(Module, App, Request, Body, Options) ->
    checked_run(fun() -> {element(1, taken_input(environ(Request))), Body} end, Module, App, Options).

checked_run(EnvironAndBody, Module, App, Options) ->
    case py_args:checked(fun() ->
                                 #{rest := Rest} = Checked = py_web:options(Options, ?KEYS),
                                 {Environ, Body} = EnvironAndBody(),
                                 Args = py_web:app(Module, App) ++ [Environ, py_web:body(Body)],
                                 {py_web:place(Rest, Args), Args, Body, Checked, receiver(Rest)}
                         end) of
        {ok, {Place, Args, Body, Checked, none}} -> py_web:with_body(Body, fun() -> wait(Place, Args, Checked) end);
        {ok, {Place, Args, Body, Checked, Owner}} -> start(Place, Args, Body, Checked, Owner);
        {error, _} = Error -> Error
    end.

wait(Place, Args, #{timeout := Timeout, flags := Flags, rest := Rest} = Options) ->
    Result = py_request:run(Place, call, [?PYTHON, run, Args, #{}], Timeout, Flags),
    case Place =/= {pool, main} andalso py_web:moves(Result, Rest, Args) of
        true -> wait({pool, main}, Args, Options);
        false -> py_web:result(Result, Options)
    end.

start(Place, Args, Body, #{timeout := Timeout, flags := Flags, rest := Rest}, Owner) ->
    Request = fun(Where, Link) -> py_request:async(Where, call, [?PYTHON, stream, Args ++ Link, #{}], Flags) end,
    py_web_stream:start(#{tag => py_wsgi, owner => Owner, timeout => Timeout, credit => py_web:credit(Rest),
                          body => Body, inlet => false,
                          request => fun(Link) -> Request(Place, Link) end,
                          moved => fun(Result, Link) ->
                                           Place =/= {pool, main} andalso py_web:moves(Result, Rest, Args) andalso
                                               Request({pool, main}, Link)
                                   end}).

receiver(Options) ->
    _ = py_web:credit(Options),
    py_web_stream:receiver(Options).

%%% Streams

%% @doc Lets so many more messages with data come.
-spec ack(Stream :: pid(), pos_integer()) -> ok.
ack(Stream, N) ->
    py_web_stream:ack(Stream, N).

%% @doc Ends a stream and its request.  No message of it comes afterwards, and those that are in
%% the mailbox of the calling process are taken out.
-spec cancel(Stream :: pid()) -> ok.
cancel(Stream) ->
    py_web_stream:cancel(py_wsgi, Stream).

%%% Environs

%% @equiv build_environ(Request, #{})
-spec build_environ(py_web:request()) -> environ().
build_environ(Request) ->
    build_environ(Request, #{}).

%% @doc The environ of a request, with these variables besides or instead.  A header whose name
%% has an underscore is left out, as it would pose as the one with a hyphen.
-spec build_environ(py_web:request(), environ()) -> environ().
build_environ(Request, More) ->
    case py_args:checked(fun() -> of_request(py_web:request(Request)) end) of
        {ok, Environ} -> maps:merge(Environ, More);
        {error, Reason} -> error({badarg, Reason})
    end.

of_request(#{headers := Headers, root_path := Root, raw_path := Path, query_string := Query, method := Method,
             http_version := Version, scheme := Scheme} = Request) ->
    Variables = #{<<"REQUEST_METHOD">> => Method,
                  <<"SCRIPT_NAME">> => Root,
                  <<"PATH_INFO">> => below(Root, py_web:percent_decode(Path)),
                  <<"QUERY_STRING">> => Query,
                  <<"SERVER_PROTOCOL">> => <<"HTTP/", (long(Version))/binary>>,
                  <<"wsgi.url_scheme">> => scheme(Scheme)},
    lists:foldl(fun header/2, maps:merge(Variables, addresses(Request)), Headers).

long(<<Major>>) -> <<Major, ".0">>;
long(Version) -> Version.

scheme(undefined) -> <<"http">>;
scheme(Scheme) -> Scheme.

below(Root, Path) ->
    Size = byte_size(Root),
    case Path of
        <<Root:Size/binary>> -> <<>>;
        <<Root:Size/binary, $/, _/binary>> -> binary:part(Path, Size, byte_size(Path) - Size);
        _ -> Path
    end.

addresses(#{server := Server, client := Client, headers := Headers, scheme := Scheme}) ->
    {Name, Port} = server(Server, py_web:host(Headers), Scheme),
    Local = #{<<"SERVER_NAME">> => Name, <<"SERVER_PORT">> => integer_to_binary(Port)},
    case Client of
        undefined -> Local;
        {Host, ClientPort} -> Local#{<<"REMOTE_ADDR">> => Host, <<"REMOTE_PORT">> => integer_to_binary(ClientPort)}
    end.

server(undefined, undefined, Scheme) -> {<<"localhost">>, default_port(Scheme)};
server(undefined, Host, Scheme) -> {Host, default_port(Scheme)};
server(Server, _Host, _Scheme) -> Server.

default_port(<<"https">>) -> 443;
default_port(_) -> 80.

header({<<"content-type">>, Value}, Environ) -> Environ#{<<"CONTENT_TYPE">> => Value};
header({<<"content-length">>, Value}, Environ) -> Environ#{<<"CONTENT_LENGTH">> => Value};
header({Name, Value}, Environ) ->
    case binary:match(Name, <<"_">>) of
        nomatch -> add(<<"HTTP_", (variable(Name))/binary>>, Name, Value, Environ);
        _ -> Environ
    end.

%% As text, with letters of ASCII only in upper case.
variable(Name) ->
    py_web:text(<< <<(in_variable(C))>> || <<C>> <= Name >>).

in_variable($-) -> $_;
in_variable(C) when C >= $a, C =< $z -> C - 32;
in_variable(C) -> C.

%% Several headers of one name are one list.
add(Variable, Name, Value, Environ) ->
    case Environ of
        #{Variable := Before} -> Environ#{Variable := <<Before/binary, (separator(Name))/binary, Value/binary>>};
        #{} -> Environ#{Variable => Value}
    end.

separator(<<"cookie">>) -> <<"; ">>;
separator(_) -> <<",">>.

%% What Python gets: names as text, CGI's values as PEP 3333 wants them, and the body aside.
environ(#{path := _} = Request) ->
    as_strings(of_request(py_web:request(Request)));
environ(Environ) when is_map(Environ) ->
    as_strings(maps:from_list([{py_args:text(environ, variable_name(K)), V} || {K, V} <- maps:to_list(Environ)]));
environ(Other) ->
    py_args:refuse('TypeError', "the request must be an environ or a request, both maps, not ~tP", [Other, 10]).

variable_name(Name) when is_atom(Name) -> atom_to_binary(Name);
variable_name(Name) -> Name.

as_strings(Environ) ->
    maps:map(fun(Name, Value) ->
                     case is_term(Name) of
                         true -> Value;
                         false -> py_web:text(value(Name, Value))
                     end
             end, Environ).

%% A header may have a dot in its name.
is_term(<<"wsgi.url_scheme">>) -> false;
is_term(<<"HTTP_", _/binary>>) -> false;
is_term(Name) -> binary:match(Name, <<".">>) =/= nomatch.

value(_Name, Value) when is_binary(Value) -> Value;
value(_Name, Value) when is_integer(Value) -> integer_to_binary(Value);
value(_Name, Value) when is_atom(Value) -> atom_to_binary(Value);
value(_Name, Value) when is_list(Value) -> py_args:text(environ, Value);
value(Name, Value) ->
    py_args:refuse('TypeError', "~ts in the environ must be a binary, a string, an atom or an integer, not ~tP",
                   [Name, Value, 10]).

taken_input(Environ) ->
    case maps:take(<<"wsgi.input">>, Environ) of
        {Body, Rest} -> {Rest, Body};
        error -> {Environ, <<>>}
    end.
