// free_memory.c - see free_memory.h.
#include "base/free_memory.h"
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

// The files of one version of control groups.
typedef struct GroupFiles {
    const char *mounts[2];  // where the tree of groups can be
    const char *limits[2];  // bytes, or "max"
    const char *used;       // bytes, page cache included
    const char *file_pages; // the line of memory.stat with the page cache that can be given back
} GroupFiles;

static const GroupFiles version1 = {
    {"/sys/fs/cgroup/memory", NULL}, {"memory.limit_in_bytes", NULL}, "memory.usage_in_bytes", "total_inactive_file "};
static const GroupFiles version2 = {
    {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"}, {"memory.max", "memory.high"}, "memory.current", "inactive_file "};

static FILE *open_under(const char *root, const char *folder, const char *name) {
    char path[PATH_MAX];
    int size = snprintf(path, sizeof path, "%s%s/%s", root, folder, name);
    return size > 0 && (size_t)size < sizeof path ? fopen(path, "r") : NULL;
}

// The number behind `name` at the beginning of a line; or the file's only number when name is "".
static bool read_number(const char *root, const char *folder, const char *file_name, const char *name,
                        uint64_t *number) {
    FILE *file = open_under(root, folder, file_name);
    if (!file) return false;
    char line[256];
    bool found = false;
    unsigned long long value;
    while (!found && fgets(line, sizeof line, file)) {
        size_t size = strlen(name);
        if (!strncmp(line, name, size) && sscanf(line + size, "%llu", &value) == 1) found = true;
    }
    fclose(file);
    if (found) *number = value;
    return found;
}

static uint64_t of_meminfo(const char *root, const char *name) {
    uint64_t number;
    return read_number(root, "/proc", "meminfo", name, &number) ? number * 1024 : UINT64_MAX;
}

static void lower(uint64_t *least, uint64_t value) {
    if (value < *least) *least = value;
}

// Lowers *rest to what one group still allows; a folder that is no group allows everything.
static void lower_to_group(const char *root, const char *group, const GroupFiles *files, uint64_t *rest) {
    uint64_t limit = UINT64_MAX, used, file_pages, one;
    for (int i = 0; i < 2; i++)
        if (files->limits[i] && read_number(root, group, files->limits[i], "", &one)) lower(&limit, one);
    if (limit == UINT64_MAX || !read_number(root, group, files->used, "", &used)) return;
    if (!read_number(root, group, "memory.stat", files->file_pages, &file_pages)) file_pages = 0;
    used = used > file_pages ? used - file_pages : 0;
    lower(rest, limit > used ? limit - used : 0);
}

// The group and all above it. Inside a container the path can be that on its host, and the container's own group lies
// at the mount: groups that are not there are passed over.
static void lower_to_groups(const char *root, const char *path, const GroupFiles *files, uint64_t *rest) {
    if (strstr(path, "/..")) path = ""; // outside of what this process can see
    for (int i = 0; i < 2 && files->mounts[i]; i++) {
        char group[PATH_MAX];
        size_t mount = strlen(files->mounts[i]);
        int size = snprintf(group, sizeof group, "%s%s", files->mounts[i], path);
        if (size < 0 || (size_t)size >= sizeof group) continue;
        for (char *slash = group + size; slash && slash >= group + mount; slash = strrchr(group, '/')) {
            *slash = 0;
            lower_to_group(root, group, files, rest);
        }
    }
}

// A line of /proc/self/cgroup, "0::/path" (version 2) or "4:cpu,memory:/path" (version 1).
static void lower_to_line(const char *root, char *line, uint64_t *rest) {
    char *controllers = strchr(line, ':'), *path = controllers ? strchr(controllers + 1, ':') : NULL;
    if (!path) return;
    *path++ = 0;
    path[strcspn(path, "\n")] = 0;
    if (!controllers[1]) lower_to_groups(root, path, &version2, rest);
    for (char *name = strtok(controllers + 1, ","); name; name = strtok(NULL, ","))
        if (!strcmp(name, "memory")) lower_to_groups(root, path, &version1, rest);
}

uint64_t total_memory_under(const char *root) {
    return of_meminfo(root, "MemTotal:");
}

uint64_t free_memory_under(const char *root) {
    uint64_t rest = of_meminfo(root, "MemAvailable:");
    char line[PATH_MAX];
    FILE *file = open_under(root, "/proc/self", "cgroup");
    while (file && fgets(line, sizeof line, file)) lower_to_line(root, line, &rest);
    if (file) fclose(file);
    return rest;
}

bool running_under_wsl_under(const char *root) {
    char release[256] = "";
    FILE *file = open_under(root, "/proc/sys/kernel", "osrelease");
    if (!file) return false;
    bool known = fgets(release, sizeof release, file);
    fclose(file);
    return known && (strcasestr(release, "microsoft") || strcasestr(release, "wsl"));
}

uint64_t lockable_memory_under(const char *root) {
    uint64_t bytes = free_memory_under(root), total = total_memory_under(root);
    if (running_under_wsl_under(root) && total != UINT64_MAX) lower(&bytes, total / 2);
    return bytes;
}

uint64_t total_memory(void) {
    return total_memory_under("");
}

uint64_t free_memory(void) {
    return free_memory_under("");
}

uint64_t lockable_memory(void) {
    return lockable_memory_under("");
}

bool running_under_wsl(void) {
    return running_under_wsl_under("");
}
