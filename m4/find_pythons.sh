# SPDX-License-Identifier: Apache-2.0
#
# Finds the Pythons to build for, and decides which modes each of them gets.
#
# configure runs this (m4/epy_pythons.m4) rather than holding it, because it is shell
# and not m4.  A candidate describes itself (describe_python.py), then a program that
# embeds it is compiled, linked and run (embed_python.c): only what ran is built for.
#
# Takes from the environment: CC CPPFLAGS CFLAGS LDFLAGS LIBS PKG_CONFIG, and
#   epy_named    versions, paths, prefixes; empty: every python3* in PATH
#   epy_modes    the modes wanted; empty: all that are sound
#   epy_cross    yes: nothing can be run, ask pkg-config and trust it
#   epy_aux      the directory of this file
# Writes in the current directory:
#   epy_pythons.mk      make variables: the variants, and the flags of each Python
#   epy_pythons.table   what was found, what is built and why not
# Progress goes to standard output, details to file descriptor 5 (config.log).
# Exits with 1 when a Python that was named cannot be built for, or none is left.

set -u
: "${CC=cc}" "${CPPFLAGS=}" "${CFLAGS=}" "${LDFLAGS=}" "${LIBS=}" "${PKG_CONFIG=pkg-config}"
LC_ALL=C
export LC_ALL
# These would make an interpreter describe something else than itself.
unset PYTHONHOME PYTHONPATH PYTHONSTARTUP LD_LIBRARY_PATH PYTHONEXECUTABLE

all_modes="multi_executor subinterp free_threaded"
variants=
tags=
seen=

rm -f epy_pythons.mk
: >epy_pythons.body
: >epy_pythons.rows
: >epy_pythons.errors
# A probe that hangs must not hang configure.
limit=
if timeout 1 true >/dev/null 2>&1; then limit="timeout 60"; fi

say () { printf '%s\n' "$*"; }
log () { printf '%s\n' "$*" >&5; }
row () { printf '%s\t%s\t%s\n' "$1" "$2" "$3" >>epy_pythons.rows; }
table () {
    awk -F '\t' '
        { for (i = 1; i <= 3; i++) cell[NR, i] = $i
          for (i = 1; i <= 2; i++) if (length($i) > width[i]) width[i] = length($i) }
        END { for (r = 1; r <= NR; r++)
                  printf "  %-" width[1] "s  %-" width[2] "s  %s\n", cell[r, 1], cell[r, 2], cell[r, 3] }' epy_pythons.rows
}
get () { sed -n "s/^$1=//p" epy_conftest.info; }
has () { case " $1 " in *" $2 "*) return 0;; esac; return 1; }
last_line () { sed -n '/./h;${x;p;}' "$1" | cut -c1-120; }

run () {
    log "$ $*"
    "$@" >&5 2>&5
}

# embed MODE: builds and runs the probe; 0 or 1 with $reason.
build_probe () {
    if ! run $CC $CPPFLAGS $CFLAGS $py_cflags -c "$epy_aux/embed_python.c" -o epy_conftest.o; then
        reason="its headers do not compile (see config.log)"
        return 1
    fi
    if ! run $CC $CFLAGS $LDFLAGS epy_conftest.o -o epy_conftest $py_libs $LIBS -lpthread; then
        reason="does not link: $py_libs (see config.log)"
        return 1
    fi
    return 0
}

run_probe () {
    log "$ ./epy_conftest $executable $1"
    $limit ./epy_conftest "$executable" "$1" >epy_conftest.out 2>epy_conftest.err
    status=$?
    cat epy_conftest.out epy_conftest.err >&5
    if test $status -ne 0 || ! grep -q '^done=1$' epy_conftest.out; then
        reason="the probe ended with status $status: `last_line epy_conftest.err`"
        return 1
    fi
    return 0
}

# describe CANDIDATE named|found: sets the variables of one Python; 0, or 1 with $reason.
describe () {
    version=- executable=$1 identity=$1 reason=
    log "Python candidate $1 ($2)"
    test -f "$1" && test -x "$1" || { reason="no such program"; return 1; }
    $limit "$1" -E "$epy_aux/describe_python.py" "$2" >epy_conftest.info 2>epy_conftest.err </dev/null
    status=$?
    cat epy_conftest.info epy_conftest.err >&5
    if test $status -ne 0; then
        reason="does not run: `sed -n '/./{p;q;}' epy_conftest.err | cut -c1-120`"
        return 1
    fi
    version=`get version` tag=`get tag` minor=`get minor` ldversion=`get ldversion`
    stdlib=`get stdlib` gil_disabled=`get gil_disabled` series=`get series`
    test -n "`get executable`" && executable=`get executable` identity=`get identity`
    reason=`get reason`
    test -z "$reason" || return 1
    py_cflags=
    for dir in `get includes`; do py_cflags="$py_cflags -isystem $dir"; done
    py_cflags=${py_cflags# }
    py_libs=`get libs`
    return 0
}

# describe_cross VERSION: the same for a Python that cannot be run here.
describe_cross () {
    version=- executable=$1 identity=$1 reason=
    series=${1%t} tag= gil_disabled=0
    pc=python-$1-embed
    if ! run $PKG_CONFIG --exists "$pc"; then
        reason="cross build, and ${PKG_CONFIG:-pkg-config} knows no $pc"
        return 1
    fi
    version=$series minor=${series#3.} ldversion=$1
    tag=cp3$minor
    case $1 in *t) tag=${tag}t gil_disabled=1;; esac
    prefix=`$PKG_CONFIG --variable=exec_prefix "$pc"`
    executable=$prefix/bin/python$1 identity=$prefix/bin/python$1
    stdlib=$prefix/lib/python$1
    py_cflags=`$PKG_CONFIG --cflags "$pc" | sed 's/-I *\//-isystem \//g'`
    py_libs=`$PKG_CONFIG --libs "$pc"`
}

# consider CANDIDATE named|found: builds for it, or leaves $reason.
consider () {
    if test "$epy_cross" = yes; then
        describe_cross "$1" || return 1
    else
        describe "$1" "$2" || return 1
    fi
    for other in $seen; do
        case $other in
            "$tag:$identity") reason=; return 1;;   # one binary under two names
            "$tag:"*) reason="same ABI as ${other#*:}, which is built"; return 1;;
        esac
    done

    build_probe || return 1
    notes=
    if test "$epy_cross" != yes; then
        run_probe main || return 1
        library=`sed -n 's/^library=//p' epy_conftest.out`
        if test "$library" != "$version"; then
            reason="its libpython is another Python, $library"
            return 1
        fi
        if test "`sed -n 's/^gil_disabled=//p' epy_conftest.out`" != "$gil_disabled"; then
            reason="its headers and the interpreter disagree about the GIL"
            return 1
        fi
    fi

    modes=
    if test "$gil_disabled" = 1; then
        modes=free_threaded
    else
        modes=multi_executor
        if test "$minor" -ge 13; then
            want_subinterp=yes
        elif test "$minor" -eq 12; then
            # The C parts of the standard library are not ready for it there.
            want_subinterp=no
            if has "$epy_modes" subinterp && test "$2" = named; then want_subinterp=yes
            else notes="subinterp on 3.12 is unsound, only by --enable-modes and --with-pythons"; fi
        else
            want_subinterp=no
        fi
        if test $want_subinterp = yes; then
            if test "$epy_cross" = yes || run_probe subinterp; then modes="$modes subinterp"
            else notes="no subinterp: $reason"; reason=; fi
        fi
    fi
    if test -n "$epy_modes"; then
        wanted=
        for mode in $modes; do
            if has "$epy_modes" $mode; then wanted="$wanted $mode"; fi
        done
        if test -z "$wanted"; then
            reason="has none of the modes asked for (it has: $modes)${notes:+; $notes}"
            return 1
        fi
        modes=${wanted# }
    fi

    seen="$seen $tag:$identity"
    tags="$tags $tag"
    {
        say
        say "EPY_VERSION_$tag = $version"
        say "EPY_EXECUTABLE_$tag = $executable"
        say "EPY_STDLIB_$tag = $stdlib"
        say "EPY_PY_CFLAGS_$tag = $py_cflags"
        say "EPY_PY_LIBS_$tag = $py_libs"
    } >>epy_pythons.body
    for mode in $modes; do variants="$variants $tag-$mode"; done
    row "$version" "$executable" "$tag: $modes${notes:+ ($notes)}"
    return 0
}

report_skip () {  # CANDIDATE
    say "skipped ($reason)"
    row "$version" "$1" "skipped: $reason"
}

# resolve NAME: the paths that it may mean, in order of preference.
resolve () {
    case $1 in
        */*)
            if test -d "$1"; then
                for name in "$1"/bin/python3 "$1"/bin/python3.*[0-9t]; do
                    test -x "$name" && { say "$name"; return; }
                done
            fi
            say "$1"
            return;;
        3.*t) names="python$1 python${1%t}";;
        3.*.*) names="python${1%.*} python3";;
        3.*) names="python$1";;
        *) names=$1;;
    esac
    for name in $names; do
        save_ifs=$IFS; IFS=:
        for dir in $PATH; do
            test -x "${dir:-.}/$name" && say "${dir:-.}/$name"
        done
        IFS=$save_ifs
    done
}

# fits NAME: is the Python just described the one that this name means?
fits () {
    case $1 in
        */*) return 0;;
        3.*.*t) test "${version}t" = "$1" && test "$gil_disabled" = 1;;
        3.*.*) test "$version" = "$1" && test "$gil_disabled" = 0;;
        3.*t) test "${series}t" = "$1" && test "$gil_disabled" = 1;;
        3.*) test "$series" = "$1" && test "$gil_disabled" = 0;;
    esac
}

# One name may stand for several programs; each has its own reason.
add_why () {
    why=$reason
    test "$candidate" = "$name" || why="$candidate: $reason"
    whys="$whys${whys:+; }$why"
}

for mode in $epy_modes; do
    has "$all_modes" "$mode" || {
        say "error: --enable-modes: no such mode: $mode (there are: $all_modes)"
        exit 1
    }
done

row Python interpreter builds
if test -n "$epy_named"; then
    for name in $epy_named; do
        name=`say "$name" | sed 's/^cp3\([0-9]\)/3.\1/'`
        printf 'checking for Python %s... ' "$name"
        if test "$epy_cross" = yes; then
            candidates=$name
        else
            candidates=`resolve "$name"`
        fi
        version=- reason=
        done=no whys=
        for candidate in $candidates; do
            if test "$epy_cross" != yes; then
                # Version managers put programs into PATH that do not run: look on.
                if describe "$candidate" named; then
                    fits "$name" || {
                        test "$gil_disabled" = 0 || version=${version}t
                        reason="it is $version"
                        add_why
                        continue
                    }
                else
                    add_why
                    continue
                fi
            fi
            if consider "$candidate" named; then done=yes; break; fi
            # The same binary named twice is built once, and that is no mistake.
            if test -z "$reason"; then done=again; break; fi
            add_why
        done
        case $done in
            yes) say "$version, $tag: $modes";;
            again) say "$version, named twice";;
            no)
                reason=${whys:-"no such program in PATH"}
                report_skip "$name"
                say "  $name: $reason" >>epy_pythons.errors;;
        esac
    done
else
    if test "$epy_cross" = yes; then
        say "error: a cross build must name its Pythons: --with-pythons=3.11"
        exit 1
    fi
    tried=
    save_ifs=$IFS; IFS=:
    set -- $PATH
    IFS=$save_ifs
    for dir in "$@"; do
        for candidate in "${dir:-.}"/python3 "${dir:-.}"/python3.[0-9]*; do
            test -f "$candidate" && test -x "$candidate" || continue
            case ${candidate##*/} in python3|python3.[0-9]|python3.[0-9]t|python3.[0-9][0-9]|python3.[0-9][0-9]t) ;; *) continue;; esac
            # /bin and /usr/bin are one directory nowadays, python3 a link.
            real=`readlink -f "$candidate" 2>/dev/null || say "$candidate"`
            case ${real##*/} in python*) has "$tried" "$real" && continue; tried="$tried $real";; esac
            printf 'checking %s... ' "$candidate"
            if consider "$candidate" found; then
                say "$version, $tag: $modes"
            elif test -z "$reason"; then
                say "$version, found before"
            else
                report_skip "$candidate"
            fi
        done
    done
fi
rm -f epy_conftest epy_conftest.*

table >epy_pythons.table
rm -f epy_pythons.rows
if test -s epy_pythons.errors; then
    say "error: --with-pythons (or PYTHON) names what cannot be built for:"
    cat epy_pythons.errors
    exit 1
fi
rm -f epy_pythons.errors
if test -z "$variants"; then
    say "error: no usable Python, nothing to build:"
    cat epy_pythons.table
    say "  (Debian: apt install python3-dev; others: --with-pythons=/path/to/python3)"
    exit 1
fi
{
    say "EPY_VARIANTS =$variants"
    say "EPY_TAGS =$tags"
    cat epy_pythons.body
} >epy_pythons.mk
rm -f epy_pythons.body
exit 0
