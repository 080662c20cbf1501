%% SPDX-License-Identifier: Apache-2.0
%%
%% Python's logging in Erlang's logger: what arrives, with which metadata, and that Python
%% never waits for a handler.
-module(py_logging_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([a_message_of_Pythons_is_logged_in_Erlang/1,
         the_metadata_tell_where_it_comes_from/1,
         extra_fields_are_metadata/1,
         levels_have_their_counterparts/1,
         messages_are_formatted_as_Python_does/1,
         exceptions_are_logged_with_their_traceback/1,
         any_text_can_be_logged/1,
         messages_come_in_order/1]).
-export([what_is_below_the_level_stays_in_Python/1,
         the_level_is_that_of_the_logger_if_none_is_given/1,
         the_level_can_be_changed/1,
         wrong_levels_are_refused/1,
         it_is_configured_at_the_start/1,
         interpreters_that_come_later_log_as_well/1,
         without_configuration_nothing_is_logged/1]).
-export([a_slow_handler_does_not_block_Python/1,
         all_of_a_moderate_number_arrives/1,
         threads_casts_and_callbacks_log/1,
         loggers_and_handlers_of_users_work/1,
         what_goes_wrong_does_not_reach_who_logged/1,
         without_the_application_logging_is_harmless/1]).
-export([log/2, filter/2]).

-define(HANDLER, py_logging_test).
-define(ERROR(Type, Message), {error, {Type, Message}}).

suite() -> [{timetrap, {minutes, 5}}].

all() -> py_test:cases(?MODULE).

init_per_suite(Config) -> py_test:start(Config).

end_per_suite(Config) -> py_test:stop(Config).

%% The log of Erlang lets all through, and only Python's comes here.
init_per_testcase(_Case, Config) ->
    #{level := Level} = logger:get_primary_config(),
    ok = logger:set_primary_config(level, all),
    ok = logger:add_handler(?HANDLER, ?MODULE, #{level => all, config => #{to => self()},
                                                 filters => [{python, {fun ?MODULE:filter/2, only}}]}),
    ok = py:configure_logging(#{level => debug}),
    ok = define(),
    [{level, Level} | Config].

end_per_testcase(_Case, Config) ->
    ok = logger:remove_handler(?HANDLER),
    ok = logger:set_primary_config(level, proplists:get_value(level, Config)),
    py_test:restore(),
    ok = py:configure_logging(#{level => none}),
    ok.

%% The callback of logger.
log(Event, #{config := #{to := To}}) ->
    To ! {logged, Event},
    ok.

filter(#{meta := #{python := _}}, only) -> ignore;
filter(_Event, only) -> stop.

define() ->
    py:exec(<<"import erlang, logging, os, threading\n"
              "log = logging.getLogger('tests.of.logging')\n"
              "logging.getLogger('asyncio').setLevel(logging.WARNING)\n"
              "def say(level, text, *args): log.log(level, text, *args)\n"
              "def say_all(n):\n"
              "    for i in range(n): log.info('%d', i)\n">>).

next() ->
    receive {logged, Event} -> Event after 60000 -> error({not_logged, py_test:messages()}) end.

text(#{msg := {string, Text}}) -> unicode:characters_to_binary(Text);
text(#{msg := {Format, Args}}) -> unicode:characters_to_binary(io_lib:format(Format, Args)).

next_text() -> text(next()).

%% What came before is not there.
nothing_logged() ->
    ok = barrier(),
    receive {logged, Event} -> error({unexpected, Event}) after 0 -> ok end.

%% All that was logged before has been handled.
barrier() ->
    {ok, true} = py:eval(<<"__import__('_erlang').log(level, 'the barrier', {})">>, #{level => emergency}),
    await_barrier([]).

await_barrier(Before) ->
    receive
        {logged, #{level := emergency, msg := {string, <<"the barrier">>}}} ->
            [self() ! Event || Event <- lists:reverse(Before)],
            ok;
        {logged, _} = Event ->
            await_barrier([Event | Before])
    after 60000 ->
        error({no_barrier, Before})
    end.

%%% What arrives

a_message_of_Pythons_is_logged_in_Erlang(_Config) ->
    {ok, none} = py:eval(<<"log.warning('hello')">>),
    #{level := warning, msg := {string, <<"hello">>}, meta := Meta} = next(),
    #{python := #{logger := <<"tests.of.logging">>}} = Meta,
    nothing_logged(),
    {ok, none} = py:eval(<<"logging.error('of the root')">>),
    #{level := error, msg := {string, <<"of the root">>}, meta := #{python := #{logger := <<"root">>}}} = next(),
    nothing_logged().

the_metadata_tell_where_it_comes_from(Config) ->
    Dir = py_test:write_module(Config, logs_here,
                               "import logging\n"
                               "def speak():\n"
                               "    logging.getLogger('l').info('from line %d', 3)\n"),
    Before = erlang:system_time(microsecond),
    {ok, none} = py:call(logs_here, speak, []),
    #{level := info, meta := Meta} = Event = next(),
    <<"from line 3">> = text(Event),
    #{time := Time, file := File, line := 3,
      python := #{logger := <<"l">>, module := <<"logs_here">>, function := <<"speak">>, thread := Thread}} = Meta,
    ?assertEqual(filename:join(Dir, "logs_here.py"), File),
    ?assert(is_binary(Thread) orelse Thread),
    %% Python's clock and Erlang's are the same, but for the corrections that Erlang makes.
    ?assert(abs(Time - Before) < 60000000 orelse {Before, Time}),
    %% Formatters can print it as any other.
    Template = [time, " ", file, ":", line, " ", level, " ", msg],
    Line = unicode:characters_to_binary(logger_formatter:format(Event, #{template => Template})),
    ?assertMatch({match, _}, re:run(Line, "logs_here.py:3 info from line 3")).

extra_fields_are_metadata(_Config) ->
    ok = py:exec(<<"log.info('x', extra={'user': 7, 'tags': ['a', {'k': 1.5}], 'atom': erlang.atom('ok'), 'nothing': None})\n">>),
    #{meta := #{python := #{extra := Extra}}} = next(),
    ?assertEqual(#{<<"user">> => 7, <<"tags">> => [<<"a">>, #{<<"k">> => 1.5}], <<"atom">> => ok, <<"nothing">> => none}, Extra),
    %% What Erlang cannot hold is told as text.
    ok = py:exec(<<"class Odd:\n    def __repr__(self): return 'an odd one'\n"
                   "class Worse:\n    def __repr__(self): raise ValueError\n"
                   "log.info('x', extra={'odd': Odd(), 'list': [Odd()], 'worse': Worse(), 'bad': '\\udc80'})\n">>),
    #{meta := #{python := #{extra := #{<<"odd">> := <<"an odd one">>, <<"list">> := [<<"an odd one">>],
                                       <<"worse">> := <<_/binary>>, <<"bad">> := <<_/binary>>}}}} = next(),
    {ok, none} = py:eval(<<"log.info('without')">>),
    #{meta := #{python := Python}} = next(),
    false = is_map_key(extra, Python).

levels_have_their_counterparts(_Config) ->
    [begin
         {ok, none} = py:call('__main__', say, [Number, <<"x">>]),
         ?assertMatch({Number, #{level := Level}}, {Number, next()})
     end || {Number, Level} <- [{10, debug}, {20, info}, {30, warning}, {40, error}, {50, critical}, {15, debug}, {25, info},
                                {35, warning}, {45, error}, {99, critical}]],
    nothing_logged().

messages_are_formatted_as_Python_does(_Config) ->
    {ok, none} = py:eval(<<"log.info('%s and %05.1f and %r', 1, 2.5, 'x')">>),
    <<"1 and 002.5 and 'x'">> = next_text(),
    {ok, none} = py:eval(<<"log.info('%(a)s', {'a': 1})">>),
    <<"1">> = next_text(),
    {ok, none} = py:eval(<<"log.info('100%')">>),
    <<"100%">> = next_text(),
    {ok, none} = py:eval(<<"log.info(['not', 'a', 'text'])">>),
    <<"['not', 'a', 'text']">> = next_text(),
    %% What Erlang would take for a format is none.
    {ok, none} = py:eval(<<"log.info('~p ~s ~n')">>),
    <<"~p ~s ~n">> = next_text().

exceptions_are_logged_with_their_traceback(_Config) ->
    ok = py:exec(<<"try: {}['key']\n"
                   "except KeyError: log.exception('it failed')\n">>),
    #{level := error} = Event = next(),
    ?assertMatch({match, _}, re:run(text(Event), "^it failed\nTraceback .*KeyError: 'key'$", [dotall])).

any_text_can_be_logged(_Config) ->
    {ok, none} = py:eval(<<"log.info('größe \\U0001f40d')"/utf8>>),
    <<"größe 🐍"/utf8>> = next_text(),
    {ok, none} = py:eval(<<"log.info('a\\udc80b\\0c')">>),
    <<"a", _/binary>> = next_text(),
    {ok, none} = py:eval(<<"log.info('')">>),
    <<>> = next_text(),
    {ok, none} = py:eval(<<"log.info('x' * 1000000)">>),
    1000000 = byte_size(next_text()).

messages_come_in_order(_Config) ->
    {ok, none} = py:call('__main__', say_all, [2000]),
    [?assertEqual(integer_to_binary(I), next_text()) || I <- lists:seq(0, 1999)],
    nothing_logged().

%%% Levels and configuration

what_is_below_the_level_stays_in_Python(_Config) ->
    ok = py:configure_logging(#{level => warning}),
    ok = py:exec(<<"class Costly:\n"
                   "    asked = 0\n"
                   "    def __str__(self):\n"
                   "        Costly.asked += 1\n"
                   "        return 'costly'\n"
                   "log.info('%s', Costly())\n"
                   "log.debug('%s', Costly())\n"
                   "log.warning('%s', Costly())\n">>),
    <<"costly">> = next_text(),
    {ok, 1} = py:eval(<<"Costly.asked">>),
    nothing_logged().

the_level_is_that_of_the_logger_if_none_is_given(_Config) ->
    ok = logger:set_primary_config(level, error),
    ok = py:configure_logging(),
    {ok, [false, true]} = py:eval(<<"[log.isEnabledFor(logging.WARNING), log.isEnabledFor(logging.ERROR)]">>),
    ok = logger:set_primary_config(level, all),
    ok = py:configure_logging(#{}),
    {ok, true} = py:eval(<<"log.isEnabledFor(logging.DEBUG)">>).

the_level_can_be_changed(_Config) ->
    [begin
         ok = py:configure_logging(#{level => Level}),
         ?assertEqual({Level, {ok, Enabled}},
                      {Level, py:eval(<<"[log.isEnabledFor(n) for n in (10, 20, 30, 40, 50)]">>)})
     end || {Level, Enabled} <- [{debug, [true, true, true, true, true]}, {info, [false, true, true, true, true]},
                                 {warning, [false, false, true, true, true]}, {error, [false, false, false, true, true]},
                                 {critical, [false, false, false, false, true]}, {none, [false, false, false, false, false]},
                                 {all, [true, true, true, true, true]}]],
    %% There is one handler, however often it was configured; each message comes once.
    {ok, none} = py:eval(<<"log.info('once')">>),
    <<"once">> = next_text(),
    nothing_logged(),
    {ok, none} = py:eval(<<"erlang.setup_logging('warning')">>),
    {ok, [false, true]} = py:eval(<<"[log.isEnabledFor(20), log.isEnabledFor(30)]">>),
    {ok, none} = py:eval(<<"erlang.setup_logging(logging.DEBUG)">>),
    {ok, none} = py:eval(<<"log.debug('again once')">>),
    <<"again once">> = next_text(),
    nothing_logged().

wrong_levels_are_refused(_Config) ->
    [{error, {_, _}} = py:configure_logging(Options)
     || Options <- [#{level => loud}, #{level => 10}, #{level => "info"}, #{nonsense => 1}, [], debug]],
    [?ERROR('ValueError', _) = py:eval(Code)
     || Code <- ["erlang.setup_logging('loud')", "erlang.setup_logging([])"]],
    {ok, none} = py:eval(<<"log.debug('as before')">>),
    <<"as before">> = next_text().

it_is_configured_at_the_start(_Config) ->
    ok = py_test:restart(#{logging => warning}),
    ok = define(),
    {ok, [false, true]} = py:eval(<<"[log.isEnabledFor(20), log.isEnabledFor(30)]">>),
    {ok, none} = py:eval(<<"log.warning('from the start')">>),
    <<"from the start">> = next_text(),
    _ = application:stop(erlang_python),
    ok = application:set_env(erlang_python, logging, loud),
    {error, Reason} = application:start(erlang_python),
    ?assertMatch({match, _}, re:run(io_lib:format("~p", [Reason]), "logging")),
    py_test:restart(#{}).

interpreters_that_come_later_log_as_well(_Config) ->
    case py_context:new(#{mode => owngil}) of
        {ok, Context} ->
            ok = py_context:exec(Context, <<"import logging\nlogging.getLogger('own').info('from its own')\n">>),
            #{level := info, meta := #{python := #{logger := <<"own">>}}} = Event = next(),
            <<"from its own">> = text(Event),
            ok = py:configure_logging(#{level => error}),
            {ok, false} = py_context:eval(Context, <<"logging.getLogger('own').isEnabledFor(20)">>, #{}),
            ok = py_context:destroy(Context);
        {error, Why} ->
            throw({skip, lists:flatten(io_lib:format("no interpreters of their own here: ~0p", [Why]))})
    end.

without_configuration_nothing_is_logged(_Config) ->
    {Status, Output, _} =
        py_test:node("{ok, _} = application:ensure_all_started(erlang_python),"
                     "{ok, false} = py:eval(<<\"'logging' in __import__('sys').modules\">>),"
                     "ok = py:exec(<<\"import logging\\nlogging.getLogger().info('unseen')\\n\">>),"
                     "{ok, []} = py:eval(<<\"logging.getLogger().handlers\">>),"
                     "halt(0)."),
    ?assertEqual({0, <<>>}, {Status, Output}).

%%% Load, and who logs

a_slow_handler_does_not_block_Python(_Config) ->
    ok = sys:suspend(py_logger),
    Python = fun() -> py:call('__main__', say_all, [15000]) end,
    {Time, {ok, none}} = py_test:milliseconds(Python),
    ct:log("15,000 messages took ~.1f ms", [Time]),
    ok = sys:resume(py_logger),
    %% 10,000 may wait; the others are counted.
    ok = logger:set_handler_config(?HANDLER, filters, []),
    Texts = all_and_dropped([], 10000, 5000),
    ?assertEqual([integer_to_binary(I) || I <- lists:seq(0, 9999)], Texts),
    %% Then all goes on.
    {ok, none} = py:eval(<<"log.info('after')">>),
    <<"after">> = next_text().

%% The warning about them is Erlang's own, and comes when some of the others have been logged.
all_and_dropped(Texts, 0, 0) ->
    lists:reverse(Texts);
all_and_dropped(Texts, Left, Dropped) ->
    case next() of
        #{meta := #{python := _}} = Event ->
            all_and_dropped([text(Event) | Texts], Left - 1, Dropped);
        #{level := warning} = Event ->
            case re:run(text(Event), "(\\d+) log messages of Python were dropped", [{capture, [1], list}]) of
                {match, [Count]} -> all_and_dropped(Texts, Left, Dropped - list_to_integer(Count));
                nomatch -> all_and_dropped(Texts, Left, Dropped)
            end;
        _ ->
            all_and_dropped(Texts, Left, Dropped)
    end.

all_of_a_moderate_number_arrives(_Config) ->
    {ok, none} = py:call('__main__', say_all, [9000]),
    Texts = [next_text() || _ <- lists:seq(1, 9000)],
    ?assertEqual([integer_to_binary(I) || I <- lists:seq(0, 8999)], Texts),
    nothing_logged().

threads_casts_and_callbacks_log(_Config) ->
    ok = py:register_function(f, fun([]) -> {ok, none} = py:call('__main__', say, [20, <<"nested">>]), none end),
    ok = py:exec(<<"def in_thread():\n"
                   "    t = threading.Thread(target=log.info, args=('thread',), name='the thread')\n"
                   "    t.start()\n"
                   "    t.join()\n"
                   "async def task(): log.info('task')\n"
                   "def in_task(): __import__('asyncio').run(task())\n">>),
    {ok, none} = py:call('__main__', in_thread, []),
    #{meta := #{python := #{thread := <<"the thread">>}}} = Event = next(),
    <<"thread">> = text(Event),
    {ok, none} = py:call('__main__', in_task, []),
    <<"task">> = next_text(),
    {ok, none} = py:call(erlang, call, [f]),
    <<"nested">> = next_text(),
    ok = py:cast('__main__', say, [20, <<"cast">>]),
    <<"cast">> = next_text(),
    ok = py:unregister_function(f),
    Count = 200,
    ok = py:exec(<<"def in_threads(n):\n"
                   "    threads = [threading.Thread(target=say_all, args=(n,)) for _ in range(8)]\n"
                   "    for t in threads: t.start()\n"
                   "    for t in threads: t.join()\n">>),
    {ok, none} = py:call('__main__', in_threads, [Count]),
    Texts = lists:sort([next_text() || _ <- lists:seq(1, 8 * Count)]),
    ?assertEqual(lists:sort(lists:append(lists:duplicate(8, [integer_to_binary(I) || I <- lists:seq(0, Count - 1)]))), Texts),
    nothing_logged().

loggers_and_handlers_of_users_work(_Config) ->
    ok = py:configure_logging(#{level => none}),
    ok = py:exec(<<"own = logging.getLogger('own.logger')\n"
                   "own.propagate = False\n"
                   "own.setLevel(logging.DEBUG)\n"
                   "handler = erlang.ErlangHandler(level=logging.INFO)\n"
                   "handler.setFormatter(logging.Formatter('<%(levelname)s> %(message)s'))\n"
                   "own.addHandler(handler)\n"
                   "own.debug('unseen')\n"
                   "own.info('seen')\n"
                   "handler.addFilter(lambda record: 'secret' not in record.getMessage())\n"
                   "own.info('a secret')\n"
                   "own.info('none')\n"
                   "own.removeHandler(handler)\n">>),
    [<<"<INFO> seen">>, <<"<INFO> none">>] = [next_text(), next_text()],
    nothing_logged().

what_goes_wrong_does_not_reach_who_logged(_Config) ->
    ok = py:exec(<<"import io, sys\n"
                   "class Bad:\n    def __str__(self): raise ValueError('bad')\n"
                   "said, sys.stderr = sys.stderr, io.StringIO()\n"
                   "try:\n"
                   "    log.info('%s', Bad())\n"
                   "    log.info('%d', 'not a number')\n"
                   "    log.info('%s')\n"
                   "    text = sys.stderr.getvalue()\n"
                   "finally: sys.stderr = said\n">>),
    {ok, true} = py:eval(<<"'Logging error' in text">>),
    <<"%s">> = next_text(),
    nothing_logged().

without_the_application_logging_is_harmless(Config) ->
    Fifo = py_test:block(Config),
    ok = py:exec(<<"def later(fifo, to):\n"
                   "    os.close(os.open(fifo, 0))\n"
                   "    try: log.info('into nothing')\n"
                   "    except BaseException as e: erlang.send(to, type(e).__name__)\n"
                   "    else: erlang.send(to, 'nothing raised')\n">>),
    {ok, none} = py:eval(<<"threading.Thread(target=later, args=(fifo, to)).start()">>, #{fifo => Fifo, to => self()}),
    ok = application:stop(erlang_python),
    ok = py_test:release(Fifo),
    receive <<"nothing raised">> -> ok; <<_/binary>> = Raised -> error(Raised) after 60000 -> error(not_told) end,
    ok = application:start(erlang_python).
