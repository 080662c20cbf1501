%% SPDX-License-Identifier: Apache-2.0
%%
%% What the suites share: the frame of a suite, processes that a case controls, barriers,
%% Python modules made for a case, and looks at the node from outside.
%%
%% A test must not depend on how long something takes.  Where Python code has to be in
%% the middle of something, it waits in a C call that the case ends itself (block/1 and
%% release/1: the opening of a FIFO), or in a callback to the case.  Where the case has to
%% wait for a fact that nobody announces, wait_until/1 polls for it, with an end.
-module(py_test).

-export([cases/1, start/1, stop/1]).
-export([mode/0, variant/0, shared_mode/0, only_in_shared_modes/0, sanitizer/1]).
-export([through/1, define/1, write_module/3]).
-export([worker/0, workers_apart/1, run/2, start/2, answer/1, answer/2, end_worker/1, in_process/1, at_once/1]).
-export([block/1, open_blocked/1, release/1, wait_until/1, wait_until/2]).
-export([messages/0, milliseconds/1, threads/0, resident/0]).

-type worker() :: {pid(), reference()}.

%%% The frame of a suite

%% The cases of a suite are what it exports, so that none can be forgotten in a list.
cases(Suite) ->
    Frame = [init_per_suite, end_per_suite, module_info],
    Source = [F || {F, 1} <- Suite:module_info(functions)],
    [F || F <- Source, not lists:member(F, Frame), erlang:function_exported(Suite, F, 1)].

start(Config) ->
    {ok, _} = application:ensure_all_started(erlang_python),
    Config.

stop(Config) ->
    ok = application:stop(erlang_python),
    Config.

%%% Facts about the node

mode() ->
    py:execution_mode().

%% The variant that the node was told to run.
variant() ->
    {Variant, _, _, _, _, _, _} = py_nif:info(),
    binary_to_list(Variant).

%% Does any executor serve any process?
shared_mode() ->
    mode() =/= subinterp.

only_in_shared_modes() ->
    shared_mode() orelse
        throw({skip, "in subinterp mode a process is bound to one interpreter, and that "
               "interpreter has one executor"}),
    ok.

%% Is this node run under a sanitizer (address or thread)?
sanitizer(address) -> os:getenv("ASAN_OPTIONS") =/= false;
sanitizer(thread) -> os:getenv("TSAN_OPTIONS") =/= false.

%%% Python code

%% What becomes of a value on its way to Python and back.
through(Value) ->
    py:eval(<<"value">>, #{value => Value}).

%% Defines something in the namespace of the calling process.
define(Code) ->
    ok = py:exec(Code).

%% A module that the interpreter of the calling process can import.
write_module(Config, Name, Source) ->
    Dir = filename:join(proplists:get_value(priv_dir, Config), "modules"),
    File = filename:join(Dir, atom_to_list(Name) ++ ".py"),
    ok = filelib:ensure_dir(File),
    ok = file:write_file(File, Source),
    add_path(Dir),
    Dir.

add_path(Dir) ->
    Path = unicode:characters_to_binary(Dir),
    {ok, Paths} = py:eval(<<"__import__('sys').path">>),
    lists:member(Path, Paths) orelse ({ok, none} = py:call(sys, 'path.append', [Path])),
    %% A directory that changed within the resolution of its time looks unchanged.
    {ok, none} = py:call(importlib, invalidate_caches, []).

%%% Processes

%% A process that runs one fun after the other, and answers to the process that made it.
-spec worker() -> worker().
worker() ->
    Maker = self(),
    spawn_monitor(fun() -> worker_loop(monitor(process, Maker)) end).

%% It ends with its maker, so that a case that fails leaves nobody to the next one.
worker_loop(Maker) ->
    receive
        {run, From, Fun} ->
            From ! {answer, self(), Fun()},
            worker_loop(Maker);
        {'DOWN', Maker, process, _, _} ->
            ok;
        stop ->
            ok
    end.

%% Workers that can run at the same time: in subinterp mode, where a process is bound to
%% the interpreter that has the fewest, each in another one.  N is at most the number of
%% executors.
workers_apart(N) ->
    case shared_mode() of
        true -> [worker() || _ <- lists:seq(1, N)];
        false -> workers_apart(N, [], 20 * N)
    end.

workers_apart(N, Found, _) when length(Found) =:= N ->
    [Worker || {_, Worker} <- Found];
workers_apart(N, Found, Tries) when Tries > 0 ->
    Worker = worker(),
    {ok, Place} = run(Worker, fun() -> py:eval(<<"id(__import__('sys').modules)">>) end),
    %% Those that are not taken stay for now, and keep their interpreter from being chosen.
    case lists:keymember(Place, 1, Found) of
        true -> workers_apart(N, Found, Tries - 1);
        false -> workers_apart(N, [{Place, Worker} | Found], Tries - 1)
    end.

run(Worker, Fun) ->
    start(Worker, Fun),
    answer(Worker).

start({Pid, _}, Fun) ->
    Pid ! {run, self(), Fun},
    ok.

answer(Worker) ->
    answer(Worker, 30000).

answer({Pid, Monitor}, Timeout) ->
    receive
        {answer, Pid, Answer} -> Answer;
        {'DOWN', Monitor, process, Pid, Reason} -> error({worker_died, Reason})
    after Timeout ->
        error({no_answer, erlang:process_info(Pid, [current_stacktrace, messages])})
    end.

end_worker({Pid, Monitor}) ->
    Pid ! stop,
    receive {'DOWN', Monitor, process, Pid, Reason} -> normal = Reason, ok end.

%% In a process of its own, so with a namespace of its own.
in_process(Fun) ->
    Worker = worker(),
    Answer = run(Worker, Fun),
    end_worker(Worker),
    Answer.

%% All funs at once, each in a process of its own; the answers in their order.
at_once(Funs) ->
    Workers = [worker() || _ <- Funs],
    [start(Worker, Fun) || {Worker, Fun} <- lists:zip(Workers, Funs)],
    Answers = [answer(Worker, 120000) || Worker <- Workers],
    [end_worker(Worker) || Worker <- Workers],
    Answers.

%%% Waiting

%% A FIFO.  py:call(os, open, [Fifo, 0]) waits in C until release(Fifo).
block(Config) ->
    Name = "fifo" ++ integer_to_list(erlang:unique_integer([positive])),
    Fifo = filename:join(proplists:get_value(priv_dir, Config), Name),
    "" = os:cmd("mkfifo '" ++ Fifo ++ "'"),
    list_to_binary(Fifo).

open_blocked(Fifo) ->
    py:call(os, open, [Fifo, 0]).

%% Lets all go that wait now, and those that come within the moment.
release(Fifo) ->
    "" = os:cmd("timeout 10 sh -c ': > \"" ++ binary_to_list(Fifo) ++ "\"'"),
    ok.

wait_until(Fun) ->
    wait_until(Fun, 10000).

wait_until(Fun, Timeout) when Timeout > 0 ->
    case Fun() of
        true -> ok;
        false -> timer:sleep(2), wait_until(Fun, Timeout - 2)
    end;
wait_until(Fun, _) ->
    error({never_true, Fun}).

%%% Measuring

messages() ->
    {messages, Messages} = process_info(self(), messages),
    Messages.

milliseconds(Fun) ->
    Start = erlang:monotonic_time(microsecond),
    Result = Fun(),
    {(erlang:monotonic_time(microsecond) - Start) / 1000, Result}.

%% Of this operating system process.
threads() ->
    {ok, Tasks} = file:list_dir("/proc/self/task"),
    length(Tasks).

%% Bytes.
resident() ->
    {ok, Text} = file:read_file("/proc/self/statm"),
    [_, Pages | _] = string:lexemes(Text, " "),
    binary_to_integer(Pages) * 4096.
