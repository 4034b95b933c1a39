// files.h - reading, mapping and atomically writing files, and paths.
#pragma once
#include "base/error.h"
#include <stdint.h>
#include <stdio.h>

// ---- reading ----

typedef struct FileMap {
    const unsigned char *data; // NULL when size is 0
    size_t size;
} FileMap;

// Maps a regular file for reading. The caller ends it with file_unmap.
bool file_map(FileMap *map, const char *path, Error *error);
void file_unmap(FileMap *map);
// Tells the kernel that bytes [offset, offset + size) will not be needed again; resident memory stays flat.
void file_map_forget(const FileMap *map, size_t offset, size_t size);

// The whole file in memory of the caller's (free), followed by a NUL. Refuses files over limit bytes.
bool file_read(const char *path, size_t limit, char **text, size_t *size, Error *error);

// A text file, plain or gzipped, as a stream (zlib tells the two apart).
typedef struct TextStream TextStream;
TextStream *text_stream_open(const char *path, Error *error);
// Reads up to capacity bytes; *got is 0 at the end. A damaged gzip stream is an error that names the file.
bool text_stream_read(TextStream *stream, char *bytes, size_t capacity, size_t *got, Error *error);
void text_stream_close(TextStream *stream); // NULL is allowed

// ---- writing ----

// A file that appears under its name complete or not at all: written beside it as <name>.partial, synced, renamed.
typedef struct AtomicFile AtomicFile;
AtomicFile *atomic_file_create(const char *path, Error *error);
bool atomic_file_write(AtomicFile *file, const void *bytes, size_t size, Error *error);
// Syncs, renames, syncs the folder and frees file, also on failure (nothing is then left behind).
bool atomic_file_commit(AtomicFile *file, Error *error);
void atomic_file_abandon(AtomicFile *file); // removes what was written; NULL is allowed
// All of it in one call.
bool file_write_atomic(const char *path, const void *bytes, size_t size, Error *error);

// A copy of a file, memory: some MiB.
bool file_copy(const char *from, const char *to, Error *error);

// ---- paths and folders ----

bool path_exists(const char *path);
bool path_is_directory(const char *path);
int64_t path_size(const char *path); // -1 when it is not a regular file
// "folder/name" in memory of the caller's (free); NULL only when memory runs out.
char *path_join(const char *folder, const char *name);
const char *path_name(const char *path);               // what follows the last slash
bool directory_create(const char *path, Error *error); // with its parents; an existing folder is fine
bool directory_sync(const char *path, Error *error);   // fsync of the folder itself
// The names in a folder (without . and ..), sorted; free with names_free.
bool directory_list(const char *path, char ***names, size_t *count, Error *error);
void names_free(char **names, size_t count);
bool directory_remove(const char *path, Error *error); // with all that is in it; links are not followed
// Bytes that an unprivileged process can still write on the file system that holds path (its nearest existing parent).
bool disk_free_bytes(const char *path, uint64_t *bytes, Error *error);
