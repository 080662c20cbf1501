dnl SPDX-License-Identifier: Apache-2.0
dnl
dnl The Erlang to build for and to install into.  One short run of erl answers all
dnl questions; autoconf's own AC_ERLANG_* start it once for each, and refuse to when
dnl cross-compiling, although what they ask for is the same on both machines.

AC_DEFUN([EPY_PROG_GNU_MAKE],
[AC_CACHE_CHECK([for GNU make], [epy_cv_gnu_make],
[epy_cv_gnu_make=no
for epy_make in "${MAKE-make}" make gmake; do
  case `$epy_make --version 2>/dev/null | sed 1q` in
    'GNU Make '[[4-9]]*) epy_cv_gnu_make=$epy_make; break;;
  esac
done])
AS_IF([test "$epy_cv_gnu_make" = no],
  [AC_MSG_ERROR([GNU make 4 or later is needed (its define, foreach and eval make one set of rules per variant)])])
dnl Automake would read an "include" of its own at bootstrap; this one is for make.
AC_SUBST([GNU_INCLUDE], [include])
])

AC_DEFUN([EPY_ERLANG],
[AC_ARG_VAR([ERL], [Erlang emulator])
AC_ARG_VAR([ERLC], [Erlang compiler])
AC_ARG_VAR([ERLCFLAGS], [flags for the Erlang compiler])
AC_PATH_PROG([ERL], [erl], [no])
AC_PATH_PROG([ERLC], [erlc], [no])
AS_IF([test "$ERL" = no || test "$ERLC" = no],
  [AC_MSG_ERROR([erl and erlc are needed (Debian: apt install erlang-dev erlang-nox)])])

AC_MSG_CHECKING([for Erlang/OTP 25 or later])
epy_erl_answer=`$ERL -boot no_dot_erlang -noinput -eval '
  io:format("root=~ts~nlib=~ts~nrelease=~ts~nerts=~ts~n",
            [[code:root_dir(), code:lib_dir(), erlang:system_info(otp_release),
              erlang:system_info(version)]]), halt().' 2>&AS_MESSAGE_LOG_FD`
ERLANG_ROOT=`AS_ECHO(["$epy_erl_answer"]) | sed -n 's/^root=//p'`
ERLANG_LIB=`AS_ECHO(["$epy_erl_answer"]) | sed -n 's/^lib=//p'`
ERLANG_RELEASE=`AS_ECHO(["$epy_erl_answer"]) | sed -n 's/^release=//p'`
ERLANG_ERTS=`AS_ECHO(["$epy_erl_answer"]) | sed -n 's/^erts=//p'`
AS_IF([test -z "$ERLANG_ROOT"], [AC_MSG_ERROR([$ERL does not run, see config.log])])
AC_MSG_RESULT([$ERLANG_RELEASE (erts $ERLANG_ERTS) in $ERLANG_ROOT])
AS_IF([test "$ERLANG_RELEASE" -ge 25 2>/dev/null], [],
  [AC_MSG_ERROR([Erlang/OTP $ERLANG_RELEASE is too old])])
AC_SUBST([ERLANG_ROOT])
AC_SUBST([ERLANG_ERTS])

ERLANG_CFLAGS="-isystem $ERLANG_ROOT/usr/include"
AC_SUBST([ERLANG_CFLAGS])
epy_save_CPPFLAGS=$CPPFLAGS
CPPFLAGS="$CPPFLAGS $ERLANG_CFLAGS"
AC_CHECK_HEADER([erl_nif.h], [],
  [AC_MSG_ERROR([erl_nif.h is needed (Debian: apt install erlang-dev)])],
  [#include <stddef.h>])
CPPFLAGS=$epy_save_CPPFLAGS

dnl With prefix /usr this is a part of the system's Erlang.  Elsewhere it keeps to
dnl its prefix, and erl has to be told where to look.
AC_ARG_WITH([erlang-libdir],
  [AS_HELP_STRING([--with-erlang-libdir=DIR],
    [install the OTP application in DIR; default: Erlang's own library directory
     when the prefix is /usr, else PREFIX/lib/erlang/lib])],
  [], [with_erlang_libdir=default])
AS_CASE([$with_erlang_libdir],
  [yes|no|''], [AC_MSG_ERROR([--with-erlang-libdir needs a directory])],
  [default],
    [AS_IF([test "$prefix" = /usr], [erlanglibdir=$ERLANG_LIB], [erlanglibdir='${prefix}/lib/erlang/lib'])],
  [erlanglibdir=$with_erlang_libdir])
AC_SUBST([erlanglibdir])
AC_SUBST([ERLANG_LIB])
])
