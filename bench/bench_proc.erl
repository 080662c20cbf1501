%% SPDX-License-Identifier: Apache-2.0
%%
%% What the kernel knows about processes: CPU time, threads, context switches.
%% Read from /proc, since erlang:statistics/1 counts neither the threads of a
%% NIF nor another process. Resolution of CPU time: one tick, usually 10 ms.
-module(bench_proc).

-export([cpu_us/1, machine_cpu_us/0, switches/1]).

%% User and system time that the process has used, all threads together.
-spec cpu_us(non_neg_integer()) -> non_neg_integer().
cpu_us(OsPid) ->
    Stat = read(["/proc/", integer_to_list(OsPid), "/stat"]),
    %% The second field is the name, in parentheses, and may hold any character.
    [_, Rest] = string:split(Stat, ") ", trailing),
    Fields = string:lexemes(Rest, " "),
    (int(lists:nth(12, Fields)) + int(lists:nth(13, Fields))) * tick_us().

%% Time that all cores together have spent on anything but idling.
-spec machine_cpu_us() -> non_neg_integer().
machine_cpu_us() ->
    [Line | _] = string:split(read("/proc/stat"), "\n"),
    ["cpu", User, Nice, System, _Idle, _IoWait, Irq, SoftIrq | _] =
        string:lexemes(Line, " "),
    lists:sum([int(T) || T <- [User, Nice, System, Irq, SoftIrq]]) * tick_us().

%% Name of each thread, how often it went to sleep, and how often it was made
%% to leave its core.
-spec switches(non_neg_integer()) ->
    #{Tid :: string() => {Name :: string(), Slept :: integer(), Preempted :: integer()}}.
switches(OsPid) ->
    Dir = filename:join(["/proc", integer_to_list(OsPid), "task"]),
    {ok, Tids} = file:list_dir(Dir),
    maps:from_list([{Tid, T} || Tid <- Tids, T <- thread(filename:join(Dir, Tid))]).

%% Internals.

%% A list of none if the thread has ended since the directory was read.
thread(Dir) ->
    case file:read_file(filename:join(Dir, "status")) of
        {ok, Status} ->
            Lines = string:split(binary_to_list(Status), "\n", all),
            Field = fun(Name) ->
                hd([string:trim(V) || L <- Lines, [N, V] <- [string:split(L, ":")], N =:= Name])
            end,
            [{
                Field("Name"),
                int(Field("voluntary_ctxt_switches")),
                int(Field("nonvoluntary_ctxt_switches"))
            }];
        {error, enoent} ->
            [];
        {error, esrch} ->
            []
    end.

tick_us() ->
    case persistent_term:get({?MODULE, tick_us}, undefined) of
        undefined ->
            Hz = int(string:trim(os:cmd("getconf CLK_TCK"))),
            persistent_term:put({?MODULE, tick_us}, 1000000 div Hz),
            tick_us();
        Tick ->
            Tick
    end.

read(Path) ->
    {ok, Data} = file:read_file(Path),
    binary_to_list(Data).

int(S) ->
    list_to_integer(S).
