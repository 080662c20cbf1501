/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Integers beyond 64 bits.
 *
 * The NIF interface has none, but the external term format does: a tag, the
 * number of bytes, the sign, then the magnitude, least significant byte first
 * (SMALL_BIG_EXT and LARGE_BIG_EXT).  Python takes and gives just such bytes.
 */
#include "epy_convert.h"

#include <string.h>

enum { ETF_VERSION = 131, SMALL_BIG = 110, LARGE_BIG = 111 };

static PyObject *from_magnitude(const unsigned char *p, size_t n)
{
#if PY_VERSION_HEX >= 0x030D0000
    return PyLong_FromUnsignedNativeBytes(p, n, Py_ASNATIVEBYTES_LITTLE_ENDIAN);
#else
    return _PyLong_FromByteArray(p, n, 1, 0);
#endif
}

/* Upper bound of the bytes of the magnitude of a non-negative int. */
static Py_ssize_t magnitude_size(PyObject *o)
{
#if PY_VERSION_HEX >= 0x030D0000
    return PyLong_AsNativeBytes(o, NULL, 0, Py_ASNATIVEBYTES_LITTLE_ENDIAN);
#else
    size_t bits = _PyLong_NumBits(o);
    return bits == (size_t)-1 ? -1 : (Py_ssize_t)(bits / 8 + 1);
#endif
}

static int to_magnitude(PyObject *o, unsigned char *p, Py_ssize_t n)
{
#if PY_VERSION_HEX >= 0x030D0000
    return PyLong_AsNativeBytes(o, p, n, Py_ASNATIVEBYTES_LITTLE_ENDIAN |
                                             Py_ASNATIVEBYTES_UNSIGNED_BUFFER) < 0
               ? -1
               : 0;
#else
    return _PyLong_AsByteArray((PyLongObject *)o, p, (size_t)n, 1, 0);
#endif
}

static PyObject *decode(const unsigned char *p, size_t size)
{
    size_t n, header;
    if (size > 4 && p[1] == SMALL_BIG) {
        n = p[2];
        header = 4;
    } else if (size > 7 && p[1] == LARGE_BIG) {
        n = (size_t)p[2] << 24 | (size_t)p[3] << 16 | (size_t)p[4] << 8 | p[5];
        header = 7;
    } else
        return PyErr_Format(PyExc_SystemError, "the emulator encoded an integer in an unknown way");
    PyObject *o = from_magnitude(p + header, n);
    if (o && p[header - 1]) {
        PyObject *negative = PyNumber_Negative(o);
        Py_DECREF(o);
        o = negative;
    }
    return o;
}

PyObject *epy_bigint_topy(epy_conv *c, ERL_NIF_TERM term)
{
    ErlNifBinary bin;
    if (!enif_term_to_binary(c->env, term, &bin))
        return PyErr_NoMemory();
    PyObject *o = decode(bin.data, bin.size);
    enif_release_binary(&bin);
    return o;
}

static size_t put_header(unsigned char *p, size_t n, bool negative)
{
    size_t i = 0;
    p[i++] = ETF_VERSION;
    if (n < 256) {
        p[i++] = SMALL_BIG;
    } else {
        p[i++] = LARGE_BIG;
        p[i++] = (unsigned char)(n >> 24);
        p[i++] = (unsigned char)(n >> 16);
        p[i++] = (unsigned char)(n >> 8);
    }
    p[i++] = (unsigned char)n;
    p[i++] = negative;
    return i;
}

int epy_bigint_toterm(epy_conv *c, PyObject *integer, ERL_NIF_TERM *term)
{
    int r = -1;
    int overflow;
    unsigned char *buf = NULL;
    /* int's own, as a subclass may have an __abs__ of any kind */
    PyObject *magnitude = PyLong_Type.tp_as_number->nb_absolute(integer);
    if (!magnitude)
        return -1;
    (void)PyLong_AsLongLongAndOverflow(integer, &overflow); /* for the sign */
    Py_ssize_t n = magnitude_size(magnitude);
    if (n < 0)
        goto done;
    buf = PyMem_Malloc((size_t)n + 14);
    if (!buf) {
        PyErr_NoMemory();
        goto done;
    }
    /* The magnitude is written where the longest header would end. */
    unsigned char *digits = buf + 7;
    if (to_magnitude(magnitude, digits, n) < 0)
        goto done;
    while (n > 0 && digits[n - 1] == 0)
        n--;
    unsigned char header[7];
    size_t h = put_header(header, (size_t)n, overflow < 0);
    memcpy(digits - h, header, h);
    if ((uint64_t)n <= UINT32_MAX &&
        enif_binary_to_term(c->env, digits - h, h + (size_t)n, term, 0))
        r = 0;
    else
        epy_conv_refuse(c, "an integer of %zd bytes is too large for Erlang", n);
done:
    PyMem_Free(buf);
    Py_DECREF(magnitude);
    return r;
}
