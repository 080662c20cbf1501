%% SPDX-License-Identifier: Apache-2.0
%% @doc Which context serves a process, which pool serves a function.
%%
%% There are contexts for the default pool, for `io', and for each pool that start_pool/2,3
%% started.  A process is given the same one of them at each call, and one that died is
%% replaced in its place.  This process starts and replaces them; to be given one is a look
%% into a table.
-module(py_context_router).
-behaviour(gen_server).

-export([start/0, start/1, stop/0, is_started/0]).
-export([get_context/0, get_context/1, num_contexts/0, num_contexts/1, contexts/0, contexts/1]).
-export([bind_context/1, bind_context/2, unbind_context/0, unbind_context/1]).
-export([start_pool/2, start_pool/3, stop_pool/1, pool_started/1]).
-export([register_pool/2, register_pool/3, unregister_pool/1, unregister_pool/2]).
-export([lookup_pool/2, list_pool_registrations/0]).
-export([new_table/0, start_link/0, routed/2, replaced/0, open_pool/3]).
-export([init/1, handle_continue/2, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).
-export_type([options/0]).

-type options() :: #{contexts => pos_integer(), mode => py_context:mode()}.
-type registered() :: Module :: atom() | {Module :: atom(), Function :: atom()}.

%% The table: {{pool, Name}, Size, Mode}, {{contexts, Name}, Size, Mode},
%% {{context, Name, I}, Pid} and {replaced, Count}.
-define(TABLE, ?MODULE).
%% The context of this pool that a process bound itself to, in its process dictionary.
-define(BOUND(Name), {'$py_context', Name}).

-define(MAX_SIZE, 1000).
-define(RETRY, 1000).
%% How long contexts have to end: py_context gives requests five seconds.
-define(STOP_TIMEOUT, 10000).

%%% The contexts of the default pool

%% @doc Starts `num_contexts' contexts.
-spec start() -> {ok, [pid()]} | {error, py:reason()}.
start() ->
    start(#{}).

%% @doc Starts so many contexts, or as the map says.  When they run already, that is no
%% error unless others are asked for.
-spec start(pos_integer() | options()) -> {ok, [pid()]} | {error, py:reason()}.
start(Count) when is_integer(Count) ->
    start(#{contexts => Count});
start(Options) ->
    case py_args:checked(fun() -> start_options(Options) end) of
        {ok, {Size, Mode}} -> call({start, default, Size, Mode});
        {error, _} = Error -> Error
    end.

start_options(Options) when is_map(Options) ->
    case maps:keys(maps:without([contexts, mode], Options)) of
        [] -> {checked_size(maps:get(contexts, Options, py_env:get(num_contexts))),
               checked_mode(maps:get(mode, Options, auto))};
        [Key | _] -> py_args:refuse('TypeError', "there is no option ~tP (there are contexts and mode)", [Key, 10])
    end;
start_options(Options) ->
    py_args:refuse('TypeError', "the options must be a number or a map, not ~tP", [Options, 10]).

%% @doc Ends them.  Requests that were submitted before have five seconds to end.
-spec stop() -> ok | {error, py:reason()}.
stop() ->
    call({stop, default}).

-spec is_started() -> boolean().
is_started() ->
    lookup({contexts, default}) =/= none.

%%% Contexts

%% @equiv get_context(default)
-spec get_context() -> pid() | {error, py:reason()}.
get_context() ->
    get_context(default).

%% @doc The context of a pool for the calling process: the one that it is bound to, else the
%% same one at each call.  Or, by its number from 1, a context of the default pool.  The
%% contexts are started if they do not run.
-spec get_context(Pool :: atom() | pos_integer()) -> pid() | {error, py:reason()}.
get_context(Pool) when is_atom(Pool) ->
    case get(?BOUND(Pool)) of
        undefined -> pick(Pool);
        Context -> bound(Pool, Context, py_contexts:namespace(Context))
    end;
get_context(N) when is_integer(N) ->
    pick(default, fun(Size) -> N >= 1 andalso N =< Size andalso N end);
get_context(Other) ->
    refused('TypeError', "a context has a pool (an atom) or a number, not ~tP", [Other, 10]).

bound(_Pool, Context, {ok, _}) ->
    Context;
bound(Pool, _Context, {error, _}) ->
    ok = unbind_context(Pool),
    pick(Pool).

pick(Pool) ->
    pick(Pool, fun(Size) -> erlang:phash2(self(), Size) + 1 end).

pick(Pool, Choose) ->
    case lookup({contexts, Pool}) of
        {Size, _Mode} -> chosen(Pool, Choose(Size));
        none -> start_and_pick(Pool, Choose)
    end.

start_and_pick(Pool, Choose) ->
    case call({start, Pool}) of
        {ok, Contexts} -> nth(Choose(length(Contexts)), Contexts);
        {error, _} = Error -> Error
    end.

nth(false, _Contexts) -> no_context();
nth(N, Contexts) -> lists:nth(N, Contexts).

chosen(_Pool, false) ->
    no_context();
chosen(Pool, N) ->
    case lookup({context, Pool, N}) of
        {Context} -> Context;
        none -> no_context() % stopped just now
    end.

no_context() ->
    refused('ValueError', "there is no such context", []).

%% @equiv num_contexts(default)
-spec num_contexts() -> non_neg_integer().
num_contexts() ->
    num_contexts(default).

%% @doc How many contexts of a pool run.
-spec num_contexts(Pool :: atom()) -> non_neg_integer().
num_contexts(Pool) ->
    case lookup({contexts, Pool}) of
        {Size, _Mode} -> Size;
        none -> 0
    end.

%% @equiv contexts(default)
-spec contexts() -> [pid()].
contexts() ->
    contexts(default).

%% @doc The contexts of a pool that run, by their number.
-spec contexts(Pool :: atom()) -> [pid()].
contexts(Pool) ->
    [Context || N <- lists:seq(1, num_contexts(Pool)), {Context} <- [lookup({context, Pool, N})]].

%%% Binding

%% @doc Binds the calling process to a context: its plain requests go there, and
%% get_context/0 gives it.
-spec bind_context(Context :: pid()) -> ok | {error, py:reason()}.
bind_context(Context) ->
    bind_context(default, Context).

%% @doc The same for what get_context/1 gives for another pool.  Plain requests go on as before.
-spec bind_context(Pool :: atom(), Context :: pid()) -> ok | {error, py:reason()}.
bind_context(Pool, Context) ->
    case py_args:checked(fun() -> {py_args:pool(Pool), py_args:context(Context)} end) of
        {ok, {default, {context, Namespace}}} ->
            _ = put(?BOUND(default), Context),
            py_request:bind(Namespace);
        {ok, _} ->
            bind_in_pool(pool_started(Pool), Pool, Context);
        {error, _} = Error ->
            Error
    end.

bind_in_pool(true, Pool, Context) ->
    _ = put(?BOUND(Pool), Context),
    ok;
bind_in_pool(false, Pool, _Context) ->
    no_pool(Pool).

%% @equiv unbind_context(default)
-spec unbind_context() -> ok.
unbind_context() ->
    unbind_context(default).

%% @doc Takes a binding back; the process has its own namespace again.
-spec unbind_context(Pool :: atom()) -> ok.
unbind_context(Pool) ->
    _ = erase(?BOUND(Pool)),
    case Pool of
        default -> py_request:unbind();
        _ -> ok
    end.

%%% Pools

%% @equiv start_pool(Pool, Size, auto)
-spec start_pool(Pool :: atom(), Size :: pos_integer()) -> {ok, [pid()]} | {error, py:reason()}.
start_pool(Pool, Size) ->
    start_pool(Pool, Size, auto).

%% @doc Starts a pool of so many executors, `owngil' of so many sub-interpreters, and as many
%% contexts of that mode.  `auto' is `owngil' in `subinterp' mode, else `worker'; its contexts
%% are then on the interpreters of the default pool.
-spec start_pool(Pool :: atom(), Size :: pos_integer(), py_context:mode()) -> {ok, [pid()]} | {error, py:reason()}.
start_pool(Pool, Size, Mode) ->
    case open_pool(Pool, Size, Mode) of
        ok -> with_contexts(Pool, call({start, Pool}));
        {error, _} = Error -> Error
    end.

with_contexts(_Pool, {ok, Contexts}) ->
    {ok, Contexts};
with_contexts(Pool, {error, _} = Error) ->
    _ = stop_pool(Pool),
    Error.

%% @private A pool without contexts, until somebody asks for one.
-spec open_pool(Pool :: atom(), Size :: pos_integer(), py_context:mode()) -> ok | {error, py:reason()}.
open_pool(Pool, Size, Mode) ->
    case py_args:checked(fun() -> {new_name(py_args:pool(Pool)), checked_size(Size), checked_mode(Mode)} end) of
        {ok, _} -> call({open_pool, Pool, Size, Mode});
        {error, _} = Error -> Error
    end.

%% These are no pools, but have a meaning where there may be one.
new_name(Pool) when Pool =:= inline; Pool =:= context; Pool =:= '$spread' ->
    py_args:refuse('ValueError', "~tw cannot be the name of a pool", [Pool]);
new_name(Pool) ->
    Pool.

%% @doc Ends a pool and its contexts.  What runs there is cancelled.
-spec stop_pool(Pool :: atom()) -> ok | {error, py:reason()}.
stop_pool(Pool) ->
    case py_args:checked(fun() -> py_args:pool(Pool) end) of
        {ok, _} -> call({stop_pool, Pool});
        {error, _} = Error -> Error
    end.

%% @doc Does this pool run?
-spec pool_started(Pool :: atom()) -> boolean().
pool_started(Pool) ->
    pool(Pool) =/= none.

%% What start/0 and start_pool/2,3 take.
checked_size(Size) when is_integer(Size), Size >= 1, Size =< ?MAX_SIZE ->
    Size;
checked_size(Size) when is_integer(Size) ->
    py_args:refuse('ValueError', "the size must be from 1 to ~b, not ~b", [?MAX_SIZE, Size]);
checked_size(Size) ->
    py_args:refuse('TypeError', "the size must be an integer, not ~tP", [Size, 10]).

checked_mode(Mode) when Mode =:= auto; Mode =:= worker; Mode =:= owngil -> Mode;
checked_mode(Mode) -> py_args:refuse('ValueError', "the mode is auto, worker or owngil, not ~tP", [Mode, 10]).

%% {Size, Mode} of a pool that runs.
pool(Pool) ->
    case ets:whereis(?TABLE) of
        undefined -> none;
        _ -> built_in(Pool, lookup({pool, Pool}))
    end.

built_in(default, none) -> {py_env:get(num_contexts), auto};
built_in(io, none) -> {py_env:get(io_pool_size), worker};
built_in(main, none) -> main_pool(groups(main)); % where there is one, see epy_pool.h
built_in(_Pool, Found) -> Found.

main_pool([]) -> none;
main_pool(_Groups) -> {1, worker}.

%%% Routes

%% @doc Lets plain calls of a module, or of one function of it, go to a pool.  The function
%% wins over its module.  `inline' runs a function on the calling scheduler.
-spec register_pool(Pool :: atom(), registered()) -> ok | {error, py:reason()}.
register_pool(Pool, {Module, Function}) ->
    register_pool(Pool, Module, Function);
register_pool(Pool, Module) ->
    register(Pool, Module, undefined).

%% @doc The same for one function.
-spec register_pool(Pool :: atom(), Module :: atom(), Function :: atom()) -> ok | {error, py:reason()}.
register_pool(Pool, Module, Function) when Function =/= undefined ->
    register(Pool, Module, Function);
register_pool(_Pool, _Module, undefined) ->
    refused('ValueError', "there is no function undefined", []).

register(Pool, Module, Function) ->
    case py_args:checked(fun() -> {py_args:pool(Pool), atom(Module), atom(Function)} end) of
        {ok, _} -> route(Pool, Module, Function);
        {error, _} = Error -> Error
    end.

route(Pool, Module, Function) ->
    case pool_started(default) andalso py_nif:route(Module, Function, Pool) of
        ok -> ok;
        false -> {error, not_running};
        no_pool -> no_pool(Pool);
        full -> refused('RuntimeError', "there is no room for more registrations", [])
    end.

%% Functions are registered by those who write the program, so an atom is not too much.
atom(Name) when is_atom(Name) -> Name;
atom(Name) -> py_args:refuse('TypeError', "what is registered is named by atoms, not ~tP", [Name, 10]).

%% @doc Takes a registration back; one that is not there is no error.
-spec unregister_pool(registered()) -> ok | {error, py:reason()}.
unregister_pool({Module, Function}) ->
    unregister_pool(Module, Function);
unregister_pool(Module) ->
    unregister_pool(Module, undefined).

%% @doc The same for one function.
-spec unregister_pool(Module :: atom(), Function :: atom()) -> ok | {error, py:reason()}.
unregister_pool(Module, Function) ->
    case py_args:checked(fun() -> {atom(Module), atom(Function)} end) of
        {ok, _} -> route(none, Module, Function);
        {error, _} = Error -> Error
    end.

%% @doc The pool of plain calls of this function.
-spec lookup_pool(py:name(), py:name()) -> (Pool :: atom()) | {error, py:reason()}.
lookup_pool(Module, Function) ->
    case py_args:checked(fun() -> {py_args:module(Module), py_args:function(Function)} end) of
        {ok, {M, F}} -> routed(M, F);
        {error, _} = Error -> Error
    end.

%% @private
-spec routed(atom() | binary(), atom() | binary()) -> atom().
routed(Module, Function) ->
    Pools = maps:from_list([{{M, F}, Pool} || {M, F, Pool} <- py_nif:routes()]),
    maps:get({Module, Function}, Pools, maps:get({Module, undefined}, Pools, default)).

%% @doc What is registered, and for which pool.
-spec list_pool_registrations() -> [{registered(), Pool :: atom()}].
list_pool_registrations() ->
    lists:sort([{registered(Module, Function), Pool} || {Module, Function, Pool} <- py_nif:routes()]).

registered(Module, undefined) -> Module;
registered(Module, Function) -> {Module, Function}.

%%% Reading

lookup(Key) ->
    try ets:lookup(?TABLE, Key) of
        [Row] -> erlang:delete_element(1, Row);
        [] -> none
    catch
        error:badarg -> none % the application does not run
    end.

%% @private How many contexts died and were replaced.
-spec replaced() -> non_neg_integer().
replaced() ->
    case lookup(replaced) of
        {Count} -> Count;
        none -> 0
    end.

call(Request) ->
    try gen_server:call(?MODULE, Request, infinity)
    catch exit:{Reason, _} when Reason =:= noproc; Reason =:= shutdown; Reason =:= normal ->
            {error, not_running}
    end.

no_pool(Pool) ->
    refused('ValueError', "there is no pool ~tw", [Pool]).

refused(Type, Format, Args) ->
    {error, {Type, unicode:characters_to_binary(io_lib:format(Format, Args))}}.

%%% The process

%% The pool and the number of each context, by its monitor.
-type state() :: #{reference() => {Pool :: atom(), pos_integer()}}.

%% @private
-spec new_table() -> ok.
new_table() ->
    ?TABLE = ets:new(?TABLE, [named_table, public, {read_concurrency, true}]),
    ok.

%% @private
-spec start_link() -> gen_server:start_ret().
start_link() ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

-spec init([]) -> {ok, state(), {continue, restore}}.
init([]) ->
    process_flag(trap_exit, true),
    {ok, #{}, {continue, restore}}.

%% The table is older than this process when that crashed, or Python was started anew:
%% what is missing is made again.
handle_continue(restore, State) ->
    Rows = ets:tab2list(?TABLE),
    _ = [reopen(Pool, Size, Mode) || {{pool, Pool}, Size, Mode} <- Rows, groups(Pool) =:= []],
    {noreply, lists:foldl(fun watch/2, State, [{Pool, N, Pid} || {{context, Pool, N}, Pid} <- Rows])}.

reopen(Pool, Size, Mode) ->
    case open(Pool, Size, Mode) of
        ok -> ok;
        {error, Reason} ->
            logger:error("erlang_python: the pool ~tw cannot be started again: ~tp", [Pool, Reason]),
            ets:delete(?TABLE, {pool, Pool})
    end.

watch({Pool, N, Pid}, State) ->
    State#{monitor(process, Pid) => {Pool, N}}.

handle_call({start, Pool}, _From, State) ->
    case pool(Pool) of
        {Size, Mode} -> reply(start_contexts(Pool, Size, Mode, lookup({contexts, Pool}), State));
        none -> {reply, no_pool(Pool), State}
    end;
handle_call({start, Pool, Size, Mode}, _From, State) ->
    case lookup({contexts, Pool}) of
        {OtherSize, OtherMode} when {OtherSize, OtherMode} =/= {Size, Mode} ->
            {reply, refused('ValueError', "~b contexts of mode ~tw run already", [OtherSize, OtherMode]), State};
        Running ->
            reply(start_contexts(Pool, Size, Mode, Running, State))
    end;
handle_call({stop, Pool}, _From, State) ->
    {reply, ok, stop_contexts(Pool, State)};
handle_call({open_pool, Pool, Size, Mode}, _From, State) ->
    {reply, open_new(pool(Pool), Pool, Size, Mode), State};
handle_call({stop_pool, Pool}, _From, State) ->
    case {lookup({pool, Pool}), pool(Pool)} of
        {none, none} -> {reply, no_pool(Pool), State};
        {none, _} -> {reply, refused('ValueError', "the pool ~tw is always there", [Pool]), State};
        _ -> {reply, close_pool(Pool), stop_contexts(Pool, State)}
    end;
handle_call(_Request, _From, State) ->
    {reply, {error, unknown_call}, State}.

reply({Reply, State}) ->
    {reply, Reply, State}.

handle_cast(_Request, State) ->
    {noreply, State}.

handle_info({'DOWN', Monitor, process, _Pid, _Reason}, State) when is_map_key(Monitor, State) ->
    {{Pool, N}, Left} = maps:take(Monitor, State),
    {noreply, replace(Pool, N, Left)};
handle_info({replace, Pool, N}, State) ->
    {noreply, replace(Pool, N, State)};
handle_info(_Info, State) -> % a late answer of py_runtime:command/1, for instance
    {noreply, State}.

%% The contexts end by their supervisor.
terminate(_Reason, _State) ->
    [ok_or_log(Pool, close(Pool)) || {{pool, Pool}, _, _} <- ets:tab2list(?TABLE)],
    ok.

ok_or_log(_Pool, ok) -> ok;
ok_or_log(Pool, {error, Reason}) ->
    logger:warning("erlang_python: the pool ~tw was not closed: ~tp", [Pool, Reason]).

%% Contexts

start_contexts(Pool, _Size, _Mode, {_, _}, State) ->
    {{ok, contexts(Pool)}, State};
start_contexts(Pool, Size, Mode, none, State) ->
    case start_each(Pool, Mode, lists:seq(1, Size), []) of
        {ok, Started} ->
            true = ets:insert(?TABLE, [{{context, Pool, N}, Pid} || {_, N, Pid} <- Started]),
            true = ets:insert(?TABLE, {{contexts, Pool}, Size, Mode}),
            {{ok, contexts(Pool)}, lists:foldl(fun watch/2, State, Started)};
        {error, _} = Error ->
            {Error, State}
    end.

%% All or none.
start_each(_Pool, _Mode, [], Started) ->
    {ok, Started};
start_each(Pool, Mode, [N | Rest], Started) ->
    case py_context_sup:start_context({Pool, N}, Mode, #{}) of
        {ok, Pid} ->
            start_each(Pool, Mode, Rest, [{Pool, N, Pid} | Started]);
        {error, _} = Error ->
            [py_context:request_stop(Pid) || {_, _, Pid} <- Started],
            Error
    end.

stop_contexts(Pool, State) ->
    Contexts = [{N, Pid} || N <- lists:seq(1, num_contexts(Pool)), {Pid} <- [lookup({context, Pool, N})]],
    ets:delete(?TABLE, {contexts, Pool}),
    [ets:delete(?TABLE, {context, Pool, N}) || {N, _} <- Contexts],
    [py_context:request_stop(Pid) || {_, Pid} <- Contexts],
    Deadline = erlang:monotonic_time(millisecond) + ?STOP_TIMEOUT,
    maps:filter(fun(Monitor, {Of, _}) -> Of =/= Pool orelse await_end(Monitor, Deadline) end, State).

%% Always false, for the filter above.  A context that does not end then is closed all the
%% same when its requests let go.
await_end(Monitor, Deadline) ->
    receive
        {'DOWN', Monitor, process, _Pid, _Reason} -> false
    after max(0, Deadline - erlang:monotonic_time(millisecond)) ->
        not demonitor(Monitor, [flush])
    end.

replace(Pool, N, State) ->
    case lookup({contexts, Pool}) of
        {_Size, Mode} -> replace(Pool, N, Mode, State);
        none -> State
    end.

replace(Pool, N, Mode, State) ->
    case py_context_sup:start_context({Pool, N}, Mode, #{}) of
        {ok, Pid} ->
            true = ets:insert(?TABLE, {{context, Pool, N}, Pid}),
            _ = ets:update_counter(?TABLE, replaced, 1, {replaced, 0}),
            watch({Pool, N, Pid}, State);
        {error, Reason} ->
            logger:error("erlang_python: context ~b of ~tw died and cannot be replaced yet: ~tp",
                         [N, Pool, Reason]),
            _ = erlang:send_after(?RETRY, self(), {replace, Pool, N}),
            State
    end.

%% Pools

open_new(none, Pool, Size, Mode) ->
    case open(Pool, Size, Mode) of
        ok ->
            true = ets:insert(?TABLE, {{pool, Pool}, Size, Mode}),
            ok;
        {error, _} = Error ->
            Error
    end;
open_new(_, Pool, _Size, _Mode) ->
    refused('ValueError', "there is a pool ~tw already", [Pool]).

open(Pool, Size, Mode) ->
    case py_runtime:command(fun(Ref) -> py_nif:pool_open(Ref, Pool, Size, native(Mode)) end) of
        ok -> set_up(Pool);
        {error, _} = Error -> Error
    end.

native(auto) -> auto;
native(worker) -> main;
native(owngil) -> own.

%% New interpreters are what paths, imports and preloaded code make of them.
set_up(Pool) ->
    case py_setup:set_up([Id || #{interp := Id} <- groups(Pool), Id =/= 0]) of
        ok -> ok;
        {error, _} = Error ->
            _ = close(Pool), % the first error is the one that counts
            Error
    end.

groups(Pool) ->
    [Group || #{pool := Name} = Group <- maps:get(groups, py_nif:stats()), Name =:= Pool].

close_pool(Pool) ->
    ets:delete(?TABLE, {pool, Pool}),
    close(Pool).

close(Pool) ->
    py_runtime:command(fun(Ref) -> py_nif:pool_close(Ref, Pool) end).
