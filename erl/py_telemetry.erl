%% SPDX-License-Identifier: Apache-2.0
%% @private
%% An event of the application telemetry for each request, if that application is loaded
%% when ours starts.
%%
%% `[erlang_python, request, stop]', for a request that was answered: measurements
%% `queue_time' and `duration' in native units; metadata `operation', `module', `function',
%% `pool' and `result', `ok' or `error'.
%%
%% `[erlang_python, request, cancel]', for one that ended without an answer: measurement
%% `count', 1; metadata as above, with the reason as the result.
-module(py_telemetry).

-export([detect/0, stop/4, cancel/3]).
-export_type([what/0]).

-ignore_xref([{telemetry, execute, 3}]).

-type what() :: {Operation :: call | eval | exec | task, Pool :: atom()}.

%% Is telemetry to be served?  Looks, and remembers it for cancel/3.
-spec detect() -> boolean().
detect() ->
    On = application:get_key(telemetry, vsn) =/= undefined andalso
        code:ensure_loaded(telemetry) =:= {module, telemetry} andalso
        erlang:function_exported(telemetry, execute, 3),
    persistent_term:put(?MODULE, On),
    On.

%% Names: {Module, Function}, or {undefined, undefined} for code.
-spec stop(what(), Names :: {term(), term()}, Result :: term(), {QueueNs :: integer(), RunNs :: integer()}) ->
          ok.
stop(What, Names, Result, {QueueNs, RunNs}) ->
    execute(stop, #{queue_time => native(QueueNs), duration => native(RunNs)},
            metadata(What, Names, outcome(Result))).

%% What was given up.
-spec cancel(what(), Names :: {term(), term()}, Reason :: term()) -> ok.
cancel(What, Names, Reason) ->
    case persistent_term:get(?MODULE, false) of
        true -> execute(cancel, #{count => 1}, metadata(What, Names, Reason));
        false -> ok
    end.

execute(Event, Measurements, Metadata) ->
    telemetry:execute([erlang_python, request, Event], Measurements, Metadata).

metadata({Operation, Pool}, {Module, Function}, Result) ->
    #{operation => Operation, module => Module, function => Function,
      pool => pool(Pool, Module, Function), result => Result}.

pool(undefined, Module, Function) when is_atom(Module), is_atom(Function), Module =/= undefined ->
    py_context_router:routed(Module, Function);
pool(undefined, _, _) -> default;
pool(Pool, _, _) -> Pool.

outcome({error, _}) -> error;
outcome(_) -> ok.

native(Ns) ->
    erlang:convert_time_unit(Ns, nanosecond, native).
