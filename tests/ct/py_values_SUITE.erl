%% SPDX-License-Identifier: Apache-2.0
%%
%% Values: each comes back equal, and of the same type, or the call fails with an error
%% that names the value and says where it is.
-module(py_values_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1, end_per_testcase/2]).
-export([integers_come_back/1,
         integers_are_what_Python_computes/1,
         integers_of_a_megabyte_come_back/1,
         floats_come_back_bit_by_bit/1,
         floats_that_Erlang_cannot_hold_are_atoms/1,
         an_integer_is_no_float/1,
         atoms_come_back/1,
         atoms_are_usable_as_strings/1,
         an_atom_is_one_object/1,
         atoms_can_be_made_in_Python/1,
         true_and_false_are_booleans/1,
         none_nil_and_undefined_are_None/1]).
-export([text_is_str/1,
         binaries_that_are_not_UTF8_are_bytes/1,
         tagged_binaries_are_bytes/1,
         a_binary_of_64_MB_comes_back/1,
         sub_binaries_come_back/1,
         lone_surrogates_are_refused/1]).
-export([lists_come_back/1,
         tuples_come_back/1,
         maps_come_back/1,
         mixed_values_come_back/1,
         random_terms_come_back/1,
         a_list_of_a_million_integers_comes_back/1,
         a_map_of_a_hundred_thousand_keys_comes_back/1,
         a_tuple_of_a_hundred_thousand_elements_comes_back/1,
         sets_become_lists/1,
         subclasses_become_what_they_are_derived_from/1,
         the_same_object_twice_becomes_two_terms/1]).
-export([opaque_terms_come_back/1,
         opaque_terms_have_their_types/1,
         opaque_terms_are_equal_and_ordered_as_in_Erlang/1,
         opaque_terms_are_shown_as_Erlang_shows_them/1,
         opaque_terms_can_be_kept_in_Python/1,
         opaque_terms_of_ended_processes_come_back/1,
         terms_can_be_made_in_Python/1,
         terms_of_another_node_come_back/1,
         terms_come_back_when_the_node_gets_a_name/1]).
-export([keys_that_Python_cannot_hash_are_terms/1,
         keys_that_are_equal_in_Python_are_refused/1,
         keys_that_are_equal_in_Erlang_are_refused/1,
         the_function_is_not_called_when_an_argument_is_refused/1,
         what_is_refused_is_named_with_its_place/1,
         a_refused_value_leaves_the_process_usable/1]).
-export([the_option_binary_makes_all_binaries_bytes/1,
         the_option_binary_makes_all_binaries_str_or_an_error/1,
         the_option_atom_makes_atoms_plain_strings/1,
         options_do_not_change_what_comes_back/1,
         unknown_options_and_values_are_refused/1]).
-export([dates_and_times_are_ISO_8601/1,
         decimals_and_UUIDs_are_text/1,
         enums_are_their_values/1,
         dataclasses_are_maps_and_namedtuples_are_tuples/1,
         arrays_and_bytearrays_are_lists_and_binaries/1,
         memoryviews_are_lists_or_binaries/1,
         numpy_values_are_numbers_and_lists/1,
         an_encoder_encodes_its_type_and_what_is_derived_from_it/1,
         an_encoder_may_make_what_needs_encoding/1,
         an_encoder_that_fails_fails_the_call/1,
         encoders_without_end_are_an_error/1,
         an_encoder_of_a_builtin_type_is_refused/1,
         a_decoder_makes_the_value_of_its_tuples/1,
         a_decoder_that_fails_fails_the_call/1,
         a_decoder_of_an_instruction_is_refused/1]).
-export([a_dict_that_changes_while_it_is_converted_harms_nothing/1,
         large_dicts_come_back/1,
         large_dicts_within_each_other_come_back/1,
         dicts_with_the_same_keys_come_back/1]).
-export([values_nested_10000_deep_come_back/1,
         a_value_nested_a_million_deep_comes_back/1,
         an_object_nested_a_million_deep_becomes_a_term/1,
         a_place_a_million_deep_is_told/1,
         what_contains_itself_is_refused/1,
         a_wide_and_deep_value_that_is_shared_comes_back/1,
         conversion_does_not_leak/1,
         a_million_conversions_leave_memory_flat/1]).
-export([unchanged/1, fun_of_here/1]).

-define(ERROR(Type, Message), {error, {Type, Message}}).
-define(REFUSED(Where), {error, {conversion, _, Where}}).

suite() -> [{timetrap, {minutes, 5}}].

all() -> py_test:cases(?MODULE) -- [unchanged, fun_of_here].

init_per_suite(Config) -> py_test:start(Config).

end_per_suite(Config) -> py_test:stop(Config).

end_per_testcase(_Case, _Config) ->
    py_test:restore(),
    _ = py:unregister_function(f),
    ok.

same(Value) ->
    {ok, Back} = py_test:through(Value),
    Back =:= Value orelse error({changed, Value, Back}),
    ok.

type(Value) ->
    {ok, Type} = py:eval(<<"type(value).__name__">>, #{value => Value}),
    Type.

%%% Scalars

integers_come_back(_Config) ->
    Edges = [0, 1, 1 bsl 7, 1 bsl 15, 1 bsl 16, 1 bsl 27, 1 bsl 28, 1 bsl 30, 1 bsl 31, 1 bsl 32, 1 bsl 53,
             1 bsl 59, 1 bsl 60, 1 bsl 62, 1 bsl 63, 1 bsl 64, 1 bsl 65, 1 bsl 127, 1 bsl 128,
             1 bsl 1000, 1 bsl 2031, 1 bsl 2032, 1 bsl 2040, 1 bsl 2048, 1 bsl 4096, 3 bsl 5000],
    [same(Sign * (Edge + Delta)) || Edge <- Edges, Delta <- [-2, -1, 0, 1, 2], Sign <- [1, -1]],
    <<"int">> = type(1 bsl 1000).

%% That they come back could be due to two errors that cancel out.
integers_are_what_Python_computes(_Config) ->
    [begin
         {ok, true} = py:eval(<<"n == sign * 2 ** e + d">>, #{n => N, sign => Sign, e => E, d => D}),
         {ok, N} = py:eval(<<"sign * 2 ** e + d">>, #{sign => Sign, e => E, d => D}),
         Text = integer_to_binary(N),
         {ok, Text} = py:eval(<<"str(n)">>, #{n => N})
     end || E <- [0, 8, 31, 32, 59, 63, 64, 100, 255, 256, 1000, 2040, 2047, 2048],
            D <- [-1, 0, 1], Sign <- [1, -1], N <- [Sign * (1 bsl E) + D]],
    ok.

integers_of_a_megabyte_come_back(_Config) ->
    same((1 bsl 4000000) + 12345),
    same(-(1 bsl 4000000) - 12345),
    {ok, true} = py:eval(<<"n == -(1 << 4000000) - 12345">>, #{n => -(1 bsl 4000000) - 12345}),
    %% More than Erlang can hold, which is 4 MB: said, not cut off.
    ?REFUSED([result]) = py:eval(<<"1 << (1 << 27)">>).

floats_come_back_bit_by_bit(_Config) ->
    Floats = [0.0, -0.0, 1.0, -1.0, 0.1, 1.0e-300, 1.0e300, 3.141592653589793,
              bits(0, 0, 1),                            % the least subnormal
              bits(0, 0, (1 bsl 52) - 1),               % the largest subnormal
              bits(0, 1, 0),                            % the least normal
              bits(0, 2046, (1 bsl 52) - 1),            % the largest
              bits(1, 2046, (1 bsl 52) - 1),
              bits(1, 0, 1)],
    [begin
         {ok, Back} = py_test:through(F),
         ?assertEqual(<<F/float>>, <<Back/float>>),
         ?assertEqual(<<"float">>, type(F))
     end || F <- Floats],
    {ok, <<"-0.0">>} = py:eval(<<"repr(x)">>, #{x => bits(1, 0, 0)}),
    {ok, <<"5e-324">>} = py:eval(<<"repr(x)">>, #{x => bits(0, 0, 1)}),
    {ok, Zero} = py:eval(<<"-0.0">>),
    <<1:1, 0:63>> = <<Zero/float>>.

bits(Sign, Exponent, Mantissa) ->
    <<Float/float>> = <<Sign:1, Exponent:11, Mantissa:52>>,
    Float.

floats_that_Erlang_cannot_hold_are_atoms(_Config) ->
    {ok, [nan, nan, infinity, neg_infinity]} =
        py:eval(<<"[float('nan'), -float('nan'), float('inf'), -float('inf')]">>),
    {ok, #{nan := 1}} = py:eval(<<"{float('nan'): 1}">>).

an_integer_is_no_float(_Config) ->
    same([1, 1.0, 0, 0.0, 2, 2.0]),
    same(1.0e15),
    {ok, {1, 1.0}} = py:eval(<<"(1, 1.0)">>).

atoms_come_back(_Config) ->
    Atoms = [a, abc, 'with space', 'A', '', '\n', ok, error, '__main__', 'żółć',
             binary_to_atom(<<"żółć"/utf8>>), binary_to_atom(<<"é"/utf8>>), binary_to_atom(<<128/utf8>>),
             binary_to_atom(<<16#1F40D/utf8>>), binary_to_atom(<<0>>), binary_to_atom(<<"a\0b">>),
             list_to_atom(lists:duplicate(255, $a)),
             binary_to_atom(binary:copy(<<"ż"/utf8>>, 255)),
             binary_to_atom(binary:copy(<<16#1F40D/utf8>>, 255)),
             binary_to_atom(binary:copy(<<255/utf8>>, 255))],
    [same(Atom) || Atom <- Atoms],
    same(Atoms),
    same(maps:from_list([{Atom, Atom} || Atom <- Atoms])),
    [begin
         Text = atom_to_binary(Atom),
         {ok, {Text, true}} = py:eval(<<"(''.join(value), value == text)">>, #{value => Atom, text => Text})
     end || Atom <- Atoms],
    ok.

atoms_are_usable_as_strings(_Config) ->
    Eval = fun(Code) -> {ok, V} = py:eval(Code, #{a => abc}), V end,
    true = Eval("a == 'abc' and 'abc' == a and hash(a) == hash('abc') and a != 'abd'"),
    true = Eval("isinstance(a, str) and type(a) is not str"),
    true = Eval("{'abc': True}[a]"),
    true = Eval("{a: True}['abc']"),
    <<"abcd">> = Eval("a + 'd'"),
    <<"ABC">> = Eval("a.upper()"),
    <<"abc">> = Eval("str.__str__(a)"),
    <<"b">> = Eval("a[1]"),
    3 = Eval("len(a)"),
    <<"xabcx">> = Eval("f'x{a}x'"),
    [<<"a">>, <<"b">>, <<"c">>] = Eval("list(a)"),
    <<"Atom('abc')">> = Eval("repr(a)"),
    {ok, <<"\"abc\"">>} = py:call(json, dumps, [abc]),
    {ok, true} = py:call(builtins, hasattr, [<<"">>, upper]).

an_atom_is_one_object(_Config) ->
    {ok, true} = py:eval(<<"a is b and a is c[0]">>, #{a => abc, b => abc, c => [abc]}),
    ok = py:exec(<<"import erlang\nkept = []\ndef keep(a): kept.append(a)">>),
    {ok, none} = py:call('__main__', keep, [abc]),
    {ok, none} = py:call('__main__', keep, [abc]),
    {ok, true} = py:eval(<<"kept[0] is kept[1] and type(kept[0]) is erlang.Atom">>).

atoms_can_be_made_in_Python(_Config) ->
    ok = py:exec(<<"import erlang">>),
    {ok, abc} = py:eval(<<"erlang.atom('abc')">>),
    {ok, 'żółć'} = py:eval("erlang.atom('żółć')"),
    {ok, ''} = py:eval(<<"erlang.atom('')">>),
    {ok, true} = py:eval(<<"erlang.atom('abc') == a">>, #{a => abc}),
    {ok, {true, none}} = py:eval(<<"(erlang.atom('true'), erlang.atom('none'))">>),
    {ok, New} = py:eval(<<"erlang.atom('made_by_' + 'python')">>),
    <<"made_by_python">> = atom_to_binary(New),
    {ok, Long} = py:eval(<<"erlang.atom('x' * 255)">>),
    255 = length(atom_to_list(Long)),
    ?ERROR('ValueError', _) = py:eval(<<"erlang.atom('x' * 256)">>),
    ?ERROR('ValueError', _) = py:eval(<<"erlang.atom('\\ud800')">>),
    ?ERROR('TypeError', _) = py:eval(<<"erlang.atom(1)">>).

true_and_false_are_booleans(_Config) ->
    same([true, false]),
    <<"bool">> = type(true),
    {ok, {true, false}} = py:eval(<<"(t is True, 1 > 2)">>, #{t => true}),
    {ok, 2} = py:eval(<<"t + t">>, #{t => true}).

none_nil_and_undefined_are_None(_Config) ->
    {ok, [true, true, true]} = py:eval(<<"[x is None for x in l]">>, #{l => [none, nil, undefined]}),
    {ok, [none, none, none]} = py_test:through([none, nil, undefined]),
    {ok, none} = py:eval(<<"None">>),
    {ok, [null, 'None']} = py_test:through([null, 'None']).

%%% Binaries

text_is_str(_Config) ->
    Texts = [<<>>, <<"abc">>, <<"żółć"/utf8>>, <<16#1F40D/utf8>>, <<0>>, <<"a\0b">>, <<127>>, <<16#10FFFF/utf8>>,
             <<"e", 769/utf8>>, <<"\r\n">>, binary:copy(<<"ż"/utf8>>, 100000)],
    [begin same(Text), <<"str">> = type(Text) end || Text <- Texts],
    {ok, 4} = py:eval(<<"len(value)">>, #{value => <<"żółć"/utf8>>}).

binaries_that_are_not_UTF8_are_bytes(_Config) ->
    Binaries = [<<255>>, <<16#C3>>, <<"abc", 200>>, <<16#ED, 16#A0, 16#80>>, <<16#C0, 16#80>>,
                <<16#F4, 16#90, 16#80, 16#80>>, list_to_binary(lists:seq(0, 255))],
    [begin same(Binary), <<"bytes">> = type(Binary) end || Binary <- Binaries],
    {ok, true} = py:eval(<<"value == bytes(range(256))">>, #{value => list_to_binary(lists:seq(0, 255))}),
    {ok, <<0, 1, 255>>} = py:eval(<<"bytes([0, 1, 255])">>).

tagged_binaries_are_bytes(_Config) ->
    [begin
         {ok, {<<"bytes">>, Binary}} = py:eval(<<"(type(v).__name__, v)">>, #{v => {bytes, Binary}})
     end || Binary <- [<<>>, <<"abc">>, <<255>>, <<"żółć"/utf8>>]],
    %% Only just that tuple is an instruction.
    [same(Tuple) || Tuple <- [{bytes}, {bytes, abc}, {bytes, <<"a">>, <<"b">>}, {<<"bytes">>, <<"a">>},
                              {bytes, [<<"a">>]}, {byte, <<"a">>}]],
    {ok, [<<"a">>, #{x := <<"b">>}]} = py_test:through([{bytes, <<"a">>}, #{x => {bytes, <<"b">>}}]).

a_binary_of_64_MB_comes_back(_Config) ->
    Size = 64 bsl 20,
    [begin
         Binary = binary:copy(Chunk, Size div byte_size(Chunk)),
         same(Binary),
         {ok, Size} = py:call(builtins, len, [{bytes, Binary}])
     end || Chunk <- [<<"0123456789abcdef">>, <<255, 0, 1, 2>>]],
    ok.

sub_binaries_come_back(_Config) ->
    Big = binary:copy(<<"0123456789">>, 100),
    [same(binary:part(Big, Start, Length)) || Start <- [0, 1, 7, 500], Length <- [0, 1, 63, 64, 65, 400]],
    <<_:3, Shifted:80/bitstring, _/bitstring>> = Big,
    same(Shifted).

lone_surrogates_are_refused(_Config) ->
    ?REFUSED([result]) = py:eval(<<"'\\ud800'">>),
    ?REFUSED([result, 2]) = py:eval(<<"['a', 'b\\udcff']">>),
    ?REFUSED([result, key]) = py:eval(<<"{'\\udcff': 1}">>).

%%% Containers

lists_come_back(_Config) ->
    [same(List) || List <- [[], [1], [[]], [[[]], []], [a, <<"b">>, 3, 4.0, {5}, #{6 => 7}], "abc", "żółć",
                            [none, true, false], lists:seq(1, 1000), [[], [[], [[]]]], [$a | [<<"b">>]]]],
    {ok, [97, 98, 99]} = py_test:through("abc"),
    {ok, 3} = py:call(builtins, len, ["abc"]),
    <<"list">> = type([]).

tuples_come_back(_Config) ->
    [same(Tuple) || Tuple <- [{}, {1}, {{}}, {a, {b, {c}}}, {[], #{}}, list_to_tuple(lists:seq(1, 1000)), {none}]],
    <<"tuple">> = type({}).

maps_come_back(_Config) ->
    Maps = [#{}, #{a => 1}, #{<<"a">> => 1}, #{1 => 2, 3.5 => 4}, #{{1, a} => #{{} => {}}},
            maps:from_list([{N, N * N} || N <- lists:seq(1, 1000)]),
            #{true => 1, false => 0}, #{a => #{a => #{a => []}}}, #{none => none},
            #{{a, {b, <<"c">>}} => 1}, #{<<255>> => <<254>>}],
    [same(Map) || Map <- Maps],
    {ok, [1, 2, 3]} = py:eval(<<"[m['a'], m[2], m[(3,)]]">>, #{m => #{a => 1, 2 => 2, {3} => 3}}),
    <<"dict">> = type(#{}).

mixed_values_come_back(_Config) ->
    same([{ok, #{<<"users">> => [#{id => 1 bsl 70, <<"name">> => <<"żółć"/utf8>>, tags => [a, b, {c, -1.5}],
                                   <<255>> => {[], {}, #{}, <<>>, ''}}],
                 {} => "text"}}, [[[{{{[#{x => [[]]}]}}}]]]]).

%% Terms of all kinds that convert, of a fixed seed.
random_terms_come_back(_Config) ->
    State = rand:seed_s(exsss, 20261121),
    lists:foldl(fun(_, S0) -> {Term, S} = term(4, S0), same(Term), S end, State, lists:seq(1, 500)),
    ok.

term(Depth, S0) ->
    {Kind, S} = uniform(case Depth of 0 -> 6; _ -> 10 end, S0),
    term(Kind, Depth, S).

term(1, _, S0) -> {Bits, S} = uniform(200, S0), {N, S1} = uniform(1 bsl Bits, S), {N - (1 bsl (Bits - 1)), S1};
term(2, _, S0) -> {X, S} = rand:normal_s(S0), {X * 1.0e10, S};
term(3, _, S0) -> pick([a, b, ok, true, false, none, '', 'żółć', 'a b'], S0);
term(4, _, S0) -> {Chars, S} = many(fun(S1) -> uniform(16#D7FF, S1) end, 10, S0),
                  {unicode:characters_to_binary(Chars), S};
term(5, _, S0) -> {Bytes, S} = many(fun(S1) -> uniform(255, S1) end, 10, S0), {list_to_binary(Bytes), S};
term(6, _, S0) -> uniform(1000, S0);
term(7, Depth, S0) -> many(fun(S) -> term(Depth - 1, S) end, 6, S0);
term(8, Depth, S0) -> {List, S} = many(fun(S) -> term(Depth - 1, S) end, 6, S0),
                      case list_to_tuple(List) of
                          {bytes, _} -> {{}, S};
                          Tuple -> {Tuple, S}
                      end;
term(_, Depth, S0) -> %% Keys that no other key of the map is equal to in Python.
    {Values, S} = many(fun(S1) -> term(Depth - 1, S1) end, 6, S0),
    {Start, S2} = uniform(1000, S),
    {maps:from_list([{{key, N}, V} || {N, V} <- lists:zip(lists:seq(Start, Start + length(Values) - 1), Values)]),
     S2}.

many(Make, Max, S0) ->
    {N, S} = uniform(Max, S0),
    lists:mapfoldl(fun(_, S1) -> Make(S1) end, S, lists:seq(2, N)).

pick(List, S0) ->
    {N, S} = uniform(length(List), S0),
    {lists:nth(N, List), S}.

uniform(N, S) -> rand:uniform_s(N, S).

a_list_of_a_million_integers_comes_back(_Config) ->
    List = lists:seq(1, 1000000),
    same(List),
    {ok, 500000500000} = py:call(builtins, sum, [List]),
    {ok, List} = py:eval(<<"list(range(1, 1000001))">>).

a_map_of_a_hundred_thousand_keys_comes_back(_Config) ->
    same(maps:from_list([{{N, integer_to_binary(N)}, [N]} || N <- lists:seq(1, 100000)])).

a_tuple_of_a_hundred_thousand_elements_comes_back(_Config) ->
    same(list_to_tuple(lists:seq(1, 100000))),
    ?REFUSED([result]) = py:eval(<<"(0,) * 16777216">>).

sets_become_lists(_Config) ->
    {ok, []} = py:eval(<<"set()">>),
    {ok, [1]} = py:eval(<<"{1}">>),
    {ok, Set} = py:eval(<<"{1, 2, 'a'}">>),
    [1, 2, <<"a">>] = lists:sort(Set),
    {ok, Frozen} = py:eval(<<"frozenset(range(100))">>),
    ?assertEqual(lists:seq(0, 99), lists:sort(Frozen)).

subclasses_become_what_they_are_derived_from(_Config) ->
    ok = py:exec(<<"import collections, enum\n"
                   "class D(dict): pass\nclass L(list): pass\nclass T(tuple): pass\nclass S(str): pass\n"
                   "class B(bytes): pass\nclass I(int): pass\nclass F(float): pass\n"
                   "class E(enum.IntEnum):\n    A = 3\n"
                   "class Liar(int):\n"
                   "    def __int__(self): return 99\n"
                   "    def __index__(self): return 99\n"
                   "    def __abs__(self): return 'no'\n"
                   "    def __eq__(self, other): return True\n"
                   "    __hash__ = int.__hash__\n">>),
    {ok, #{<<"a">> := 1}} = py:eval(<<"D(a=1)">>),
    {ok, #{<<"a">> := 1}} = py:eval(<<"collections.OrderedDict(a=1)">>),
    {ok, #{<<"a">> := 0}} = py:eval(<<"collections.defaultdict(int, a=0)">>),
    {ok, [1, 2]} = py:eval(<<"L([1, 2])">>),
    {ok, {1, 2}} = py:eval(<<"T([1, 2])">>),
    {ok, <<"a">>} = py:eval(<<"S('a')">>),
    {ok, <<"a">>} = py:eval(<<"B(b'a')">>),
    {ok, {5, 5.0, 3}} = py:eval(<<"(I(5), F(5), E.A)">>),
    {ok, {5, Big}} = py:eval(<<"(Liar(5), Liar(-2 ** 100))">>),
    Big = -(1 bsl 100).

the_same_object_twice_becomes_two_terms(_Config) ->
    {ok, [[1], [1], {[1]}]} = py:eval(<<"[x, x, (x,)]">>, #{x => [1]}).

%%% Terms that Python does not look into

unchanged(X) -> X.

fun_of_here(X) -> fun(Y) -> {X, Y} end.

%% Of other nodes, as term_to_binary has them: no such node need be there.
remote() ->
    Node = <<119, 5, "x@far">>,
    [binary_to_term(<<131, External/binary>>)
     || External <- [<<88, Node/binary, 1:32, 0:32, 1:32>>, <<88, Node/binary, 16#FFFFFFF:32, 16#7FFFFFFF:32, 16#FFFFFFFF:32>>,
                     <<89, Node/binary, 7:32, 2:32>>, <<90, 3:16, Node/binary, 5:32, 1:32, 2:32, 3:32>>,
                     <<90, 5:16, Node/binary, 5:32, 1:32, 2:32, 3:32, 4:32, 5:32>>]].

opaque() ->
    N = erlang:unique_integer(),
    [self(), whereis(init), make_ref(), hd(erlang:ports()), fun() -> ok end, fun(X) -> {N, X} end, fun erlang:abs/1,
     fun ?MODULE:unchanged/1, fun no_such_module:f/3, fun unchanged/1, <<1:3>>, <<0:7>>, <<"abc", 1:1>>, <<0:100001>>,
     [a | b], [1, 2 | 3], [[] | {}], [<<"x">> | self()], [1 | #{a => 1}]] ++ remote().

opaque_terms_come_back(_Config) ->
    [begin
         same(X),
         same([X, {X}, #{a => X, X => [X]}, #{{1, X} => X}]),
         {ok, X} = py:call(copy, copy, [X]),
         {ok, X} = py:call(copy, deepcopy, [X])
     end || X <- opaque()],
    same(opaque()),
    %% What comes back works.
    {ok, Fun} = py_test:through(fun_of_here(1)),
    {1, 2} = Fun(2),
    Self = self(),
    {ok, Pid} = py_test:through(Self),
    Pid ! there,
    receive there -> ok end,
    %% A part of a larger one.
    <<_:5, Bits:37/bitstring, _/bitstring>> = binary:copy(<<"abc">>, 100),
    same(Bits).

opaque_terms_have_their_types(_Config) ->
    ok = py:exec(<<"import erlang">>),
    [begin
         {ok, {Type, true, true}} =
             py:eval(<<"(type(v).__name__, isinstance(v, erlang.Term), type(v) is getattr(erlang, type(v).__name__))">>, #{v => X})
     end || {Type, Xs} <- [{<<"Pid">>, [self(), hd(remote())]}, {<<"Ref">>, [make_ref(), lists:last(remote())]},
                           {<<"Port">>, [hd(erlang:ports()), lists:nth(3, remote())]},
                           {<<"Fun">>, [fun() -> ok end, fun erlang:abs/1]}, {<<"Term">>, [<<1:3>>, [a | b]]}],
            X <- Xs],
    [?ERROR('TypeError', _) = py:eval(["erlang.", Type, "()"]) || Type <- ["Pid", "Ref", "Port", "Fun", "Term"]],
    [?ERROR('TypeError', _) = py:eval(["type('Own', (erlang.", Type, ",), {})"]) || Type <- ["Pid", "Ref", "Port", "Fun"]],
    ok.

opaque_terms_are_equal_and_ordered_as_in_Erlang(_Config) ->
    Terms = opaque(),
    {ok, Sorted} = py:eval(<<"sorted(l)">>, #{l => Terms}),
    ?assertEqual(lists:sort(Terms), Sorted),
    Count = length(lists:usort(Terms)),
    {ok, Count} = py:eval(<<"len(set(l + l + m))">>, #{l => Terms, m => binary_to_term(term_to_binary(Terms))}),
    {ok, true} = py:eval(<<"all(a == b and hash(a) == hash(b) and not a != b for a, b in zip(l, m))">>,
                         #{l => Terms, m => binary_to_term(term_to_binary(Terms))}),
    %% To others they are not equal, and have no order.
    {ok, true} = py:eval(<<"p != 1 and p != 'a' and p != None and not p == r">>, #{p => self(), r => make_ref()}),
    ?ERROR('TypeError', _) = py:eval(<<"p < 1">>, #{p => self()}).

opaque_terms_are_shown_as_Erlang_shows_them(_Config) ->
    [begin
         Text = iolist_to_binary(Shown),
         {ok, Text} = py:eval(<<"repr(v)">>, #{v => X}),
         {ok, Text} = py:eval(<<"f'{v}'">>, #{v => X})
     end || {X, Shown} <- [{self(), ["Pid(", pid_to_list(self()), ")"]}, {[1 | 2], "Term([1|2])"},
                           {hd(erlang:ports()), ["Port(", port_to_list(hd(erlang:ports())), ")"]}]],
    {ok, <<"Ref(", _/binary>>} = py:eval(<<"repr(v)">>, #{v => make_ref()}),
    {ok, <<"Fun(", _/binary>>} = py:eval(<<"repr(v)">>, #{v => fun() -> ok end}),
    %% However long.
    {ok, Long} = py:eval(<<"repr(v)">>, #{v => lists:seq(1, 100000) ++ end_of_it}),
    ?assert(byte_size(Long) < 10000).

%% Between requests, when the environment of the call that brought them is gone.
opaque_terms_can_be_kept_in_Python(_Config) ->
    ok = py:exec(<<"kept = []">>),
    Terms = lists:append([opaque() || _ <- lists:seq(1, 20)]),
    [{ok, none} = py:eval(<<"kept.append(v)">>, #{v => X}) || X <- Terms],
    erlang:garbage_collect(),
    ?assertEqual({ok, Terms}, py:eval(<<"kept">>)),
    {ok, true} = py:eval(<<"kept == l">>, #{l => Terms}),
    ok = py:exec(<<"kept.clear()">>).

opaque_terms_of_ended_processes_come_back(_Config) ->
    Ended = py_test:in_process(fun() -> self() end),
    false = is_process_alive(Ended),
    same([Ended, py_test:in_process(fun() -> fun_of_here(make_ref()) end)]).

terms_can_be_made_in_Python(_Config) ->
    ok = py:exec(<<"from erlang import Term, ConversionError">>),
    [?assertEqual({ok, Value}, py:eval(["Term(", Code, ")"]))
     || {Code, Value} <- [{"[1, 2]", [1, 2]}, {"{}", #{}}, {"'a'", <<"a">>}, {"None", none}, {"[[], {'k': ()}]", [[], #{<<"k">> => {}}]},
                          {"Term([1])", [1]}]],
    {ok, true} = py:eval(<<"Term([1]) == Term([1]) and hash(Term([1])) == hash(Term([1])) and Term([1]) != Term([1.0])">>),
    {ok, 5} = py:eval(<<"m[Term([1, 2])]">>, #{m => #{[1, 2] => 5}}),
    {ok, #{[1] := 2}} = py:eval(<<"{Term([1]): 2}">>),
    {ok, [1, 2]} = py:eval(<<"list(m)[0].value()">>, #{m => #{[1, 2] => 5}}),
    {ok, true} = py:eval(<<"type(list(m)[0].value()) is dict">>, #{m => #{#{a => 1} => 5}}),
    %% What has no value of another kind says so.
    [?ERROR('ConversionError', _) = conversion(py:eval(<<"v.value()">>, #{v => X})) || X <- [self(), <<1:3>>, [a | b]]],
    {error, {conversion, _, _}} = conversion_of(py:eval(<<"Term('\\ud800')">>)).

%% A conversion that fails while Python code runs is an exception of that code.
conversion({error, {conversion, What, _}}) -> ?ERROR('ConversionError', What);
conversion(Other) -> Other.

conversion_of(?ERROR('ConversionError', What)) -> {error, {conversion, What, []}};
conversion_of(Other) -> Other.

terms_of_another_node_come_back(_Config) ->
    {_, Node} = Peer = py_test:peer(),
    Terms = try of_another_node(Peer, Node) after py_test:end_peer(Peer) end,
    %% Also when that node is gone.
    same(Terms).

of_another_node(Peer, Node) ->
    Terms = py_test:at(Peer, fun() -> [self(), make_ref(), hd(erlang:ports()), whereis(init), fun_of_here(self())] end),
    [true = node(X) =:= Node || X <- Terms, not is_function(X)],
    same(Terms),
    same(#{Terms => Terms}),
    [same(#{X => X}) || X <- Terms],
    %% The process over there is reached by what came back.
    {ok, Init} = py_test:through(lists:nth(4, Terms)),
    true = py_test:at(Peer, fun() -> whereis(init) end) =:= Init,
    %% There they come back as well, and what is ours is ours again here.
    Mine = [self(), make_ref(), hd(erlang:ports()), fun_of_here(1)],
    {ok, Mine} = py_test:at(Peer, fun() -> py_test:through(Mine) end),
    {ok, true} = py:eval(<<"a == b">>, #{a => Mine, b => py_test:at(Peer, fun() -> Mine end)}),
    Terms.

terms_come_back_when_the_node_gets_a_name(_Config) ->
    ok = py:exec(<<"kept = []">>),
    Terms = opaque(),
    {ok, none} = py:eval(<<"kept.append(v)">>, #{v => Terms}),
    Peer = py_test:peer(),
    try
        ?assertEqual({ok, [Terms]}, py:eval(<<"kept">>)),
        {ok, none} = py:eval(<<"kept.append(v)">>, #{v => Terms}),
        {ok, true} = py:eval(<<"kept[0] == kept[1]">>)
    after
        py_test:end_peer(Peer)
    end,
    ?assertEqual({ok, [Terms, Terms]}, py:eval(<<"kept">>)).

%%% Keys, and what is refused

keys_that_Python_cannot_hash_are_terms(_Config) ->
    Keys = [[], [1], "abc", #{}, #{a => 1}, {a, [1]}, {{#{}}}, [a | b], {1, [nil]}, [{bytes, <<"a">>}], [[[[]]]]],
    [begin
         same(#{Key => 1}),
         same(#{Key => 1, {x, Key} => 2}),
         {ok, <<"Term">>} = py:eval(<<"type(list(m)[0]).__name__">>, #{m => #{Key => 1}})
     end || Key <- Keys],
    same(maps:from_list([{Key, [x]} || Key <- Keys])),
    same(#{[1] => a, [1.0] => b, [<<"a">>] => c, [a] => d}),
    %% One whose elements Python can hash is a tuple.
    {ok, {<<"tuple">>, 1}} = py:eval(<<"(type(list(m)[0]).__name__, m[(1, ('a', None))])">>, #{m => #{{1, {<<"a">>, none}} => 1}}),
    %% Too deep to be hashed by recursion.
    Deep = lists:foldl(fun(_, X) -> {X} end, 1, lists:seq(1, 100000)),
    same(#{Deep => Deep}).

keys_that_are_equal_in_Python_are_refused(_Config) ->
    Maps = [#{1 => a, 1.0 => b}, #{0 => a, 0.0 => b}, #{a => 1, <<"a">> => 2}, #{true => a, 1 => b},
            #{false => a, 0.0 => b}, #{none => 1, nil => 2}, #{none => 1, undefined => 2},
            #{{1} => a, {1.0} => b}, #{{a} => 1, {<<"a">>} => 2}, #{<<"b">> => 1, {bytes, <<"b">>} => 2, b => 3},
            #{1 bsl 70 => 1, float(1 bsl 70) => 2}],
    [begin
         {error, {conversion, What, [args, 1, {key, Key}]}} = py:call(builtins, repr, [Map]),
         ?assert(maps:is_key(Key, Map)),
         ?assertMatch({_, _}, binary:match(What, <<"equal in Python">>))
     end || Map <- Maps],
    ok.

the_function_is_not_called_when_an_argument_is_refused(_Config) ->
    Bad = #{1 => a, 1.0 => b},
    ok = py:exec(<<"calls = []\ndef f(*a, **k): calls.append((a, k))">>),
    [?REFUSED(_) = py:call('__main__', f, Args, Kwargs)
     || {Args, Kwargs} <- [{[Bad], #{}}, {[1, [Bad]], #{}}, {[], #{a => Bad}}, {[1], #{a => {Bad}}}]],
    ?REFUSED(_) = py:eval(<<"f(a)">>, #{a => Bad}),
    {ok, []} = py:eval(<<"calls">>),
    {ok, none} = py:call('__main__', f, [1], #{a => 2}),
    {ok, [{{1}, #{<<"a">> := 2}}]} = py:eval(<<"calls">>).

what_is_refused_is_named_with_its_place(_Config) ->
    X = #{1 => a, 1.0 => b},
    {error, {conversion, What, [args, 1, {key, _}]}} = py:call(builtins, repr, [X]),
    ?assert(byte_size(What) > 10),
    Place = fun({error, {conversion, _, Where}}) -> lists:droplast(Where) end,
    [args, 3] = Place(py:call(builtins, print, [1, 2, X])),
    [args, 2, 3] = Place(py:call(builtins, print, [1, [2, 3, X]])),
    [args, 1, 2] = Place(py:call(builtins, print, [{a, X}])),
    [args, 1, {value, a}] = Place(py:call(builtins, print, [#{a => X, b => 1}])),
    [args, 1, {value, <<"k">>}, 2, {value, {1, x}}, 1] =
        Place(py:call(builtins, print, [#{<<"k">> => [0, #{{1, x} => {X}}]}])),
    [kwargs, {value, b}, 1] = Place(py:call(builtins, dict, [], #{a => 1, b => [X]})),
    [locals, {value, b}, 1] = Place(py:eval(<<"1">>, #{a => 1, b => [X]})),
    ?REFUSED([result]) = py:eval(<<"'\\ud800'">>),
    ?REFUSED([result, 2]) = py:eval(<<"[1, '\\ud800']">>),
    ?REFUSED([result, 3, 1]) = py:eval(<<"(1, 2, ['\\ud800'])">>),
    ?REFUSED([result, {value, <<"a">>}]) = py:eval(<<"{'a': '\\ud800'}">>),
    ?REFUSED([result, 2, {value, 5}, 1, {value, {1, <<"x">>}}]) = py:eval(<<"[0, {5: ({(1, 'x'): '\\ud800'},)}]">>),
    ?REFUSED([result, key]) = py:eval(<<"{'\\ud800': 1}">>),
    ?REFUSED([result, key, 2]) = py:eval(<<"{(1, '\\ud800'): 1}">>),
    ?REFUSED([result, 1]) = py:eval(<<"{'\\ud800'}">>).

keys_that_are_equal_in_Erlang_are_refused(_Config) ->
    [?REFUSED([result | _]) = py:eval(Code)
     || Code <- ["{'a': 1, b'a': 2}", "{float('nan'): 1, float('nan'): 2}", "[{(1, 'a'): 1, (1, b'a'): 2}]"]],
    ?REFUSED([result | _]) = py:eval(<<"{float('inf'): 1, a: 2}">>, #{a => infinity}).

a_refused_value_leaves_the_process_usable(_Config) ->
    [begin
         ?REFUSED(_) = py:call(builtins, repr, [#{1 => a, 1.0 => b}]),
         ?REFUSED(_) = py:eval(<<"'\\ud800'">>),
         {ok, 4.0} = py:call(math, sqrt, [16])
     end || _ <- lists:seq(1, 1000)],
    [] = py_test:messages().

%%% Options

kinds() ->
    ok = py:exec(<<"def kinds(x):\n"
                   "    if type(x) is dict: return [(kinds(k), kinds(v)) for k, v in x.items()]\n"
                   "    if type(x) in (list, tuple): return [kinds(y) for y in x]\n"
                   "    return type(x).__name__\n">>).

kinds(Value, Options) ->
    case py:call('__main__', kinds, [Value], #{}, {opts, Options}) of
        {ok, Kinds} -> Kinds;
        Error -> Error
    end.

the_option_binary_makes_all_binaries_bytes(_Config) ->
    kinds(),
    [<<"bytes">>, <<"bytes">>, [<<"bytes">>], [{<<"bytes">>, <<"bytes">>}], <<"Atom">>, <<"bytes">>] =
        kinds([<<"text">>, <<255>>, [<<>>], #{<<"k">> => <<"v">>}, atom, {bytes, <<"a">>}], #{binary => bytes}),
    [<<"str">>, <<"bytes">>] = kinds([<<"a">>, <<255>>], #{binary => auto}),
    {ok, <<"bytes">>} = py:eval(<<"type(v).__name__">>, #{v => <<"a">>}, {opts, #{binary => bytes}}),
    {ok, <<"bytes">>} = py:eval(<<"type(k['x']).__name__">>, #{k => #{x => <<"a">>}}, {opts, #{binary => bytes}}),
    %% Names of variables and of keyword arguments are names.
    {ok, 3} = py:eval(<<"v + 1">>, #{<<"v">> => 2}, {opts, #{binary => bytes}}),
    {ok, #{<<"a">> := <<"v">>}} = py:call(builtins, dict, [], #{<<"a">> => <<"v">>}, {opts, #{binary => bytes}}).

the_option_binary_makes_all_binaries_str_or_an_error(_Config) ->
    kinds(),
    [<<"str">>, <<"str">>, <<"bytes">>] = kinds([<<"text">>, <<"żółć"/utf8>>, {bytes, <<"a">>}], #{binary => str}),
    ?REFUSED([args, 1, 2]) = kinds([<<"text">>, <<255>>], #{binary => str}),
    ?REFUSED([args, 1, {value, a}]) = kinds(#{a => <<255>>}, #{binary => str}),
    ?REFUSED([args, 1, {key, <<255>>}]) = kinds(#{<<255>> => a}, #{binary => str}).

the_option_atom_makes_atoms_plain_strings(_Config) ->
    kinds(),
    [<<"str">>, [{<<"str">>, <<"str">>}], <<"bool">>, <<"NoneType">>, <<"str">>] =
        kinds([abc, #{k => v}, true, nil, 'żółć'], #{atom => str}),
    [<<"Atom">>, <<"bool">>] = kinds([abc, true], #{atom => atom}),
    {ok, [<<"abc">>, {<<"żółć"/utf8>>}, true]} =
        py:eval(<<"v">>, #{v => [abc, {'żółć'}, true]}, {opts, #{atom => str}}),
    {ok, [<<"a">>, <<"str">>, <<"bytes">>]} =
        py:eval(<<"[v[0], type(v[0]).__name__, type(v[1]).__name__]">>, #{v => [a, <<"b">>]}, {opts, #{atom => str, binary => bytes}}).

options_do_not_change_what_comes_back(_Config) ->
    {ok, [<<"a">>, <<"b">>, abc]} =
        py:eval(<<"['a', b'b', __import__('erlang').atom('abc')]">>, #{}, {opts, #{binary => bytes, atom => str}}),
    %% Nor what callbacks get of it: they are of the same call.
    ok = py:register_function(f, fun([X]) -> {X, <<"text">>, atom} end),
    {ok, Answer} = py:eval(<<"[type(x).__name__ for x in __import__('erlang').call('f', v)]">>, #{v => 1}, {opts, #{binary => bytes}}),
    true = lists:member(Answer, [[<<"int">>, <<"bytes">>, <<"Atom">>], [<<"int">>, <<"str">>, <<"Atom">>]]),
    %% And the next call is not of it.
    {ok, <<"str">>} = py:eval(<<"type(v).__name__">>, #{v => <<"a">>}).

unknown_options_and_values_are_refused(_Config) ->
    [?ERROR(_, _) = py:eval(<<"1">>, #{}, {opts, Options})
     || Options <- [#{binary => text}, #{atom => text}, #{binaries => str}, #{return => 1}, #{timeout => soon}, [], #{<<"atom">> => str}]],
    ok.

%%% Codecs

dates_and_times_are_ISO_8601(_Config) ->
    ok = py:exec(<<"import datetime as d\nclass Own(d.datetime): pass\n">>),
    [?assertEqual({ok, Text}, py:eval(["d.", Code]))
     || {Code, Text} <- [{"datetime(2026, 11, 21, 10, 30, 5, 123)", <<"2026-11-21T10:30:05.000123">>},
                         {"datetime(2026, 11, 21, tzinfo=d.timezone.utc)", <<"2026-11-21T00:00:00+00:00">>},
                         {"date(2026, 11, 21)", <<"2026-11-21">>}, {"time(1, 2, 3)", <<"01:02:03">>}]],
    {ok, <<"2026-11-21T00:00:00">>} = py:eval(<<"Own(2026, 11, 21)">>),
    {ok, [#{<<"at">> := <<"2026-11-21">>}]} = py:eval(<<"[{'at': d.date(2026, 11, 21)}]">>),
    {ok, #{<<"2026-11-21">> := 1}} = py:eval(<<"{d.date(2026, 11, 21): 1}">>).

decimals_and_UUIDs_are_text(_Config) ->
    [?assertEqual({ok, Text}, py:eval(Code))
     || {Code, Text} <- [{"__import__('decimal').Decimal('1.50')", <<"1.50">>},
                         {"__import__('decimal').Decimal('NaN')", <<"NaN">>},
                         {"__import__('uuid').UUID(int=1)", <<"00000000-0000-0000-0000-000000000001">>}]],
    ok.

enums_are_their_values(_Config) ->
    ok = py:exec(<<"import enum\n"
                   "class C(enum.Enum):\n    A = 'a'\n    B = (1, [2])\n    C = None\n"
                   "class I(enum.IntEnum):\n    A = 3\n"
                   "class S(str, enum.Enum):\n    A = 'text'\n"
                   "class F(enum.Flag):\n    A = 1\n    B = 2\n"
                   "class Nested(enum.Enum):\n    A = C.B\n">>),
    {ok, [<<"a">>, {1, [2]}, none, 3, <<"text">>, 3, {1, [2]}]} =
        py:eval(<<"[C.A, C.B, C.C, I.A, S.A, F.A | F.B, Nested.A]">>),
    {ok, #{<<"a">> := 3}} = py:eval(<<"{C.A: I.A}">>).

dataclasses_are_maps_and_namedtuples_are_tuples(_Config) ->
    ok = py:exec(<<"import collections, dataclasses, typing\n"
                   "@dataclasses.dataclass\n"
                   "class P:\n    x: int\n    y: object = None\n"
                   "@dataclasses.dataclass(frozen=True)\n"
                   "class Q:\n    p: P\n    __slots__ = ('p',)\n"
                   "@dataclasses.dataclass\n"
                   "class R(P):\n    z: int = 5\n"
                   "N = collections.namedtuple('N', 'a b')\n"
                   "class T(typing.NamedTuple):\n    a: int\n    b: object\n">>),
    {ok, #{<<"x">> := 1, <<"y">> := none} = Map} = py:eval(<<"P(1)">>),
    2 = map_size(Map),
    {ok, #{<<"p">> := #{<<"x">> := 1, <<"y">> := [#{<<"x">> := 2}]}}} = py:eval(<<"Q(P(1, [P(2)]))">>),
    {ok, #{<<"x">> := 1, <<"y">> := 2, <<"z">> := 5}} = py:eval(<<"R(1, 2)">>),
    {ok, [{1, 2}, {1, [{3, 4}]}]} = py:eval(<<"[N(1, 2), T(1, [N(3, 4)])]">>),
    %% The class itself is an object like others.
    {ok, Class} = py:eval(<<"P">>),
    true = py:is_ref(Class),
    {ok, Object} = py:eval(<<"(lambda p: (setattr(p, 'y', object()), p)[1])(P(1))">>),
    true = py:is_ref(maps:get(<<"y">>, Object)).

arrays_and_bytearrays_are_lists_and_binaries(_Config) ->
    {ok, [1, -2, 3]} = py:eval(<<"__import__('array').array('i', [1, -2, 3])">>),
    {ok, [1.5]} = py:eval(<<"__import__('array').array('d', [1.5])">>),
    {ok, []} = py:eval(<<"__import__('array').array('b')">>),
    {ok, <<"abc", 255>>} = py:eval(<<"bytearray(b'abc\\xff')">>),
    {ok, <<0, 0, 0>>} = py:eval(<<"__import__('mmap').mmap(-1, 3)">>),
    ok = py:exec(<<"class Own(bytearray): pass">>),
    {ok, [<<"own">>, {<<>>}]} = py:eval(<<"[Own(b'own'), (bytearray(),)]">>).

memoryviews_are_lists_or_binaries(_Config) ->
    {ok, <<"abc">>} = py:eval(<<"memoryview(b'abc')">>),
    {ok, <<"ac">>} = bytes_or_list(py:eval(<<"memoryview(b'abc')[::2]">>)),
    {ok, [1, 2]} = py:eval(<<"memoryview(__import__('array').array('h', [1, 2]))">>),
    {ok, [[1, 2], [3, 4]]} = py:eval(<<"memoryview(bytes([1, 2, 3, 4])).cast('B', (2, 2))">>),
    ?ERROR('ValueError', _) = py:eval(<<"(lambda m: (m.release(), m)[1])(memoryview(b'abc'))">>).

bytes_or_list({ok, List}) when is_list(List) -> {ok, list_to_binary(List)};
bytes_or_list(Other) -> Other.

numpy_values_are_numbers_and_lists(_Config) ->
    py_test:has_python_module(numpy) orelse throw({skip, "numpy is not installed for this Python"}),
    ok = py:exec(<<"import numpy as np">>),
    [?assertEqual({ok, Value}, py:eval(["np.", Code]))
     || {Code, Value} <- [{"int8(-5)", -5}, {"uint64(2 ** 64 - 1)", (1 bsl 64) - 1}, {"float64(1.5)", 1.5}, {"float32(0.5)", 0.5},
                          {"float64('nan')", nan}, {"bool_(True)", true}, {"str_('text')", <<"text">>}, {"bytes_(b'\\xff')", <<255>>},
                          {"array([1, 2, 3])", [1, 2, 3]}, {"arange(6).reshape(2, 3)", [[0, 1, 2], [3, 4, 5]]},
                          {"array([1.5, float('inf')])", [1.5, infinity]}, {"array([])", []}, {"array(5)", 5},
                          {"array([True, False])", [true, false]}, {"array(['a', 'b'])", [<<"a">>, <<"b">>]},
                          {"arange(6)[::2]", [0, 2, 4]}, {"zeros((0, 3))", []},
                          {"datetime64('2026-11-21')", <<"2026-11-21">>}]],
    {ok, #{<<"a">> := [1.0, 2.0], 3 := 4}} = py:eval(<<"{'a': np.array([1.0, 2.0]), np.int64(3): np.int64(4)}">>),
    {ok, [1, <<"x">>]} = py:eval(<<"np.array([1, 'x'], dtype=object)">>).

%% For the interpreter of this process; other cases define other types.
encoder(Code) ->
    ok = py:exec(["import erlang\n", Code]).

an_encoder_encodes_its_type_and_what_is_derived_from_it(_Config) ->
    encoder("class Point:\n    def __init__(self, x): self.x = x\n"
            "class Derived(Point): pass\n"
            "class Other(Derived): pass\n"),
    {ok, Before} = py:eval(<<"Derived(1)">>),
    true = py:is_ref(Before),
    encoder("erlang.register_encoder(Point, lambda p: {'x': p.x})\n"),
    {ok, [#{<<"x">> := 1}, {#{<<"x">> := 2}}, #{<<"k">> := #{<<"x">> := 3}}]} =
        py:eval(<<"[Point(1), (Derived(2),), {'k': Other(3)}]">>),
    %% The nearest wins, and the last one for the same type.
    encoder("erlang.register_encoder(Derived, lambda p: 'derived')\n"),
    {ok, [#{<<"x">> := 1}, <<"derived">>, <<"derived">>]} = py:eval(<<"[Point(1), Derived(2), Other(3)]">>),
    encoder("erlang.register_encoder(Derived, lambda p: 'again')\n"),
    {ok, <<"again">>} = py:eval(<<"Other(3)">>),
    %% It wins over what is built in, for types derived from builtin ones too.
    encoder("import datetime\n"
            "class Day(datetime.date): pass\n"
            "class Text(str): pass\n"
            "erlang.register_encoder(Day, lambda d: d.toordinal())\n"
            "erlang.register_encoder(Text, lambda t: ('text', str.__str__(t)))\n"),
    {ok, [1, <<"0001-01-01">>, {<<"text">>, <<"a">>}]} = py:eval(<<"[Day(1, 1, 1), datetime.date(1, 1, 1), Text('a')]">>),
    %% Callbacks get what it makes.
    ok = py:register_function(f, fun(Args) -> Args end),
    {ok, [<<"again">>]} = py:eval(<<"erlang.call('f', Derived(1))">>).

an_encoder_may_make_what_needs_encoding(_Config) ->
    encoder("import datetime\n"
            "class A:\n    def __init__(self, x): self.x = x\n"
            "class B(A): pass\n"
            "erlang.register_encoder(A, lambda a: [a.x, datetime.date(1, 1, 1)])\n"
            "erlang.register_encoder(B, lambda b: A(b.x))\n"),
    {ok, [[1, <<"0001-01-01">>], <<"0001-01-01">>]} = py:eval(<<"B(B(1))">>),
    {ok, [Object, _]} = py:eval(<<"A(object())">>),
    true = py:is_ref(Object).

an_encoder_that_fails_fails_the_call(_Config) ->
    encoder("class Bad: pass\n"
            "def fail(x): raise KeyError('in encoder')\n"
            "erlang.register_encoder(Bad, fail)\n"),
    ?ERROR('KeyError', _) = py:eval(<<"Bad()">>),
    ?ERROR('KeyError', _) = py:eval(<<"[1, {'a': (Bad(),)}]">>),
    {ok, 4.0} = py:call(math, sqrt, [16]).

encoders_without_end_are_an_error(_Config) ->
    encoder("class Same: pass\n"
            "class More: pass\n"
            "erlang.register_encoder(Same, lambda x: x)\n"
            "erlang.register_encoder(More, lambda x: [More()])\n"),
    [begin
         {Time, ?REFUSED([result | _])} = py_test:milliseconds(fun() -> py:eval(Code) end),
         ?assert(Time < 60000 orelse Time)
     end || Code <- ["Same()", "[Same()]", "More()"]],
    {ok, 4.0} = py:call(math, sqrt, [16]).

an_encoder_of_a_builtin_type_is_refused(_Config) ->
    encoder(""),
    [?ERROR('TypeError', _) = py:exec(["erlang.register_encoder(", Args, ")"])
     || Args <- ["int, str", "str, len", "float, str", "bool, str", "type(None), str", "bytes, len", "list, len", "tuple, len",
                 "dict, len", "erlang.Atom, len", "erlang.Pid, str", "1, len", "'int', len", "object, 5"]],
    ok.

a_decoder_makes_the_value_of_its_tuples(_Config) ->
    encoder("class Point:\n"
            "    def __init__(self, *xs): self.xs = xs\n"
            "erlang.register_decoder('point', Point)\n"
            "erlang.register_decoder(erlang.atom('z\xc5\xbc'), lambda *a: ['z', *a])\n"),
    {ok, [<<"Point">>, {1, [2]}]} = py:eval(<<"[type(p).__name__, p.xs]">>, #{p => {point, 1, [2]}}),
    {ok, {}} = py:eval(<<"p.xs">>, #{p => {point}}),
    {ok, [{1}, {2}]} = py:eval(<<"[x.xs for x in (l[0], m['k'])]">>, #{l => [{point, 1}], m => #{k => {point, 2}}}),
    {ok, {<<"Point">>, 1}} = py:eval(<<"(type(p.xs[0]).__name__, p.xs[0].xs[0])">>, #{p => {point, {point, 1}}}),
    %% Only a tuple with that atom in front is one.
    [same(X) || X <- [{<<"point">>, 1}, [point, 1], {1, point}, point]],
    %% Back it is what it is in Python.
    {ok, Handle} = py_test:through({point, 1}),
    true = py:is_ref(Handle),
    encoder("erlang.register_encoder(Point, lambda p: (erlang.atom('point'), *p.xs))\n"),
    same([{point, 1, {point, [{point}]}}]).

a_decoder_that_fails_fails_the_call(_Config) ->
    encoder("calls = []\n"
            "def f(*a): calls.append(a)\n"
            "def fail(*a): raise KeyError('in decoder')\n"
            "erlang.register_decoder('failing', fail)\n"),
    ?ERROR('KeyError', _) = py:call('__main__', f, [{failing, 1}]),
    ?ERROR('KeyError', _) = py:call('__main__', f, [1, [#{a => {failing}}]], #{}),
    encoder("erlang.register_decoder('needs_two', lambda a, b: a)\n"),
    ?ERROR('TypeError', _) = py:call('__main__', f, [{needs_two, 1}]),
    {ok, []} = py:eval(<<"calls">>).

a_decoder_of_an_instruction_is_refused(_Config) ->
    encoder(""),
    [?ERROR('ValueError', _) = py:exec(["erlang.register_decoder('", Tag, "', len)"]) || Tag <- ["bytes", "buffer"]],
    [?ERROR('TypeError', _) = py:exec(["erlang.register_decoder(", Args, ")"]) || Args <- ["1, len", "'tag', 5", "None, len"]],
    ok.

%%% Depth

nested(0, _Wrap, Inner) -> Inner;
nested(N, Wrap, Inner) -> nested(N - 1, Wrap, Wrap(Inner)).

wraps() ->
    [fun(X) -> [X] end, fun(X) -> {X} end, fun(X) -> #{a => X} end, fun(X) -> [1, {#{b => X}}] end].

%% Of each level: a list, a tuple or a map.
values_nested_10000_deep_come_back(_Config) ->
    [A, B, C, D] = wraps(),
    [same(nested(10000, Wrap, 1)) || Wrap <- [A, B, C]],
    same(nested(3333, D, 1)),
    Deep = nested(10000, A, 1),
    {ok, Deep} = deep_in_python(10000),
    ok.

deep_in_python(N) ->
    ok = py:exec(<<"def deep(n):\n    x = 1\n    for _ in range(n): x = [x]\n    return x\n">>),
    py:call('__main__', deep, [N]).

%% Without the values in the error, which would be printed.
is_same(Value) ->
    case py_test:through(Value) of
        {ok, Back} -> Back =:= Value;
        {error, Reason} -> element(1, Reason)
    end.

a_value_nested_a_million_deep_comes_back(_Config) ->
    N = py_test:fewer(1000000),
    [begin
         Deep = nested(N, Wrap, 1),
         {Time, true} = py_test:milliseconds(fun() -> is_same(Deep) end),
         ct:log("~.1f ms", [Time])
     end || Wrap <- wraps()],
    {ok, true} = py:call(builtins, bool, [nested(N, hd(wraps()), 1)]),
    {ok, 4.0} = py:call(math, sqrt, [16]).

an_object_nested_a_million_deep_becomes_a_term(_Config) ->
    N = py_test:fewer(1000000),
    Deep = nested(N, hd(wraps()), 1),
    {ok, Back} = deep_in_python(N),
    true = Back =:= Deep,
    ok = py:exec(<<"def deep_dict(n):\n    x = ()\n    for _ in range(n): x = {'k': x}\n    return x\n">>),
    {ok, Map} = py:call('__main__', deep_dict, [N]),
    N = depth(Map, 0).

depth(#{<<"k">> := Inner}, N) -> depth(Inner, N + 1);
depth({}, N) -> N.

a_place_a_million_deep_is_told(_Config) ->
    N = py_test:fewer(1000000),
    {error, {conversion, _, [args, 1 | Where]}} =
        py:call(builtins, bool, [nested(N, fun(X) -> {X} end, #{1 => a, 1.0 => b})]),
    N = length(Where) - 1,
    ok = py:exec(<<"def deep_bad(n):\n    x = '\\ud800'\n    for _ in range(n): x = [x]\n    return x\n">>),
    {error, {conversion, _, [result | Path]}} = py:call('__main__', deep_bad, [N]),
    N = length(Path).

%% However the circle is made, and wherever it begins.
what_contains_itself_is_refused(_Config) ->
    ok = py:exec(<<"l = []\nl.append(l)\nd = {}\nd['d'] = d\n"
                   "t = ([],)\nt[0].append(t)\n"
                   "a, b = [], {}\na.append(b)\nb['a'] = a\n"
                   "def tail(n):\n    x = y = []\n    for _ in range(n): z = []; x.append(z); x = z\n    x.append(y)\n    return y\n"
                   "class C(list): pass\nc = C()\nc.append(c)\n">>),
    [begin
         {Time, ?REFUSED([result | _])} = py_test:milliseconds(fun() -> py:eval(Code) end),
         ?assert(Time < 60000 orelse Time)
     end || Code <- ["l", "d", "t", "a", "b", "[1, l]", "(d,)", "{'x': t}", "tail(1)", "tail(31)", "tail(32)", "tail(33)", "tail(10000)",
                     "[[]] * 3 + [tail(100)]", "c"]],
    {error, {conversion, What, [result, 1]}} = py:eval(<<"l">>),
    ?assertMatch({_, _}, binary:match(What, <<"contains itself">>)),
    {ok, 4.0} = py:call(math, sqrt, [16]).

%% The same object at many places is no circle.
a_wide_and_deep_value_that_is_shared_comes_back(_Config) ->
    ok = py:exec(<<"x = [1]\nfor _ in range(14): x = [x, (x,)]\n">>),
    {ok, X} = py:eval(<<"x">>),
    Shared = lists:foldl(fun(_, Y) -> [Y, {Y}] end, [1], lists:seq(1, 14)),
    true = X =:= Shared,
    same(Shared).

%% 2000 times a value of about 100 KB, both ways, taken and refused, grows nothing that
%% stays: at 200 MB all would be lost.
conversion_does_not_leak(_Config) ->
    Value = [lists:seq(1, 2000), binary:copy(<<"x">>, 50000), #{a => binary:copy(<<255>>, 20000)},
             1 bsl 10000, list_to_tuple(lists:seq(1, 500))],
    Refused = Value ++ [#{1 => a, 1.0 => b}],
    Round = fun() ->
                    [begin
                         {ok, Value} = py_test:through(Value),
                         ?REFUSED(_) = py_test:through(Refused),
                         ?REFUSED(_) = py:eval(<<"[v, '\\ud800']">>, #{v => Value})
                     end || _ <- lists:seq(1, 200)],
                    {ok, _} = py:call(gc, collect, []),
                    erlang:garbage_collect()
            end,
    [Round() || _ <- lists:seq(1, 3)],
    py_test:grows_less(30 bsl 20, fun() -> [Round() || _ <- lists:seq(1, 10)] end).

%% In all 1,000,000 values of all kinds, a thousand in each request.
a_million_conversions_leave_memory_flat(_Config) ->
    encoder("import datetime, decimal\n"
            "class Own: pass\n"
            "erlang.register_encoder(Own, lambda x: {'own': [1]})\n"
            "mixed = [1, 2 ** 70, 1.5, 'text', b'\\xff', None, (1, [2]), {'k': {3: 4}}, {5}, datetime.date(1, 1, 1), decimal.Decimal(1),\n"
            "         Own(), bytearray(b'x' * 100), 'x' * 100, erlang.atom('a')]\n"),
    Values = lists:append(lists:duplicate(20, opaque() ++ [1, 1 bsl 70, 1.5, <<"text">>, <<255>>, none, {1, [2]}, #{k => #{3 => 4}},
                                                           #{[1] => {buffer, binary:copy(<<"x">>, 100)}}, binary:copy(<<"y">>, 100),
                                                           {bytes, <<"b">>}, abc])),
    PerRound = py_test:fewer(100) * 2 * length(Values),
    Round = fun() ->
                    [begin
                         {ok, Back} = py:eval(<<"(v, mixed * n)">>, #{v => Values, n => length(Values) div 15}),
                         2 = tuple_size(Back)
                     end || _ <- lists:seq(1, py_test:fewer(100))],
                    {ok, _} = py:gc(),
                    erlang:garbage_collect()
            end,
    [Round() || _ <- lists:seq(1, 3)],
    Rounds = 1000000 div PerRound + 1,
    ct:log("~b rounds of ~b values", [min(Rounds, 10), PerRound]),
    py_test:grows_less(15 bsl 20, fun() -> [Round() || _ <- lists:seq(1, min(Rounds, 10))] end).

%% The iterator of a subclass of set runs while the dict is read, and empties it.
a_dict_that_changes_while_it_is_converted_harms_nothing(_Config) ->
    ok = py:exec(<<"
class Evil(set):
    def __iter__(self):
        d.clear()
        return super().__iter__()
d = {}
def fill():
    d.update({'k': ['a' * 40, Evil([1]), 'b' * 60, 'c' * 60], 'z': 'keep'})
    return d
">>),
    Whole = #{<<"k">> => [binary:copy(<<"a">>, 40), [1], binary:copy(<<"b">>, 60),
                          binary:copy(<<"c">>, 60)],
              <<"z">> => <<"keep">>},
    [case py:call('__main__', fill, []) of
         {ok, Whole} -> ok; % read from a copy
         {error, {'RuntimeError', _}} -> ok
     end || _ <- lists:seq(1, 100)].

large_dicts_come_back(_Config) ->
    [begin
         {ok, Map} = py:eval(<<"{i: str(i) for i in range(n)}">>, #{n => N}),
         N = map_size(Map),
         true = lists:all(fun({K, V}) -> V =:= integer_to_binary(K) end, maps:to_list(Map))
     end || N <- [0, 1, 2, 31, 32, 33, 34, 100, 127, 128, 129, 130, 257, 10000]],
    [?REFUSED([result]) = py:eval(<<"{**{i: 0 for i in range(n)}, 'a': 1, b'a': 2}">>, #{n => N})
     || N <- [2, 29, 30, 31, 100, 125, 126, 127, 128, 1000]],
    ok.

large_dicts_within_each_other_come_back(_Config) ->
    Entries = maps:from_list([{<<"k", (integer_to_binary(I))/binary>>, I} || I <- lists:seq(0, 149)]),
    ok = py:exec(<<"def entries(): return {'k%d' % i: i for i in range(150)}\n"
                   "def deep(n, x):\n"
                   "    for i in range(n): x = {**entries(), 'in': [x]}\n"
                   "    return x\n">>),
    Nested = lists:foldl(fun(_, In) -> Entries#{<<"in">> => [In]} end, Entries, lists:seq(1, 20)),
    {ok, Nested} = py:eval(<<"deep(20, entries())">>),
    ?REFUSED([result, {value, <<"in">>}, 1, {value, <<"in">>}, 1]) = py:eval(<<"deep(2, '\\ud800')">>).

%% Many with the same keys, and with those in another order.
dicts_with_the_same_keys_come_back(_Config) ->
    [begin
         Rows = [maps:from_list([{<<"c", (integer_to_binary(J))/binary>>, {I, J}} || J <- lists:seq(1, K)])
                 || I <- lists:seq(1, 50)],
         {ok, Rows} = py:eval(<<"[{'c%d' % j: (i, j) for j in range(1, k + 1)} for i in range(1, 51)]">>, #{k => K}),
         {ok, Rows} = py:eval(<<"[{x: r[x] for x in (list(r) if i % 2 else list(r)[::-1])} for i, r in enumerate(rows)]">>,
                              #{rows => Rows}),
         {ok, Rows} = py:call(copy, copy, [Rows])
     end || K <- [1, 2, 5, 17, 31, 32, 33, 128, 129]],
    ok.
