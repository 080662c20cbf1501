%% SPDX-License-Identifier: Apache-2.0
%%
%% Processes that Python forks: os.fork() and what multiprocessing does up to Python 3.13.  They
%% are copies of the emulator with one thread, so there is no Erlang in them.
-module(py_fork_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([a_child_prints_to_the_files_of_the_emulator/1,
         a_child_cannot_call_Erlang/1,
         a_child_cannot_wait_for_a_channel/1,
         signals_to_a_child_are_not_the_nodes/1,
         a_child_ends_with_its_request/1,
         the_exception_of_a_child_is_its_status/1,
         multiprocessing_can_fork/1,
         a_pool_of_forked_processes_ends_without_the_node/1]).

suite() -> [{timetrap, {minutes, 5}}].

all() -> py_test:cases(?MODULE).

init_per_suite(Config) ->
    %% A thread that the child does not have may hold a lock of a sanitizer's.
    Sanitizer = py_test:sanitizer(thread) orelse py_test:sanitizer(address),
    case lists:suffix("subinterp", py_test:variant()) of
        _ when Sanitizer -> {skip, "children of programs with threads do not get on with sanitizers"};
        true -> {skip, "where there are sub-interpreters, CPython aborts each child"};
        false -> py_test:start_with(Config, [{fork_helper, helper()}])
    end.

end_per_suite(Config) -> py_test:stop(Config).

init_per_testcase(_Case, Config) ->
    ok = py_import:add_path(proplists:get_value(modules, Config)),
    Config.

end_per_testcase(_Case, _Config) ->
    py_test:restore(),
    ok.

%% The end of the pipe tells of the end of the child, of whatever it is.
helper() ->
    <<"
import os, select, sys, warnings
import erlang, erlang.channel

def forked(code):
    'Runs code in a child: its status, and what it wrote to the files of the emulator.'
    warnings.simplefilter('ignore', DeprecationWarning)  # of 3.12 on: there are other threads
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.dup2(theirs, 1)
        os.dup2(theirs, 2)
        os.close(theirs)
        exec(code, {'erlang': erlang, 'os': os, 'sys': sys})
        return None
    os.close(theirs)
    output = b''
    while True:
        if not select.select([ours], [], [], 60)[0]:
            output += b' AND THEN IT HUNG'
            os.kill(pid, 9)
        data = os.read(ours, 65536)
        if not data:
            break
        output += data
    os.close(ours)
    return os.waitpid(pid, 0)[1], output

def _say(text):
    print(text)

def with_multiprocessing():
    import multiprocessing
    warnings.simplefilter('ignore', DeprecationWarning)
    process = multiprocessing.get_context('fork').Process(target=_say, args=('hello',))
    process.start()
    process.join(60)
    if process.is_alive():
        process.kill()
        process.join()
    return process.exitcode

def with_pool():
    import multiprocessing
    warnings.simplefilter('ignore', DeprecationWarning)
    with multiprocessing.get_context('fork').Pool(2) as pool:
        return pool.map(abs, [-1, -2, -3])

def remember(ref):
    global channel
    channel = erlang.channel.Channel(ref)
">>.

forked(Code) ->
    {ok, Result} = py:call(fork_helper, forked, [iolist_to_binary(Code)]),
    Result.

a_child_prints_to_the_files_of_the_emulator(_Config) ->
    ?assertEqual({0, <<"one\ntwo\nthree\n">>},
                 forked("print('one', flush=True)\n"
                        "print('two', file=sys.stderr, flush=True)\n"
                        "sys.stdout.buffer.write(b'three\\n')\n")).

a_child_cannot_call_Erlang(_Config) ->
    ok = py:register_function(f, fun(_) -> error(called) end),
    [begin
         {0, Text} = forked(["import asyncio\n"
                             "async def call_async(): await erlang.async_call('f')\n"
                             "try: ", Call, "\n"
                             "except RuntimeError as error: print(error)\n"]),
         ?assertMatch({_, _}, binary:match(Text, <<"there is no Erlang">>), {Call, Text})
     end || Call <- ["erlang.call('f')", "erlang.f()", "erlang.send('init', 1)", "asyncio.run(call_async())"]],
    ok = py:unregister_function(f).

a_child_cannot_wait_for_a_channel(_Config) ->
    {ok, Channel} = py_channel:new(),
    ok = py_channel:send(Channel, 1),
    {ok, none} = py:call(fork_helper, remember, [Channel]),
    {0, Text} = forked("import fork_helper\n"
                       "try: print(fork_helper.channel.receive())\n"
                       "except RuntimeError as error: print(error)\n"),
    ?assertMatch({_, _}, binary:match(Text, <<"there is no Erlang">>), Text).

%% Also those that Erlang handles from now on only.
signals_to_a_child_are_not_the_nodes(_Config) ->
    ok = os:set_signal(sighup, handle),
    try
        [?assertEqual({Signal, <<>>}, forked(["import signal\nsignal.raise_signal(", integer_to_list(Signal), ")"]))
         || Signal <- [15, 10, 1]]
    after
        ok = os:set_signal(sighup, default)
    end.

a_child_ends_with_its_request(_Config) ->
    Processes = processes(),
    ?assertEqual({0, <<>>}, forked("pass")),
    ?assertEqual([], py_test:messages()),
    {ok, 4.0} = py:call(math, sqrt, [16]),
    ?assertEqual([], processes() -- Processes).

%% As with plain Python.  wait() has the status in the upper byte.
the_exception_of_a_child_is_its_status(_Config) ->
    ?assertEqual({0, <<>>}, forked("sys.exit()")),
    ?assertEqual({7 bsl 8, <<>>}, forked("sys.exit(7)")),
    ?assertEqual({1 bsl 8, <<"for want of it\n">>}, forked("sys.exit('for want of it')")),
    {Status, Text} = forked("print('before')\n1 / 0"),
    ?assertEqual(1 bsl 8, Status),
    [?assertMatch({_, _}, binary:match(Text, Part), Text)
     || Part <- [<<"Traceback">>, <<"ZeroDivisionError">>, <<"before\n">>]],
    {ok, 4.0} = py:call(math, sqrt, [16]).

multiprocessing_can_fork(_Config) ->
    ?assertEqual({ok, 0}, py:call(fork_helper, with_multiprocessing, [])).

a_pool_of_forked_processes_ends_without_the_node(_Config) ->
    ?assertEqual({ok, [1, 2, 3]}, py:call(fork_helper, with_pool, [])).
