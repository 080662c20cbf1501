%% SPDX-License-Identifier: Apache-2.0
%% @private
%% What Erlang does with Python objects that it has handles of.
%%
%% Each is a call of a function of erlang/_objects.py in the interpreter of the object.  For
%% an object of another node all happens there, arguments and callbacks included; what comes
%% back are values, and references to objects of that node.
-module(py_object).

-export([getattr/3, setattr/3, call_method/5, call_method_in/4, call/4, to_term/2, is_ref/1]).
-export([serve/4]).

-spec getattr(py:handle(), py:name(), py:options()) -> py:result().
getattr(Handle, Name, Options) ->
    at_home(Handle, getattr, [Handle, Name, Options],
            fun() -> {get, [Handle, py_args:attribute(Name)], #{}, Options} end).

-spec setattr(py:handle(), py:name(), term()) -> ok | {error, py:reason()}.
setattr(Handle, Name, Value) ->
    case at_home(Handle, setattr, [Handle, Name, Value],
                 fun() -> {assign, [Handle, py_args:attribute(Name), Value], #{}, infinity} end) of
        {ok, none} -> ok;
        Other -> Other % also the ok of another node
    end.

-spec call_method(py:handle(), py:name(), [term()], py:kwargs(), py:options()) -> py:result().
call_method(Handle, Name, Args, Kwargs, Options) ->
    Result = at_home(Handle, call_method, [Handle, Name, Args, Kwargs, Options],
                     fun() -> method(Handle, Name, Args, Kwargs, Options) end),
    moved(2, Handle, Result).

%% In a context, which must be one of the object's interpreter.
-spec call_method_in(pid(), py:handle(), py:name(), [term()]) -> py:result().
call_method_in(Context, Handle, Name, Args) ->
    moved(2, Handle, run(Handle, fun() -> py_args:context(Context) end,
                         fun() -> method(Handle, Name, Args, #{}, infinity) end)).

method(Handle, Name, Args, Kwargs, Options) ->
    {call_method, [Handle, py_args:attribute(Name) | py_args:list(args, Args)], Kwargs, Options}.

-spec call(py:handle(), [term()], py:kwargs(), py:options()) -> py:result().
call(Handle, Args, Kwargs, Options) ->
    Result = at_home(Handle, call, [Handle, Args, Kwargs, Options],
                     fun() -> {call, [Handle | py_args:list(args, Args)], Kwargs, Options} end),
    moved(1, Handle, Result).

-spec to_term(py:handle(), py:options()) -> py:result().
to_term(Handle, Options) ->
    at_home(Handle, to_term, [Handle, Options], fun() -> {same, [Handle], #{}, Options} end).

-spec is_ref(term()) -> boolean().
is_ref(Term) when is_reference(Term), node(Term) =/= node() ->
    try erpc:call(node(Term), py_nif, is_handle, [Term])
    catch _:_ -> false
    end;
is_ref(Term) ->
    py_nif:is_handle(Term).

%%% Here

%% Request makes {Function, Args, Kwargs, Options} of what it checks.  Function(Args) of this
%% module is the same for another node.
at_home(Handle, Function, Args, _Request) when is_reference(Handle), node(Handle) =/= node() ->
    remote(node(Handle), Function, Args);
at_home(Handle, _Function, _Args, Request) ->
    run(Handle, fun() -> {object, Handle} end, Request).

run(Handle, Place, Request) ->
    case py_args:checked(fun() -> checked(Handle, Place(), Request()) end) of
        {ok, {In, Terms, #{timeout := Timeout, flags := Flags}}} ->
            py_request:run(In, call, Terms, Timeout, Flags);
        {error, _} = Error ->
            Error
    end.

checked(Handle, Place, {Function, Args, Kwargs, Options}) ->
    _ = py_args:handle(Handle),
    {Place, py_args:call('erlang._objects', Function, Args, Kwargs), py_args:options(Options)}.

%% The caller's arguments come after Count of ours.
moved(Count, Handle, {error, {conversion, What, [args, I | Where]}})
  when is_integer(I), I > Count, node(Handle) =:= node() ->
    {error, {conversion, What, [args, I - Count | Where]}};
moved(_Count, _Handle, Result) ->
    Result.

%%% There

remote(Node, Function, Args) ->
    try erpc:call(Node, ?MODULE, serve, [self(), Function, Args, py_tracer:get_context()])
    catch
        error:{erpc, Reason} -> connection_error(Node, Reason);
        error:{exception, undef, [{?MODULE, serve, _, _} | _]} -> connection_error(Node, no_erlang_python);
        exit:{exception, Reason} -> connection_error(Node, Reason)
    end.

connection_error(Node, Reason) ->
    Text = io_lib:format("the node of the object, ~tw, does not answer: ~tP", [Node, Reason, 10]),
    {error, {'ConnectionError', unicode:characters_to_binary(Text)}}.

%% On the node of the object.  The end of the process that asked ends the request, as it
%% does on that process's own node.  The request has the trace context of that process.
-spec serve(Client :: pid(), Function :: atom(), Args :: [term()], py_tracer:traceparent() | undefined) -> term().
serve(Client, Function, Args, Context) ->
    Watched = monitor(process, Client),
    Run = fun() -> erlang:apply(?MODULE, Function, Args) end,
    {Pid, Monitor} = spawn_monitor(fun() -> exit({served, py_tracer:with_context(Context, Run)}) end),
    receive
        {'DOWN', Monitor, process, Pid, {served, Result}} -> Result;
        {'DOWN', Monitor, process, Pid, Reason} -> exit(Reason);
        {'DOWN', Watched, process, Client, Reason} -> exit(Pid, kill), exit(Reason)
    end.
