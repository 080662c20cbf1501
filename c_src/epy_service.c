/* SPDX-License-Identifier: Apache-2.0 */
/* See epy_service.h. */
#include "epy_service.h"

#include "epy_executor.h"
#include "epy_interp.h"

#include <stdio.h>

void epy_service_init(epy_service *service)
{
    epy_queue_init(&service->jobs);
    epy_idle_init(&service->idle);
}

void epy_service_post(epy_service *service, epy_job *job)
{
    epy_queue_push(&service->jobs, &job->node);
    epy_idle_notify(&service->idle);
}

void epy_service_loop(epy_interp *interp)
{
    epy_service *service = &interp->service;
    epy_idle_heat(&service->idle);
    for (;;) {
        epy_qnode *n = epy_queue_pop(&service->jobs);
        if (n) {
            epy_job *job = EPY_CONTAINER(n, epy_job, node);
            job->run(job, interp);
            continue;
        }
        PyThreadState *ts = PyEval_SaveThread();
        epy_idle_wait(&service->idle, &service->jobs, 0, -1);
        PyEval_RestoreThread(ts);
    }
}

static void *service_main(void *arg)
{
    epy_interp *interp = arg;
    PyThreadState *ts = PyThreadState_New(interp->state);
    if (!ts)
        Py_FatalError("erlang_python: no memory for the service thread's state");
    PyEval_RestoreThread(ts);
    epy_service_loop(interp);
    return NULL;
}

int epy_service_start(epy_interp *interp)
{
    char name[16];
    snprintf(name, sizeof name, "epy_service_%d", interp->id);
    return epy_thread_start(name, service_main, interp);
}
