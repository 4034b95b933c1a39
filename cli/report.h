// report.h - what a command found out, as lines for a person or as one JSON object.
//
// Names are the JSON keys; on a line `_` is shown as a space. Nothing is printed before report_print, so a command that
// fails half way prints nothing.
#pragma once
#include "base/error.h"
#include "base/json.h"
#include <stdbool.h>
#include <stdint.h>

typedef struct Report {
    json_t *object; // NULL after memory ran out
} Report;

void report_start(Report *report);
void report_text(Report *report, const char *name, const char *text); // NULL: left out
void report_integer(Report *report, const char *name, int64_t value);
void report_number(Report *report, const char *name, double value); // not finite: null
void report_boolean(Report *report, const char *name, bool value);
// A number of bytes: "1.5 GiB (1610612736 bytes)" for a person.
void report_bytes(Report *report, const char *name, uint64_t bytes);
// Any JSON value; the report takes the reference.
void report_value(Report *report, const char *name, json_t *value);
// Prints to stdout and frees. false when memory ran out on the way.
bool report_print(Report *report, bool json, Error *error);
void report_free(Report *report); // when a command fails before printing
