%% SPDX-License-Identifier: Apache-2.0
%% @private
%% What every interpreter is to find: logging to Erlang, directories in sys.path, modules that
%% are imported, code that has run in `__main__'.  In that order, and in interpreters that come later too.
%%
%% The main interpreter is always first.  A module that it can import and a sub-interpreter
%% cannot is one that refuses sub-interpreters; its calls go to the main interpreter, so that
%% is told and no error.
-module(py_setup).
-behaviour(gen_server).

-export([paths/0, imports/0, preload/0]).
-export([set_logging/1, add_paths/1, clear_paths/0, ensure_imported/1, clear_imports/0, set_preload/1]).
-export([set_up/1, reload/1]).
-export([new_table/0, start_link/0]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).
-export_type([import/0]).

-type import() :: {Module :: binary(), all | Function :: binary()}.

-define(TABLE, ?MODULE).
%% Large packages take long to import, and somebody else may hold the GIL meanwhile.
-define(TIMEOUT, 600000).

%%% What is asked for

-spec paths() -> [binary()].
paths() -> read(paths, []).

-spec imports() -> [import()].
imports() -> read(imports, []).

-spec preload() -> binary() | undefined.
preload() -> read(preload, undefined).

read(Key, Default) ->
    try ets:lookup(?TABLE, Key) of
        [{Key, Value}] -> Value;
        [] -> Default
    catch
        error:badarg -> Default % the application does not run
    end.

%%% Changes.  Each applies to all interpreters, and is kept for later ones if it succeeded.

-spec set_logging(logger:level() | all | none) -> ok | {error, py:reason()}.
set_logging(Level) -> call({logging, level(Level)}).

%% As text: in Python the atom `none' is None.
level(Level) -> atom_to_binary(Level).

-spec add_paths([binary()]) -> ok | {error, py:reason()}.
add_paths(Paths) -> call({add_paths, Paths}).

-spec clear_paths() -> ok | {error, py:reason()}.
clear_paths() -> call(clear_paths).

-spec ensure_imported(import()) -> ok | {error, py:reason()}.
ensure_imported(Import) -> call({import, Import}).

%% What is imported stays.
-spec clear_imports() -> ok | {error, py:reason()}.
clear_imports() -> call({set, imports, []}).

-spec set_preload(binary() | undefined) -> ok | {error, py:reason()}.
set_preload(undefined) -> call({set, preload, undefined});
set_preload(Code) -> call({preload, Code}).

%% Sets up interpreters that are new.
-spec set_up([non_neg_integer()]) -> ok | {error, py:reason()}.
set_up(Interpreters) -> call({set_up, Interpreters}).

%% Loads a module anew where it is loaded.
-spec reload(Module :: atom() | binary()) -> ok | {error, py:reason()}.
reload(Module) ->
    first_error(py_service:run(all(), 'erlang._setup', reload, [Module], ?TIMEOUT)).

call(Request) ->
    try gen_server:call(?MODULE, Request, infinity)
    catch exit:{Reason, _} when Reason =:= noproc; Reason =:= shutdown; Reason =:= normal ->
            {error, not_running}
    end.

%%% The process

%% The modules that were told to refuse sub-interpreters.
-type state() :: #{binary() => []}.

-spec new_table() -> ok.
new_table() ->
    ?TABLE = ets:new(?TABLE, [named_table, public, {read_concurrency, true}]),
    ok.

-spec start_link() -> gen_server:start_ret().
start_link() ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

-spec init([]) -> {ok, state()} | {stop, term()}.
init([]) ->
    ets:member(?TABLE, paths) orelse ets:insert(?TABLE, environment()),
    case set_up(all(), #{}) of
        {ok, State} -> {ok, State};
        {error, Key, Reason} -> {stop, {Key, Reason}}
    end.

environment() ->
    [{logging, case py_env:get(logging) of
                   none -> undefined;
                   Level -> level(Level)
               end},
     {paths, [to_text(Path) || Path <- py_env:get(paths)]},
     {imports, [import(Import) || Import <- py_env:get(imports)]},
     {preload, case py_env:get(preload) of
                   undefined -> undefined;
                   Code -> unicode:characters_to_binary(Code)
               end}].

import({Module, Function}) -> {to_text(Module), to_text(Function)};
import(Module) -> {to_text(Module), all}.

to_text(Name) when is_atom(Name) -> atom_to_binary(Name);
to_text(Text) -> unicode:characters_to_binary(Text).

handle_call({set_up, Interpreters}, _From, State) ->
    case set_up(Interpreters, State) of
        {ok, Changed} -> {reply, ok, Changed};
        {error, _Key, Reason} -> {reply, {error, Reason}, State}
    end;
handle_call({logging, Level}, _From, State) ->
    changed(on(all(), logging, Level, State), State, {logging, Level});
handle_call({add_paths, New}, _From, State) ->
    Paths = paths() ++ (New -- paths()),
    changed(on(all(), paths, Paths, State), State, {paths, Paths});
handle_call(clear_paths, _From, State) ->
    changed(on(all(), paths, [], State), State, {paths, []});
handle_call({import, Import}, _From, State) ->
    Imports = imports() ++ ([Import] -- imports()),
    changed(on(all(), imports, [Import], State), State, {imports, Imports});
handle_call({preload, Code}, _From, State) ->
    changed(on(all(), preload, Code, State), State, {preload, Code});
handle_call({set, Key, Value}, _From, State) ->
    changed({ok, State}, State, {Key, Value});
handle_call(_Request, _From, State) ->
    {reply, {error, unknown_call}, State}.

handle_cast(_Request, State) ->
    {noreply, State}.

handle_info(_Info, State) ->
    {noreply, State}.

%% Keeps what was asked for, if it could be done.
changed({ok, State}, _Old, Rows) ->
    true = ets:insert(?TABLE, Rows),
    {reply, ok, State};
changed({error, _} = Error, Old, _Rows) ->
    {reply, Error, Old}.

%%% In the interpreters

%% Logging, paths, imports and preloaded code, in that order.
set_up(Interpreters, State) ->
    set_up(Interpreters, [{logging, read(logging, undefined)}, {paths, paths()}, {imports, imports()}, {preload, preload()}], State).

set_up(_Interpreters, [], State) ->
    {ok, State};
set_up(Interpreters, [{Key, Value} | Rest], State) ->
    case on(Interpreters, Key, Value, State) of
        {ok, Changed} -> set_up(Interpreters, Rest, Changed);
        {error, Reason} -> {error, Key, Reason}
    end.

all() ->
    py_service:interpreters().

%% First, and strictly, in the main interpreter, then in the others at once.
on(_Interpreters, Key, Nothing, State)
  when {Key, Nothing} =:= {preload, undefined}; {Key, Nothing} =:= {imports, []};
       {Key, Nothing} =:= {logging, undefined} ->
    {ok, State};
on(Interpreters, logging, Level, State) ->
    case first_error(py_service:run(Interpreters, erlang, setup_logging, [Level], ?TIMEOUT)) of
        ok -> {ok, State};
        {error, _} = Error -> Error
    end;
on(Interpreters, Key, Value, State) ->
    {Main, Others} = lists:partition(fun(Id) -> Id =:= 0 end, Interpreters),
    case first_error(in(Main, call(Key, Value, true))) of
        ok -> tell_refused(in(Others, call(Key, Value, false)), State);
        {error, _} = Error -> Error
    end.

%% The function of _setup, which returns the imports that were refused.
call(paths, Paths, _Strict) -> {set_paths, [Paths]};
call(imports, Imports, Strict) -> {import_all, [[arguments(Import) || Import <- Imports], Strict]};
call(preload, Code, _Strict) -> {run, [Code]}.

arguments({Module, all}) -> {Module, none};
arguments({Module, Function}) -> {Module, Function}.

in(Interpreters, {Function, Args}) ->
    py_service:run(Interpreters, 'erlang._setup', Function, Args, ?TIMEOUT).

first_error(Answers) ->
    case [Error || {_, {error, _} = Error} <- Answers] of
        [] -> ok;
        [Error | _] -> Error
    end.

tell_refused(Answers, State) ->
    case first_error(Answers) of
        ok -> {ok, lists:foldl(fun tell/2, State, [Refused || {_, {ok, List}} <- Answers, Refused <- List])};
        {error, _} = Error -> Error
    end.

tell({Module, _Why}, State) when is_map_key(Module, State) ->
    State;
tell({Module, Why}, State) ->
    logger:notice("erlang_python: sub-interpreters do not import ~ts, the main one serves it: ~ts", [Module, Why]),
    State#{Module => []}.
