/* The mode that apps/shells/conformance.py talks with; see "Conformance mode" in docs/shells.md. */
#include "shell.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MOST_REQUESTS = 64, LINE = 1024 };

struct request {
    char tag[32];
    int id;
    int tokens;
    int cancel_after; /* -1: never */
    bool over;
};

static struct request requests[MOST_REQUESTS];
static int count;

static cJSON *new_event(const char *name, const char *tag)
{
    cJSON *event = cJSON_CreateObject();
    cJSON_AddStringToObject(event, "event", name);
    if (tag)
        cJSON_AddStringToObject(event, "tag", tag);
    return event;
}

static void print_event(cJSON *event)
{
    char *line = cJSON_PrintUnformatted(event);
    puts(line);
    fflush(stdout);
    cJSON_free(line);
    cJSON_Delete(event);
}

static struct request *find(const char *tag, int id)
{
    for (int i = count; i-- > 0;)
        if (tag ? !strcmp(requests[i].tag, tag) : requests[i].id == id)
            return &requests[i];
    return NULL;
}

static void copy(cJSON *to, const cJSON *from, const char *name)
{
    const cJSON *value = cJSON_GetObjectItemCaseSensitive(from, name);
    if (value)
        cJSON_AddItemToObject(to, name, cJSON_Duplicate(value, true));
}

static void print_result(const struct request *request, const cJSON *result)
{
    bool answer = cJSON_GetObjectItemCaseSensitive(result, "timings") != NULL;
    cJSON *event = new_event("result", request->tag);
    cJSON_AddItemToObject(event, "result", cJSON_Duplicate(result, true));
    if (answer) {
        char line[LINE];
        status_line(result, line, sizeof line);
        cJSON_AddStringToObject(event, "line", line);
    }
    print_event(event);
}

static void take(struct sidecar *s, struct request *request, const struct sidecar_event *got)
{
    static const char *const names[] = {"stage", "token", "result", "error"};
    request->over = got->kind == SIDECAR_RESULT || got->kind == SIDECAR_ERROR;
    if (got->kind == SIDECAR_RESULT) {
        print_result(request, got->body);
        return;
    }
    cJSON *event = new_event(names[got->kind], request->tag);
    static const char *const fields[] = {"stage", "model", "ahead", "text", "provisional", "code", "message"};
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        copy(event, got->body, fields[i]);
    print_event(event);
    if (got->kind == SIDECAR_TOKEN && ++request->tokens == request->cancel_after)
        sidecar_cancel(s, request->id);
}

/* Takes one message; false where the sidecar has ended. */
static bool take_next(struct sidecar *s)
{
    struct sidecar_event got;
    sidecar_next(s, NULL, &got);
    struct request *of = find(NULL, got.id);
    if (of && got.kind != SIDECAR_LOST)
        take(s, of, &got);
    sidecar_event_free(&got);
    return got.kind != SIDECAR_LOST;
}

static bool wait_for(struct sidecar *s, const struct request *request)
{
    while (!request->over)
        if (!take_next(s))
            return false;
    return true;
}

static struct request *begin(struct sidecar *s, const char *tag, const char *method, cJSON *params)
{
    if (count == MOST_REQUESTS) {
        fputs("too many requests for a transcript\n", stderr);
        exit(2);
    }
    struct request *request = &requests[count++];
    snprintf(request->tag, sizeof request->tag, "%s", tag);
    request->cancel_after = -1;
    request->id = sidecar_request(s, method, params);
    return request;
}

/* Does one command; false where the sidecar ended. */
static bool obey(struct sidecar *s, cJSON *command)
{
    const char *what = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(command, "do"));
    const char *tag = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(command, "tag"));
    const char *method = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(command, "method"));
    if (what && tag && method && !strcmp(what, "request")) {
        const cJSON *after = cJSON_GetObjectItemCaseSensitive(command, "cancel_after");
        struct request *request =
            begin(s, tag, method, cJSON_DetachItemFromObjectCaseSensitive(command, "params"));
        if (cJSON_IsNumber(after))
            request->cancel_after = after->valueint;
        if (request->cancel_after == 0)
            sidecar_cancel(s, request->id);
        return true;
    }
    struct request *request = what && tag && !strcmp(what, "wait") ? find(tag, 0) : NULL;
    if (!request) {
        fputs("not a command of a transcript\n", stderr);
        exit(2);
    }
    return wait_for(s, request);
}

/* Commands as they come, messages in between; false where the sidecar ended. */
static bool run(struct sidecar *s)
{
    char *line = NULL;
    size_t size = 0;
    bool well = true, more = true;
    while (well && more) {
        if (sidecar_before(s, STDIN_FILENO)) {
            well = take_next(s);
        } else if ((more = getline(&line, &size, stdin) > 0)) {
            cJSON *command = cJSON_Parse(line);
            well = obey(s, command);
            cJSON_Delete(command);
        }
    }
    free(line);
    return well && wait_for(s, begin(s, "shutdown", "shutdown", NULL));
}

int conformance(struct sidecar *s)
{
    cJSON *started = new_event("started", NULL);
    cJSON_AddNumberToObject(started, "pid", (double)sidecar_pid(s));
    print_event(started);
    cJSON *server = sidecar_initialize(s, "ondevice-shell-c");
    if (server) {
        cJSON *ready = new_event("ready", NULL);
        cJSON_AddItemToObject(ready, "result", server);
        print_event(ready);
    }
    if (server && run(s)) {
        cJSON *closed = new_event("closed", NULL);
        cJSON_AddNumberToObject(closed, "code", sidecar_stop(s));
        print_event(closed);
        return 0;
    }
    char why[LINE];
    sidecar_lost(s, why, sizeof why);
    cJSON *lost = new_event("lost", NULL);
    cJSON_AddStringToObject(lost, "message", why);
    print_event(lost);
    fprintf(stderr, "%s\n", why);
    sidecar_stop(s);
    return 1;
}
