%% SPDX-License-Identifier: Apache-2.0
%%
%% Tracing: spans of Python and of Erlang, who is whose parent, and the trace context on its
%% way through requests, callbacks, threads, tasks and nodes.
-module(py_tracing_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([a_span_tells_what_took_how_long/1,
         spans_have_attributes_and_events/1,
         attributes_may_have_any_name/1,
         an_exception_makes_the_status_an_error/1,
         spans_within_spans_are_children/1,
         functions_can_be_traced/1,
         coroutines_and_generators_can_be_traced/1,
         tasks_have_their_own_parents/1,
         threads_begin_traces_of_their_own/1]).
-export([while_tracing_is_off_there_are_no_spans/1,
         traces_are_kept_and_cleared/1,
         only_the_newest_are_kept/1,
         a_restart_begins_with_tracing_off/1,
         a_slow_tracer_does_not_block_Python/1]).
-export([the_context_of_a_process_reaches_Python/1,
         each_kind_of_request_carries_the_context/1,
         callbacks_carry_the_context_to_Erlang/1,
         a_chain_of_both_languages_is_one_trace/1,
         spans_of_Erlang/1,
         contexts_are_those_of_the_W3C/1,
         contexts_do_not_mix/1,
         the_context_goes_to_other_nodes/1]).

-define(TRACE, "0af7651916cd43dd8448eb211c80319c").
-define(SPAN, "b7ad6b7169203331").
-define(PARENT, <<"00-", ?TRACE, "-", ?SPAN, "-01">>).

suite() -> [{timetrap, {minutes, 5}}].

all() -> py_test:cases(?MODULE).

init_per_suite(Config) -> py_test:start(Config).

end_per_suite(Config) -> py_test:stop(Config).

init_per_testcase(_Case, Config) ->
    ok = py:enable_tracing(),
    ok = py:clear_traces(),
    ok = define(),
    Config.

end_per_testcase(_Case, _Config) ->
    py_test:restore(),
    ok = py_tracer:set_context(undefined),
    ok = py:disable_tracing(),
    ok = py:clear_traces(),
    [py:unregister_function(Name) || Name <- [f, context]],
    ok.

define() ->
    py:exec(<<"import asyncio, erlang, threading\n"
              "def one(name):\n"
              "    with erlang.Span(name) as span: return span.traceparent\n"
              "class Spanning:\n"
              "    def one(self, name): return one(name)\n"
              "def spans(name):\n"
              "    yield one(name)\n"
              "def calls_f(name, *args):\n"
              "    with erlang.Span(name) as span: return [span.traceparent, erlang.call('f', *args)]\n">>).

%% The spans, once there are so many: they come to a process.
traces(Count) ->
    py_test:wait_until(fun() -> {ok, Spans} = py:get_traces(), length(Spans) >= Count end),
    {ok, Spans} = py:get_traces(),
    Count = length(Spans),
    Spans.

named(Name, Spans) ->
    [Span] = [S || #{name := N} = S <- Spans, N =:= Name],
    Span.

traceparent(#{trace_id := Trace, span_id := Span}) ->
    <<"00-", Trace/binary, "-", Span/binary, "-01">>.

is_child(#{trace_id := Trace, parent_span_id := Parent}, #{trace_id := Trace, span_id := Parent}) -> true;
is_child(Child, Parent) -> {no_child, Child, Parent}.

is_root(#{parent_span_id := undefined}) -> true;
is_root(Span) -> {no_root, Span}.

%%% Spans of Python's

a_span_tells_what_took_how_long(_Config) ->
    Before = erlang:system_time(nanosecond),
    ok = py:exec(<<"import time\nwith erlang.Span('work'): time.sleep(0.01)\n">>),
    [#{name := <<"work">>, trace_id := Trace, span_id := Id, parent_span_id := undefined, start_time := Start,
       duration_ns := Duration, attributes := Attributes, events := [], status := ok, kind := python}] = traces(1),
    ?assertEqual(#{}, Attributes),
    ?assertMatch({match, _}, re:run(Trace, "^[0-9a-f]{32}$")),
    ?assertMatch({match, _}, re:run(Id, "^[0-9a-f]{16}$")),
    ?assert(Duration >= 9000000 andalso Duration < 10000000000 orelse Duration),
    ?assert(abs(Start - Before) < 60000000000 orelse {Before, Start}).

spans_have_attributes_and_events(_Config) ->
    ok = py:exec(<<"class Odd:\n    def __repr__(self): return 'odd'\n"
                   "with erlang.Span('s', rows=10, deep=[1, {'k': 2.5}], odd=Odd()) as span:\n"
                   "    span.set_attribute('more', erlang.atom('ok'))\n"
                   "    span.set_attribute('rows', 11)\n"
                   "    span.add_event('happened', what='this')\n"
                   "    span.add_event('again')\n">>),
    [#{attributes := Attributes, events := [First, Second], start_time := Start}] = traces(1),
    ?assertEqual(#{<<"rows">> => 11, <<"deep">> => [1, #{<<"k">> => 2.5}], <<"odd">> => <<"odd">>, <<"more">> => ok}, Attributes),
    #{name := <<"happened">>, time := Time, attributes := #{<<"what">> := <<"this">>}} = First,
    #{name := <<"again">>} = Second,
    ?assert(abs(Time - Start) < 10000000000).

%% Also those that the parameters are called.
attributes_may_have_any_name(_Config) ->
    ok = py:exec(<<"with erlang.Span('s', name='n', self=1) as span:\n"
                   "    span.add_event('e', name='m', self=2)\n">>),
    [#{name := <<"s">>, attributes := Attributes, events := [Event]}] = traces(1),
    ?assertEqual(#{<<"name">> => <<"n">>, <<"self">> => 1}, Attributes),
    ?assertMatch(#{name := <<"e">>, attributes := #{<<"name">> := <<"m">>, <<"self">> := 2}}, Event).

an_exception_makes_the_status_an_error(_Config) ->
    {error, {'KeyError', _}} = py:exec(<<"with erlang.Span('fails'): {}['no']">>),
    [#{status := {error, Text}, events := [#{name := <<"exception">>, attributes := Event}]}] = traces(1),
    ?assertMatch({_, _}, binary:match(Text, <<"KeyError">>)),
    ?assertMatch(#{<<"exception.type">> := <<"KeyError">>}, Event),
    ok = py:clear_traces(),
    ok = py:exec(<<"with erlang.Span('told') as span: span.set_status('error', 'too few')\n"
                   "with erlang.Span('caught') as span:\n"
                   "    try: {}['no']\n"
                   "    except KeyError as e: span.record_exception(e)\n">>),
    Spans = traces(2),
    #{status := {error, <<"too few">>}} = named(<<"told">>, Spans),
    #{status := ok, events := [#{name := <<"exception">>}]} = named(<<"caught">>, Spans).

spans_within_spans_are_children(_Config) ->
    ok = py:exec(<<"with erlang.Span('a'):\n"
                   "    with erlang.Span('b'):\n"
                   "        with erlang.Span('c'): pass\n"
                   "    with erlang.Span('d'): pass\n"
                   "with erlang.Span('e'): pass\n">>),
    Spans = traces(5),
    %% The first to end comes first.
    [<<"c">>, <<"b">>, <<"d">>, <<"a">>, <<"e">>] = [Name || #{name := Name} <- Spans],
    [C, B, D, A, E] = Spans,
    [true, true, true, true, true] = [is_child(C, B), is_child(B, A), is_child(D, A), is_root(A), is_root(E)],
    true = maps:get(trace_id, A) =/= maps:get(trace_id, E),
    5 = length(lists:usort([Id || #{span_id := Id} <- Spans])).

functions_can_be_traced(_Config) ->
    ok = py:exec(<<"@erlang.trace()\n"
                   "def outer(x, k=1):\n"
                   "    'the doc'\n"
                   "    return inner(x) + k\n"
                   "@erlang.trace('named', colour='red')\n"
                   "def inner(x): return x * 2\n"
                   "class C:\n"
                   "    @erlang.trace()\n"
                   "    def method(self): raise ValueError('bad')\n">>),
    {ok, [7, <<"outer">>, <<"the doc">>]} = py:eval(<<"[outer(3), outer.__name__, outer.__doc__]">>),
    {error, {'ValueError', _}} = py:eval(<<"C().method()">>),
    Spans = [_, _, Method] = traces(3),
    true = is_child(named(<<"named">>, Spans), named(<<"outer">>, Spans)),
    #{attributes := #{<<"colour">> := <<"red">>}} = named(<<"named">>, Spans),
    #{name := <<"C.method">>, status := {error, _}} = Method.

coroutines_and_generators_can_be_traced(_Config) ->
    ok = py:exec(<<"@erlang.trace()\n"
                   "async def coroutine():\n"
                   "    await asyncio.sleep(0)\n"
                   "    async with erlang.Span('in coroutine'): return 1\n"
                   "@erlang.trace()\n"
                   "def generator():\n"
                   "    for i in range(3):\n"
                   "        with erlang.Span('in generator'): pass\n"
                   "        yield i\n"
                   "@erlang.trace()\n"
                   "async def async_generator():\n"
                   "    for i in range(3):\n"
                   "        with erlang.Span('in async generator'): await asyncio.sleep(0)\n"
                   "        yield i\n"
                   "async def all_of(g): return [i async for i in g]\n">>),
    {ok, 1} = py:eval(<<"asyncio.run(coroutine())">>),
    [InCoroutine, Coroutine] = traces(2),
    true = is_child(InCoroutine, Coroutine),
    ok = py:clear_traces(),
    {ok, [0, 1, 2]} = py:eval(<<"list(generator())">>),
    [A, B, C, Generator] = traces(4),
    [true, true, true, true] = [is_root(Generator) | [is_child(S, Generator) || S <- [A, B, C]]],
    ok = py:clear_traces(),
    {ok, [0, 1, 2]} = py:eval(<<"asyncio.run(all_of(async_generator()))">>),
    [D, E, F, AsyncGenerator] = traces(4),
    [true, true, true] = [is_child(S, AsyncGenerator) || S <- [D, E, F]],
    %% What happens between two items belongs to who takes them.
    ok = py:clear_traces(),
    ok = py:exec(<<"with erlang.Span('taker'):\n"
                   "    for _ in generator():\n"
                   "        with erlang.Span('between'): pass\n">>),
    Spans = traces(8),
    Taker = named(<<"taker">>, Spans),
    true = is_child(named(<<"generator">>, Spans), Taker),
    [true, true, true] = [is_child(S, Taker) || #{name := <<"between">>} = S <- Spans].

tasks_have_their_own_parents(_Config) ->
    ok = py:exec(<<"async def work(name):\n"
                   "    with erlang.Span(name):\n"
                   "        for i in range(3):\n"
                   "            await asyncio.sleep(0)\n"
                   "            with erlang.Span(name + ' step'): await asyncio.sleep(0)\n"
                   "async def all_work():\n"
                   "    with erlang.Span('all'):\n"
                   "        await asyncio.gather(*[work('work %d' % i) for i in range(5)])\n">>),
    {ok, none} = py:eval(<<"asyncio.run(all_work())">>),
    Spans = traces(1 + 5 * 4),
    All = named(<<"all">>, Spans),
    [begin
         Name = <<"work ", (integer_to_binary(I))/binary>>,
         Work = named(Name, Spans),
         true = is_child(Work, All),
         [true, true, true] = [is_child(S, Work) || #{name := N} = S <- Spans, N =:= <<Name/binary, " step">>]
     end || I <- lists:seq(0, 4)],
    ok.

threads_begin_traces_of_their_own(_Config) ->
    ok = py:exec(<<"import contextvars\n"
                   "with erlang.Span('outer'):\n"
                   "    context = contextvars.copy_context()\n"
                   "    for t in [threading.Thread(target=context.run, args=(one, 'copied'))]:\n"
                   "        t.start()\n"
                   "        t.join()\n">>),
    Spans = traces(2),
    true = is_child(named(<<"copied">>, Spans), named(<<"outer">>, Spans)),
    ok = py:clear_traces(),
    ok = py:exec(<<"threads = [threading.Thread(target=one, args=('t%d' % i,)) for i in range(4)]\n"
                   "for t in threads: t.start()\n"
                   "for t in threads: t.join()\n">>),
    [true, true, true, true] = [is_root(S) || S <- traces(4)].

%%% What is kept

while_tracing_is_off_there_are_no_spans(_Config) ->
    ok = py:disable_tracing(),
    ok = py:disable_tracing(),
    {ok, none} = py:eval(<<"one('unseen')">>),
    ok = py:exec(<<"@erlang.trace()\ndef traced(): return 1\n"
                   "with erlang.Span('unseen') as s:\n"
                   "    s.set_attribute('a', 1)\n"
                   "    s.add_event('e')\n"
                   "    s.set_status('ok')\n">>),
    {ok, 1} = py:eval(<<"traced()">>),
    3 = py_tracer:span(unseen, #{}, fun() -> 3 end),
    ok = py:enable_tracing(),
    ok = py:enable_tracing(),
    {ok, 1} = py:eval(<<"traced()">>),
    [#{name := <<"traced">>}] = traces(1).

traces_are_kept_and_cleared(_Config) ->
    {ok, []} = py:get_traces(),
    [{ok, _} = py:call('__main__', one, [<<"s">>]) || _ <- lists:seq(1, 10)],
    Ten = traces(10),
    Ten = traces(10),
    ok = py:clear_traces(),
    {ok, []} = py:get_traces(),
    %% They stay when tracing ends.
    {ok, _} = py:call('__main__', one, [<<"s">>]),
    [_] = traces(1),
    ok = py:disable_tracing(),
    {ok, [_]} = py:get_traces().

only_the_newest_are_kept(_Config) ->
    ok = py_test:restart(#{max_traces => 5}),
    ok = py:enable_tracing(),
    ok = define(),
    {ok, _} = py:eval(<<"[one(str(i)) for i in range(20)]">>),
    Newest = [integer_to_binary(I) || I <- lists:seq(15, 19)],
    py_test:wait_until(fun() -> {ok, Spans} = py:get_traces(), [Name || #{name := Name} <- Spans] =:= Newest end),
    _ = application:stop(erlang_python),
    ok = application:set_env(erlang_python, max_traces, none),
    {error, Reason} = application:start(erlang_python),
    ?assertMatch({match, _}, re:run(io_lib:format("~p", [Reason]), "max_traces")).

a_restart_begins_with_tracing_off(_Config) ->
    {ok, _} = py:call('__main__', one, [<<"s">>]),
    ok = application:stop(erlang_python),
    [{error, not_running} = Answer
     || Answer <- [py:enable_tracing(), py:disable_tracing(), py:get_traces(), py:clear_traces()]],
    ok = application:start(erlang_python),
    {ok, []} = py:get_traces(),
    ok = define(),
    {ok, none} = py:call('__main__', one, [<<"s">>]),
    {ok, []} = py:get_traces().

a_slow_tracer_does_not_block_Python(_Config) ->
    ok = sys:suspend(py_tracer),
    {ok, 12000} = py:eval(<<"len([one('s') for i in range(12000)])">>, #{}, 60000),
    Log = py_test:log_start(),
    ok = sys:resume(py_tracer),
    _ = py_test:log_await(Log, {warning, "2000 spans"}),
    _ = py_test:log_stop(Log),
    _ = traces(10000),
    ok = py:clear_traces(),
    {ok, _} = py:call('__main__', one, [<<"after">>]),
    [#{name := <<"after">>}] = traces(1).

%%% The context between the languages

the_context_of_a_process_reaches_Python(_Config) ->
    {ok, <<"00-", _/binary>>} = py:call('__main__', one, [<<"without">>]),
    [Without] = traces(1),
    true = is_root(Without),
    ok = py:clear_traces(),
    ok = py_tracer:set_context(?PARENT),
    ?PARENT = py_tracer:get_context(),
    {ok, <<"00-", ?TRACE, "-", _/binary>>} = py:call('__main__', one, [<<"within">>]),
    [#{trace_id := <<?TRACE>>, parent_span_id := <<?SPAN>>}] = traces(1),
    ok = py_tracer:set_context(undefined),
    undefined = py_tracer:get_context(),
    ok = py:clear_traces(),
    {ok, _} = py:call('__main__', one, [<<"after">>]),
    [true] = [is_root(S) || S <- traces(1)],
    ok = py:clear_traces(),
    {ok, _} = py_tracer:with_context(?PARENT, fun() -> py:call('__main__', one, [<<"with">>]) end),
    undefined = py_tracer:get_context(),
    [#{parent_span_id := <<?SPAN>>}] = traces(1),
    %% It is not left in an executor for the next one.
    ok = py:clear_traces(),
    [{ok, _} = py_test:in_process(fun() -> ok = define(), py:call('__main__', one, [<<"other">>]) end) || _ <- lists:seq(1, 8)],
    [true] = lists:usort([is_root(S) || S <- traces(8)]).

each_kind_of_request_carries_the_context(_Config) ->
    Spanning = py_test:handle(<<"Spanning()">>),
    {ok, Context} = py_context:new(#{}),
    ok = py_context:exec(Context, <<"import erlang\ndef one(name):\n    with erlang.Span(name): pass\n">>),
    Requests =
        [fun() -> py:call('__main__', one, [<<"s">>]) end,
         fun() -> py:call(default, '__main__', one, [<<"s">>]) end,
         fun() -> py:call('__main__', one, [<<"s">>], #{}, 60000) end,
         fun() -> py:eval(<<"one('s')">>) end,
         fun() -> {ok, py:exec(<<"one('s')">>)} end,
         fun() -> {ok, py:apply('__main__', one, [<<"s">>])} end,
         fun() -> py:call_method(Spanning, one, [<<"s">>]) end,
         fun() -> py:await(py:spawn_call('__main__', one, [<<"s">>])) end,
         fun() -> {ok, py:cast('__main__', one, [<<"s">>])} end,
         fun() -> {ok, [Result]} = py:parallel([{'__main__', one, [<<"s">>]}]), Result end,
         fun() -> py:stream('__main__', spans, [<<"s">>]) end,
         fun() -> py_context:call(Context, '__main__', one, [<<"s">>]) end],
    [begin
         {ok, _} = py_tracer:with_context(?PARENT, Request),
         ?assertMatch([{_, #{trace_id := <<?TRACE>>, parent_span_id := <<?SPAN>>}}], [{N, S} || S <- traces(1)]),
         ok = py:clear_traces()
     end || {N, Request} <- lists:zip(lists:seq(1, length(Requests)), Requests)],
    ok = py_context:destroy(Context),
    undefined = py_tracer:get_context().

callbacks_carry_the_context_to_Erlang(_Config) ->
    ok = py:register_function(f, fun([]) -> py_tracer:get_context() end),
    {ok, [Traceparent, Traceparent]} = py:call('__main__', calls_f, [<<"s">>]),
    [Span] = traces(1),
    ?assertEqual(traceparent(Span), Traceparent),
    undefined = py_tracer:get_context(),
    {ok, none} = py:eval(<<"erlang.call('f')">>),
    %% The process has its own again afterwards.
    ok = py_tracer:set_context(?PARENT),
    {ok, [Other, Other]} = py:call('__main__', calls_f, [<<"s">>]),
    true = Other =/= ?PARENT,
    ?PARENT = py_tracer:get_context(),
    {ok, ?PARENT} = py:eval(<<"erlang.call('f')">>),
    ok = py_tracer:set_context(undefined),
    %% From tasks and threads.
    ok = py:exec(<<"async def task():\n"
                   "    with erlang.Span('task') as span: return [span.traceparent, await erlang.async_call('f')]\n"
                   "def thread():\n"
                   "    found = []\n"
                   "    t = threading.Thread(target=lambda: found.append(calls_f('thread')))\n"
                   "    t.start()\n"
                   "    t.join()\n"
                   "    return found[0]\n">>),
    {ok, [Task, Task]} = py:eval(<<"asyncio.run(task())">>),
    {ok, [Thread, Thread]} = py:call('__main__', thread, []),
    true = is_binary(Task) andalso is_binary(Thread),
    %% Off, there is nothing to carry.
    ok = py:disable_tracing(),
    {ok, [none, none]} = py:call('__main__', calls_f, [<<"s">>]).

a_chain_of_both_languages_is_one_trace(_Config) ->
    ok = py:register_function(f, fun([0]) -> [];
                                    ([N]) ->
                                         py_tracer:span(["erlang ", integer_to_list(N)], #{n => N},
                                                        fun() -> {ok, V} = py:call('__main__', calls_f, [<<"python">>, N - 1]), V end)
                                 end),
    {ok, _} = py:call('__main__', calls_f, [<<"top">>, 3]),
    Spans = traces(7),
    [_] = lists:usort([Trace || #{trace_id := Trace} <- Spans]),
    [Root] = [S || #{parent_span_id := undefined} = S <- Spans],
    [python, erlang, python, erlang, python, erlang, python] = [Kind || #{kind := Kind} <- line_from(Root, Spans)].

%% Each with the one child that it has.
line_from(#{span_id := Id} = Span, Spans) ->
    case [S || #{parent_span_id := Parent} = S <- Spans, Parent =:= Id] of
        [Child] -> [Span | line_from(Child, Spans)];
        [] -> [Span]
    end.

spans_of_Erlang(_Config) ->
    done = py_tracer:span(outer, #{n => 1, <<"s">> => "x"},
                          fun() -> py_tracer:span(<<"inner">>, #{}, fun py_tracer:get_context/0), done end),
    [Inner, #{name := <<"outer">>, attributes := #{<<"n">> := 1, <<"s">> := "x"}, kind := erlang, status := ok} = Outer] = traces(2),
    [true, true] = [is_child(Inner, Outer), is_root(Outer)],
    ok = py:clear_traces(),
    [begin
         ?assertEqual({Class, oops}, try py_tracer:span(fails, #{}, fun() -> erlang:raise(Class, oops, []) end)
                                     catch C:R -> {C, R}
                                     end),
         undefined = py_tracer:get_context()
     end || Class <- [error, exit, throw]],
    [{error, _}, {error, _}, {error, _}] = [Status || #{status := Status} <- traces(3)],
    ok.

contexts_are_those_of_the_W3C(_Config) ->
    [begin
         {error, {'ValueError', _}} = py_tracer:set_context(Bad),
         ?assertError(badarg, py_tracer:with_context(Bad, fun() -> ok end)),
         undefined = py_tracer:get_context()
     end || Bad <- [<<>>, none, 1, <<"00-", ?TRACE, "-", ?SPAN>>, <<"00-", ?TRACE, "-", ?SPAN, "-1">>,
                    <<"ff-", ?TRACE, "-", ?SPAN, "-01">>, <<"00-", ?TRACE, "-", ?SPAN, "-0g">>,
                    <<"00-00000000000000000000000000000000-", ?SPAN, "-01">>, <<"00-", ?TRACE, "-0000000000000000-01">>,
                    <<"00-0AF7651916CD43DD8448EB211C80319C-", ?SPAN, "-01">>, <<"00_", ?TRACE, "-", ?SPAN, "-01">>,
                    <<"00-", ?TRACE, "-", ?SPAN, "-01-">>]],
    ok = py_tracer:set_context(binary_to_list(?PARENT)),
    ?PARENT = py_tracer:get_context(),
    ok = py_tracer:set_context(<<"00-", ?TRACE, "-", ?SPAN, "-00">>),
    ok = py_tracer:set_context(undefined).

%% Very many processes, each with a context of its own, on the same executors.
contexts_do_not_mix(_Config) ->
    ok = py:register_function(f, fun([]) -> {ok, Traceparent} = py:call('__main__', one, [<<"inner">>]), Traceparent end),
    Work = fun(I) ->
                   Trace = list_to_binary(io_lib:format("~32.16.0b", [I])),
                   fun() ->
                           ok = define(),
                           ok = py_tracer:set_context(<<"00-", Trace/binary, "-", ?SPAN, "-01">>),
                           [{ok, [<<"00-", Trace:32/binary, _/binary>>, <<"00-", Trace:32/binary, _/binary>>]} =
                                py:call('__main__', calls_f, [<<"outer">>]) || _ <- lists:seq(1, 20)],
                           py_test:messages()
                   end
           end,
    Left = py_test:at_once([Work(I) || I <- lists:seq(1, 50)]),
    ?assertEqual(lists:duplicate(50, []), Left),
    Spans = traces(2000),
    [?assertMatch(#{parent_span_id := <<?SPAN>>}, S) || #{name := <<"outer">>} = S <- Spans],
    ok.

%% By a call of a method of an object that lives there.
the_context_goes_to_other_nodes(_Config) ->
    Peer = {_, Node} = py_test:peer(),
    Test = self(),
    %% It keeps the object as long as it lives.
    Keeper = spawn(Node,
                   fun() ->
                           ok = py:enable_tracing(),
                           {ok, Handle} = py:eval(<<"(exec('''\nimport erlang\nclass There:\n"
                                                    "    def work(self):\n"
                                                    "        with erlang.Span('there') as span: return span.traceparent\n"
                                                    "''', globals()), There())[1]">>, #{}, {opts, #{return => handle}}),
                           Test ! {object, Handle},
                           receive stop -> Handle end
                   end),
    Object = receive {object, Handle} -> Handle after 60000 -> error(no_object) end,
    {ok, <<"00-", ?TRACE, "-", _/binary>>} =
        py_tracer:with_context(?PARENT, fun() -> py:call_method(Object, work, []) end),
    [#{parent_span_id := <<?SPAN>>, name := <<"there">>}] =
        py_test:at(Peer, fun() ->
                                 py_test:wait_until(fun() -> {ok, Spans} = py:get_traces(), Spans =/= [] end),
                                 {ok, Spans} = py:get_traces(),
                                 Spans
                         end),
    {ok, []} = py:get_traces(),
    Keeper ! stop,
    py_test:end_peer(Peer).
