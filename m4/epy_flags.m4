dnl SPDX-License-Identifier: Apache-2.0
dnl
dnl How to compile: a plain build, one for speed, one with sanitizers, one with the
dnl project's own assertions.  CFLAGS stays the user's; ours come beside it in
dnl EPY_EXTRA_CFLAGS, so that "make CFLAGS=-O0" does what it says.

AC_DEFUN([EPY_ARG_FLAGS],
[AC_ARG_ENABLE([perf-build],
  [AS_HELP_STRING([--enable-perf-build],
    [-O3, link-time optimization, -march=native: fast, and only for this machine])],
  [], [enable_perf_build=no])
AC_ARG_ENABLE([sanitizer],
  [AS_HELP_STRING([--enable-sanitizer=LIST],
    [build with gcc's address, undefined or thread sanitizer, and have make check use it])],
  [AS_CASE([$enableval], [yes|''], [AC_MSG_ERROR([--enable-sanitizer needs address, undefined or thread])])],
  [enable_sanitizer=no])
AC_ARG_ENABLE([debug],
  [AS_HELP_STRING([--enable-debug],
    [check the rules of c_src/README.md at run time, and take warnings for errors])],
  [], [enable_debug=no])
])

dnl EPY_TRY_FLAGS(FLAGS, WHAT): appends them when a program links with them.
AC_DEFUN([EPY_TRY_FLAGS],
[AC_MSG_CHECKING([whether $CC takes $1])
epy_save_CFLAGS=$CFLAGS
CFLAGS="$CFLAGS $1"
AC_LINK_IFELSE([AC_LANG_PROGRAM([], [])],
  [AC_MSG_RESULT([yes])
   EPY_EXTRA_CFLAGS="$EPY_EXTRA_CFLAGS $1"],
  [AC_MSG_RESULT([no])
   $2])
CFLAGS=$epy_save_CFLAGS
])

AC_DEFUN([EPY_FLAGS],
[EPY_EXTRA_CFLAGS=
EPY_EXTRA_CPPFLAGS=
EPY_WERROR=
EPY_ERLC_WERROR=
EPY_SANITIZERS=
EPY_PRELOAD=

AC_DEFINE([_GNU_SOURCE], [1], [the same as in Python's pyconfig.h])

dnl NaN and infinity are values that users pass through; -ffast-math says that
dnl they do not exist.
AC_MSG_CHECKING([for -ffast-math])
AC_COMPILE_IFELSE([AC_LANG_PROGRAM([[
#if defined __FAST_MATH__ || defined __FINITE_MATH_ONLY__ && __FINITE_MATH_ONLY__ > 0
#error
#endif
]], [])],
  [AC_MSG_RESULT([no])],
  [AC_MSG_RESULT([yes])
   AC_MSG_ERROR([-ffast-math in CFLAGS breaks the conversion of NaN and infinity])])

AC_MSG_CHECKING([whether 64-bit atomics need -latomic])
EPY_ATOMIC_LIBS=
epy_save_LIBS=$LIBS
for epy_lib in '' -latomic; do
  LIBS="$epy_save_LIBS $epy_lib"
  AC_LINK_IFELSE([AC_LANG_PROGRAM([[#include <stdatomic.h>
#include <stdint.h>
static _Atomic uint64_t x;]], [[return (int)atomic_fetch_add(&x, 1);]])],
    [EPY_ATOMIC_LIBS=$epy_lib; epy_atomic=yes; break], [epy_atomic=no])
done
LIBS=$epy_save_LIBS
AS_IF([test $epy_atomic = no], [AC_MSG_ERROR([no 64-bit atomics])])
AC_MSG_RESULT([${EPY_ATOMIC_LIBS:-no}])
AC_SUBST([EPY_ATOMIC_LIBS])

AS_IF([test "$enable_perf_build" != no],
  [EPY_EXTRA_CFLAGS="$EPY_EXTRA_CFLAGS -O3"
   EPY_TRY_FLAGS([-flto=auto],
     [EPY_TRY_FLAGS([-flto], [AC_MSG_ERROR([--enable-perf-build: no link-time optimization])])])
   EPY_TRY_FLAGS([-march=native], [AC_MSG_ERROR([--enable-perf-build: no -march=native])])
   EPY_TRY_FLAGS([-fno-semantic-interposition])])

AS_IF([test "$enable_debug" != no],
  [EPY_EXTRA_CPPFLAGS="$EPY_EXTRA_CPPFLAGS -DEPY_DEBUG=1"
   EPY_WERROR=-Werror
   EPY_ERLC_WERROR=-Werror],
  [dnl For the checks in the macros of Python's headers.
   EPY_EXTRA_CPPFLAGS="$EPY_EXTRA_CPPFLAGS -DNDEBUG"])

AS_IF([test "$enable_sanitizer" != no],
  [AC_COMPILE_IFELSE([AC_LANG_PROGRAM([[
#ifdef __clang__
#error
#endif
]], [])],
     [], [AC_MSG_ERROR([--enable-sanitizer needs gcc: clang's runtime does not work in an emulator built without it])])
   for epy_sanitizer in `AS_ECHO(["$enable_sanitizer"]) | tr ',' ' '`; do
     AS_CASE([$epy_sanitizer],
       [address], [epy_runtime=libasan.so],
       [undefined], [epy_runtime=libubsan.so],
       [thread], [epy_runtime=libtsan.so],
       [AC_MSG_ERROR([--enable-sanitizer: no such sanitizer: $epy_sanitizer])])
     EPY_SANITIZERS="$EPY_SANITIZERS $epy_sanitizer"
     dnl The emulator is not built with it, so its runtime has to be loaded first.
     epy_runtime_path=`$CC -print-file-name=$epy_runtime`
     AS_CASE([$epy_runtime_path],
       [/*], [EPY_PRELOAD="$EPY_PRELOAD `readlink -f "$epy_runtime_path"`"],
       [AC_MSG_ERROR([--enable-sanitizer: $CC has no shared $epy_runtime (gcc's is the one that is supported)])])
   done
   AS_CASE([$EPY_SANITIZERS],
     [*address*thread*|*thread*address*],
     [AC_MSG_ERROR([--enable-sanitizer: address and thread exclude each other])])
   epy_list=`AS_ECHO(["$EPY_SANITIZERS"]) | sed 's/^ *//; s/ /,/g'`
   EPY_TRY_FLAGS([-fsanitize=$epy_list],
     [AC_MSG_ERROR([--enable-sanitizer: $CC cannot do $epy_list])])
   EPY_EXTRA_CFLAGS="$EPY_EXTRA_CFLAGS -fno-omit-frame-pointer"])

AC_SUBST([EPY_EXTRA_CFLAGS])
AC_SUBST([EPY_EXTRA_CPPFLAGS])
AC_SUBST([EPY_WERROR])
AC_SUBST([EPY_ERLC_WERROR])
AC_SUBST([EPY_SANITIZERS])
AC_SUBST([EPY_PRELOAD])
])

AC_DEFUN([EPY_FFI],
[AC_ARG_WITH([ffi],
  [AS_HELP_STRING([--with-ffi], [use libffi, for native functions; default: no])],
  [], [with_ffi=no])
FFI_CFLAGS=
FFI_LIBS=
AS_IF([test "$with_ffi" != no],
  [AC_MSG_CHECKING([for libffi])
   AS_IF([FFI_CFLAGS=`$PKG_CONFIG --cflags libffi 2>&AS_MESSAGE_LOG_FD` &&
          FFI_LIBS=`$PKG_CONFIG --libs libffi 2>&AS_MESSAGE_LOG_FD`],
     [AC_MSG_RESULT([$FFI_LIBS])],
     [AC_MSG_RESULT([no])
      AC_MSG_ERROR([--with-ffi: pkg-config knows no libffi (Debian: apt install libffi-dev pkg-config)])])
   epy_save_CFLAGS=$CFLAGS epy_save_LIBS=$LIBS
   CFLAGS="$CFLAGS $FFI_CFLAGS" LIBS="$FFI_LIBS $LIBS"
   AC_LINK_IFELSE([AC_LANG_PROGRAM([[#include <ffi.h>]],
       [[ffi_cif cif; return ffi_prep_cif(&cif, FFI_DEFAULT_ABI, 0, &ffi_type_void, 0);]])],
     [], [AC_MSG_ERROR([--with-ffi: libffi does not link, see config.log])])
   CFLAGS=$epy_save_CFLAGS LIBS=$epy_save_LIBS
   AC_DEFINE([HAVE_FFI], [1], [Define to 1 to use libffi.])])
AC_SUBST([FFI_CFLAGS])
AC_SUBST([FFI_LIBS])
])
