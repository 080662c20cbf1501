%% SPDX-License-Identifier: Apache-2.0
%% @private
%% Which process stands for which context.  Whoever calls a context reads it here and
%% submits by itself.  This process closes the context of a process that is gone, however
%% it ended.
-module(py_contexts).
-behaviour(gen_server).

-export([namespace/1, all/0]).
-export([new_table/0, start_link/0, register/3, close/2]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

%% @doc The namespace to submit to.
-spec namespace(pid()) -> {ok, py_nif:namespace()} | {error, py:reason()}.
namespace(Context) ->
    try
        {ok, ets:lookup_element(?MODULE, Context, 2)}
    catch
        error:badarg -> {error, unknown(Context)}
    end.

unknown(Context) ->
    case ets:whereis(?MODULE) of
        undefined -> not_running;
        _ -> {'ValueError', unicode:characters_to_binary(io_lib:format("~p is no live context", [Context]))}
    end.

%% @doc What there is to know of all contexts.
-spec all() -> [#{pid := pid(), id := term(), mode := py_context:mode(), interpreter := non_neg_integer()}].
all() ->
    [#{pid => Pid, id => Id, mode => Mode, interpreter => py_nif:interp_id(Namespace)}
     || {Pid, Namespace, Id, Mode} <- ets:tab2list(?MODULE)].

%% @private
-spec new_table() -> ok.
new_table() ->
    ?MODULE = ets:new(?MODULE, [named_table, public, {read_concurrency, true}]),
    ok.

%% @private
-spec start_link() -> gen_server:start_ret().
start_link() ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

%% @private The calling process stands for this context from now on.
-spec register(py_nif:namespace(), Id :: term(), py_context:mode()) -> ok.
register(Namespace, Id, Mode) ->
    gen_server:call(?MODULE, {register, {self(), Namespace, Id, Mode}}, infinity).

%% @private Ends the context of this process; what is queued or runs there is cancelled.
-spec close(pid(), py_nif:namespace()) -> ok.
close(Context, Namespace) ->
    true = ets:whereis(?MODULE) =:= undefined orelse ets:delete(?MODULE, Context),
    py_nif:context_close(Namespace).

%% The table may be older than this process.
init([]) ->
    [monitor(process, Pid) || {Pid, _, _, _} <- ets:tab2list(?MODULE)],
    {ok, []}.

handle_call({register, {Pid, _, _, _} = Row}, _From, State) ->
    _ = monitor(process, Pid),
    true = ets:insert(?MODULE, Row),
    {reply, ok, State};
handle_call(_Request, _From, State) ->
    {reply, {error, unknown_call}, State}.

handle_cast(_Request, State) ->
    {noreply, State}.

handle_info({'DOWN', _Monitor, process, Pid, _Reason}, State) ->
    [ok = close(Pid, Namespace) || {_, Namespace, _, _} <- ets:lookup(?MODULE, Pid)],
    {noreply, State};
handle_info(_Info, State) ->
    {noreply, State}.
