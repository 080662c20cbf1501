%% SPDX-License-Identifier: Apache-2.0
%% @private
%% The supervisor of the streams of messages.
-module(py_stream_sup).
-behaviour(supervisor).

-export([start_link/0, start_stream/1]).
-export([init/1]).

-spec start_link() -> supervisor:startlink_ret().
start_link() ->
    supervisor:start_link({local, ?MODULE}, ?MODULE, []).

%% With the arguments of py_stream:start_link/5.
-spec start_stream(Args :: [term()]) -> {ok, pid()} | {error, term()}.
start_stream(Args) ->
    case supervisor:start_child(?MODULE, Args) of
        {ok, Pid} when is_pid(Pid) -> {ok, Pid};
        {error, _} = Error -> Error
    end.

init([]) ->
    Child = #{id => stream, start => {py_stream, start_link, []}, restart => temporary, shutdown => 5000},
    {ok, {#{strategy => simple_one_for_one}, [Child]}}.
