%% SPDX-License-Identifier: Apache-2.0
%% @private
%% The application's supervisor.  It owns the table of registered functions, so
%% that they outlive a restart of the processes below it.
-module(erlang_python_sup).
-behaviour(supervisor).

-export([start_link/0]).
-export([init/1]).

-spec start_link() -> supervisor:startlink_ret().
start_link() ->
    supervisor:start_link({local, ?MODULE}, ?MODULE, []).

init([]) ->
    ok = py_callback:new_table(),
    Runtime = #{id => py_runtime, start => {py_runtime, start_link, []}, shutdown => 5000},
    {ok, {#{strategy => one_for_one, intensity => 3, period => 10}, [Runtime]}}.
