/* SPDX-License-Identifier: Apache-2.0 */
/* See epy_lib.h. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1 /* dladdr, dl_iterate_phdr */
#endif
#include "epy_lib.h"

#include <dlfcn.h>
#include <link.h>
#include <malloc.h>
#include <string.h>
#include <unistd.h>

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* The file that holds a symbol. */
static const char *file_of(const void *symbol)
{
    Dl_info info;
    return dladdr(symbol, &info) && info.dli_fname ? info.dli_fname : "";
}

static int is_other_python(struct dl_phdr_info *info, size_t size, void *own)
{
    (void)size;
    const char *name = base_name(info->dlpi_name);
    /* libpython3.so is but the stable ABI's forwarder */
    return strncmp(name, "libpython", 9) == 0 && strcmp(name, "libpython3.so") != 0 &&
           strcmp(name, base_name(own)) != 0;
}

int epy_lib_check(void)
{
    if (dl_iterate_phdr(is_other_python, (void *)file_of((void *)Py_InitializeEx)))
        return EPY_LOAD_OTHER_PYTHON;
    if (access(EPY_PYTHON_STDLIB "/os.py", R_OK) != 0)
        return EPY_LOAD_NO_STDLIB;
    return EPY_LOAD_OK;
}

int epy_lib_pin(void)
{
    const char *python = file_of((void *)Py_InitializeEx), *self = file_of((void *)epy_lib_pin);
    if (!dlopen(self, RTLD_NOW | RTLD_NOLOAD | RTLD_NODELETE) ||
        !dlopen(python, RTLD_NOW | RTLD_NOLOAD | RTLD_NODELETE | RTLD_GLOBAL))
        return EPY_LOAD_DLOPEN;
    return EPY_LOAD_OK;
}

/* The emulator fixes malloc()'s thresholds at 128 kB, above which each block is mapped and
 * unmapped again, its pages zeroed one by one: a str of a megabyte cost ten times its copy.
 * docs/decisions/0011-malloc-thresholds.md */
void epy_lib_tune_malloc(void)
{
    (void)mallopt(M_MMAP_THRESHOLD, 4 << 20);
    (void)mallopt(M_TRIM_THRESHOLD, 16 << 20);
}
