/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rendezvous of a callback: a thread that waits for an answer, and those that answer,
 * give it nested work or cancel it.  Knows neither Python nor the BEAM.
 *
 * The frames of one thread are a stack.  A frame is named by a serial and is open from
 * epy_frame_open() until epy_frame_wait() says that it has ended.  What comes for a frame
 * that is closed is refused, so nothing is lost in between, and each frame ends once: by its
 * answer or by a cancel, whichever came first.
 */
#ifndef EPY_FRAME_H
#define EPY_FRAME_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* Work that is to run in a frame: part of what it is about. */
typedef struct epy_fnode {
    struct epy_fnode *next;
} epy_fnode;

typedef struct epy_answer {
    void *env;      /* of the receiver from now on */
    uintptr_t term; /* in env */
} epy_answer;

/* On the stack of the thread that waits.  All but the last two: under the lock. */
typedef struct epy_frame {
    struct epy_frame *outer;
    const void *owner;     /* for whose cancel it listens */
    uint64_t serial;
    epy_fnode *nested;     /* first to last */
    epy_answer answer;     /* answer.env is NULL: none yet */
    bool cancelled;
    pthread_cond_t changed;
    atomic_uint news;      /* counts what came: read without the lock, by the waiting thread */
    void *raised;          /* the waiting thread's: see epy_callback.c */
} epy_frame;

typedef struct epy_frames {
    pthread_mutex_t lock;  /* guards all frames and the fields below; a leaf but for `send` */
    epy_frame *innermost;  /* written by the thread whose frames these are */
    uint64_t serial;
} epy_frames;

void epy_frames_init(epy_frames *frames);

/* Opens a frame if send(frame, arg) says so.  That runs under the lock, so that a canceller
 * that has held it sees no message later. */
bool epy_frame_open(epy_frames *frames, epy_frame *f, const void *owner,
                    bool (*send)(epy_frame *f, void *arg), void *arg);

/* From any thread.  False: the frame is closed, or has ended. */
bool epy_frame_answer(epy_frames *frames, uint64_t serial, epy_answer answer);
bool epy_frame_nest(epy_frames *frames, uint64_t serial, epy_fnode *work);

/* Ends the frames of this owner. */
void epy_frame_cancel(epy_frames *frames, const void *owner);

/* By the thread whose frame it is: looks out for news for so many nanoseconds without
 * sleeping.  True: there are some, so that epy_frame_wait() will not sleep. */
bool epy_frame_spin(epy_frame *f, uint64_t ns);

/* Waits until there is work to be done in the frame, which it returns, or until it has ended:
 * then it is closed, and NULL. */
epy_fnode *epy_frame_wait(epy_frames *frames, epy_frame *f);

/* The same until that moment of epy_now_ns(), 0: for ever.  Then it is closed as well, with
 * neither an answer nor a cancel. */
epy_fnode *epy_frame_wait_until(epy_frames *frames, epy_frame *f, uint64_t deadline_ns);

/* What was left when it ended, one by one. */
epy_fnode *epy_frame_take_rest(epy_frame *f);

#endif
