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

bool built_with_sanitizer(void) {
#if defined(__SANITIZE_ADDRESS__)
    return true;
#elif defined(__has_feature)
    return __has_feature(address_sanitizer);
#else
    return false;
#endif
}

static const char *program_path(void) {
    const char *program = getenv("LISA");
    return program ? program : "./lisa";
}

#define HANGS_AFTER 300 // seconds

static Child start(const char *input, const char *const *list) {
    Child child = {.out = output_file(), .err = output_file()};
    int in = input ? output_file() : STDIN_FILENO;
    if (input) {
        assert_int_equal(write(in, input, strlen(input)), strlen(input));
        lseek(in, 0, SEEK_SET);
    }
    child.process = fork();
    assert_true(child.process >= 0);
    if (child.process == 0) {
        dup2(in, STDIN_FILENO);
        dup2(child.out, STDOUT_FILENO);
        dup2(child.err, STDERR_FILENO);
        setenv("LISA", program_path(), 1);
        alarm(HANGS_AFTER);
        execv(list[0], (char *const *)(uintptr_t)list);
        _exit(127);
    }
    if (input) close(in);
    return child;
}

// Whether the command computes. It does so on the CPU here, whatever cards the machine has.
static bool computes(const char *command) {
    static const char *const names[] = {"train", "plan", "eval", "generate", "chat", "bench"};
    for (size_t i = 0; command && i < sizeof names / sizeof *names; i++)
        if (!strcmp(command, names[i])) return true;
    return false;
}

Child start_lisa(const char *input, const char *const *arguments) {
    const char *list[64] = {program_path()};
    int count = 1;
    if (computes(*arguments)) {
        list[count++] = *arguments++;
        list[count++] = "--device=cpu";
    }
    while (*arguments && count < 63) list[count++] = *arguments++;
    return start(input, list);
}

Run finish_lisa(Child child) {
    int status;
    assert_int_equal(waitpid(child.process, &status, 0), child.process);
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    return (Run){code, read_all(child.out), read_all(child.err)};
}

Run run_lisa(const char *const *arguments) {
    return finish_lisa(start_lisa(NULL, arguments));
}

Run run_lisa_on(const char *input, const char *const *arguments) {
    return finish_lisa(start_lisa(input, arguments));
}

Run run_function(int (*function)(void *context), void *context) {
    Child child = {.out = output_file(), .err = output_file()};
    fflush(NULL);
    child.process = fork();
    assert_true(child.process >= 0);
    if (child.process == 0) {
        dup2(child.out, STDOUT_FILENO);
        dup2(child.err, STDERR_FILENO);
        alarm(HANGS_AFTER);
        int code = function(context);
        fflush(NULL);
        _exit(code);
    }
    return finish_lisa(child);
}

Run run_shell(const char *command) {
    return finish_lisa(start(NULL, (const char *const[]){"/bin/sh", "-c", command, NULL}));
}

void run_free(Run *run) {
    free(run->out);
    free(run->err);
    *run = (Run){0};
}

void assert_same_file(const char *a, const char *b, const char *name) {
    char *paths[2] = {path_join(a, name), path_join(b, name)}, *bytes[2];
    size_t sizes[2];
    Error error = {0};
    for (int i = 0; i < 2; i++) check(file_read(paths[i], (size_t)1 << 30, &bytes[i], &sizes[i], &error), &error);
    if (sizes[0] != sizes[1] || memcmp(bytes[0], bytes[1], sizes[0])) fail_msg("%s and %s differ", paths[0], paths[1]);
    for (int i = 0; i < 2; i++) free(paths[i]), free(bytes[i]);
}
