%% SPDX-License-Identifier: Apache-2.0
%%
%% Conversion without memory: each allocation that Python makes on the way fails once, in a
%% library that was built for debugging.
-module(py_fault_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1]).
-export([each_allocation_of_a_conversion_may_fail/1,
         failed_allocations_leak_nothing/1,
         encoders_and_decoders_may_run_out_of_memory/1]).

suite() -> [{timetrap, {minutes, 5}}].

all() -> py_test:cases(?MODULE).

init_per_suite(Config) ->
    py_test:start(Config),
    case {py:eval("hasattr(__import__('_erlang'), 'convert_failing')"), py_test:mode()} of
        {{ok, true}, free_threaded} -> skip(Config, "PyList_New of this Python itself does not survive it");
        {{ok, true}, _} -> Config;
        {{ok, false}, _} -> skip(Config, "the library was not built with --enable-debug")
    end.

skip(Config, Reason) ->
    py_test:stop(Config),
    {skip, Reason}.

end_per_suite(Config) -> py_test:stop(Config).

%% outcomes(value): there and back with the first allocation failing, then the second, ..., up
%% to where all succeed; the number of those that failed, and the value that came back.
define() ->
    ok = py:exec("import _erlang, gc, sys\n"
                 "class Plain: pass\n"
                 "deep = []\n"
                 "for i in range(500): deep = [(i, {i: deep})]\n"
                 "values = [2 ** 200, -2 ** 70, 'x' * 10, '\\u00e9' * 100, b'\\xff' * 100, list(range(1000, 1100)),\n"
                 "          {'a': 1000, 'b': [2000, {'c': (1.5, 2.5)}]}, {i: str(i) for i in range(1000, 1100)},\n"
                 "          {1, 2, 3}, _erlang.Atom('abc'), [_erlang.Term([1, 2])] * 3, {_erlang.Term([1, 2]): 1},\n"
                 "          Plain(), [Plain() for _ in range(5)], memoryview(b'x' * 100), bytearray(b'y' * 100), deep]\n"
                 "def outcomes(value):\n"
                 "    n = failures = 0\n"
                 "    while True:\n"
                 "        n += 1\n"
                 "        try:\n"
                 "            back, failed = _erlang.convert_failing(value, n)\n"
                 "            if not failed: return failures, back\n"
                 "        except MemoryError:\n"
                 "            failures += 1\n"
                 "def all_outcomes(): return [outcomes(value)[0] for value in values]\n"
                 "def blocks_left():\n"
                 "    all_outcomes(); gc.collect()\n"
                 "    before = sys.getallocatedblocks()\n"
                 "    all_outcomes(); gc.collect()\n"
                 "    return sys.getallocatedblocks() - before\n").

each_allocation_of_a_conversion_may_fail(_Config) ->
    define(),
    {ok, Failures} = py:eval("all_outcomes()"),
    %% Small values may come from free lists; a list of a hundred integers cannot.
    ?assert(lists:nth(6, Failures) > 100 orelse Failures),
    ?assert(lists:last(Failures) > 100 orelse Failures),
    {ok, true} = py:eval("all(outcomes(value)[1] == value for value in values[:7])").

failed_allocations_leak_nothing(_Config) ->
    define(),
    {ok, Blocks} = py:eval("blocks_left()"),
    ?assert(abs(Blocks) < 20 orelse Blocks).

encoders_and_decoders_may_run_out_of_memory(_Config) ->
    define(),
    ok = py:exec("import datetime, decimal, erlang\n"
                 "class Point:\n"
                 "    def __init__(self, x, y): self.x, self.y = x, y\n"
                 "erlang.register_encoder(Point, lambda p: (erlang.atom('point'), p.x, p.y))\n"
                 "erlang.register_decoder('point', Point)\n"
                 "points = [Point(i, 1.5 * i) for i in range(20)]"),
    {ok, true} = py:eval("[(p.x, p.y) for p in outcomes(points)[1]] == [(p.x, p.y) for p in points]"),
    {ok, <<"2026-11-21">>} = py:eval("outcomes(datetime.date(2026, 11, 21))[1]"),
    {ok, <<"1.50">>} = py:eval("outcomes(decimal.Decimal('1.50'))[1]").
