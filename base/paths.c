// paths.c - paths and folders. See files.h.
#include "base/files.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

bool path_exists(const char *path) {
    return access(path, F_OK) == 0;
}

bool path_is_directory(const char *path) {
    struct stat status;
    return stat(path, &status) == 0 && S_ISDIR(status.st_mode);
}

int64_t path_size(const char *path) {
    struct stat status;
    return stat(path, &status) == 0 && S_ISREG(status.st_mode) ? (int64_t)status.st_size : -1;
}

char *path_join(const char *folder, const char *name) {
    size_t size = strlen(folder) + strlen(name) + 2;
    char *path = malloc(size);
    if (!path) return NULL;
    bool slash = *folder && folder[strlen(folder) - 1] == '/';
    snprintf(path, size, "%s%s%s", folder, slash || !*folder ? "" : "/", name);
    return path;
}

const char *path_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

bool directory_create(const char *path, Error *error) {
    if (!*path) {
        error_set(error, "a folder without a name");
        return error_hint(error, "name it, . for the current one");
    }
    char *copy = strdup(path);
    if (!copy) return error_memory(error, path, strlen(path) + 1);
    bool ok = true;
    for (char *slash = copy + 1; ok; slash++) {
        char end = *slash;
        if (end && end != '/') continue;
        *slash = 0;
        if (mkdir(copy, 0777) != 0 && errno != EEXIST) ok = error_system(error, "cannot create", copy);
        *slash = end;
        if (!end) break;
    }
    free(copy);
    if (ok && !path_is_directory(path)) {
        error_set(error, "%s is a file, not a folder", path);
        return error_hint(error, "name another folder, or move the file away");
    }
    return ok;
}

bool directory_sync(const char *path, Error *error) {
    int folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0) return error_system(error, "cannot open", path);
    // some file systems cannot sync a folder (EINVAL); the rename is then as safe as it can be
    bool ok = fsync(folder) == 0 || errno == EINVAL || error_system(error, "cannot sync", path);
    close(folder);
    return ok;
}

static int compare_names(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

// Appends a copy of name to the list; false without memory.
static bool append_name(char ***names, size_t *count, const char *name) {
    char **longer = realloc(*names, (*count + 1) * sizeof **names);
    if (!longer) return false;
    *names = longer;
    longer[*count] = strdup(name);
    if (!longer[*count]) return false;
    (*count)++;
    return true;
}

bool directory_list(const char *path, char ***names, size_t *count, Error *error) {
    *names = NULL;
    *count = 0;
    DIR *folder = opendir(path);
    if (!folder) return error_system(error, "cannot read the folder", path);
    bool ok = true;
    for (struct dirent *entry; ok && (entry = readdir(folder));) {
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
        ok = append_name(names, count, entry->d_name) || error_memory(error, path, (*count + 1) * sizeof **names);
    }
    closedir(folder);
    if (!ok) {
        names_free(*names, *count);
        return false;
    }
    if (*count) qsort(*names, *count, sizeof **names, compare_names);
    return true;
}

void names_free(char **names, size_t count) {
    for (size_t i = 0; i < count; i++) free(names[i]);
    free(names);
}

bool directory_remove(const char *path, Error *error) {
    char **names;
    size_t count;
    if (!directory_list(path, &names, &count, error)) return false;
    bool ok = true;
    for (size_t i = 0; ok && i < count; i++) {
        char *entry = path_join(path, names[i]);
        struct stat status;
        if (!entry)
            ok = error_memory(error, path, strlen(path) + strlen(names[i]) + 2);
        else if (lstat(entry, &status) != 0)
            ok = error_system(error, "cannot remove", entry);
        else if (S_ISDIR(status.st_mode))
            ok = directory_remove(entry, error);
        else if (unlink(entry) != 0)
            ok = error_system(error, "cannot remove", entry);
        free(entry);
    }
    names_free(names, count);
    return ok && (rmdir(path) == 0 || error_system(error, "cannot remove", path));
}

bool disk_free_bytes(const char *path, uint64_t *bytes, Error *error) {
    char *place = strdup(*path ? path : ".");
    if (!place) return error_memory(error, path, strlen(path) + 1);
    while (!path_exists(place)) {
        char *slash = strrchr(place, '/');
        if (slash == place) slash++; // keep the root
        if (slash)
            *slash = 0;
        else
            strcpy(place, "."); // the name has at least one byte
    }
    struct statvfs status;
    bool ok = statvfs(place, &status) == 0 || error_system(error, "cannot measure the disk of", place);
    if (ok) *bytes = (uint64_t)status.f_bavail * status.f_frsize;
    free(place);
    return ok;
}
