# SPDX-License-Identifier: Apache-2.0
#
# What configure must know of one interpreter, said by that interpreter itself:
# python3-config belongs to whatever is first in PATH, and its flags carry noise.
# Run as "python describe_python.py named|found"; prints lines of key=value.  An
# interpreter that cannot be embedded prints reason=... and nothing else that matters.
# The syntax must stay readable to any Python, so that an old one can say that it is old.

import os
import re
import sys
import sysconfig


def say(key, value):
    sys.stdout.write("%s=%s\n" % (key, value))


def versioned(path, names):
    """The same binary under its versioned name: python3 may mean another one tomorrow."""
    for name in names:
        other = os.path.join(os.path.dirname(path), name)
        if os.path.exists(other) and os.path.samefile(other, path):
            return other
    return path


def describe(named):
    var = sysconfig.get_config_var
    version = "%d.%d" % sys.version_info[:2]
    full = "%d.%d.%d" % sys.version_info[:3]
    if sys.version_info[3] != "final":
        full += {"alpha": "a", "beta": "b", "candidate": "rc"}[sys.version_info[3]]
        full += str(sys.version_info[4])
    say("version", full)
    if not hasattr(sys, "implementation") or sys.implementation.name != "cpython":
        return "not CPython"
    if sys.version_info < (3, 9):
        return "older than 3.9"

    gil_disabled = bool(var("Py_GIL_DISABLED"))
    abiflags = getattr(sys, "abiflags", "")
    if "d" in abiflags and not named:
        return "a debug build; name it with --with-pythons to build for it"

    # A virtual environment that happens to be active is not the Python to build
    # for; one that was named is meant.
    executable = sys.executable
    if not named and sys.prefix != sys.base_prefix:
        executable = getattr(sys, "_base_executable", None) or executable
    if not executable:
        return "does not know its own path"
    ldversion = var("LDVERSION") or version + abiflags
    executable = versioned(executable, ["python" + ldversion, "python" + version])

    include = sysconfig.get_path("include")
    includes = [include]
    if sysconfig.get_path("platinclude") != include:
        includes.append(sysconfig.get_path("platinclude"))
    stdlib = sysconfig.get_path("stdlib")
    say("tag", "cp%d%d%s" % (sys.version_info[0], sys.version_info[1], abiflags))
    say("series", version)
    say("minor", sys.version_info[1])
    say("ldversion", ldversion)
    say("executable", executable)
    say("identity", os.path.realpath(executable))
    say("gil_disabled", int(gil_disabled))
    say("stdlib", stdlib)
    say("includes", " ".join(includes))
    if not os.path.exists(os.path.join(include, "Python.h")):
        return "no %s (the headers: python%s-dev or so)" % (
            os.path.join(include, "Python.h"), version)

    # A library directory that says where libpython is, if it is shared.  Some
    # distributions say static and ship the shared one all the same: look.
    dirs = [d for d in (var("LIBDIR"), os.path.join(sys.base_prefix, "lib")) if d]
    multiarch = var("MULTIARCH")
    if multiarch:
        dirs += [os.path.join(d, multiarch) for d in dirs]
    library = "libpython%s.so" % ldversion
    libdirs = [d for d in dirs if os.path.exists(os.path.join(d, library))]
    if not libdirs:
        return "no shared %s in %s" % (library, " ".join(dirs))
    libdir = libdirs[0]
    system = ["/lib", "/usr/lib", "/lib64", "/usr/lib64"]
    if multiarch:
        system += ["/lib/" + multiarch, "/usr/lib/" + multiarch]
    libs = ["-lpython" + ldversion]
    if os.path.normpath(libdir) not in system:
        # The loader would not look there by itself.
        libs = ["-L" + libdir, "-Wl,-rpath," + libdir] + libs
    for word in ((var("LIBS") or "") + " " + (var("SYSLIBS") or "")).split():
        if word.startswith("-l") and word not in libs:
            libs.append(word)
    say("libs", " ".join(libs))

    # These go through make and the shell, which split and expand them.
    for path in [executable, stdlib, libdir] + includes:
        if not re.match("^[A-Za-z0-9/._+~-]+$", path):
            return "a path with a character that make or the shell cannot take: %r" % path
    return None


reason = describe(sys.argv[1] == "named")
if reason:
    say("reason", reason)
