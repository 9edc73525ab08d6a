/* The client of `ondevice stdio`: starts it, sends requests, hands out what comes back.
   Knows nothing of terminals. Not for use from more than one thread. */
#ifndef ONDEVICE_SIDECAR_H
#define ONDEVICE_SIDECAR_H

#include <cjson/cJSON.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/types.h>

struct sidecar;

enum sidecar_kind {
    SIDECAR_STAGE,       /* body: {stage, model, ahead, elapsed_ms} */
    SIDECAR_TOKEN,       /* body: {text, provisional} */
    SIDECAR_RESULT,      /* body: the result; the request is over */
    SIDECAR_ERROR,       /* body: {code, message}; the request is over */
    SIDECAR_INTERRUPTED, /* a signal came while waiting; no body */
    SIDECAR_LOST         /* the sidecar ended, or talks nonsense; no body */
};

struct sidecar_event {
    enum sidecar_kind kind;
    int id;      /* of the request it belongs to */
    cJSON *body; /* belongs to `message` */
    cJSON *message;
};

/* Starts `command` (found through PATH, ended by NULL). NULL with errno where that fails. */
struct sidecar *sidecar_start(char *const command[]);
pid_t sidecar_pid(const struct sidecar *s);

/* Sends a request and returns its id. Takes `params` over. */
int sidecar_request(struct sidecar *s, const char *method, cJSON *params);

/* `initialize` and its result, for the caller to delete; NULL where the sidecar ended or refused. */
cJSON *sidecar_initialize(struct sidecar *s, const char *client);

/* Asks for the end of a request; its result or error comes all the same. */
void sidecar_cancel(struct sidecar *s, int id);

/* Waits for the next event. `mask`, if any, is the signal mask while waiting: block a signal
   everywhere else and it is never missed. Free each event. */
void sidecar_next(struct sidecar *s, const sigset_t *mask, struct sidecar_event *event);
void sidecar_event_free(struct sidecar_event *event);

/* Waits for the sidecar or for `fd`, whichever comes first; true where the sidecar has something. */
bool sidecar_before(const struct sidecar *s, int fd);

/* Says goodbye and waits for the end; kills what has not ended after three seconds. Returns the
   exit code, or 128 and the signal's number. */
int sidecar_stop(struct sidecar *s);

/* What a person is told after SIDECAR_LOST; writes up to `size` bytes. */
void sidecar_lost(struct sidecar *s, char *text, size_t size);

#endif
