%% SPDX-License-Identifier: Apache-2.0
%%
%% The measurements of bench/run --values, in the node under test: microseconds of a call
%% that carries a value to Python, as an argument, or back, as the result. bench_values.py
%% has the functions, and makes the same values.
%%
%% Each is measured in a process of its own that has made the value on its own heap, as a
%% caller would, and in which the garbage of the other measurements does not stand. Before
%% the calls that are timed come a few that are not; the first of them tells whether the
%% value arrives whole.
-module(bench_values_node).

-export([prepare/0, empty/1, around/1, to_python/3, to_erlang/3]).

%% Each but `plain' is only for some values, and some are not for the port.
-type form() :: plain | bytes | buffer | json.
-type value() :: integers | floats | map | rows | kb | mb | mb64.
-export_type([form/0, value/0]).

-define(PY, bench_values).
%% Calls before those that count, and the least number of those that do.
-define(WARM, 2).
-define(LEAST, 5).
-define(BUSY_US, 200).

-spec prepare() -> ok.
prepare() ->
    bench_backend:python_path(filename:dirname(code:which(?MODULE))).

%% A call without a value: median.
-spec empty(pos_integer()) -> float().
empty(Ms) ->
    in_process(fun() -> median_us(bench_backend:caller(?PY, ignore, [none]), Ms) end).

%% What a call takes beside its function, if that is at work for as long as a value of some
%% size: median. Meanwhile the caller's scheduler may have gone to sleep, which it has not
%% where calls are over at once.
-spec around(pos_integer()) -> float().
around(Ms) ->
    Call = bench_backend:caller(?PY, busy, [?BUSY_US / 1.0e6]),
    in_process(fun() ->
        median_us(Call, Ms, fun({ok, Seconds}) -> round(bench_node:native(1000) * Seconds) end)
    end).

%% As an argument of a function that returns None; `false' if the row has no such form.
-spec to_python(value(), form(), pos_integer()) -> float() | false.
to_python(Name, Form, Ms) ->
    has_form(Form, [bytes, buffer]) andalso
        in_process(fun() ->
            {Function, Argument, Check} = argument(Name, Form),
            {ok, true} = Check(),
            median_us(bench_backend:caller(?PY, Function, [Argument]), Ms)
        end).

%% As the result of a function that returns an object it has.
-spec to_erlang(value(), form(), pos_integer()) -> float() | false.
to_erlang(Name, Form, Ms) ->
    has_form(Form, [buffer]) andalso
        in_process(fun() ->
            Call = result_caller(Name, Form),
            ok = check_result(Name, Form, Call()),
            median_us(Call, Ms)
        end).

%% Internals.

has_form(Form, NotOfPort) ->
    not (bench_backend:is_port() andalso lists:member(Form, NotOfPort)).

in_process(Fun) ->
    [Result] = bench_node:together([Fun]),
    Result.

%% The function and what it is called with, and a call that says whether it arrives.
argument(Name, json) ->
    {ok, Text} = dumped(Name),
    {load, Text, bench_backend:caller(?PY, is_same_text, [text(Name), Text])};
argument(Name, Form) ->
    {Argument, Type} = argument(Name, Form, value(Name)),
    {ignore, Argument, bench_backend:caller(?PY, is_same, [text(Name), Type, Argument])}.

argument(_Name, plain, Value) when is_list(Value) -> {Value, <<"list">>};
argument(_Name, plain, Value) when is_map(Value) -> {Value, <<"dict">>};
argument(_Name, plain, Value) -> {Value, <<"str">>};
argument(_Name, bytes, Value) -> {{bytes, Value}, <<"bytes">>};
argument(_Name, buffer, Value) -> {{buffer, Value}, <<"memoryview">>}.

result_caller(Name, plain) -> bench_backend:caller(?PY, stored, [text(Name)]);
result_caller(Name, bytes) -> bench_backend:caller(?PY, stored_bytes, [text(Name)]);
result_caller(Name, buffer) -> bench_backend:caller(?PY, stored_bytes, [text(Name)], #{return => buffer});
result_caller(Name, json) -> bench_backend:caller(?PY, dumped, [text(Name)]).

%% The text is Python's own: that it is the right one, Python says.
check_result(Name, json, {ok, Text}) ->
    {ok, true} = (bench_backend:caller(?PY, is_same_text, [text(Name), Text]))(),
    ok;
check_result(Name, _Form, {ok, Value}) ->
    Value =:= value(Name) orelse error({not_the_value, Name}),
    ok.

dumped(Name) ->
    (result_caller(Name, json))().

text(Name) ->
    atom_to_binary(Name).

value(integers) -> [I * 997 || I <- lists:seq(0, 9999)];
value(floats) -> [I / 7 || I <- lists:seq(0, 9999)];
value(map) -> maps:from_list([{<<"key_", (integer_to_binary(I))/binary>>, I} || I <- lists:seq(0, 999)]);
value(rows) -> [row(I) || I <- lists:seq(0, 99)];
value(kb) -> digits(1 bsl 10);
value(mb) -> digits(1 bsl 20);
value(mb64) -> digits(64 bsl 20).

row(I) ->
    #{
        <<"id">> => I,
        <<"name">> => <<"name ", (integer_to_binary(I))/binary>>,
        <<"price">> => I / 7,
        <<"count">> => I * 997,
        <<"active">> => I rem 2 =:= 0
    }.

digits(Size) ->
    binary:copy(<<"0123456789abcdef">>, Size div 16).

%% Each call is timed by itself: what the benchmark does between two of them is not in it.
median_us(Call, Ms) ->
    median_us(Call, Ms, fun({ok, _}) -> 0 end).

%% Less the time that Within finds in the result.
median_us(Call, Ms, Within) ->
    [{ok, _} = Call() || _ <- lists:seq(1, ?WARM)],
    To = erlang:monotonic_time() + bench_node:native(Ms),
    #{p50 := P50} = bench_stats:summary([samples(Call, Within, To, <<>>)]),
    P50.

samples(Call, Within, To, Samples) ->
    Begin = erlang:monotonic_time(),
    Result = Call(),
    End = erlang:monotonic_time(),
    Time = max(0, End - Begin - Within(Result)),
    All = <<Samples/binary, Time:64>>,
    case End < To orelse byte_size(All) < 8 * ?LEAST of
        true -> samples(Call, Within, To, All);
        false -> All
    end.
