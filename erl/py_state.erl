%% SPDX-License-Identifier: Apache-2.0
%% @doc State that all processes of this node and all its interpreters share: a table of keys
%% and values, with counters that are counted up without a lock.
%%
%% An atom and a binary of the same text are the same key, as they are equal in Python; keys/0
%% says the binary.
%%
%% All of it answers `{error, not_running}' where the application does not run.
-module(py_state).

-export([fetch/1, store/2, remove/1, keys/0, clear/0, incr/1, incr/2, decr/1, decr/2]).
-export([new_table/0, forget/0, serve/2]).
-export_type([key/0]).

-type key() :: term().

%% Every change of an entry is a compare-and-swap on its stamp, which is unique.  The value of a
%% counter is in a cell of the library, which Python adds to without looking into the table.  So
%% a cell may leave the table only when it is dead: what is added to it from then on goes to the
%% table again.
%%
%%   plain    {Id, Key, Stamp, Value, none}
%%     |        incr/2: the sum goes into a cell
%%     v
%%   counter  {Id, Key, Stamp, none, Cell}
%%     |        store/2 of what fits into a cell, and incr/2, change the cell alone;
%%     |        store/2 of anything else: Next is {value, Value}; remove/1: delete;
%%     |        incr/2 that the cell has no room for: last
%%     v
%%   ending   {Id, Key, Stamp, Next, {ending, Cell}}
%%     |        whoever meets this kills the cell; what is next counts from that moment
%%     v
%%   plain, of the value or of what the cell held last; or nothing
-type id() :: binary() | number() | {binary()}.
-type entry() :: {id(), key(), Stamp :: integer(), term(), none | py_nif:cell() | {ending, py_nif:cell()}}.

-define(TABLE, ?MODULE).
%% Whoever killed a cell that had no room replaces its entry at once, unless it was killed too.
%% That is taken for granted after so many milliseconds.
-define(PATIENCE, 100).

%% @doc The value of a key.
-spec fetch(key()) -> {ok, term()} | {error, not_found | not_running}.
fetch(Key) ->
    in_table(fun() -> value(lookup(id(Key))) end).

%% @doc Sets the value of a key.
-spec store(key(), term()) -> ok | {error, not_running}.
store(Key, Value) ->
    in_table(fun() ->
                     Id = id(Key),
                     set(lookup(Id), Id, Key, Value)
             end).

%% @doc Takes a key out of the table.  One that is not there is no error.
-spec remove(key()) -> ok | {error, not_running}.
remove(Key) ->
    in_table(fun() -> _ = delete(Key), ok end).

%% @doc All keys, in no order.
-spec keys() -> [key()] | {error, not_running}.
keys() ->
    in_table(fun() -> ets:select(?TABLE, [{{'_', '$1', '_', '_', '_'}, [], ['$1']}]) end).

%% @doc Takes all keys out of the table that are there now.
-spec clear() -> ok | {error, not_running}.
clear() ->
    in_table(fun() ->
                     _ = ets:select_delete(?TABLE, [{{'_', '_', '_', '_', none}, [], [true]}]),
                     lists:foreach(fun(Entry) -> delete(Entry, element(1, Entry)) end, ets:tab2list(?TABLE))
             end).

%% @equiv incr(Key, 1)
-spec incr(key()) -> New :: integer() | {error, not_running | {py:exception(), binary()}}.
incr(Key) ->
    incr(Key, 1).

%% @doc Adds N to the integer of a key, of 0 if there is no such key, and gives the sum.  If
%% the value is none, it is an error and stays.
-spec incr(key(), N :: integer()) -> New :: integer() | {error, not_running | {py:exception(), binary()}}.
incr(Key, N) when is_integer(N) ->
    in_table(fun() ->
                     case add(Key, N) of
                         {New, _Cell} -> New;
                         not_an_integer -> type_error("the value of the key ~tP is no integer", [Key, 10])
                     end
             end);
incr(_Key, N) ->
    type_error("what is added must be an integer, not ~tP", [N, 10]).

%% @equiv decr(Key, 1)
-spec decr(key()) -> New :: integer() | {error, not_running | {py:exception(), binary()}}.
decr(Key) ->
    decr(Key, 1).

%% @doc Takes N from the integer of a key, as incr/2 adds it.
-spec decr(key(), N :: integer()) -> New :: integer() | {error, not_running | {py:exception(), binary()}}.
decr(Key, N) when is_integer(N) ->
    incr(Key, -N);
decr(_Key, N) ->
    type_error("what is taken must be an integer, not ~tP", [N, 10]).

type_error(Format, Args) ->
    {error, {'TypeError', unicode:characters_to_binary(io_lib:format(Format, Args))}}.

%%% The table

%% @private
-spec new_table() -> ok.
new_table() ->
    ok = py_nif:cells_reset(),
    ?TABLE = ets:new(?TABLE, [named_table, public, {read_concurrency, true}, {write_concurrency, true}]),
    ok.

%% @private The table is gone.  Threads of Python's that go on must not count in its cells.
-spec forget() -> ok.
forget() ->
    py_nif:cells_reset().

%% @private What Python asks for.
-spec serve(Op :: atom(), Args :: [term()]) -> term().
serve(get, [Key]) ->
    case served(fetch(Key)) of
        {ok, Value} -> {true, Value};
        {error, not_found} -> false
    end;
serve(set, [Key, Value]) ->
    served(store(Key, Value));
serve(delete, [Key]) ->
    served(in_table(fun() -> delete(Key) end));
serve(keys, []) ->
    served(keys());
serve(clear, []) ->
    served(clear());
serve(incr, [Key, N]) when is_integer(N) ->
    case served(in_table(fun() -> add(Key, N) end)) of
        not_an_integer -> error({not_an_integer, Key});
        {New, Cell} -> {New, Cell}
    end.

served({error, not_running}) -> error(not_running);
served(Result) -> Result.

%% The table goes with the application, at any moment.
in_table(Fun) ->
    try Fun()
    catch error:badarg:Stack -> no_table(ets:whereis(?TABLE), Stack)
    end.

no_table(undefined, _Stack) -> {error, not_running};
no_table(_Table, Stack) -> erlang:raise(error, badarg, Stack).

add(Key, N) ->
    Id = id(Key),
    add(lookup(Id), Id, Key, N).

delete(Key) ->
    Id = id(Key),
    delete(lookup(Id), Id).

%% No part of it is what match specifications take for a variable.
-spec id(key()) -> id().
id(Key) when is_binary(Key); is_number(Key) -> Key;
id(Key) when is_atom(Key) -> atom_to_binary(Key);
id(Key) -> {term_to_binary(Key, [deterministic])}.

name(Key) when is_atom(Key) -> atom_to_binary(Key);
name(Key) -> Key.

lookup(Id) ->
    case ets:lookup(?TABLE, Id) of
        [Entry] -> Entry;
        [] -> none
    end.

-spec plain(id(), key(), term()) -> entry().
plain(Id, Key, Value) -> {Id, name(Key), stamp(), Value, none}.

stamp() -> erlang:unique_integer().

%% Puts New in the place of Old, which may be none; false if that is not there any more.
swap(none, New) ->
    ets:insert_new(?TABLE, New);
swap({Id, _, Stamp, _, _}, New) ->
    1 =:= ets:select_replace(?TABLE, [{{Id, '_', Stamp, '_', '_'}, [], [{const, New}]}]).

drop({Id, _, Stamp, _, _}) ->
    1 =:= ets:select_delete(?TABLE, [{{Id, '_', Stamp, '_', '_'}, [], [true]}]).

%%% What is done with an entry.  Each tries until nobody else was faster.

value(none) ->
    {error, not_found};
value({_, _, _, Value, none}) ->
    {ok, Value};
value({_, _, _, _, {ending, _}} = Entry) ->
    value(finish(Entry));
value({_, _, _, none, Cell} = Entry) ->
    case py_nif:cell_get(Cell) of
        {ok, _} = Ok -> Ok;
        dead -> value(after_dead(Entry))
    end.

set({_, _, _, _, {ending, _}} = Entry, Id, Key, Value) ->
    set(finish(Entry), Id, Key, Value);
set({_, _, _, _, Cell} = Entry, Id, Key, Value) when Cell =/= none ->
    case py_nif:is_cell_value(Value) andalso py_nif:cell_set(Cell, Value) of
        ok -> ok;
        dead -> set(after_dead(Entry), Id, Key, Value);
        false -> _ = replace(Entry, {value, Value}) orelse set(lookup(Id), Id, Key, Value), ok
    end;
set(Entry, Id, Key, Value) -> % plain or none
    _ = swap(Entry, plain(Id, Key, Value)) orelse set(lookup(Id), Id, Key, Value),
    ok.

%% Was it there?
delete(none, _Id) ->
    false;
delete({_, _, _, _, none} = Entry, Id) ->
    drop(Entry) orelse delete(lookup(Id), Id);
delete({_, _, _, _, {ending, _}} = Entry, Id) ->
    delete(finish(Entry), Id);
delete(Entry, Id) ->
    replace(Entry, delete) orelse delete(lookup(Id), Id).

%% The sum, and the cell that has it.
add(none, Id, Key, N) ->
    swap_sum(none, Id, Key, N, N);
add({_, _, _, Value, none} = Entry, Id, Key, N) when is_integer(Value) ->
    swap_sum(Entry, Id, Key, Value + N, N);
add({_, _, _, _, none}, _Id, _Key, _N) ->
    not_an_integer;
add({_, _, _, _, {ending, _}} = Entry, Id, Key, N) ->
    add(finish(Entry), Id, Key, N);
add({_, _, _, _, Cell} = Entry, Id, Key, N) ->
    case py_nif:is_cell_value(N) andalso py_nif:cell_add(Cell, N) of
        {ok, New} -> {New, Cell};
        dead -> add(after_dead(Entry), Id, Key, N);
        _NoRoom ->
            _ = replace(Entry, last),
            add(lookup(Id), Id, Key, N)
    end.

swap_sum(Entry, Id, Key, Sum, N) ->
    New = sum(Id, Key, Sum),
    case swap(Entry, New) of
        true -> {Sum, element(5, New)};
        false -> add(lookup(Id), Id, Key, N)
    end.

sum(Id, Key, Sum) ->
    case py_nif:is_cell_value(Sum) of
        true -> {Id, name(Key), stamp(), none, py_nif:cell_new(Sum)};
        false -> plain(Id, Key, Sum)
    end.

%%% The end of a cell

%% False if the entry is not there any more.
replace({Id, Key, _, _, Cell} = Entry, Next) ->
    Ending = {Id, Key, stamp(), Next, {ending, Cell}},
    case swap(Entry, Ending) of
        true -> _ = finish(Ending), true;
        false -> false
    end.

%% What comes next counts from the moment when the cell is dead.  What is there then.
finish({Id, Key, _, Next, {ending, Cell}} = Entry) ->
    Killed = py_nif:cell_kill(Cell), % dead: somebody else was here too
    case {Next, Killed} of
        {{value, Value}, _} -> _ = swap(Entry, plain(Id, Key, Value)), lookup(Id);
        {delete, _} -> _ = drop(Entry), lookup(Id);
        {last, {ok, Last}} -> keep(Entry, plain(Id, Key, Last)), lookup(Id);
        {last, dead} -> after_dead(Entry)
    end.

%% If somebody took this process for dead, the value is not lost yet.
keep(Entry, Last) ->
    _ = swap(Entry, Last) orelse swap(none, Last),
    ok.

%% The entry is replaced in this moment, by whoever knows what its cell held.  What is there
%% then.
after_dead(Entry) ->
    after_dead(Entry, erlang:monotonic_time(millisecond) + ?PATIENCE).

after_dead({Id, _, Stamp, _, _} = Entry, Deadline) ->
    case lookup(Id) of
        {_, _, Stamp, _, _} -> wait(Entry, Deadline);
        Other -> Other
    end.

wait(Entry, Deadline) ->
    case erlang:monotonic_time(millisecond) < Deadline of
        true ->
            true = erlang:yield(),
            after_dead(Entry, Deadline);
        false ->
            _ = drop(Entry),
            lookup(element(1, Entry))
    end.
