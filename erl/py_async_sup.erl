%% SPDX-License-Identifier: Apache-2.0
%% @private
%% The supervisor of the processes that run callbacks for py_async.
-module(py_async_sup).
-behaviour(supervisor).

-export([start_link/0, start_callback/4]).
-export([init/1, run/4]).

-spec start_link() -> supervisor:startlink_ret().
start_link() ->
    supervisor:start_link({local, ?MODULE}, ?MODULE, []).

-spec start_callback(py_nif:frame(), Name :: term(), Args :: [term()], Leader :: pid()) ->
          {ok, pid()} | {error, term()}.
start_callback(Frame, Name, Args, Leader) ->
    case supervisor:start_child(?MODULE, [Frame, Name, Args, Leader]) of
        {ok, Pid} when is_pid(Pid) -> {ok, Pid};
        {error, _} = Error -> Error
    end.

%% The start function of a child.  It does not wait, as the function may take long.
-spec run(py_nif:frame(), Name :: term(), Args :: [term()], Leader :: pid()) -> {ok, pid()}.
run(Frame, Name, Args, Leader) ->
    {ok, proc_lib:spawn_link(fun() ->
                                     true = group_leader(Leader, self()),
                                     py_request:serve(Frame, Name, Args)
                             end)}.

init([]) ->
    Child = #{id => callback, start => {?MODULE, run, []}, restart => temporary,
              shutdown => brutal_kill},
    {ok, {#{strategy => simple_one_for_one}, [Child]}}.
