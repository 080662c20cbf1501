%% SPDX-License-Identifier: Apache-2.0
%%
%% Values by chance: PropEr makes terms that go to Python and come back, Hypothesis makes
%% Python values that go to Erlang and come back.  What is not to come back equal is told
%% here once more, in the words of each side: the exceptions that docs/guide/values.md
%% names, and keys that are different on one side and equal on the other.
%%
%% When a value fails, smaller ones are tried, and the smallest that fails is in the error.
-module(py_property_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1]).
-export([terms_come_back_from_Python/1,
         terms_come_back_within_other_terms/1,
         maps_with_any_keys_come_back/1,
         large_terms_come_back/1,
         terms_come_back_from_other_processes_at_once/1,
         terms_are_equal_and_hashed_alike_in_Python/1,
         values_come_back_from_Erlang/1,
         dicts_with_any_keys_come_back_from_Erlang/1,
         the_options_hold_for_every_binary_and_atom/1]).

%% PropEr's header does not come with Debian's package; these are its words that are used.
%% The functions behind them are called by name, so that this compiles without PropEr.
-define(LET(X, Type, Generator), proper_types:bind(Type, fun(X) -> Generator end, false)).
-define(SIZED(Size, Generator), proper_types:sized(fun(Size) -> Generator end)).
-define(LAZY(Generator), proper_types:lazy(fun() -> Generator end)).

%% Of all properties together, in each mode.
-define(TERMS, 10000).

suite() -> [{timetrap, {minutes, 5}}].

all() -> py_test:cases(?MODULE).

init_per_suite(Config) -> py_test:start(Config).

end_per_suite(Config) -> py_test:stop(Config).

%%% Terms

terms_come_back_from_Python(_Config) ->
    holds(?TERMS div 2, term(), fun comes_back/1).

terms_come_back_within_other_terms(_Config) ->
    holds(?TERMS div 10, {term(), term(), term()}, fun({A, B, C}) -> comes_back([{A, [B | C]}, #{1 => A, x => [B, {C}]}]);
                                                     (Part) -> comes_back(Part)
                                                  end).

maps_with_any_keys_come_back(_Config) ->
    holds(?TERMS div 10, map_of(term(), scalar()), fun comes_back/1).

large_terms_come_back(_Config) ->
    holds(40, proper_types:resize(300, term()), fun comes_back/1).

%% Each with terms of its own.
terms_come_back_from_other_processes_at_once(_Config) ->
    needs_proper(),
    Work = fun() -> holds(?TERMS div 80, term(), fun comes_back/1), done end,
    ?assertEqual(lists:duplicate(8, done), py_test:at_once(lists:duplicate(8, Work))).

%% What arrives twice is equal to itself, and a key under which the other is found.  The
%% order is Erlang's, in which different terms may come at the same place (as two funs that
%% differ by the digest of their module alone do in newer releases of OTP).
terms_are_equal_and_hashed_alike_in_Python(_Config) ->
    ok = py:exec(<<"import erlang\n"
                   "def alike(x, y, other, *order):\n"
                   "    if not isinstance(x, erlang.Term): return (True,)\n"
                   "    return (x == y, not x != y, hash(x) == hash(y), {x: 1}.get(y) == 1, x <= y and not x < y,\n"
                   "            repr(x) == repr(y), (x == other, x < other, x > other) == order\n"
                   "            if isinstance(other, erlang.Term) else x != other)\n">>),
    Others = proper_types:oneof([opaque(), remote_fun_like(), scalar()]),
    holds(?TERMS div 12, {proper_types:oneof([opaque(), remote_fun_like()]), Others},
          fun({Term, Other}) ->
                  Order = [Term =:= Other, Term < Other, Term > Other],
                  case py:call('__main__', alike, [Term, copy(Term), Other | Order]) of
                      {ok, Facts} -> lists:usort(tuple_to_list(Facts)) =:= [true] orelse told(Facts);
                      Error -> told(Error)
                  end;
             (_Part) ->
                  true
          end).

copy(Term) -> binary_to_term(term_to_binary(Term)).

%% Atoms or binaries are of no other type then, wherever they are.
the_options_hold_for_every_binary_and_atom(_Config) ->
    ok = py:exec(<<"import erlang\n"
                   "def kinds(x, found):\n"
                   "    if type(x) is dict:\n"
                   "        for k, v in x.items(): kinds(k, found), kinds(v, found)\n"
                   "    elif type(x) in (list, tuple):\n"
                   "        for y in x: kinds(y, found)\n"
                   "    else: found.add(type(x))\n"
                   "    return found\n"
                   "def no_atom(x): return erlang.Atom not in kinds(x, set())\n"
                   "def no_str(x): return str not in kinds(x, set())\n">>),
    Holds = fun(Function, Options) ->
                    fun(Term) ->
                            case py:call('__main__', Function, [Term], #{}, {opts, Options}) of
                                {ok, true} -> true;
                                {error, {conversion, _, _}} = Error -> collides(Term) orelse told(Error);
                                Other -> told(Other)
                            end
                    end
            end,
    holds(?TERMS div 24, term(), Holds(no_atom, #{atom => str})),
    holds(?TERMS div 24, term(), Holds(no_str, #{binary => bytes})).

%% The property for so many terms.  Part by part is smaller than what PropEr's own search
%% leads to.
holds(N, Type, Holds) ->
    needs_proper(),
    %% Debian's PropEr cannot tell of exceptions since OTP 24.
    Property = proper:forall(Type, fun(Term) ->
                                           try Holds(Term)
                                           catch Class:Reason:Stack -> told({Class, Reason, Stack})
                                           end
                                   end),
    Options = [quiet, noshrink, {numtests, py_test:fewer(N)}, {max_size, 24}],
    case proper:counterexample(Property, Options) of
        true -> ok;
        [Term] -> error({does_not_hold_for, smallest(Term, Holds)})
    end.

smallest(Term, Holds) ->
    case [Part || Part <- parts(Term), not Holds(Part)] of
        [Part | _] -> smallest(Part, Holds);
        [] -> Term
    end.

parts(Tuple) when is_tuple(Tuple) -> parts(tuple_to_list(Tuple)) ++ without_one(Tuple);
parts([Head | Tail]) -> [Head, Tail];
parts(Map) when map_size(Map) =:= 1 -> maps:keys(Map) ++ maps:values(Map);
parts(Map) when is_map(Map) -> maps:values(Map) ++ [maps:remove(Key, Map) || Key <- maps:keys(Map)];
parts(_) -> [].

without_one(Tuple) -> [erlang:delete_element(I, Tuple) || I <- lists:seq(1, tuple_size(Tuple))].

needs_proper() ->
    code:which(proper) =/= non_existing orelse throw({skip, "PropEr (erlang-proper) is not installed"}),
    ok.

comes_back(Term) ->
    case py:eval(<<"value">>, #{value => Term}) of
        {ok, Back} ->
            Expected = back(Term),
            (Back =:= Expected andalso not collides(Term)) orelse told(Back);
        {error, {conversion, _, _}} = Error ->
            collides(Term) orelse told(Error);
        Error ->
            told(Error)
    end.

told(What) ->
    ct:log("~tp", [What]),
    false.

%% What a term becomes on its way: itself, but for the documented exceptions.
back(nil) -> none;
back(undefined) -> none;
back({Instruction, Binary}) when Instruction =:= bytes orelse Instruction =:= buffer, is_binary(Binary) -> Binary;
back(Tuple) when is_tuple(Tuple) -> list_to_tuple(back(tuple_to_list(Tuple)));
back(List) when is_list(List), length(List) >= 0 -> [back(Element) || Element <- List];
back(Map) when is_map(Map) -> maps:from_list([{back_key(K), back(V)} || {K, V} <- maps:to_list(Map)]);
back(Term) -> Term.

%% A key that Python cannot hash arrives whole, and as it is.
back_key(Key) ->
    case is_hashable(Key) of
        true -> back(Key);
        false -> Key
    end.

is_hashable(Tuple) when is_tuple(Tuple) -> lists:all(fun is_hashable/1, tuple_to_list(Tuple));
is_hashable(List) when is_list(List), length(List) >= 0 -> false;
is_hashable(Term) -> not is_map(Term).

%% Has a map in it two keys that are equal in Python, or that come back equal?
collides(Map) when is_map(Map) ->
    Keys = maps:keys(Map),
    different([in_python(K) || K <- Keys]) < length(Keys)
        orelse different([back_key(K) || K <- Keys]) < length(Keys)
        orelse lists:any(fun collides/1, maps:values(Map));
collides({Instruction, Binary}) when Instruction =:= bytes orelse Instruction =:= buffer, is_binary(Binary) -> false;
collides(Tuple) when is_tuple(Tuple) -> collides(tuple_to_list(Tuple));
collides(List) when is_list(List), length(List) >= 0 -> lists:any(fun collides/1, List);
collides(_) -> false.

%% How many, by =:=.
different(Terms) ->
    map_size(maps:from_list([{Term, x} || Term <- Terms])).

%% Terms that are equal exactly if the keys are equal in Python.
in_python(true) -> {number, 1};
in_python(false) -> {number, 0};
in_python(None) when None =:= none; None =:= nil; None =:= undefined -> none;
in_python(Atom) when is_atom(Atom) -> {str, atom_to_binary(Atom)};
in_python(Integer) when is_integer(Integer) -> {number, Integer};
in_python(Float) when is_float(Float), trunc(Float) == Float -> {number, trunc(Float)};
in_python(Float) when is_float(Float) -> {float, Float};
in_python(Binary) when is_binary(Binary) ->
    case unicode:characters_to_binary(Binary) of
        Binary -> {str, Binary};
        _ -> {bytes, Binary}
    end;
in_python({Instruction, Binary}) when Instruction =:= bytes orelse Instruction =:= buffer, is_binary(Binary) ->
    {bytes, Binary};
in_python(Tuple) when is_tuple(Tuple) ->
    case is_hashable(Tuple) of
        true -> {tuple, [in_python(Element) || Element <- tuple_to_list(Tuple)]};
        false -> {term, {Tuple}}
    end;
in_python(Term) -> {term, {Term}}.

%%% What the terms are made of

%% Containers of smaller terms.
term() ->
    ?SIZED(Size, term(Size)).

term(Size) when Size < 2 ->
    scalar();
term(Size) ->
    Half = ?LAZY(term(Size div 2)),
    Part = ?LAZY(term(Size div 5)),
    proper_types:frequency([{6, scalar()},
                            {3, list_of(Part)},
                            {3, tuple_of(Part)},
                            {3, map_of(Part, Part)},
                            {1, {Half}}, {1, [Half]},
                            {1, ?LET({List, Tail}, {proper_types:non_empty(list_of(Part)), Part}, List ++ Tail)},
                            {1, {proper_types:oneof([bytes, buffer, error, ok]), Part}}]).

%% Short ones, as there are many in each other.
list_of(Type) ->
    ?LET(Length, proper_types:frequency([{10, proper_types:integer(0, 4)}, {1, proper_types:integer(5, 40)}]),
         proper_types:vector(Length, Type)).

tuple_of(Type) ->
    ?LET(List, list_of(Type), list_to_tuple(List)).

map_of(Key, Value) ->
    ?LET(Pairs, list_of({Key, Value}), maps:from_list(Pairs)).

scalar() ->
    proper_types:frequency([{4, integer()}, {2, float()}, {3, atom()}, {3, text()}, {2, proper_types:binary()},
                            {1, proper_types:bitstring()}, {3, opaque()}, {1, large_binary()}]).

integer() ->
    proper_types:oneof([proper_types:integer(-3, 3), proper_types:integer(),
                        ?LET({Sign, Bits, Delta}, {proper_types:elements([1, -1]), proper_types:integer(0, 300),
                                                   proper_types:integer(-2, 2)},
                             Sign * (1 bsl Bits) + Delta)]).

%% Some are equal to integers.
float() ->
    proper_types:oneof([proper_types:float(), ?LET(I, proper_types:integer(-3, 3), float(I)),
                        ?LET(Bits, proper_types:integer(0, 300), float(1 bsl Bits)),
                        ?LET(Bits, proper_types:binary(8), case Bits of <<F/float>> -> F; _ -> 0.5 end)]).

%% Of a fixed set, as atoms are never freed; some are equal to texts, some look like something else.
atom() ->
    proper_types:oneof([proper_types:elements([true, false, none, nil, undefined]),
                        proper_types:elements([a, b, c, ok, error, '', 'żółć', '\n', 'None', 'True', null, nan, infinity,
                                               bytes, buffer, 'a b', '__class__', py, list_to_atom(lists:duplicate(255, $x)),
                                               binary_to_atom(<<16#1F40D/utf8>>), binary_to_atom(<<0>>)])]).

text() ->
    proper_types:oneof([proper_types:elements([<<>>, <<"a">>, <<"b">>, <<"c">>, <<"ok">>, <<"żółć"/utf8>>, <<"None">>]),
                        ?LET(Chars, proper_types:list(character()), unicode:characters_to_binary(Chars))]).

character() ->
    proper_types:oneof([proper_types:integer(0, 127), proper_types:integer(0, 16#D7FF), proper_types:integer(16#E000, 16#10FFFF)]).

%% Beyond the 64 bytes that are kept in the heap of a process; sometimes a part of another.
large_binary() ->
    ?LET({N, Chunk, Skip}, {proper_types:integer(64, 2000), proper_types:oneof([<<"text ">>, <<255, 0>>]), proper_types:integer(0, 60)},
         begin <<_:Skip/binary, Rest/binary>> = binary:copy(Chunk, N), Rest end).

%% What Python does not look into.  Those of other nodes need no other node.
opaque() ->
    proper_types:oneof([?LAZY(self()), ?LAZY(make_ref()), ?LAZY(hd(erlang:ports())), remote_pid(), remote_ref(), remote_port(), local_fun(),
                        remote_fun(), fun erlang:abs/1, fun no_such_module:no_such_function/255,
                        ?LET(Bits, proper_types:bitstring(), <<Bits/bitstring, 1:1>>),
                        ?LET({A, B}, {proper_types:list(atom()), atom()}, [x | A] ++ B)]).

number(Bits) ->
    ?LET(Exponent, proper_types:integer(1, Bits), ?LET(N, proper_types:integer(0, (1 bsl Exponent) - 1), N)).

node_name() ->
    proper_types:elements(['x@far', 'y@further', 'żółć@host'] ++ nodes()).

%% As the external term format has them.
from_external(Data) ->
    binary_to_term(<<131, Data/binary>>).

external(Atom) ->
    <<131, Data/binary>> = term_to_binary(Atom),
    Data.

remote_pid() ->
    ?LET({Node, Id, Serial, Creation}, {node_name(), number(28), number(28), number(32)},
         from_external(remote_pid(Node, Id, Serial, Creation))).

remote_pid(Node, Id, Serial, Creation) ->
    <<88, (external(Node))/binary, Id:32, Serial:32, Creation:32>>.

remote_port() ->
    ?LET({Node, Id, Creation}, {node_name(), number(28), number(32)},
         from_external(<<89, (external(Node))/binary, Id:32, Creation:32>>)).

%% Of three or five numbers, as nodes make them; those of one are hashed wrongly by OTP 25.
remote_ref() ->
    ?LET({Node, Creation, A, Ids}, {node_name(), number(32), number(18),
                                    proper_types:oneof([proper_types:vector(N, number(32)) || N <- [2, 4]])},
         from_external(<<90, (1 + length(Ids)):16, (external(Node))/binary, Creation:32, A:32, << <<I:32>> || I <- Ids >>/binary>>)).

local_fun() ->
    ?LET({A, B}, {?LAZY(integer()), atom()},
         proper_types:elements([fun() -> A end, fun(X) -> {X, A, B} end, fun Named(X) -> {Named, X, A} end])).

%% Of a module that is not loaded here, and made by a process elsewhere.
remote_fun() ->
    ?LET({Node, Id, Arity, Uniq, Index}, {node_name(), number(28), proper_types:integer(0, 5), proper_types:binary(16), number(16)},
         remote_fun(Node, Id, Arity, Uniq, Index)).

%% Often equal to each other, or different by the digest of the module alone.
remote_fun_like() ->
    ?LET(Digest, proper_types:integer(0, 1), remote_fun('x@far', 1, 2, <<Digest:128>>, 1)).

remote_fun(Node, Id, Arity, Uniq, Index) ->
    Body = <<Arity, Uniq/binary, Index:32, 1:32, (external(far_module))/binary, (external(Index))/binary,
             (external(Index * 7))/binary, (remote_pid(Node, Id, 1, 2))/binary, (external({free, Id}))/binary>>,
    from_external(<<112, (4 + byte_size(Body)):32, Body/binary>>).

%%% Python's values

%% Debian has it for its own Python; it is pure Python, so any other can use it from there.
%% A directory of its own keeps what is not pure from being found.
needs_hypothesis(Config) ->
    From = "/usr/lib/python3/dist-packages",
    filelib:is_dir(filename:join(From, "hypothesis"))
        orelse throw({skip, "Hypothesis (python3-hypothesis) is not installed"}),
    Dir = filename:join(proplists:get_value(priv_dir, Config), "hypothesis"),
    ok = filelib:ensure_dir(filename:join(Dir, "x")),
    [_ = file:make_symlink(File, filename:join(Dir, filename:basename(File)))
     || Pattern <- ["hypothesis", "_hypothesis_*.py", "attr", "attrs", "sortedcontainers", "exceptiongroup"],
        File <- filelib:wildcard(filename:join(From, Pattern))],
    ok = py:exec(["import sys\nsys.dont_write_bytecode = True\nsys.path.append('", Dir, "')\n"]),
    case py:exec(<<"import hypothesis">>) of
        ok -> ok;
        {error, {Type, Message}} -> throw({skip, lists:flatten(io_lib:format("Hypothesis: ~ts: ~ts", [Type, Message]))})
    end,
    ok = py:register_function(same, fun([X]) -> X end),
    ok = py:register_function(opaque, fun([]) -> some_opaque() end),
    ok = py:exec(python_side()).

some_opaque() ->
    [[a | b], self(), make_ref(), hd(erlang:ports()), fun erlang:abs/1, fun() -> 1 end, <<1:3>>,
     from_external(remote_pid('x@far', 1, 2, 3))].

values_come_back_from_Erlang(Config) ->
    needs_hypothesis(Config),
    {ok, Made} = py:eval(<<"check(values, n)">>, #{n => py_test:fewer(600)}),
    ct:log("~b values", [Made]),
    true = Made >= py_test:fewer(600).

dicts_with_any_keys_come_back_from_Erlang(Config) ->
    needs_hypothesis(Config),
    {ok, Made} = py:eval(<<"check(st.dictionaries(keys, scalars, max_size=8), n)">>, #{n => py_test:fewer(300)}),
    true = Made >= py_test:fewer(300).

python_side() -> <<"
import erlang, math
import hypothesis
from hypothesis import strategies as st, HealthCheck

opaque = erlang.call('opaque')
atoms = [erlang.atom(t) for t in ('a', 'b', 'ok', '', 'with space', '\\u017c', 'nan')]
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.integers(-2 ** 300, 2 ** 300),
    st.floats(allow_nan=False, allow_infinity=False), st.text(), st.binary(), st.sampled_from(['a', 'b', b'a', b'\\xff', 1, 1.0]),
    st.sampled_from(atoms), st.sampled_from(opaque))
keys = st.recursive(scalars, lambda k: st.lists(k, max_size=3).map(tuple), max_leaves=4)
values = st.recursive(
    scalars,
    lambda v: st.one_of(st.lists(v, max_size=6), st.lists(v, max_size=4).map(tuple), st.dictionaries(keys, v, max_size=5)),
    max_leaves=20)

# bytes that are text are text when they come back: Erlang has one type for both.
def back(x):
    if type(x) is bytes:
        try: return x.decode()
        except UnicodeDecodeError: return x
    if type(x) in (list, tuple): return type(x)(back(y) for y in x)
    if type(x) is dict: return {back(k): back(v) for k, v in x.items()}
    return x

def collides(x):
    if type(x) in (list, tuple): return any(collides(y) for y in x)
    if type(x) is dict: return len({back(k) for k in x}) < len(x) or any(collides(v) for v in x.values())
    return False

def same(x, y):
    if type(x) is not type(y): return False
    if type(x) in (list, tuple): return len(x) == len(y) and all(map(same, x, y))
    if type(x) is dict:
        if len(x) != len(y): return False
        theirs = {k: k for k in y}
        return all(k in y and same(k, theirs[k]) and same(v, y[k]) for k, v in x.items())
    if type(x) is float: return x == y and math.copysign(1, x) == math.copysign(1, y)
    return x == y and hash(x) == hash(y)

def check(strategy, n):
    made = 0
    @hypothesis.settings(max_examples=n, database=None, deadline=None, print_blob=False,
                         suppress_health_check=list(HealthCheck))
    @hypothesis.given(strategy)
    def comes_back(value):
        nonlocal made
        made += 1
        try: got = erlang.call('same', value)
        except erlang.ConversionError:
            assert collides(value), value
        else:
            assert not collides(value), value
            assert same(got, back(value)), (value, got)
    comes_back()
    return made
"/utf8>>.
