// fuzz_records.c - the data readers on any bytes as a file: JSON records in every format, plain text,
// dataset_info.json.
#include "base/buffer.h"
#include "data/dataset_info.h"
#include "data/detect.h"
#include "data/json_stream.h"
#include "data/plain_stream.h"
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

// What is good must hold what record.h promises.
static void check_record(const Record *record) {
    if (record->kind == RECORD_TEXT && !record->text) abort();
    if (record->kind == RECORD_COMPLETION && (!record->prompt || !record->completion)) abort();
    if (record->kind != RECORD_CHAT) return;
    if (record->count < 2 || record->messages[record->count - 1].role != ROLE_ASSISTANT) abort();
    for (int i = 0; i < record->count; i++)
        if (!record->messages[i].text) abort();
}

static void read_records(const char *path, Record *record) {
    Error error;
    Buffer text = BUFFER_EMPTY;
    JsonPlace place;
    bool found;
    JsonStream *stream = json_stream_open(path, &error);
    while (stream && json_stream_next(stream, &text, &place, &found, &error) && found) {
        json_t *value = json_parse(text.data, text.size, path, place.line, place.column, &error);
        for (int format = FORMAT_ALPACA; value && format <= FORMAT_TEXT; format++) {
            RecordKeys keys = record_keys((DataFormat)format);
            if (record_from_json((DataFormat)format, &keys, value, record, &error) == RECORD_GOOD) check_record(record);
        }
        DatasetInfo info;
        if (value && dataset_info_read(value, "fuzz", &info, &error) && !info.file_name) abort();
        json_decref(value);
        buffer_clear(&text);
    }
    json_stream_close(stream);
    buffer_free(&text);
}

static void read_plain(const char *path) {
    Error error;
    Buffer text = BUFFER_EMPTY;
    int64_t line;
    bool found;
    PlainStream *stream = plain_stream_open(path, &error);
    while (stream && plain_stream_next(stream, &text, &line, &found, &error) && found) buffer_clear(&text);
    plain_stream_close(stream);
    buffer_free(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    int file = memfd_create("fuzz", MFD_CLOEXEC);
    if (file < 0 || write(file, data, size) != (ssize_t)size) abort();
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    Record record = {0};
    Error error;
    DataFormat format;
    RecordKeys keys;
    read_records(path, &record);
    read_plain(path);
    data_detect(path, &format, &keys, &error);
    record_free(&record);
    close(file);
    return 0;
}
