// dataset.c - see dataset.h.
#include "data/dataset.h"
#include "base/log.h"
#include "data/chunk.h"
#include "data/text_blocks.h"

// A data set being read.
typedef struct Loader {
    DatasetBuilder builder;
    TextBlocks blocks;
    Chunk chunk;
    const LoadRequest *request;
    RecordCounts *counts;
} Loader;

static void note_bad(Loader *loader, const Unit *unit) {
    if (loader->counts->bad++ < BAD_RECORDS_SHOWN)
        log_warning("%s:%lld: %s", loader->chunk.source->path, (long long)unit->place.line,
                    unit->error ? unit->error->text : "the record cannot be used");
}

static bool keep_unit(Loader *loader, Unit *unit, Error *error) {
    const TokenList *tokens = &unit->encoded.tokens;
    bool plain = loader->chunk.source->format == FORMAT_PLAIN;
    if (unit->result == RECORD_FAILED) {
        if (!unit->error) return error_memory(error, "reading the data set", sizeof *error);
        *error = *unit->error;
        return false;
    }
    if (unit->result == RECORD_BAD) {
        note_bad(loader, unit);
        return true;
    }
    loader->counts->tokens += tokens->count;
    if (unit->kind != RECORD_TEXT)
        return dataset_builder_add(&loader->builder, tokens->ids, unit->encoded.trained, tokens->count, error);
    return text_blocks_add(&loader->blocks, tokens->ids, tokens->count, error) &&
           (plain || text_blocks_end_text(&loader->blocks, error));
}

// Reads at most `limit` records of a file; *taken counts them.
static bool load_file(Loader *loader, RecordFile *file, int64_t limit, int64_t *taken, Error *error) {
    const LoadRequest *request = loader->request;
    bool plain = file->plain != NULL;
    for (;;) {
        if (!chunk_read(&loader->chunk, file, plain ? INT64_MAX : limit - *taken, error)) return false;
        int64_t count = loader->chunk.count;
        if (count == 0) break;
        chunk_encode(&loader->chunk, request->pool);
        for (int64_t i = 0; i < count; i++)
            if (!keep_unit(loader, &loader->chunk.units[i], error)) return false;
        if (!plain) {
            *taken += count;
            loader->counts->records += count;
        }
        if (request->progress) request->progress(request->progress_context, loader->counts);
    }
    if (!plain) return true;
    ++*taken; // a plain file is one record
    loader->counts->records++;
    return text_blocks_end_text(&loader->blocks, error);
}

static bool load_files(Loader *loader, Error *error) {
    const DataSources *sources = loader->request->sources;
    int64_t taken = 0; // records of the current entry
    for (int64_t i = 0; i < sources->count; i++) {
        const DataSource *source = &sources->items[i];
        if (i > 0 && source->entry != sources->items[i - 1].entry) taken = 0;
        int64_t limit = source->limit ? source->limit : INT64_MAX;
        if (taken >= limit) continue;
        RecordFile file;
        bool ok = record_file_open(&file, source, error) && load_file(loader, &file, limit, &taken, error);
        record_file_close(&file);
        if (!ok) return false;
    }
    return text_blocks_finish(&loader->blocks, error);
}

static bool check_counts(const Loader *loader, Error *error) {
    const DataSources *sources = loader->request->sources;
    long long bad = loader->counts->bad, records = loader->counts->records;
    const char *shown = bad > BAD_RECORDS_SHOWN ? "; the first 20 are shown above" : "";
    if (bad && !loader->request->settings->skip_bad_records) {
        error_set(error, "%lld of %lld records cannot be used%s", bad, records, shown);
        return error_hint(error, "mend them, or leave them out: skip_bad_records: true");
    }
    if (bad) log_warning("%lld of %lld records cannot be used and are left out%s", bad, records, shown);
    if (loader->builder.dataset.count > 0) return true;
    error_set(error, "the data set %s%s is empty: it has no usable record", sources->items[0].path,
              sources->count > 1 ? ", ..." : "");
    return error_hint(error, "%s",
                      bad ? "mend the records that are named above, or raise cutoff_len where it leaves no target"
                          : "give a data set with at least one record (dataset)");
}

bool dataset_load(const LoadRequest *request, Dataset *dataset, RecordCounts *counts, Error *error) {
    Loader loader = {.request = request, .counts = counts};
    *counts = (RecordCounts){0};
    *dataset = (Dataset){0};
    bool ok = text_blocks_create(&loader.blocks, &loader.builder, request->settings->cutoff_len, error) &&
              chunk_create(&loader.chunk, request->encoder, thread_pool_size(request->pool), error);
    if (ok) {
        loader.blocks.bos = request->encoder->text_bos;
        loader.blocks.eos = request->encoder->text_eos;
        loader.blocks.across = request->share_blocks;
        ok = load_files(&loader, error) && check_counts(&loader, error) &&
             dataset_builder_finish(&loader.builder, dataset, error);
    }
    dataset_builder_free(&loader.builder);
    text_blocks_free(&loader.blocks);
    chunk_free(&loader.chunk);
    return ok;
}
