// checkpoint_folder.c - the checkpoints of an output directory: finding, pruning, publishing, clearing. See
// checkpoint.h.
#include "base/files.h"
#include "train/checkpoint.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

// The step of a name "checkpoint-<step>", -1 for any other name.
static int64_t step_of(const char *name) {
    static const char prefix[] = "checkpoint-";
    if (strncmp(name, prefix, sizeof prefix - 1) != 0) return -1;
    const char *digits = name + sizeof prefix - 1;
    if (!*digits || strspn(digits, "0123456789") != strlen(digits) || strlen(digits) > 15) return -1;
    return atoll(digits);
}

// Whether folder/name is a complete checkpoint: a folder with a manifest, which is written last.
static bool complete(const char *folder, const char *name) {
    if (step_of(name) < 0) return false;
    char path[4096];
    return snprintf(path, sizeof path, "%s/%s/manifest.json", folder, name) < (int)sizeof path && path_size(path) >= 0;
}

bool checkpoint_exists(const char *output_dir, int64_t step) {
    char name[64];
    snprintf(name, sizeof name, "checkpoint-%lld", (long long)step);
    return complete(output_dir, name);
}

static bool leftover(const char *name) {
    size_t size = strlen(name);
    return !strncmp(name, ".checkpoint-", 12) && size > 8 && !strcmp(name + size - 8, ".partial");
}

bool checkpoint_find(const char *output_dir, char **path, Error *error) {
    char **names;
    size_t count;
    *path = NULL;
    if (!path_exists(output_dir)) return true;
    if (!directory_list(output_dir, &names, &count, error)) return false;
    const char *newest = NULL;
    for (size_t i = 0; i < count; i++)
        if (complete(output_dir, names[i]) && (!newest || step_of(names[i]) > step_of(newest))) newest = names[i];
    bool ok = true;
    if (newest) {
        *path = path_join(output_dir, newest);
        ok = *path || error_memory(error, output_dir, strlen(output_dir));
    }
    names_free(names, count);
    return ok;
}

static bool remove_entry(const char *folder, const char *name, Error *error) {
    char *path = path_join(folder, name);
    if (!path) return error_memory(error, folder, strlen(folder));
    bool ok = path_is_directory(path)
                  ? directory_remove(path, error)
                  : unlink(path) == 0 || errno == ENOENT || error_system(error, "cannot remove", path);
    free(path);
    return ok;
}

bool checkpoint_remove(const char *output_dir, const char *name, Error *error) {
    char path[4096], removed[4096];
    snprintf(path, sizeof path, "%s/%s", output_dir, name);
    if (snprintf(removed, sizeof removed, "%s/.%s.old.partial", output_dir, name) >= (int)sizeof removed)
        return error_set(error, "output_dir: the path is too long");
    if (path_exists(removed) && !directory_remove(removed, error)) return false;
    if (rename(path, removed) != 0) return error_system(error, "cannot remove", path);
    return directory_remove(removed, error);
}

// How new a checkpoint is to a run that has just saved `step`: those beyond it are of a run that it left behind.
static int64_t rank(const char *name, int64_t step) {
    int64_t other = step_of(name);
    return other <= step ? other : -other;
}

bool checkpoint_prune(const char *output_dir, int64_t keep, int64_t step, Error *error) {
    char **names;
    size_t count;
    if (!directory_list(output_dir, &names, &count, error)) return false;
    bool ok = true;
    for (size_t i = 0; ok && i < count; i++) {
        if (!complete(output_dir, names[i])) continue;
        int64_t newer = 0;
        for (size_t j = 0; j < count; j++)
            newer += complete(output_dir, names[j]) && rank(names[j], step) > rank(names[i], step);
        if (newer >= keep) ok = checkpoint_remove(output_dir, names[i], error);
    }
    names_free(names, count);
    return ok;
}

// ---- publishing ----

// folder/name becomes the file `from`: linked under a temporary name and renamed, so that it is never missing.
static bool link_file(const char *from, const char *folder, const char *name, Error *error) {
    char *to = path_join(folder, name), temporary[4096];
    if (!to) return error_memory(error, folder, strlen(folder));
    bool fits = snprintf(temporary, sizeof temporary, "%s.new", to) < (int)sizeof temporary;
    if (fits) unlink(temporary);
    bool ok;
    if (fits && link(from, temporary) == 0)
        ok = rename(temporary, to) == 0 || error_system(error, "cannot create", to);
    else
        ok = file_copy(from, to, error);
    if (fits) unlink(temporary); // rename leaves it when both names were links to one file already
    free(to);
    return ok;
}

bool checkpoint_publish(const char *output_dir, int64_t step, Error *error) {
    char folder[4096], **names;
    size_t count;
    if (snprintf(folder, sizeof folder, "%s/checkpoint-%lld", output_dir, (long long)step) >= (int)sizeof folder)
        return error_set(error, "output_dir: the path is too long");
    if (!directory_list(folder, &names, &count, error)) return false;
    bool ok = true;
    for (size_t i = 0; ok && i < count; i++) {
        if (!strcmp(names[i], "manifest.json") || !strcmp(names[i], "lisa_state.safetensors")) continue;
        char *from = path_join(folder, names[i]);
        ok = from ? link_file(from, output_dir, names[i], error) : error_memory(error, folder, strlen(folder));
        free(from);
    }
    names_free(names, count);
    return ok && directory_sync(output_dir, error);
}

// ---- preparing ----

// Removes what a checkpoint's manifest lists from output_dir, where it was published, then the checkpoint. Only files
// go: a manifest that somebody altered may name a folder, or "..".
static bool remove_checkpoint(const char *output_dir, const char *name, Error *error) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s/manifest.json", output_dir, name);
    json_t *manifest = json_read_file(path, (size_t)64 << 20, error), *value;
    const char *file;
    bool ok = manifest != NULL;
    json_object_foreach(json_object_get(manifest, "files"), file, value) {
        snprintf(path, sizeof path, "%s/%s", output_dir, file);
        ok = ok && (strchr(file, '/') || path_size(path) < 0 || remove_entry(output_dir, file, error));
    }
    json_decref(manifest);
    return ok && checkpoint_remove(output_dir, name, error);
}

bool checkpoint_lock_folder(const char *output_dir, int *lock, Error *error) {
    *lock = -1;
    if (!directory_create(output_dir, error)) return error_context(error, "output_dir");
    *lock = open(output_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (*lock < 0) return error_system(error, "cannot open", output_dir);
    // some network file systems have no locks for folders; a run there is as safe as it can be
    if (flock(*lock, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK) return true;
    close(*lock);
    *lock = -1;
    error_set(error, "output_dir %s is in use by another run", output_dir);
    return error_hint(error, "wait until it has ended, or name another output_dir");
}

static bool own_leftover(const char *name) {
    return leftover(name) || !strcmp(name, "metrics.jsonl") || !strcmp(name, "metrics.jsonl.partial");
}

bool checkpoint_prepare_folder(const char *output_dir, bool overwrite, char **resume, Error *error) {
    char **names;
    size_t count;
    *resume = NULL;
    if (!overwrite && !checkpoint_find(output_dir, resume, error)) return false;
    if (!directory_list(output_dir, &names, &count, error)) return false;
    bool ok = true;
    const char *foreign = NULL;
    for (size_t i = 0; ok && i < count; i++) {
        bool torn = step_of(names[i]) >= 0 && !complete(output_dir, names[i]);
        if (leftover(names[i]))
            ok = remove_entry(output_dir, names[i], error);
        else if (overwrite && complete(output_dir, names[i]))
            ok = remove_checkpoint(output_dir, names[i], error);
        else if (overwrite && own_leftover(names[i]))
            ok = remove_entry(output_dir, names[i], error);
        else if (!own_leftover(names[i]) || torn)
            foreign = names[i];
    }
    if (ok && !overwrite && !*resume && foreign) {
        error_set(error, "output_dir %s is not empty (it holds %s) and has no checkpoint to resume", output_dir,
                  foreign);
        ok = error_hint(error, "name another output_dir, or give overwrite_output_dir=true, which removes only what "
                               "lisa wrote there");
    }
    names_free(names, count);
    return ok;
}
