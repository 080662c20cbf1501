%% SPDX-License-Identifier: Apache-2.0
%% @doc Coroutines on event loops of Python's.
%%
%% An event loop has no thread of its own.  It belongs to a process, which is told when one
%% of the loop's descriptors is ready; what the loop has to do then is done by an executor of
%% the pool `async'.  Each interpreter of that pool has a loop at least, and start_link/0,1
%% makes more.
%%
%% A task is a call on a loop: of a coroutine function, or of any other one.  It goes to the
%% loop by itself, not by way of the process that the loop belongs to.
%%
%% Options are a map, or `{opts, Map}': `kwargs', the keyword arguments; `loop', a loop or its
%% process, or `next' for the application's in turn, else the one that get_loop/0 gives; `return',
%% `errors', `binary' and `atom' as for py:call/5; and for run/4 `timeout'.
-module(py_event_loop).
-behaviour(gen_server).

-export([run/3, run/4, create_task/3, create_task/4, await/1, await/2, cancel/1]).
-export([spawn_task/3, spawn_task/4, run_async/2, get_loop/0, get_loop/1]).
-export([loop/1, next_loop/0]).
-export([start_link/0, start_link/1, stop/1]).
-export([start_default/1, application_stops/1, forget/0, infos/0]).
-export([tasks/2, gather/2, stream/4, collect/1, forward/5]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).
-export_type([loop/0, options/0, settings/0, task/0]).

%% A loop, for as long as its process lives.
-type loop() :: py_nif:loop().
-type options() :: settings() | {opts, settings()}.
-type settings() :: #{kwargs => py:kwargs(), loop => loop() | pid() | next, timeout => timeout(),
                      return => value | handle | buffer, errors => short | full,
                      binary => auto | str | bytes, atom => atom | str}.
%% What run_async/2 takes.
-type task() :: #{ref := term(), caller := pid(), module := py:name(), func := py:name(), args := [term()],
                  kwargs => py:kwargs()}.

%% The loops of the application, for whoever makes tasks: #defaults{}.
-define(DEFAULTS, {?MODULE, defaults}).
%% By their numbers; all of them in that order; the first one of each interpreter; and how many
%% were taken in turn.
-record(defaults, {rows = #{} :: #{pos_integer() => {Interp :: non_neg_integer(), loop()}},
                   all = {} :: tuple(),
                   first = #{} :: #{non_neg_integer() => loop()},
                   turns = atomics:new(1, []) :: atomics:atomics_ref()}).

%% The tasks that are cancelled have two seconds, see _host.py; and what they block it with may
%% take long.
-define(CLOSE_TIMEOUT, 4000).
-define(RESULT_KEYS, [return, errors, binary, atom]).

%%% Tasks

%% @equiv run(Module, Function, Args, #{})
-spec run(Module :: py:name(), Function :: py:name(), Args :: [term()]) -> py:result().
run(Module, Function, Args) when is_atom(Module), is_atom(Function), is_list(Args) ->
    case get_loop() of
        {ok, Loop} -> py_request:run({loop, Loop}, task, [Module, Function, Args, #{}], infinity);
        {error, _} = Error -> Error
    end;
run(Module, Function, Args) ->
    run(Module, Function, Args, #{}).

%% @doc Runs a coroutine on a loop and waits for its result: the coroutine, or anything else
%% that can be awaited, that the function returns.  What cannot be awaited is the result
%% itself.  After the timeout, or when the calling process dies, the task is cancelled:
%% `asyncio.CancelledError' is raised in it.
-spec run(Module :: py:name(), Function :: py:name(), Args :: [term()], options()) -> py:result().
run(Module, Function, Args, Options) ->
    case task(Module, Function, Args, options(Options), [timeout | ?RESULT_KEYS]) of
        {ok, {Loop, Terms, #{timeout := Timeout, flags := Flags}}} ->
            py_request:run({loop, Loop}, task, Terms, Timeout, Flags);
        {error, _} = Error ->
            Error
    end.

%% @equiv create_task(Module, Function, Args, #{})
-spec create_task(Module :: py:name(), Function :: py:name(), Args :: [term()]) ->
          {ok, reference()} | {error, py:reason()}.
create_task(Module, Function, Args) ->
    create_task(Module, Function, Args, #{}).

%% @doc Begins a task, which ends with the calling process.  Its result is what await/1,2
%% gives there for the reference.
-spec create_task(Module :: py:name(), Function :: py:name(), Args :: [term()], options()) ->
          {ok, reference()} | {error, py:reason()}.
create_task(Module, Function, Args, Options) ->
    begin_task(task(Module, Function, Args, options(Options), ?RESULT_KEYS)).

begin_task({ok, {Loop, Terms, #{flags := Flags}}}) -> py_request:async({loop, Loop}, task, Terms, Flags);
begin_task({error, _} = Error) -> Error.

%% @equiv py:await(Ref)
-spec await(reference()) -> py:result().
await(Ref) ->
    py:await(Ref).

%% @equiv py:await(Ref, Timeout)
-spec await(reference(), timeout()) -> py:result().
await(Ref, Timeout) ->
    py:await(Ref, Timeout).

%% @doc Cancels a task that the calling process began.  No message of it comes afterwards, and
%% await/1,2 gives `{error, cancelled}'.  The task may go on for as long as it needs to end.
-spec cancel(reference()) -> ok | {error, py:reason()}.
cancel(Ref) ->
    py:cancel(Ref).

%% @equiv spawn_task(Module, Function, Args, #{})
-spec spawn_task(Module :: py:name(), Function :: py:name(), Args :: [term()]) -> ok | {error, py:reason()}.
spawn_task(Module, Function, Args) ->
    spawn_task(Module, Function, Args, #{}).

%% @doc Begins a task whose result nobody wants to know and which outlives the calling process.
%% An error is logged.  Options: all but `timeout' and `return'.
-spec spawn_task(Module :: py:name(), Function :: py:name(), Args :: [term()], options()) ->
          ok | {error, py:reason()}.
spawn_task(Module, Function, Args, Options) ->
    case task(Module, Function, Args, options(Options), [errors, binary, atom]) of
        {ok, {Loop, Terms, #{flags := Flags}}} -> py_request:cast({loop, Loop}, task, Terms, Flags);
        {error, _} = Error -> Error
    end.

%% The loop, the terms and the options of a task.  Keys: of the options that there may be
%% beside ours.
task(Module, Function, Args, Options, Keys) ->
    py_args:checked(fun() -> checked_task(Module, Function, Args, Options, Keys) end).

checked_task(Module, Function, Args, Options, Keys) ->
    #{rest := Rest} = Of = py_args:options(Options, [kwargs, loop | Keys]),
    Terms = py_args:call(Module, Function, Args, maps:get(kwargs, Rest, #{})),
    {loop(Rest), Terms, Of}.

options({opts, _} = Options) -> Options;
options(Options) -> {opts, Options}.

%% @private The loop that these options name, else the one of the calling process.
-spec loop(map()) -> loop().
loop(#{loop := Loop}) when is_reference(Loop) -> known(Loop);
loop(#{loop := Pid}) when is_pid(Pid) -> allowed(get_loop(Pid));
loop(#{loop := next}) -> allowed(next_loop());
loop(#{loop := Other}) -> py_args:refuse('TypeError', "a loop is a reference, a process or next, not ~tP", [Other, 10]);
loop(#{}) -> allowed(get_loop()).

known(Loop) ->
    try py_nif:loop_info(Loop) of
        #{} -> Loop
    catch
        error:badarg -> py_args:refuse('ValueError', "~tw is no event loop", [Loop]);
        error:not_loaded -> py_args:refuse(not_running)
    end.

allowed({ok, Loop}) -> Loop;
allowed({error, Reason}) -> py_args:refuse(Reason).

%%% Tasks whose result is a message

%% @doc Begins a task on this loop, or on the `next' one.  The process `caller' gets `{async_result, Ref, Result}'
%% with its `ref' when the task has ended; should that process die before, the task is
%% cancelled.
-spec run_async(loop() | pid() | next, task()) -> ok | {error, py:reason()}.
run_async(Loop, Task) ->
    case py_args:checked(fun() -> {loop(#{loop => Loop}), async_task(Task)} end) of
        {ok, {Checked, {Ref, Caller, Terms}}} -> start_forward(Checked, Ref, Caller, Terms);
        {error, _} = Error -> Error
    end.

async_task(#{ref := Ref, caller := Caller, module := Module, func := Function, args := Args} = Task)
  when is_pid(Caller) ->
    case maps:keys(maps:without([ref, caller, module, func, args, kwargs], Task)) of
        [] -> {Ref, Caller, py_args:call(Module, Function, Args, maps:get(kwargs, Task, #{}))};
        [Key | _] ->
            py_args:refuse('TypeError', "a task has no ~tP (it has ref, caller, module, func, args and kwargs)",
                           [Key, 10])
    end;
async_task(Task) ->
    py_args:refuse('TypeError', "a task is a map with ref, caller (a pid), module, func and args, not ~tP",
                   [Task, 10]).

%% The task ends with the process that stands between it and the caller.
start_forward(Loop, Ref, Caller, Terms) ->
    case py_request:own() of
        not_running ->
            {error, not_running};
        Namespace ->
            Started = make_ref(),
            Origin = {self(), Started, Namespace, py_request:trace_context()},
            {Pid, Monitor} = spawn_monitor(?MODULE, forward, [Origin, Loop, Ref, Caller, Terms]),
            receive
                {Started, Outcome} ->
                    true = demonitor(Monitor, [flush]),
                    Outcome;
                {'DOWN', Monitor, process, Pid, Reason} ->
                    exit(Reason)
            end
    end.

%% @private
-spec forward({pid(), reference(), py_nif:namespace(), binary() | undefined}, loop(), Ref :: term(),
              Caller :: pid(), Terms :: [term()]) -> ok.
forward({Parent, Started, Namespace, Context}, Loop, Ref, Caller, Terms) ->
    _ = put('$ancestors', [Parent]),
    _ = put('$initial_call', {?MODULE, forward, 5}),
    ok = py_request:adopt(Namespace),
    ok = py_request:set_trace_context(Context),
    Monitor = monitor(process, Caller),
    case py_request:async({loop, Loop}, task, Terms, 0) of
        {ok, Ticket} ->
            Parent ! {Started, ok},
            forward(Ticket, Monitor, Ref, Caller);
        {error, _} = Error ->
            Parent ! {Started, Error},
            ok
    end.

forward(Ticket, Monitor, Ref, Caller) ->
    receive
        {'DOWN', Monitor, process, Caller, _Reason} ->
            ok; % and the task with this process
        Message when element(1, Message) =:= Ticket ->
            Caller ! {async_result, Ref, py_request:answer(Message)},
            ok
    end.

%%% What py:async_gather and py:async_stream do

-type checked() :: {loop(), Terms :: [term()], py_args:options()}.

%% @private
-spec tasks(Items :: [[term()]], Options :: term()) -> {[checked()], timeout()}.
tasks(Items, Options) ->
    #{timeout := Timeout, rest := Rest} = Of = py_args:options(Options, [timeout, loop | ?RESULT_KEYS]),
    Loop = loop(Rest),
    {[{Loop, Terms, Of} || Terms <- Items], Timeout}.

%% @private
-spec gather([checked()], timeout()) -> {ok, [py:result()]}.
gather(Tasks, Timeout) ->
    Left = time_left(Timeout),
    {ok, [gathered(Begun, Left) || Begun <- [begin_task({ok, Task}) || Task <- Tasks]]}.

gathered({ok, Ref}, Left) -> py_request:await(Ref, Left());
gathered({error, _} = Error, _Left) -> Error.

%% @private
-spec stream(term(), term(), term(), KwargsOrOptions :: term()) -> checked().
stream(Module, Function, Args, {opts, _} = Options) ->
    checked_task(Module, Function, Args, Options, [timeout, errors, binary, atom]);
stream(Module, Function, Args, KwargsOrTimeout) ->
    {Kwargs, Timeout} = py_args:kwargs_or_options(KwargsOrTimeout),
    stream(Module, Function, Args, {opts, #{kwargs => Kwargs, timeout => Timeout}}).

%% @private The call gives an asynchronous iterator, whose interpreter is that of the loop.
-spec collect(checked()) -> {ok, [term()]} | {error, py:reason()}.
collect({Loop, Terms, #{timeout := Timeout, flags := Flags}}) ->
    Left = time_left(Timeout),
    case py_request:run({loop, Loop}, task, Terms, Left(), py_args:handle_flag(Flags)) of
        {ok, Iterator} ->
            py_request:run({loop, Loop}, task, ['erlang._tasks', collect, [Iterator], #{}], Left(), Flags);
        {error, _} = Error ->
            Error
    end.

time_left(infinity) ->
    fun() -> infinity end;
time_left(Timeout) ->
    Deadline = erlang:monotonic_time(millisecond) + Timeout,
    fun() -> max(0, Deadline - erlang:monotonic_time(millisecond)) end.

%%% Which loop

%% @doc The loop for tasks of the calling process: the first one in the interpreter that the
%% process is bound to.  So tasks that share the modules of an interpreter share its loop as
%% well, and with it the locks, queues and connections that were made there.
-spec get_loop() -> {ok, loop()} | {error, not_running}.
get_loop() ->
    case defaults() of
        {ok, Defaults} -> {ok, first_here(Defaults)};
        {error, _} = Error -> Error
    end.

defaults() ->
    case persistent_term:get(?DEFAULTS, none) of
        none -> {error, not_running};
        Defaults -> {ok, Defaults}
    end.

first_here(#defaults{all = All, first = First}) when map_size(First) =:= 1 ->
    element(1, All);
first_here(#defaults{all = All, first = First}) ->
    case py_request:current() of
        not_running -> element(1, All);
        %% A context may have an interpreter that has no loop.
        Namespace -> maps:get(py_nif:interp_id(Namespace), First, element(1, All))
    end.

%% @private All of them in turn.
-spec next_loop() -> {ok, loop()} | {error, not_running}.
next_loop() ->
    case defaults() of
        {ok, #defaults{all = {Loop}}} -> {ok, Loop};
        {ok, #defaults{all = All, turns = Turns}} ->
            {ok, element(atomics:add_get(Turns, 1, 1) rem tuple_size(All) + 1, All)};
        {error, _} = Error -> Error
    end.

%% @doc The loop of a process that start_link/0,1 gave.
-spec get_loop(pid()) -> {ok, loop()} | {error, py:reason()}.
get_loop(Pid) ->
    py_event_loops:find(Pid).

%% @private What there is to know of all loops, those of the application first.
-spec infos() -> [map()].
infos() ->
    [(py_nif:loop_info(Loop))#{number => Number, pid => Pid} || {Number, Pid, Loop} <- py_event_loops:all()].

%% @private Nobody finds the application's loops any more.
-spec forget() -> ok.
forget() ->
    _ = persistent_term:erase(?DEFAULTS),
    ok.

%%% The process of a loop

%% @doc A loop in the interpreter of the calling process, on one of the threads there in turn.
-spec start_link() -> {ok, pid()} | {error, py:reason()}.
start_link() ->
    start_link(#{}).

%% @doc A loop of the calling process, which tasks use by the option `loop'.  Option: `worker',
%% on the thread of the application's loop with this number, from 1; after the last one that
%% begins with the first again.
-spec start_link(#{worker => pos_integer()}) -> {ok, pid()} | {error, py:reason()}.
start_link(Options) ->
    case py_args:checked(fun() -> worker(Options) end) of
        {ok, N} -> started(gen_server:start_link(?MODULE, {none, N}, []));
        {error, _} = Error -> Error
    end.

worker(Options) when is_map(Options) ->
    Defaults = allowed(defaults()),
    case {maps:keys(maps:without([worker], Options)), Options} of
        {[], #{worker := N}} when is_integer(N), N >= 1 -> N - 1;
        {[], #{worker := N}} -> py_args:refuse('ValueError', "worker must be a positive integer, not ~tP", [N, 10]);
        {[], #{}} -> own_worker(Defaults);
        {[Key | _], _} -> py_args:refuse('TypeError', "there is no option ~tP (there is worker)", [Key, 10])
    end;
worker(Options) ->
    py_args:refuse('TypeError', "the options must be a map, not ~tP", [Options, 10]).

own_worker(#defaults{rows = Rows, turns = Turns} = Defaults) ->
    #{interp := Own} = py_nif:loop_info(first_here(Defaults)),
    Here = [N || {N, {Interp, _}} <- maps:to_list(Rows), Interp =:= Own],
    lists:nth(atomics:add_get(Turns, 1, 1) rem length(Here) + 1, Here) - 1.

%% A process that were to be stopped would take the calling one with it.
started({ok, Pid}) -> {ok, Pid};
started(ignore) -> {error, not_running}.

%% @private The application's loop of this number, from 1.
-spec start_default(pos_integer()) -> {ok, pid()} | {error, not_running}.
start_default(Number) ->
    started(gen_server:start_link(?MODULE, {Number, Number - 1}, [])).

%% @doc Ends a loop: its tasks are cancelled and have two seconds to end.
-spec stop(pid()) -> ok.
stop(Pid) ->
    try gen_server:stop(Pid, normal, infinity)
    catch exit:Reason when Reason =:= noproc; Reason =:= normal; Reason =:= shutdown -> ok % it has ended by itself
    end.

%% @private Has the process of a loop end.
-spec application_stops(pid()) -> ok.
application_stops(Pid) ->
    gen_server:cast(Pid, application_stops).

-record(state, {loop :: loop(), number :: pos_integer() | none, worker :: non_neg_integer()}).

init({Number, Worker}) ->
    process_flag(trap_exit, true),
    case new(Number, Worker) of
        {ok, Loop} -> {ok, #state{loop = Loop, number = Number, worker = Worker}};
        not_running -> ignore
    end.

%% One that is made and is not wanted goes with its process.
new(Number, Worker) ->
    case py_nif:loop_new(Worker) of
        {ok, Loop} ->
            case py_event_loops:register(Loop, Number) of
                ok -> ok = publish(Number, Loop), {ok, Loop};
                not_running -> not_running
            end;
        not_running ->
            not_running
    end.

%% Python could not go on with it.  The application's loops are replaced without a restart, as
%% what was the matter may well be the matter again.
given_up(#state{number = none} = State) ->
    {stop, {shutdown, loop_failed}, State};
given_up(#state{number = Number, worker = Worker} = State) ->
    case new(Number, Worker) of
        {ok, Loop} -> {noreply, State#state{loop = Loop}};
        not_running -> {stop, shutdown, State}
    end.

publish(none, _Loop) ->
    ok;
publish(Number, Loop) ->
    #{interp := Interp} = py_nif:loop_info(Loop),
    py_event_loops:in_turn(fun() ->
                                   Defaults = persistent_term:get(?DEFAULTS, #defaults{}),
                                   persistent_term:put(?DEFAULTS, with(Number, {Interp, Loop}, Defaults))
                           end).

with(Number, Row, #defaults{rows = Rows} = Defaults) ->
    Now = Rows#{Number => Row},
    Backwards = lists:reverse(lists:sort(maps:to_list(Now))),
    Defaults#defaults{rows = Now,
                      all = list_to_tuple(lists:reverse([Loop || {_, {_, Loop}} <- Backwards])),
                      %% The last of several for a key wins.
                      first = maps:from_list([{Interp, Loop} || {_, {Interp, Loop}} <- Backwards])}.

handle_call(_Request, _From, State) ->
    {reply, {error, unknown_call}, State}.

handle_cast(application_stops, State) ->
    {stop, normal, State};
handle_cast(_Request, State) ->
    {noreply, State}.

handle_info({select, _, undefined, ready_input}, #state{loop = Loop} = State) ->
    ok = py_nif:loop_ready(Loop),
    {noreply, State};
handle_info({py_loop, Loop}, #state{loop = Own} = State) ->
    case py_nif:loop_serve(Loop) of
        closed when Loop =:= Own -> given_up(State);
        _ -> {noreply, State}
    end;
%% As whoever does not trap exits would, which is done here to close the loop.
handle_info({'EXIT', _Pid, Reason}, State) when Reason =/= normal ->
    {stop, shutdown, State};
handle_info(_Info, State) ->
    {noreply, State}.

terminate(_Reason, #state{loop = Loop}) ->
    ok = py_event_loops:unregister(),
    Tag = make_ref(),
    ok = py_nif:loop_close(Loop, Tag),
    await_closed(Loop, Tag, erlang:monotonic_time(millisecond) + ?CLOSE_TIMEOUT).

%% Its tasks may wait for descriptors even now.
await_closed(Loop, Tag, Deadline) ->
    receive
        {Tag, closed} ->
            ok;
        {select, _, undefined, ready_input} ->
            ok = py_nif:loop_ready(Loop),
            await_closed(Loop, Tag, Deadline);
        {py_loop, Loop} ->
            _ = py_nif:loop_serve(Loop),
            await_closed(Loop, Tag, Deadline)
    after max(0, Deadline - erlang:monotonic_time(millisecond)) ->
        logger:warning("erlang_python: an event loop did not end within ~b ms: a task does not end, "
                       "or blocks it", [?CLOSE_TIMEOUT])
    end.
