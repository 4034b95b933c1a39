// hub.c - finding a model by its hub id in the local Hugging Face cache. Nothing is downloaded.
//
// Layout (huggingface_hub): <cache>/models--owner--name/refs/main holds the commit, snapshots/<commit>/ the files.
#include "model/source_parts.h"
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

bool hub_is_id(const char *name) {
    const char *slash = strchr(name, '/');
    if (!slash || slash == name || !slash[1] || strchr(slash + 1, '/')) return false;
    if (name[0] == '.' || slash[1] == '.' || strlen(name) > 200) return false;
    for (const char *c = name; *c; c++)
        if (!isalnum((unsigned char)*c) && !strchr("/-_.", *c)) return false;
    return true;
}

// The cache folder as huggingface_hub chooses it; NULL when memory runs out or there is no home.
static char *cache_folder(void) {
    static const struct {
        const char *variable;
        const char *below;
    } PLACES[] = {{"HF_HUB_CACHE", ""},
                  {"HUGGINGFACE_HUB_CACHE", ""},
                  {"HF_HOME", "hub"},
                  {"XDG_CACHE_HOME", "huggingface/hub"},
                  {"HOME", ".cache/huggingface/hub"}};
    for (size_t i = 0; i < sizeof PLACES / sizeof *PLACES; i++) {
        const char *value = getenv(PLACES[i].variable);
        if (value && *value) return *PLACES[i].below ? path_join(value, PLACES[i].below) : strdup(value);
    }
    return NULL;
}

// The folder of a model in the cache: "models--owner--name"; NULL when memory runs out.
static char *model_folder(const char *cache, const char *id) {
    char name[256];
    int owner = (int)(strchr(id, '/') - id);
    snprintf(name, sizeof name, "models--%.*s--%s", owner, id, id + owner + 1);
    return path_join(cache, name);
}

// The commit that refs/main names, or the only snapshot there is. Caller's memory; NULL when there is none.
static char *main_commit(const char *folder, const char *snapshots) {
    Error unused;
    char *reference = path_join(folder, "refs/main"), *commit = NULL, **names;
    size_t size, count;
    if (reference && path_size(reference) >= 0 && file_read(reference, 128, &commit, &size, &unused)) {
        commit[strspn(commit, "0123456789abcdefABCDEF")] = 0;
    } else if (directory_list(snapshots, &names, &count, &unused)) {
        if (count == 1) commit = strdup(names[0]);
        names_free(names, count);
    }
    free(reference);
    return commit;
}

char *hub_find(const char *id, Error *error) {
    char *cache = cache_folder(), *folder = cache ? model_folder(cache, id) : NULL;
    char *snapshots = folder ? path_join(folder, "snapshots") : NULL;
    char *commit = snapshots ? main_commit(folder, snapshots) : NULL;
    char *found = commit && *commit ? path_join(snapshots, commit) : NULL;
    char *config = found ? path_join(found, "config.json") : NULL;
    if (!config || !path_exists(config)) { // only a tokenizer was downloaded, or nothing
        free(found);
        found = NULL;
    }
    free(config);
    if (!found) {
        error_set(error, "model \"%s\" is neither a folder here nor in the local Hugging Face cache (%s)", id,
                  cache ? cache : "no home folder");
        error_hint(error, "hf download %s", id);
    }
    free(commit);
    free(snapshots);
    free(folder);
    free(cache);
    return found;
}
