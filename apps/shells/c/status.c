#include "shell.h"

#include <stdio.h>
#include <string.h>

static const cJSON *at(const cJSON *object, const char *name)
{
    return cJSON_GetObjectItemCaseSensitive(object, name);
}

static const char *text(const cJSON *object, const char *name)
{
    const char *value = cJSON_GetStringValue(at(object, name));
    return value ? value : "";
}

static double number(const cJSON *object, const char *name)
{
    const cJSON *value = at(object, name);
    return cJSON_IsNumber(value) ? value->valuedouble : 0;
}

void status_line(const cJSON *result, char *line, size_t size)
{
    const cJSON *timings = at(result, "timings");
    const char *reason = text(result, "reason");
    snprintf(line, size, "[%s: %s | TTFT %.0f ms | %.1f tokens/s | %.0f tokens | %s%s%s]",
             text(result, "source"), text(result, "model"), number(timings, "ttft_ms"),
             number(timings, "decode_tps"), number(at(result, "usage"), "output_tokens"),
             text(result, "finish_reason"), *reason ? " | " : "", reason);
}
