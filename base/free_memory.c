// free_memory.c - see free_memory.h.
#include "base/free_memory.h"
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

// The number behind "name:" in a file of the form of /proc/meminfo, in bytes; or the file's only number when name is
// "".
static bool read_number(const char *path, const char *name, uint64_t unit, uint64_t *bytes) {
    FILE *file = fopen(path, "r");
    if (!file) return false;
    char line[256];
    bool found = false;
    unsigned long long number;
    while (!found && fgets(line, sizeof line, file)) {
        size_t size = strlen(name);
        if (!strncmp(line, name, size) && sscanf(line + size, "%llu", &number) == 1) found = true;
    }
    fclose(file);
    if (found) *bytes = (uint64_t)number * unit;
    return found;
}

uint64_t free_memory(void) {
    uint64_t available, limit, used, file_pages;
    if (!read_number("/proc/meminfo", "MemAvailable:", 1024, &available)) return UINT64_MAX;
    // inside a container the control group's limit binds; its page cache can be given back
    if (read_number("/sys/fs/cgroup/memory.max", "", 1, &limit) &&
        read_number("/sys/fs/cgroup/memory.current", "", 1, &used)) {
        if (!read_number("/sys/fs/cgroup/memory.stat", "inactive_file ", 1, &file_pages)) file_pages = 0;
        used = used > file_pages ? used - file_pages : 0;
        uint64_t rest = limit > used ? limit - used : 0;
        if (rest < available) available = rest;
    }
    return available;
}
