%% SPDX-License-Identifier: Apache-2.0
%% @private
%% Python exceptions as exceptions of Erlang: with the Python frames in the stacktrace, and
%% with what a shell prints of them (EEP 54).
-module(py_error).

-export([raise/2, format/2]).

%% Of the eight frames that the emulator keeps of a stacktrace, unless it is told otherwise.
-define(FRAMES, 5).
%% What is printed below a frame is indented by the shell, but for its further lines.
-define(INDENT, "\n            ").

%% The error of py:apply(Args).
-spec raise(py:reason(), Args :: [term()]) -> no_return().
raise(#{type := Type, message := Message, traceback := Traceback} = Error, Args) ->
    Innermost = lists:sublist(lists:reverse(Traceback), ?FRAMES),
    raise({python, Type, Message}, [frame(Frame) || Frame <- Innermost] ++ [{py, apply, length(Args), []}],
          details(Error));
raise({Type, Message}, Args) when is_atom(Type), is_binary(Message) ->
    raise({python, Type, Message}, [{py, apply, Args, []}], []);
raise(Reason, Args) ->
    raise({python, Reason}, [{py, apply, Args, []}], []).

raise(Reason, [{Module, Function, Args, Info} | Frames], Details) ->
    Top = {Module, Function, Args, Info ++ [{error_info, error_info(Details)}]},
    {current_stacktrace, Stack} = process_info(self(), current_stacktrace),
    Callers = lists:dropwhile(fun({M, _, _, _}) -> M =:= ?MODULE orelse M =:= erlang end, Stack),
    erlang:raise(error, Reason, [Top | Frames] ++ Callers).

error_info([]) -> #{module => py};
error_info(Details) -> #{module => py, cause => Details}.

frame(#{file := File, line := Line, function := Function}) ->
    {py_nif:frame_atom(module(File)), py_nif:frame_atom(Function), 0,
     [{file, unicode:characters_to_list(File)}, {line, Line}]}.

%% The name that the file's module most likely has.
module(File) ->
    case filename:basename(File, <<".py">>) of
        <<"__init__">> -> filename:basename(filename:dirname(File));
        Name -> Name
    end.

%% What goes below the top frame: its line of code, the notes, what led to it.
details(#{traceback := Traceback, notes := Notes} = Error) ->
    [Code || #{code := Code} <- lists:sublist(lists:reverse(Traceback), 1), Code =/= none] ++ Notes ++ origin(Error).

origin(#{cause := Cause}) when is_map(Cause) -> [<<"caused by ", (summary(Cause))/binary>>];
origin(#{context := Context}) when is_map(Context) -> [<<"while handling ", (summary(Context))/binary>>];
origin(_Error) -> [].

summary(#{type := Type, message := Message, traceback := Traceback}) ->
    unicode:characters_to_binary(
      [summary(Type, Message) | [io_lib:format(" (~ts, line ~b)", [File, Line])
                                 || #{file := File, line := Line} <- lists:sublist(lists:reverse(Traceback), 1)]]).

summary(Type, <<>>) -> atom_to_binary(Type);
summary(Type, Message) -> io_lib:format("~ts: ~ts", [Type, Message]).

%% What is printed of an error of raise/2.
%% The texts are binaries, as Elixir takes no others.
-spec format(Reason :: term(), erlang:stacktrace()) -> #{reason | general => binary()}.
format({python, Type, Message}, Stacktrace) ->
    Text = unicode:characters_to_list(summary(Type, Message)),
    case lists:all(fun(Char) -> Char < 256 end, Text) of
        true -> general(Text, details_in(Stacktrace));
        %% Where the terminal's encoding is Latin-1, a reason with other characters ends the shell.
        false -> general(atom_to_list(Type), [Message | details_in(Stacktrace)])
    end;
format({python, Reason}, Stacktrace) ->
    general(lists:flatten(io_lib:format("Python: ~p", [Reason])), details_in(Stacktrace));
format(_Reason, _Stacktrace) ->
    #{}.

details_in([{_, _, _, Info} | _]) ->
    case proplists:get_value(error_info, Info) of
        #{cause := Details} when is_list(Details) -> Details;
        _ -> []
    end;
details_in([]) ->
    [].

general(Text, []) -> #{reason => unicode:characters_to_binary(Text)};
general(Text, Details) ->
    Lines = lists:append([binary:split(Detail, <<"\n">>, [global]) || Detail <- Details]),
    (general(Text, []))#{general => unicode:characters_to_binary(lists:join(?INDENT, Lines))}.
