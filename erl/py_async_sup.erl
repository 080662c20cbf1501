%% SPDX-License-Identifier: Apache-2.0
%% @private
%% The supervisor of the processes that run callbacks for py_async.
-module(py_async_sup).
-behaviour(supervisor).

-export([start_link/0, start_callback/3]).
-export([init/1, run/3]).

-spec start_link() -> supervisor:startlink_ret().
start_link() ->
    supervisor:start_link({local, ?MODULE}, ?MODULE, []).

-spec start_callback(py_nif:frame(), Name :: term(), Args :: [term()]) -> {ok, pid()} | {error, term()}.
start_callback(Frame, Name, Args) ->
    case supervisor:start_child(?MODULE, [Frame, Name, Args]) of
        {ok, Pid} when is_pid(Pid) -> {ok, Pid};
        {error, _} = Error -> Error
    end.

%% The start function of a child.  It does not wait, as the function may take long.
-spec run(py_nif:frame(), Name :: term(), Args :: [term()]) -> {ok, pid()}.
run(Frame, Name, Args) ->
    {ok, proc_lib:spawn_link(py_request, serve, [Frame, Name, Args])}.

init([]) ->
    Child = #{id => callback, start => {?MODULE, run, []}, restart => temporary,
              shutdown => brutal_kill},
    {ok, {#{strategy => simple_one_for_one}, [Child]}}.
