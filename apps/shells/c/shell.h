/* What the two modes of the shell share. */
#ifndef ONDEVICE_SHELL_H
#define ONDEVICE_SHELL_H

#include "sidecar.h"

/* The line under an answer: where it came from and how fast. Writes up to `size` bytes. */
void status_line(const cJSON *result, char *line, size_t size);

/* Reads commands as JSON lines from stdin, prints events as JSON lines. Returns the exit code. */
int conformance(struct sidecar *s);

#endif
