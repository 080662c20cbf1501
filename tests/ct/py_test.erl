%% SPDX-License-Identifier: Apache-2.0
%%
%% What the suites share: the frame of a suite, processes that a case controls, barriers,
%% Python modules made for a case, and looks at the node from outside.
%%
%% A test must not depend on how long something takes.  Where Python code has to be in
%% the middle of something, it waits in a C call that the case ends itself (block/1 and
%% release/1: the opening of a FIFO), or in a callback to the case.  Where the case has to
%% wait for a fact that nobody announces, wait_until/1 polls for it, with an end.  The time
%% until that end is for a machine that stops for seconds: nothing is shown by it.  A call
%% that is to time out while it does something may be kept from beginning for as long, so
%% timed_out/2 and stuck/2 make it again.
-module(py_test).

-export([cases/1, start/1, start_with/2, stop/1, restart/1, restore/0]).
-export([mode/0, variant/0, shared_mode/0, only_in_shared_modes/0, sanitizer/1, fewer/1]).
-export([through/1, define/1, write_module/3]).
-export([worker/0, workers_apart/1, run/2, start/2, answer/1, answer/2, end_worker/1, kill/1]).
-export([in_process/1, at_once/1]).
-export([register_hold/0, hold/1, holder/0, holder/1, await_held/1, held/0, let_go/1, none_held/0]).
-export([block/1, open_blocked/1, release/1, let_all_go/1, release_for_good/0, answer_after_release/2, wait_until/1, wait_until/2, wait_until_freed/1]).
-export([messages/0, milliseconds/1, within/3, threads/0, thread_names/0, await_threads/1, resident/0]).
-export([timed_out/2, stuck/2, grows_less/2, waiting_in_line/0, groups/0, await_at_work/2]).
-export([await_idle/0]).
-export([log_start/0, log_stop/1, log_await/2, log/2]).
-export([hundred_processes/1]).
-export([node/1, node/2, peer/0, peer/1, end_peer/1, at/2]).
-export([python_version/0, only_from_python/1, has_python_module/1, handle/1, handle/2]).

-type worker() :: {pid(), reference()}.

%% How long something may take that has to happen, in milliseconds.
-define(PATIENCE, 60000).

-define(FIFOS, {?MODULE, fifos}).

%% Enough for cases that have many calls under way and are not about the limit.
-define(MAX_CONCURRENT, 1000).

%%% The frame of a suite

%% The cases of a suite are what it exports, so that none can be forgotten in a list.
cases(Suite) ->
    Frame = [init_per_suite, end_per_suite, module_info],
    Source = [F || {F, 1} <- Suite:module_info(functions)],
    [F || F <- Source, not lists:member(F, Frame), erlang:function_exported(Suite, F, 1)].

start(Config) ->
    _ = application:load(erlang_python),
    ok = application:set_env(erlang_python, max_concurrent, ?MAX_CONCURRENT),
    {ok, _} = application:ensure_all_started(erlang_python),
    Config.

%% Also writes modules of Python's for all cases.  Each adds their directory to the paths, which a
%% restart of the application forgets.
start_with(Config, Modules) ->
    Started = start(Config),
    [Dir | _] = [write_module(Config, Name, Source) || {Name, Source} <- Modules],
    [{modules, Dir} | Started].

stop(Config) ->
    release_for_good(),
    ok = application:stop(erlang_python),
    ok = application:unset_env(erlang_python, max_concurrent),
    Config.

%% Starts it again with this environment, and with that of start/1 where it says nothing.
restart(Environment) ->
    _ = application:stop(erlang_python),
    Old = application:get_all_env(erlang_python),
    [application:unset_env(erlang_python, Key) || {Key, _} <- Old, Key =/= included_applications],
    New = maps:merge(#{max_concurrent => ?MAX_CONCURRENT}, Environment),
    [ok = application:set_env(erlang_python, Key, Value)
     || {Key, Value} <- maps:to_list(New), Value =/= default],
    ok = application:start(erlang_python).

%% After a case that changed the environment or stopped it, or failed in the middle of
%% something: the next one shall not fail of that.
restore() ->
    release_for_good(),
    case application:get_all_env(erlang_python) -- [{included_applications, []}] of
        [{max_concurrent, ?MAX_CONCURRENT}] -> nothing_left(1000) orelse restart(#{});
        _ -> restart(#{})
    end.

nothing_left(Time) ->
    case py_semaphore:current() of
        0 -> ok =:= py_semaphore:set_max_concurrent(?MAX_CONCURRENT);
        N when is_integer(N), Time > 0 -> timer:sleep(10), nothing_left(Time - 10);
        _ -> false
    end.

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

%% A number of repetitions, where a sanitizer makes each several times slower.
fewer(N) ->
    case {sanitizer(address), sanitizer(thread)} of
        {_, true} -> max(1, N div 20);
        {true, _} -> max(1, N div 5);
        _ -> N
    end.

%%% Python code

%% What becomes of a value on its way to Python and back.
through(Value) ->
    py:eval(<<"value">>, #{value => Value}).

%% Defines something in the namespace of the calling process.
define(Code) ->
    ok = py:exec(Code).

%% A handle of what the expression is.
handle(Code) ->
    handle(Code, #{}).

handle(Code, Locals) ->
    {ok, Handle} = py:eval(Code, Locals, {opts, #{return => handle}}),
    true = py:is_ref(Handle),
    Handle.

python_version() ->
    {ok, {Major, Minor}} = py:eval(<<"tuple(__import__('sys').version_info[:2])">>),
    {Major, Minor}.

only_from_python({Major, Minor} = Version) ->
    python_version() >= Version
        orelse throw({skip, lists:flatten(io_lib:format("this came with Python ~b.~b", [Major, Minor]))}),
    ok.

%% Can the interpreter of this process find it?
has_python_module(Name) ->
    py:eval(<<"__import__('importlib.util').util.find_spec(name) is not None">>, #{name => Name}) =:= {ok, true}.

%% A module that the interpreter of the calling process can import.
write_module(Config, Name, Source) ->
    Dir = filename:join(proplists:get_value(priv_dir, Config), "modules"),
    File = filename:join(Dir, atom_to_list(Name) ++ ".py"),
    ok = filelib:ensure_dir(File),
    ok = file:write_file(File, unicode:characters_to_binary(Source)),
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
        false -> workers_apart(N, [], 1000 * N)
    end.

workers_apart(N, Found, _) when length(Found) =:= N ->
    [Worker || {_, Worker} <- Found];
workers_apart(N, Found, Tries) when Tries > 0 ->
    Worker = worker(),
    {ok, Place} = run(Worker, fun() -> py:eval(<<"id(__import__('sys').modules)">>) end),
    %% Those that are not taken stay for now, and keep their interpreter from being chosen.
    case lists:keymember(Place, 1, Found) of
        true ->
            %% An interpreter that has not moved for a while, as on a busy machine, is not chosen.
            timer:sleep(5),
            workers_apart(N, Found, Tries - 1);
        false -> workers_apart(N, [{Place, Worker} | Found], Tries - 1)
    end.

run(Worker, Fun) ->
    start(Worker, Fun),
    answer(Worker).

start({Pid, _}, Fun) ->
    Pid ! {run, self(), Fun},
    ok.

answer(Worker) ->
    answer(Worker, ?PATIENCE).

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

%% Returns when it is dead, whatever it was doing.
kill({Pid, Monitor}) ->
    exit(Pid, kill),
    receive {'DOWN', Monitor, process, Pid, Reason} -> killed = Reason, ok end.

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
    Answers = [answer(Worker, 240000) || Worker <- Workers],
    [end_worker(Worker) || Worker <- Workers],
    Answers.

%% So many calls of each of a hundred processes at once; each gets the answers to its own.
hundred_processes(Calls) ->
    Work = fun(Me) ->
                   fun() ->
                           ok = py:exec(["def f(x): return (", integer_to_list(Me), ", x)"]),
                           [case N rem 4 of
                                0 -> {ok, {Me, N}} = py:call('__main__', f, [N]);
                                1 -> Sum = Me + N, {ok, Sum} = py:eval(<<"me + n">>, #{me => Me, n => N});
                                2 -> Root = math:sqrt(Me * N), {ok, Root} = py:call(math, sqrt, [Me * N]);
                                3 -> {error, {'ValueError', _}} = py:call(math, factorial, [-N])
                            end || N <- lists:seq(1, Calls)],
                           messages()
                   end
           end,
    Left = at_once([Work(Me) || Me <- lists:seq(1, 100)]),
    Left =:= lists:duplicate(100, []) orelse error({messages_left, Left}),
    [] = messages(),
    ok.

%%% Requests that run until the case lets them go on

%% The function that they wait in.  It runs in the process that called Python.
register_hold() ->
    py:register_function(hold, ?MODULE, hold).

hold([]) ->
    hold([held]);
hold([Answer]) ->
    get(py_test_case) ! {held, self()},
    receive go_on -> Answer end.

%% A worker whose call runs until let_go/1; it may wait in line before that.
holder() ->
    holder(fun() -> py:call(erlang, call, [hold]) end).

%% The same with another call that calls the function back.
holder(Call) ->
    Case = self(),
    Worker = worker(),
    start(Worker, fun() -> put(py_test_case, Case), Call() end),
    Worker.

await_held({Pid, Monitor} = Worker) ->
    receive
        {held, Pid} -> Worker;
        {answer, Pid, Answer} -> error({not_held, Answer});
        {'DOWN', Monitor, process, Pid, Reason} -> error({worker_died, Reason})
    after ?PATIENCE ->
        error({not_held, process_info(Pid, [current_stacktrace, messages])})
    end.

held() ->
    await_held(holder()).

%% Has nobody begun that was not awaited?
none_held() ->
    receive {held, Pid} -> error({held, Pid}) after 0 -> ok end.

%% Its answer, and its end.
let_go({Pid, _} = Worker) ->
    Pid ! go_on,
    Answer = answer(Worker),
    end_worker(Worker),
    Answer.

%%% Waiting

%% A FIFO.  py:call(os, open, [Fifo, 0]) waits in C until release(Fifo).
block(Config) ->
    Name = "fifo" ++ integer_to_list(erlang:unique_integer([positive])),
    Fifo = filename:join(proplists:get_value(priv_dir, Config), Name),
    "" = os:cmd("mkfifo '" ++ Fifo ++ "'"),
    persistent_term:put(?FIFOS, [Fifo | persistent_term:get(?FIFOS, [])]),
    list_to_binary(Fifo).

open_blocked(Fifo) ->
    py:call(os, open, [Fifo, 0]).

%% Lets all go that wait now, and those that come within the moment, such as who was stopped
%% there just then and begins to wait anew.
release(Fifo) ->
    Name = binary_to_list(Fifo),
    "" = os:cmd("timeout 60 sh -c ': > \"" ++ Name ++ "\"; sleep 0.05; : <> \"" ++ Name ++ "\"'"),
    ok.

%% Lets all go, whether any wait or not: those whose callers gave up or were killed.
let_all_go(Fifo) ->
    _ = os:cmd("timeout 0.2 sh -c ': > \"" ++ binary_to_list(Fifo) ++ "\"'"),
    ok.

%% At the end of a case, all that wait in a FIFO that it made, and those that the machine keeps
%% from coming there until later: they would be stuck for ever.  Who opens it for reading and
%% writing waits for nobody, and nobody waits while it is open.
release_for_good() ->
    case persistent_term:get(?FIFOS, []) of
        [] ->
            ok;
        Fifos ->
            persistent_term:put(?FIFOS, []),
            Opener = self(),
            Pid = spawn_link(fun() ->
                                     %% Where the directory of the case is still there.
                                     There = [Fifo || Fifo <- Fifos, element(1, file:read_link_info(Fifo)) =:= ok],
                                     _ = [{ok, _} = file:open(Fifo, [raw, read, write]) || Fifo <- There],
                                     Opener ! {self(), open},
                                     timer:sleep(30000)
                             end),
            receive {Pid, open} -> ok end,
            none_stuck(5000)
    end.

none_stuck(Time) when Time > 0 ->
    case py_semaphore:current() of
        N when is_integer(N) ->
            case lists:all(fun(#{stuck := Stuck}) -> Stuck =:= 0 end, groups()) of
                true -> ok;
                false -> timer:sleep(10), none_stuck(Time - 10)
            end;
        {error, not_running} ->
            ok
    end;
none_stuck(_) ->
    ok.

%% Those that were in the queue come to wait after the first were let go, so again and again.
answer_after_release({Pid, Monitor} = Worker, Fifo) ->
    receive
        {answer, Pid, Answer} -> Answer;
        {'DOWN', Monitor, process, Pid, Reason} -> error({worker_died, Reason})
    after 20 ->
        let_all_go(Fifo),
        answer_after_release(Worker, Fifo)
    end.

wait_until(Fun) ->
    wait_until(Fun, ?PATIENCE).

wait_until(Fun, Timeout) when Timeout > 0 ->
    case Fun() of
        true -> ok;
        false -> timer:sleep(2), wait_until(Fun, Timeout - 2)
    end;
wait_until(Fun, _) ->
    error({never_true, Fun}).

%% The same of memory that Python is to give up.  Without a GIL an object that another thread
%% gave up is freed when the one that made it next runs Python code, or by a collection.
wait_until_freed(Fun) ->
    wait_until(fun() -> mode() =/= free_threaded orelse ({ok, _} = py:gc()), Fun() end).

%%% Measuring

messages() ->
    {messages, Messages} = process_info(self(), messages),
    Messages.

milliseconds(Fun) ->
    Start = erlang:monotonic_time(microsecond),
    Result = Fun(),
    {(erlang:monotonic_time(microsecond) - Start) / 1000, Result}.

%% Does Fun, which returns milliseconds, ever stay below Limit?  The machine may do other
%% things at the moment, so one of Tries is enough.
within(Limit, Tries, Fun) ->
    within(Limit, Tries, Fun, []).

within(Limit, 0, _Fun, Times) ->
    error({never_within, Limit, lists:reverse(Times)});
within(Limit, Tries, Fun, Times) ->
    case Fun() of
        Time when Time =< Limit -> ct:log("~.1f ms at try ~b", [float(Time), length(Times) + 1]);
        Time -> within(Limit, Tries - 1, Fun, [Time | Times])
    end.

%% Call(Timeout) times out.  Had it begun?  Else it is made again with more time: it may have
%% waited in the queue until then, for want of a processor.
timed_out(Call, HasBegun) ->
    timed_out(Call, HasBegun, 20).

timed_out(Call, HasBegun, Timeout) when Timeout < ?PATIENCE ->
    {error, timeout} = Call(Timeout),
    HasBegun() orelse timed_out(Call, HasBegun, 4 * Timeout);
timed_out(_Call, HasBegun, _Timeout) ->
    error({never_begun, HasBegun}).

%% Call(Timeout) times out in C, and its executor, of Pool, is stuck there.  It waits for
%% something that never comes, so another one in vain does no harm.
stuck(Pool, Call) ->
    Stuck = fun() -> lists:sum([N || #{pool := P, stuck := N} <- groups(), P =:= Pool]) end,
    Before = Stuck(),
    timed_out(Call, fun() -> is_stuck(Pool, fun() -> Stuck() > Before end) end),
    true.

%% One that is not, and does nothing else either, has not begun.
is_stuck(Pool, IsStuck) ->
    case IsStuck() of
        true -> true;
        false ->
            case at_work(Pool) =:= 0 andalso queued(Pool) =:= 0 of
                true -> IsStuck();
                false -> timer:sleep(1), is_stuck(Pool, IsStuck)
            end
    end.

%% A round of what leaves nothing takes no memory.  What allocators keep is chance, so one of
%% some rounds may take as little as this; what leaks does so in each.
grows_less(Limit, Round) ->
    grows_less(Limit, Round, []).

grows_less(Limit, _Round, Growths) when length(Growths) =:= 4 ->
    error({grows, Limit, lists:reverse(Growths)});
grows_less(Limit, Round, Growths) ->
    Before = resident(),
    Round(),
    Growth = resident() - Before,
    ct:log("grew by ~b KB", [Growth div 1024]),
    Growth < Limit orelse sanitizer(address) orelse grows_less(Limit, Round, [Growth | Growths]).

%% Of this operating system process.
threads() ->
    {ok, Tasks} = file:list_dir("/proc/self/task"),
    length(Tasks).

%% As many again as there were; threads that end do so in a moment.
await_threads(Names) ->
    await_threads(Names, ?PATIENCE).

await_threads(Names, Time) ->
    Now = thread_names(),
    case length(Now) > length(Names) of
        true when Time > 0 -> timer:sleep(10), await_threads(Names, Time - 10);
        true -> error({more_threads, Now -- Names});
        false -> ok
    end.

thread_names() ->
    {ok, Tasks} = file:list_dir("/proc/self/task"),
    lists:sort([Name || Task <- Tasks, {ok, Name} <- [file:read_file("/proc/self/task/" ++ Task ++ "/comm")]]).

%% Bytes.
resident() ->
    {ok, Text} = file:read_file("/proc/self/statm"),
    [_, Pages | _] = string:lexemes(Text, " "),
    binary_to_integer(Pages) * 4096.

%% How many requests wait for a slot.
waiting_in_line() ->
    {_, _, Waiting} = py_nif:slots(),
    Waiting.

%% What each queue and its executors do, as C sees it.
groups() ->
    #{groups := Groups} = py_nif:stats(),
    Groups.

%% How many executors of a pool are awake, and neither stuck nor in a callback.
at_work(Pool) ->
    lists:sum([Executors - Idle - Stuck - Calling
               || #{pool := P, executors := Executors, idle := Idle, stuck := Stuck, waiting_in_callback := Calling}
                      <- groups(), P =:= Pool]).

%% So many are, and nothing waits for them.
await_at_work(Pool, N) ->
    try wait_until(fun() -> at_work(Pool) =:= N andalso queued(Pool) =:= 0 end)
    catch error:{never_true, _} ->
            Facts = [maps:with([pool, id, wanted, executors, idle, parked, stuck, waiting_in_callback, queued], G)
                     || #{pool := P} = G <- groups(), P =:= Pool],
            error({never_at_work, N, Facts, py_nif:slots(), py:stacks()})
    end.

queued(Pool) ->
    lists:sum([Q || #{pool := P, queued := Q} <- groups(), P =:= Pool]).

%% All requests are over, and all that is counted at their end is counted.
await_idle() ->
    wait_until(fun() ->
                       py_semaphore:current() =:= 0
                           andalso lists:all(fun(Pool) -> at_work(Pool) =:= 0 andalso queued(Pool) =:= 0 end,
                                             lists:usort([Pool || #{pool := Pool} <- groups()]))
               end).

%%% The log

%% Catches what is logged from now on.
log_start() ->
    Id = list_to_atom("py_test_" ++ integer_to_list(erlang:unique_integer([positive]) rem 16)),
    ok = logger:add_handler(Id, ?MODULE, #{level => all, config => #{to => self()}}),
    Id.

%% What was logged since then, oldest first: {Level, Text}.
log_stop(Id) ->
    ok = logger:remove_handler(Id),
    logged(Id).

logged(Id) ->
    receive {?MODULE, Id, Level, Text} -> [{Level, Text} | logged(Id)] after 0 -> [] end.

%% The next of this level that matches; those before it are lost.
log_await(Id, {Level, Pattern} = Wanted) ->
    receive
        {?MODULE, Id, Level, Text} ->
            case re:run(Text, Pattern, [unicode]) of
                {match, _} -> Text;
                nomatch -> log_await(Id, Wanted)
            end
    after ?PATIENCE ->
        error({not_logged, Wanted, logged(Id)})
    end.

%% The callback of logger.
log(#{level := Level} = Event, #{id := Id, config := #{to := To}}) ->
    Text = logger_formatter:format(Event, #{single_line => true, template => [msg]}),
    To ! {?MODULE, Id, Level, unicode:characters_to_binary(Text)},
    ok.

%%% Other nodes

%% Runs Erlang code in a node of its own, of the same variant.  How it ended, all that it
%% printed, and the milliseconds that it took.  Not the module peer: the end of the node
%% and its output are what is looked at.
node(Code) ->
    node(Code, []).

node(Code, Args) ->
    sanitizer(thread) andalso
        throw({skip, "the erl script does not survive the preload of ThreadSanitizer"}),
    Erl = filename:join([code:root_dir(), "bin", "erl"]),
    {Time, {Status, Output}} =
        milliseconds(
          fun() ->
                  Port = open_port({spawn_executable, Erl},
                                   [{args, ["-noinput", "-boot", "no_dot_erlang", "-kernel", "logger_level", "error",
                                            "-pa", filename:dirname(code:which(py)),
                                            filename:dirname(code:which(?MODULE)) | Args]
                                     ++ ["-eval", lists:flatten(Code)]},
                                    %% Not every Python takes what a sanitizer run sets here.
                                    {env, [{"PYTHONMALLOC", false}, {"ERLANG_PYTHON", variant()}]},
                                    exit_status, stderr_to_stdout, binary]),
                  collect(Port, <<>>)
          end),
    {Status, Output, Time}.

collect(Port, Output) ->
    receive
        {Port, {data, Data}} -> collect(Port, <<Output/binary, Data/binary>>);
        {Port, {exit_status, Status}} -> {Status, Output}
    after 2 * ?PATIENCE ->
        {os_pid, Pid} = erlang:port_info(Port, os_pid),
        _ = os:cmd("kill -9 " ++ integer_to_list(Pid)),
        port_close(Port),
        error({node_does_not_end, Output})
    end.

%% A node that this one is connected with, of the same variant; the application runs there.
%% This one takes a name for it, which end_peer/1 gives back.
peer() ->
    peer(#{}).

peer(Environment) ->
    sanitizer(thread) andalso
        throw({skip, "the erl script does not survive the preload of ThreadSanitizer"}),
    ok = take_name(),
    {ok, Peer, Node} =
        peer:start(#{name => peer:random_name(py_test), host => "127.0.0.1", longnames => true,
                     env => [{"ERLANG_PYTHON", variant()}],
                     args => ["-kernel", "logger_level", "error", "-pa", filename:dirname(code:which(py)),
                              filename:dirname(code:which(?MODULE))]}),
    [ok = rpc:call(Node, application, set_env, [erlang_python, Key, Value])
     || {Key, Value} <- maps:to_list(Environment)],
    {ok, _} = rpc:call(Node, application, ensure_all_started, [erlang_python]),
    {Peer, Node}.

end_peer({Peer, _Node}) ->
    _ = catch peer:stop(Peer), % it may have ended
    net_kernel:stop().

take_name() ->
    case is_alive() of
        true ->
            ok;
        false ->
            %% As the erl script does for a node that has a name from the start.
            _ = os:cmd(filename:join([code:root_dir(), "bin", "epmd"]) ++ " -daemon"),
            {ok, _} = net_kernel:start([list_to_atom("py_test_" ++ os:getpid() ++ "@127.0.0.1"), longnames]),
            ok
    end.

%% In a process over there.
at({_Peer, Node}, Fun) ->
    erpc:call(Node, Fun, 2 * ?PATIENCE).
