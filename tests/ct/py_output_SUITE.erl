%% SPDX-License-Identifier: Apache-2.0
%%
%% What Python prints goes where Erlang's output goes: to the group leader of the process
%% that asked for it.  The group leader here is a process that keeps what it is sent, and
%% answers when it is told to.
-module(py_output_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1, end_per_testcase/2]).
-export([print_goes_to_the_group_leader_of_the_caller/1,
         stderr_goes_there_too_in_order/1,
         text_without_a_newline_is_flushed_at_the_end/1,
         a_line_is_written_when_it_is_complete/1,
         flush_writes_at_once/1,
         processes_with_different_leaders_do_not_mix/1,
         every_kind_of_request_is_redirected/1,
         casts_go_to_the_leader_of_their_submitter/1,
         spawned_calls_go_to_the_leader_of_their_submitter/1,
         nested_calls_go_to_the_leader_of_their_process/1,
         streams_go_to_the_leader_of_their_owner/1,
         output_before_a_failure_is_there/1,
         output_before_a_timeout_is_there/1]).
-export([text_is_text_in_any_script/1,
         lone_surrogates_are_written_as_escapes/1,
         print_with_its_arguments_works/1,
         the_streams_are_text_files/1,
         the_streams_are_not_closed/1,
         the_buffer_takes_bytes/1,
         what_is_no_text_is_a_TypeError/1,
         logging_and_warnings_and_tracebacks_are_redirected/1,
         code_that_replaces_stdout_gets_its_own/1,
         ten_megabytes_in_one_piece_arrive/1,
         a_hundred_thousand_lines_arrive_in_order/1]).
-export([output_of_threads_goes_to_user/1,
         threads_and_requests_do_not_mix/1,
         output_goes_over_distribution/1,
         output_of_a_cast_goes_over_distribution/1,
         the_switch_turns_it_off/1,
         the_switch_takes_booleans_only/1]).
-export([a_dead_leader_does_not_fail_the_call/1,
         a_leader_that_refuses_does_not_fail_the_call/1,
         a_leader_that_dies_meanwhile_does_not_fail_the_call/1,
         a_killed_caller_whose_leader_hangs_frees_its_executor/1,
         no_message_is_left/1]).

-define(ERROR(Type, Message), {error, {Type, Message}}).

suite() -> [{timetrap, {minutes, 5}}].

all() -> py_test:cases(?MODULE).

init_per_suite(Config) -> py_test:start(Config).

end_per_suite(Config) -> py_test:stop(Config).

end_per_testcase(_Case, _Config) ->
    py_test:restore(),
    [py:unregister_function(Name) || Name <- [f, hold]],
    ok.

%%% A group leader

leader() -> leader(fun(_) -> ok end).

%% Answer(Text) is what it replies to a write.
leader(Answer) ->
    spawn_link(fun() -> leader(Answer, []) end).

leader(Answer, Texts) ->
    receive
        {io_request, From, As, Request} ->
            {Reply, Text} = request(Request, Answer),
            From ! {io_reply, As, Reply},
            leader(Answer, [Text | Texts]);
        {texts, From} ->
            From ! {texts, self(), lists:reverse(Texts)},
            leader(Answer, Texts)
    end.

request({put_chars, Encoding, Chars}, Answer) ->
    Text = unicode:characters_to_binary(Chars, Encoding, utf8),
    true = is_binary(Text),
    {Answer(Text), Text};
request({put_chars, Encoding, M, F, A}, Answer) ->
    request({put_chars, Encoding, apply(M, F, A)}, Answer);
request({requests, Requests}, Answer) ->
    lists:foldl(fun(R, {ok, Text}) -> {Reply, More} = request(R, Answer), {Reply, <<Text/binary, More/binary>>} end,
                {ok, <<>>}, Requests);
request(_, _) ->
    {{error, request}, <<>>}.

%% What it got so far, piece by piece, and as one.
texts(Leader) ->
    Leader ! {texts, self()},
    receive {texts, Leader, Texts} -> Texts end.

text(Leader) -> iolist_to_binary(texts(Leader)).

%% Fun runs in a process of its own, with this leader.
under(Leader, Fun) ->
    py_test:in_process(fun() -> true = group_leader(Leader, self()), Fun() end).

%% What Fun gives, and what it makes Python print.
printed(Fun) ->
    Leader = leader(),
    Result = under(Leader, Fun),
    Text = text(Leader),
    stop(Leader),
    {Result, Text}.

stop(Leader) ->
    unlink(Leader),
    exit(Leader, kill).

await_text(Leader, Text) ->
    py_test:wait_until(fun() -> text(Leader) =:= Text end).

%%% Where it goes

print_goes_to_the_group_leader_of_the_caller(_Config) ->
    {ok, <<"hello\n">>} = printed(fun() -> py:exec(<<"print('hello')">>) end),
    {{ok, none}, <<"1 [2] None\n">>} = printed(fun() -> py:call(builtins, print, [1, [2], none]) end),
    {{ok, 2}, <<"a\n">>} = printed(fun() -> py:eval(<<"print('a') or 2">>) end),
    {{ok, 6}, <<"direct">>} = printed(fun() -> py:eval(<<"__import__('sys').stdout.write('direct')">>) end),
    {{ok, 4.0}, <<>>} = printed(fun() -> py:call(math, sqrt, [16]) end).

stderr_goes_there_too_in_order(_Config) ->
    Code = <<"import sys\n"
             "for i in range(100):\n"
             "    print('out', i)\n"
             "    print('err', i, file=sys.stderr)\n">>,
    {ok, Text} = printed(fun() -> py:exec(Code) end),
    ?assertEqual(iolist_to_binary([io_lib:format("out ~b~nerr ~b~n", [I, I]) || I <- lists:seq(0, 99)]), Text).

text_without_a_newline_is_flushed_at_the_end(_Config) ->
    {ok, <<"ab">>} = printed(fun() -> py:exec(<<"print('a', end='')\nprint('b', end='')">>) end),
    Leader = leader(),
    {ok, <<"a">>, <<"ab\nc">>} = under(Leader, fun() ->
                                                       ok = py:exec(<<"print('a', end='')">>),
                                                       First = text(Leader),
                                                       ok = py:exec(<<"print('b\\nc', end='')">>),
                                                       {ok, First, text(Leader)}
                                               end),
    stop(Leader).

%% The callback looks while the request goes on.
a_line_is_written_when_it_is_complete(_Config) ->
    Leader = leader(),
    ok = py:register_function(f, fun([]) -> text(Leader) end),
    ok = under(Leader, fun() ->
                               ok = py:exec(<<"import erlang\nprint('one')\nprint('two', end='')\nx = erlang.call('f')\n"
                                              "print(' three')\ny = erlang.call('f')\n">>),
                               {ok, {First, <<"one\ntwo three\n">>}} = py:eval(<<"(x, y)">>),
                               true = lists:member(First, [<<"one\n">>, <<"one\ntwo">>]),
                               ok
                       end),
    stop(Leader).

flush_writes_at_once(_Config) ->
    Leader = leader(),
    ok = py:register_function(f, fun([]) -> text(Leader) end),
    {ok, {<<"a">>, <<"ab">>}} =
        under(Leader, fun() ->
                              ok = py:exec(<<"import erlang, sys\nprint('a', end='', flush=True)\nx = erlang.call('f')\n"
                                             "sys.stderr.write('b')\nsys.stderr.flush()\ny = erlang.call('f')\n">>),
                              py:eval(<<"(x, y)">>)
                      end),
    stop(Leader).

processes_with_different_leaders_do_not_mix(_Config) ->
    Code = fun(N) -> ["for i in range(200): print(", integer_to_list(N), ", i)\n"] end,
    Expected = fun(N) -> iolist_to_binary([io_lib:format("~b ~b~n", [N, I]) || I <- lists:seq(0, 199)]) end,
    Printed = py_test:at_once([fun() -> printed(fun() -> py:exec(Code(N)) end) end || N <- lists:seq(1, 20)]),
    [?assertEqual({ok, Expected(N)}, P) || {N, P} <- lists:zip(lists:seq(1, 20), Printed)],
    ok.

every_kind_of_request_is_redirected(_Config) ->
    {ok, [Context | _]} = py:start_contexts(1),
    {_, Text} = printed(fun() ->
                                H = py_test:handle("[]"),
                                ok = py:exec(<<"class C:\n"
                                               "    def m(self): print('method')\n"
                                               "    def __call__(self): print('object')\n"
                                               "    @property\n"
                                               "    def a(self): print('attribute')\n">>),
                                C = py_test:handle("C()"),
                                {ok, none} = py:call(builtins, print, [<<"call">>]),
                                {ok, none} = py:call(io, builtins, print, [<<"pool">>]),
                                {ok, none} = py:call(Context, builtins, print, [<<"context">>]),
                                ok = py:exec(Context, <<"print('exec')">>),
                                {ok, none} = py:call_method(C, m, []),
                                {ok, none} = py:call_object(C, []),
                                {ok, none} = py:getattr(C, a),
                                {ok, _} = py:parallel([{builtins, print, [<<"parallel">>]}]),
                                {ok, [none]} = py:stream_eval(<<"(print('stream') for _ in range(1))">>),
                                none = py:apply(builtins, print, [<<"apply">>]),
                                H
                        end),
    <<"call\npool\ncontext\nexec\nmethod\nobject\nattribute\nparallel\nstream\napply\n">> = Text,
    ok = py:stop_contexts().

%% Also when the submitter itself has ended, as far as the leader is there.
casts_go_to_the_leader_of_their_submitter(_Config) ->
    Leader = leader(),
    ok = under(Leader, fun() -> py:cast(builtins, print, [<<"cast">>]) end),
    await_text(Leader, <<"cast\n">>),
    ok = under(Leader, fun() ->
                               ok = py:cast(builtins, print, [<<"more">>], #{'end' => <<"!">>}),
                               await_text(Leader, <<"cast\nmore!">>)
                       end),
    stop(Leader).

spawned_calls_go_to_the_leader_of_their_submitter(_Config) ->
    {ok, <<"one\ntwo\n">>} =
        printed(fun() ->
                        {ok, none} = py:await(py:spawn_call(builtins, print, [<<"one">>])),
                        Ref = py:spawn_call(builtins, print, [<<"two">>]),
                        {ok, none} = py:await(Ref),
                        ok
                end).

nested_calls_go_to_the_leader_of_their_process(_Config) ->
    Other = leader(),
    ok = py:register_function(f, fun([]) ->
                                         ok = py:exec(<<"print('inner')">>),
                                         under(Other, fun() -> ok = py:exec(<<"print('other')">>) end),
                                         ok
                                 end),
    {ok, <<"before\ninner\nafter\n">>} =
        printed(fun() -> py:exec(<<"import erlang\nprint('before')\nerlang.call('f')\nprint('after')">>) end),
    <<"other\n">> = text(Other),
    %% A callback that changes its own leader changes where the rest goes.
    stop(Other).

streams_go_to_the_leader_of_their_owner(_Config) ->
    Leader = leader(),
    ok = under(Leader, fun() ->
                               ok = py:exec(<<"def gen():\n    for i in range(3):\n        print('item', i)\n        yield i\n">>),
                               {ok, Ref} = py:stream_start('__main__', gen, []),
                               [0, 1, 2] = [receive {py_stream, Ref, {data, V}} -> V end || _ <- [1, 2, 3]],
                               receive {py_stream, Ref, done} -> ok end
                       end),
    await_text(Leader, <<"item 0\nitem 1\nitem 2\n">>),
    stop(Leader).

output_before_a_failure_is_there(_Config) ->
    {?ERROR('ZeroDivisionError', _), <<"before">>} = printed(fun() -> py:exec(<<"print('before', end='')\n1 / 0">>) end),
    {?ERROR('SystemExit', _), <<"bye\n">>} = printed(fun() -> py:exec(<<"print('bye')\nraise SystemExit">>) end).

output_before_a_timeout_is_there(_Config) ->
    Leader = leader(),
    ok = py:register_function(f, fun([]) -> put(begun, true), none end),
    under(Leader, fun() ->
                          ok = py:exec(<<"import erlang\n"
                                         "def loop():\n"
                                         "    print('before')\n"
                                         "    erlang.call('f')\n"
                                         "    while True: pass\n">>),
                          py_test:timed_out(fun(T) -> py:call('__main__', loop, [], #{}, T) end,
                                            fun() -> get(begun) =:= true end)
                  end),
    %% Of that one, or of one more that was ended before its callback.
    ?assertMatch({match, _}, re:run(text(Leader), "^(before\n)+$")),
    stop(Leader).

%%% What is written

text_is_text_in_any_script(_Config) ->
    [begin
         Expected = <<Text/binary, "\n">>,
         {{ok, none}, Expected} = printed(fun() -> py:call(builtins, print, [Text]) end)
     end || Text <- [<<>>, <<"żółć"/utf8>>, <<"日本語"/utf8>>, <<16#1F40D/utf8>>, <<16#10FFFF/utf8>>, <<"a", 0, "b">>,
                     <<"\e[1m\t\r">>, <<"~p ~s ~n">>, <<"e", 769/utf8>>, <<16#FEFF/utf8>>,
                     binary:copy(<<"ż"/utf8>>, 10000)]],
    ok.

lone_surrogates_are_written_as_escapes(_Config) ->
    {ok, <<"a\\ud800b\\udcff\n">>} = printed(fun() -> py:exec(<<"print('a\\ud800b\\udcff')">>) end).

print_with_its_arguments_works(_Config) ->
    {ok, <<"1-2;a\n\n">>} = printed(fun() -> py:exec(<<"import sys\nprint(1, 2, sep='-', end=';')\nprint('a')\nprint()\n">>) end),
    {ok, <<"ab">>} = printed(fun() -> py:exec(<<"import sys\nsys.stdout.writelines(['a', 'b'])">>) end),
    {ok, <<"a\r\nb\n">>} = printed(fun() -> py:exec(<<"print('a\\r\\nb')">>) end).

the_streams_are_text_files(_Config) ->
    Facts = <<"[(isinstance(s, io.TextIOBase), s.isatty(), s.encoding, s.errors, s.writable(), s.readable(), s.seekable(),"
              " s.closed, s.write('abc'), s.line_buffering) for s in (sys.stdout, sys.stderr)]">>,
    {{ok, [Out, Err]}, _} = printed(fun() -> ok = py:exec(<<"import io, sys">>), py:eval(Facts) end),
    {true, false, <<"utf-8">>, <<"backslashreplace">>, true, false, false, false, 3, true} = Out,
    Out = Err,
    {ok, <<>>} =
        printed(fun() ->
                        ok = py:exec(<<"import io, sys\n"
                                       "for s in (sys.stdout, sys.stderr):\n"
                                       "    for f in (s.fileno, s.read, s.readline):\n"
                                       "        try: f()\n"
                                       "        except io.UnsupportedOperation: pass\n"
                                       "        else: raise AssertionError(f)\n">>)
                end).

%% Code that is done with them, as in `with sys.stdout as file:', does not end them for all.
the_streams_are_not_closed(_Config) ->
    [{ok, <<"before\nafter\n">>} =
         printed(fun() ->
                         ok = py:exec(["import sys\nfile = ", File, "\nprint('before', file=sys.", Name, ")\n"
                                       "with file: pass\nfile.close()\nassert not file.closed\n"]),
                         py:exec(["import sys\nprint('after', file=sys.", Name, ")\n"])
                 end)
     || Name <- ["stdout", "stderr"], File <- ["sys." ++ Name, "sys." ++ Name ++ ".buffer"]],
    %% What is left of a line is written.
    {ok, <<"ab">>} = printed(fun() -> py:exec(<<"import sys\nprint('a', end='')\nsys.stdout.close()\n"
                                                "sys.stdout.write('b')">>) end).

the_buffer_takes_bytes(_Config) ->
    Code = fun(Data) -> ["import sys\nprint('a', end='')\nn = sys.stdout.buffer.write(", Data, ")\n"
                         "sys.stdout.buffer.flush()\nprint('z', end='')\n"]
           end,
    {ok, <<"abcz">>} = printed(fun() -> py:exec(Code("b'bc'")) end),
    {ok, <<"abcz">>} = printed(fun() -> py:exec(Code("bytearray(b'bc')")) end),
    {ok, <<"abcz">>} = printed(fun() -> py:exec(Code("memoryview(b'bc')")) end),
    {ok, <<"aéz"/utf8>>} = printed(fun() -> py:exec(Code("b'\\xc3\\xa9'")) end),
    {{ok, 2}, _} = printed(fun() -> ok = py:exec(Code("b'bc'")), py:eval(<<"n">>) end),
    %% What is no text is shown.
    {ok, Text} = printed(fun() -> py:exec(Code("b'\\xff'")) end),
    ?assertMatch(<<"a", _, _/binary>>, Text),
    true = is_list(unicode:characters_to_list(Text)).

what_is_no_text_is_a_TypeError(_Config) ->
    [?ERROR('TypeError', _) = py:exec(["import sys\nsys.stdout.", Call])
     || Call <- ["write(b'abc')", "write(1)", "write(None)", "write()", "buffer.write('abc')"]],
    ok.

logging_and_warnings_and_tracebacks_are_redirected(_Config) ->
    %% As it is unless somebody has configured it, which other suites do.
    Log = <<"import logging\n"
            "logging.disable(logging.NOTSET)\n"
            "logging.getLogger().handlers.clear()\n"
            "logging.getLogger().setLevel(logging.WARNING)\n"
            "logging.getLogger('x').warning('logged %d', 5)">>,
    {ok, Logged} = printed(fun() -> py:exec(Log) end),
    ?assertMatch({_, _}, binary:match(Logged, <<"logged 5">>)),
    {ok, Warned} = printed(fun() -> py:exec(<<"import warnings\nwarnings.simplefilter('always')\nwarnings.warn('warned')">>) end),
    ?assertMatch({_, _}, binary:match(Warned, <<"warned">>)),
    {ok, Traced} = printed(fun() -> py:exec(<<"import traceback\ntry: 1 / 0\nexcept ZeroDivisionError: traceback.print_exc()">>) end),
    ?assertMatch({_, _}, binary:match(Traced, <<"ZeroDivisionError: division by zero">>)),
    %% What Python can only complain about.
    {ok, Complaint} = printed(fun() -> py:exec(<<"class Bad:\n    def __del__(self): raise ValueError('in del')\nBad()\n">>) end),
    ?assertMatch({_, _}, binary:match(Complaint, <<"ValueError: in del">>)).

code_that_replaces_stdout_gets_its_own(_Config) ->
    {{ok, <<"captured\n">>}, <<"after\n">>} =
        printed(fun() ->
                        ok = py:exec(<<"import contextlib, io\n"
                                       "buffer = io.StringIO()\n"
                                       "with contextlib.redirect_stdout(buffer): print('captured')\n"
                                       "print('after')\n">>),
                        py:eval(<<"buffer.getvalue()">>)
                end).

ten_megabytes_in_one_piece_arrive(_Config) ->
    Size = 10 bsl 20,
    {Time, {{ok, none}, Text}} =
        py_test:milliseconds(fun() -> printed(fun() -> py:eval(<<"print('x' * n)">>, #{n => Size}) end) end),
    ct:log("~.1f ms", [Time]),
    ?assertEqual(erlang:crc32([binary:copy(<<"x">>, Size), "\n"]), erlang:crc32(Text)),
    %% Characters of several bytes are not cut where pieces end.
    {{ok, none}, Wide} = printed(fun() -> py:eval(<<"print(c * n, end='')">>, #{c => <<"a日"/utf8>>, n => 100001}) end),
    ?assertEqual(binary:copy(<<"a日"/utf8>>, 100001), Wide).

a_hundred_thousand_lines_arrive_in_order(_Config) ->
    N = py_test:fewer(100000),
    Leader = leader(),
    {Time, ok} = py_test:milliseconds(
                   fun() -> under(Leader, fun() -> py:exec(["for i in range(", integer_to_list(N), "): print(i)"]) end) end),
    Texts = texts(Leader),
    ct:log("~.1f ms, ~b pieces", [Time, length(Texts)]),
    ?assertEqual(iolist_to_binary([[integer_to_binary(I), "\n"] || I <- lists:seq(0, N - 1)]), iolist_to_binary(Texts)),
    stop(Leader).

%%% From where

%% The process of that name, for the time of Fun; what is not for it goes on to the true one.
as_user(Fun) ->
    User = whereis(user),
    Test = self(),
    Between = spawn_link(fun() -> between(User, Test) end),
    true = unregister(user),
    true = register(user, Between),
    try Fun()
    after
        true = unregister(user),
        true = register(user, User),
        stop(Between)
    end.

between(User, Test) ->
    receive
        {io_request, From, As, {put_chars, Encoding, Chars}} ->
            Text = unicode:characters_to_binary(Chars, Encoding),
            Test ! {user, Text},
            From ! {io_reply, As, ok};
        {io_request, From, As, {put_chars, Encoding, M, F, A}} ->
            self() ! {io_request, From, As, {put_chars, Encoding, apply(M, F, A)}};
        Other ->
            User ! Other
    end,
    between(User, Test).

to_user() ->
    receive {user, Text} -> <<Text/binary, (to_user())/binary>> after 0 -> <<>> end.

%% Nobody asked for it who would have a group leader.
output_of_threads_goes_to_user(_Config) ->
    as_user(fun() ->
                    {ok, <<>>} = printed(fun() -> py:exec(<<"import threading\n"
                                                            "t = threading.Thread(target=print, args=('from a thread',))\n"
                                                            "t.start()\nt.join()\n">>) end),
                    receive {user, <<"from a thread", _/binary>>} -> ok after 60000 -> error(py_test:messages()) end,
                    _ = to_user()
            end).

threads_and_requests_do_not_mix(_Config) ->
    as_user(fun() ->
                    Code = <<"import threading\n"
                             "def many():\n    for i in range(200): print('thread', i)\n"
                             "t = threading.Thread(target=many)\n"
                             "t.start()\n"
                             "for i in range(200): print('request', i)\n"
                             "t.join()\n">>,
                    {ok, Text} = printed(fun() -> py:exec(Code) end),
                    ?assertEqual(iolist_to_binary([io_lib:format("request ~b~n", [I]) || I <- lists:seq(0, 199)]), Text),
                    Expected = iolist_to_binary([io_lib:format("thread ~b~n", [I]) || I <- lists:seq(0, 199)]),
                    Collected = collect_user(byte_size(Expected)),
                    ?assertEqual(Expected, Collected)
            end).

collect_user(Size) when Size =< 0 -> <<>>;
collect_user(Size) ->
    receive {user, Text} -> <<Text/binary, (collect_user(Size - byte_size(Text)))/binary>>
    after 60000 -> error(too_little)
    end.

%% The process over there has the leader of the one here that made it.
output_goes_over_distribution(_Config) ->
    Peer = py_test:peer(),
    {ok, <<"from the other node: żółć\n"/utf8>>} =
        printed(fun() ->
                        py_test:at(Peer, fun() -> py:call(builtins, print, [<<"from the other node: żółć"/utf8>>]), ok end)
                end),
    py_test:end_peer(Peer).

output_of_a_cast_goes_over_distribution(_Config) ->
    Peer = py_test:peer(),
    Leader = leader(),
    ok = under(Leader, fun() -> py_test:at(Peer, fun() -> py:cast(builtins, print, [<<"cast">>]) end) end),
    await_text(Leader, <<"cast\n">>),
    stop(Leader),
    py_test:end_peer(Peer).

%% Python's own stream is that of the operating system process.
the_switch_turns_it_off(_Config) ->
    py_test:restart(#{redirect_output => false}),
    {ok, <<>>} = printed(fun() -> py:exec(<<"print('to the log of the node, by the switch')">>) end),
    py_test:restart(#{redirect_output => true}),
    {ok, <<"again\n">>} = printed(fun() -> py:exec(<<"print('again')">>) end),
    {0, Output, _} =
        py_test:node("application:load(erlang_python),"
                     "application:set_env(erlang_python, redirect_output, false),"
                     "{ok, _} = application:ensure_all_started(erlang_python),"
                     "group_leader(spawn(fun() -> receive never -> ok end end), self()),"
                     "ok = py:exec(<<\"import sys\\nprint('to stdout', flush=True)\\n"
                     "print('to stderr', file=sys.stderr, flush=True)\">>),"
                     "halt(0)."),
    ?assertMatch({_, _}, binary:match(Output, <<"to stdout">>)),
    ?assertMatch({_, _}, binary:match(Output, <<"to stderr">>)).

the_switch_takes_booleans_only(_Config) ->
    ok = application:stop(erlang_python),
    [begin
         ok = application:set_env(erlang_python, redirect_output, Value),
         {error, Reason} = application:start(erlang_python),
         ?assertMatch({match, _}, re:run(io_lib:format("~0tp", [Reason]), "redirect_output"))
     end || Value <- [yes, 1, <<"true">>, none]],
    ok = application:unset_env(erlang_python, redirect_output),
    ok = application:start(erlang_python).

%%% Leaders that fail

dead() ->
    {Pid, Monitor} = spawn_monitor(fun() -> ok end),
    receive {'DOWN', Monitor, process, Pid, normal} -> Pid end.

a_dead_leader_does_not_fail_the_call(_Config) ->
    Dead = dead(),
    {ok, 7} = under(Dead, fun() -> py:eval(<<"[print('x') for _ in range(10)] and 7">>) end),
    ok = under(Dead, fun() -> py:cast(builtins, print, [<<"x">>]) end),
    {ok, 4.0} = py:call(math, sqrt, [16]).

a_leader_that_refuses_does_not_fail_the_call(_Config) ->
    Leader = leader(fun(_) -> {error, terminated} end),
    {ok, 7} = under(Leader, fun() -> py:eval(<<"[print('x') for _ in range(10)] and 7">>) end),
    stop(Leader).

a_leader_that_dies_meanwhile_does_not_fail_the_call(_Config) ->
    Leader = leader(fun(<<"die\n">>) -> exit(normal); (_) -> ok end),
    unlink(Leader),
    {ok, 7} = under(Leader, fun() -> py:eval(<<"[print(t) for t in ('a', 'die', 'b')] and 7">>) end).

%% It waits for an answer that never comes, on behalf of Python.
a_killed_caller_whose_leader_hangs_frees_its_executor(_Config) ->
    Test = self(),
    [begin
         Leader = leader(fun(_) -> Test ! asked, receive never -> ok end end),
         W = py_test:worker(),
         py_test:start(W, fun() -> true = group_leader(Leader, self()), py:exec(<<"print('x')">>) end),
         receive asked -> ok after 60000 -> error(no_output) end,
         py_test:kill(W),
         stop(Leader)
     end || _ <- lists:seq(1, 2 * py:num_executors() + 1)],
    Work = fun() -> py:call(math, sqrt, [16], #{}, 60000) end,
    Count = 2 * py:num_executors(),
    ?assertEqual(lists:duplicate(Count, {ok, 4.0}), py_test:at_once(lists:duplicate(Count, Work))),
    py_test:wait_until(fun() -> py_semaphore:current() =:= 0 end).

no_message_is_left(_Config) ->
    {{ok, []}, _} = printed(fun() ->
                                    [ok = py:exec(<<"print('x')">>) || _ <- lists:seq(1, 100)],
                                    [_ = py:exec(<<"for i in range(1000): print(i)">>) || _ <- lists:seq(1, 3)],
                                    [_ = py:call(builtins, print, [N], #{}, 0) || N <- lists:seq(1, 50)],
                                    {ok, py_test:messages()}
                            end).
