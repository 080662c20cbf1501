%% SPDX-License-Identifier: Apache-2.0
%%
%% Servers and clients of others on the loops of Erlang, as they stand: uvicorn, hypercorn,
%% aiohttp, httpx, websockets.  Each case is a coroutine of web_cases.py, which runs by
%% erlang.run() in a request, and as a task on a loop that Erlang drives.
-module(py_web_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, groups/0, init_per_suite/1, end_per_suite/1, init_per_group/2, end_per_group/2,
         init_per_testcase/2, end_per_testcase/2]).
-export([uvicorn_serves_http/1,
         uvicorn_serves_https/1,
         uvicorn_serves_a_websocket/1,
         uvicorn_keeps_a_thousand_connections/1,
         hypercorn_serves_https/1,
         hypercorn_serves_a_websocket/1,
         aiohttp_serves_https/1,
         aiohttp_serves_a_websocket/1,
         websockets_serves_over_tls/1]).
-export([erlang_asks_uvicorn/1]).
-export([a_body_ends_with_its_request/1]).
-export([the_example_refuses_what_may_hide_a_request/1,
         the_example_ends_each_body_where_it_ends/1,
         the_example_takes_no_body_for_a_request/1,
         the_example_takes_no_request_for_a_body/1,
         the_example_asks_for_a_body_before_it_answers/1]).

suite() -> [{timetrap, {minutes, 5}}].

all() ->
    [{group, in_a_request}, {group, as_a_task}, a_body_ends_with_its_request,
     the_example_refuses_what_may_hide_a_request, the_example_ends_each_body_where_it_ends,
     the_example_takes_no_body_for_a_request, the_example_takes_no_request_for_a_body,
     the_example_asks_for_a_body_before_it_answers].

groups() ->
    Cases = [uvicorn_serves_http, uvicorn_serves_https, uvicorn_serves_a_websocket,
             uvicorn_keeps_a_thousand_connections, hypercorn_serves_https, hypercorn_serves_a_websocket,
             aiohttp_serves_https, aiohttp_serves_a_websocket, websockets_serves_over_tls],
    [{in_a_request, [], Cases}, {as_a_task, [], Cases ++ [erlang_asks_uvicorn]}].

init_per_suite(Config) ->
    case os:find_executable("openssl") of
        false -> {skip, "there is no openssl to make a certificate"};
        Openssl -> [{certificate, certificate(Openssl, Config)} | py_test:start(Config)]
    end.

end_per_suite(Config) -> py_test:stop(Config).

init_per_group(Group, Config) -> [{how, Group} | Config].

end_per_group(_Group, _Config) -> ok.

init_per_testcase(_Case, Config) ->
    ok = py_import:add_path(proplists:get_value(data_dir, Config)),
    Config.

end_per_testcase(_Case, _Config) ->
    py_test:restore(),
    ok.

%% For localhost, signed by itself.
certificate(Openssl, Config) ->
    Dir = proplists:get_value(priv_dir, Config),
    [Key, Certificate] = [filename:join(Dir, File) || File <- ["key.pem", "certificate.pem"]],
    Port = open_port({spawn_executable, Openssl},
                     [exit_status, stderr_to_stdout,
                      {args, ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                              "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
                              "-keyout", Key, "-out", Certificate]}]),
    0 = exit_status(Port),
    {list_to_binary(Certificate), list_to_binary(Key)}.

exit_status(Port) ->
    receive
        {Port, {exit_status, Status}} -> Status;
        {Port, {data, _}} -> exit_status(Port)
    after 60000 -> error(openssl_hangs)
    end.

%% The case, where the modules are.
web_case(Case, Modules, Args, Config) ->
    How = proplists:get_value(how, Config),
    case run(How, missing, [Modules]) of
        {ok, none} -> ok;
        {ok, Why} -> throw({skip, unicode:characters_to_list(Why)})
    end,
    ?assertEqual({ok, <<"done">>}, run(How, Case, Args)).

run(in_a_request, Case, Args) ->
    py:call(io, web_cases, run, [Case | Args], {opts, #{errors => full}});
run(as_a_task, Case, Args) ->
    py_event_loop:run(web_cases, Case, Args, #{errors => full}).

certificate(Config) ->
    proplists:get_value(certificate, Config).

%%% uvicorn

uvicorn_serves_http(Config) ->
    web_case(uvicorn_http, [uvicorn, httpx], [none], Config).

uvicorn_serves_https(Config) ->
    web_case(uvicorn_http, [uvicorn, httpx], [certificate(Config)], Config).

uvicorn_serves_a_websocket(Config) ->
    web_case(uvicorn_websocket, [uvicorn, websockets], [certificate(Config)], Config).

uvicorn_keeps_a_thousand_connections(Config) ->
    Connections = py_test:fewer(1000),
    case py:eval(<<"__import__('resource').getrlimit(__import__('resource').RLIMIT_NOFILE)[0]">>) of
        {ok, Limit} when Limit < 2 * Connections + 500 ->
            throw({skip, lists:flatten(io_lib:format("only ~b descriptors may be open (ulimit -n)", [Limit]))});
        {ok, _} ->
            web_case(uvicorn_keep_alive, [uvicorn], [Connections], Config)
    end.

%% The server is a task, and a process of Erlang's is its client.
erlang_asks_uvicorn(_Config) ->
    case run(as_a_task, missing, [[uvicorn]]) of
        {ok, none} -> ok;
        {ok, Why} -> throw({skip, unicode:characters_to_list(Why)})
    end,
    {ok, Task} = py_event_loop:create_task(web_cases, uvicorn_until_cancelled, [self()]),
    Port = receive {port, P} -> P after 60000 -> error({no_port, py_test:messages()}) end,
    {ok, Socket} = gen_tcp:connect({127, 0, 0, 1}, Port, [binary, {active, false}, {packet, http_bin}]),
    [begin
         ok = gen_tcp:send(Socket, <<"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n">>),
         {ok, {http_response, {1, 1}, 200, _}} = gen_tcp:recv(Socket, 0, 60000),
         Length = content_length(Socket, none),
         ok = inet:setopts(Socket, [{packet, raw}]),
         {ok, <<"Hello, world">>} = gen_tcp:recv(Socket, Length, 60000),
         ok = inet:setopts(Socket, [{packet, http_bin}])
     end || _ <- lists:seq(1, 10)],
    %% First, as from Python 3.12 on some uvicorns wait for the end of idle connections.
    ok = gen_tcp:close(Socket),
    ok = py_event_loop:cancel(Task),
    receive stopped -> ok after 60000 -> error({not_stopped, py_test:messages()}) end.

content_length(Socket, Length) ->
    case gen_tcp:recv(Socket, 0, 60000) of
        {ok, {http_header, _, 'Content-Length', _, Value}} -> content_length(Socket, binary_to_integer(Value));
        {ok, {http_header, _, _, _, _}} -> content_length(Socket, Length);
        {ok, http_eoh} -> Length
    end.

%%% Others

hypercorn_serves_https(Config) ->
    web_case(hypercorn_http, [hypercorn, httpx, h2], [certificate(Config)], Config).

hypercorn_serves_a_websocket(Config) ->
    web_case(hypercorn_websocket, [hypercorn, websockets], [certificate(Config)], Config).

aiohttp_serves_https(Config) ->
    web_case(aiohttp_http, [aiohttp], [certificate(Config)], Config).

aiohttp_serves_a_websocket(Config) ->
    web_case(aiohttp_websocket, [aiohttp], [certificate(Config)], Config).

websockets_serves_over_tls(Config) ->
    web_case(websockets_both, [websockets], [certificate(Config)], Config).

%%% Bodies

%% Applications that read nothing of it.
body_apps() ->
    [{unread_asgi, <<"
import asyncio, erlang

async def answers(scope, receive, send):
    await send({'type': 'http.response.start', 'status': 200})
    await send({'type': 'http.response.body'})

async def goes_on(scope, receive, send):
    await answers(scope, receive, send)
    await asyncio.get_running_loop().create_future()

async def fails(scope, receive, send):
    raise ValueError('on purpose')

async def hangs(scope, receive, send):
    await send({'type': 'http.response.start', 'status': 200})
    erlang.call('begun')
    while True:  # until that raises
        await send({'type': 'http.response.body', 'body': b'more', 'more_body': True})
        await asyncio.sleep(0.01)
">>},
     {unread_wsgi, <<"
import erlang, time

def answers(environ, start_response):
    start_response('200 OK', [])
    return []

goes_on = answers

def fails(environ, start_response):
    raise ValueError('on purpose')

def hangs(environ, start_response):
    erlang.call('begun')
    while True: time.sleep(0.01)
">>}].

a_body_ends_with_its_request(Config) ->
    Dirs = [py_test:write_module(Config, Name, App) || {Name, App} <- body_apps()],
    ok = py_import:add_path(hd(Dirs)),
    Me = self(),
    ok = py:register_function(begun, fun([]) -> Me ! begun, none end),
    [begin
         ct:log("~tp", [{Kind, Channels}]),
         Run = fun(App, Body, Options) -> Kind:run(Module, App, #{path => <<"/">>}, {stream, Body}, Options) end,
         Ends = fun(What) -> body_ends(Channels, What) end,
         Ends(fun(Body) -> {ok, {_, [], <<>>}} = Run(answers, Body, #{}) end),
         Ends(fun(Body) -> {ok, {_, [], <<>>}} = Run(goes_on, Body, #{}) end),
         Ends(fun(Body) -> {error, {'ValueError', _}} = Run(fails, Body, #{}) end),
         Ends(fun(Body) -> {error, {'AttributeError', _}} = Run(no_such_app, Body, #{}) end),
         Ends(fun(Body) -> {ok, Stream} = Run(answers, Body, #{stream => true}), await_done(Kind, Stream) end),
         Ends(fun(Body) ->
                      {ok, Stream} = Run(hangs, Body, #{stream => true}),
                      await_begun(),
                      ok = Kind:cancel(Stream)
              end),
         Ends(fun(Body) -> py_test:timed_out(fun(Timeout) -> Run(hangs, Body, Timeout) end, fun has_begun/0) end),
         Ends(fun(Body) ->
                      W = py_test:worker(),
                      py_test:start(W, fun() -> Run(hangs, Body, #{}) end),
                      await_begun(),
                      py_test:kill(W)
              end)
     end || {Kind, Module} <- [{py_asgi, unread_asgi}, {py_wsgi, unread_wsgi}],
            Channels <- [{py_byte_channel, send}, {py_buffer, write}]],
    %% What was no body stays as it is.
    {ok, Terms} = py_channel:new(),
    {error, {'TypeError', _}} = py_asgi:run(unread_asgi, answers, #{}, Terms),
    #{closed := false} = py_channel:info(Terms).

%% Who writes waits for room until the request has ended.  The body is of this process, which lives on.
body_ends({Module, Write}, Request) ->
    {ok, Body} = Module:new(#{max_size => 1}),
    W = py_test:worker(),
    py_test:start(W, fun() -> written(fun() -> Module:Write(Body, <<"part">>, infinity) end) end),
    _ = Request(Body),
    {error, closed} = py_test:answer(W),
    py_test:end_worker(W).

written(Write) ->
    case Write() of
        ok -> written(Write);
        {error, _} = Error -> Error
    end.

await_done(Kind, Stream) ->
    receive {Kind, Stream, done} -> ok after 60000 -> error({not_done, py_test:messages()}) end.

await_begun() ->
    receive begun -> ok after 60000 -> error({not_begun, py_test:messages()}) end.

has_begun() ->
    receive begun -> true after 1000 -> false end.

%%% examples/http_server

%% Its port; the applications are those of http_apps/0.
example(Config) ->
    %% It is beside the tests' source, if at all.
    Source = proplists:get_value(source, ?MODULE:module_info(compile), ""),
    File = filename:join([filename:dirname(Source), "..", "..", "examples", "http_server"]),
    case file:read_file(File) of
        {ok, Script} -> loaded(Script, filename:join(proplists:get_value(priv_dir, Config), "http_server.erl"));
        {error, enoent} -> throw({skip, "there are no examples"})
    end,
    Dirs = [py_test:write_module(Config, Name, App) || {Name, App} <- http_apps()],
    ok = py_import:add_path(hd(Dirs)),
    {ok, Listen} = http_server:listen(0),
    {ok, [{send_timeout, 60000}, {send_timeout_close, true}]} = inet:getopts(Listen, [send_timeout, send_timeout_close]),
    _ = spawn_link(fun() -> http_server:accept(Listen) end),
    {ok, Port} = inet:port(Listen),
    {Listen, Port}.

loaded(Script, File) ->
    [<<"#!", _/binary>>, Source] = binary:split(Script, <<"\n">>),
    ok = file:write_file(File, Source),
    {ok, http_server, Code} = compile:file(File, [binary, export_all, nowarn_export_all]),
    {module, http_server} = code:load_binary(http_server, File, Code).

http_apps() ->
    [{http_wsgi, <<"
ANSWERS = {
    '/none': ('204 No Content', [], []), '/same': ('304 Not Modified', [('Content-Length', '3')], []),
    '/more': ('200 OK', [('Content-Length', '3')], [b'abc', b'def']),
    '/less': ('200 OK', [('Content-Length', '6')], [b'abc']),
    '/two': ('200 OK', [('Content-Length', '3'), ('content-length', '3')], [b'abc']),
    '/bad': ('200 OK', [('Content-Length', '+3')], [b'abc']),
    '/plain': ('200 OK', [], [b'abc']), '/keep': ('200 OK', [], [b'abc']),
}

kept = []

def late(environ):
    'Reads the input of the request before, and then its own.'
    try:
        before = kept.pop().read()
    except OSError as error:
        before = str(error).encode()
    return '200 OK', [], [before, b', ', environ['wsgi.input'].read()]

def app(environ, start_response):
    if environ['PATH_INFO'] == '/keep':
        kept.append(environ['wsgi.input'])
    status, headers, parts = late(environ) if environ['PATH_INFO'] == '/late' else ANSWERS[environ['PATH_INFO']]
    start_response(status, headers)
    return parts
">>},
     {http_asgi, <<"
ANSWERS = {
    '/none': (204, [], b''), '/same': (304, [(b'Content-Length', b'3')], b''),
    '/more': (200, [(b'Content-Length', b'3')], b'abcdef'), '/less': (200, [(b'Content-Length', b'6')], b'abc'),
    '/two': (200, [(b'Content-Length', b'3'), (b'content-length', b'3')], b'abc'),
    '/bad': (200, [(b'Content-Length', b'+3')], b'abc'),
    '/plain': (200, [(b'Transfer-Encoding', b'chunked')], b'abc'),
}

async def app(scope, receive, send):
    if scope['path'] == '/early':
        await send({'type': 'http.response.start', 'status': 200})
        for i in range(5):  # one more than it has credit for: so the head has gone when the last one may
            await send({'type': 'http.response.body', 'body': b'%d' % i, 'more_body': True})
        message = await receive()
        await send({'type': 'http.response.body', 'body': message['body']})
        return
    if scope['path'] == '/echo':
        body, message = b'', {'more_body': True}
        while message['more_body']:
            message = await receive()
            if message['type'] != 'http.request': return
            body += message['body']
        answer = 200, [(b'Content-Length', b'%d' % len(body))], body
    else:
        answer = ANSWERS[scope['path']]
    await send({'type': 'http.response.start', 'status': answer[0], 'headers': answer[1]})
    await send({'type': 'http.response.body', 'body': answer[2]})
">>}].

%% All that comes until the server ends the connection.
ask(Port, Request) ->
    {ok, Socket} = gen_tcp:connect({127, 0, 0, 1}, Port, [binary, {active, false}]),
    ok = gen_tcp:send(Socket, Request),
    answer(Socket, []).

answer(Socket, Parts) ->
    case gen_tcp:recv(Socket, 0, 60000) of
        {ok, Part} -> answer(Socket, [Parts, Part]);
        {error, Reason} when Reason =:= closed; Reason =:= econnreset ->
            ok = gen_tcp:close(Socket),
            iolist_to_binary(Parts)
    end.

refusal(Status) ->
    <<"HTTP/1.1 ", Status/binary, "\r\nConnection: close\r\nContent-Length: 0\r\n\r\n">>.

the_example_refuses_what_may_hide_a_request(Config) ->
    {Listen, Port} = example(Config),
    Buffer = 2048,
    ok = inet:setopts(Listen, [{buffer, Buffer}]),
    Post = fun(Headers, Body) ->
                   ask(Port, ["POST /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\n",
                              [[Header, "\r\n"] || Header <- Headers], "\r\n", Body])
           end,
    Chunked = fun(Body) -> Post(["Transfer-Encoding: chunked"], Body) end,
    Echo = <<"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc">>,
    %% These are as they should be.
    [?assertEqual(Echo, Answer)
     || Answer <- [Post(["Content-Length: 3"], "abc"), Post(["content-length: 003"], "abc"),
                   Chunked("3\r\nabc\r\n0\r\n\r\n"), Chunked("03;a=b\r\nabc\r\n0\r\nX: 1\r\nY: 2\r\n\r\n"),
                   Chunked("1 \r\na\r\n2\r\nbc\r\n0\r\n\r\n"), Post(["Transfer-Encoding: Chunked"], "3\r\nabc\r\n0\r\n\r\n")]],
    Bad = refusal(<<"400 Bad Request">>),
    [?assertEqual({What, Bad}, {What, Answer()})
     || {What, Answer} <-
            [{both, fun() -> Post(["Content-Length: 3", "Transfer-Encoding: chunked"], "0\r\n\r\n") end},
             {two_lengths, fun() -> Post(["Content-Length: 3", "Content-Length: 3"], "abc") end},
             {two_encodings, fun() -> Post(["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"], "0\r\n\r\n") end},
             {two_hosts, fun() -> Post(["Host: y"], "") end},
             {no_host, fun() -> ask(Port, "GET /echo HTTP/1.1\r\n\r\n") end},
             {old_version, fun() -> ask(Port, "POST /echo HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n") end},
             {many_headers, fun() -> Post([["X: ", integer_to_list(N)] || N <- lists:seq(1, 99)], "") end}]
            ++ [{Length, fun() -> Post([["Content-Length: ", Length]], "abc") end}
                || Length <- ["+3", "-0", "3, 3", "0x3", "3a", "1234567890123456"]]
            ++ [{Encoding, fun() -> Post([["Transfer-Encoding: ", Encoding]], "3\r\nabc\r\n0\r\n\r\n") end}
                || Encoding <- ["gzip, chunked", "identity", "chunked, chunked"]]
            ++ [{Line, fun() -> Chunked([Line, "abc\r\n0\r\n\r\n"]) end}
                || Line <- ["+3\r\n", "-3\r\n", "0x3\r\n", "3 x\r\n", "3\n", "3;\r\r\n", "\r\n", "0000000000000003\r\n",
                            ["3;", lists:duplicate(2 * Buffer, $a), "\r\n"]]]
            ++ [{no_line_break, fun() -> Chunked("3\r\nabcXX0\r\n\r\n") end},
                {bare_line_feed, fun() -> Chunked("3\r\nabc\r\n0\r\nX: 1\n\r\n") end},
                %% Its last piece looks like the empty line at the end.
                {long_trailer, fun() -> Chunked(["3\r\nabc\r\n0\r\n", lists:duplicate(2 * Buffer, $a), "\r\n\r\n"]) end},
                {many_trailers, fun() -> Chunked(["3\r\nabc\r\n0\r\n", lists:duplicate(101, "X: 1\r\n"), "\r\n"]) end}]],
    ok = gen_tcp:close(Listen).

the_example_ends_each_body_where_it_ends(Config) ->
    {Listen, Port} = example(Config),
    Get = fun(Path) -> ["GET ", Path, " HTTP/1.1\r\nHost: x\r\n\r\n"] end,
    Last = fun(Path) -> ["GET ", Path, " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"] end,
    Chunks = "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    [begin
         Ask = fun(Request) -> ask(Port, Request) end,
         ?assertEqual(iolist_to_binary(["HTTP/1.1 ", None, "\r\n\r\nHTTP/1.1 ", Same, "\r\nContent-Length: 3\r\n\r\n",
                                        "HTTP/1.1 200 OK\r\n", Chunks]),
                      Ask([Get([Below, "/none"]), Get([Below, "/same"]), Last([Below, "/plain"])])),
         %% The server closes, though nobody asked for that.
         ?assertEqual(<<"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc">>, Ask(Get([Below, "/more"]))),
         ?assertEqual(<<"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabc">>, Ask(Get([Below, "/less"]))),
         [?assertEqual(refusal(<<"500 Internal Server Error">>), Ask(Get([Below, Path]))) || Path <- ["/two", "/bad"]]
     end || {Below, None, Same} <- [{"", "204 ", "304 "}, {"/wsgi", "204 No Content", "304 Not Modified"}]],
    ok = gen_tcp:close(Listen).

asked(Path) -> ["GET ", Path, " HTTP/1.1\r\nHost: x\r\n\r\n"].

post(Path, Headers, Body) ->
    ["POST ", Path, " HTTP/1.1\r\nHost: x\r\n", [[Header, "\r\n"] || Header <- Headers], "\r\n", Body].

posted(Path, Headers, Body) ->
    post(Path, [["Content-Length: ", integer_to_list(iolist_size(Body))] | Headers], Body).

the_example_takes_no_body_for_a_request(Config) ->
    {Listen, Port} = example(Config),
    Echo = <<"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc">>,
    Plain = <<"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n">>,
    Last = fun(Path) -> posted(Path, ["Connection: foo, Close"], "abc") end,
    %% What is read leaves room for the next one, wherever the packets end.
    ?assertEqual(<<Echo/binary, Echo/binary, Plain/binary, Echo/binary>>,
                 ask(Port, [posted("/echo", [], "abc"),
                            post("/echo", ["Transfer-Encoding: chunked"], "3\r\nabc\r\n0\r\nX: 1\r\n\r\n"),
                            asked("/plain"), Last("/echo")])),
    %% What is not read ends the connection, and its answer comes all the same.
    Hidden = iolist_to_binary(lists:duplicate(20000, asked("/echo"))),
    [?assertEqual(Plain, ask(Port, [Request, asked("/echo")]))
     || Below <- ["", "/wsgi"],
        Request <- [posted([Below, "/plain"], [], Hidden),
                    post([Below, "/plain"], ["Transfer-Encoding: chunked"],
                         [integer_to_list(byte_size(Hidden), 16), "\r\n", Hidden, "\r\n0\r\n\r\n"])]],
    %% Nobody knows of a client of HTTP/1.0 that it could go on.
    Old = fun(Connection) -> ask(Port, ["GET /none HTTP/1.0\r\nConnection: ", Connection, "\r\n\r\n"]) end,
    [?assertEqual(<<"HTTP/1.1 204 \r\n\r\n">>, Old(Connection)) || Connection <- ["close", "foo"]],
    ok = gen_tcp:close(Listen).

%% An application may have kept the input of the request before.
the_example_takes_no_request_for_a_body(Config) ->
    {Listen, Port} = example(Config),
    Text = <<"the body of the request cannot be read: closed, abc">>,
    Answer = ask(Port, [asked("/wsgi/keep"), posted("/wsgi/late", ["Connection: close"], "abc")]),
    [_Head1, _Body1, _Head2, Body] = binary:split(Answer, <<"\r\n\r\n">>, [global, trim_all]),
    ?assertEqual(Text, iolist_to_binary(chunks(<<Body/binary, "\r\n">>))),
    ok = gen_tcp:close(Listen).

chunks(Data) ->
    [Size, Rest] = binary:split(Data, <<"\r\n">>),
    case binary_to_integer(Size, 16) of
        0 -> [];
        N -> <<Chunk:N/binary, "\r\n", Next/binary>> = Rest, [Chunk | chunks(Next)]
    end.

the_example_asks_for_a_body_before_it_answers(Config) ->
    {Listen, Port} = example(Config),
    Expecting = ["Expect: 100-continue", "Connection: close"],
    ?assertEqual(<<"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\ndef">>,
                 ask(Port, posted("/echo", Expecting, "def"))),
    Parts = << <<"1\r\n", C, "\r\n">> || <<C>> <= <<"01234">> >>,
    ?assertEqual(<<"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", Parts/binary, "3\r\ndef\r\n0\r\n\r\n">>,
                 ask(Port, posted("/early", Expecting, "def"))),
    ok = gen_tcp:close(Listen).
