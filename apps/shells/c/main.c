/* A conversation in the terminal: Ctrl-C ends an answer, Ctrl-D the program. */
#include "shell.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/select.h>
#include <unistd.h>

enum { LINE = 1024 };

static sigset_t waiting; /* the mask while waiting for the sidecar: SIGINT comes through */

static void on_interrupt(int signal_number)
{
    (void)signal_number; /* that the wait ends is all it is for */
}

/* SIGINT is blocked but where we wait, so that it is never missed between a look and a wait. */
static void catch_interrupts(void)
{
    struct sigaction action = {.sa_handler = on_interrupt};
    sigset_t interrupt;
    sigemptyset(&interrupt);
    sigaddset(&interrupt, SIGINT);
    sigaction(SIGINT, &action, NULL);
    sigprocmask(SIG_BLOCK, &interrupt, &waiting);
}

static void add_message(cJSON *messages, const char *role, const char *content)
{
    cJSON *message = cJSON_CreateObject();
    cJSON_AddStringToObject(message, "role", role);
    cJSON_AddStringToObject(message, "content", content);
    cJSON_AddItemToArray(messages, message);
}

static const char *text(const cJSON *object, const char *name)
{
    const char *value = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, name));
    return value ? value : "";
}

static void show_stage(const cJSON *stage)
{
    const cJSON *elapsed = cJSON_GetObjectItemCaseSensitive(stage, "elapsed_ms");
    bool ready = !strcmp(text(stage, "stage"), "ready");
    if (ready)
        fputs("\r\033[K", stderr);
    else
        fprintf(stderr, "\r\033[K%s %s, %.1f s", text(stage, "stage"), text(stage, "model"),
                cJSON_IsNumber(elapsed) ? elapsed->valuedouble / 1000 : 0);
}

/* The result's text is the answer: shown anew where it is not what was streamed. */
static void show_result(const cJSON *result, const char *streamed)
{
    char line[LINE];
    if (strcmp(text(result, "text"), streamed))
        printf("\n[in place of the draft above:]\n%s", text(result, "text"));
    status_line(result, line, sizeof line);
    printf("\n%s\n", line);
}

static char *append(char *all, const char *more)
{
    size_t length = all ? strlen(all) : 0;
    char *longer = realloc(all, length + strlen(more) + 1);
    if (!longer)
        abort();
    strcpy(longer + length, more);
    return longer;
}

static cJSON *chat_params(const cJSON *messages)
{
    cJSON *params = cJSON_CreateObject();
    cJSON_AddItemToObject(params, "messages", cJSON_Duplicate(messages, true));
    cJSON *options = cJSON_AddObjectToObject(params, "options");
    cJSON_AddBoolToObject(options, "truncate", true);
    return params;
}

/* Streams the answer to the last message and adds it; false where the sidecar ended. */
static bool answer(struct sidecar *s, cJSON *messages)
{
    int id = sidecar_request(s, "chat", chat_params(messages));
    char *streamed = append(NULL, "");
    struct sidecar_event event = {.kind = SIDECAR_STAGE};
    while (event.kind != SIDECAR_RESULT && event.kind != SIDECAR_ERROR) {
        sidecar_next(s, &waiting, &event);
        if (event.kind == SIDECAR_LOST)
            break;
        if (event.kind == SIDECAR_INTERRUPTED) {
            sidecar_cancel(s, id);
        } else if (event.kind == SIDECAR_STAGE) {
            show_stage(event.body);
        } else if (event.kind == SIDECAR_TOKEN) {
            fputs(text(event.body, "text"), stdout);
            streamed = append(streamed, text(event.body, "text"));
        } else if (event.kind == SIDECAR_RESULT) {
            show_result(event.body, streamed);
            add_message(messages, "assistant", text(event.body, "text"));
        } else {
            fprintf(stderr, "\r\033[K%s\n", text(event.body, "message"));
            cJSON_DeleteItemFromArray(messages, cJSON_GetArraySize(messages) - 1);
        }
        fflush(stdout);
        sidecar_event_free(&event);
    }
    free(streamed);
    return event.kind != SIDECAR_LOST;
}

/* Waits for something to read; false where Ctrl-C came instead. */
static bool wait_for_input(void)
{
    fd_set readable;
    FD_ZERO(&readable);
    FD_SET(STDIN_FILENO, &readable);
    return pselect(STDIN_FILENO + 1, &readable, NULL, NULL, NULL, &waiting) >= 0 || errno != EINTR;
}

/* A question without its end of line; false at the end of input. */
static bool read_question(char **line, size_t *size)
{
    fputs("> ", stdout);
    fflush(stdout);
    while (!wait_for_input()) {
        fputs("\n(Ctrl-D ends the program)\n> ", stdout);
        fflush(stdout);
    }
    if (getline(line, size, stdin) < 0)
        return false;
    (*line)[strcspn(*line, "\r\n")] = '\0';
    return true;
}

static bool converse(struct sidecar *s)
{
    cJSON *server = sidecar_initialize(s, "ondevice-shell-c");
    if (!server)
        return false;
    printf("%s is ready. Ctrl-C ends an answer, Ctrl-D the program.\n", text(server, "default"));
    cJSON_Delete(server);
    cJSON *messages = cJSON_CreateArray();
    char *line = NULL;
    size_t size = 0;
    bool well = true;
    while (well && read_question(&line, &size)) {
        if (!*line)
            continue;
        add_message(messages, "user", line);
        well = answer(s, messages);
    }
    free(line);
    cJSON_Delete(messages);
    puts("");
    return well;
}

int main(int argc, char *argv[])
{
    static char *standard[] = {"ondevice", "stdio", NULL};
    bool scripted = argc > 1 && !strcmp(argv[1], "--conformance");
    char **command = argv + (scripted ? 2 : 1);
    if (*command && **command == '-') {
        fprintf(stderr, "usage: %s [--conformance] [SIDECAR COMMAND: ondevice stdio]\n", argv[0]);
        return 2;
    }
    setvbuf(stdin, NULL, _IONBF, 0); /* what is in a buffer, select and poll would not see */
    if (!scripted)
        catch_interrupts();
    struct sidecar *s = sidecar_start(*command ? command : standard);
    if (!s) {
        fprintf(stderr, "%s cannot be started: %s\n", *command ? *command : *standard, strerror(errno));
        return 1;
    }
    if (scripted)
        return conformance(s);
    if (converse(s))
        return sidecar_stop(s);
    char why[LINE];
    sidecar_lost(s, why, sizeof why);
    fprintf(stderr, "%s\n", why);
    sidecar_stop(s);
    return 1;
}
