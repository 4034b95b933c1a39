// report.c - see report.h.
#include "cli/report.h"
#include "base/numbers.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME_WIDTH 24 // where values start on a line

void report_start(Report *report) {
    report->object = json_object();
}

void report_free(Report *report) {
    json_decref(report->object);
    report->object = NULL;
}

void report_value(Report *report, const char *name, json_t *value) {
    // json_object_set_new refuses NULL, which is what jansson returns without memory.
    if (report->object && json_object_set_new(report->object, name, value)) report_free(report);
}

void report_text(Report *report, const char *name, const char *text) {
    if (text) report_value(report, name, json_string(text));
}

void report_integer(Report *report, const char *name, int64_t value) {
    report_value(report, name, json_integer(value));
}

void report_number(Report *report, const char *name, double value) {
    report_value(report, name, isfinite(value) ? json_real(value) : json_null());
}

void report_boolean(Report *report, const char *name, bool value) {
    report_value(report, name, json_boolean(value));
}

void report_bytes(Report *report, const char *name, uint64_t bytes) {
    char key[64];
    snprintf(key, sizeof key, "%s_bytes", name);
    report_value(report, key, json_integer((json_int_t)bytes));
}

static bool ends_in_bytes(const char *name) {
    size_t length = strlen(name);
    return length > 6 && !strcmp(name + length - 6, "_bytes");
}

static void print_name(const char *name) {
    int length = (int)strlen(name) - (ends_in_bytes(name) ? 6 : 0);
    for (int i = 0; i < length; i++) putchar(name[i] == '_' ? ' ' : name[i]);
    printf("%*s", length < NAME_WIDTH ? NAME_WIDTH - length : 1, "");
}

static void print_value(const char *name, const json_t *value) {
    char size[16];
    if (json_is_string(value)) {
        printf("%s", json_string_value(value));
    } else if (json_is_integer(value) && ends_in_bytes(name)) {
        printf("%s (%" JSON_INTEGER_FORMAT " bytes)", format_bytes(size, (uint64_t)json_integer_value(value)),
               json_integer_value(value));
    } else if (json_is_integer(value)) {
        printf("%" JSON_INTEGER_FORMAT, json_integer_value(value));
    } else if (json_is_real(value)) {
        printf("%.6g", json_real_value(value));
    } else if (json_is_boolean(value)) {
        printf("%s", json_is_true(value) ? "yes" : "no");
    } else if (json_is_array(value)) {
        for (size_t i = 0; i < json_array_size(value); i++) {
            if (i) printf(", ");
            print_value(name, json_array_get(value, i));
        }
    } else {
        printf("none");
    }
}

bool report_print(Report *report, bool json, Error *error) {
    char *text = json && report->object ? json_to_text(report->object) : NULL;
    bool good = report->object && (text || !json);
    const char *name;
    json_t *value;
    if (text) {
        fputs(text, stdout);
    } else if (good) {
        json_object_foreach(report->object, name, value) {
            print_name(name);
            print_value(name, value);
            putchar('\n');
        }
    }
    free(text);
    report_free(report);
    return good || error_memory(error, "the report", 0);
}
