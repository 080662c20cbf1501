/* SPDX-License-Identifier: Apache-2.0
 *
 * Does this libpython work when it is embedded, as the NIF embeds it?  Headers that
 * compile and a library that links prove little: they may belong to two Pythons, or
 * the library may lack its standard library.  So configure compiles, links and runs
 * this program for each interpreter it found.
 *
 *   embed_python EXECUTABLE main      start it, import something, say what it is
 *   embed_python EXECUTABLE subinterp the same, and again in an interpreter with
 *                                     a GIL of its own (a run apart, as it may crash)
 *
 * Prints lines of key=value; exits with 0 when all went well.
 */
#define _GNU_SOURCE 1
#include <Python.h>

#include <stdio.h>
#include <string.h>

static int start(const char *executable)
{
    PyConfig config;
    PyStatus status;

    PyConfig_InitPythonConfig(&config);
    config.install_signal_handlers = 0;
    status = PyConfig_SetBytesString(&config, &config.program_name, executable);
    if (!PyStatus_Exception(status))
        status = PyConfig_SetBytesString(&config, &config.executable, executable);
    if (!PyStatus_Exception(status))
        status = Py_InitializeFromConfig(&config);
    PyConfig_Clear(&config);
    if (PyStatus_Exception(status)) {
        fprintf(stderr, "%s\n", status.err_msg ? status.err_msg : "Py_Initialize failed");
        return -1;
    }
    return 0;
}

static int try_own_gil(void)
{
#if PY_VERSION_HEX >= 0x030C0000
    PyThreadState *outer = PyThreadState_Get();
    PyThreadState *inner = NULL;
    PyInterpreterConfig config = {
        .use_main_obmalloc = 0,
        .allow_fork = 0,
        .allow_exec = 0,
        .allow_threads = 1,
        .allow_daemon_threads = 0,
        .check_multi_interp_extensions = 1,
        .gil = PyInterpreterConfig_OWN_GIL,
    };
    PyStatus status = Py_NewInterpreterFromConfig(&inner, &config);
    int failed;

    if (PyStatus_Exception(status) || inner == NULL) {
        fprintf(stderr, "%s\n", status.err_msg ? status.err_msg : "no interpreter");
        return -1;
    }
#if PY_VERSION_HEX >= 0x030D0000
    failed = PyRun_SimpleString("import json, datetime, decimal\n");
#else
    /* The C parts of datetime and decimal refuse there: it is known, and asked for. */
    failed = PyRun_SimpleString("import json\n");
#endif
    Py_EndInterpreter(inner);
    PyThreadState_Swap(outer);
    return failed;
#else
    fprintf(stderr, "no interpreters with a GIL of their own before 3.12\n");
    return -1;
#endif
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: embed_python EXECUTABLE main|subinterp\n");
        return 2;
    }
    if (start(argv[1]) != 0)
        return 1;
    printf("header=%s\n", PY_VERSION);
    printf("library=%.*s\n", (int)strcspn(Py_GetVersion(), " +"), Py_GetVersion());
#ifdef Py_GIL_DISABLED
    printf("gil_disabled=1\n");
#else
    printf("gil_disabled=0\n");
#endif
    fflush(stdout);
    if (PyRun_SimpleString("import json, threading\n") != 0)
        return 1;
    if (strcmp(argv[2], "subinterp") == 0 && try_own_gil() != 0)
        return 1;
    if (Py_FinalizeEx() != 0)
        return 1;
    printf("done=1\n");
    return 0;
}
