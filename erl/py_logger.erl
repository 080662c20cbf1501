%% SPDX-License-Identifier: Apache-2.0
%% @doc Python's `logging', in Erlang's `logger'.
%%
%% A message of Python's has as metadata its file, line and time, and under the key `python' a map
%% of the logger's name, the module, the function, the thread, the task if there is one, and as
%% `extra' what the code added by `extra='.  It has no domain: the default handler shows nothing
%% that has one, but for what OTP logs.
%%
%% Python does not wait for the handlers: the messages come to a process.  Up to 10,000 of them
%% may wait for it; more are dropped, and a warning says how many.
-module(py_logger).
-behaviour(gen_server).

-export([configure/1, level/1]).
-export([start_link/0]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

%% After so many at the latest the library hears how many are dealt with.
-define(BATCH, 1000).
-define(ALL, 16#FFFFFFFF).

%% @doc Has Python log to Erlang what has this level at least, in all interpreters, and in
%% those that come later.  The level is one of `logger', `all' or `none'; if it is not given,
%% that of Erlang's primary configuration.
-spec configure(#{level => level()}) -> ok | {error, py:reason()}.
configure(Options) ->
    case py_args:checked(fun() -> options(Options) end) of
        {ok, Level} -> py_setup:set_logging(Level);
        {error, _} = Error -> Error
    end.

-type level() :: logger:level() | all | none.

options(#{level := Level} = Options) when map_size(Options) =:= 1 ->
    level(Level) orelse
        py_args:refuse('ValueError', "the level must be one of logger, all or none, not ~tP", [Level, 10]),
    Level;
options(Options) when Options =:= #{} ->
    #{level := Level} = logger:get_primary_config(),
    Level;
options(Options) when is_map(Options) ->
    [Key | _] = maps:keys(maps:remove(level, Options)),
    py_args:refuse('TypeError', "there is no option ~tP here (there is level)", [Key, 10]);
options(Options) ->
    py_args:refuse('TypeError', "the options must be a map, not ~tP", [Options, 10]).

%% @private Is this one?
-spec level(term()) -> boolean().
level(Level) ->
    Level =:= all orelse Level =:= none orelse is_level(Level).

is_level(Level) ->
    lists:member(Level, [debug, info, notice, warning, error, critical, alert, emergency]).

%%% The process

%% @private
-spec start_link() -> gen_server:start_ret().
start_link() ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, [], [{spawn_opt, [{message_queue_data, off_heap}]}]).

%% What Python logged before the application stops is still dealt with; and so is, in a way,
%% what an earlier process left behind.
init([]) ->
    process_flag(trap_exit, true),
    _ = py_nif:log_done(?ALL),
    {ok, []}.

handle_call(_Request, _From, State) ->
    {reply, {error, unknown_call}, State}.

handle_cast(_Request, State) ->
    {noreply, State}.

handle_info({py_log, Level, Message, Meta}, State) ->
    ok = log(Level, Message, Meta),
    ok = tell_dropped(py_nif:log_done(drain(1))),
    {noreply, State};
handle_info(_Info, State) ->
    {noreply, State}.

%% How many there were, Count included.
drain(?BATCH) ->
    ?BATCH;
drain(Count) ->
    receive
        {py_log, Level, Message, Meta} ->
            ok = log(Level, Message, Meta),
            drain(Count + 1)
    after 0 ->
        Count
    end.

tell_dropped(0) ->
    ok;
tell_dropped(Count) ->
    logger:warning("erlang_python: ~b log messages of Python were dropped, as the handlers are too slow", [Count]).

log(Level, Message, Meta) when is_binary(Message), is_map(Meta) ->
    case is_level(Level) of
        true -> logger:log(Level, Message, metadata(Meta));
        false -> strange(Level, Message, Meta)
    end;
log(Level, Message, Meta) ->
    strange(Level, Message, Meta).

%% A mistake of Python code that calls the C module by itself.
strange(Level, Message, Meta) ->
    logger:error("erlang_python: this is no log message: ~tp", [{Level, Message, Meta}]).

%% As logger has it: the time in microseconds, the file a string.
metadata(Meta) ->
    Place = maps:map(fun(file, File) when is_binary(File) -> unicode:characters_to_list(File);
                        (_, Value) -> Value
                     end, maps:with([time, file, line], Meta)),
    Place#{python => maps:without([time, file, line], Meta)}.
