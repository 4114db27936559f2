dnl SPDX-License-Identifier: Apache-2.0
dnl Macros of configure.ac.  What is missing is collected and reported once, as
dnl the apt-get line that ends it, since finding out one by one is tedious.

dnl PAGERD_REQUIRE_GNU17: C_STD_CFLAGS, or an error.
AC_DEFUN([PAGERD_REQUIRE_GNU17], [
  C_STD_CFLAGS=-std=gnu17
  pagerd_save_CFLAGS=$CFLAGS
  CFLAGS="$CFLAGS $C_STD_CFLAGS"
  AC_MSG_CHECKING([whether $CC takes $C_STD_CFLAGS])
  AC_COMPILE_IFELSE([AC_LANG_PROGRAM([], [[_Static_assert(__STDC_VERSION__ >= 201710L, "C17");]])],
    [AC_MSG_RESULT([yes])],
    [AC_MSG_RESULT([no])
     AC_MSG_ERROR([pagerd is written in C17: take gcc 8 or clang 6, or newer])])
  CFLAGS=$pagerd_save_CFLAGS
  AC_SUBST([C_STD_CFLAGS])
])

dnl PAGERD_NEED_PKG(VARIABLE, PKG-CONFIG MODULE, DEBIAN PACKAGE)
AC_DEFUN([PAGERD_NEED_PKG], [
  PKG_CHECK_MODULES([$1], [$2], [],
    [AC_MSG_RESULT([no])
     pagerd_missing="$pagerd_missing $3"
     pagerd_missing_what="$pagerd_missing_what
      $2 (Debian package $3)"])
])

dnl PAGERD_NEED_HEADER(HEADER, DEBIAN PACKAGE)
AC_DEFUN([PAGERD_NEED_HEADER], [
  AC_CHECK_HEADER([$1], [],
    [pagerd_missing="$pagerd_missing $2"
     pagerd_missing_what="$pagerd_missing_what
      <$1> (Debian package $2)"])
])

dnl PAGERD_NEEDS_MET: stop here if anything was missing.
AC_DEFUN([PAGERD_NEEDS_MET], [
  AS_IF([test -n "$pagerd_missing"],
    [AC_MSG_ERROR([not found:$pagerd_missing_what
    On Debian or Ubuntu: apt-get install$pagerd_missing])])
])

dnl PAGERD_INSTRUMENT(NAME, WHAT, FLAGS): --enable-NAME adds FLAGS to INSTRUMENT_CFLAGS.
AC_DEFUN([PAGERD_INSTRUMENT], [
  AC_ARG_ENABLE([$1],
    [AS_HELP_STRING([--enable-$1], [build daemon and tests with $2])],
    [], [enable_$1=no])
  AS_IF([test "x$enable_$1" = xyes],
    [pagerd_save_CFLAGS=$CFLAGS
     CFLAGS="$CFLAGS $3"
     AC_MSG_CHECKING([whether $CC links with $3])
     AC_LINK_IFELSE([AC_LANG_PROGRAM([], [])],
       [AC_MSG_RESULT([yes])],
       [AC_MSG_RESULT([no])
        AC_MSG_ERROR([--enable-$1 needs a compiler that has $2])])
     CFLAGS=$pagerd_save_CFLAGS
     INSTRUMENT_CFLAGS="$INSTRUMENT_CFLAGS $3"])
])

dnl PAGERD_ADD_IF_TAKEN(VARIABLE, FLAG): FLAG is appended if the compiler knows it.
AC_DEFUN([PAGERD_ADD_IF_TAKEN], [
  pagerd_save_CFLAGS=$CFLAGS
  CFLAGS="$CFLAGS -Werror $2"
  AC_MSG_CHECKING([whether $CC takes $2])
  AC_COMPILE_IFELSE([AC_LANG_PROGRAM([], [])],
    [AC_MSG_RESULT([yes])
     $1="$[]$1 $2"],
    [AC_MSG_RESULT([no])])
  CFLAGS=$pagerd_save_CFLAGS
])
