%% SPDX-License-Identifier: Apache-2.0
%% @private
%% The supervisor of the application's event loops: one at least for each interpreter of the
%% pool `async'.
-module(py_event_loop_sup).
-behaviour(supervisor).

-export([start_link/0]).
-export([init/1]).

-spec start_link() -> supervisor:startlink_ret().
start_link() ->
    supervisor:start_link({local, ?MODULE}, ?MODULE, []).

init([]) ->
    ok = py_event_loop:forget(), % those of an earlier life
    Loops = [child(N, py_event_loop, start_default, [N]) || N <- lists:seq(1, py_event_loop_pool:size())],
    %% The last one to start is the first to stop, and has the others stop.
    {ok, {#{strategy => one_for_one, intensity => 10, period => 10},
          Loops ++ [child(py_event_loops, py_event_loops, start_link, [])]}}.

%% Their own limits are below that one.
child(Id, Module, Function, Args) ->
    #{id => Id, start => {Module, Function, Args}, restart => transient, shutdown => 6000}.
