%% SPDX-License-Identifier: Apache-2.0
%% @private
%% The supervisor of the processes that stand between a web application and the process that
%% serves its client.
-module(py_web_sup).
-behaviour(supervisor).

-export([start_link/0, start_stream/1]).
-export([init/1]).

-spec start_link() -> supervisor:startlink_ret().
start_link() ->
    supervisor:start_link({local, ?MODULE}, ?MODULE, []).

%% With the argument of py_web_stream:start_link/1.
-spec start_stream(py_web_stream:start()) -> {ok, pid()} | {error, not_running}.
start_stream(Start) ->
    try supervisor:start_child(?MODULE, [Start]) of
        {ok, Pid} when is_pid(Pid) -> {ok, Pid}
    catch
        exit:{Reason, _} when Reason =:= noproc; Reason =:= shutdown; Reason =:= normal -> {error, not_running}
    end.

init([]) ->
    Child = #{id => stream, start => {py_web_stream, start_link, []}, restart => temporary, shutdown => 5000},
    {ok, {#{strategy => simple_one_for_one}, [Child]}}.
