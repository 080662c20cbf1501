%% SPDX-License-Identifier: Apache-2.0
%%
%% The measurements of bench/run --callbacks, in the node under test: each function of
%% bench_callbacks.py measures itself and is called again and again for the time given,
%% in a process of its own; the figure is the median.
-module(bench_callbacks_node).

-export([measure/2]).
-export([log/2]).

-define(PY, bench_callbacks).
-define(HANDLER, bench_log).
%% How often in one call. Messages and logs wait in mailboxes meanwhile.
-define(MANY, 10000).
-define(FEW, 1000).

-spec measure(term(), pos_integer()) -> #{term() => float()}.
measure(Figure, Ms) ->
    case bench_backend:is_port() of
        true ->
            #{};
        false ->
            ok = bench_backend:python_path(filename:dirname(code:which(?MODULE))),
            ok = py:register_function(bench_add, fun([X]) -> X + 1 end),
            [Us] = bench_node:together([fun() -> figure(Figure, Ms) end]),
            #{Figure => Us}
    end.

%% Internals.

figure({call, N}, Ms) -> median(Ms, call, [N]);
figure(attribute, Ms) -> median(Ms, attribute, [?FEW]);
figure(sort, Ms) -> median(Ms, sort, [?FEW, fun(X) -> -X end]);
figure(nest, Ms) -> nest(Ms);
figure(thread, Ms) -> median(Ms, thread, [?FEW]);
figure({tasks, AtOnce}, Ms) -> median(Ms, tasks, [?FEW, AtOnce]);
figure(send, Ms) -> with_sink(fun(Sink) -> median(Ms, send, [?MANY, Sink], fun() -> emptied(Sink) end) end);
figure(send_name, Ms) -> with_sink(fun(Sink) -> send_name(Sink, Ms) end);
figure(incr, Ms) -> median(Ms, incr, [?MANY]);
figure(get, Ms) -> median(Ms, get, [?FEW]);
figure(put, Ms) -> median(Ms, put, [?FEW]);
figure(log, Ms) -> logged(info, Ms);
figure(log_off, Ms) -> logged(warning, Ms);
figure(span, Ms) -> spans(fun py:enable_tracing/0, Ms);
figure(span_off, Ms) -> spans(fun py:disable_tracing/0, Ms).

median(Ms, Function, Args) ->
    median(Ms, Function, Args, fun() -> ok end).

%% Between two measurements Between is done, and not measured.
median(Ms, Function, Args, Between) ->
    {ok, _} = py:call(?PY, Function, Args),
    ok = Between(),
    To = erlang:monotonic_time() + bench_node:native(Ms),
    bench_stats:median(samples(fun() -> {ok, Us} = py:call(?PY, Function, Args), ok = Between(), Us end, To, [])).

%% Three at the least.
samples(Measure, To, Samples) ->
    All = [Measure() | Samples],
    case erlang:monotonic_time() < To orelse length(All) < 3 of
        true -> samples(Measure, To, All);
        false -> All
    end.

%% The callback calls a function of Python's.
nest(Ms) ->
    ok = py:register_function(bench_add, fun([X]) -> {ok, 4.0} = py:call(math, sqrt, [16]), X + 1 end),
    Us = median(Ms, call, [?FEW]),
    ok = py:register_function(bench_add, fun([X]) -> X + 1 end),
    Us.

with_sink(Fun) ->
    Sink = spawn_link(fun sink/0),
    Result = Fun(Sink),
    Sink ! stop,
    Result.

sink() ->
    receive
        {emptied, From} ->
            From ! emptied,
            sink();
        stop ->
            ok;
        _ ->
            sink()
    end.

%% It has taken all that was sent before.
emptied(Sink) ->
    Sink ! {emptied, self()},
    receive
        emptied -> ok
    end.

send_name(Sink, Ms) ->
    true = register(?HANDLER, Sink),
    Us = median(Ms, send, [?MANY, ?HANDLER], fun() -> emptied(Sink) end),
    true = unregister(?HANDLER),
    Us.

%% The handler gets all, and does nothing. Fewer than may wait for it at once.
logged(Level, Ms) ->
    #{level := Before} = logger:get_primary_config(),
    Others = logger:get_handler_ids(),
    Saved = [{Id, maps:get(level, Config)} || Id <- Others, {ok, Config} <- [logger:get_handler_config(Id)]],
    [ok = logger:set_handler_config(Id, level, none) || Id <- Others],
    ok = logger:set_primary_config(level, all),
    ok = logger:add_handler(?HANDLER, ?MODULE, #{level => all}),
    ok = py:configure_logging(#{level => Level}),
    Us = median(Ms, log, [?FEW], fun handled/0),
    ok = py:configure_logging(#{level => none}),
    ok = logger:remove_handler(?HANDLER),
    ok = logger:set_primary_config(level, Before),
    [ok = logger:set_handler_config(Id, level, Level0) || {Id, Level0} <- Saved],
    Us.

handled() ->
    _ = sys:get_state(py_logger),
    ok.

%% The callback of logger.
-spec log(logger:log_event(), logger:handler_config()) -> ok.
log(_Event, _Config) ->
    ok.

spans(Switch, Ms) ->
    ok = Switch(),
    Us = median(Ms, span, [?FEW], fun() ->
        {ok, _} = py:get_traces(),
        py:clear_traces()
    end),
    ok = py:disable_tracing(),
    Us.
