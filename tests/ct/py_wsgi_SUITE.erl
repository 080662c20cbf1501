%% SPDX-License-Identifier: Apache-2.0
%%
%% WSGI applications: PEP 3333 from both sides, and streams.  The applications are in a module
%% that init_per_suite writes; Flask's case runs where Flask is.
-module(py_wsgi_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([an_application_answers/1,
         an_application_of_the_own_namespace_answers/1,
         a_response_may_be_a_map/1,
         environs_have_what_PEP_3333_wants/1,
         environs_are_made_of_requests/1,
         bytes_of_the_environ_are_latin_1/1,
         wrong_arguments_are_refused/1,
         errors_of_the_application_are_results/1,
         a_pool_may_be_named/1]).
-export([the_input_is_a_file/1,
         the_input_may_come_from_a_fun/1,
         the_input_may_come_through_a_channel/1,
         a_fun_that_fails_raises_in_read/1]).
-export([start_response_replaces_what_was_not_sent/1,
         start_response_reraises_what_was_sent/1,
         write_comes_before_the_iterable/1,
         files_are_wrapped/1,
         iterables_are_closed/1,
         broken_heads_are_refused/1,
         no_more_is_sent_than_was_announced/1,
         no_less_is_sent_than_was_announced/1,
         wsgi_errors_is_written_to/1]).
-export([a_response_comes_in_messages/1,
         messages_go_to_another_process/1,
         without_credit_the_application_waits/1,
         an_error_in_the_middle_ends_the_stream/1,
         cancel_closes_the_iterable/1,
         the_death_of_the_owner_closes_the_iterable/1,
         a_stream_has_its_time/1,
         the_stop_of_the_application_ends_streams/1]).
-export([the_reference_server_finds_no_fault/1,
         requests_of_many_processes_do_not_mix/1,
         a_module_that_refuses_is_served_by_the_main_interpreter/1,
         flask_answers/1]).

-define(ERROR(Type, Message), {error, {Type, Message}}).

suite() -> [{timetrap, {minutes, 5}}].

all() -> py_test:cases(?MODULE).

init_per_suite(Config) -> py_test:start_with(Config, [{wsgi_apps, source()}]).

end_per_suite(Config) -> py_test:stop(Config).

init_per_testcase(_Case, Config) ->
    ok = py_import:add_path(proplists:get_value(modules, Config)),
    Config.

end_per_testcase(_Case, _Config) ->
    py_test:restore(),
    ok.

source() -> <<"
import erlang, io, sys, time

def hello(environ, start_response):
    start_response('200 OK', [('Content-Type', 'text/plain'), ('X-Twice', '1'), ('X-Twice', '2')])
    return [b'Hello, ', b'', environ['PATH_INFO'].encode('latin-1')]

def tell(environ, start_response):
    start_response('200 OK', [])
    return [repr(eval(environ['QUERY_STRING'], {'environ': environ})).encode()]

class by:
    class name:
        application = staticmethod(hello)

def fails(environ, start_response):
    raise KeyError('on purpose')

def silent(environ, start_response):
    return []

def early(environ, start_response):
    yield b'too early'

def text(environ, start_response):
    start_response('200 OK', [])
    return ['text']

def head(environ, start_response):
    start_response(*environ['test.head'])
    return [b'body']

def announces(environ, start_response):
    write = start_response('200 OK', [('content-length', environ['test.length'])])
    write(b'ab')
    yield b''
    yield b'c'

def twice(environ, start_response):
    start_response('200 OK', [])
    start_response('404 Not Found', [])
    return []

def replaces(environ, start_response):
    start_response('200 OK', [('X-First', '1')])
    try:
        raise ValueError('before anything was sent')
    except ValueError:
        start_response('500 Sorry', [('X-Second', '2')], sys.exc_info())
    return [b'an error page']

def reraises(environ, start_response):
    start_response('200 OK', [])
    yield b'sent'
    try:
        raise ValueError('after data was sent')
    except ValueError:
        start_response('500 Sorry', [], sys.exc_info())
    yield b'not sent'

def writes(environ, start_response):
    write = start_response('200 OK', [])
    write(b'one ')
    write(b'two ')
    return [b'three']

def reads(environ, start_response):
    f = environ['wsgi.input']
    how = environ['QUERY_STRING']
    start_response('200 OK', [])
    return [repr(eval(how, {'f': f})).encode()]

def file(environ, start_response):
    start_response('200 OK', [])
    f = io.BytesIO(b'0123456789')
    f.close = lambda: erlang.call('closed', 'file')
    return environ['wsgi.file_wrapper'](f, 4)

class Closing:
    def __init__(self, name, items): self.name, self.items = name, items
    def __iter__(self):
        for item in self.items:
            if isinstance(item, Exception): raise item
            yield item
    def close(self): erlang.call('closed', self.name)

def closing(environ, start_response):
    start_response('200 OK', [])
    return Closing(environ['PATH_INFO'], [b'a', b'b'])

def closing_early(environ, start_response):
    start_response('200 OK', [])
    return Closing(environ['PATH_INFO'], [b'a', ValueError('in the middle'), b'b'])

def complains(environ, start_response):
    print('complaint', file=environ['wsgi.errors'])
    environ['wsgi.errors'].flush()
    start_response('200 OK', [])
    return []

def counts(environ, start_response):
    start_response('200 OK', [('X-Kind', 'counts')])
    for i in range(int(environ['QUERY_STRING'])):
        erlang.call('advanced', i)
        yield b'%d' % i

# Code that is interrupted cannot call Erlang any more, so these tell by a file.
class Marking:
    def __init__(self, path, waits):
        self.path, self.waits = path, waits
    def __iter__(self):
        yield b'first'
        while self.waits: time.sleep(0.01)
        yield b'second'
        yield b'third'
    def close(self): open(self.path, 'w').close()

def marking(environ, start_response):
    start_response('200 OK', [])
    return Marking(environ['QUERY_STRING'], environ['PATH_INFO'] == '/waits')

def echo(environ, start_response):
    body = environ['wsgi.input'].read()
    start_response('200 OK', [('Content-Length', str(len(body)))])
    return [body]

def validated(environ, start_response):
    from wsgiref.validate import validator
    def checked(environ, start_response):
        body = environ['wsgi.input'].read(10)
        start_response('200 OK', [('Content-Type', 'text/plain')])
        return [b'fine: ', body]
    return validator(checked)(environ, start_response)
">>.

run(App) -> run(App, #{path => <<"/">>}).
run(App, Request) -> py_wsgi:run(wsgi_apps, App, Request).
run(App, Request, Options) -> py_wsgi:run(wsgi_apps, App, Request, Options).
run(App, Request, Body, Options) -> py_wsgi:run(wsgi_apps, App, Request, Body, Options).

told(Expression, Request) ->
    {ok, {_, _, Told}} = run(tell, Request#{query_string => Expression}),
    Told.

environ_told(Expression, Environ) ->
    {ok, {_, _, Told}} = run(tell, Environ#{'QUERY_STRING' => Expression}),
    Told.

stream(App, Request, Options) ->
    {ok, Stream} = run(App, Request, Options#{stream => true}),
    Stream.

next(Stream) ->
    receive {py_wsgi, Stream, Event} -> Event after 60000 -> error({no_event, py_test:messages()}) end.

all_of(Stream) ->
    case next(Stream) of
        done -> [done];
        {error, _} = Error -> [Error];
        Event -> [Event | all_of(Stream)]
    end.

register_closed() ->
    Me = self(),
    ok = py:register_function(closed, fun([Name]) -> Me ! {closed, Name}, none end).

closed() ->
    receive {closed, Name} -> Name after 60000 -> error({not_closed, py_test:messages()}) end.

mark(Config) ->
    Name = "mark" ++ integer_to_list(erlang:unique_integer([positive])),
    list_to_binary(filename:join(proplists:get_value(priv_dir, Config), Name)).

await_mark(Path) ->
    py_test:wait_until(fun() -> filelib:is_file(Path) end).

%%% Requests

an_application_answers(_Config) ->
    Response = {ok, {<<"200 OK">>,
                     [{<<"Content-Type">>, <<"text/plain">>}, {<<"X-Twice">>, <<"1">>}, {<<"X-Twice">>, <<"2">>}],
                     <<"Hello, /there">>}},
    ?assertEqual(Response, run(hello, #{path => <<"/there?a=1">>})),
    ?assertEqual(Response, py_wsgi:run(<<"wsgi_apps">>, <<"hello">>, #{<<"PATH_INFO">> => <<"/there">>})),
    ?assertEqual(Response, py_wsgi:run("wsgi_apps", "by.name.application", #{"PATH_INFO" => "/there"})),
    ?assertEqual(Response, run(hello, #{'PATH_INFO' => '/there'}, 5000)),
    [] = py_test:messages().

an_application_of_the_own_namespace_answers(_Config) ->
    ok = py:exec(<<"def app(environ, start_response):\n"
                   "    start_response('204 No Content', [])\n"
                   "    return []\n">>),
    {ok, {<<"204 No Content">>, [], <<>>}} = py_wsgi:run('__main__', app, #{path => "/"}),
    ?ERROR('NameError', _) = py_wsgi:run('__main__', no_such_app, #{path => "/"}).

a_response_may_be_a_map(_Config) ->
    {ok, #{status := <<"200 OK">>, headers := [_ | _], body := <<"Hello, /">>}} =
        run(hello, #{path => "/"}, #{response => map}),
    {ok, {_, _, _}} = run(hello, #{path => "/"}, #{response => tuple}).

environs_have_what_PEP_3333_wants(_Config) ->
    Told = fun(Expression) -> environ_told(Expression, #{}) end,
    <<"True">> = Told(<<"all(type(k) is str for k in environ)">>),
    <<"True">> = Told(<<"type(environ) is dict">>),
    <<"('GET', '', '/', 'localhost', '80', 'HTTP/1.1')">> =
        Told(<<"tuple(environ[k] for k in 'REQUEST_METHOD SCRIPT_NAME PATH_INFO SERVER_NAME SERVER_PORT "
               "SERVER_PROTOCOL'.split())">>),
    <<"((1, 0), 'http', True, True, False)">> =
        Told(<<"tuple(environ['wsgi.' + k] for k in 'version url_scheme multithread multiprocess run_once'.split())">>),
    <<"b''">> = Told(<<"environ['wsgi.input'].read()">>),
    %% What is set wins, and terms of other names are those terms.
    <<"('PUT', 8080)">> =
        environ_told(<<"(environ['REQUEST_METHOD'], environ['my.port'])">>,
                     #{<<"REQUEST_METHOD">> => 'PUT', <<"my.port">> => 8080}),
    <<"('8080', 'https')">> =
        environ_told(<<"(environ['SERVER_PORT'], environ['wsgi.url_scheme'])">>,
                     #{<<"SERVER_PORT">> => 8080, 'wsgi.url_scheme' => https}).

environs_are_made_of_requests(_Config) ->
    Request = #{method => <<"POST">>, path => <<"/app/a%20b%2f%zz?x=%20">>, root_path => "/app",
                headers => [{'Host', <<"example.org:8000">>}, {<<"Content-Type">>, <<"text/plain">>},
                            {"content-LENGTH", 3}, {<<"Accept">>, <<"a">>}, {<<"accept">>, <<"b">>},
                            {<<"Cookie">>, <<"a=1">>}, {<<"Cookie">>, <<"b=2">>}, {<<"X_Under">>, <<"no">>}],
                scheme => https, http_version => {1, 0}, client => {{127, 0, 0, 1}, 4711},
                server => {<<"10.0.0.1">>, 8000}},
    ?assertEqual(#{<<"REQUEST_METHOD">> => <<"POST">>, <<"SCRIPT_NAME">> => <<"/app">>,
                   <<"PATH_INFO">> => <<"/a b/%zz">>, <<"QUERY_STRING">> => <<"x=%20">>,
                   <<"SERVER_PROTOCOL">> => <<"HTTP/1.0">>, <<"wsgi.url_scheme">> => <<"https">>,
                   <<"SERVER_NAME">> => <<"10.0.0.1">>, <<"SERVER_PORT">> => <<"8000">>,
                   <<"REMOTE_ADDR">> => <<"127.0.0.1">>, <<"REMOTE_PORT">> => <<"4711">>,
                   <<"CONTENT_TYPE">> => <<"text/plain">>, <<"CONTENT_LENGTH">> => <<"3">>,
                   <<"HTTP_HOST">> => <<"example.org:8000">>, <<"HTTP_ACCEPT">> => <<"a,b">>,
                   <<"HTTP_COOKIE">> => <<"a=1; b=2">>},
                 py_wsgi:build_environ(Request)),
    #{<<"SERVER_NAME">> := <<"example.org">>, <<"SERVER_PORT">> := <<"443">>, <<"more">> := 1} =
        py_wsgi:build_environ(maps:remove(server, Request), #{<<"more">> => 1}),
    #{<<"SERVER_NAME">> := <<"[::1]">>} =
        py_wsgi:build_environ(#{path => "/", headers => #{<<"Host">> => <<"[::1]:80">>}}),
    #{<<"PATH_INFO">> := <<"/apple">>} = py_wsgi:build_environ(#{path => "/apple", root_path => "/app"}),
    #{<<"PATH_INFO">> := <<>>} = py_wsgi:build_environ(#{path => "/app", root_path => "/app"}),
    ?assertError({badarg, _}, py_wsgi:build_environ(#{})),
    <<"'/a b'">> = told(<<"environ['PATH_INFO']">>, #{path => <<"/a%20b">>}),
    %% Names are bytes, of which only ASCII's letters have another case.
    #{<<"HTTP_Xä"/utf8>> := <<"1">>} = py_wsgi:build_environ(#{path => "/", headers => [{<<"x", 16#e4>>, <<"1">>}]}),
    <<"'1'">> = told(<<"environ['HTTP_X\\xe4\\xdf']">>, #{path => "/", headers => [{<<"X", 16#e4, 16#df>>, <<"1">>}]}),
    %% A dot makes no term of it.
    <<"'ä'"/utf8>> = told(<<"environ['HTTP_WSGI.X']">>, #{path => "/", headers => [{<<"Wsgi.X">>, <<16#e4>>}]}),
    ?ERROR('TypeError', _) = run(hello, #{<<"HTTP_A.B">> => self()}).

bytes_of_the_environ_are_latin_1(_Config) ->
    <<"b'/\\xc3\\xa4\\xff'">> = told(<<"environ['PATH_INFO'].encode('latin-1')">>, #{path => <<"/%C3%a4%ff">>}),
    <<"b'\\xe4'">> = environ_told(<<"environ['HTTP_X'].encode('latin-1')">>, #{<<"HTTP_X">> => <<16#e4>>}),
    {ok, {_, _, <<"Hello, /", 255>>}} = run(hello, #{path => <<"/%ff">>}).

wrong_arguments_are_refused(_Config) ->
    ?ERROR('ModuleNotFoundError', _) = py_wsgi:run(no_such_module, app, #{path => "/"}),
    ?ERROR('AttributeError', _) = run(no_such_app),
    ?ERROR('TypeError', _) = run(hello, no_map),
    ?ERROR('TypeError', _) = run(hello, #{path => 1}),
    ?ERROR('TypeError', <<"a request has no moon ", _/binary>>) = run(hello, #{path => "/", moon => 1}),
    ?ERROR('TypeError', _) = run(hello, #{path => "/", headers => [header]}),
    ?ERROR('TypeError', _) = run(hello, #{path => "/", client => local}),
    ?ERROR('ValueError', _) = run(hello, #{path => "/", client => {{1, 2}, 3}}),
    ?ERROR('TypeError', _) = run(hello, #{<<"PATH_INFO">> => self()}),
    ?ERROR('TypeError', _) = run(hello, #{path => "/"}, #{moon => 1}),
    ?ERROR('ValueError', _) = run(hello, #{path => "/"}, #{response => list}),
    ?ERROR('TypeError', _) = run(hello, #{path => "/"}, #{stream => perhaps}),
    ?ERROR('ValueError', _) = run(hello, #{path => "/"}, #{stream => true, credit => -1}),
    ?ERROR('ValueError', _) = run(hello, #{path => "/"}, #{pool => no_such_pool}),
    ?ERROR('TypeError', _) = run(hello, #{path => "/"}, body, #{}),
    ?ERROR('TypeError', _) = run(hello, #{path => "/"}, fun(X) -> X end, #{}),
    [] = py_test:messages().

errors_of_the_application_are_results(_Config) ->
    ?ERROR('KeyError', <<"'on purpose'">>) = run(fails),
    {error, #{type := 'KeyError', traceback := [_ | _]}} = run(fails, #{path => "/"}, #{errors => full}),
    ?ERROR('RuntimeError', _) = run(silent),
    ?ERROR('RuntimeError', _) = run(early),
    ?ERROR('TypeError', _) = run(text),
    ?ERROR('RuntimeError', _) = run(twice).

a_pool_may_be_named(_Config) ->
    {ok, {_, _, <<"Hello, /">>}} = run(hello, #{path => "/"}, #{pool => io}),
    {ok, Context} = py_context:new(#{}),
    {ok, {_, _, <<"Hello, /">>}} = run(hello, #{path => "/"}, #{pool => Context}),
    ok = py_context:stop(Context).

%%% Input

reads(How, Body) ->
    {ok, {_, _, Read}} = run(reads, #{path => "/", query_string => How}, Body, #{}),
    Read.

the_input_is_a_file(_Config) ->
    ?assertEqual(<<"b'a\\nb\\nc'">>, reads("f.read()", <<"a\nb\nc">>)),
    [begin
         ?assertEqual(<<"[b'a', b'\\n', b'b\\n', b'c', b'']">>,
                      reads("[f.read(1), f.readline(), f.readline(), f.readline(), f.read()]", Body())),
         ?assertEqual(<<"[b'a\\n', b'b\\n', b'c']">>, reads("list(f)", Body())),
         ?assertEqual(<<"[b'a\\n', b'b\\n', b'c']">>, reads("f.readlines()", Body()))
     end || Body <- [fun() -> ["a\nb", $\n, <<"c">>] end,
                     fun() -> parts([<<"a">>, <<"\nb\n">>, "c"]) end]],
    ?assertEqual(<<"b'\\xff\\x00'">>, reads("f.read()", <<255, 0>>)),
    {ok, {_, _, <<"'3'">>}} = run(tell, #{path => "/", query_string => "environ['CONTENT_LENGTH']"}, "abc", #{}),
    {ok, {_, _, <<"abc">>}} = py_wsgi:run(wsgi_apps, echo, #{<<"wsgi.input">> => <<"abc">>}).

%% A fun that gives one after the other, in the process that runs the request.
parts(Parts) ->
    put(parts, Parts),
    fun() ->
            case get(parts) of
                [Part | Rest] -> put(parts, Rest), {ok, Part};
                [] -> eof
            end
    end.

the_input_may_come_from_a_fun(Config) ->
    Large = binary:copy(<<"0123456789">>, 100000),
    Twice = <<Large/binary, Large/binary>>,
    {ok, {_, _, Twice}} = run(echo, #{path => "/"}, parts([Large, [Large]]), #{}),
    File = filename:join(proplists:get_value(priv_dir, Config), "body"),
    ok = file:write_file(File, Large),
    {ok, Fd} = file:open(File, [read, binary]),
    {ok, {_, [{<<"Content-Length">>, <<"1000000">>}], Large}} =
        run(echo, #{path => "/"}, {stream, fun() -> file:read(Fd, 50000) end}, #{}),
    ok = file:close(Fd),
    %% Nothing is not the end.
    {ok, {_, _, <<"ab">>}} = run(echo, #{path => "/"}, parts([<<>>, <<"a">>, [], <<>>, <<"b">>, <<>>]), #{}),
    %% Nobody asks for a body that nobody reads.
    {ok, {_, _, <<"Hello, /">>}} = run(hello, #{path => "/"}, fun() -> error(asked) end, #{}).

the_input_may_come_through_a_channel(_Config) ->
    {ok, Buffer} = py_buffer:new(),
    {ok, Channel} = py_byte_channel:new(),
    [begin
         W = py_test:worker(),
         py_test:start(W, fun() -> reads("[f.read(1), f.readline(), f.read(), f.read()]", {stream, Ref}) end),
         ok = Write(<<"abc">>),
         ok = Write(<<>>),
         ok = Write(<<"d\ne">>),
         ok = Write(<<255>>),
         ok = Close(),
         <<"[b'a', b'bcd\\n', b'e\\xff', b'']">> = py_test:answer(W),
         py_test:end_worker(W)
     end || {Ref, Write, Close} <- [{Buffer, fun(D) -> py_buffer:write(Buffer, D) end,
                                     fun() -> py_buffer:close(Buffer) end},
                                    {Channel, fun(D) -> py_byte_channel:send(Channel, D) end,
                                     fun() -> py_byte_channel:close(Channel) end}]],
    {ok, Terms} = py_channel:new(),
    ?ERROR('TypeError', <<"a py_channel carries terms", _/binary>>) = run(echo, #{path => "/"}, Terms, #{}),
    ?ERROR('TypeError', _) = run(echo, #{path => "/"}, make_ref(), #{}).

a_fun_that_fails_raises_in_read(_Config) ->
    ?ERROR('OSError', <<"the body of the request cannot be read: closed">>) =
        run(echo, #{path => "/"}, fun() -> {error, closed} end, #{}),
    ?ERROR('Error', _) = run(echo, #{path => "/"}, fun() -> wrong end, #{}),
    ?ERROR('Error', _) = run(echo, #{path => "/"}, fun() -> exit(oops) end, #{}).

%%% The protocol

start_response_replaces_what_was_not_sent(_Config) ->
    {ok, {<<"500 Sorry">>, [{<<"X-Second">>, <<"2">>}], <<"an error page">>}} = run(replaces).

start_response_reraises_what_was_sent(_Config) ->
    ?ERROR('ValueError', <<"after data was sent">>) = run(reraises),
    Stream = stream(reraises, #{path => "/"}, #{}),
    ?assertEqual([{start, <<"200 OK">>, []}, {data, <<"sent">>}, ?ERROR('ValueError', <<"after data was sent">>)],
                 all_of(Stream)).

write_comes_before_the_iterable(_Config) ->
    {ok, {_, _, <<"one two three">>}} = run(writes).

files_are_wrapped(_Config) ->
    register_closed(),
    {ok, {_, _, <<"0123456789">>}} = run(file),
    <<"file">> = closed(),
    [_, {data, <<"0123">>}, {data, <<"4567">>}, {data, <<"89">>}, done] = all_of(stream(file, #{path => "/"}, #{})),
    <<"file">> = closed().

iterables_are_closed(_Config) ->
    register_closed(),
    {ok, {_, _, <<"ab">>}} = run(closing, #{path => "/1"}),
    <<"/1">> = closed(),
    ?ERROR('ValueError', <<"in the middle">>) = run(closing_early, #{path => "/2"}),
    <<"/2">> = closed(),
    [_, _, {data, <<"b">>}, done] = all_of(stream(closing, #{path => "/3"}, #{})),
    <<"/3">> = closed(),
    [_, {data, <<"a">>}, ?ERROR('ValueError', _)] = all_of(stream(closing_early, #{path => "/4"}, #{})),
    <<"/4">> = closed(),
    [] = py_test:messages().

broken_heads_are_refused(_Config) ->
    Head = fun(Status, Headers) -> run(head, #{<<"test.head">> => {Status, Headers}}) end,
    {ok, {<<"200 ", 16#e4>>, [{<<"A">>, <<16#e4>>}], _}} = Head(<<"200 ä"/utf8>>, [{<<"A">>, <<"ä"/utf8>>}]),
    {ok, {<<"200">>, [], _}} = Head(<<"200">>, []),
    ?ERROR('TypeError', _) = Head(200, []),
    {ok, {<<"599 a\tb">>, [], _}} = Head(<<"599 a\tb">>, []),
    [?ERROR('ValueError', <<"the status must be", _/binary>>) = Head(Status, [])
     || Status <- [<<"OK">>, <<"20">>, <<"2000">>, <<"200OK">>, <<"099 No">>, <<"100 Continue">>, <<"101">>, <<"200 ", 0>>,
                   <<"200 \x7f">>, <<"200 OK\n">>, <<>>]],
    ?ERROR('ValueError', _) = Head(<<"200 OK\r\nX: 1">>, []),
    ?ERROR('TypeError', _) = Head(<<"200 OK">>, {}),
    ?ERROR('TypeError', _) = Head(<<"200 OK">>, [{<<"A">>, 1}]),
    ?ERROR('ValueError', _) = Head(<<"200 OK">>, [{<<"A">>, <<"1\r\nB: 2">>}]),
    ?ERROR('ValueError', _) = Head(<<"200 OK">>, [{<<"A B">>, <<"1">>}]),
    ?ERROR('ValueError', _) = Head(<<"200 OK">>, [{<<>>, <<"1">>}]),
    ?ERROR('ValueError', _) = Head(<<"200 OK">>, [{<<"Connection">>, <<"close">>}]),
    ?ERROR('UnicodeEncodeError', _) = Head(<<"200 OK">>, [{<<"A">>, <<"€"/utf8>>}]).

no_more_is_sent_than_was_announced(_Config) ->
    Announce = fun(Length) -> run(announces, #{<<"test.length">> => Length}) end,
    {ok, {_, _, <<"abc">>}} = Announce(<<"3">>),
    [?ERROR('ValueError', <<"the WSGI application wrote or yielded more", _/binary>>) = Announce(Length)
     || Length <- [<<"2">>, <<"1">>, <<"0">>]],
    [?ERROR('ValueError', <<"a response has one Content-Length", _/binary>>) = Announce(Length)
     || Length <- [<<"+3">>, <<"3, 3">>, <<>>]],
    ?ERROR('ValueError', <<"a response has one Content-Length", _/binary>>) =
        run(head, #{<<"test.head">> => {<<"200 OK">>, [{<<"Content-Length">>, <<"4">>}, {<<"content-length">>, <<"4">>}]}}),
    {ok, Stream} = run(announces, #{<<"test.length">> => <<"2">>}, #{stream => true}),
    [{start, _, _}, {data, <<"ab">>}, ?ERROR('ValueError', _)] = all_of(Stream).

no_less_is_sent_than_was_announced(_Config) ->
    Announce = fun(Method, Options) ->
                       run(announces, #{'REQUEST_METHOD' => Method, <<"test.length">> => <<"5">>}, Options)
               end,
    ?ERROR('ValueError', <<"the WSGI application ended 2 bytes before", _/binary>>) = Announce('GET', #{}),
    {ok, Stream} = Announce('POST', #{stream => true}),
    [{start, _, _}, {data, <<"ab">>}, {data, <<"c">>}, ?ERROR('ValueError', _)] = all_of(Stream),
    %% These have no body, and the length is that of another response.
    {ok, {_, [_], <<"abc">>}} = Announce('HEAD', #{}),
    [{ok, {Status, [_], <<"body">>}} = run(head, #{<<"test.head">> => {Status, [{<<"Content-Length">>, <<"9">>}]}})
     || Status <- [<<"204 None">>, <<"304">>]].

wsgi_errors_is_written_to(_Config) ->
    Leader = spawn_link(fun() -> collect([]) end),
    W = py_test:worker(),
    {ok, _} = py_test:run(W, fun() -> group_leader(Leader, self()), run(complains) end),
    py_test:end_worker(W),
    Leader ! {printed, self()},
    receive {printed, Text} -> <<"complaint\n">> = Text after 60000 -> error(nothing_printed) end.

collect(Texts) ->
    receive
        {io_request, From, Ref, {put_chars, unicode, Text}} ->
            From ! {io_reply, Ref, ok},
            collect([Texts, Text]);
        {printed, To} -> To ! {printed, unicode:characters_to_binary(Texts)}
    end.

%%% Streams

a_response_comes_in_messages(_Config) ->
    ok = py:register_function(advanced, fun(_) -> none end),
    ?assertEqual([{start, <<"200 OK">>, [{<<"X-Kind">>, <<"counts">>}]},
                  {data, <<"0">>}, {data, <<"1">>}, {data, <<"2">>}, done],
                 all_of(stream(counts, #{path => "/?3"}, #{}))),
    [{start, <<"500 Sorry">>, _}, {data, _}, done] = all_of(stream(replaces, #{path => "/"}, #{})),
    %% The head is there when the application is through, though there was no data.
    ?assertEqual([{start, <<"200 OK">>, [{<<"X-Kind">>, <<"counts">>}]}, done],
                 all_of(stream(counts, #{path => "/?0"}, #{}))),
    ok = py:exec(<<"def app(environ, start_response):\n    start_response('200 OK', [])\n    return [b'own']\n">>),
    {ok, Own} = py_wsgi:run('__main__', app, #{path => "/"}, #{stream => true}),
    [_, {data, <<"own">>}, done] = all_of(Own),
    [] = py_test:messages().

messages_go_to_another_process(_Config) ->
    W = py_test:worker(),
    {Pid, _} = W,
    {ok, Stream} = run(hello, #{path => "/"}, #{stream => Pid}),
    [{start, _, _}, {data, _}, {data, _}, done] = py_test:run(W, fun() -> all_of(Stream) end),
    py_test:end_worker(W),
    [] = py_test:messages().

without_credit_the_application_waits(_Config) ->
    Me = self(),
    ok = py:register_function(advanced, fun([N]) -> Me ! {advanced, N}, none end),
    Stream = stream(counts, #{path => "/?5"}, #{credit => 1}),
    {start, _, _} = next(Stream),
    {data, <<"0">>} = next(Stream),
    [begin
         %% It has made the next item, and may not send it.
         receive {advanced, N} -> ok after 60000 -> error(not_advanced) end,
         receive {py_wsgi, Stream, Event} -> error({unexpected, Event}) after 20 -> ok end,
         ok = py_wsgi:ack(Stream, 1),
         Item = integer_to_binary(N),
         {data, Item} = next(Stream)
     end || N <- [1, 2]],
    ok = py_wsgi:ack(Stream, 10),
    [{data, <<"3">>}, {data, <<"4">>}, done] = all_of(Stream).

an_error_in_the_middle_ends_the_stream(_Config) ->
    [?ERROR('KeyError', _)] = all_of(stream(fails, #{path => "/"}, #{})),
    [{error, #{type := 'KeyError'}}] = all_of(stream(fails, #{path => "/"}, #{errors => full})),
    [?ERROR('AttributeError', _)] = all_of(stream(no_such_app, #{path => "/"}, #{})),
    [] = py_test:messages().

cancel_closes_the_iterable(Config) ->
    [begin
         Mark = mark(Config),
         Stream = stream(marking, #{path => Path, query_string => Mark}, #{credit => 1}),
         {start, _, _} = next(Stream),
         {data, <<"first">>} = next(Stream),
         ok = py_wsgi:cancel(Stream),
         await_mark(Mark),
         ok = py_wsgi:cancel(Stream),
         ok = py_wsgi:ack(Stream, 1),
         [] = py_test:messages()
     end || Path <- ["/waits", "/"]],
    ok.

the_death_of_the_owner_closes_the_iterable(Config) ->
    Mark = mark(Config),
    W = py_test:worker(),
    ok = py_test:run(W, fun() ->
                                Stream = stream(marking, #{path => "/waits", query_string => Mark}, #{}),
                                {start, _, _} = next(Stream),
                                {data, <<"first">>} = next(Stream),
                                ok
                        end),
    py_test:kill(W),
    await_mark(Mark).

a_stream_has_its_time(Config) ->
    Mark = mark(Config),
    Request = #{path => "/waits", query_string => Mark},
    py_test:timed_out(fun(Timeout) -> lists:last(all_of(stream(marking, Request, #{timeout => Timeout}))) end,
                      fun() -> has_ended(Mark) end),
    py_test:timed_out(fun(Timeout) -> run(marking, Request, #{timeout => Timeout}) end, fun() -> has_ended(Mark) end),
    [] = py_test:messages().

%% It has been there, and is gone then.
has_ended(Mark) ->
    try py_test:wait_until(fun() -> filelib:is_file(Mark) end, 1000) of
        ok -> ok =:= file:delete(Mark)
    catch
        error:{never_true, _} -> false
    end.

the_stop_of_the_application_ends_streams(Config) ->
    Stream = stream(marking, #{path => "/waits", query_string => mark(Config)}, #{}),
    {start, _, _} = next(Stream),
    {data, _} = next(Stream),
    ok = application:stop(erlang_python),
    {error, cancelled} = next(Stream),
    {error, not_running} = run(hello),
    {error, not_running} = run(hello, #{path => "/"}, #{stream => true}),
    ok = application:start(erlang_python),
    [] = py_test:messages().

%%% Together

the_reference_server_finds_no_fault(_Config) ->
    Request = #{method => 'POST', path => "/a?b", headers => [{"Host", "x"}, {"Content-Type", "text/plain"}]},
    {ok, {<<"200 OK">>, _, <<"fine: body">>}} = run(validated, Request, <<"body">>, #{}).

requests_of_many_processes_do_not_mix(_Config) ->
    Work = fun(N) ->
                   fun() ->
                           [begin
                                Body = iolist_to_binary(io_lib:format("~b of ~b", [I, N])),
                                {ok, {_, _, Body}} = run(echo, #{path => "/", method => 'POST'}, Body, #{})
                            end || I <- lists:seq(1, 20)],
                           ok
                   end
           end,
    Done = py_test:at_once([Work(N) || N <- lists:seq(1, 20)]),
    ?assertEqual([ok], lists:usort(Done)).

%% faulthandler is the standard library's own module that does not load in sub-interpreters.
a_module_that_refuses_is_served_by_the_main_interpreter(Config) ->
    _ = py_test:write_module(Config, wsgi_refusing, <<"
import faulthandler

def app(environ, start_response):
    start_response('200 OK', [])
    return [faulthandler.__name__.encode()]
">>),
    _ = py_test:write_module(Config, wsgi_refusing_too, <<"from wsgi_refusing import *">>),
    {ok, Stream} = py_wsgi:run(wsgi_refusing, app, #{path => "/"}, #{stream => true}),
    [{start, <<"200 OK">>, []}, {data, <<"faulthandler">>}, done] = all_of(Stream),
    [{ok, {_, [], <<"faulthandler">>}} = py_wsgi:run(wsgi_refusing, app, #{path => "/"}) || _ <- [1, 2]],
    {ok, {_, [], <<"faulthandler">>}} = py_wsgi:run(wsgi_refusing_too, app, #{path => "/"}, #{errors => full}),
    ?ERROR('ModuleNotFoundError', _) = py_wsgi:run(no_such_module, app, #{path => "/"}),
    %% Who says where it is to run gets to know that it does not.
    py_test:mode() =/= subinterp orelse
        (?ERROR('RefusedImport', _) = py_wsgi:run(wsgi_refusing, app, #{path => "/"}, #{pool => default})).

flask_answers(Config) ->
    py_test:has_python_module(<<"flask">>) orelse throw({skip, "this Python has no flask"}),
    _ = py_test:write_module(Config, flask_app, <<"
import flask

app = flask.Flask(__name__)

@app.route('/hello/<name>')
def hello(name):
    return f'Hello, {name}!'

@app.post('/sum')
def sum_of():
    return flask.jsonify(sum=sum(flask.request.get_json()))

@app.route('/numbers')
def numbers():
    return flask.Response((b'%d,' % i for i in range(3)), mimetype='text/plain')
">>),
    {ok, {<<"200 OK">>, Headers, <<"Hello, J\xc3\xb6rg!">>}} =
        py_wsgi:run(flask_app, app, #{path => <<"/hello/J%C3%B6rg">>}),
    {_, <<"text/html; charset=utf-8">>} = lists:keyfind(<<"Content-Type">>, 1, Headers),
    {ok, {<<"404 NOT FOUND">>, _, _}} = py_wsgi:run(flask_app, app, #{path => "/"}),
    {ok, {<<"200 OK">>, _, <<"{\"sum\":6}\n">>}} =
        py_wsgi:run(flask_app, app, #{method => 'POST', path => "/sum",
                                      headers => [{"Content-Type", "application/json"}]}, "[1, 2, 3]", #{}),
    {ok, Stream} = py_wsgi:run(flask_app, app, #{path => "/numbers"}, #{stream => true}),
    [{start, <<"200 OK">>, _}, {data, <<"0,">>}, {data, <<"1,">>}, {data, <<"2,">>}, done] = all_of(Stream).
