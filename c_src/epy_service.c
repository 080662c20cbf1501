/* SPDX-License-Identifier: Apache-2.0 */
/* See epy_service.h. */
#include "epy_service.h"

#include "epy_executor.h"
#include "epy_interp.h"

#define SETTLE_NS 300000000

void epy_service_init(epy_service *service, epy_interp *interp)
{
    service->interp = interp;
    atomic_store(&service->ended, 1); /* a stop waits for no thread that was never started */
    epy_queue_init(&service->jobs);
    epy_idle_init(&service->idle);
}

void epy_service_post(epy_service *service, epy_job *job)
{
    epy_queue_push(&service->jobs, &job->node);
    epy_idle_notify(&service->idle);
}

void epy_service_loop(epy_service *service)
{
    epy_idle_heat(&service->idle);
    atomic_store(&service->open, true);
    while (!service->quit) {
        epy_qnode *n = epy_queue_pop(&service->jobs);
        if (n) {
            epy_job *job = EPY_CONTAINER(n, epy_job, node);
            job->run(job, service->interp);
            continue;
        }
        PyThreadState *ts = PyEval_SaveThread();
        bool work = epy_idle_wait(&service->idle, epy_queue_ready, &service->jobs, 0,
                                  service->unsettled ? SETTLE_NS : -1);
        PyEval_RestoreThread(ts);
        if (!work)
            service->unsettled = !epy_interp_settle(service->interp);
    }
    atomic_store(&service->open, false);
    epy_qnode *n;
    while ((n = epy_queue_pop(&service->jobs))) /* what came after the last one */
        EPY_CONTAINER(n, epy_job, node)->run(EPY_CONTAINER(n, epy_job, node), service->interp);
    epy_idle_cool(&service->idle);
}

static void *service_main(void *arg)
{
    epy_service *service = arg;
    PyThreadState *ts = epy_memory_enter_new_thread(service->interp);
    if (!ts)
        Py_FatalError("erlang_python: no memory for the service thread's state");
    PyEval_RestoreThread(ts);
    epy_service_loop(service);
    epy_thread_delete(ts);
    atomic_store(&service->ended, 1);
    epy_futex_wake_one(&service->ended);
    return NULL;
}

int epy_service_start(epy_service *service, const char *name)
{
    char full[16];
    service->quit = false;
    atomic_store(&service->ended, 0);
    atomic_store(&service->open, true); /* what is posted before the thread runs is not lost */
    PyOS_snprintf(full, sizeof full, "epy_%s_%d", name, service->interp->id);
    int r = epy_thread_start(full, service_main, service);
    if (r < 0) {
        atomic_store(&service->open, false);
        atomic_store(&service->ended, 1);
    }
    return r;
}

static void run_quit(epy_job *job, epy_interp *interp)
{
    epy_service *service = job == &interp->service.last ? &interp->service : &interp->reaper;
    service->quit = true;
}

void epy_service_stop(epy_service *service)
{
    service->last.run = run_quit;
    epy_service_post(service, &service->last);
    while (!atomic_load(&service->ended))
        epy_futex_wait(&service->ended, 0, -1);
}
