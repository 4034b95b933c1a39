// checkpoint.c - saving and loading a training run. See checkpoint.h.
#include "train/checkpoint.h"
#include "base/files.h"
#include "base/safetensors.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#define DATA_KEY   "training data (CRC-32 of its tokens)"
#define STATE_FILE "lisa_state.safetensors"
#define STATE_PART ((int64_t)1 << 22) // elements copied from the device at a time

// ---- the settings that decide what a run computes ----

// What tells one model from another of the same shapes: the last name of its real path, which stays when folders above
// it move.
static json_t *model_name(const ModelSource *source) {
    char *path = realpath(model_source_path(source), NULL);
    json_t *name = json_string(path_name(path ? path : model_source_path(source)));
    free(path);
    return name;
}

// Tokens, targets, and where examples and sequences begin.
static json_int_t data_checksum(const Dataset *data) {
    size_t tokens = (size_t)data->starts[data->count];
    uLong crc = crc32_z(0, (const void *)data->ids, tokens * sizeof *data->ids);
    crc = crc32_z(crc, data->trained, tokens);
    crc = crc32_z(crc, (const void *)data->starts, ((size_t)data->count + 1) * sizeof *data->starts);
    crc = crc32_z(crc, (const void *)data->sequence_starts,
                  ((size_t)data->sequences + 1) * sizeof *data->sequence_starts);
    return (json_int_t)crc;
}

// NULL when memory runs out.
static json_t *settings_json(const TrainSettings *s, const CheckpointFacts *facts) {
    json_t *all =
        json_pack("{s:s, s:I, s:I, s:s, s:b, s:I, s:I, s:I, s:I}", "finetuning_type",
                  s->finetuning_type == METHOD_FULL ? "full" : "lisa", "lisa_activated_layers",
                  (json_int_t)s->lisa_activated_layers, "lisa_interval_steps", (json_int_t)s->lisa_interval_steps,
                  "lisa_sampling", s->lisa_sampling == SAMPLING_CYCLE ? "cycle" : "uniform", "lisa_keep_low_bits",
                  (int)s->lisa_keep_low_bits, "seed", (json_int_t)s->seed, "sequences per step",
                  (json_int_t)(s->per_device_train_batch_size * s->gradient_accumulation_steps), "steps of the run",
                  (json_int_t)facts->steps, "warmup_steps", (json_int_t)s->warmup_steps);
    static const char *const schedules[] = {"cosine", "linear", "constant", "constant_with_warmup"};
    bool ok = json_object_set_new(all, "lr_scheduler_type", json_string(schedules[s->lr_scheduler_type])) == 0 &&
              json_object_set_new(all, "learning_rate", json_real(s->learning_rate)) == 0 &&
              json_object_set_new(all, "warmup_ratio", json_real(s->warmup_ratio)) == 0 &&
              json_object_set_new(all, "weight_decay", json_real(s->weight_decay)) == 0 &&
              json_object_set_new(all, "adam_beta1", json_real(s->adam_beta1)) == 0 &&
              json_object_set_new(all, "adam_beta2", json_real(s->adam_beta2)) == 0 &&
              json_object_set_new(all, "adam_epsilon", json_real(s->adam_epsilon)) == 0 &&
              json_object_set_new(all, "max_grad_norm", json_real(s->max_grad_norm)) == 0 &&
              json_object_set_new(all, "optim_bits", json_integer(s->optim_bits == OPTIM_BITS_16 ? 16 : 32)) == 0 &&
              json_object_set_new(all, "disable_shuffling", json_boolean(!facts->shuffle)) == 0 &&
              json_object_set_new(all, "model", model_name(facts->source)) == 0 &&
              json_object_set_new(all, DATA_KEY, json_integer(data_checksum(facts->dataset))) == 0;
    if (ok) return all;
    json_decref(all);
    return NULL;
}

// What the checkpoint was made with, the caller's; NULL when it does not say. Those older than optim_bits say nothing
// of it and had 32.
static json_t *saved_setting(const json_t *saved, const char *name) {
    json_t *value = json_object_get(saved, name);
    bool older = !value && strcmp(name, "optim_bits") == 0;
    return older ? json_integer(32) : json_incref(value);
}

static bool compare_settings(const json_t *saved, const TrainSettings *settings, const CheckpointFacts *facts,
                             const char *path, Error *error) {
    json_t *now = settings_json(settings, facts), *value;
    const char *name;
    bool ok = now || error_memory(error, "manifest.json", 65536);
    json_object_foreach(now, name, value) {
        json_t *before = saved_setting(saved, name);
        if (json_equal(before, value)) {
            json_decref(before);
            continue;
        }
        char *was = before ? json_dumps(before, JSON_ENCODE_ANY | JSON_REAL_PRECISION(9)) : NULL;
        char *is = json_dumps(value, JSON_ENCODE_ANY | JSON_REAL_PRECISION(9));
        error_set(error, "%s was made with %s %s, this run has %s", path, name, was ? was : "absent", is ? is : "?");
        ok = error_hint(error,
                        "%s, name another output_dir to start a new run, or overwrite_output_dir=true to start "
                        "anew in this one",
                        strcmp(name, DATA_KEY) ? "give the old value to go on from it"
                                               : "to go on from it, give the same data and the same choices about it "
                                                 "(cutoff_len, template, val_size, packing, ...)");
        free(was);
        free(is);
        json_decref(before);
        break;
    }
    json_decref(now);
    return ok;
}

// ---- the state file ----

typedef enum { STATE_M, STATE_V, STATE_LOW_BITS, STATE_KINDS } StateKind;
static const char *const state_names[STATE_KINDS] = {"m", "v", "low_bits"};

typedef struct StateTensor {
    char name[32];      // "block.3.m"
    const void *memory; // of the backend
    int64_t elements;
    SafetensorsType type;
} StateTensor;

static SafetensorsType state_type(const Slot *slot, StateKind kind) {
    if (kind == STATE_LOW_BITS) return SAFETENSORS_I16;
    return slot->moment_size == sizeof(bf16) ? SAFETENSORS_BF16 : SAFETENSORS_F32;
}

static StateTensor state_tensor(const Slot *slot, StateKind kind) {
    StateTensor t = {.elements = slot->elements, .type = state_type(slot, kind)};
    t.memory = kind == STATE_M ? (const void *)slot->m : kind == STATE_V ? (const void *)slot->v : slot->low_bits;
    snprintf(t.name, sizeof t.name, "block.%d.%s", slot->block, state_names[kind]);
    return t;
}

// All tensors of the state; the caller's array, NULL without memory.
static StateTensor *list_state(const Trainer *trainer, size_t *count) {
    const ActiveSet *active = &trainer->active;
    StateTensor *list = calloc((size_t)active->blocks * STATE_KINDS, sizeof *list);
    *count = 0;
    for (int block = 0; list && block < active->blocks; block++) {
        const Slot *slot = active->of_block[block];
        for (int kind = 0; slot && kind < STATE_KINDS; kind++) list[(*count)++] = state_tensor(slot, (StateKind)kind);
        if (slot || !active->parked || !active->parked[block]) continue;
        StateTensor parked = {.memory = active->parked[block], .type = SAFETENSORS_I16};
        parked.elements = trainer->store.layout.layer.elements;
        snprintf(parked.name, sizeof parked.name, "block.%d.%s", block, state_names[STATE_LOW_BITS]);
        list[(*count)++] = parked;
    }
    return list;
}

static SafetensorsEntry *entries_of(const StateTensor *list, size_t count) {
    SafetensorsEntry *entries = calloc(count, sizeof *entries);
    for (size_t i = 0; entries && i < count; i++)
        entries[i] = (SafetensorsEntry){.name = list[i].name,
                                        .type = list[i].type,
                                        .dimensions = 1,
                                        .shape = {list[i].elements},
                                        .tag = (int64_t)i};
    return entries;
}

// Copies a tensor part by part through host memory into the file.
static bool write_tensor(Backend *b, SafetensorsWriter *writer, const StateTensor *tensor, void *part, Error *error) {
    size_t size = safetensors_type_size(tensor->type);
    for (int64_t done = 0; done < tensor->elements; done += STATE_PART) {
        int64_t some = tensor->elements - done < STATE_PART ? tensor->elements - done : STATE_PART;
        size_t bytes = (size_t)some * size;
        b->copy(b, part, (const unsigned char *)tensor->memory + (size_t)done * size, bytes, NULL);
        b->synchronize(b, NULL);
        if (!safetensors_write(writer, part, bytes, error)) return false;
    }
    return true;
}

static bool write_state(Trainer *trainer, const char *folder, json_t *files, Error *error) {
    size_t count;
    StateTensor *list = list_state(trainer, &count);
    SafetensorsEntry *entries = list ? entries_of(list, count) : NULL;
    char *path = path_join(folder, STATE_FILE);
    void *part = malloc((size_t)STATE_PART * sizeof(float));
    bool ok = entries && path && part;
    if (!ok) error_memory(error, STATE_FILE, (size_t)STATE_PART * sizeof(float));
    SafetensorsWriter *writer = ok ? safetensors_create(path, entries, count, error) : NULL;
    ok = writer != NULL;
    for (size_t i = 0; ok && i < count; i++)
        ok = write_tensor(trainer->backend, writer, &list[entries[i].tag], part, error);
    if (ok)
        ok = safetensors_finish(writer, error);
    else if (writer)
        safetensors_abandon(writer);
    for (size_t i = 0; ok && i < count; i++)
        ok = manifest_add_tensor(files, STATE_FILE, &entries[i]) || error_memory(error, "manifest.json", 65536);
    free(part);
    free(path);
    free(entries);
    free(list);
    return ok;
}

static bool read_tensor(Backend *b, const SafetensorsFile *file, int block, StateKind kind, void *memory,
                        SafetensorsType type, int64_t elements, Error *error) {
    char name[32];
    snprintf(name, sizeof name, "block.%d.%s", block, state_names[kind]);
    const SafetensorsTensor *tensor = safetensors_find(file, name);
    size_t bytes = (size_t)elements * safetensors_type_size(type);
    if (!tensor || tensor->type != type || tensor->bytes != bytes)
        return error_set(error, "%s: tensor \"%s\" is missing or of another size or type", file->where, name);
    b->copy(b, memory, safetensors_data(file, tensor), bytes, NULL);
    b->synchronize(b, NULL);
    file_map_forget(&file->map, tensor->offset, tensor->bytes);
    return true;
}

// ---- saving ----

// files: what manifest.json says of the tensors.
static bool write_manifest(const Trainer *trainer, const CheckpointFacts *facts, const char *folder, int64_t step,
                           json_t *files, Error *error) {
    if (!manifest_add_files(files, folder, error)) return false;
    json_t *slots = json_array();
    bool ok = slots != NULL;
    for (int block = 0; ok && block < trainer->active.blocks; block++) {
        const Slot *slot = trainer->active.of_block[block];
        ok = !slot || json_array_append_new(
                          slots, json_pack("{s:i, s:I}", "block", block, "steps", (json_int_t)slot->steps)) == 0;
    }
    json_t *manifest =
        json_pack("{s:I, s:I, s:o, s:o, s:O}", "step", (json_int_t)step, "draw", (json_int_t)trainer->active.draw,
                  "slots", slots, "settings", settings_json(trainer->settings, facts), "files", files);
    char *text = ok && manifest ? json_to_text(manifest) : NULL, *path = path_join(folder, "manifest.json");
    json_decref(manifest);
    ok = (text && path) || error_memory(error, "manifest.json", (size_t)65536);
    ok = ok && file_write_atomic(path, text, strlen(text), error);
    free(text);
    free(path);
    return ok;
}

bool checkpoint_bytes(const Trainer *trainer, const CheckpointFacts *facts, uint64_t *bytes, Error *error) {
    if (!model_save_bytes(facts->source, &trainer->store.layout, &facts->save, bytes, error)) return false;
    const ActiveSet *active = &trainer->active;
    for (int i = 0; i < active->slot_count; i++)
        *bytes += (uint64_t)active->slots[i].elements * (2 * active->slots[i].moment_size + sizeof(int16_t));
    for (int block = 0; active->parked && block < active->blocks; block++)
        if (active->parked[block]) *bytes += (uint64_t)trainer->store.layout.layer.elements * sizeof(int16_t);
    return true;
}

static bool check_disk(const Trainer *trainer, const CheckpointFacts *facts, const char *output_dir, Error *error) {
    uint64_t needed, available;
    char need[16], have[16];
    if (!checkpoint_bytes(trainer, facts, &needed, error) || !disk_free_bytes(output_dir, &available, error))
        return false;
    if (needed <= available) return true;
    error_set(error, "%s: a checkpoint needs %s of disk, %s are free", output_dir, format_bytes(need, needed),
              format_bytes(have, available));
    return error_hint(error, "free some disk space; the same command then goes on from the last checkpoint");
}

// The tensors of the model's files.
typedef struct Notes {
    json_t *files; // of the manifest
    bool complete; // false when memory ran out
} Notes;

static void note_written(void *context, const char *file, const SafetensorsEntry *entry) {
    Notes *notes = context;
    notes->complete = notes->complete && manifest_add_tensor(notes->files, file, entry);
}

// Everything of a checkpoint into `folder`, the manifest last.
static bool write_record(const CheckpointFacts *facts, const char *folder, Error *error) {
    if (!facts->record) return true;
    char *path = path_join(folder, "training.json");
    bool ok = path ? file_write_atomic(path, facts->record, strlen(facts->record), error)
                   : error_memory(error, folder, strlen(folder));
    free(path);
    return ok;
}

static bool write_all(Trainer *trainer, const CheckpointFacts *facts, const char *folder, int64_t step, Error *error) {
    json_t *files = json_object();
    Notes notes = {files, true};
    SaveOptions save = facts->save;
    save.written = note_written;
    save.context = &notes;
    bool ok = directory_create(folder, error) && model_save(facts->source, &trainer->store, &save, folder, error) &&
              (notes.complete || error_memory(error, "manifest.json", 65536)) &&
              (!facts->tokenizer || tokenizer_write(facts->tokenizer, folder, facts->chat_template, error)) &&
              write_record(facts, folder, error) && write_state(trainer, folder, files, error) &&
              trainer->backend->check(trainer->backend, error) && // else what was written means nothing
              write_manifest(trainer, facts, folder, step, files, error) && directory_sync(folder, error);
    json_decref(files);
    return ok;
}

bool checkpoint_save(Trainer *trainer, const CheckpointFacts *facts, const char *output_dir, int64_t step,
                     Error *error) {
    char partial[4096], final[4096];
    int size = snprintf(partial, sizeof partial, "%s/.checkpoint-%lld.partial", output_dir, (long long)step);
    if (size >= (int)sizeof partial) return error_set(error, "output_dir: the path is too long");
    snprintf(final, sizeof final, "%s/checkpoint-%lld", output_dir, (long long)step);
    Error cleaning = {0}; // a failure to clean up must not hide the first one
    trainer_settle(trainer);
    if (path_exists(partial) && !directory_remove(partial, error)) return false;
    bool ok = check_disk(trainer, facts, output_dir, error) && write_all(trainer, facts, partial, step, error);
    if (ok && path_exists(final)) ok = checkpoint_remove(output_dir, path_name(final), error); // torn, or left behind
    if (ok && rename(partial, final) != 0) ok = error_system(error, "cannot create", final);
    if (!ok) {
        if (path_exists(partial)) directory_remove(partial, &cleaning);
        return error_context(error, "saving checkpoint-%lld", (long long)step);
    }
    return directory_sync(output_dir, error) &&
           checkpoint_prune(output_dir, trainer->settings->save_total_limit, step, error);
}

// ---- loading ----

static bool read_slots(Trainer *trainer, const json_t *manifest, int64_t step, const SafetensorsFile *state,
                       Error *error) {
    Backend *b = trainer->backend;
    size_t index;
    json_t *entry;
    json_array_foreach(json_object_get(manifest, "slots"), index, entry) {
        int64_t block = -1, steps = -1;
        if (!json_get_integer(entry, "block", &block, "manifest.json", error) ||
            !json_get_integer(entry, "steps", &steps, "manifest.json", error))
            return false;
        Slot *slot = NULL;
        if (block >= 0 && block < trainer->active.blocks && steps >= 0 && steps <= step &&
            !trainer->active.of_block[block])
            slot = active_claim(&trainer->active, &trainer->store, (int)block);
        if (!slot) return error_set(error, "%s: manifest.json lists a slot that this run has not", state->where);
        slot->steps = steps;
        void *memory[STATE_KINDS] = {slot->m, slot->v, slot->low_bits};
        for (StateKind kind = STATE_M; kind < STATE_KINDS; kind++)
            if (!read_tensor(b, state, slot->block, kind, memory[kind], state_type(slot, kind), slot->elements, error))
                return false;
    }
    return true;
}

static bool read_parked(Trainer *trainer, const SafetensorsFile *state, Error *error) {
    ActiveSet *active = &trainer->active;
    for (int block = 0; active->parked && block < active->blocks; block++) {
        if (active->of_block[block] || !active->parked[block]) continue;
        if (!read_tensor(trainer->backend, state, block, STATE_LOW_BITS, active->parked[block], SAFETENSORS_I16,
                         trainer->store.layout.layer.elements, error))
            return false;
    }
    return true;
}

bool checkpoint_load(Trainer *trainer, const CheckpointFacts *facts, const char *path, int64_t *step, Error *error) {
    json_t *manifest = manifest_verify(path, error);
    char *state_path = path_join(path, STATE_FILE);
    SafetensorsFile state = {0};
    int64_t draw = -1;
    *step = -1;
    bool ok = manifest && (state_path || error_memory(error, path, strlen(path)));
    ok = ok && compare_settings(json_object_get(manifest, "settings"), trainer->settings, facts, path, error);
    ok = ok && json_get_integer(manifest, "step", step, "manifest.json", error) &&
         json_get_integer(manifest, "draw", &draw, "manifest.json", error);
    if (ok && (*step < 0 || *step > facts->steps))
        ok = error_set(error, "%s/manifest.json: step is out of range", path);
    trainer->active.draw = draw;
    ok = ok && safetensors_open(&state, state_path, error) && read_slots(trainer, manifest, *step, &state, error) &&
         read_parked(trainer, &state, error);
    if (ok && !active_is_after(&trainer->active, *step))
        ok = error_set(error, "%s/manifest.json: its draw and slots are not those after step %lld", path,
                       (long long)*step);
    safetensors_close(&state);
    free(state_path);
    json_decref(manifest);
    return ok;
}
