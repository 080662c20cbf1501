%% SPDX-License-Identifier: Apache-2.0
%% @private
%% What the library has to say and no caller waits for.  Each is logged once.
-module(py_events).
-behaviour(gen_server).

-export([start_link/0]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

-type state() :: #{term() => []}. % what was logged

-spec start_link() -> gen_server:start_ret().
start_link() ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

-spec init([]) -> {ok, state()}.
init([]) ->
    {ok, #{}}.

handle_call(_Request, _From, State) ->
    {reply, {error, unknown_call}, State}.

handle_cast(_Request, State) ->
    {noreply, State}.

handle_info({py_event, Event}, State) ->
    Key = key(Event),
    is_map_key(Key, State) orelse log(Event),
    {noreply, State#{Key => []}};
handle_info(_Info, State) ->
    {noreply, State}.

%% The time that it took does not make it another event.
key({moved_back, Module, Function, _Microseconds}) -> {moved_back, Module, Function};
key(Event) -> Event.

log({refused_module, Module}) ->
    logger:notice("erlang_python: the module ~ts does not load in a sub-interpreter; the main interpreter "
                  "serves it from now on", [Module]);
log({gil_enabled, Module}) ->
    logger:warning("erlang_python: the import of ~ts turned the GIL of this free-threaded Python on; "
                   "Python code does not run in parallel any more", [Module]);
log({moved_back, Module, Function, Microseconds}) ->
    logger:warning("erlang_python: ~ts.~ts took ~b us on a scheduler; it is not run inline any more",
                   [Module, Function, Microseconds]);
log(Event) ->
    logger:warning("erlang_python: ~tp", [Event]).
