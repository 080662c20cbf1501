%% SPDX-License-Identifier: Apache-2.0
%% @private
%% The arguments of the API, checked and brought into the form that the library takes.
%% One that is wrong is an exception inside and `{error, {Type, Message}}' outside: see
%% checked/1.
-module(py_args).

-export([checked/1, refuse/1, refuse/3]).
-export([call/4, items/1, list/2, eval/2, exec/1, module/1, function/1, text/2, is_name/1]).
-export([place/1, context/1, pool/1, handle/1, attribute/1, reference/1]).
-export([timeout/1, positive/2, options/1, options/2, errors_full/1, handle_flag/1, kwargs_or_options/1]).
-export_type([place/0, options/0]).

%% Where a request goes: where routes and bindings say, to a pool, to a context, to the
%% interpreter of an object, or to an event loop.
-type place() :: undefined | {pool, atom()} | {context, py_nif:namespace()} | {object, py_nif:handle()}
               | {loop, py_nif:loop()}.
%% What py:options() come to.  `rest' has the options that are none of a request.
-type options() :: #{timeout := timeout(), flags := py_nif:flags(), rest := map()}.

-define(IS_TIMEOUT(T), (T =:= infinity orelse (is_integer(T) andalso T >= 0 andalso T =< 16#FFFFFFFF))).

%%% Refusals

%% What Fun makes of the arguments, or why it refuses them.
-spec checked(fun(() -> T)) -> {ok, T} | {error, py:reason()}.
checked(Fun) ->
    try Fun() of
        Value -> {ok, Value}
    catch
        throw:{py_args, Reason} -> {error, Reason}
    end.

-spec refuse(py:reason()) -> no_return().
refuse(Reason) ->
    throw({py_args, Reason}).

-spec refuse(py:exception(), io:format(), [term()]) -> no_return().
refuse(Type, Format, Args) ->
    refuse({Type, unicode:characters_to_binary(io_lib:format(Format, Args))}).

%%% Requests

%% The terms of a call.
-spec call(term(), term(), term(), term()) -> [term()].
call(Module, Function, Args, Kwargs) ->
    [name(module, Module), name(function, Function), list(args, Args), keywords(kwargs, Kwargs)].

%% The terms of each call of py:parallel/1.
-spec items(term()) -> [[term()]].
items(Calls) when is_list(Calls), length(Calls) >= 0 ->
    [item(I, Call) || {I, Call} <- lists:zip(lists:seq(1, length(Calls)), Calls)];
items(Calls) ->
    refuse('TypeError', "the calls must be a list, not ~tP", [Calls, 10]).

item(_I, {Module, Function, Args}) -> call(Module, Function, Args, #{});
item(_I, {Module, Function, Args, Kwargs}) -> call(Module, Function, Args, Kwargs);
item(I, Item) ->
    refuse('TypeError', "call ~b must be {Module, Function, Args} or {Module, Function, Args, Kwargs}, "
           "not ~tP", [I, Item, 10]).

-spec eval(term(), term()) -> [term()].
eval(Code, Locals) ->
    [code(Code), keywords(locals, Locals)].

-spec exec(term()) -> [term()].
exec(Code) ->
    [code(Code)].

code(Code) when is_binary(Code) -> Code;
code(Code) when is_list(Code) -> text(code, Code);
code(Code) -> refuse('TypeError', "code must be a binary, a string or an iolist, not ~tP", [Code, 10]).

-spec module(term()) -> atom() | binary().
module(Name) -> name(module, Name).

-spec function(term()) -> atom() | binary().
function(Name) -> name(function, Name).

%% A name as an atom where there is that atom: routes and the library know functions by
%% atoms.  No atom is made.
name(_What, Name) when is_atom(Name) ->
    Name;
name(_What, Name) when is_binary(Name) ->
    try binary_to_existing_atom(Name)
    catch error:_ -> Name
    end;
name(What, Name) when is_list(Name) ->
    name(What, text(What, Name));
name(What, Name) ->
    refuse('TypeError', "the ~ts must be an atom, a binary or a string, not ~tP", [What, Name, 10]).

%% Text in UTF-8.
-spec text(What :: atom(), term()) -> binary().
text(What, Chars) ->
    try unicode:characters_to_binary(Chars) of
        Text when is_binary(Text) -> Text;
        _ -> refuse('ValueError', "the ~ts is not valid UTF-8", [What])
    catch
        error:badarg -> refuse('TypeError', "the ~ts is not a string: ~tP", [What, Chars, 10])
    end.

%% Names may be strings; those that are not go to Python as they are.
keywords(_What, Map) when is_map(Map) ->
    case has_strings(Map) of
        true -> same_size(Map, maps:from_list([{keyword(K), V} || {K, V} <- maps:to_list(Map)]));
        false -> Map
    end;
keywords(What, Value) ->
    refuse('TypeError', "~ts must be a map, not ~tP", [What, Value, 10]).

has_strings(Map) ->
    lists:any(fun is_list/1, maps:keys(Map)).

same_size(Map, Named) when map_size(Map) =:= map_size(Named) -> Named;
same_size(_, _) -> refuse('TypeError', "two names are equal", []).

keyword(Name) when is_list(Name) -> text(keyword, Name);
keyword(Name) -> Name.

-spec list(What :: atom(), term()) -> [term()].
list(_What, Value) when is_list(Value) -> Value;
list(What, Value) -> refuse('TypeError', "~ts must be a list, not ~tP", [What, Value, 10]).

%% Can this be the name of a function?  A list is one if it is text; the empty one is that
%% of the arguments.
-spec is_name(term()) -> boolean().
is_name([]) -> false;
is_name(Name) when is_list(Name) -> io_lib:printable_unicode_list(Name);
is_name(Name) -> is_atom(Name) orelse is_binary(Name).

%%% Places and options

%% A pool or a context that was named, `{in, Place}', or none.
-spec place(undefined | {in, term()}) -> place().
place(undefined) ->
    undefined;
place({in, Context}) when is_pid(Context) ->
    context(Context);
place({in, Pool}) when is_atom(Pool) ->
    {pool, pool(Pool)};
place({in, Other}) ->
    refuse('TypeError', "the first argument must be a pool (an atom) or a context (a pid), not ~tP",
           [Other, 10]).

-spec context(term()) -> {context, py_nif:namespace()}.
context(Context) when is_pid(Context) ->
    case py_contexts:namespace(Context) of
        {ok, Namespace} -> {context, Namespace};
        {error, Reason} -> refuse(Reason)
    end;
context(Other) ->
    refuse('TypeError', "a context is a pid, not ~tP", [Other, 10]).

%% The name of a pool.  Whether there is one, the library knows.
-spec pool(term()) -> atom().
pool(Pool) when is_atom(Pool), Pool =/= undefined, Pool =/= none -> Pool;
pool(Pool) when is_atom(Pool) -> refuse('ValueError', "there is no pool ~tw", [Pool]);
pool(Pool) -> refuse('TypeError', "the name of a pool must be an atom, not ~tP", [Pool, 10]).

%% An object of this node.
-spec handle(term()) -> py_nif:handle().
handle(Handle) when is_reference(Handle) ->
    case py_nif:is_handle(Handle) of
        true -> Handle;
        false -> refuse('ValueError', "the object of the handle ~tw is forgotten, or its interpreter has ended",
                        [Handle])
    end;
handle(Other) ->
    refuse('TypeError', "a handle is a reference, not ~tP", [Other, 10]).

%% The name of an attribute, as text: as an atom `none' would become None.
-spec attribute(term()) -> binary().
attribute(Name) when is_atom(Name) -> atom_to_binary(Name);
attribute(Name) when is_binary(Name); is_list(Name) -> text(name, Name);
attribute(Name) -> refuse('TypeError', "the name must be an atom, a binary or a string, not ~tP", [Name, 10]).

-spec reference(term()) -> reference().
reference(Ref) when is_reference(Ref) -> Ref;
reference(Other) -> refuse('TypeError', "a request is a reference, not ~tP", [Other, 10]).

-spec timeout(term()) -> timeout().
timeout(Value) when ?IS_TIMEOUT(Value) ->
    Value;
timeout(Value) when is_integer(Value) ->
    refuse('ValueError', "the timeout must be from 0 to 4294967295 ms or infinity, not ~tp", [Value]);
timeout(Value) ->
    refuse('TypeError', "the timeout must be an integer (ms) or infinity, not ~tP", [Value, 10]).

-spec positive(What :: atom(), term()) -> pos_integer().
positive(_What, N) when is_integer(N), N > 0 -> N;
positive(What, N) -> refuse('ValueError', "~tw must be a positive integer, not ~tP", [What, N, 10]).

%% Our options of a request: a timeout, or `{opts, Map}'.
-spec options(term()) -> options().
options(Options) ->
    options(Options, [timeout, return, errors, binary, atom]).

%% Those of them that there may be here, and others, which the caller checks.
-spec options(term(), Keys :: [atom()]) -> options().
options({opts, Options}, Keys) when is_map(Options) ->
    case maps:keys(maps:without(Keys, Options)) of
        [] -> maps:fold(fun option/3, #{timeout => infinity, flags => 0, rest => #{}}, Options);
        [Key | _] -> refuse('TypeError', "there is no option ~tP here (there is ~ts)", [Key, 10, names(Keys)])
    end;
options({opts, Options}, _Keys) ->
    refuse('TypeError', "the options must be a map, not ~tP", [Options, 10]);
options(Timeout, Keys) ->
    case lists:member(timeout, Keys) of
        true -> #{timeout => timeout(Timeout), flags => 0, rest => #{}};
        false -> refuse('TypeError', "the options must be {opts, Map}, not ~tP", [Timeout, 10])
    end.

names(Keys) ->
    lists:join(", ", [atom_to_list(Key) || Key <- Keys]).

option(timeout, Timeout, Options) ->
    Options#{timeout := timeout(Timeout)};
option(Key, Value, #{flags := Flags} = Options)
  when Key =:= return; Key =:= errors; Key =:= binary; Key =:= atom ->
    Options#{flags := Flags bor flag(Key, Value)};
option(Key, Value, #{rest := Rest} = Options) ->
    Options#{rest := Rest#{Key => Value}}.

%% By the bits of py_nif:flags().
flag(return, value) -> 0;
flag(return, handle) -> 1;
flag(return, buffer) -> 2;
flag(errors, full) -> 4;
flag(errors, short) -> 8;
flag(binary, auto) -> 0;
flag(binary, str) -> 16;
flag(binary, bytes) -> 32;
flag(atom, atom) -> 0;
flag(atom, str) -> 64;
flag(return, Value) -> refuse('ValueError', "return can be value, handle or buffer, not ~tP", [Value, 10]);
flag(errors, Value) -> refuse('ValueError', "errors can be full or short, not ~tP", [Value, 10]);
flag(binary, Value) -> refuse('ValueError', "binary can be auto, str or bytes, not ~tP", [Value, 10]);
flag(atom, Value) -> refuse('ValueError', "atom can be atom or str, not ~tP", [Value, 10]).

%% Where maps are wanted, whatever the default is.
-spec errors_full(options()) -> options().
errors_full(#{flags := Flags} = Options) ->
    Options#{flags := Flags bor flag(errors, full)}.

%% The flags of a request whose result is to be a handle.
-spec handle_flag(py_nif:flags()) -> py_nif:flags().
handle_flag(Flags) ->
    Flags bor flag(return, handle).

%% Where either may stand.  What is neither is told to be no keyword arguments.
-spec kwargs_or_options(term()) -> {Kwargs :: term(), Options :: term()}.
kwargs_or_options({opts, _} = Options) -> {#{}, Options};
kwargs_or_options(Timeout) when is_integer(Timeout); Timeout =:= infinity -> {#{}, Timeout};
kwargs_or_options(Kwargs) -> {Kwargs, infinity}.
