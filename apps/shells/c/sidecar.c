#include "sidecar.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/select.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { HEADER_LINE = 256, HEADER_LINES = 16, MOST_BYTES = 64 << 20, GOODBYE_MS = 3000, LOOK_MS = 10 };

extern char **environ;

struct sidecar {
    pid_t pid;
    int to, from;
    int last_id;
    int status;
    bool ended, nonsense;
    char refused[256]; /* why it did not want to talk with us */
    size_t begin, end; /* of what is read and not yet used */
    char buffer[1 << 16];
};

static pid_t spawn(char *const command[], int in, int out)
{
    pid_t pid = -1;
    sigset_t none, pipe_only;
    posix_spawnattr_t attributes;
    posix_spawn_file_actions_t files;
    sigemptyset(&none);
    sigemptyset(&pipe_only);
    sigaddset(&pipe_only, SIGPIPE); /* the child must not inherit that we ignore it */
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &pipe_only);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_adddup2(&files, in, STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&files, out, STDOUT_FILENO);
    errno = posix_spawnp(&pid, command[0], &files, &attributes, command, environ);
    posix_spawn_file_actions_destroy(&files);
    posix_spawnattr_destroy(&attributes);
    return errno ? -1 : pid;
}

/* A pipe whose ends no child inherits unless it is given one; both above the standard three. */
static int make_pipe(int ends[2])
{
    int raw[2];
    if (pipe(raw))
        return -1;
    for (int i = 0; i < 2; i++) {
        ends[i] = fcntl(raw[i], F_DUPFD_CLOEXEC, 3);
        close(raw[i]);
    }
    return ends[0] < 0 || ends[1] < 0 ? -1 : 0;
}

struct sidecar *sidecar_start(char *const command[])
{
    int in[2], out[2];
    struct sidecar *s = calloc(1, sizeof *s);
    if (!s || make_pipe(in) || make_pipe(out))
        return NULL;
    signal(SIGPIPE, SIG_IGN); /* a write to an ended sidecar is an error, not our end */
    s->pid = spawn(command, in[0], out[1]);
    int error = errno;
    close(in[0]);
    close(out[1]);
    s->to = in[1];
    s->from = out[0];
    if (s->pid > 0)
        return s;
    close(s->to);
    close(s->from);
    free(s);
    errno = error;
    return NULL;
}

pid_t sidecar_pid(const struct sidecar *s)
{
    return s->pid;
}

/* Errors are not reported: whoever reads next learns that the sidecar has ended. */
static void write_all(int fd, const char *data, size_t size)
{
    while (size) {
        ssize_t written = write(fd, data, size);
        if (written < 0 && errno != EINTR)
            return;
        if (written > 0) {
            data += written;
            size -= (size_t)written;
        }
    }
}

static void send_message(struct sidecar *s, cJSON *message)
{
    cJSON_AddStringToObject(message, "jsonrpc", "2.0");
    char *body = cJSON_PrintUnformatted(message);
    cJSON_Delete(message);
    if (!body)
        return;
    char header[64];
    int length = snprintf(header, sizeof header, "Content-Length: %zu\r\n\r\n", strlen(body));
    write_all(s->to, header, (size_t)length);
    write_all(s->to, body, strlen(body));
    cJSON_free(body);
}

int sidecar_request(struct sidecar *s, const char *method, cJSON *params)
{
    cJSON *message = cJSON_CreateObject();
    cJSON_AddNumberToObject(message, "id", ++s->last_id);
    cJSON_AddStringToObject(message, "method", method);
    if (params)
        cJSON_AddItemToObject(message, "params", params);
    send_message(s, message);
    return s->last_id;
}

static void notify(struct sidecar *s, const char *method, cJSON *params)
{
    cJSON *message = cJSON_CreateObject();
    cJSON_AddStringToObject(message, "method", method);
    if (params)
        cJSON_AddItemToObject(message, "params", params);
    send_message(s, message);
}

cJSON *sidecar_initialize(struct sidecar *s, const char *client)
{
    cJSON *params = cJSON_CreateObject();
    cJSON_AddNumberToObject(params, "protocol", 1);
    cJSON *who = cJSON_AddObjectToObject(params, "client");
    cJSON_AddStringToObject(who, "name", client);
    cJSON_AddStringToObject(who, "version", "1");
    cJSON *can = cJSON_AddObjectToObject(params, "capabilities");
    cJSON_AddBoolToObject(can, "consent", false);
    sidecar_request(s, "initialize", params);

    struct sidecar_event event;
    sidecar_next(s, NULL, &event);
    cJSON *result = NULL;
    if (event.kind == SIDECAR_RESULT)
        result = cJSON_DetachItemFromObject(event.message, "result");
    const char *why = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(event.body, "message"));
    if (event.kind == SIDECAR_ERROR)
        snprintf(s->refused, sizeof s->refused, "%s", why ? why : "initialize was refused");
    sidecar_event_free(&event);
    return result;
}

void sidecar_cancel(struct sidecar *s, int id)
{
    cJSON *params = cJSON_CreateObject();
    cJSON_AddNumberToObject(params, "id", id);
    notify(s, "$/cancel", params);
}

/* 1: there is something to use; 0: the sidecar ended; -1: a signal came. */
static int fill(struct sidecar *s, const sigset_t *mask)
{
    if (s->begin < s->end)
        return 1;
    fd_set readable;
    FD_ZERO(&readable);
    FD_SET(s->from, &readable);
    if (mask && pselect(s->from + 1, &readable, NULL, NULL, NULL, mask) < 0 && errno == EINTR)
        return -1;
    ssize_t size;
    do
        size = read(s->from, s->buffer, sizeof s->buffer);
    while (size < 0 && errno == EINTR);
    s->begin = 0;
    s->end = size > 0 ? (size_t)size : 0;
    return size > 0;
}

/* A header line without its CR LF; false where there is none. Nothing interrupts within a message:
   the rest of it is on its way. */
static bool read_line(struct sidecar *s, char *line)
{
    for (size_t length = 0; fill(s, NULL) == 1; length++) {
        if ((s->nonsense = length == HEADER_LINE))
            break;
        line[length] = s->buffer[s->begin++];
        if (line[length] != '\n')
            continue;
        line[length && line[length - 1] == '\r' ? length - 1 : length] = '\0';
        return true;
    }
    return false;
}

/* The length of the body that follows; -1 where the sidecar ended, or sends what is no header. */
static long read_header(struct sidecar *s)
{
    char line[HEADER_LINE];
    long length = -1;
    for (int lines = 0; lines < HEADER_LINES; lines++) {
        if (!read_line(s, line))
            return -1;
        if (!*line && length >= 0 && length <= MOST_BYTES)
            return length;
        if (!strncasecmp(line, "Content-Length:", 15))
            length = strtol(line + 15, NULL, 10);
    }
    s->nonsense = true;
    return -1;
}

static cJSON *read_message(struct sidecar *s)
{
    long length = read_header(s);
    char *body = length < 0 ? NULL : malloc((size_t)length);
    size_t have = 0;
    while (body && have < (size_t)length && fill(s, NULL) == 1) {
        size_t part = s->end - s->begin;
        if (part > (size_t)length - have)
            part = (size_t)length - have;
        memcpy(body + have, s->buffer + s->begin, part);
        s->begin += part;
        have += part;
    }
    bool whole = body && have == (size_t)length;
    cJSON *message = whole ? cJSON_ParseWithLength(body, have) : NULL;
    s->nonsense = s->nonsense || (whole && !message);
    free(body);
    return message;
}

static int id_of(const cJSON *holder)
{
    const cJSON *id = cJSON_GetObjectItemCaseSensitive(holder, "id");
    return cJSON_IsNumber(id) ? id->valueint : 0;
}

/* False for messages that are nobody's: requests of the sidecar are refused, others passed over. */
static bool understand(struct sidecar *s, struct sidecar_event *event)
{
    const char *method = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(event->message, "method"));
    cJSON *params = cJSON_GetObjectItemCaseSensitive(event->message, "params");
    event->id = id_of(method ? params : event->message);
    if (method) {
        event->body = params;
        event->kind = !strcmp(method, "$/token") ? SIDECAR_TOKEN : SIDECAR_STAGE;
        if (id_of(event->message)) {
            cJSON *reply = cJSON_CreateObject();
            cJSON_AddItemToObject(reply, "id", cJSON_DetachItemFromObject(event->message, "id"));
            cJSON *error = cJSON_AddObjectToObject(reply, "error");
            cJSON_AddNumberToObject(error, "code", -32601);
            cJSON_AddStringToObject(error, "message", "this client answers no requests");
            send_message(s, reply);
            return false;
        }
        return event->kind == SIDECAR_TOKEN || !strcmp(method, "$/stage");
    }
    event->body = cJSON_GetObjectItemCaseSensitive(event->message, "error");
    event->kind = event->body ? SIDECAR_ERROR : SIDECAR_RESULT;
    if (!event->body)
        event->body = cJSON_GetObjectItemCaseSensitive(event->message, "result");
    return true;
}

void sidecar_next(struct sidecar *s, const sigset_t *mask, struct sidecar_event *event)
{
    do {
        *event = (struct sidecar_event){.kind = SIDECAR_LOST};
        int there = fill(s, mask);
        if (there < 0)
            event->kind = SIDECAR_INTERRUPTED;
        if (there < 1 || !(event->message = read_message(s)))
            return;
        if (understand(s, event))
            return;
        sidecar_event_free(event);
    } while (true);
}

bool sidecar_before(const struct sidecar *s, int fd)
{
    struct pollfd either[] = {{.fd = s->from, .events = POLLIN}, {.fd = fd, .events = POLLIN}};
    if (s->begin < s->end)
        return true;
    while (poll(either, 2, -1) < 0 && errno == EINTR)
        continue;
    return either[0].revents != 0;
}

void sidecar_event_free(struct sidecar_event *event)
{
    cJSON_Delete(event->message);
    event->message = event->body = NULL;
}

static void wait_for_end(struct sidecar *s)
{
    const struct timespec look = {.tv_nsec = LOOK_MS * 1000000L};
    for (int waited = 0; !s->ended && waited < GOODBYE_MS; waited += LOOK_MS) {
        s->ended = waitpid(s->pid, &s->status, WNOHANG) != 0;
        if (!s->ended)
            nanosleep(&look, NULL);
    }
    if (s->ended)
        return;
    kill(s->pid, SIGKILL);
    waitpid(s->pid, &s->status, 0);
    s->ended = true;
}

int sidecar_stop(struct sidecar *s)
{
    notify(s, "exit", NULL);
    close(s->to);
    wait_for_end(s);
    int code = WIFSIGNALED(s->status) ? 128 + WTERMSIG(s->status) : WEXITSTATUS(s->status);
    close(s->from);
    free(s);
    return code;
}

void sidecar_lost(struct sidecar *s, char *text, size_t size)
{
    if (s->nonsense || *s->refused)
        kill(s->pid, SIGKILL);
    wait_for_end(s);
    if (*s->refused)
        snprintf(text, size, "the sidecar refused: %s", s->refused);
    else if (s->nonsense)
        snprintf(text, size, "the sidecar sent something that is no message; it was ended");
    else if (WIFSIGNALED(s->status))
        snprintf(text, size, "the sidecar ended: killed by signal %d", WTERMSIG(s->status));
    else
        snprintf(text, size, "the sidecar ended: exit code %d", WEXITSTATUS(s->status));
}
