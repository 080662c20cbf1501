%% SPDX-License-Identifier: Apache-2.0
%%
%% Runs Common Test suites inside the node whose variant is under test, and reports
%% each case to a file as soon as it happens.
%%
%% A NIF under test may take the whole node with it, so whoever counts must stand
%% outside (run_tests), and what was known before a crash must be on disk by then.  The
%% file holds one line per event: kind, suite, case and text, with tabs between them:
%%
%%   variant           the node runs the library and the mode that were asked for
%%   wrong             it does not; nothing else follows
%%   start             a case begins
%%   pass, fail, skip  it ended; the text is the reason
%%   done              all suites ran; anything else that ends the node is a crash
%%
%% Started as: erl ... -s ct_runner main -extra EVENTS VARIANT PRIV SPEC FACTOR
-module(ct_runner).
-behaviour(gen_event).

-export([main/0]).
-export([init/1, handle_event/2, handle_call/2, handle_info/2]).

-include_lib("common_test/include/ct_event.hrl").

main() ->
    [Events, Variant, Priv, Spec, Factor] = init:get_plain_arguments(),
    {ok, File} = file:open(Events, [append, raw]),
    try
        check_variant(Variant, Priv),
        report(File, variant, '-', '-', Variant)
    of
        ok -> run(File, Events, Spec, list_to_integer(Factor))
    catch
        throw:Text ->
            report(File, wrong, '-', '-', Text),
            halt(1);
        Class:Reason:Stack ->
            report(File, wrong, '-', '-', io_lib:format("~tp: ~tp~n~tp", [Class, Reason, Stack])),
            halt(1)
    end.

run(File, Events, Spec, Factor) ->
    case ct:run_test([{spec, Spec}, {auto_compile, false}, {basic_html, true},
                      {multiply_timetraps, Factor}, {scale_timetraps, false},
                      {event_handler, {?MODULE, Events}}]) of
        {error, Reason} ->
            report(File, wrong, '-', '-', io_lib:format("ct:run_test: ~tp", [Reason])),
            halt(1);
        _ ->
            report(File, done, '-', '-', ""),
            halt(0)
    end.

%% The application is stopped again, so that suites begin as in a fresh node.
check_variant(Variant, Priv) ->
    {ok, Started} = application:ensure_all_started(erlang_python),
    [_Tag, Mode] = string:split(Variant, "-"),
    case atom_to_list(py:execution_mode()) of
        Mode -> ok;
        Other -> throw("py:execution_mode() is " ++ Other)
    end,
    check_library(filename:join(Priv, "epy-" ++ Variant ++ ".so")),
    [ok = application:stop(App) || App <- lists:reverse(Started)],
    ok.

%% Asks the system rather than the library what is loaded.
check_library(Wanted) ->
    case file:read_file("/proc/self/maps") of
        {ok, Maps} ->
            Loaded = case re:run(Maps, "[^ \n]*/epy-[^/\n]*\\.so", [global, {capture, first, list}]) of
                         {match, Found} -> lists:usort(lists:append(Found));
                         nomatch -> []
                     end,
            Loaded =:= [Wanted]
                orelse throw(io_lib:format("loaded is ~tp and not ~ts", [Loaded, Wanted])),
            ok;
        {error, Reason} ->
            io:format("not checked which library is loaded: /proc/self/maps: ~p~n", [Reason])
    end.

%% gen_event

init(Events) ->
    file:open(Events, [append, raw]).

handle_event(#event{name = tc_start, data = {Suite, Func}}, File) ->
    report(File, start, Suite, name(Func), ""),
    {ok, File};
handle_event(#event{name = tc_done, data = {Suite, Func, Result}}, File) ->
    case Result of
        ok -> report(File, pass, Suite, name(Func), "");
        {skipped, Reason} -> report(File, skip, Suite, name(Func), text(Reason));
        %% Its own init failed, which is a failure that nobody else reports.
        {auto_skipped, {failed, _} = Reason} -> report(File, fail, Suite, name(Func), text(Reason));
        {auto_skipped, Reason} -> report(File, skip, Suite, name(Func), text(Reason));
        {failed, Reason} -> report(File, fail, Suite, name(Func), text(Reason))
    end,
    {ok, File};
handle_event(#event{name = Skip, data = {Suite, Func, Reason}}, File)
  when Skip =:= tc_auto_skip; Skip =:= tc_user_skip ->
    report(File, skip, Suite, name(Func), text(Reason)),
    {ok, File};
handle_event(_Event, File) ->
    {ok, File}.

handle_call(_Request, File) ->
    {ok, {error, badcall}, File}.

handle_info(_Info, File) ->
    {ok, File}.

%% What the lines are made of

report(File, Kind, Suite, Case, Text) ->
    Line = io_lib:format("~s\t~ts\t~ts\t~ts\n", [Kind, Suite, Case, escape(Text)]),
    ok = file:write(File, unicode:characters_to_binary(Line)).

name({Func, Group, _Properties}) -> io_lib:format("~ts(~tp)", [Func, Group]);
name({Func, Group}) -> io_lib:format("~ts(~tp)", [Func, Group]);
name(Func) -> atom_to_list(Func).

%% Cases whose frame failed: that failure has been told.
text({failed, {_Module, Frame, _Why}})
  when Frame =:= init_per_suite; Frame =:= init_per_group; Frame =:= end_per_suite ->
    io_lib:format("~ts failed", [Frame]);
text(Reason) when is_list(Reason) ->
    case io_lib:printable_unicode_list(Reason) of
        true -> Reason;
        false -> io_lib:format("~tP", [Reason, 60])
    end;
text(Reason) ->
    io_lib:format("~tP", [without_runner(Reason), 60]).

%% The frames of Common Test below the case are the same each time.
without_runner([{test_server, _, _, _} | _]) -> [];
without_runner([Head | Tail]) -> [without_runner(Head) | without_runner(Tail)];
without_runner(Tuple) when is_tuple(Tuple) ->
    list_to_tuple([without_runner(Element) || Element <- tuple_to_list(Tuple)]);
without_runner(Other) -> Other.

escape(Text) ->
    lists:map(fun($\\) -> "\\\\";
                 ($\n) -> "\\n";
                 ($\t) -> "\\t";
                 (C) -> C
              end, lists:flatten(Text)).
