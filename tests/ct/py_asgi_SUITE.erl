%% SPDX-License-Identifier: Apache-2.0
%%
%% ASGI applications on the event loops of Erlang: requests, streams, websockets and lifespans.
%% The applications are in a module that init_per_suite writes; Starlette's case runs where
%% Starlette is.
-module(py_asgi_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([an_application_answers/1,
         the_application_runs_on_the_loop_that_is_named/1,
         an_application_of_the_own_namespace_answers/1,
         a_response_may_be_a_map/1,
         scopes_have_what_the_specification_wants/1,
         scopes_are_made_of_requests/1,
         wrong_arguments_are_refused/1,
         errors_of_the_application_are_results/1,
         broken_responses_are_refused/1,
         what_comes_after_the_response_runs_in_the_background/1]).
-export([a_body_comes_whole/1,
         a_body_may_come_from_a_fun/1,
         a_body_may_come_through_a_channel/1,
         a_part_of_the_body_is_not_lost_when_its_task_is_cancelled/1,
         a_body_that_fails_is_a_disconnect/1]).
-export([a_timeout_disconnects/1,
         the_death_of_the_caller_disconnects/1,
         an_application_that_does_not_end_is_cancelled/1]).
-export([a_response_comes_in_messages/1,
         without_credit_the_application_waits/1,
         a_stream_that_never_waits_can_be_cancelled/1,
         an_error_in_the_middle_ends_the_stream/1,
         cancel_ends_the_stream/1,
         the_death_of_the_owner_ends_the_stream/1,
         the_stop_of_the_application_ends_streams/1]).
-export([a_websocket_carries_messages_both_ways/1,
         a_websocket_is_accepted_with_a_subprotocol/1,
         a_websocket_may_be_refused/1,
         broken_handshakes_are_refused/1,
         nothing_comes_after_the_close/1,
         the_client_closes_a_websocket/1,
         the_application_closes_a_websocket/1,
         an_error_ends_the_websocket/1,
         a_message_is_not_lost_when_its_task_is_cancelled/1,
         a_client_waits_for_the_application/1,
         the_owner_does_not_wait_for_an_application_that_waits_for_it/1,
         a_client_may_flood_an_application_that_echoes/1,
         a_close_reaches_an_application_that_waits_in_send/1,
         a_close_reaches_an_application_that_only_sends/1,
         the_death_of_the_owner_disconnects_the_websocket/1]).
-export([a_lifespan_starts_and_stops_the_application/1,
         an_application_without_a_lifespan_is_none_the_worse/1,
         an_application_that_fails_to_start_is_an_error/1,
         an_application_that_does_not_start_in_time_is_cancelled/1,
         an_application_that_does_not_stop_in_time_is_cancelled/1]).
-export([requests_of_many_processes_do_not_mix/1,
         a_module_that_refuses_is_served_by_the_main_interpreter/1,
         starlette_answers/1]).

-define(ERROR(Type, Message), {error, {Type, Message}}).

suite() -> [{timetrap, {minutes, 5}}].

all() -> py_test:cases(?MODULE).

init_per_suite(Config) ->
    py_test:start_with(Config, [{asgi_apps, source()}, {asgi_parts, parts_source()}]).

end_per_suite(Config) -> py_test:stop(Config).

init_per_testcase(_Case, Config) ->
    ok = py_import:add_path(proplists:get_value(modules, Config)),
    Config.

end_per_testcase(_Case, _Config) ->
    py_test:restore(),
    ok.

source() -> <<"
import asyncio, erlang

def tell(scope, *what):
    'Tells the process that the path names.'
    erlang.send(scope['state']['pid'], (erlang.atom('told'), *what))

async def answer(send, body=b'', status=200, headers=()):
    await send({'type': 'http.response.start', 'status': status, 'headers': headers})
    await send({'type': 'http.response.body', 'body': body})

async def body_of(receive):
    parts = []
    while True:
        message = await receive()
        if message['type'] != 'http.request': return message['type']
        parts.append(message['body'])
        if not message['more_body']: return b''.join(parts)

async def hello(scope, receive, send):
    assert scope['type'] == 'http'
    await send({'type': 'http.response.start', 'status': 200,
                'headers': [(b'content-type', b'text/plain'), [b'x-twice', b'1'], (b'x-twice', b'2')]})
    await send({'type': 'http.response.body', 'body': b'Hello, ', 'more_body': True})
    await asyncio.sleep(0)
    await send({'type': 'http.response.body', 'body': scope['path'].encode()})

class by:
    class name:
        application = staticmethod(hello)

async def show(scope, receive, send):
    await answer(send, repr(eval(scope['query_string'].decode(), {'scope': scope})).encode())

async def fails(scope, receive, send):
    await asyncio.sleep(0)
    raise KeyError('on purpose')

async def silent(scope, receive, send):
    pass

async def half(scope, receive, send):
    await send({'type': 'http.response.start', 'status': 200})
    await send({'type': 'http.response.body', 'body': b'half', 'more_body': True})

async def half_fails(scope, receive, send):
    await half(scope, receive, send)
    raise ValueError('in the middle')

async def messages(scope, receive, send):
    for message in eval(scope['query_string'].decode()):
        await send(message)

async def goes_on(scope, receive, send):
    await answer(send, b'early')
    message = await receive()
    tell(scope, 'gone', message['type'])
    await erlang.async_call('wait')
    tell(scope, 'ended')

async def fails_late(scope, receive, send):
    await answer(send, b'early')
    raise ValueError('too late for the client')

async def echo(scope, receive, send):
    await answer(send, await body_of(receive))

async def impatient(scope, receive, send):
    'Gives up its wait for a part before that comes, and asks again.'
    try:
        await asyncio.wait_for(receive(), 0.02)
        raise AssertionError('it came')
    except asyncio.TimeoutError:
        erlang.call('hurry')
    await answer(send, await body_of(receive))

async def kind(scope, receive, send):
    tell(scope, await body_of(receive))
    await answer(send)

async def watches(scope, receive, send):
    await body_of(receive)
    tell(scope, 'begun')
    message = await receive()
    try:
        await answer(send)
    except OSError as error:
        tell(scope, message['type'], 'OSError')

async def sleeps(scope, receive, send):
    from erlang import _asgi
    before, _asgi.GRACE = _asgi.GRACE, 0.05
    try:
        tell(scope, 'begun')
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        tell(scope, 'cancelled')
        raise
    finally:
        _asgi.GRACE = before

async def counts(scope, receive, send):
    await send({'type': 'http.response.start', 'status': 200, 'headers': [(b'x-kind', b'counts')]})
    for i in range(int(scope['query_string'])):
        await send({'type': 'http.response.body', 'body': b'%d' % i, 'more_body': True})
        tell(scope, i)
    await send({'type': 'http.response.body'})

async def endless(scope, receive, send):
    try:
        await send({'type': 'http.response.start', 'status': 200})
        while True:
            await send({'type': 'http.response.body', 'body': b'more', 'more_body': True})
            await asyncio.sleep(0.01)
    except OSError:
        tell(scope, 'OSError')

# Websockets

async def ws_echo(scope, receive, send):
    assert (await receive())['type'] == 'websocket.connect'
    await send({'type': 'websocket.accept'})
    while True:
        message = await receive()
        if message['type'] == 'websocket.disconnect':
            return tell(scope, 'disconnected', message['code'], message['reason'])
        if message.get('text') is not None:
            await send({'type': 'websocket.send', 'text': message['text'] + '!'})
        else:
            await send({'type': 'websocket.send', 'bytes': message['bytes'] + b'!'})

async def ws_protocol(scope, receive, send):
    await receive()
    await send({'type': 'websocket.accept', 'subprotocol': scope['subprotocols'][1], 'headers': [(b'x-a', b'1')]})
    await send({'type': 'websocket.send', 'text': repr((scope['type'], scope['scheme'], 'method' in scope))})

async def ws_refuse(scope, receive, send):
    await receive()
    await send({'type': 'websocket.close', 'code': 4000, 'reason': 'no'})

async def ws_deny(scope, receive, send):
    await receive()
    await send({'type': 'websocket.http.response.start', 'status': 401, 'headers': [(b'x-a', b'1')]})
    await send({'type': 'websocket.http.response.body', 'body': b'who', 'more_body': True})
    await send({'type': 'websocket.http.response.body', 'body': b' are you'})

async def ws_closes(scope, receive, send):
    await receive()
    await send({'type': 'websocket.accept'})
    await send({'type': 'websocket.close', 'code': 4001, 'reason': 'bye'})
    tell(scope, (await receive())['type'])

async def ws_fails(scope, receive, send):
    await receive()
    await send({'type': 'websocket.accept'})
    await receive()
    raise ValueError('on purpose')

async def ws_impatient(scope, receive, send):
    await receive()
    await send({'type': 'websocket.accept'})
    try:
        await asyncio.wait_for(receive(), 0.02)
        raise AssertionError('it came')
    except asyncio.TimeoutError:
        await send({'type': 'websocket.send', 'text': 'hurry'})
    await send({'type': 'websocket.send', 'text': (await receive())['text']})

async def ws_slow(scope, receive, send):
    await receive()
    await send({'type': 'websocket.accept'})
    await erlang.async_call('wait')
    texts = [(await receive())['text'] for i in range(100)]
    await send({'type': 'websocket.send', 'text': ','.join(texts)})

# Lifespans

class Spanned:
    def __init__(self, startup='complete', shutdown='complete'):
        self.answers = {'startup': startup, 'shutdown': shutdown}

    async def __call__(self, scope, receive, send):
        if scope['type'] != 'lifespan':
            return await answer(send, repr(scope.get('state', {}).get('greeting')).encode())
        for what in self.answers:
            message = await receive()
            assert message['type'] == 'lifespan.' + what
            if what == 'startup': scope['state']['greeting'] = 'hello'
            await asyncio.sleep(0)
            erlang.call('lifespan', what)
            await send({'type': 'lifespan.%s.%s' % (what, self.answers[what]), 'message': 'because'})

class Hanging:
    def __init__(self, when): self.when = when

    async def __call__(self, scope, receive, send):
        for what in ('startup', 'shutdown'):
            await receive()
            if what == self.when:
                try:
                    erlang.call('lifespan', 'hangs')
                    await asyncio.get_running_loop().create_future()
                except asyncio.CancelledError:
                    await asyncio.sleep(0)
                    erlang.call('lifespan', 'cancelled')
                    raise
            await send({'type': 'lifespan.%s.complete' % what})

async def tasks():
    return len(asyncio.all_tasks())

hangs_first = Hanging('startup')
hangs_last = Hanging('shutdown')
spanned = Spanned()
unstartable = Spanned('failed')
unstoppable = Spanned('complete', 'failed')
">>.

parts_source() -> <<"
import asyncio, erlang
from asgi_apps import answer, tell

COUNT = 200000

async def all_parts(scope, send, **part):
    for i in range(COUNT):
        if i == 1000: erlang.call('wait')
        try:
            await send(part)
        except OSError:
            return tell(scope, 'OSError')
    tell(scope, 'all were sent')

async def parts(scope, receive, send):
    await send({'type': 'http.response.start', 'status': 200})
    await all_parts(scope, send, type='http.response.body', body=b'a', more_body=True)

async def ws_parts(scope, receive, send):
    await receive()
    await send({'type': 'websocket.accept'})
    await all_parts(scope, send, type='websocket.send', text='a')

async def ws_messages(scope, receive, send):
    for message in eval(scope['query_string'].decode()):
        await send(message)

async def ws_late(scope, receive, send):
    await receive()
    await send({'type': 'websocket.accept'})
    late = asyncio.ensure_future(send({'type': 'websocket.send', 'text': 'late'}))
    await asyncio.sleep(0)
    await send({'type': 'websocket.close'})
    try:
        await late
    except RuntimeError:
        tell(scope, 'RuntimeError')

async def ws_only_sends(scope, receive, send):
    await receive()
    await send({'type': 'websocket.accept'})
    try:
        while True:
            await send({'type': 'websocket.send', 'text': 'a'})
    except OSError:
        tell(scope, 'OSError')
        if scope['query_string']: raise
    message = await receive()
    while message['type'] == 'websocket.receive':
        tell(scope, message['text'])
        message = await receive()
    tell(scope, message['type'], message['code'], message['reason'])

async def late(scope, receive, send):
    await send({'type': 'http.response.start', 'status': 200})
    late = asyncio.ensure_future(send({'type': 'http.response.body', 'body': b'late', 'more_body': True}))
    await asyncio.sleep(0)
    await send({'type': 'http.response.body'})
    try:
        await late
    except RuntimeError:
        tell(scope, 'RuntimeError')
">>.

scope(Path) -> py_asgi:build_scope(#{path => Path, state => #{pid => self()}}).
ws_scope() -> py_asgi:build_scope(#{type => websocket, path => "/", subprotocols => ["a", "b"],
                                    state => #{pid => self()}}).

run(App) -> run(App, "/").
run(App, Path) -> py_asgi:run(asgi_apps, App, scope(Path)).
run(App, Path, Body) -> py_asgi:run(asgi_apps, App, scope(Path), Body).
run(App, Path, Body, Options) -> py_asgi:run(asgi_apps, App, scope(Path), Body, Options).

shown(Expression, Scope) ->
    {ok, {200, [], Shown}} = py_asgi:run(asgi_apps, show, Scope#{<<"query_string">> => Expression}),
    Shown.

stream(App, Path, Options) ->
    {ok, Stream} = run(App, Path, <<>>, Options#{stream => true}),
    Stream.

websocket(App) ->
    {ok, WebSocket} = py_asgi:websocket(asgi_apps, App, ws_scope()),
    WebSocket.

next(Stream) ->
    receive {py_asgi, Stream, Event} -> Event after 60000 -> error({no_event, py_test:messages()}) end.

all_of(Stream) ->
    case next(Stream) of
        done -> [done];
        {error, _} = Error -> [Error];
        Event -> [Event | all_of(Stream)]
    end.

told() ->
    receive
        {told, What} -> What;
        Told when element(1, Told) =:= told -> tl(tuple_to_list(Told))
    after 60000 -> error({not_told, py_test:messages()})
    end.

%% A function that returns when this process says so, and what says it.
register_wait() ->
    Me = self(),
    ok = py:register_function(wait, fun([]) -> Me ! {waits, self()}, receive go_on -> none end end).

waits() ->
    receive {waits, Pid} -> Pid after 60000 -> error({does_not_wait, py_test:messages()}) end.

%%% Requests

the_application_runs_on_the_loop_that_is_named(_Config) ->
    {ok, Loop} = py_event_loop:get_loop(),
    [{ok, {200, _, _}} = run(hello, "/", <<>>, #{loop => Named}) || Named <- [Loop, next, next]],
    [] = py_test:messages().

an_application_answers(_Config) ->
    Response = {ok, {200, [{<<"content-type">>, <<"text/plain">>}, {<<"x-twice">>, <<"1">>}, {<<"x-twice">>, <<"2">>}],
                     <<"Hello, /there">>}},
    ?assertEqual(Response, run(hello, "/there")),
    ?assertEqual(Response, py_asgi:run(<<"asgi_apps">>, <<"by.name.application">>, #{path => <<"/there">>}, <<>>)),
    ?assertEqual(Response, py_asgi:run("asgi_apps", "hello", #{<<"path">> => <<"/there">>}, [], 30000)),
    [] = py_test:messages().

an_application_of_the_own_namespace_answers(_Config) ->
    ok = py:exec(<<"async def app(scope, receive, send):\n"
                   "    await send({'type': 'http.response.start', 'status': 204, 'headers': []})\n"
                   "    await send({'type': 'http.response.body', 'body': bytearray(b'own')})\n">>),
    {ok, {204, [], <<"own">>}} = py_asgi:run('__main__', app, #{}, <<>>),
    ?ERROR('NameError', _) = py_asgi:run('__main__', no_such_app, #{}, <<>>),
    %% One that cannot be hashed has a lifespan as well.
    ok = py:exec(<<"class App(list):\n"
                   "    async def __call__(self, scope, receive, send):\n"
                   "        if scope['type'] == 'lifespan': scope['state']['a'] = 'of the lifespan'\n"
                   "        for what in ('startup', 'shutdown') if scope['type'] == 'lifespan' else ():\n"
                   "            await receive()\n"
                   "            await send({'type': 'lifespan.%s.complete' % what})\n"
                   "        if scope['type'] == 'http':\n"
                   "            await send({'type': 'http.response.start', 'status': 200})\n"
                   "            await send({'type': 'http.response.body', 'body': scope['state']['a'].encode()})\n"
                   "unhashable = App()\n">>),
    {ok, Pid} = py_asgi:start_link('__main__', unhashable, #{lifespan => on}),
    {ok, {200, [], <<"of the lifespan">>}} = py_asgi:run('__main__', unhashable, #{}),
    ok = py_asgi:stop(Pid).

a_response_may_be_a_map(_Config) ->
    {ok, #{status := 200, headers := [_ | _], body := <<"Hello, /">>}} = run(hello, "/", <<>>, #{response => map}),
    {ok, {_, _, _}} = run(hello, "/", <<>>, #{response => tuple}).

scopes_have_what_the_specification_wants(_Config) ->
    <<"('http', '3.0', '1.1', 'GET', 'http', '/', '', None, None, [])">> =
        shown(<<"tuple(scope[k] for k in 'type http_version method scheme path root_path client server headers'.split())"
                "[:1] + (scope['asgi']['version'],) + tuple(scope[k] for k in 'http_version method scheme path root_path "
                "client server headers'.split())">>, #{}),
    <<"True">> = shown(<<"type(scope) is dict and all(type(k) is str for k in scope)">>, #{}),
    %% Text is str and bytes are bytes, whichever way they came.
    <<"('PUT', 'https', [(b'x-a', b'1'), (b'x-\\xff', b'\\xfe')], b'/%20')">> =
        shown(<<"(scope['method'], scope['scheme'], scope['headers'], scope['raw_path'])">>,
              #{<<"method">> => 'PUT', <<"scheme">> => https, <<"raw_path">> => <<"/%20">>,
                <<"headers">> => [{<<"X-A">>, <<"1">>}, [<<"x-", 255>>, <<254>>]]}),
    <<"['str', 'str', 'bytes', 'bytes']">> =
        shown(<<"[type(scope[k]).__name__ for k in ('type', 'path', 'raw_path', 'query_string')]">>, scope("/a")),
    <<"[47, 228, 65533]">> = shown(<<"[ord(c) for c in scope['path']]">>, scope("/%c3%a4%ff")),
    <<"1">> = shown(<<"scope['state']['a']">>, #{<<"state">> => #{a => 1}}).

scopes_are_made_of_requests(_Config) ->
    Request = #{method => <<"POST">>, path => <<"/app/a%20b%2f%zz?x=%20">>, root_path => "/app",
                headers => [{'Host', <<"example.org">>}, {<<"Content-Type">>, <<"text/plain">>}, {"A", 3}],
                scheme => https, http_version => {2, 0}, client => {{127, 0, 0, 1}, 4711},
                server => {"10.0.0.1", 8000}, extensions => #{<<"e">> => #{}}},
    ?assertEqual(#{<<"type">> => <<"http">>, <<"method">> => <<"POST">>, <<"path">> => <<"/app/a b/%zz">>,
                   <<"raw_path">> => <<"/app/a%20b%2f%zz">>, <<"query_string">> => <<"x=%20">>,
                   <<"root_path">> => <<"/app">>, <<"scheme">> => <<"https">>, <<"http_version">> => <<"2">>,
                   <<"headers">> => [{<<"host">>, <<"example.org">>}, {<<"content-type">>, <<"text/plain">>},
                                     {<<"a">>, <<"3">>}],
                   <<"client">> => {<<"127.0.0.1">>, 4711}, <<"server">> => {<<"10.0.0.1">>, 8000},
                   <<"extensions">> => #{<<"e">> => #{}}},
                 py_asgi:build_scope(Request)),
    #{<<"path">> := <<"/b">>, <<"mine">> := 1} = py_asgi:build_scope(#{path => "/a"}, #{path => <<"/b">>, <<"mine">> => 1}),
    #{<<"type">> := <<"websocket">>, <<"scheme">> := <<"wss">>, <<"subprotocols">> := [<<"a">>]} = WebSocket =
        py_asgi:build_scope(#{type => websocket, path => "/", scheme => https, subprotocols => ["a"]}),
    ?assertNot(is_map_key(<<"method">>, WebSocket)),
    %% Names of headers are bytes, of which only ASCII's letters have another case.
    #{<<"headers">> := [{<<"x", 16#c4, 255>>, <<"1">>}, {<<"xÄ"/utf8>>, <<"2">>}]} =
        py_asgi:build_scope(#{path => "/", headers => [{<<"X", 16#c4, 255>>, <<"1">>}, {<<"XÄ"/utf8>>, <<"2">>}]}),
    ?assertError({badarg, _}, py_asgi:build_scope(#{path => "/", moon => 1})),
    ?assertError({badarg, _}, py_asgi:build_scope(#{path => "/", type => lifespan})).

wrong_arguments_are_refused(_Config) ->
    ?ERROR('ModuleNotFoundError', _) = py_asgi:run(no_such_module, app, #{}),
    ?ERROR('AttributeError', _) = run(no_such_app),
    ?ERROR('TypeError', _) = py_asgi:run(asgi_apps, hello, no_map),
    ?ERROR('TypeError', _) = py_asgi:run(asgi_apps, hello, #{}, body),
    ?ERROR('TypeError', _) = run(hello, "/", <<>>, #{moon => 1}),
    ?ERROR('ValueError', _) = run(hello, "/", <<>>, #{response => list}),
    ?ERROR('TypeError', _) = run(hello, "/", <<>>, #{stream => perhaps}),
    ?ERROR('ValueError', _) = run(hello, "/", <<>>, #{stream => true, credit => many}),
    ?ERROR('TypeError', _) = run(hello, "/", <<>>, #{loop => first}),
    ?ERROR('ValueError', _) = run(hello, "/", <<>>, #{loop => self()}),
    ?ERROR('TypeError', _) = py_asgi:websocket(asgi_apps, ws_echo, ws_scope(), #{owner => me}),
    [] = py_test:messages().

errors_of_the_application_are_results(_Config) ->
    ?ERROR('KeyError', <<"'on purpose'">>) = run(fails),
    {error, #{type := 'KeyError', traceback := [_ | _]}} = run(fails, "/", <<>>, #{errors => full}),
    ?ERROR('RuntimeError', _) = run(silent),
    ?ERROR('RuntimeError', _) = run(half),
    ?ERROR('ValueError', <<"in the middle">>) = run(half_fails).

broken_responses_are_refused(_Config) ->
    Start = "{'type': 'http.response.start', 'status': 200}",
    Body = "{'type': 'http.response.body', 'body': b'a'}",
    With = fun(Messages) -> run(messages, ["/?", lists:join(",", Messages), ","]) end,
    {ok, {200, [], <<"a">>}} = With([Start, Body]),
    ?ERROR('RuntimeError', _) = With([Body]),
    ?ERROR('RuntimeError', _) = With([Start, Start]),
    ?ERROR('RuntimeError', _) = With(["{'type': 'websocket.accept'}"]),
    ?ERROR('KeyError', _) = With(["{}"]),
    ?ERROR('TypeError', _) = With([Start, "{'type': 'http.response.body', 'body': 'str'}"]),
    Head = fun(Rest) -> With([["{'type': 'http.response.start', ", Rest, "}"], Body]) end,
    ?ERROR('ValueError', _) = Head("'status': 'OK'"),
    [?ERROR('ValueError', _) = Head(["'status': ", Status]) || Status <- ["1", "100", "199", "1000", "'200'", "True"]],
    %% How the body is framed is the server's affair.
    {ok, {200, [{<<"a">>, <<"1">>}], <<"a">>}} =
        Head("'status': 200, 'headers': [(b'Transfer-Encoding', b'chunked'), (b'a', b'1')]"),
    ?ERROR('TypeError', _) = Head("'status': 200, 'headers': [('a', b'1')]"),
    ?ERROR('ValueError', _) = Head("'status': 200, 'headers': [(b'a', b'1\\r\\nb: 2')]"),
    ?ERROR('ValueError', _) = Head("'status': 200, 'headers': [(b'a b', b'1')]").

what_comes_after_the_response_runs_in_the_background(_Config) ->
    register_wait(),
    {ok, {200, [], <<"early">>}} = run(goes_on),
    [<<"gone">>, <<"http.disconnect">>] = told(),
    waits() ! go_on,
    <<"ended">> = told(),
    {ok, {200, [], <<"early">>}} = run(fails_late),
    [] = py_test:messages().

%%% Bodies

a_body_comes_whole(_Config) ->
    {ok, {200, [], <<"a body", 255>>}} = run(echo, "/", [<<"a ">>, "body", 255]),
    {ok, {200, [], <<>>}} = run(echo),
    Large = binary:copy(<<"0123456789">>, 100000),
    {ok, {200, [], Large}} = run(echo, "/", Large).

a_body_may_come_from_a_fun(Config) ->
    Large = binary:copy(<<"0123456789">>, 100000),
    File = filename:join(proplists:get_value(priv_dir, Config), "body"),
    ok = file:write_file(File, Large),
    {ok, Fd} = file:open(File, [read, binary]),
    {ok, {200, [], Large}} = run(echo, "/", {stream, fun() -> file:read(Fd, 100000) end}),
    ok = file:close(Fd),
    {ok, {200, [], <<>>}} = run(echo, "/", fun() -> eof end),
    %% Nothing is not the end.
    Gate = spawn_link(fun() -> gate([<<>>, <<"a">>, <<>>, <<>>, <<"b">>]) end),
    {ok, {200, [], <<"ab">>}} = run(echo, "/", fun() -> Gate ! {next, self()}, receive {part, Part} -> Part end end),
    true = unlink(Gate),
    true = exit(Gate, kill),
    %% Nobody asks for a body that nobody reads.
    {ok, {200, _, <<"Hello, /">>}} = run(hello, "/", fun() -> error(asked) end).

a_body_may_come_through_a_channel(_Config) ->
    {ok, Buffer} = py_buffer:new(),
    {ok, Channel} = py_byte_channel:new(),
    [begin
         W = py_test:worker(),
         py_test:start(W, fun() -> run(echo, "/", {stream, Ref}) end),
         [ok = Write(Part) || Part <- [<<"the ">>, <<>>, <<"whole">>, <<255>>]],
         ok = Close(),
         {ok, {200, [], <<"the whole", 255>>}} = py_test:answer(W),
         py_test:end_worker(W)
     end || {Ref, Write, Close} <- [{Buffer, fun(D) -> py_buffer:write(Buffer, D) end,
                                     fun() -> py_buffer:close(Buffer) end},
                                    {Channel, fun(D) -> py_byte_channel:send(Channel, D) end,
                                     fun() -> py_byte_channel:close(Channel) end}]],
    {ok, Terms} = py_channel:new(),
    ?ERROR('TypeError', <<"a py_channel carries terms", _/binary>>) = run(echo, "/", Terms),
    ?ERROR('TypeError', _) = run(echo, "/", make_ref()).

a_part_of_the_body_is_not_lost_when_its_task_is_cancelled(_Config) ->
    Me = self(),
    Gate = spawn_link(fun() -> receive go -> gate([<<"the ">>, <<"whole">>]) end end),
    ok = py:register_function(hurry, fun([]) -> Gate ! go, none end),
    Fun = fun() -> Gate ! {next, self()}, receive {part, Part} -> Part end end,
    {ok, {200, [], <<"the whole">>}} = run(impatient, "/", Fun),
    unlink(Gate),
    exit(Gate, kill),
    [] = [M || M <- py_test:messages(), M =/= Me].

gate(Parts) ->
    receive
        {next, From} when Parts =:= [] -> From ! {part, eof}, gate([]);
        {next, From} -> From ! {part, {ok, hd(Parts)}}, gate(tl(Parts))
    end.

a_body_that_fails_is_a_disconnect(_Config) ->
    %% This one answers all the same.
    ?ERROR('Disconnected', _) = run(kind, "/", fun() -> {error, closed} end),
    <<"http.disconnect">> = told(),
    ?ERROR('Error', _) = run(echo, "/", fun() -> exit(oops) end).

%%% The end of a client

has_begun() ->
    receive {told, <<"begun">>} -> true after 1000 -> false end.

a_timeout_disconnects(_Config) ->
    py_test:timed_out(fun(Timeout) -> run(watches, "/", <<>>, Timeout) end, fun has_begun/0),
    [<<"http.disconnect">>, <<"OSError">>] = told().

the_death_of_the_caller_disconnects(_Config) ->
    Scope = scope("/"),
    W = py_test:worker(),
    py_test:start(W, fun() -> py_asgi:run(asgi_apps, watches, Scope) end),
    <<"begun">> = told(),
    py_test:kill(W),
    [<<"http.disconnect">>, <<"OSError">>] = told().

an_application_that_does_not_end_is_cancelled(_Config) ->
    py_test:timed_out(fun(Timeout) -> run(sleeps, "/", <<>>, Timeout) end, fun has_begun/0),
    <<"cancelled">> = told().

%%% Streams

a_response_comes_in_messages(_Config) ->
    ?assertEqual([{start, 200, [{<<"x-kind">>, <<"counts">>}]},
                  {data, <<"0">>}, {data, <<"1">>}, {data, <<"2">>}, done], all_of(stream(counts, "/?3", #{}))),
    [0, 1, 2] = [told(), told(), told()],
    [{start, 200, _}, done] = all_of(stream(counts, "/?0", #{})),
    [] = py_test:messages().

without_credit_the_application_waits(_Config) ->
    Stream = stream(counts, "/?5", #{credit => 1}),
    {start, _, _} = next(Stream),
    {data, <<"0">>} = next(Stream),
    0 = told(),
    [begin
         receive Event -> error({unexpected, Event}) after 20 -> ok end,
         ok = py_asgi:ack(Stream, 1),
         Item = integer_to_binary(N),
         {data, Item} = next(Stream),
         N = told()
     end || N <- [1, 2]],
    ok = py_asgi:ack(Stream, 10),
    [{data, <<"3">>}, {data, <<"4">>}, done] = all_of(Stream).

a_stream_that_never_waits_can_be_cancelled(_Config) ->
    register_wait(),
    {ok, WebSocket} = py_asgi:websocket(asgi_parts, ws_parts, ws_scope()),
    {accept, none, []} = next(WebSocket),
    ok = cancel_amid(WebSocket, {text, <<"a">>}),
    {ok, Stream} = py_asgi:run(asgi_parts, parts, scope("/"), <<>>, #{stream => true}),
    {start, 200, []} = next(Stream),
    ok = cancel_amid(Stream, {data, <<"a">>}).

cancel_amid(Stream, Part) ->
    Waits = waits(),
    Part = next(Stream),
    ok = py_asgi:cancel(Stream),
    Waits ! go_on,
    <<"OSError">> = told(),
    [] = py_test:messages(),
    ok.

an_error_in_the_middle_ends_the_stream(_Config) ->
    [{start, 200, []}, {data, <<"half">>}, ?ERROR('ValueError', _)] = all_of(stream(half_fails, "/", #{})),
    [{start, 200, []}, {data, <<"half">>}, ?ERROR('RuntimeError', _)] = all_of(stream(half, "/", #{})),
    [{error, #{type := 'KeyError'}}] = all_of(stream(fails, "/", #{errors => full})),
    [?ERROR('AttributeError', _)] = all_of(stream(no_such_app, "/", #{})),
    [] = py_test:messages().

cancel_ends_the_stream(_Config) ->
    Stream = stream(endless, "/", #{}),
    {start, 200, []} = next(Stream),
    {data, <<"more">>} = next(Stream),
    ok = py_asgi:cancel(Stream),
    <<"OSError">> = told(),
    ok = py_asgi:cancel(Stream),
    ok = py_asgi:ack(Stream, 1),
    [] = py_test:messages(),
    %% Also while it waits for credit.
    Waiting = stream(endless, "/", #{credit => 1}),
    {start, 200, []} = next(Waiting),
    {data, <<"more">>} = next(Waiting),
    ok = py_asgi:cancel(Waiting),
    <<"OSError">> = told(),
    [] = py_test:messages().

the_death_of_the_owner_ends_the_stream(_Config) ->
    Scope = scope("/"),
    W = py_test:worker(),
    ok = py_test:run(W, fun() ->
                                {ok, Stream} = py_asgi:run(asgi_apps, endless, Scope, <<>>, #{stream => true}),
                                {start, 200, []} = next(Stream),
                                ok
                        end),
    py_test:kill(W),
    <<"OSError">> = told().

the_stop_of_the_application_ends_streams(_Config) ->
    Stream = stream(sleeps, "/", #{}),
    <<"begun">> = told(),
    ok = application:stop(erlang_python),
    {error, cancelled} = next(Stream),
    {error, not_running} = run(hello),
    {error, not_running} = run(hello, "/", <<>>, #{stream => true}),
    ok = application:start(erlang_python).

%%% Websockets

a_websocket_carries_messages_both_ways(_Config) ->
    WebSocket = websocket(ws_echo),
    {accept, none, []} = next(WebSocket),
    [begin
         ok = py_asgi:send(WebSocket, Message),
         {Kind, Data} = Message,
         Echo = <<(iolist_to_binary(Data))/binary, "!">>,
         {Kind, Echo} = next(WebSocket)
     end || Message <- [{text, <<"text">>}, {binary, <<"text">>}, {binary, <<255>>}, {text, ["a", <<"b">>]},
                        {text, <<>>}, {binary, <<>>}]],
    ?ERROR('ValueError', _) = py_asgi:send(WebSocket, {text, <<255>>}),
    [?ERROR('ValueError', _) = py_asgi:close(WebSocket, Code) || Code <- [999, 5000, normal]],
    ?ERROR('ValueError', _) = py_asgi:close(WebSocket, 1000, <<255>>),
    ?ERROR('TypeError', _) = py_asgi:close(WebSocket, 1000, bye),
    ok = py_asgi:close(WebSocket, 1000, <<"bye">>),
    [<<"disconnected">>, 1000, <<"bye">>] = told(),
    done = next(WebSocket),
    {error, closed} = py_asgi:send(WebSocket, {text, <<"late">>}),
    [] = py_test:messages().

a_websocket_is_accepted_with_a_subprotocol(_Config) ->
    [{accept, <<"b">>, [{<<"x-a">>, <<"1">>}]}, {text, <<"('websocket', 'ws', False)">>}, {close, 1000, <<>>}, done] =
        all_of(websocket(ws_protocol)).

a_websocket_may_be_refused(_Config) ->
    [{close, 4000, <<"no">>}, done] = all_of(websocket(ws_refuse)),
    [{start, 401, [{<<"x-a">>, <<"1">>}]}, {data, <<"who">>}, {data, <<" are you">>}, done] = all_of(websocket(ws_deny)),
    [?ERROR('RuntimeError', _)] = all_of(websocket(silent)).

broken_handshakes_are_refused(_Config) ->
    With = fun(Messages) ->
                   Scope = (ws_scope())#{<<"query_string">> => iolist_to_binary([lists:join(",", Messages), ","])},
                   {ok, WebSocket} = py_asgi:websocket(asgi_parts, ws_messages, Scope),
                   all_of(WebSocket)
           end,
    Accept = fun(Rest) -> ["{'type': 'websocket.accept', ", Rest, "}"] end,
    [{accept, <<"a.b">>, []}, {close, 1000, <<>>}, done] = With([Accept("'subprotocol': 'a.b'")]),
    [?ERROR('ValueError', _)] = With([Accept("'subprotocol': 'a\\r\\nb: c'")]),
    [?ERROR('UnicodeEncodeError', _)] = With([Accept(["'subprotocol': '\\u20ac'"])]),
    [?ERROR('TypeError', _)] = With([Accept("'subprotocol': b'a'")]),
    [?ERROR('ValueError', _)] = With([Accept("'headers': [(b'a', b'1\\r\\nb: 2')]")]),
    Deny = "{'type': 'websocket.http.response.start', 'status': 401}",
    [{start, 401, []}, ?ERROR('RuntimeError', _)] = With([Deny, Accept("")]),
    [{start, 401, []}, ?ERROR('RuntimeError', _)] = With([Deny, Deny]),
    [{start, 401, []}, ?ERROR('RuntimeError', _)] = With([Deny]),
    [?ERROR('ValueError', _)] = With(["{'type': 'websocket.http.response.start', 'status': 101}"]),
    [{start, 401, []}, ?ERROR('TypeError', _)] = With([Deny, "{'type': 'websocket.http.response.body', 'body': 3}"]),
    Close = fun(Rest) -> With([["{'type': 'websocket.close', ", Rest, "}"]]) end,
    [{close, 1000, <<>>}, done] = Close("'reason': None"),
    [{close, 4999, <<"no">>}, done] = Close("'code': 4999, 'reason': 'no'"),
    [[?ERROR('ValueError', _)] = Close(["'code': ", Code]) || Code <- ["'1000'", "999", "5000", "None"]],
    [?ERROR('TypeError', _)] = Close("'reason': b'no'").

nothing_comes_after_the_close(_Config) ->
    {ok, WebSocket} = py_asgi:websocket(asgi_parts, ws_late, ws_scope(), #{credit => 0}),
    {accept, none, []} = next(WebSocket),
    {close, 1000, <<>>} = next(WebSocket),
    <<"RuntimeError">> = told(),
    done = next(WebSocket),
    {ok, Stream} = py_asgi:run(asgi_parts, late, scope("/"), <<>>, #{stream => true, credit => 0}),
    [{start, 200, []}, done] = all_of(Stream),
    [] = [Message || {py_asgi, _, _} = Message <- py_test:messages()].

the_client_closes_a_websocket(_Config) ->
    WebSocket = websocket(ws_echo),
    {accept, none, []} = next(WebSocket),
    ok = py_asgi:send(WebSocket, {text, <<"a">>}),
    {text, <<"a!">>} = next(WebSocket),
    ok = py_asgi:close(WebSocket),
    [<<"disconnected">>, 1005, <<>>] = told(),
    done = next(WebSocket).

the_application_closes_a_websocket(_Config) ->
    [{accept, none, []}, {close, 4001, <<"bye">>}, done] = all_of(websocket(ws_closes)),
    <<"websocket.disconnect">> = told().

an_error_ends_the_websocket(_Config) ->
    WebSocket = websocket(ws_fails),
    {accept, none, []} = next(WebSocket),
    ok = py_asgi:send(WebSocket, {text, <<"a">>}),
    ?ERROR('ValueError', <<"on purpose">>) = next(WebSocket),
    [] = py_test:messages().

a_message_is_not_lost_when_its_task_is_cancelled(_Config) ->
    WebSocket = websocket(ws_impatient),
    {accept, none, []} = next(WebSocket),
    {text, <<"hurry">>} = next(WebSocket),
    ok = py_asgi:send(WebSocket, {text, <<"here">>}),
    {text, <<"here">>} = next(WebSocket),
    [{close, 1000, <<>>}, done] = all_of(WebSocket).

a_client_waits_for_the_application(_Config) ->
    register_wait(),
    WebSocket = websocket(ws_slow),
    {accept, none, []} = next(WebSocket),
    Waits = waits(),
    Sent = counters:new(1, []),
    W = py_test:worker(),
    py_test:start(W, fun() ->
                             [begin
                                  ok = py_asgi:send(WebSocket, {text, integer_to_binary(N)}),
                                  counters:add(Sent, 1, 1)
                              end || N <- lists:seq(1, 100)],
                             ok
                     end),
    py_test:wait_until(fun() -> counters:get(Sent, 1) =:= 64 end),
    Waits ! go_on,
    ok = py_test:answer(W),
    py_test:end_worker(W),
    Text = iolist_to_binary(lists:join(",", [integer_to_binary(N) || N <- lists:seq(1, 100)])),
    {text, Text} = next(WebSocket).

%% Both directions are full.
the_owner_does_not_wait_for_an_application_that_waits_for_it(_Config) ->
    {ok, WebSocket} = py_asgi:websocket(asgi_apps, ws_echo, ws_scope(), #{credit => 1}),
    {accept, none, []} = next(WebSocket),
    Sent = fill(WebSocket, 0),
    true = Sent >= 64,
    {error, full} = py_asgi:send(WebSocket, {text, <<"no room">>}),
    Answers = echoes(WebSocket),
    ?assertEqual([integer_to_binary(N) || N <- lists:seq(1, Sent)] ++ [<<"room">>], Answers),
    ok = py_asgi:close(WebSocket),
    [<<"disconnected">>, 1005, <<>>] = told(),
    done = next(WebSocket).

fill(WebSocket, Sent) ->
    case py_asgi:send(WebSocket, {text, integer_to_binary(Sent + 1)}) of
        ok -> fill(WebSocket, Sent + 1);
        {error, full} -> Sent
    end.

echoes(WebSocket) ->
    case next(WebSocket) of
        {text, <<"room!">>} ->
            [<<"room">>];
        {text, Echo} ->
            ok = py_asgi:ack(WebSocket, 1),
            [hd(binary:split(Echo, <<"!">>)) | echoes(WebSocket)];
        ready ->
            ok = py_asgi:send(WebSocket, {text, <<"room">>}),
            echoes(WebSocket)
    end.

%% Over a connection whose client sends and reads as fast as it can, in two processes.
a_client_may_flood_an_application_that_echoes(_Config) ->
    Count = py_test:fewer(20000),
    {ok, Listen} = gen_tcp:listen(0, [binary, {active, false}, {packet, 2}, {ip, {127, 0, 0, 1}}]),
    {ok, Port} = inet:port(Listen),
    Server = py_test:worker(),
    Scope = ws_scope(),
    py_test:start(Server, fun() -> served(Listen, Scope) end),
    {ok, Socket} = gen_tcp:connect({127, 0, 0, 1}, Port, [binary, {active, false}, {packet, 2}]),
    Flood = py_test:worker(),
    py_test:start(Flood, fun() -> [ok = gen_tcp:send(Socket, integer_to_binary(N)) || N <- lists:seq(1, Count)], ok end),
    [begin
         Echo = <<(integer_to_binary(N))/binary, "!">>,
         {ok, Echo} = gen_tcp:recv(Socket, 0, 60000)
     end || N <- lists:seq(1, Count)],
    ok = py_test:answer(Flood),
    ok = gen_tcp:close(Socket),
    done = py_test:answer(Server),
    [<<"disconnected">>, 1006, <<>>] = told(),
    [py_test:end_worker(W) || W <- [Flood, Server]],
    ok = gen_tcp:close(Listen).

%% As in docs/guide/web.md.
served(Listen, Scope) ->
    {ok, Socket} = gen_tcp:accept(Listen),
    {ok, WebSocket} = py_asgi:websocket(asgi_apps, ws_echo, Scope, #{credit => 4}),
    {accept, none, []} = next(WebSocket),
    ok = inet:setopts(Socket, [{active, once}]),
    serve(Socket, WebSocket, none).

serve(Socket, WebSocket, Kept) ->
    receive
        {tcp, Socket, Text} -> pushed(Socket, WebSocket, Text);
        {tcp_closed, Socket} -> ok = py_asgi:close(WebSocket, 1006), next(WebSocket);
        {py_asgi, WebSocket, ready} -> pushed(Socket, WebSocket, Kept);
        {py_asgi, WebSocket, {text, Text}} ->
            ok = gen_tcp:send(Socket, Text),
            ok = py_asgi:ack(WebSocket, 1),
            serve(Socket, WebSocket, Kept)
    end.

pushed(Socket, WebSocket, Text) ->
    case py_asgi:send(WebSocket, {text, Text}) of
        ok -> _ = inet:setopts(Socket, [{active, once}]), serve(Socket, WebSocket, none);
        {error, full} -> serve(Socket, WebSocket, Text)
    end.

a_close_reaches_an_application_that_waits_in_send(_Config) ->
    {ok, WebSocket} = py_asgi:websocket(asgi_parts, ws_only_sends, ws_scope(), #{credit => 1}),
    [{accept, none, []}, {text, <<"a">>}] = [next(WebSocket), next(WebSocket)],
    Sent = fill(WebSocket, 0),
    %% Full or not, this does not wait.
    ok = py_asgi:close(WebSocket, 1001, <<"bye">>),
    {error, closed} = py_asgi:send(WebSocket, {text, <<"late">>}),
    {error, closed} = py_asgi:close(WebSocket),
    <<"OSError">> = told(),
    %% What came before the close is not lost.
    ?assertEqual([integer_to_binary(N) || N <- lists:seq(1, Sent)], [told() || _ <- lists:seq(1, Sent)]),
    [<<"websocket.disconnect">>, 1001, <<"bye">>] = told(),
    done = next(WebSocket),
    [] = py_test:messages().

a_close_reaches_an_application_that_only_sends(_Config) ->
    [begin
         Scope = (ws_scope())#{<<"query_string">> => Query},
         {ok, WebSocket} = py_asgi:websocket(asgi_parts, ws_only_sends, Scope),
         [{accept, none, []}, {text, <<"a">>}] = [next(WebSocket), next(WebSocket)],
         ok = py_asgi:close(WebSocket),
         <<"OSError">> = told(),
         %% An application may leave it at that.
         Query =:= <<"raise">> orelse ([<<"websocket.disconnect">>, 1005, <<>>] = told()),
         [done] = lists:usort(all_of(WebSocket)) -- [{text, <<"a">>}]
     end || Query <- [<<>>, <<"raise">>]].

the_death_of_the_owner_disconnects_the_websocket(_Config) ->
    Scope = ws_scope(),
    W = py_test:worker(),
    ok = py_test:run(W, fun() ->
                                {ok, WebSocket} = py_asgi:websocket(asgi_apps, ws_echo, Scope),
                                {accept, none, []} = next(WebSocket),
                                ok
                        end),
    py_test:kill(W),
    [<<"disconnected">>, 1006, <<>>] = told().

%%% Lifespans

register_lifespan() ->
    Me = self(),
    ok = py:register_function(lifespan, fun([What]) -> Me ! {lifespan, What}, none end).

lifespans() ->
    receive {lifespan, What} -> [What | lifespans()] after 0 -> [] end.

a_lifespan_starts_and_stops_the_application(_Config) ->
    register_lifespan(),
    {ok, {200, [], <<"None">>}} = py_asgi:run(asgi_apps, spanned, #{}),
    {ok, Pid} = py_asgi:start_link(asgi_apps, spanned),
    Started = lifespans(),
    [<<"startup">>] = lists:usort(Started),
    %% Once in each interpreter, however many loops that has.
    Interps = lists:usort([Interp || #{interp := Interp, number := Number} <- py_event_loop:infos(), Number =/= none]),
    ?assertEqual(length(Interps), length(Started)),
    {ok, {200, [], <<"'hello'">>}} = py_asgi:run(asgi_apps, spanned, #{}),
    {ok, {200, [], <<"'bye'">>}} = py_asgi:run(asgi_apps, spanned, #{state => #{greeting => <<"bye">>}}),
    ok = py_asgi:stop(Pid),
    Stopped = lifespans(),
    [<<"shutdown">>] = lists:usort(Stopped),
    ?assertEqual(length(Started), length(Stopped)),
    {ok, {200, [], <<"None">>}} = py_asgi:run(asgi_apps, spanned, #{}),
    %% One that fails to stop is logged.
    {ok, Unstoppable} = py_asgi:start_link(asgi_apps, unstoppable),
    Log = py_test:log_start(),
    ok = py_asgi:stop(Unstoppable),
    _ = py_test:log_await(Log, {warning, "failed to shut down: because"}),
    _ = py_test:log_stop(Log),
    ok.

an_application_without_a_lifespan_is_none_the_worse(_Config) ->
    {ok, Pid} = py_asgi:start_link(asgi_apps, hello),
    {ok, {200, _, <<"Hello, /">>}} = run(hello),
    ok = py_asgi:stop(Pid),
    ?ERROR('AssertionError', _) = py_asgi:start_link(asgi_apps, hello, #{lifespan => on}),
    ?ERROR('ValueError', _) = py_asgi:start_link(asgi_apps, hello, #{lifespan => off}),
    ?ERROR('AttributeError', _) = py_asgi:start_link(asgi_apps, no_such_app).

an_application_that_fails_to_start_is_an_error(_Config) ->
    register_lifespan(),
    ?ERROR('RuntimeError', <<"the ASGI application failed to start: because">>) =
        py_asgi:start_link(asgi_apps, unstartable).

%% On a loop of its own, so that all its tasks are known.
an_application_that_does_not_start_in_time_is_cancelled(_Config) ->
    register_lifespan(),
    {ok, Loop} = py_event_loop:start_link(),
    ok = hangs_at_start(Loop, 20),
    {ok, 1} = py_event_loop:run(asgi_apps, tasks, [], #{loop => Loop}),
    ok = py_event_loop:stop(Loop).

hangs_at_start(Loop, Timeout) ->
    {error, {'TimeoutError', Text}} =
        py_asgi:start_link(asgi_apps, hangs_first, #{loop => Loop, startup_timeout => Timeout}),
    case lifespans() of
        [] when Timeout < 60000 -> % it had not begun
            hangs_at_start(Loop, 4 * Timeout);
        [<<"hangs">>, <<"cancelled">>] ->
            Expected = iolist_to_binary(io_lib:format("the ASGI application had not started after ~b ms; "
                                                      "it was cancelled", [Timeout])),
            ?assertEqual(Expected, Text)
    end.

an_application_that_does_not_stop_in_time_is_cancelled(_Config) ->
    register_lifespan(),
    {ok, Loop} = py_event_loop:start_link(),
    ok = hangs_at_stop(Loop, 20),
    {ok, 1} = py_event_loop:run(asgi_apps, tasks, [], #{loop => Loop}),
    ok = py_event_loop:stop(Loop).

hangs_at_stop(Loop, Timeout) ->
    {ok, Pid} = py_asgi:start_link(asgi_apps, hangs_last, #{loop => Loop, shutdown_timeout => Timeout}),
    Log = py_test:log_start(),
    ok = py_asgi:stop(Pid),
    _ = py_test:log_await(Log, {warning, "failed to shut down: it was cancelled"}),
    _ = py_test:log_stop(Log),
    case lifespans() of
        [] when Timeout < 60000 -> hangs_at_stop(Loop, 4 * Timeout); % it had not begun
        [<<"hangs">>, <<"cancelled">>] -> ok
    end.

%%% Together

requests_of_many_processes_do_not_mix(_Config) ->
    Work = fun(N) ->
                   fun() ->
                           [begin
                                Body = iolist_to_binary(io_lib:format("~b of ~b", [I, N])),
                                {ok, {200, [], Body}} = run(echo, "/", Body)
                            end || I <- lists:seq(1, 20)],
                           ok
                   end
           end,
    ?assertEqual([ok], lists:usort(py_test:at_once([Work(N) || N <- lists:seq(1, 20)]))).

%% faulthandler is the standard library's own module that does not load in sub-interpreters.
a_module_that_refuses_is_served_by_the_main_interpreter(Config) ->
    _ = py_test:write_module(Config, asgi_refusing, <<"
import faulthandler

async def app(scope, receive, send):
    if scope['type'] == 'lifespan':
        for message in [await receive(), await receive()]: await send({'type': message['type'] + '.complete'})
    elif scope['type'] == 'websocket':
        await send({'type': 'websocket.close', 'code': 1000})
    else:
        await send({'type': 'http.response.start', 'status': 200})
        await send({'type': 'http.response.body', 'body': faulthandler.__name__.encode()})

async def stopped(scope, receive, send):
    assert scope['type'] == 'lifespan'
    await receive()
    scope['state']['started'] = True
    await send({'type': 'lifespan.startup.complete'})
    await receive()
    await send({'type': 'lifespan.shutdown.complete'})
">>),
    _ = py_test:write_module(Config, asgi_refusing_too, <<"from asgi_refusing import *">>),
    _ = py_test:write_module(Config, asgi_refusing_also, <<"from asgi_refusing import *">>),
    {ok, Stream} = py_asgi:run(asgi_refusing, app, #{}, <<>>, #{stream => true}),
    [{start, 200, []}, {data, <<"faulthandler">>}, done] = all_of(Stream),
    [{ok, {200, [], <<"faulthandler">>}} = py_asgi:run(asgi_refusing, app, #{}) || _ <- [1, 2]],
    {ok, {200, [], <<"faulthandler">>}} = py_asgi:run(asgi_refusing_too, app, #{}, <<>>, #{errors => full}),
    {ok, WebSocket} = py_asgi:websocket(asgi_refusing_too, app, ws_scope()),
    [{close, 1000, <<>>}, done] = all_of(WebSocket),
    {ok, Pid} = py_asgi:start_link(asgi_refusing_also, stopped, #{lifespan => on}),
    ok = py_asgi:stop(Pid).

starlette_answers(Config) ->
    py_test:has_python_module(<<"starlette">>) orelse throw({skip, "this Python has no starlette"}),
    _ = py_test:write_module(Config, starlette_app, <<"
import erlang
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Route, WebSocketRoute

async def hello(request):
    return PlainTextResponse('Hello, %s!' % request.path_params['name'])

async def sum_of(request):
    return JSONResponse({'sum': sum(await request.json())})

def blocking(request):
    'Runs in a thread.'
    return PlainTextResponse(str(erlang.call('double', 21)))

async def numbers(request):
    async def make():
        for i in range(3): yield b'%d,' % i
    return StreamingResponse(make())

async def background(request):
    return PlainTextResponse('done', background=BackgroundTask(erlang.async_call, 'done', 1))

async def chat(websocket):
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(text.upper())

app = Starlette(routes=[Route('/hello/{name}', hello), Route('/sum', sum_of, methods=['POST']),
                        Route('/blocking', blocking), Route('/numbers', numbers),
                        Route('/background', background), WebSocketRoute('/chat', chat)])
">>),
    Run = fun(Path) -> py_asgi:run(starlette_app, app, py_asgi:build_scope(#{path => Path})) end,
    {ok, {200, Headers, <<"Hello, J\xc3\xb6rg!">>}} = Run(<<"/hello/J%C3%B6rg">>),
    {_, <<"text/plain; charset=utf-8">>} = lists:keyfind(<<"content-type">>, 1, Headers),
    {ok, {404, _, _}} = Run("/"),
    {ok, {200, _, <<"{\"sum\":6}">>}} =
        py_asgi:run(starlette_app, app, py_asgi:build_scope(#{method => 'POST', path => "/sum"}), "[1, 2, 3]"),
    ok = py:register_function(double, fun([X]) -> 2 * X end),
    {ok, {200, _, <<"42">>}} = Run("/blocking"),
    {ok, {200, _, <<"0,1,2,">>}} = Run("/numbers"),
    Me = self(),
    ok = py:register_function(done, fun([1]) -> Me ! background, none end),
    {ok, {200, _, <<"done">>}} = Run("/background"),
    receive background -> ok after 60000 -> error(no_background_task) end,
    Scope = py_asgi:build_scope(#{type => websocket, path => "/chat"}),
    {ok, WebSocket} = py_asgi:websocket(starlette_app, app, Scope),
    {accept, none, _} = next(WebSocket),
    ok = py_asgi:send(WebSocket, {text, <<"hello">>}),
    {text, <<"HELLO">>} = next(WebSocket),
    ok = py_asgi:close(WebSocket),
    done = next(WebSocket).
