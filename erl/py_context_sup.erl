%% SPDX-License-Identifier: Apache-2.0
%% @private
%% The supervisor of the contexts that belong to no process.  It restarts none: the router
%% replaces its own, and knows their places.
-module(py_context_sup).
-behaviour(supervisor).

-export([start_link/0, start_context/3]).
-export([init/1]).

-spec start_link() -> supervisor:startlink_ret().
start_link() ->
    supervisor:start_link({local, ?MODULE}, ?MODULE, []).

-spec start_context(Id :: term(), py_context:mode(), py_context:options()) ->
          {ok, pid()} | {error, py:reason()}.
start_context(Id, Mode, Options) ->
    try supervisor:start_child(?MODULE, [Id, Mode, Options]) of
        {ok, Pid} when is_pid(Pid) -> {ok, Pid};
        {error, Reason} -> {error, Reason}
    catch
        exit:{noproc, _} -> {error, not_running}
    end.

init([]) ->
    Child = #{id => py_context, start => {py_context, start_link, []}, restart => temporary,
              shutdown => 5000},
    {ok, {#{strategy => simple_one_for_one}, [Child]}}.
