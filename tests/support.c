// support.c - see support.h.
#include "tests/support.h"
#include "base/buffer.h"
#include "base/files.h"
#include "base/random.h"
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

void check(bool ok, const Error *error) {
    if (!ok) fail_msg("%s (HINT: %s)", error->text, error->hint);
}

char *make_folder(void) {
    const char *base = getenv("TMPDIR");
    char *folder = path_join(base ? base : "/tmp", "lisa-test-XXXXXX");
    assert_non_null(folder);
    assert_non_null(mkdtemp(folder));
    return folder;
}

void remove_folder(char *folder) {
    Error error = {0};
    check(directory_remove(folder, &error), &error);
    free(folder);
}

char *write_file(const char *folder, const char *name, const void *bytes, size_t size) {
    char *path = path_join(folder, name);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
    return path;
}

char *write_text(const char *folder, const char *name, const char *text) {
    return write_file(folder, name, text, strlen(text));
}

float noise(uint64_t key, uint64_t index) {
    return (float)(2 * random_uniform(random_mix(key), index) - 1);
}

void check_close(const char *what, const float *out, const float *reference, int64_t count, double tolerance) {
    double largest = 0, worst = 0;
    int64_t place = 0;
    for (int64_t i = 0; i < count; i++) {
        double difference = fabs((double)out[i] - (double)reference[i]);
        if (!(difference <= worst)) worst = isnan(difference) ? INFINITY : difference, place = i;
        if (fabs((double)reference[i]) > largest) largest = fabs((double)reference[i]);
    }
    if (!(worst <= tolerance * largest))
        fail_msg("%s: element %lld of %lld is %.9g, reference %.9g: off by %.3g of the largest, allowed %.3g", what,
                 (long long)place, (long long)count, (double)out[place], (double)reference[place],
                 largest > 0 ? worst / largest : worst, tolerance);
}

static char *read_all(int file) {
    Buffer text = BUFFER_EMPTY;
    Error error = {0};
    char part[4096];
    lseek(file, 0, SEEK_SET);
    for (ssize_t got; (got = read(file, part, sizeof part)) > 0;)
        check(buffer_append(&text, part, (size_t)got, &error), &error);
    close(file);
    return text.data ? text.data : strdup("");
}

// An unnamed temporary file for one output stream: unlike a pipe it never fills up.
static int output_file(void) {
    char name[] = "/tmp/lisa-test-output-XXXXXX";
    int file = mkstemp(name);
    assert_true(file >= 0);
    unlink(name);
    return file;
}

Run run_lisa(const char *const *arguments) {
    const char *program = getenv("LISA");
    const char *list[64] = {program ? program : "./lisa"};
    int count = 1;
    while (*arguments && count < 63) list[count++] = *arguments++;
    int out = output_file(), err = output_file();
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        dup2(out, STDOUT_FILENO);
        dup2(err, STDERR_FILENO);
        execv(list[0], (char *const *)(uintptr_t)list);
        _exit(127);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    return (Run){code, read_all(out), read_all(err)};
}

void run_free(Run *run) {
    free(run->out);
    free(run->err);
    *run = (Run){0};
}
