%% SPDX-License-Identifier: Apache-2.0
%%
%% Event loops that Python code runs by itself, on any thread of any interpreter: that they do
%% what asyncio promises, end with the request that runs them, and make children by ports.
-module(py_loop_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([run_returns_the_result_of_a_coroutine/1,
         run_raises_what_the_coroutine_raises/1,
         loops_run_in_each_interpreter_at_once/1,
         a_loop_runs_in_a_thread_of_pythons/1,
         several_loops_take_turns_on_one_thread/1,
         asyncio_makes_our_loops_once_the_policy_is_installed/1,
         old_code_gets_a_loop_by_get_event_loop/1,
         get_event_loop_warns_of_the_loop_that_it_makes/1,
         a_loop_may_call_erlang_and_be_called_back/1,
         call_soon_threadsafe_wakes_a_loop_that_sleeps/1,
         no_wakeup_is_lost/1,
         loops_leave_no_descriptor/1]).
-export([a_timeout_ends_a_request_whose_loop_sleeps/1,
         cancel_ends_a_request_whose_loop_sleeps/1,
         a_killed_caller_ends_the_loop/1,
         tasks_clean_up_when_the_request_is_cancelled/1,
         a_task_cannot_keep_a_cancelled_loop/1,
         a_loop_made_by_hand_ends_with_the_request_too/1,
         a_sleep_without_a_loop_ends_with_the_request/1,
         sleep_takes_its_time/1]).
-export([a_spawned_task_is_kept_alive/1,
         a_task_is_spawned_on_erlangs_loop_from_plain_code/1,
         a_task_that_is_spawned_while_its_loop_ends_is_dropped_or_done/1,
         nothing_is_spawned_where_erlang_drives_no_loop/1,
         signal_handlers_are_refused_with_erlangs_way/1,
         the_mode_is_known/1,
         a_connection_over_tcp_and_unix_sockets_works/1]).
-export([plain_subprocess_gets_exit_codes/1,
         a_child_has_its_pipes_and_exit_code/1,
         a_child_that_is_killed_has_a_negative_code/1,
         a_child_gets_its_environment_directory_and_files/1,
         a_child_inherits_what_it_is_told_to/1,
         a_descriptor_that_is_closed_meanwhile_is_not_inherited/1,
         a_program_that_is_not_there_is_the_right_error/1,
         arguments_that_cannot_be_are_refused/1,
         a_child_of_a_cancelled_request_is_killed/1,
         a_child_lives_on_without_its_loop/1,
         many_children_at_once_leave_nothing/1,
         children_run_from_threads_and_interpreters/1,
         children_run_from_loops_of_erlang/1]).

suite() -> [{timetrap, {minutes, 5}}].

all() -> py_test:cases(?MODULE).

init_per_suite(Config) -> py_test:start(Config).

end_per_suite(Config) -> py_test:stop(Config).

init_per_testcase(_Case, Config) ->
    Test = self(),
    ok = py:register_function(tell, fun([X]) -> Test ! {told, X}, none end),
    ok = py:exec(<<"import asyncio, erlang, os, sys, threading, time">>),
    Config.

end_per_testcase(_Case, _Config) ->
    py_test:restore(),
    ok.

told() ->
    receive {told, X} -> X after 60000 -> error(not_told) end.

%% Defines `async def main()' with this body and runs it; the body has the indentation of this.
main(Body) ->
    ok = py:exec(["async def main():\n", Body, "\n"]),
    py:eval(<<"erlang.run(main())">>).

%%% Loops

run_returns_the_result_of_a_coroutine(_Config) ->
    {ok, [1, 2, 3]} = main(<<"
    async def f(x):
        await asyncio.sleep(0)
        return x
    return await asyncio.gather(f(1), f(2), f(3))">>),
    {ok, <<"ErlangEventLoop">>} = main(<<"    return type(asyncio.get_running_loop()).__name__">>),
    {ok, true} = py:eval(<<"erlang.run(main(), debug=True) is not None">>).

run_raises_what_the_coroutine_raises(_Config) ->
    {error, {'ZeroDivisionError', _}} = main(<<"    1 / 0">>),
    {error, {'CancelledError', _}} = main(<<"    raise asyncio.CancelledError('no')">>),
    NoCoroutine = case py_test:python_version() >= {3, 14} of
                      true -> 'TypeError';
                      false -> 'ValueError'
                  end,
    {error, {NoCoroutine, _}} = py:eval(<<"erlang.run(1)">>),
    {error, {'RuntimeError', <<"erlang.run() cannot be called from a running event loop">>}} =
        main(<<"    erlang.run(None)">>).

loops_run_in_each_interpreter_at_once(_Config) ->
    Code = <<"
import erlang, asyncio
async def main():
    await asyncio.sleep(0.01)
    return id(erlang.ErlangEventLoop)
">>,
    Work = fun() -> ok = py:exec(Code), [py:eval(<<"erlang.run(main())">>) || _ <- lists:seq(1, 5)] end,
    Results = lists:append(py_test:at_once([Work || _ <- lists:seq(1, 8)])),
    40 = length([X || {ok, X} <- Results]).

a_loop_runs_in_a_thread_of_pythons(_Config) ->
    ok = py:exec(<<"
async def main():
    await asyncio.sleep(0.001)
    erlang.call('tell', 'thread')
    return await erlang.async_call('tell', 'task')
def in_thread():
    erlang.run(main())
def start():
    thread = threading.Thread(target=in_thread)
    thread.start()
    thread.join()
">>),
    {ok, none} = py:eval(<<"start()">>),
    <<"thread">> = told(),
    <<"task">> = told().

several_loops_take_turns_on_one_thread(_Config) ->
    ok = py:exec(<<"
loops = [erlang.new_event_loop() for _ in range(5)]
futures = [loop.create_future() for loop in loops]
def turns():
    for n, (loop, future) in enumerate(zip(loops, futures)):
        loop.call_soon(future.set_result, n)
    results = [loop.run_until_complete(future) for loop, future in zip(loops, futures)]
    for loop in loops:
        loop.close()
    return results
">>),
    {ok, [0, 1, 2, 3, 4]} = py:eval(<<"turns()">>).

%% In a context, whose interpreter may be one of its own; the others keep their policy.
asyncio_makes_our_loops_once_the_policy_is_installed(_Config) ->
    ok = py:exec(<<"
def installed():
    erlang.install()
    try:
        async def main():
            return type(asyncio.get_running_loop()).__name__
        loop = asyncio.new_event_loop()
        name = type(loop).__name__
        loop.close()
        return [asyncio.run(main()), name, isinstance(erlang.get_event_loop_policy(), erlang.EventLoopPolicy)]
    finally:
        import warnings
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            asyncio.set_event_loop_policy(None)
">>),
    {ok, [<<"ErlangEventLoop">>, <<"ErlangEventLoop">>, true]} = py:eval(<<"installed()">>).

old_code_gets_a_loop_by_get_event_loop(_Config) ->
    ok = py:exec(<<"
def old():
    policy = erlang.EventLoopPolicy()
    async def main():
        return 1
    try:
        loop = policy.get_event_loop()
    except RuntimeError as error:
        return 'no current event loop' in str(error)
    try:
        return loop.run_until_complete(main())
    finally:
        loop.close()
">>),
    Expected = case py_test:python_version() >= {3, 14} of
                   true -> true;
                   false -> 1
               end,
    {ok, Expected} = py:eval(<<"old()">>).

%% As the stock policy does in Python's main thread, at the line that asyncio was called from.
get_event_loop_warns_of_the_loop_that_it_makes(_Config) ->
    ok = py:exec(<<"
import warnings
def warned():
    asyncio.events._event_loop_policy, was = erlang.EventLoopPolicy(), asyncio.events._event_loop_policy
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter('always')
            loop = asyncio.get_event_loop()
            again = asyncio.get_event_loop()
        loop.close()
        return [again is loop, [[w.category.__name__, str(w.message), w.filename] for w in caught]]
    finally:
        asyncio.events._event_loop_policy = was
def here():
    return warned.__code__.co_filename
">>),
    {ok, Here} = py:eval(<<"here()">>),
    Version = py_test:python_version(),
    if
        Version >= {3, 14} -> {skip, "from Python 3.14 on it makes none"};
        Version >= {3, 12} ->
            {ok, [true, [[<<"DeprecationWarning">>, <<"There is no current event loop">>, Here]]]} =
                py:eval(<<"warned()">>);
        true -> {ok, [true, []]} = py:eval(<<"warned()">>)
    end.

a_loop_may_call_erlang_and_be_called_back(_Config) ->
    ok = py:register_function(double, fun([X]) -> {ok, Y} = py:eval(<<"x * 2">>, #{x => X}), Y end),
    {ok, [0, 2, 4, 42]} = main(<<"
    results = await asyncio.gather(*[erlang.async_call('double', n) for n in range(3)])
    return results + [erlang.call('double', 21)]">>).

call_soon_threadsafe_wakes_a_loop_that_sleeps(_Config) ->
    {ok, <<"woken">>} = main(<<"
    loop = asyncio.get_running_loop()
    future = loop.create_future()
    def wake():
        loop.call_soon_threadsafe(future.set_result, 'woken')
    thread = threading.Thread(target=wake)
    loop.call_later(0.02, thread.start)
    result = await future
    thread.join()
    return result">>).

%% Each thread waits for what it had the loop do before it wakes it again.
no_wakeup_is_lost(_Config) ->
    N = py_test:fewer(2000),
    ok = py:exec(<<"
def wake_often(count):
    loop = erlang.new_event_loop()
    def work():
        for _ in range(count):
            done = threading.Event()
            loop.call_soon_threadsafe(done.set)
            done.wait()
    threads = [threading.Thread(target=work) for _ in range(3)]
    async def main():
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            await loop.run_in_executor(None, threads[0].join)
            for thread in threads:
                await loop.run_in_executor(None, thread.join)
        return 'done'
    try:
        return loop.run_until_complete(main())
    finally:
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
">>),
    {ok, <<"done">>} = py:eval(<<"wake_often(n)">>, #{n => N}).

loops_leave_no_descriptor(_Config) ->
    ok = py:exec(<<"
async def main():
    await asyncio.sleep(0)
def some():
    for _ in range(20):
        erlang.run(main())
    return len(os.listdir('/proc/self/fd'))
">>),
    {ok, _} = py:eval(<<"some()">>),
    %% Other threads of the VM may open one at the moment.
    py_test:within(5, 10, fun() ->
                                  {ok, Before} = py:eval(<<"some()">>),
                                  {ok, After} = py:eval(<<"some()">>),
                                  After - Before
                          end).

%%% The end of a request

%% What runs until it is cancelled, and says that it began.
sleeper() ->
    ok = py:exec(<<"
async def sleeper():
    erlang.call('tell', 'begun')
    await asyncio.sleep(1000)
def sleep_long():
    erlang.run(sleeper())
">>).

a_timeout_ends_a_request_whose_loop_sleeps(_Config) ->
    sleeper(),
    {error, timeout} = py:call('__main__', sleep_long, [], #{}, 2000),
    all_ended().

%% The executor is there again: it does not wait for the end of the sleep.
all_ended() ->
    py_test:await_idle(),
    {ok, 4.0} = py:call(math, sqrt, [16]),
    ok.

cancel_ends_a_request_whose_loop_sleeps(_Config) ->
    sleeper(),
    py_test:within(1000, 10, fun() ->
                                     Ref = py:spawn_call('__main__', sleep_long, []),
                                     <<"begun">> = told(),
                                     Cancel = fun() -> ok = py:cancel(Ref), py_test:await_idle() end,
                                     {Time, ok} = py_test:milliseconds(Cancel),
                                     Time
                             end),
    all_ended().

a_killed_caller_ends_the_loop(_Config) ->
    Worker = py_test:worker(),
    py_test:start(Worker, fun() ->
                                  ok = py:exec(<<"import asyncio, erlang">>),
                                  sleeper(),
                                  py:call('__main__', sleep_long, [])
                          end),
    <<"begun">> = told(),
    py_test:kill(Worker),
    all_ended().

%% The cleanup may use the loop.  A thread that the machine does not let run for 100 ms after the
%% cancel is interrupted like one whose code blocks, which may hit a task that cleans up.
tasks_clean_up_when_the_request_is_cancelled(_Config) ->
    grace("60"),
    ?assert(lists:any(fun(_Try) -> tasks_clean_up() end, lists:seq(1, 5))),
    grace("5").

tasks_clean_up() ->
    ok = py:exec(<<"
cleaned = []
async def work(name):
    try:
        await asyncio.sleep(1000)
    finally:
        await asyncio.sleep(0.001)
        cleaned.append(name)
async def main():
    tasks = [asyncio.create_task(work(n)) for n in range(3)]
    await asyncio.sleep(0.001)
    erlang.call('tell', 'begun')
    await asyncio.gather(*tasks)
def run():
    erlang.run(main())
">>),
    Ref = py:spawn_call('__main__', run, []),
    <<"begun">> = told(),
    ok = py:cancel(Ref),
    all_ended(),
    {ok, [0, 1, 2]} =:= py:eval(<<"sorted(cleaned)">>).

%% How many seconds there are for that, where this process runs.
grace(Seconds) ->
    ok = py:exec(["import erlang._loop\nerlang._loop.GRACE = ", Seconds]).

%% One that lets no exception pass has five seconds.
a_task_cannot_keep_a_cancelled_loop(_Config) ->
    ok = py:exec(<<"
async def main():
    erlang.call('tell', 'begun')
    while True:
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            pass
def run():
    erlang.run(main())
">>),
    grace("0.2"),
    Ref = py:spawn_call('__main__', run, []),
    <<"begun">> = told(),
    ok = py:cancel(Ref),
    all_ended(),
    grace("5").

a_loop_made_by_hand_ends_with_the_request_too(_Config) ->
    ok = py:exec(<<"
async def main():
    erlang.call('tell', 'begun')
    await asyncio.sleep(1000)
def run():
    loop = erlang.new_event_loop()
    try:
        loop.run_until_complete(main())
    finally:
        loop.close()
">>),
    Ref = py:spawn_call('__main__', run, []),
    <<"begun">> = told(),
    ok = py:cancel(Ref),
    all_ended().

a_sleep_without_a_loop_ends_with_the_request(_Config) ->
    {error, timeout} = py:call(erlang, sleep, [1000], #{}, 200),
    all_ended().

sleep_takes_its_time(_Config) ->
    ok = py:exec(<<"
def slept():
    start = time.monotonic()
    result = erlang.sleep(0.05, 'x')
    return [result, time.monotonic() - start >= 0.05]
async def main():
    start = time.monotonic()
    result = await erlang.sleep(0.05, 'y')
    return [result, time.monotonic() - start >= 0.049]
">>),
    {ok, [<<"x">>, true]} = py:eval(<<"slept()">>),
    {ok, [<<"y">>, true]} = py:eval(<<"erlang.run(main())">>),
    {ok, none} = py:call(erlang, sleep, [0]),
    {ok, none} = py:call(erlang, sleep, [-1]),
    {error, {'ValueError', <<"the delay is not a number">>}} = py:eval(<<"erlang.sleep(float('nan'))">>).

%%% Beside that

a_spawned_task_is_kept_alive(_Config) ->
    {ok, <<"done">>} = main(<<"
    import gc
    future = asyncio.get_running_loop().create_future()
    async def work():
        await asyncio.sleep(0.001)
        future.set_result('done')
    name = erlang.spawn_task(work(), name='worker').get_name()
    assert name == 'worker', name
    gc.collect()
    return await future">>),
    {error, {'TypeError', _}} = py:eval(<<"erlang.spawn_task(1)">>).

%% Before any loop has had a task, and after.
a_task_is_spawned_on_erlangs_loop_from_plain_code(_Config) ->
    ok = py_test:restart(#{num_async_workers => 3}),
    #{loops := Loops} = py_event_loop_pool:get_stats(),
    ?assertEqual([], [Loop || #{turns := Turns} = Loop <- Loops, Turns > 0]),
    Here = self(),
    Processes = [spawn_link(fun() -> spawns(Here, I) end) || I <- lists:seq(1, 8)],
    Told = [receive {told, What} -> What end || _ <- lists:seq(1, 4 * 8)],
    ?assertEqual(lists:sort([{I, How, Pid} || {I, Pid} <- lists:enumerate(Processes),
                                              How <- [<<"again">>, <<"request">>, <<"thread">>, <<"unnamed">>]]),
                 lists:sort([{I, How, Pid} || {I, How, Pid} <- Told])),
    [Pid ! stop || Pid <- Processes],
    %% One that ends is none.
    #{loops := [#{pid := First} | _]} = py_event_loop_pool:get_stats(),
    {ok, Loop} = py_event_loop:get_loop(First),
    exit(First, kill),
    py_test:wait_until(fun() -> maps:get(closing, py_nif:loop_info(Loop)) end),
    spawns(Here, 9),
    [receive {told, {9, _, _}} -> ok end || _ <- lists:seq(1, 4)],
    ok.

%% The task has the context of who spawned it; that of a thread is empty, and is filled here.
spawns(To, I) ->
    ok = py:exec(<<"
import asyncio, contextvars, erlang, threading
mark = contextvars.ContextVar('mark')

async def work(to, i, how):
    assert asyncio.current_task().get_name() == how or how == 'unnamed'
    await asyncio.sleep(0.001)
    erlang.send(to, (erlang.atom('told'), (i, how, mark.get())))

def spawn(to, i, how, pid):
    mark.set(pid)
    return erlang.spawn_task(work(to, i, how), name=None if how == 'unnamed' else how)

def spawn_all(*args):
    results = [spawn(*args[:2], how, *args[2:]) for how in ('request', 'again', 'unnamed')]
    thread = threading.Thread(target=spawn, args=(*args[:2], 'thread', *args[2:]))
    thread.start()
    thread.join()
    return results
">>),
    {ok, [none, none, none]} = py:call('__main__', spawn_all, [To, I, self()]),
    To =:= self() orelse receive stop -> ok end.

a_task_that_is_spawned_while_its_loop_ends_is_dropped_or_done(_Config) ->
    ok = py:exec(<<"
import weakref
spawned, alive = [], weakref.WeakSet()

class Kept:
    pass

async def work(kept):
    await asyncio.sleep(0)

def spawn():
    kept = Kept()
    alive.add(kept)
    try: erlang.spawn_task(work(kept))
    except RuntimeError: pass # between two loops

def count():
    import gc
    gc.collect()
    return len(alive)
">>),
    [begin
         Pids = [Pid || #{pid := Pid} <- maps:get(loops, py_event_loop_pool:get_stats())],
         {ok, none} = py:eval(<<"spawn()">>),
         [exit(Pid, kill) || Pid <- Pids],
         [{ok, none} = py:eval(<<"spawn()">>) || _ <- lists:seq(1, 20)],
         py_test:wait_until(fun() ->
                                    case py_event_loop_pool:get_stats() of
                                        #{num_loops := N} -> N =:= length(Pids);
                                        {error, not_running} -> false
                                    end
                            end)
     end || _ <- lists:seq(1, 3)],
    py_test:wait_until(fun() -> {ok, 0} =:= py:eval(<<"count()">>) end).

nothing_is_spawned_where_erlang_drives_no_loop(_Config) ->
    py:subinterp_supported() orelse throw({skip, "this Python has no interpreters with a GIL of their own"}),
    {ok, Interp} = py:subinterp_create(),
    ok = py:subinterp_exec(Interp, <<"import erlang\nasync def work(): pass\n">>),
    {error, {'RuntimeError', _}} = py:subinterp_eval(Interp, <<"erlang.spawn_task(work())">>),
    ok = py:subinterp_destroy(Interp).

signal_handlers_are_refused_with_erlangs_way(_Config) ->
    {error, {'NotImplementedError', Message}} =
        main(<<"    asyncio.get_running_loop().add_signal_handler(15, print)">>),
    {match, _} = re:run(Message, "os:set_signal/2"),
    {ok, false} = main(<<"    return asyncio.get_running_loop().remove_signal_handler(15)">>).

the_mode_is_known(_Config) ->
    Mode = atom_to_binary(py:execution_mode()),
    {ok, Mode} = py:eval(<<"erlang.detect_mode()">>),
    {ok, true} = py:eval(<<"isinstance(erlang.detect_mode(), erlang.ExecutionMode)">>).

a_connection_over_tcp_and_unix_sockets_works(_Config) ->
    Path = list_to_binary("/tmp/py_loop_" ++ os:getpid()), % those of Config may be too long,
    ok = py:exec(<<"
async def echo(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()
async def exchange(connection):
    reader, writer = await connection
    data = b'x' * 1000000
    async def send():
        writer.write(data)
        await writer.drain()
        writer.write_eof()
    _, back = await asyncio.gather(send(), reader.read())
    writer.close()
    return back == data
async def main(path):
    tcp = await asyncio.start_server(echo, '127.0.0.1', 0)
    port = tcp.sockets[0].getsockname()[1]
    unix = await asyncio.start_unix_server(echo, path)
    results = await asyncio.gather(exchange(asyncio.open_connection('127.0.0.1', port)),
                                   exchange(asyncio.open_unix_connection(path)))
    tcp.close()
    unix.close()
    return results
">>),
    {ok, [true, true]} = py:eval(<<"erlang.run(main(path))">>, #{path => Path}),
    _ = file:delete(Path).

%%% Children

plain_subprocess_gets_exit_codes(_Config) ->
    {ok, 3} = py:eval(<<"__import__('subprocess').run(['sh', '-c', 'exit 3']).returncode">>),
    {ok, -9} = py:eval(<<"__import__('subprocess').run(['sh', '-c', 'kill -9 $$']).returncode">>),
    {ok, 768} = py:eval(<<"os.system('exit 3')">>).

a_child_has_its_pipes_and_exit_code(_Config) ->
    {ok, [<<"in:data">>, <<"err">>, 3]} = main(<<"
    process = await asyncio.create_subprocess_shell('printf in:; cat; printf err >&2; exit 3',
                                                    stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
                                                    stderr=asyncio.subprocess.PIPE)
    out, err = await process.communicate(b'data')
    return [out, err, process.returncode]">>),
    {ok, 0} = main(<<"
    process = await asyncio.create_subprocess_exec('true')
    return await process.wait()">>),
    {ok, true} = main(<<"
    process = await asyncio.create_subprocess_exec('head', '-c', '3000000', '/dev/zero', stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    return out == bytes(3000000)">>).

a_child_that_is_killed_has_a_negative_code(_Config) ->
    {ok, [-9, -15, -1]} = main(<<"
    codes = []
    for end in ('kill', 'terminate', None):
        process = await asyncio.create_subprocess_exec('sleep', '1000')
        if end is None:
            process.send_signal(1)
        else:
            getattr(process, end)()
        codes.append(await process.wait())
    return codes">>),
    {ok, [-15, true]} = main(<<"
    transport, protocol = await asyncio.get_running_loop().subprocess_exec(
        asyncio.SubprocessProtocol, 'sleep', '1000', stdin=None, stdout=None, stderr=None)
    child = transport.get_extra_info('subprocess')
    alive = child.poll() is None
    child.terminate()
    code = child.wait(60)
    transport.close()
    return [code, alive]">>).

a_child_gets_its_environment_directory_and_files(Config) ->
    Dir = list_to_binary(proplists:get_value(priv_dir, Config)),
    ok = py:exec(<<"
async def output(*args, **kwargs):
    process = await asyncio.create_subprocess_exec(*args, stdout=asyncio.subprocess.PIPE, **kwargs)
    out, _ = await process.communicate()
    return out.decode()
async def child(dir):
    with open(os.path.join(dir, 'child.out'), 'a+b') as file:
        file.write(b'1 ')
        file.flush()
        process = await asyncio.create_subprocess_shell('echo $X', stdout=file, env={'X': 'two'})
        await process.wait()
        file.seek(0)
        text = file.read()
    where = await output('pwd', cwd=dir)
    mask = await output('sh', '-c', 'umask', umask=0o27)
    os.environ['PY_LOOP_TEST'] = 'inherited'
    try:
        inherited = await output('sh', '-c', 'echo $PY_LOOP_TEST')
    finally:
        del os.environ['PY_LOOP_TEST']
    return [text, os.path.samefile(where.strip(), dir), mask, inherited]
">>),
    {ok, [<<"1 two\n">>, true, <<"0027\n">>, <<"inherited\n">>]} =
        py:eval(<<"erlang.run(child(dir))">>, #{dir => Dir}).

a_child_inherits_what_it_is_told_to(_Config) ->
    ok = py:exec(<<"
async def descriptors(**kwargs):
    process = await asyncio.create_subprocess_exec('ls', '/proc/self/fd', stdout=asyncio.subprocess.PIPE, **kwargs)
    out, _ = await process.communicate()
    return sorted(map(int, out.split()))
async def main():
    # The last one is the directory that it reads.
    assert await descriptors() == [0, 1, 2, 3]
    read, write = os.pipe()
    try:
        process = await asyncio.create_subprocess_shell(f'echo told >/proc/self/fd/{write}', pass_fds=[write])
        assert await process.wait() == 0
        assert os.read(read, 100) == b'told\\n'
        assert await descriptors(pass_fds=[read, write]) == sorted({0, 1, 2, 3, read, write})
        os.set_inheritable(read, True)
        assert read in await descriptors(close_fds=False)
        assert write not in await descriptors(close_fds=False)
    finally:
        os.close(read)
        os.close(write)
    process = await asyncio.create_subprocess_exec('cut', '-d ', '-f6', '/proc/self/stat', start_new_session=True,
                                                   stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    assert int(out) == process.pid
    return 'ok'
">>),
    {ok, <<"ok">>} = py:eval(<<"erlang.run(main())">>).

%% By another thread, after they were listed; one of pass_fds that is closed stays an error.
a_descriptor_that_is_closed_meanwhile_is_not_inherited(_Config) ->
    ok = py:exec(<<"
from erlang import _subprocess
async def start(**kwargs):
    return await (await asyncio.create_subprocess_exec('true', **kwargs)).wait()
async def main():
    closed = os.dup2(1, 900, inheritable=True)  # a number that nobody gets meanwhile
    list_fds = _subprocess._inheritable_fds
    def list_and_close():
        fds = list_fds()
        os.close(closed)
        assert closed in fds
        return fds
    _subprocess._inheritable_fds = list_and_close
    try:
        assert await start(close_fds=False) == 0
    finally:
        _subprocess._inheritable_fds = list_fds
    try:
        await start(pass_fds=[closed])
    except OSError as error:
        return error.errno
">>),
    {ok, 9} = py:eval(<<"erlang.run(main())">>).

a_program_that_is_not_there_is_the_right_error(_Config) ->
    Start = fun(Args) -> main(["    await asyncio.create_subprocess_exec(", Args, ")"]) end,
    {error, {'FileNotFoundError', <<"[Errno 2] No such file or directory: '/no/such'">>}} = Start("'/no/such'"),
    {error, {'FileNotFoundError', <<"[Errno 2] No such file or directory: 'no-such'">>}} = Start("'no-such'"),
    {error, {'FileNotFoundError', <<"[Errno 2] No such file or directory: '/nowhere'">>}} =
        Start("'true', cwd='/nowhere'"),
    {error, {'PermissionError', <<"[Errno 13] Permission denied: '/etc/passwd'">>}} = Start("'/etc/passwd'"),
    {ok, 127} = main(<<"
    process = await asyncio.create_subprocess_shell('/no/such', stderr=asyncio.subprocess.DEVNULL)
    return await process.wait()">>).

arguments_that_cannot_be_are_refused(_Config) ->
    Start = fun(Args) -> main(["    await asyncio.create_subprocess_exec('true', ", Args, ")"]) end,
    {error, {'ValueError', Message}} = Start("preexec_fn=print"),
    {match, _} = re:run(Message, "preexec_fn is not supported"),
    {error, {'ValueError', <<"embedded null byte">>}} = Start("'a\\0b'"),
    {error, {'ValueError', <<"illegal environment variable name">>}} = Start("env={'a=b': 'c'}"),
    {error, {'OSError', _}} = Start("pass_fds=[12345]"),
    {error, {'ValueError', _}} = Start("pass_fds=range(1000)").

%% One whose request ends while it runs: its transport is closed.
a_child_of_a_cancelled_request_is_killed(_Config) ->
    ok = py:exec(<<"
async def main():
    process = await asyncio.create_subprocess_exec('sleep', '1000')
    erlang.call('tell', process.pid)
    try:
        await process.wait()
    finally:
        process.kill()
        await process.wait()
def run():
    erlang.run(main())
">>),
    grace("60"),
    Ref = py:spawn_call('__main__', run, []),
    Pid = told(),
    true = is_alive(Pid),
    ok = py:cancel(Ref),
    py_test:wait_until(fun() -> not is_alive(Pid) end),
    no_children(),
    grace("5").

is_alive(Pid) ->
    filelib:is_dir("/proc/" ++ integer_to_list(Pid)).

no_children() ->
    py_test:wait_until(fun() -> py_subprocess:count() =:= 0 end).

a_child_lives_on_without_its_loop(_Config) ->
    ok = py:exec(<<"
def start():
    loop = erlang.new_event_loop()
    async def main():
        return await loop.subprocess_exec(asyncio.SubprocessProtocol, 'sleep', '1000', stdin=None, stdout=None,
                                          stderr=None)
    transport, _ = loop.run_until_complete(main())
    loop.close()
    transport._closed = True  # as one that is never collected
    return transport.get_pid()
">>),
    {ok, Pid} = py:eval(<<"start()">>),
    true = is_alive(Pid),
    {ok, _} = py:gc(),
    true = is_alive(Pid),
    py_test:wait_until(fun() -> py_subprocess:count() =:= 1 end),
    "" = os:cmd("kill -9 " ++ integer_to_list(Pid)),
    %% A zombie as long as somebody may ask for its end.
    py_test:wait_until(fun() -> {ok, _} = py:gc(), not is_alive(Pid) end),
    no_children().

many_children_at_once_leave_nothing(_Config) ->
    ok = py:exec(<<"
async def one(n):
    process = await asyncio.create_subprocess_exec('sh', '-c', f'exit {n}', stdout=asyncio.subprocess.PIPE)
    await process.communicate()
    return process.returncode
async def main():
    return await asyncio.gather(*[one(n) for n in range(30)])
def some():
    assert erlang.run(main()) == list(range(30))
    return len(os.listdir('/proc/self/fd'))
">>),
    {ok, _} = py:eval(<<"some()">>),
    py_test:within(5, 5, fun() ->
                                 {ok, Before} = py:eval(<<"some()">>),
                                 {ok, After} = py:eval(<<"some()">>),
                                 After - Before
                         end),
    no_children().

children_run_from_threads_and_interpreters(_Config) ->
    Code = <<"
import asyncio, erlang, threading
async def main():
    process = await asyncio.create_subprocess_shell('echo hello; exit 7', stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    return [out.decode(), process.returncode]
def in_thread():
    results = []
    thread = threading.Thread(target=lambda: results.append(erlang.run(main())))
    thread.start()
    thread.join()
    return results[0]
">>,
    Work = fun() -> ok = py:exec(Code), [py:eval(<<"erlang.run(main())">>), py:eval(<<"in_thread()">>)] end,
    Results = py_test:at_once([Work || _ <- lists:seq(1, 4)]),
    Right = {ok, [<<"hello\n">>, 7]},
    [[Right, Right]] = lists:usort(Results).

children_run_from_loops_of_erlang(_Config) ->
    ok = py:exec(<<"
async def hello():
    process = await asyncio.create_subprocess_shell('echo hello; exit 7', stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    return [out.decode(), process.returncode]
async def long():
    process = await asyncio.create_subprocess_exec('sleep', '1000')
    erlang.send(erlang.self(), ('pid', process.pid))
    try:
        await process.wait()
    finally:
        process.kill()
        await process.wait()
">>),
    {ok, [<<"hello\n">>, 7]} = py_event_loop:run('__main__', hello, []),
    {ok, Task} = py_event_loop:create_task('__main__', long, []),
    Pid = receive {<<"pid">>, P} -> P after 60000 -> error(no_child) end,
    true = is_alive(Pid),
    ok = py_event_loop:cancel(Task),
    py_test:wait_until(fun() -> not is_alive(Pid) end),
    no_children().
