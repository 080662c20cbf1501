%% SPDX-License-Identifier: Apache-2.0
%% @private
%% The lifespan of an ASGI application: a process whose life it is.
%%
%% In each interpreter a task runs it, on the loop that serves requests.  The task tells `started',
%% and waits; cancelled, it stops the application and tells `stopped'.  One that does not start in
%% time is cancelled before it has, and so is the application; one that does not stop in time
%% cancels the application by itself, as it outlives this process where a supervisor kills that.
-module(py_asgi_lifespan).
-behaviour(gen_server).

-export([checked/3, start_link/1, enter/1]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

-define(STARTUP_TIMEOUT, 60000).
-define(SHUTDOWN_TIMEOUT, 5000).
-define(CANCEL_TIMEOUT, 6000). % for word of one that was cancelled, which has 5000 to end

-record(state, {tasks = #{} :: #{Ticket :: reference() => pos_integer()},
                name :: term(),
                shutdown_timeout :: timeout()}).

%% What start_link/1 takes.
-spec checked(py:name(), py:name(), map()) -> map().
checked(Module, App, Options) ->
    #{rest := Rest} = py_args:options({opts, Options}, [lifespan, loop, startup_timeout, shutdown_timeout]),
    Args = py_web:app(Module, App),
    #{args => Args,
      loops => loops(Args, Rest),
      namespace => py_request:current(),
      options => Rest,
      is_needed => is_needed(maps:get(lifespan, Rest, auto)),
      startup_timeout => py_args:timeout(maps:get(startup_timeout, Rest, ?STARTUP_TIMEOUT)),
      shutdown_timeout => py_args:timeout(maps:get(shutdown_timeout, Rest, ?SHUTDOWN_TIMEOUT))}.

is_needed(auto) -> false;
is_needed(on) -> true;
is_needed(Other) -> py_args:refuse('ValueError', "lifespan can be auto or on, not ~tP", [Other, 10]).

%% In each interpreter the first one, to which requests go; but where an object is or a module
%% loads in one interpreter only.
loops([Module | _] = Args, Options) ->
    Loop = py_web:loop(Options, Args),
    case Module =:= none orelse is_map_key(loop, Options) orelse py_web:is_elsewhere(Module) of
        true -> [Loop];
        false -> [First || Pid <- firsts(), {ok, First} <- [py_event_loop:get_loop(Pid)]]
    end.

firsts() ->
    Rows = lists:sort([{Number, Interp, Pid}
                       || #{number := Number, interp := Interp, pid := Pid} <- py_event_loop:infos(), Number =/= none]),
    %% The last of several for a key wins.
    maps:values(maps:from_list([{Interp, Pid} || {_, Interp, Pid} <- lists:reverse(Rows)])).

%% An application that fails to start is an answer, and does not end the process that asked.
-spec start_link(map()) -> {ok, pid()} | {error, py:reason()}.
start_link(Checked) ->
    proc_lib:start_link(?MODULE, enter, [Checked]).

-spec enter(map()) -> no_return().
enter(#{namespace := Namespace, loops := Loops} = Start) ->
    process_flag(trap_exit, true),
    ok = py_request:bind(Namespace),
    case begin_on(Loops, Start) of
        {ok, State} ->
            ok = proc_lib:init_ack({ok, self()}),
            gen_server:enter_loop(?MODULE, [], State);
        {error, Reason} ->
            ok = proc_lib:init_ack({error, Reason}),
            exit(normal)
    end.

begin_on(Loops, #{args := Args, options := Options, is_needed := IsNeeded, startup_timeout := Timeout,
                  shutdown_timeout := ShutdownTimeout} = Start) ->
    State = #state{name = Args, shutdown_timeout = ShutdownTimeout},
    Numbered = lists:zip(lists:seq(1, length(Loops)), Loops),
    Patience = case ShutdownTimeout of
                   infinity -> none;
                   _ -> ShutdownTimeout
               end,
    Request = fun(Loop, Index) ->
                      py_request:async({loop, Loop}, task, ['erlang._asgi', lifespan,
                                                            Args ++ [self(), Index, IsNeeded, Patience], #{}], 0)
              end,
    case begin_all(Numbered, Request, Timeout, deadline(Timeout), State) of
        {ok, Begun} -> {ok, Begun};
        {error, _} = Error ->
            case py_web:moves(Error, Options, Args) andalso py_web:main_loop() of
                {ok, Main} when Loops =/= [Main] -> begin_on([Main], Start);
                _ -> Error
            end
    end.

init(_Args) ->
    ignore. % enter/1 has done all

begin_all([], _Request, _Timeout, _Deadline, State) ->
    {ok, State};
begin_all([{Index, Loop} | Rest], Request, Timeout, Deadline, #state{tasks = Tasks} = State) ->
    case started(Request(Loop, Index), Index, Deadline) of
        {ok, Ticket} ->
            begin_all(Rest, Request, Timeout, Deadline, State#state{tasks = Tasks#{Ticket => Index}});
        {late, Ticket} ->
            ok = py_request:cancel(Ticket),
            Error = late(word(Index, patience(State)), Timeout),
            ok = shut_down(State),
            Error;
        {error, Reason} ->
            ok = shut_down(State),
            {error, Reason}
    end.

started({ok, Ticket}, Index, Deadline) ->
    receive
        {py_web, {started, Index}} -> {ok, Ticket};
        Message when element(1, Message) =:= Ticket -> failed(py_request:answer(Message));
        {'EXIT', _Pid, Reason} -> exit(Reason) % the parent's
    after remaining(Deadline) ->
        {late, Ticket}
    end;
started({error, _} = Error, _Index, _Deadline) ->
    Error.

failed({error, _} = Error) -> Error.

late(Word, Timeout) ->
    Text = io_lib:format("the ASGI application had not started after ~b ms; ~ts",
                         [Timeout, case Word of
                                       none -> "it was cancelled";
                                       silence -> "it was cancelled, and has not ended";
                                       _ -> Word
                                   end]),
    {error, {'TimeoutError', unicode:characters_to_binary(Text)}}.

handle_call(_Request, _From, State) ->
    {reply, {error, unknown_call}, State}.

handle_cast(_Request, State) ->
    {noreply, State}.

handle_info(Message, #state{tasks = Tasks} = State) when is_map_key(element(1, Message), Tasks) ->
    %% It ends by itself only with its loop.
    {error, Reason} = py_request:answer(Message),
    {stop, {shutdown, Reason}, State#state{tasks = maps:remove(element(1, Message), Tasks)}};
handle_info(_Info, State) ->
    {noreply, State}.

terminate(_Reason, State) ->
    shut_down(State).

shut_down(#state{tasks = Tasks, name = Name} = State) ->
    Deadline = patience(State),
    _ = [ok = py_request:cancel(Ticket) || Ticket <- maps:keys(Tasks)],
    lists:foreach(fun(Index) -> stopped(Index, Name, Deadline) end, maps:values(Tasks)).

stopped(Index, Name, Deadline) ->
    case word(Index, Deadline) of
        none -> ok;
        silence -> logger:warning("erlang_python: the ASGI application ~tp did not shut down in time", [Name]);
        Text -> logger:warning("erlang_python: the ASGI application ~tp failed to shut down: ~ts", [Name, Text])
    end.

%% What a task says of its end.
word(Index, Deadline) ->
    receive {py_web, {stopped, Index, Word}} -> Word
    after remaining(Deadline) -> silence
    end.

patience(#state{shutdown_timeout = infinity}) -> infinity;
patience(#state{shutdown_timeout = Timeout}) -> deadline(Timeout + ?CANCEL_TIMEOUT).

deadline(infinity) -> infinity;
deadline(Timeout) -> erlang:monotonic_time(millisecond) + Timeout.

remaining(infinity) -> infinity;
remaining(Deadline) -> max(0, Deadline - erlang:monotonic_time(millisecond)).
