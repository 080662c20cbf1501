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

suite() -> [{timetrap, {minutes, 5}}].

all() -> [{group, in_a_request}, {group, as_a_task}].

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
