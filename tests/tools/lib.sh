# shellcheck shell=sh
# SPDX-License-Identifier: Apache-2.0
#
# What bootstrap, .ci/run and the tools beside this file share. The problem: a
# set-up on a fresh machine runs for minutes, in steps that can fail for
# reasons of the network, and the reader must see where it stands and why it
# stopped. So every long step goes through run_step (a log file, a heartbeat, a
# time limit, the end of the log upon failure), every wish for a Debian package
# through need_packages, and the Debian mirror is the one that this machine's
# APT uses already.
#
# Sourced, never run: `. tests/tools/lib.sh`. POSIX sh. TOOL, set by the
# caller, is the word before each message.

# The exit status of a tool that could not get something from a mirror. Callers
# report it as skipped, where any other failure is a failure.
EX_UNAVAILABLE=69

say() { printf '%s: %s\n' "${TOOL:-erlang_python}" "$*"; }
warn() { say "$@" >&2; }
die() { warn "$@"; exit 1; }

# Everything that is expensive to make, and belongs to no tree.
cache_dir() {
    printf '%s\n' "${ERLANG_PYTHON_CACHE:-${XDG_CACHE_HOME:-${HOME:?}/.cache}/erlang_python}"
}

now() { date +%s; }

# elapsed START -> "1 min 5 s"; START is a result of now
elapsed() {
    set -- $(($(now) - $1))
    if [ "$1" -ge 60 ]; then
        printf '%d min %d s' $(($1 / 60)) $(($1 % 60))
    else
        printf '%d s' "$1"
    fi
}

# ------------------------------------------------------------------- steps

# Both kinds of step take a program, not a shell function, and run it without
# standard input for at most LIMIT seconds; they return its status, 124 or 137
# when it ran out of time. timeout(1) makes it a process group of its own and
# passes signals on to all of it, so that ending this shell ends what it started.

# run_step LIMIT TITLE LOG COMMAND... : for what the reader need not see. Output
# goes to LOG. Prints TITLE, a sign of life every 30 seconds, and how it ended;
# upon failure also the end of LOG.
run_step() {
    rs_limit=$1 rs_title=$2 rs_log=$3
    shift 3
    mkdir -p "$(dirname "$rs_log")"
    printf '+ %s\n' "$*" >"$rs_log"
    say "$rs_title ..."
    rs_start=$(now) rs_beat=$(now) rs_status=0
    timeout -k 20 "$rs_limit" "$@" >>"$rs_log" 2>&1 </dev/null &
    STEP_PID=$!
    while kill -0 "$STEP_PID" 2>/dev/null; do
        sleep 0.2
        [ $(($(now) - rs_beat)) -ge 30 ] || continue
        rs_beat=$(now)
        say "$rs_title: $(elapsed "$rs_start"): $(last_line "$rs_log")"
    done
    wait "$STEP_PID" || rs_status=$?
    STEP_PID=
    case $rs_status in
    0) say "$rs_title: done, $(elapsed "$rs_start")"; return 0 ;;
    124 | 137) warn "$rs_title: ended at its limit of $rs_limit s" ;;
    *) warn "$rs_title: failed with status $rs_status, $(elapsed "$rs_start")" ;;
    esac
    warn "the end of $rs_log:"
    tail -n 60 "$rs_log" | cut -c 1-250 | sed 's/^/    /' >&2
    return "$rs_status"
}

# run_shown LIMIT LOG COMMAND... : for what shows its own progress. Output goes
# to LOG and, as it comes, to the reader.
run_shown() {
    rs_limit=$1 rs_log=$2
    shift 2
    mkdir -p "$(dirname "$rs_log")"
    : >"$rs_log"
    rs_status=0
    timeout -k 20 "$rs_limit" "$@" >>"$rs_log" 2>&1 </dev/null &
    STEP_PID=$!
    # in the background, since a shell obeys a signal while it waits, but not
    # while a program in the foreground runs
    tail -n +1 -s 0.2 -f --pid="$STEP_PID" "$rs_log" &
    wait "$!" || :
    wait "$STEP_PID" || rs_status=$?
    STEP_PID=
    case $rs_status in
    124 | 137) warn "$1 was ended at its limit of $rs_limit s" ;;
    esac
    return "$rs_status"
}

# The last line of a log that says something, cut to fit a line.
last_line() {
    tail -c 4000 "$1" | tr '\r' '\n' | tr -cd '[:print:]\n' | sed '/^ *$/d' |
        tail -n 1 | cut -c 1-90
}

# summary_of LOG -> "PASSED FAILED SKIPPED" of the last line of LOG that says
# "N passed, N failed, N skipped"; zeros when there is none.
summary_of() {
    awk '/^[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$/ { p = $1; f = $3; s = $5 }
         END { print p + 0, f + 0, s + 0 }' "$1"
}

# A background job of a script ignores the keyboard's interrupt, so the step
# that runs is ended by hand.
end_step() { [ -z "${STEP_PID:-}" ] || kill "$STEP_PID" 2>/dev/null || :; }
trap 'end_step; exit 130' INT
trap 'end_step; exit 143' TERM HUP

# with_lock FILE: waits until no other process of these tools holds FILE, and
# holds it as long as this shell lives.
with_lock() {
    mkdir -p "$(dirname "$1")"
    exec 9>"$1"
    flock -n 9 || {
        say "another process holds $1; waiting for it"
        flock 9
    }
}

# ---------------------------------------------------------------- packages

is_debian() { command -v dpkg-query >/dev/null && command -v apt-get >/dev/null; }

# missing_packages NAME... -> those that are not installed, on one line
missing_packages() {
    for mp_name; do
        case $(dpkg-query -W -f '<${db:Status-Status}>' "$mp_name" 2>/dev/null) in
        *'<installed>'*) ;;
        *) printf '%s ' "$mp_name" ;;
        esac
    done
}

# need_packages LOG NAME... : installs what is missing, and does nothing when
# nothing is. Returns EX_UNAVAILABLE when the packages cannot be had, 1 when
# this user may not install them.
need_packages() {
    np_log=$1
    shift
    if ! is_debian; then
        say "not a Debian system, so nothing is installed; needed is what these packages hold: $*"
        return 0
    fi
    np_missing=$(missing_packages "$@")
    [ -n "$np_missing" ] || return 0
    if [ "$(id -u)" -ne 0 ]; then
        warn "these Debian packages are missing, and only root can install them:"
        warn "    apt-get install --no-install-recommends $np_missing"
        return 1
    fi
    # Lists can be absent (a fresh container) or so old that they name files
    # that the mirror no longer has, so they are read first. That can fail for a
    # source that has nothing to do with us: whether it matters shows below.
    run_step 300 "reading Debian's package lists" "$np_log.lists" \
        apt-get -o Acquire::Retries=3 update || :
    say "missing packages: $np_missing"
    # shellcheck disable=SC2086  # a list of words
    run_step 900 "installing them" "$np_log" \
        env DEBIAN_FRONTEND=noninteractive apt-get -y --no-install-recommends \
        -o Acquire::Retries=3 -o DPkg::Lock::Timeout=300 install $np_missing ||
        return "$EX_UNAVAILABLE"
}

# ------------------------------------------------------------------- trees

# copy_tree FROM TO: the sources in FROM, without what was built there.
copy_tree() {
    mkdir -p "$2"
    if [ -e "$1/.git" ]; then
        # a clone: what is in it or would be, also before it is committed; git
        # lists deleted files too
        # shellcheck disable=SC2016  # the inner shell expands it
        (cd "$1" && git ls-files -z -co --exclude-standard |
            xargs -0 -r sh -c 'for f; do [ ! -e "$f" ] && [ ! -L "$f" ] || printf "%s\\0" "$f"; done' list |
            tar --null --no-recursion -T - -cf -) | tar -xf - -C "$2"
    else
        # a released tree
        tar -C "$1" --exclude=./_build --exclude=./autom4te.cache --exclude='*.pyc' -cf - . | tar -xf - -C "$2"
    fi
}

# ------------------------------------------------------------------ mirror

# debian_mirror -> the URI of the Debian archive that APT uses here; status 1
# and nothing when it uses none.
debian_mirror() {
    if [ -n "${ERLANG_PYTHON_MIRROR:-}" ]; then
        printf '%s\n' "$ERLANG_PYTHON_MIRROR"
        return 0
    fi
    command -v apt-get >/dev/null || return 1
    # bookworm-updates and bookworm-security have a hyphen, the archive has none
    # shellcheck disable=SC2016  # APT fills these in
    apt-get indextargets --format '$(ORIGIN) $(CODENAME) $(REPO_URI)' \
        'Created-By: Packages' 2>/dev/null |
        awk '$1 == "Debian" && $2 !~ /-/ && $3 ~ /^https?:/ { print $3; found = 1; exit }
             END { exit !found }'
}

# shellcheck disable=SC2034  # for those who source this
DEBIAN_KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg
