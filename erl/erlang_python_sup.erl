%% SPDX-License-Identifier: Apache-2.0
%% @private
%% The application's supervisor.  It owns the tables, so that these outlive a restart of the
%% processes below it.
%%
%% Each process needs those before it: when one is started anew, so are those after it.
-module(erlang_python_sup).
-behaviour(supervisor).

-export([start_link/0]).
-export([init/1]).

-spec start_link() -> supervisor:startlink_ret().
start_link() ->
    supervisor:start_link({local, ?MODULE}, ?MODULE, []).

init([]) ->
    [ok = Module:new_table() || Module <- [py_callback, py_state, py_tracer, py_setup, py_contexts,
                                           py_context_router, py_stream, py_event_loops, py_reactor_context]],
    {ok, {#{strategy => rest_for_one, intensity => 3, period => 10},
          [helpers(),                      % before Python has something to say
           worker(py_runtime, 10000),      % Python starts, and stops
           worker(py_setup, 5000),         % paths, imports, preloaded code
           worker(py_contexts, 5000),
           supervisor(py_context_sup),
           worker(py_context_router, 10000),
           supervisor(py_stream_sup),
           supervisor(py_event_loop_sup),
           supervisor(py_web_sup)]}};
init(helpers) ->
    {ok, {#{strategy => one_for_one, intensity => 10, period => 10},
          [worker(py_events, 5000),
           worker(py_logger, 5000),
           worker(py_tracer, 5000),
           worker(py_sender, 5000),
          worker(py_subprocess, 5000),
           worker(py_async, 5000)]}}.

%% These need nobody, and nobody is to be started anew because one of them was.
helpers() ->
    #{id => helpers, type => supervisor, start => {supervisor, start_link, [?MODULE, helpers]}}.

worker(Module, Shutdown) ->
    #{id => Module, start => {Module, start_link, []}, shutdown => Shutdown}.

supervisor(Module) ->
    #{id => Module, start => {Module, start_link, []}, type => supervisor}.
