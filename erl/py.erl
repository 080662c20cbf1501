%% SPDX-License-Identifier: Apache-2.0
%% @doc Python from Erlang.
%%
%% A Python exception comes back as `{error, {Type, Message}}'; the other errors
%% are `timeout', `cancelled', `not_running' and `{conversion, What, Where}'.
%% An argument of the wrong type is an error of the same shape, `TypeError' or
%% `ValueError', and Python is not asked.
-module(py).

-export([call/3, call/4, call/5]).
-export([eval/1, eval/2, eval/3, exec/1]).
-export([register_function/2, register_function/3, unregister_function/1]).
-export([execution_mode/0, num_executors/0, version/0, subinterp_supported/0]).
-export_type([name/0, code/0, kwargs/0, locals/0, result/0, reason/0, exception/0, step/0, mode/0]).

-type name() :: atom() | binary() | string().
-type code() :: unicode:chardata().
-type kwargs() :: #{name() => term()}.
-type locals() :: #{name() => term()}.
-type exception() :: atom().
%% Where a value is that does not convert: in which part of the call, then the
%% 1-based index in a list or tuple, `{value, Key}' or `{key, Key}' in a map, and
%% `key' for a key of a dict.
-type step() :: args | kwargs | locals | result | pos_integer() | {value | key, term()} | key.
-type reason() :: {exception(), Message :: binary()}
                | {conversion, What :: binary(), Where :: [step()]}
                | timeout | cancelled | not_running.
-type result() :: {ok, term()} | {error, reason()}.
-type mode() :: multi_executor | subinterp | free_threaded.

%% The operations of c_src/epy_request.h.
-define(CALL, 0).
-define(EVAL, 1).
-define(EXEC, 2).

%% Keys of the process dictionary: the process's namespace, and the callback
%% that it runs just now.
-define(NAMESPACE, '$py_namespace').
-define(FRAME, '$py_frame').

-define(IS_TIMEOUT(T), (T =:= infinity orelse (is_integer(T) andalso T >= 0 andalso T =< 16#FFFFFFFF))).

%%% Calls

%% @equiv call(Module, Function, Args, #{}, infinity)
-spec call(Module :: name(), Function :: name(), Args :: [term()]) -> result().
call(Module, Function, Args) ->
    call(Module, Function, Args, #{}, infinity).

%% @equiv call(Module, Function, Args, Kwargs, infinity)
-spec call(Module :: name(), Function :: name(), Args :: [term()], kwargs()) -> result().
call(Module, Function, Args, Kwargs) ->
    call(Module, Function, Args, Kwargs, infinity).

%% @doc Calls a Python function.  The module is imported if need be; the function
%% may be dotted, as in `py:call(os, 'path.join', [A, B])'.  In the module
%% `` '__main__' '' the functions are those that the calling process defined by
%% exec/1.  After Timeout milliseconds the answer is `{error, timeout}' and the
%% Python code is interrupted.
-spec call(Module :: name(), Function :: name(), Args :: [term()], kwargs(), timeout()) -> result().
call(Module, Function, Args, Kwargs, Timeout) when
      is_atom(Module), is_atom(Function), is_list(Args), is_map(Kwargs), ?IS_TIMEOUT(Timeout) ->
    case map_size(Kwargs) =:= 0 orelse not has_strings(Kwargs) of
        true ->
            Ref = make_ref(),
            await(submit(?CALL, {Ref, Module, Function, Args, Kwargs}), Ref, Timeout, deadline(Timeout));
        false ->
            run(?CALL, fun() -> [Module, Function, Args, keywords(Kwargs)] end, Timeout)
    end;
call(Module, Function, Args, Kwargs, Timeout) ->
    run(?CALL,
        fun() -> [module(name(module, Module)), name(function, Function), check(list, args, Args),
                  keywords(check(map, kwargs, Kwargs))]
        end, Timeout).

%%% Code

%% @equiv eval(Code, #{}, infinity)
-spec eval(code()) -> result().
eval(Code) ->
    eval(Code, #{}, infinity).

%% @equiv eval(Code, Locals, infinity)
-spec eval(code(), locals()) -> result().
eval(Code, Locals) ->
    eval(Code, Locals, infinity).

%% @doc The value of a Python expression, in the namespace of the calling
%% process with Locals laid over it.
-spec eval(code(), locals(), timeout()) -> result().
eval(Code, Locals, Timeout) ->
    run(?EVAL, fun() -> [code(Code), keywords(check(map, locals, Locals))] end, Timeout).

%% @doc Runs Python statements in the namespace of the calling process.  What
%% they define is there for eval, exec and `py:call('__main__', ...)' of this
%% process, and for nobody else.
-spec exec(code()) -> ok | {error, reason()}.
exec(Code) ->
    run(?EXEC, fun() -> [code(Code)] end, infinity).

%%% Callbacks

%% @doc Lets Python call Fun as `erlang.call(Name, ...)'.  It gets the list of the
%% arguments and runs in the process that called Python.
-spec register_function(py_callback:name(), fun(([term()]) -> term())) ->
          ok | {error, not_running | {exception(), binary()}}.
register_function(Name, Fun) ->
    py_callback:register(Name, Fun).

%% @doc The same for `Module:Function(Args)'.
-spec register_function(py_callback:name(), module(), Function :: atom()) ->
          ok | {error, not_running | {exception(), binary()}}.
register_function(Name, Module, Function) ->
    py_callback:register(Name, {Module, Function}).

-spec unregister_function(py_callback:name()) -> ok | {error, not_running}.
unregister_function(Name) ->
    py_callback:unregister(Name).

%%% Operations

%% @doc How Python runs in parallel on this node.
-spec execution_mode() -> mode() | {error, not_running}.
execution_mode() ->
    running_info(fun({_, Mode, _, _, _, _, _}) -> Mode end).

%% @doc How many threads serve calls.
-spec num_executors() -> pos_integer() | {error, not_running}.
num_executors() ->
    running_info(fun({_, _, _, _, Executors, _, _}) -> Executors end).

%% @doc The version of Python, as `sys.version' has it.
-spec version() -> {ok, binary()} | {error, not_running}.
version() ->
    running_info(fun({_, _, Version, _, _, _, _}) -> {ok, Version} end).

%% @doc Does this Python run sub-interpreters with a GIL of their own?
-spec subinterp_supported() -> boolean() | {error, not_running}.
subinterp_supported() ->
    running_info(fun({_, _, _, _, _, HasSubinterps, _}) -> HasSubinterps end).

running_info(Fun) ->
    case py_nif:info() of
        {_, _, _, running, _, _, _} = Info -> Fun(Info);
        _ -> {error, not_running}
    end.

%%% Requests

%% Checks the arguments, which Terms makes what the operation takes, and runs it.
run(Op, Terms, Timeout) ->
    try {Terms(), check(timeout, timeout, Timeout)} of
        {Checked, _} ->
            Ref = make_ref(),
            await(submit(Op, list_to_tuple([Ref | Checked])), Ref, Timeout, deadline(Timeout))
    catch
        throw:{refused, Type, Message} -> {error, {Type, Message}}
    end.

submit(Op, Request) ->
    case get(?NAMESPACE) of
        undefined -> bind_and_submit(Op, Request);
        Namespace -> submit(Namespace, Op, Request)
    end.

bind_and_submit(Op, Request) ->
    case py_nif:bind() of
        not_running ->
            not_running;
        Namespace ->
            put(?NAMESPACE, Namespace),
            submit(Namespace, Op, Request)
    end.

submit(Namespace, Op, Request) ->
    case get(?FRAME) of
        undefined -> py_nif:submit(Namespace, Op, Request);
        Frame -> py_nif:nest(Namespace, Op, Request, Frame)
    end.

await(not_running, _Ref, _Timeout, _Deadline) ->
    {error, not_running};
await(Id, Ref, Timeout, Deadline) ->
    receive
        {Ref, Result} ->
            Result;
        {Ref, callback, Frame, Name, Args} ->
            run_callback(Frame, Name, Args),
            await_until(Id, Ref, Deadline)
    after Timeout ->
        give_up(Id, Ref)
    end.

%% Past the deadline the next callback is not run, even if it is there already: else
%% Python code that does nothing but call back would never time out.
await_until(Id, Ref, Deadline) ->
    case remaining(Deadline) of
        0 -> give_up(Id, Ref);
        Timeout -> await(Id, Ref, Timeout, Deadline)
    end.

%% Either the request ends without a message, but for a callback that may have
%% come before, or its reply was in the mailbox first.
give_up(Id, Ref) ->
    case py_nif:cancel(Id) of
        true ->
            receive {Ref, callback, _, _, _} -> ok after 0 -> ok end,
            {error, timeout};
        false ->
            receive {Ref, Result} -> Result end
    end.

run_callback(Frame, Name, Args) ->
    Outer = put(?FRAME, Frame),
    Outcome = try {ok, py_callback:execute(Name, Args)}
              catch Class:Reason:Stack -> {error, {Class, Reason, Stack}}
              after restore_frame(Outer)
              end,
    %% false: the request was cancelled meanwhile, and nobody waits for this.
    _ = py_nif:callback_return(Frame, Outcome),
    ok.

restore_frame(undefined) -> erase(?FRAME);
restore_frame(Outer) -> put(?FRAME, Outer).

deadline(infinity) -> infinity;
deadline(Timeout) -> erlang:monotonic_time(millisecond) + Timeout.

remaining(infinity) -> infinity;
remaining(Deadline) -> max(0, Deadline - erlang:monotonic_time(millisecond)).

%%% Arguments

name(_What, Name) when is_atom(Name); is_binary(Name) ->
    Name;
name(What, Name) when is_list(Name) ->
    text(What, Name);
name(What, Name) ->
    refuse('TypeError', "the ~ts must be an atom, a binary or a string, not ~tP", [What, Name, 10]).

%% These two are the caller's namespace and what runs in it, however they are named.
module(<<"__main__">>) -> '__main__';
module(<<"builtins">>) -> builtins;
module(Name) -> Name.

code(Code) when is_binary(Code) -> Code;
code(Code) when is_list(Code) -> text(code, Code);
code(Code) -> refuse('TypeError', "code must be a binary, a string or an iolist, not ~tP", [Code, 10]).

text(What, Chars) ->
    try unicode:characters_to_binary(Chars) of
        Text when is_binary(Text) -> Text;
        _ -> refuse('ValueError', "the ~ts is not valid UTF-8", [What])
    catch
        error:badarg -> refuse('TypeError', "the ~ts is not a string: ~tP", [What, Chars, 10])
    end.

%% Names may be strings; those that are not go to Python as they are.
keywords(Map) ->
    case has_strings(Map) of
        true -> same_size(Map, maps:from_list([{keyword(K), V} || {K, V} <- maps:to_list(Map)]));
        false -> Map
    end.

has_strings(Map) ->
    lists:any(fun is_list/1, maps:keys(Map)).

same_size(Map, Named) when map_size(Map) =:= map_size(Named) -> Named;
same_size(_, _) -> refuse('TypeError', "two names are equal", []).

keyword(Name) when is_list(Name) -> text(keyword, Name);
keyword(Name) -> Name.

check(list, _What, Value) when is_list(Value) -> Value;
check(map, _What, Value) when is_map(Value) -> Value;
check(timeout, _What, Value) when ?IS_TIMEOUT(Value) -> Value;
check(timeout, _What, Value) when is_integer(Value) ->
    refuse('ValueError', "the timeout must be from 0 to 4294967295 ms or infinity, not ~tp", [Value]);
check(timeout, _What, Value) ->
    refuse('TypeError', "the timeout must be an integer (ms) or infinity, not ~tP", [Value, 10]);
check(Type, What, Value) ->
    refuse('TypeError', "~ts must be a ~ts, not ~tP", [What, Type, Value, 10]).

-spec refuse(exception(), string(), [term()]) -> no_return().
refuse(Type, Format, Args) ->
    throw({refused, Type, unicode:characters_to_binary(io_lib:format(Format, Args))}).
