// files.c - reading and atomically writing files; paths and folders are in paths.c. See files.h.
#include "base/files.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

// ---- reading ----

// Opens a regular file and learns its size; -1 with a message on failure.
static int open_regular(const char *path, size_t *size, Error *error) {
    int file = open(path, O_RDONLY | O_CLOEXEC);
    struct stat status;
    if (file < 0 || fstat(file, &status) != 0) {
        error_system(error, "cannot read", path);
        if (file >= 0) close(file);
        return -1;
    }
    if (!S_ISREG(status.st_mode)) {
        error_set(error, "cannot read %s: it is %s", path,
                  S_ISDIR(status.st_mode) ? "a folder, not a file" : "not a regular file");
        close(file);
        return -1;
    }
    *size = (size_t)status.st_size;
    return file;
}

bool file_map(FileMap *map, const char *path, Error *error) {
    *map = (FileMap){0};
    size_t size;
    int file = open_regular(path, &size, error);
    if (file < 0) return false;
    if (size) {
        void *data = mmap(NULL, size, PROT_READ, MAP_PRIVATE, file, 0);
        if (data == MAP_FAILED) {
            error_system(error, "cannot map", path);
            close(file);
            return false;
        }
        *map = (FileMap){data, size};
    }
    close(file);
    return true;
}

void file_unmap(FileMap *map) {
    if (map->data) munmap((void *)(uintptr_t)map->data, map->size);
    *map = (FileMap){0};
}

void file_map_forget(const FileMap *map, size_t offset, size_t size) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t first = (offset + page - 1) / page * page, last = (offset + size) / page * page;
    if (last > first) madvise((void *)(uintptr_t)(map->data + first), last - first, MADV_DONTNEED);
}

bool file_read(const char *path, size_t limit, char **text, size_t *size, Error *error) {
    size_t expected, got = 0;
    int file = open_regular(path, &expected, error);
    if (file < 0) return false;
    if (expected > limit) {
        close(file);
        return error_set(error, "%s: %zu bytes, more than the %zu that such a file may have", path, expected, limit);
    }
    char *data = malloc(expected + 1);
    if (!data) {
        close(file);
        return error_memory(error, path, expected + 1);
    }
    while (got < expected) {
        ssize_t part = read(file, data + got, expected - got);
        if (part < 0 && errno == EINTR) continue;
        if (part < 0) {
            error_system(error, "cannot read", path);
            free(data);
            close(file);
            return false;
        }
        if (part == 0) break; // the file shrank meanwhile
        got += (size_t)part;
    }
    close(file);
    data[got] = 0;
    *text = data;
    *size = got;
    return true;
}

struct TextStream {
    gzFile file;
    char *path;
};

TextStream *text_stream_open(const char *path, Error *error) {
    size_t size;
    int file = open_regular(path, &size, error);
    if (file < 0) return NULL;
    TextStream *stream = calloc(1, sizeof *stream);
    char *name = strdup(path);
    gzFile opened = stream && name ? gzdopen(file, "rb") : NULL;
    if (!opened) {
        error_memory(error, path, 65536);
        free(stream);
        free(name);
        close(file);
        return NULL;
    }
    gzbuffer(opened, 1 << 17);
    *stream = (TextStream){opened, name};
    return stream;
}

bool text_stream_read(TextStream *stream, char *bytes, size_t capacity, size_t *got, Error *error) {
    int part = gzread(stream->file, bytes, capacity > 1u << 30 ? 1u << 30 : (unsigned)capacity);
    int code = Z_OK;
    const char *problem = gzerror(stream->file, &code);
    if (part < 0 || (code != Z_OK && code != Z_STREAM_END)) {
        error_set(error, "cannot read %s: %s", stream->path, code == Z_ERRNO ? strerror(errno) : problem);
        return error_hint(error, "the file is damaged or cut short; `gzip -t` checks a compressed one");
    }
    *got = (size_t)part;
    return true;
}

void text_stream_close(TextStream *stream) {
    if (!stream) return;
    gzclose(stream->file);
    free(stream->path);
    free(stream);
}

// ---- writing ----

#define PARTIAL ".partial" // ends the name of a file that is not complete yet

struct AtomicFile {
    int file;
    char *path;      // the final name
    char *temporary; // what is written until then, beside it
};

AtomicFile *atomic_file_create(const char *path, Error *error) {
    AtomicFile *file = calloc(1, sizeof *file);
    size_t size = strlen(path) + sizeof PARTIAL;
    if (file) *file = (AtomicFile){-1, strdup(path), malloc(size)};
    if (!file || !file->path || !file->temporary) {
        error_memory(error, path, size);
        atomic_file_abandon(file);
        return NULL;
    }
    snprintf(file->temporary, size, "%s%s", path, PARTIAL);
    unlink(file->temporary); // of a process that was killed
    file->file = open(file->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (file->file < 0) {
        error_system(error, "cannot create", path);
        free(file->temporary);
        file->temporary = NULL;
        atomic_file_abandon(file);
        return NULL;
    }
    return file;
}

bool atomic_file_write(AtomicFile *file, const void *bytes, size_t size, Error *error) {
    const char *next = bytes;
    while (size) {
        ssize_t part = write(file->file, next, size);
        if (part < 0 && errno == EINTR) continue;
        if (part < 0) return error_system(error, "cannot write", file->path);
        next += part;
        size -= (size_t)part;
    }
    return true;
}

// fsync of the folder that holds path, so that the renamed entry survives a power cut.
static bool sync_parent(const char *path, Error *error) {
    const char *slash = strrchr(path, '/');
    char *folder = slash ? strndup(path, slash == path ? 1 : (size_t)(slash - path)) : strdup(".");
    if (!folder) return error_memory(error, path, strlen(path));
    bool ok = directory_sync(folder, error);
    free(folder);
    return ok;
}

bool atomic_file_commit(AtomicFile *file, Error *error) {
    bool ok = fsync(file->file) == 0 || error_system(error, "cannot write", file->path);
    ok = ok && (rename(file->temporary, file->path) == 0 || error_system(error, "cannot create", file->path));
    if (ok) {
        free(file->temporary);
        file->temporary = NULL;
        ok = sync_parent(file->path, error);
    }
    atomic_file_abandon(file);
    return ok;
}

void atomic_file_abandon(AtomicFile *file) {
    if (!file) return;
    if (file->file >= 0) close(file->file);
    if (file->temporary) unlink(file->temporary);
    free(file->temporary);
    free(file->path);
    free(file);
}

bool file_write_atomic(const char *path, const void *bytes, size_t size, Error *error) {
    AtomicFile *file = atomic_file_create(path, error);
    if (!file) return false;
    if (!atomic_file_write(file, bytes, size, error)) {
        atomic_file_abandon(file);
        return false;
    }
    return atomic_file_commit(file, error);
}

#define COPY_PART ((size_t)1 << 24) // bytes in memory at once

bool file_copy(const char *from, const char *to, Error *error) {
    FileMap map;
    if (!file_map(&map, from, error)) return false;
    AtomicFile *file = atomic_file_create(to, error);
    bool ok = file != NULL;
    for (size_t done = 0; ok && done < map.size;) {
        size_t part = map.size - done < COPY_PART ? map.size - done : COPY_PART;
        ok = atomic_file_write(file, map.data + done, part, error);
        file_map_forget(&map, done, part);
        done += part;
    }
    if (ok)
        ok = atomic_file_commit(file, error);
    else
        atomic_file_abandon(file);
    file_unmap(&map);
    return ok;
}
