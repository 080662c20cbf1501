/* SPDX-License-Identifier: Apache-2.0 */
/*
 * py_spawn ADDRESS: starts one child process for asyncio, and tells how it ends.
 *
 * The emulator must not fork: it is large and full of threads, and sub-interpreters may not.  A
 * port can start programs, but hands over neither descriptors nor the raw wait status.  So an
 * Erlang port starts this program (py_subprocess.erl); it connects to the abstract socket ADDRESS
 * of the event loop (python/erlang/_subprocess.py), and over that connection
 *
 *     loop -> py_spawn   struct header with descriptors (SCM_RIGHTS), numbers, strings
 *     py_spawn -> loop   struct outcome: the child's pid, or what failed
 *     loop -> py_spawn   one byte: the loop has taken charge of the child
 *     py_spawn -> loop   the raw wait status, when the child has ended
 *     loop -> py_spawn   the end of the connection: the status has arrived
 *
 * The child is reaped after that, so that its pid means nobody else as long as the loop takes it
 * for running.  If the connection ends before the loop took charge, the child is killed; if it
 * ends later, nobody wants to know, and the child goes on.  The port is told only that the
 * connection stands.
 *
 * The child gets what subprocess.Popen would give it, in the same order.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

/* As many descriptors as Linux takes in one message (SCM_MAX_FD). */
#define MAX_FDS 253

enum flag {
    NEW_SESSION = 1,
    RESTORE_SIGNALS = 2, /* those that Python ignores */
    HAS_CWD = 4,         /* else the directory is the loop's own */
    HAS_GROUPS = 8,      /* the groups count, also when there are none */
};

/* In this machine's byte order; Python packs it.  After it come fd_count - 1 numbers of 4 bytes,
 * which the descriptors but the first shall have; group_count numbers of 4 bytes; and string_size
 * bytes of strings, each with a NUL: the directory, the arguments, the paths of the program to
 * try, the environment. */
struct header {
    int64_t string_size, arg_count, path_count, env_count;
    int64_t fd_count; /* the first one is the directory that the loop is in */
    int64_t group_count;
    int64_t flags;
    int64_t umask, process_group, user, group; /* negative: as they are */
};

enum stage { EXEC, CHDIR, PREPARE }; /* what failed */

struct outcome {
    int32_t pid; /* 0: there is no child, for the following reason */
    int32_t stage, error;
};

struct request {
    struct header h;
    int fds[MAX_FDS];
    int targets[MAX_FDS]; /* of fds[i + 1] */
    gid_t *groups;
    char *cwd, **args, **paths, **env;
};

/* ---- the connection ---- */

static bool receive(int conn, void *to, size_t size)
{
    for (char *p = to; size > 0;) {
        ssize_t n = read(conn, p, size);
        if (n == 0 || (n < 0 && errno != EINTR))
            return false;
        if (n > 0) {
            p += n;
            size -= (size_t)n;
        }
    }
    return true;
}

/* Some bytes, which a socket takes at once or not at all. */
static bool reply(int conn, const void *from, size_t size)
{
    ssize_t n;
    do
        n = send(conn, from, size, MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    return n == (ssize_t)size;
}

/* Is this a process of the user that we run for?  Another one may have taken the address when the
 * loop gave it up. */
static bool is_trusted(int conn)
{
    struct ucred peer;
    socklen_t size = sizeof peer;
    return getsockopt(conn, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 &&
           (peer.uid == geteuid() || peer.uid == 0);
}

/* -1: there is nobody at this address. */
static int connect_to(const char *name)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX}; /* sun_path[0] = 0: it is abstract */
    size_t length = strlen(name);
    if (length + 1 > sizeof address.sun_path)
        return -1;
    memcpy(address.sun_path + 1, name, length);
    int conn = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + length);
    if (conn < 0 || connect(conn, (struct sockaddr *)&address, size) < 0 || !is_trusted(conn))
        return -1;
    return conn;
}

/* ---- the request ---- */

/* The header, and the descriptors that come with its first byte. */
static bool receive_header(int conn, struct request *r)
{
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(sizeof r->fds)];
    } control;
    struct iovec part = {.iov_base = &r->h, .iov_len = sizeof r->h};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1,
                             .msg_control = &control, .msg_controllen = sizeof control};
    ssize_t n;
    do
        n = recvmsg(conn, &message, MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    if (n <= 0 || (message.msg_flags & MSG_CTRUNC))
        return false;
    struct cmsghdr *c = CMSG_FIRSTHDR(&message);
    if (!c || c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
        return false;
    memcpy(r->fds, CMSG_DATA(c), c->cmsg_len - CMSG_LEN(0));
    return receive(conn, (char *)&r->h + n, sizeof r->h - (size_t)n) &&
           c->cmsg_len == CMSG_LEN((size_t)r->h.fd_count * sizeof(int));
}

/* The next `count` strings, and NULL; *next goes on behind them. */
static char **strings(char **next, const char *end, int64_t count)
{
    char **list = calloc((size_t)count + 1, sizeof *list);
    for (int64_t i = 0; list && i < count; i++) {
        if (*next >= end)
            return NULL;
        list[i] = *next;
        *next += strlen(*next) + 1;
    }
    return list;
}

/* false: the connection ended, or there is no memory.  Nothing is freed: it is for one child. */
static bool receive_request(int conn, struct request *r)
{
    const struct header *h = &r->h;
    if (!receive_header(conn, r) || h->fd_count < 1)
        return false;
    char *text = malloc((size_t)h->string_size + 1);
    r->groups = calloc((size_t)h->group_count + 1, sizeof *r->groups);
    if (!text || !r->groups || !receive(conn, r->targets, (size_t)(h->fd_count - 1) * sizeof(int)) ||
        !receive(conn, r->groups, (size_t)h->group_count * sizeof *r->groups) ||
        !receive(conn, text, (size_t)h->string_size))
        return false;
    text[h->string_size] = 0;
    char *next = text, *end = text + h->string_size;
    char **cwd = strings(&next, end, 1);
    r->cwd = cwd ? cwd[0] : NULL;
    r->args = strings(&next, end, h->arg_count);
    r->paths = strings(&next, end, h->path_count);
    r->env = strings(&next, end, h->env_count);
    return r->cwd && r->args && r->paths && r->env;
}

/* ---- in the child, up to exec: false and errno ---- */

static bool is_target(const struct request *r, int fd)
{
    for (int64_t i = 0; i + 1 < r->h.fd_count; i++)
        if (r->targets[i] == fd)
            return true;
    return false;
}

/* All other descriptors of ours are closed by exec. */
static bool place_descriptors(struct request *r, int *errors)
{
    int above = 3;
    int64_t count = r->h.fd_count;
    for (int64_t i = 0; i + 1 < count; i++)
        if (r->targets[i] >= above)
            above = r->targets[i] + 1;
    for (int64_t i = 0; i < count; i++)
        if ((r->fds[i] = fcntl(r->fds[i], F_DUPFD_CLOEXEC, above)) < 0)
            return false;
    int moved = fcntl(*errors, F_DUPFD_CLOEXEC, above);
    if (moved < 0)
        return false;
    *errors = moved;
    for (int64_t i = 0; i + 1 < count; i++)
        if (dup2(r->fds[i + 1], r->targets[i]) < 0)
            return false;
    for (int fd = 0; fd < 3; fd++) /* those that the emulator itself does not have */
        if (!is_target(r, fd))
            close(fd);
    return true;
}

static bool set_signals(int64_t flags)
{
    sigset_t none;
    for (int sig = 1; sig < NSIG; sig++)
        signal(sig, SIG_DFL); /* fails for those that nobody can change, and that of the C library */
    if (!(flags & RESTORE_SIGNALS)) {
        signal(SIGPIPE, SIG_IGN);
        signal(SIGXFSZ, SIG_IGN);
    }
    sigemptyset(&none);
    return sigprocmask(SIG_SETMASK, &none, NULL) == 0;
}

static bool set_group_of_processes(const struct header *h)
{
    if (h->flags & NEW_SESSION && setsid() < 0)
        return false;
    if (h->process_group >= 0)
        return setpgid(0, (pid_t)h->process_group) == 0;
    /* Programs of ports are not in the emulator's session.  The child is not in this program's
     * group, so that a signal to the one it is in does not end this one as well. */
    return h->flags & NEW_SESSION || setpgid(0, 0) == 0;
}

static bool set_user(const struct request *r)
{
    const struct header *h = &r->h;
    return (!(h->flags & HAS_GROUPS) || setgroups((size_t)h->group_count, r->groups) == 0) &&
           (h->group < 0 || setregid((gid_t)h->group, (gid_t)h->group) == 0) &&
           (h->user < 0 || setreuid((uid_t)h->user, (uid_t)h->user) == 0);
}

/* As subprocess: the first error that does not mean that the program is not there. */
static void execute(const struct request *r)
{
    int error = 0;
    for (int64_t i = 0; i < r->h.path_count; i++) {
        execve(r->paths[i], r->args, r->env);
        if (errno != ENOENT && errno != ENOTDIR && error == 0)
            error = errno;
    }
    if (error != 0)
        errno = error;
}

static enum stage prepare_and_execute(struct request *r, int *errors)
{
    const struct header *h = &r->h;
    if (!place_descriptors(r, errors))
        return PREPARE;
    if (fchdir(r->fds[0]) < 0)
        return PREPARE;
    if (h->flags & HAS_CWD && chdir(r->cwd) < 0)
        return CHDIR;
    if (h->umask >= 0)
        umask((mode_t)h->umask);
    if (!set_signals(h->flags) || !set_group_of_processes(h) || !set_user(r))
        return PREPARE;
    execute(r);
    return EXEC;
}

/* ---- the child, from outside ---- */

static struct outcome failure(enum stage stage)
{
    return (struct outcome){.stage = (int32_t)stage, .error = errno};
}

static void reap(pid_t pid)
{
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
}

/* Waits until the child executes its program, or could not. */
static struct outcome start(struct request *r)
{
    int errors[2];
    struct outcome outcome;
    if (pipe2(errors, O_CLOEXEC) < 0)
        return failure(PREPARE);
    pid_t pid = fork();
    if (pid < 0)
        return failure(PREPARE);
    if (pid == 0) {
        outcome = failure(prepare_and_execute(r, &errors[1]));
        (void)!write(errors[1], &outcome, sizeof outcome);
        _exit(255);
    }
    close(errors[1]);
    if (receive(errors[0], &outcome, sizeof outcome))
        reap(pid);
    else
        outcome = (struct outcome){.pid = pid};
    close(errors[0]);
    return outcome;
}

/* The status that waitpid() would give, while the child stays to be reaped. */
static int32_t wait_for(pid_t pid)
{
    siginfo_t info;
    while (waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT) < 0 && errno == EINTR)
        ;
    if (info.si_code == CLD_EXITED)
        return W_EXITCODE(info.si_status, 0);
    return info.si_status | (info.si_code == CLD_DUMPED ? WCOREFLAG : 0);
}

static void attend(int conn, pid_t pid)
{
    char byte;
    if (!receive(conn, &byte, 1)) {
        kill(pid, SIGKILL);
    } else {
        int32_t status = wait_for(pid);
        if (reply(conn, &status, sizeof status))
            (void)receive(conn, &byte, 1); /* false: the end */
    }
    reap(pid);
}

int main(int argc, char **argv)
{
    static struct request request;
    int conn = argc == 2 ? connect_to(argv[1]) : -1;
    if (conn < 0)
        return 1;
    signal(SIGCHLD, SIG_DFL); /* ignored, it would have the kernel reap */
    /* Meant for the child, which has them as they were, and whose end is to be told. */
    signal(SIGTERM, SIG_IGN);
    signal(SIGINT, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    if (write(STDOUT_FILENO, "", 1) != 1 || !receive_request(conn, &request))
        return 0; /* nobody wants a child any more */
    struct outcome outcome = start(&request);
    for (int64_t i = 0; i < request.h.fd_count; i++)
        close(request.fds[i]);
    if (reply(conn, &outcome, sizeof outcome)) {
        if (outcome.pid > 0)
            attend(conn, outcome.pid);
    } else if (outcome.pid > 0) {
        kill(outcome.pid, SIGKILL);
        reap(outcome.pid);
    }
    return 0;
}
