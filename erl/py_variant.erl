%% SPDX-License-Identifier: Apache-2.0
%% @private
%% Which library this node loads.
%%
%% A variant is one library for one Python in one mode, priv/epy-TAG-MODE.so.
%% The application environment (python, mode) or the variable ERLANG_PYTHON says
%% which ones may be taken.  Of those the best that loads is taken: free_threaded,
%% then subinterp, then multi_executor, and the newest Python in each.
-module(py_variant).

-export([load/0, all/0, priv_dir/0, format_error/1]).
-export_type([variant/0]).

-type variant() :: #{name := string(), tag := string(), mode := py:mode(),
                     version := {integer(), integer()}}.
-type wish() :: any | {version, {integer(), integer()}} | {tag, string()} | {name, string()}
              | {path, string(), Tag :: string(), Stdlib :: string()}.

%% Loads the best variant that is allowed, unless one is loaded already (R9: one
%% Python per node).
-spec load() -> ok | {error, term()}.
load() ->
    maybe_load(wish(), py_env:get(mode)).

%% All variants that are there, the best first.
-spec all() -> [variant()].
all() ->
    Files = filelib:wildcard("epy-*.so", priv_dir()),
    Variants = lists:filtermap(fun parse/1, Files),
    lists:sort(fun(A, B) -> rank(A) >= rank(B) end, Variants).

%% The directory that the libraries are in.  Not code:priv_dir/1, which wants
%% the directory of the application to be named like it: a build directory is not.
-spec priv_dir() -> file:filename().
priv_dir() ->
    filename:join(filename:dirname(filename:dirname(code:which(?MODULE))), "priv").

-spec format_error(term()) -> iolist().
format_error({bad_python, Value, Why}) ->
    io_lib:format("python = ~tp: ~ts", [Value, Why]);
format_error({no_variant, Dir, []}) ->
    io_lib:format("there is no library epy-*.so in ~ts", [Dir]);
format_error({no_variant, _Dir, Reasons}) ->
    ["no variant can be loaded:",
     [io_lib:format("~n  ~ts: ~ts", [Name, Why]) || {Name, Why} <- Reasons]];
format_error({already_loaded, Name}) ->
    io_lib:format("this node has loaded ~ts, which is not what was asked for, "
                  "and cannot load another", [Name]).

%%% What is asked for

-spec wish() -> {ok, wish()} | {error, term()}.
wish() ->
    case {py_env:get(python), os:getenv("ERLANG_PYTHON")} of
        {undefined, false} -> {ok, any};
        {undefined, ""} -> {ok, any};
        {undefined, Variable} -> wish(Variable);
        {Value, _} -> wish(unicode:characters_to_list(Value))
    end.

wish("/" ++ _ = Path) ->
    describe(Path);
wish(Value) ->
    case re:run(Value, "^(?:(\\d+)\\.(\\d+)(t?)|(cp\\d+t?)|(cp\\d+t?-[a-z_]+))$",
                [{capture, all_but_first, list}]) of
        {match, [Major, Minor, "t"]} -> {ok, {tag, "cp" ++ Major ++ Minor ++ "t"}};
        {match, [Major, Minor, ""]} -> {ok, {version, {list_to_integer(Major), list_to_integer(Minor)}}};
        {match, [_, _, _, Tag]} -> {ok, {tag, Tag}};
        {match, [_, _, _, _, Name]} -> {ok, {name, Name}};
        nomatch -> {error, {bad_python, Value, "neither a version, a tag, a variant nor a path"}}
    end.

%% Asks an interpreter what it is.
describe(Path) ->
    Code = "import sys, sysconfig; "
           "print('cp%d%d%s' % (sys.version_info[0], sys.version_info[1], "
           "'t' if sysconfig.get_config_var('Py_GIL_DISABLED') else ''), "
           "sysconfig.get_path('stdlib'), sep='\\n')",
    try open_port({spawn_executable, Path},
                  [{args, ["-I", "-c", Code]}, exit_status, stderr_to_stdout, binary]) of
        Port -> described(Path, collect(Port, []))
    catch
        error:Reason ->
            {error, {bad_python, Path, io_lib:format("cannot be run: ~p", [Reason])}}
    end.

described(Path, {0, Output}) ->
    case string:split(string:trim(Output), "\n") of
        [Tag, Stdlib] -> {ok, {path, Path, binary_to_list(Tag), unicode:characters_to_list(Stdlib)}};
        _ -> {error, {bad_python, Path, ["answers ", Output]}}
    end;
described(Path, {Status, Output}) ->
    {error, {bad_python, Path, io_lib:format("exits with ~p: ~ts", [Status, Output])}}.

collect(Port, Acc) ->
    receive
        {Port, {data, Data}} -> collect(Port, [Acc, Data]);
        {Port, {exit_status, Status}} -> {Status, iolist_to_binary(Acc)}
    end.

%%% What is there

parse("epy-" ++ File) ->
    Name = filename:rootname(File),
    case re:run(Name, "^(cp(\\d)(\\d+)t?)-(multi_executor|subinterp|free_threaded)$",
                [{capture, all_but_first, list}]) of
        {match, [Tag, Major, Minor, Mode]} ->
            {true, #{name => Name, tag => Tag, mode => list_to_atom(Mode),
                     version => {list_to_integer(Major), list_to_integer(Minor)}}};
        nomatch ->
            false
    end.

rank(#{mode := Mode, version := Version}) ->
    {mode_rank(Mode, Version), Version}.

mode_rank(free_threaded, _) -> 3;
mode_rank(subinterp, Version) when Version >= {3, 13} -> 2;
mode_rank(multi_executor, _) -> 1;
mode_rank(subinterp, _) -> 0. % unsound up to 3.12: only when asked for

%%% Taking one

maybe_load({error, _} = Error, _Mode) ->
    Error;
maybe_load({ok, Wish}, Mode) ->
    case py_nif:info() of
        not_loaded -> load_first(candidates(Wish, Mode), []);
        Info -> check_loaded(Info, Wish, Mode)
    end.

candidates(Wish, Mode) ->
    [V || V <- all(), fits(Wish, V), Mode =:= undefined orelse maps:get(mode, V) =:= Mode].

fits(any, _) -> true;
fits({version, Version}, #{version := V}) -> V =:= Version;
fits({tag, Tag}, #{tag := T}) -> T =:= Tag;
fits({path, _, Tag, _}, #{tag := T}) -> T =:= Tag;
fits({name, Name}, #{name := N}) -> N =:= Name.

load_first([#{name := Name} | Rest], Reasons) ->
    case py_nif:load(filename:join(priv_dir(), "epy-" ++ Name)) of
        ok ->
            {ok, Wish} = wish(),
            check_stdlib(py_nif:info(), Wish);
        {error, Reason} ->
            load_first(Rest, [{Name, why(Reason)} | Reasons])
    end;
load_first([], Reasons) ->
    Tried = [Name || {Name, _} <- Reasons],
    Others = [{Name, "not what was asked for"}
              || #{name := Name} <- all(), not lists:member(Name, Tried)],
    {error, {no_variant, priv_dir(), lists:reverse(Reasons) ++ Others}}.

check_loaded({Loaded, Mode, _, _, _, _, _} = Info, Wish, AskedMode) ->
    {true, Variant} = parse("epy-" ++ binary_to_list(Loaded) ++ ".so"),
    case fits(Wish, Variant) andalso (AskedMode =:= undefined orelse AskedMode =:= Mode) of
        true -> check_stdlib(Info, Wish);
        false -> {error, {already_loaded, Loaded}}
    end.

%% An interpreter of the right version may be of another installation.
check_stdlib({Loaded, _, _, _, _, _, Stdlib}, {path, Path, _, Other}) ->
    case unicode:characters_to_list(Stdlib) of
        Other -> ok;
        _ -> {error, {bad_python, Path,
                      io_lib:format("its standard library is ~ts, but ~ts was built for ~ts",
                                    [Other, Loaded, Stdlib])}}
    end;
check_stdlib(_Info, _Wish) ->
    ok.

%% The codes are those of c_src/epy_lib.h.
why({load, Text}) ->
    case re:run(Text, "\\((\\d+)\\)", [{capture, all_but_first, list}]) of
        {match, ["1"]} -> "another libpython is in this process";
        {match, ["2"]} -> "the standard library of this Python is not installed";
        {match, ["3"]} -> "its libraries cannot be kept loaded";
        {match, ["4"]} -> "there is no memory";
        _ -> Text
    end;
why({_, Text}) ->
    Text.
