%% SPDX-License-Identifier: Apache-2.0
%% @private
%% What Python prints, on its way to a group leader.
%%
%% A group leader is any process, maybe on another node, and may take long, or never answer.
%% So the wait has an end, and a late answer goes to a process that is gone by then.  That
%% the group leader has ended, or does not want the text, is nothing that Python code did:
%% the text is lost then.
-module(py_output).

-export([write/3, post/2]).

%% Writes, and waits until it is written, as that is what holds Python code back.
-spec write(Leader :: pid(), Text :: binary(), timeout()) -> ok.
write(Leader, Text, Timeout) ->
    {Pid, Monitor} = spawn_monitor(fun() -> put_chars(Leader, Text) end),
    receive
        {'DOWN', Monitor, process, Pid, _Reason} -> ok
    after Timeout ->
        true = demonitor(Monitor, [flush]),
        true = exit(Pid, kill),
        ok
    end.

put_chars(Leader, Text) ->
    try io:put_chars(Leader, Text)
    catch error:_ -> ok
    end.

%% Does not wait.  The calling process gets an answer, which it must be able to take.
-spec post(Leader :: atom(), Text :: binary()) -> ok.
post(_Leader, <<>>) ->
    ok;
post(Leader, Text) ->
    case whereis(Leader) of
        undefined -> ok;
        Pid ->
            Pid ! {io_request, self(), make_ref(), {put_chars, unicode, Text}},
            ok
    end.
