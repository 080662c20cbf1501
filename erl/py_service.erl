%% SPDX-License-Identifier: Apache-2.0
%% @private
%% Calls that reach an interpreter also when all its executors are busy or stuck: they run on
%% its service thread, outside of pools and slots.
-module(py_service).

-export([run/5, interpreters/0]).

-type id() :: non_neg_integer().

%% The numbers of all interpreters; 0, the main one, is first.
-spec interpreters() -> [id()].
interpreters() ->
    lists:sort([Id || #{id := Id} <- maps:get(interpreters, py_nif:stats())]).

%% Runs Module.Function(Args) in each of these interpreters at once.  One that does not
%% answer in time, as a C call holds its GIL, has {error, timeout}; a sub-interpreter that has
%% ended meanwhile has no answer.
-spec run([id()], module(), Function :: atom(), Args :: [term()], timeout()) -> [{id(), py:result()}].
run(Ids, Module, Function, Args, Timeout) ->
    %% In a process of its own, which takes late answers with it.
    {Pid, Monitor} = spawn_monitor(fun() -> exit({answers, ask(Ids, Module, Function, Args, Timeout)}) end),
    receive
        {'DOWN', Monitor, process, Pid, {answers, Answers}} ->
            [Answer || {Id, Result} = Answer <- Answers, Id =:= 0 orelse Result =/= {error, not_running}];
        {'DOWN', Monitor, process, Pid, Reason} -> exit(Reason)
    end.

ask(Ids, Module, Function, Args, Timeout) ->
    Timer = erlang:start_timer(timer(Timeout), self(), service),
    Asked = [{Id, ask_one(Id, {make_ref(), Module, Function, Args, #{}})} || Id <- Ids],
    answers(Asked, Timer).

%% start_timer takes no `infinity'; nobody waits for fifty days.
timer(infinity) -> 16#FFFFFFFF;
timer(Timeout) -> Timeout.

ask_one(Id, Request) ->
    case py_nif:service(Id, Request) of
        ok -> element(1, Request);
        not_running -> not_running
    end.

answers([], _Timer) ->
    [];
answers([{Id, not_running} | Rest], Timer) ->
    [{Id, {error, not_running}} | answers(Rest, Timer)];
answers([{Id, Ref} | Rest] = Asked, Timer) ->
    receive
        {Ref, Result} -> [{Id, Result} | answers(Rest, Timer)];
        {Ref, Result, _QueueNs, _RunNs} -> [{Id, Result} | answers(Rest, Timer)];
        {timeout, Timer, service} -> [{I, answer_now(R)} || {I, R} <- Asked]
    end.

answer_now(not_running) ->
    {error, not_running};
answer_now(Ref) ->
    receive
        {Ref, Result} -> Result;
        {Ref, Result, _QueueNs, _RunNs} -> Result
    after 0 ->
        {error, timeout}
    end.
