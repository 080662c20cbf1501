%% SPDX-License-Identifier: Apache-2.0
%%
%% Buffers: large data passes without a copy where both sides cannot change it, and with
%% one where either could.  That nothing is copied shows in addresses: {address, Data} is
%% where Python finds it.
-module(py_buffer_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([a_buffer_is_a_read_only_memoryview/1,
         a_buffer_is_not_a_copy/1,
         a_buffer_holds_what_the_binary_holds/1,
         a_sub_binary_is_a_buffer_without_a_copy/1,
         buffers_come_in_containers_and_callbacks/1,
         only_a_tagged_binary_is_a_buffer/1,
         a_buffer_is_writable_for_nobody/1]).
-export([a_buffer_keeps_the_binary_alive/1,
         a_slice_of_a_buffer_keeps_the_binary_alive/1,
         a_forgotten_buffer_frees_the_binary/1,
         a_released_buffer_frees_the_binary/1,
         many_buffers_of_one_binary_take_no_memory/1]).
-export([bytes_come_back_as_a_binary_without_a_copy/1,
         text_comes_back_as_its_UTF8/1,
         a_view_of_bytes_comes_back_without_a_copy/1,
         a_buffer_that_comes_back_is_the_binary/1,
         what_is_no_buffer_is_refused/1,
         small_buffers_come_back/1,
         a_strided_view_comes_back_in_its_order/1,
         a_returned_binary_keeps_the_bytes_alive/1,
         a_returned_binary_frees_the_bytes/1,
         a_returned_binary_outlives_its_interpreter/1,
         a_returned_binary_outlives_the_application/1]).
-export([a_mutable_buffer_is_never_aliased/1,
         a_read_only_view_of_a_mutable_buffer_is_never_aliased/1,
         a_numpy_array_is_never_aliased/1,
         a_bytearray_can_grow_after_it_was_returned/1]).
-export([sixty_four_megabytes_go_in_far_less_time_than_a_copy/1,
         sixty_four_megabytes_come_back_in_far_less_time_than_a_copy/1]).

-define(ERROR(Type, Message), {error, {Type, Message}}).
-define(BUFFER, {opts, #{return => buffer}}).
-define(MB, (1 bsl 20)).

suite() -> [{timetrap, {minutes, 5}}].

all() -> py_test:cases(?MODULE).

init_per_suite(Config) -> py_test:start(Config).

end_per_suite(Config) -> py_test:stop(Config).

%% address(x): of the first byte that the buffer exports.
init_per_testcase(_Case, Config) ->
    ok = py:exec(<<"
import ctypes

class View(ctypes.Structure):
    _fields_ = [('buf', ctypes.c_void_p), ('rest', ctypes.c_char * 200)]

def address(exporter):
    view = View()
    api = ctypes.pythonapi
    if api.PyObject_GetBuffer(ctypes.py_object(exporter), ctypes.byref(view), 0) < 0:
        raise ValueError('no buffer')
    at = view.buf
    api.PyBuffer_Release(ctypes.byref(view))
    return at
">>),
    Config.

end_per_testcase(_Case, _Config) ->
    py_test:restore(),
    _ = py:unregister_function(f),
    ok.

address(Binary) ->
    {ok, Address} = py:call('__main__', address, [{buffer, Binary}]),
    Address.

%% Another one at each call, and not a literal.
random(Size) ->
    rand:bytes(Size).

returned(Code) -> returned(Code, #{}).

returned(Code, Locals) ->
    {ok, Binary} = py:eval(Code, Locals, ?BUFFER),
    true = is_binary(Binary),
    Binary.

%%% Binaries in Python

a_buffer_is_a_read_only_memoryview(_Config) ->
    [begin
         Binary = random(Size),
         {ok, {<<"memoryview">>, true, Size, <<"B">>, 1, true}} =
             py:eval(<<"(type(v).__name__, v.readonly, len(v), v.format, v.ndim, v.c_contiguous)">>, #{v => {buffer, Binary}}),
         {ok, Sum} = py:eval(<<"sum(v)">>, #{v => {buffer, Binary}}),
         Sum = lists:sum(binary_to_list(Binary))
     end || Size <- [0, 1, 63, 64, 65, 1000, 100000]],
    ok.

%% Two at once: a copy of one could not be where the other is.
a_buffer_is_not_a_copy(_Config) ->
    [begin
         Binary = random(Size),
         {ok, {At, At}} = py:eval(<<"(lambda x, y: (address(x), address(y)))(a, b)">>,
                                  #{a => {buffer, Binary}, b => {buffer, Binary}}),
         %% Nor later, nor in another process, which may be served by another interpreter.
         ?assertEqual(At, address(Binary)),
         Other = binary:copy(Binary),
         {ok, {At, Elsewhere}} = py:eval(<<"(lambda x, y: (address(x), address(y)))(a, b)">>,
                                         #{a => {buffer, Binary}, b => {buffer, Other}}),
         true = Elsewhere =/= At
     end || Size <- [100, 1000, ?MB]],
    ok.

a_buffer_holds_what_the_binary_holds(_Config) ->
    [begin
         Hash = binary:encode_hex(<<(erlang:crc32(Binary)):32>>),
         {ok, Hash} = py:eval(<<"'%08X' % __import__('zlib').crc32(v)">>, #{v => {buffer, Binary}}),
         {ok, Binary} = py:eval(<<"bytes(v)">>, #{v => {buffer, Binary}}),
         {ok, true} = py:eval(<<"v == b">>, #{v => {buffer, Binary}, b => {bytes, Binary}})
     end || Binary <- [<<>>, <<0>>, <<"żółć"/utf8>>, random(64), random(100001), binary:copy(<<0>>, ?MB)]],
    ok.

a_sub_binary_is_a_buffer_without_a_copy(_Config) ->
    Big = random(?MB),
    Start = address(Big),
    [begin
         Part = binary:part(Big, Offset, Size),
         {ok, Part} = py:eval(<<"bytes(v)">>, #{v => {buffer, Part}}),
         ?assertEqual(Start + Offset, address(Part))
     end || {Offset, Size} <- [{0, 65}, {1, 65}, {7, 1000}, {1000, ?MB - 1000}]],
    %% What does not begin at a byte has to be copied.
    <<_:3, Shifted:1000/binary, _/bitstring>> = Big,
    {ok, Shifted} = py:eval(<<"bytes(v)">>, #{v => {buffer, Shifted}}).

buffers_come_in_containers_and_callbacks(_Config) ->
    B = random(1000),
    {ok, [<<"memoryview">>, <<"memoryview">>, <<"memoryview">>]} =
        py:eval(<<"[type(x).__name__ for x in (l[0], t[1][0], m['k'])]">>,
                #{l => [{buffer, B}], t => {1, [{buffer, B}]}, m => #{k => {buffer, B}}}),
    {ok, 1000} = py:call(builtins, len, [{buffer, B}]),
    {ok, 1003} = py:eval(<<"(lambda *a, **k: len(a[0]) + k['x'])(v, x=3)">>, #{v => {buffer, B}}),
    ok = py:register_function(f, fun([X]) -> {got, {buffer, X}} end),
    {ok, {<<"memoryview">>, true}} =
        py:eval(<<"(lambda r: (type(r[1]).__name__, r[1] == v))(__import__('erlang').call('f', v))">>, #{v => {buffer, B}}),
    %% As a key it is equal to the bytes.
    {ok, 1} = py:eval(<<"m[bytes(v)]">>, #{m => #{{buffer, B} => 1}, v => {buffer, B}}).

only_a_tagged_binary_is_a_buffer(_Config) ->
    [{ok, Term} = py_test:through(Term)
     || Term <- [{buffer}, {buffer, 1}, {buffer, a}, {buffer, [1]}, {buffer, <<"a">>, <<"b">>}, {<<"buffer">>, <<"a">>},
                 {buffer, <<1:3>>}, {buffer, {buffer, 1}}]],
    ok.

a_buffer_is_writable_for_nobody(_Config) ->
    B = random(1000),
    Copy = binary:copy(B),
    ok = py:exec(<<"def change(v): v[0] = 0\n"
                   "def change_slice(v): v[1:3] = b'ab'\n"
                   "def change_cast(v): v.cast('c')[0] = b'a'\n"
                   "def read_into(v): __import__('io').BytesIO(b'abc').readinto(v)\n"
                   "def from_buffer(v): ctypes.c_char.from_buffer(v)\n"
                   "def base(v): v.obj[0] = 1\n"
                   "def of_base(v): memoryview(v.obj)[0] = 1\n">>),
    [?ERROR('TypeError', _) = py:call('__main__', Function, [{buffer, B}])
     || Function <- [change, change_slice, change_cast, read_into, from_buffer, base, of_base]],
    Copy = B.

%%% How long the binary lives

%% In a handle of Python; nothing in Erlang refers to the binary then.
buffer_of_ended_process(Size, Code) ->
    W = py_test:worker(),
    Made = py_test:run(W, fun() ->
                                  Binary = random(Size),
                                  {erlang:crc32(Binary), py_test:handle(Code, #{v => {buffer, Binary}})}
                          end),
    py_test:kill(W),
    erlang:garbage_collect(),
    %% Whatever is free now is written over.
    _ = [byte_size(random(min(Size, ?MB))) || _ <- lists:seq(1, 20)],
    Made.

crc(Handle) ->
    {ok, Hex} = py:call_method(Handle, hex, []),
    erlang:crc32(binary:decode_hex(Hex)).

a_buffer_keeps_the_binary_alive(_Config) ->
    Made = [buffer_of_ended_process(Size, "v") || Size <- [64, 1000, 100000, ?MB], _ <- lists:seq(1, 3)],
    [?assertEqual(Crc, crc(Handle)) || {Crc, Handle} <- Made],
    ok.

a_slice_of_a_buffer_keeps_the_binary_alive(_Config) ->
    {Crc, Handle} = buffer_of_ended_process(100000, "v[:][0:100000]"),
    {_, Inner} = buffer_of_ended_process(100000, "memoryview(v.cast('H'))[1:]"),
    {ok, _} = py:gc(),
    ?assertEqual(Crc, crc(Handle)),
    {ok, 49999} = py:call_method(Inner, '__len__', []).

binary_memory() ->
    py_test:sanitizer(address) andalso
        throw({skip, "the emulator does not count its memory while a sanitizer does"}),
    [erlang:garbage_collect(P) || P <- processes()],
    erlang:memory(binary).

a_forgotten_buffer_frees_the_binary(_Config) ->
    Before = binary_memory(),
    hold_and_forget(Before),
    py_test:wait_until_freed(fun() -> binary_memory() < Before + ?MB end).

hold_and_forget(Before) ->
    {_, Handle} = buffer_of_ended_process(32 * ?MB, "v"),
    ?assert(binary_memory() > Before + 31 * ?MB),
    {ok, true} = py:getattr(Handle, readonly),
    ok.

a_released_buffer_frees_the_binary(_Config) ->
    Before = binary_memory(),
    {_, Handle} = buffer_of_ended_process(32 * ?MB, "v"),
    {ok, none} = py:call_method(Handle, release, []),
    py_test:wait_until_freed(fun() -> binary_memory() < Before + ?MB end),
    ?ERROR('ValueError', _) = py:call_method(Handle, tobytes, []).

many_buffers_of_one_binary_take_no_memory(_Config) ->
    Binary = random(32 * ?MB),
    {Binaries, Resident} = {binary_memory(), py_test:resident()},
    {ok, 6400} = py:eval(<<"sum(len(x) for x in l) // (1 << 20)">>, #{l => lists:duplicate(200, {buffer, Binary})}),
    Kept = [py_test:handle("v", #{v => {buffer, Binary}}) || _ <- lists:seq(1, 100)],
    ?assert(binary_memory() - Binaries < ?MB),
    ?assert(py_test:resident() - Resident < 100 * ?MB),
    100 = length(Kept).

%%% Buffers of Python in Erlang

%% Where the bytes of an object are, while it is known by a handle.
address_of(Handle) ->
    {ok, Address} = py:eval(<<"address(h)">>, #{h => Handle}),
    Address.

bytes_come_back_as_a_binary_without_a_copy(_Config) ->
    [begin
         H = py_test:handle("bytes(range(256)) * n", #{n => N}),
         Binary = returned("h", #{h => H}),
         ?assertEqual(binary:copy(list_to_binary(lists:seq(0, 255)), N), Binary),
         ?assertEqual(address_of(H), address(Binary))
     end || N <- [1, 10, 4096]],
    {ok, Called} = py:call(builtins, bytes, [5], ?BUFFER),
    <<0:40>> = Called.

text_comes_back_as_its_UTF8(_Config) ->
    [begin
         {ok, Text} = py:eval(<<"v * n">>, #{v => Char, n => N}, ?BUFFER),
         ?assertEqual(binary:copy(Char, N), Text)
     end || Char <- [<<"a">>, <<"é"/utf8>>, <<"żółć"/utf8>>, <<16#1F40D/utf8>>, <<0>>], N <- [0, 1, 100, 100000]],
    {error, _} = py:eval(<<"'\\ud800'">>, #{}, ?BUFFER).

a_view_of_bytes_comes_back_without_a_copy(_Config) ->
    H = py_test:handle("bytes(100000)"),
    At = address_of(H),
    [?assertEqual(At + Offset, address(returned(["memoryview(h)", Slice], #{h => H})))
     || {Offset, Slice} <- [{0, ""}, {0, "[:1000]"}, {100, "[100:]"}, {7, "[7:5000]"}, {0, ".cast('H')"}]],
    ok.

a_buffer_that_comes_back_is_the_binary(_Config) ->
    Binary = random(100000),
    Back = returned("v", #{v => {buffer, Binary}}),
    Binary = Back,
    ?assertEqual(address(Binary), address(Back)),
    %% Without the option it comes back as well.
    {ok, Binary} = py:eval(<<"v">>, #{v => {buffer, Binary}}).

what_is_no_buffer_is_refused(_Config) ->
    [{error, {_, _}} = first_two(py:eval(Code, #{}, ?BUFFER))
     || Code <- ["1", "None", "[b'a']", "object()", "{}", "1.5", "(b'a',)"]],
    ?ERROR('ValueError', _) = py:eval(<<"(lambda m: (m.release(), m)[1])(memoryview(b'abc'))">>, #{}, ?BUFFER),
    ?ERROR('ZeroDivisionError', _) = py:eval(<<"1 / 0">>, #{}, ?BUFFER).

first_two({error, {conversion, What, _}}) -> {error, {conversion, What}};
first_two(Other) -> Other.

small_buffers_come_back(_Config) ->
    [begin
         Expected = binary:copy(<<"x">>, Size),
         [?assertEqual(Expected, returned([Type, "(b'x' * n)"], #{n => Size}))
          || Type <- ["bytes", "bytearray", "memoryview"]]
     end || Size <- lists:seq(0, 130)],
    ok.

a_strided_view_comes_back_in_its_order(_Config) ->
    <<0, 2, 4, 6, 8>> = returned("memoryview(bytes(range(10)))[::2]"),
    <<9, 8, 7>> = returned("memoryview(bytes(range(10)))[:6:-1]"),
    <<1:16/native, 2:16/native>> = returned("__import__('array').array('H', [1, 2])"),
    <<1, 2, 3, 4>> = returned("memoryview(bytes([1, 2, 3, 4])).cast('B', (2, 2))").

a_returned_binary_keeps_the_bytes_alive(_Config) ->
    Made = [{N, returned("(lambda s: (s * 10000).encode())(str(n))", #{n => N})} || N <- lists:seq(100, 150)],
    {ok, _} = py:gc(),
    %% Whatever is free now is written over.
    {ok, none} = py:eval(<<"[bytes([255]) * 30000 for _ in range(200)] and None">>),
    [?assertEqual(binary:copy(integer_to_binary(N), 10000), Binary) || {N, Binary} <- Made],
    ok.

%% 4 GB in all.  The first rounds fill what the allocator keeps; that of free-threaded Python
%% keeps hundreds of MB.
a_returned_binary_frees_the_bytes(_Config) ->
    Round = fun(N) ->
                    [begin
                         Size = byte_size(returned("b'x' * (32 << 20)")),
                         Size = 32 * ?MB,
                         erlang:garbage_collect()
                     end || _ <- lists:seq(1, N)]
            end,
    Round(py_test:fewer(40)),
    Before = py_test:resident(),
    Round(py_test:fewer(88)),
    Kept = case py_test:mode() of free_threaded -> 1000; _ -> 100 end,
    py_test:wait_until_freed(fun() ->
                                     py_test:resident() - Before < Kept * ?MB orelse py_test:sanitizer(address)
                             end).

%% The memory of the bytes was its interpreter's.
a_returned_binary_outlives_its_interpreter(_Config) ->
    py:subinterp_supported() orelse throw({skip, "this Python has no interpreters with a GIL of their own"}),
    Made = [begin
                {ok, Interp} = py:subinterp_create(),
                {ok, Binary} = py:call(Interp, builtins, bytes, [lists:duplicate(Size, $x)], ?BUFFER),
                {ok, Text} = py:call(Interp, builtins, str, [binary:copy(<<"y">>, Size)], ?BUFFER),
                ok = py:subinterp_destroy(Interp),
                {Size, Binary, Text}
            end || Size <- [10, 1000, 100000]],
    {ok, none} = py:eval(<<"[bytes([255]) * 30000 for _ in range(200)] and None">>),
    [begin
         ?assertEqual(binary:copy(<<"x">>, Size), Binary),
         ?assertEqual(binary:copy(<<"y">>, Size), Text)
     end || {Size, Binary, Text} <- Made],
    erlang:garbage_collect().

a_returned_binary_outlives_the_application(_Config) ->
    Made = [{N, returned("b'ab' * n", #{n => N})} || N <- [10, 1000, 100000]],
    py_test:restart(#{}),
    [?assertEqual(binary:copy(<<"ab">>, N), Binary) || {N, Binary} <- Made],
    ok = application:stop(erlang_python),
    [?assertEqual(binary:copy(<<"ab">>, N), Binary) || {N, Binary} <- Made],
    erlang:garbage_collect(),
    ok = application:start(erlang_python),
    {ok, 4.0} = py:call(math, sqrt, [16]).

%%% What can change

%% Whatever Erlang got stays as it was; and it got what was there.
changed_afterwards(Make, Return, Change) ->
    ok = py:exec(["m = ", Make, "\nwas = memoryview(m).tobytes()\n"]),
    Binary = returned(Return),
    {ok, Was} = py:eval(<<"was">>),
    ?assertEqual(Was, Binary),
    Copy = binary:copy(Binary),
    ok = py:exec(Change),
    {ok, true} = py:eval(<<"memoryview(m).tobytes() != was">>),
    ?assertEqual(Copy, Binary),
    %% And what becomes of the exporter is nothing to the binary.
    ok = py:exec(<<"del m\n__import__('gc').collect()\nx = [bytes([255]) * 30000 for _ in range(100)]\n">>),
    ?assertEqual(Copy, Binary).

a_mutable_buffer_is_never_aliased(_Config) ->
    [changed_afterwards(Make, Return, "m[0] = 7\nm[-1] = 7\n")
     || Make <- ["bytearray(100000)", "__import__('array').array('i', [1]) * 1000", "__import__('mmap').mmap(-1, 10000)",
                 "memoryview(bytearray(1000))", "bytearray(70)", "(ctypes.c_uint8 * 1000)()"],
        Return <- ["m", "memoryview(m)"]],
    ok.

a_read_only_view_of_a_mutable_buffer_is_never_aliased(_Config) ->
    [changed_afterwards("bytearray(100000)", Return, "m[200] = 7\n")
     || Return <- ["memoryview(m).toreadonly()", "memoryview(m)[:].toreadonly()",
                   "memoryview(memoryview(m).toreadonly())", "memoryview(m).toreadonly().cast('c')"]],
    ok.

a_numpy_array_is_never_aliased(_Config) ->
    py_test:has_python_module(numpy) orelse throw({skip, "numpy is not installed for this Python"}),
    %% Its interpreter may be another one than that of what this process has defined.
    py_test:in_process(fun numpy_arrays/0).

numpy_arrays() ->
    ok = py:exec(<<"import numpy">>),
    [changed_afterwards(Make, Return, "m.flags.writeable = True\nm[0] = 7\n")
     || Make <- ["numpy.zeros(10000, dtype='u1')", "numpy.arange(1000.0)"], Return <- ["m", "m[:]", "memoryview(m)"]],
    %% Read-only until somebody says otherwise.
    changed_afterwards("numpy.zeros(1000)\nm.flags.writeable = False", "m", "m.flags.writeable = True\nm[0] = 7\n"),
    Floats = returned("numpy.arange(6.0).reshape(2, 3)"),
    [0.0, 1.0, 2.0, 3.0, 4.0, 5.0] = [F || <<F:64/float-native>> <= Floats],
    Transposed = returned("numpy.arange(6.0).reshape(2, 3).T"),
    [0.0, 3.0, 1.0, 4.0, 2.0, 5.0] = [F || <<F:64/float-native>> <= Transposed],
    ok.

%% An export that were still open would not let it.
a_bytearray_can_grow_after_it_was_returned(_Config) ->
    ok = py:exec(<<"m = bytearray(1000)">>),
    1000 = byte_size(returned("m")),
    ok = py:exec(<<"m.extend(b'x' * 1000)\nm.clear()\n">>).

%%% Time

best(Tries, Fun) ->
    lists:min([begin {Time, _} = py_test:milliseconds(Fun), Time end || _ <- lists:seq(1, Tries)]).

%% Beside the best of the same call with a copy.
far_less(Without, With) ->
    Slow = best(7, With),
    ct:log("~.3f ms with a copy", [Slow]),
    py_test:within(Slow / 10, 100, fun() -> best(1, Without) end).

sixty_four_megabytes_go_in_far_less_time_than_a_copy(_Config) ->
    Binary = binary:copy(<<"0123456789abcdef">>, 4 * ?MB),
    Size = byte_size(Binary),
    far_less(fun() -> {ok, Size} = py:call(builtins, len, [{buffer, Binary}]) end,
             fun() -> {ok, Size} = py:call(builtins, len, [{bytes, Binary}]) end).

sixty_four_megabytes_come_back_in_far_less_time_than_a_copy(_Config) ->
    Get = fun(Code) ->
                  H = py_test:handle(Code),
                  fun() -> 67108864 = byte_size(returned("h", #{h => H})) end
          end,
    far_less(Get("b'0123456789abcdef' * (4 << 20)"), Get("bytearray(b'0123456789abcdef' * (4 << 20))")).
