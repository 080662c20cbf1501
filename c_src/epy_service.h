/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The service threads of an interpreter: do there what must be done from outside
 * its executors and must not be done on a scheduler (R1).  One interrupts
 * requests; the reaper drops references, which may run any Python code and so
 * must not hold up interrupts.  The main interpreter's first service thread is
 * also what Python calls the main thread.
 *
 * Work comes as jobs, run attached, one after the other.
 */
#ifndef EPY_SERVICE_H
#define EPY_SERVICE_H

#include "epy.h"
#include "epy_queue.h"

typedef struct epy_job {
    epy_qnode node;
    void (*run)(struct epy_job *job, epy_interp *interp); /* EPY_GIL; owns the job */
} epy_job;

typedef struct epy_service {
    epy_queue jobs;
    epy_idle idle;      /* its one thread */
    epy_interp *interp; /* constant */
    epy_job last;       /* tells the thread to end */
    atomic_bool open;   /* a thread serves */
    bool quit;          /* the thread's: told to end */
    bool unsettled;     /* the thread's: there is something to do when it has been quiet a while */
    atomic_int ended;   /* futex word: 1 when the thread has ended */
} epy_service;

void epy_service_init(epy_service *service, epy_interp *interp);

/* The job belongs to the service until it runs. */
EPY_ANY void epy_service_post(epy_service *service, epy_job *job);

/* Serves on the calling thread, which is attached, until told to end. */
EPY_GIL void epy_service_loop(epy_service *service);

/* Starts the thread of a service, whose interpreter is set up. */
int epy_service_start(epy_service *service, const char *name);

/* Ends the thread, after the jobs that were posted before, and waits for that. */
EPY_NOGIL void epy_service_stop(epy_service *service);

#endif
