dnl SPDX-License-Identifier: Apache-2.0
dnl
dnl Which Pythons to build for.  The search itself is in m4/find_pythons.sh; this asks
dnl for the options, runs it, and takes over the make variables that it wrote.

AC_DEFUN([EPY_PYTHONS],
[AC_ARG_VAR([PYTHON], [the one Python interpreter to build for])
AC_ARG_VAR([PYTHON_CONFIG], [the python3-config of the one Python to build for])
AC_ARG_WITH([pythons],
  [AS_HELP_STRING([--with-pythons=LIST],
    [build for these: versions (3.13, 3.13t), interpreters or prefixes, separated by
     commas or spaces; one that cannot be used is an error.  Default: every
     usable python3 in PATH])],
  [AS_CASE([$withval], [yes|no|''], [AC_MSG_ERROR([--with-pythons needs a list])])
   epy_named=`AS_ECHO(["$withval"]) | tr ',\n\t' '   '`],
  [epy_named=
   AS_IF([test -n "$PYTHON"], [epy_named=$PYTHON],
     [test -n "$PYTHON_CONFIG"],
     [dnl What it prints is not used, only whose it is: it stands beside its Python.
      epy_config=`command -v "$PYTHON_CONFIG"`
      epy_named=${epy_config%-config}
      AS_IF([test -z "$epy_config" || test ! -x "$epy_named"],
        [epy_named=`$PYTHON_CONFIG --exec-prefix`
         AS_IF([test -z "$epy_named"], [AC_MSG_ERROR([PYTHON_CONFIG=$PYTHON_CONFIG does not run])])])])])
AC_ARG_ENABLE([modes],
  [AS_HELP_STRING([--enable-modes=LIST],
    [build only these of multi_executor, subinterp, free_threaded; default: all
     that a Python has (subinterp from 3.13 on; for a named 3.12 when listed here)])],
  [AS_CASE([$enableval], [yes|no|''], [AC_MSG_ERROR([--enable-modes needs a list])])
   epy_modes=`AS_ECHO(["$enableval"]) | tr ',\n\t' '   '`],
  [epy_modes=])

epy_cross=$cross_compiling epy_aux=$srcdir/m4
export CC CPPFLAGS CFLAGS LDFLAGS LIBS PKG_CONFIG epy_named epy_modes epy_cross epy_aux
dnl Descriptor 5 is config.log.
$SHELL "$srcdir/m4/find_pythons.sh" >&AS_MESSAGE_FD 5>&AS_MESSAGE_LOG_FD ||
  { rm -f epy_pythons.*
    AC_MSG_ERROR([no set of Pythons to build for, see above and config.log])
  }
EPY_PYTHONS_MK=`cat epy_pythons.mk`
EPY_PYTHONS_TABLE=`cat epy_pythons.table`
rm -f epy_pythons.*
AC_SUBST([EPY_MODES], [$epy_modes])
AC_SUBST([EPY_PYTHONS_MK])
AM_SUBST_NOTMAKE([EPY_PYTHONS_MK])
])

AC_DEFUN([EPY_SUMMARY],
[AS_ECHO(["
$PACKAGE_STRING for Erlang/OTP $ERLANG_RELEASE, to be installed in `eval echo $erlanglibdir | sed "s|^NONE/|$ac_default_prefix/|"`

$EPY_PYTHONS_TABLE

  flags     $CFLAGS $EPY_EXTRA_CFLAGS
"])
])
