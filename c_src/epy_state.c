/* SPDX-License-Identifier: Apache-2.0 */
/* See epy_state.h. */
#include "epy_state.h"

#include "epy_atoms.h"
#include "epy_callback.h"
#include "epy_convert.h"
#include "epy_mode.h"
#include "epy_term.h"

#define DEAD INT64_MIN       /* no value of a cell */
#define CACHE_MAX 4096       /* keys that an interpreter remembers */

typedef struct cell {
    _Atomic int64_t value;
    unsigned epoch; /* constant: when it was made */
} cell;

static ErlNifResourceType *cell_type;
static atomic_uint epoch; /* counts the tables of py_state */

int epy_state_open(ErlNifEnv *env)
{
    ErlNifResourceTypeInit init = {0};
    cell_type = enif_open_resource_type_x(env, "cell", &init,
                                          ERL_NIF_RT_CREATE | ERL_NIF_RT_TAKEOVER, NULL);
    return cell_type ? EPY_OK : EPY_ENOMEM;
}

void epy_cells_reset(void)
{
    atomic_fetch_add(&epoch, 1);
}

/* ---- the word ---- */

static bool is_of_this_epoch(const cell *c)
{
    return c->epoch == atomic_load_explicit(&epoch, memory_order_acquire);
}

typedef enum added { ADDED, OVERFLOWS, IS_DEAD } added;

static added add(cell *c, int64_t n, int64_t *sum)
{
    int64_t v = atomic_load_explicit(&c->value, memory_order_relaxed);
    if (!is_of_this_epoch(c))
        return IS_DEAD;
    do {
        if (v == DEAD)
            return IS_DEAD;
        if (__builtin_add_overflow(v, n, sum) || *sum == DEAD)
            return OVERFLOWS;
    } while (!atomic_compare_exchange_weak(&c->value, &v, *sum));
    return ADDED;
}

/* ---- for Erlang ---- */

static cell *get(ErlNifEnv *env, ERL_NIF_TERM term)
{
    void *c;
    return enif_get_resource(env, term, cell_type, &c) ? c : NULL;
}

static bool get_value(ErlNifEnv *env, ERL_NIF_TERM term, int64_t *value)
{
    ErlNifSInt64 n;
    bool ok = enif_get_int64(env, term, &n) && n != DEAD;
    *value = n;
    return ok;
}

bool epy_cell_is_value(ErlNifEnv *env, ERL_NIF_TERM term)
{
    int64_t value;
    return get_value(env, term, &value);
}

ERL_NIF_TERM epy_cell_new(ErlNifEnv *env, ERL_NIF_TERM term)
{
    int64_t value;
    if (!get_value(env, term, &value))
        return enif_make_badarg(env);
    cell *c = enif_alloc_resource(cell_type, sizeof *c);
    atomic_init(&c->value, value);
    c->epoch = atomic_load(&epoch);
    ERL_NIF_TERM result = enif_make_resource(env, c);
    enif_release_resource(c);
    return result;
}

/* {ok, Value} | dead */
static ERL_NIF_TERM value_term(ErlNifEnv *env, const cell *c, int64_t value)
{
    return value == DEAD || !is_of_this_epoch(c)
               ? epy_atom.dead
               : enif_make_tuple2(env, epy_atom.ok, enif_make_int64(env, value));
}

ERL_NIF_TERM epy_cell_get(ErlNifEnv *env, ERL_NIF_TERM term)
{
    cell *c = get(env, term);
    return c ? value_term(env, c, atomic_load(&c->value)) : enif_make_badarg(env);
}

ERL_NIF_TERM epy_cell_set(ErlNifEnv *env, ERL_NIF_TERM term, ERL_NIF_TERM new_term)
{
    int64_t value;
    cell *c = get(env, term);
    if (!c || !get_value(env, new_term, &value))
        return enif_make_badarg(env);
    int64_t v = atomic_load(&c->value);
    do {
        if (v == DEAD || !is_of_this_epoch(c))
            return epy_atom.dead;
    } while (!atomic_compare_exchange_weak(&c->value, &v, value));
    return epy_atom.ok;
}

ERL_NIF_TERM epy_cell_add(ErlNifEnv *env, ERL_NIF_TERM term, ERL_NIF_TERM n_term)
{
    ErlNifSInt64 n;
    int64_t sum;
    cell *c = get(env, term);
    if (!c)
        return enif_make_badarg(env);
    if (!enif_get_int64(env, n_term, &n))
        return is_of_this_epoch(c) && atomic_load(&c->value) != DEAD ? epy_atom.overflow
                                                                     : epy_atom.dead;
    switch (add(c, n, &sum)) {
    case ADDED: return enif_make_tuple2(env, epy_atom.ok, enif_make_int64(env, sum));
    case OVERFLOWS: return epy_atom.overflow;
    default: return epy_atom.dead;
    }
}

ERL_NIF_TERM epy_cell_kill(ErlNifEnv *env, ERL_NIF_TERM term)
{
    cell *c = get(env, term);
    return c ? value_term(env, c, atomic_exchange(&c->value, DEAD)) : enif_make_badarg(env);
}

/* ---- for Python: an object that keeps a cell ---- */

typedef struct cell_object {
    PyObject_HEAD
    cell *cell; /* strong */
} cell_object;

static void cell_dealloc(PyObject *o)
{
    PyTypeObject *type = Py_TYPE(o);
    enif_release_resource(((cell_object *)o)->cell);
    type->tp_free(o);
    Py_DECREF(type);
}

static PyType_Slot cell_slots[] = {
    {Py_tp_new, epy_no_new}, {Py_tp_dealloc, cell_dealloc}, {0, NULL}};

static PyType_Spec cell_spec = {
    .name = "_erlang.Cell",
    .basicsize = sizeof(cell_object),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = cell_slots,
};

/* The key's cell is remembered, if the answer has one: an object of type Ref. */
static int remember(epy_interp *interp, PyObject *key, PyObject *ref)
{
    ERL_NIF_TERM term;
    epy_conv c;
    epy_objects *o = &interp->objects;
    ErlNifEnv *env = enif_alloc_env();
    PyTypeObject *type = (PyTypeObject *)o->cell_type;
    cell_object *self = NULL;
    if (!env) {
        PyErr_NoMemory();
        return -1;
    }
    epy_conv_init(&c, interp, env);
    cell *found = epy_term_get(&c, ref, &term) ? get(env, term) : NULL;
    if (found && (self = (cell_object *)type->tp_alloc(type, 0))) {
        enif_keep_resource(found);
        self->cell = found;
    }
    epy_conv_fini(&c);
    enif_free_env(env);
    if (!self)
        return PyErr_Occurred() ? -1 : 0;
    if (PyDict_GET_SIZE(o->state_cells) >= CACHE_MAX)
        PyDict_Clear(o->state_cells);
    int r = PyDict_SetItem(o->state_cells, key, (PyObject *)self);
    Py_DECREF(self);
    return r;
}

/* Keys whose equality is the same in Erlang. */
static bool is_name(const epy_interp *interp, PyObject *key)
{
    return PyUnicode_CheckExact(key) || Py_TYPE(key) == (PyTypeObject *)interp->objects.atom_type;
}

/* By the table: {New, Cell | none}. */
static PyObject *incr_by_table(epy_interp *interp, PyObject *key, PyObject *n)
{
    PyObject *args = PyTuple_Pack(3, interp->objects.incr_atom, key, n), *sum = NULL;
    PyObject *answer =
        args ? epy_callback_call(interp, interp->objects.state_atom, args) : NULL;
    Py_XDECREF(args);
    if (answer && (!PyTuple_Check(answer) || PyTuple_GET_SIZE(answer) != 2))
        PyErr_SetString(PyExc_SystemError, "py_state answers with a pair");
    else if (answer && (!is_name(interp, key) ||
                        remember(interp, key, PyTuple_GET_ITEM(answer, 1)) == 0))
        sum = Py_NewRef(PyTuple_GET_ITEM(answer, 0));
    Py_XDECREF(answer);
    return sum;
}

/* Counts in a cell that is known and alive: 1 and *sum; else 0, or -1. */
static int incr_known(epy_interp *interp, PyObject *key, PyObject *n, int64_t *sum)
{
    int overflow = 0;
    PyObject *known = epy_dict_get(interp->objects.state_cells, key);
    if (!known)
        return PyErr_Occurred() ? -1 : 0;
    int64_t by = n ? PyLong_AsLongLongAndOverflow(n, &overflow) : 1;
    int r = by == -1 && PyErr_Occurred() ? -1 : 0;
    if (r == 0 && !overflow)
        r = add(((cell_object *)known)->cell, by, sum) == ADDED;
    Py_DECREF(known);
    return r;
}

PyDoc_STRVAR(incr_doc, "state_incr(key, n=1)\n--\n\n"
                       "Add n to the integer of this key, atomically, and return the sum.\n\n"
                       "A key that is not there counts from 0.");

static PyObject *state_incr(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    int64_t sum = 0;
    (void)module;
    if (nargs < 1 || nargs > 2 || (nargs == 2 && (!PyLong_Check(args[1]) || PyBool_Check(args[1]))))
        return PyErr_Format(PyExc_TypeError, "state_incr() takes a key and an integer");
    epy_interp *interp = epy_interp_current();
    if (!interp)
        return NULL;
    PyObject *n = nargs == 2 ? args[1] : NULL;
    int r = is_name(interp, args[0]) ? incr_known(interp, args[0], n, &sum) : 0;
    if (r != 0)
        return r < 0 ? NULL : PyLong_FromLongLong(sum);
    PyObject *one = n ? Py_NewRef(n) : PyLong_FromLong(1);
    PyObject *result = one ? incr_by_table(interp, args[0], one) : NULL;
    Py_XDECREF(one);
    return result;
}

static PyMethodDef functions[] = {
    {"state_incr", (PyCFunction)(void (*)(void))state_incr, METH_FASTCALL, incr_doc},
    {NULL, NULL, 0, NULL},
};

int epy_state_init(PyObject *module, epy_objects *o)
{
    o->cell_type = PyType_FromModuleAndSpec(module, &cell_spec, NULL);
    o->state_cells = PyDict_New();
    o->state_atom = PyObject_CallFunction(o->atom_type, "s", "$py_state");
    o->incr_atom = PyObject_CallFunction(o->atom_type, "s", "incr");
    if (!o->cell_type || !o->state_cells || !o->state_atom || !o->incr_atom)
        return -1;
    return PyModule_AddFunctions(module, functions);
}
