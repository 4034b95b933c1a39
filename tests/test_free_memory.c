// test_free_memory.c - what is left of memory, on machines made of files.
#include "base/files.h"
#include "base/free_memory.h"
#include "tests/support.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GIB ((uint64_t)1 << 30)
#define MEMINFO                                                                                                        \
    "MemTotal:       33554432 kB\nMemFree: 1024 kB\nMemAvailable:   16777216 kB\nCached: 5 kB\n" // 32, 16 GiB
#define UNLIMITED1 "9223372036854771712\n"

static void put(const char *root, const char *path, const char *text) {
    Error error = {0};
    char *folder = path_join(root, path), *slash = strrchr(folder, '/');
    *slash = 0;
    check(directory_create(folder, &error), &error);
    free(write_text(folder, slash + 1, text));
    free(folder);
}

static char *machine(const char *group_line) {
    char *root = make_folder();
    put(root, "proc/meminfo", MEMINFO);
    put(root, "proc/self/cgroup", group_line);
    return root;
}

// A group of version 2: limits in its own words, used and given back in GiB.
static void put_group2(const char *root, const char *group, const char *max, const char *high, int used, int cached) {
    char path[256], text[256];
    snprintf(path, sizeof path, "sys/fs/cgroup%s/memory.max", group);
    put(root, path, max);
    snprintf(path, sizeof path, "sys/fs/cgroup%s/memory.high", group);
    put(root, path, high);
    snprintf(path, sizeof path, "sys/fs/cgroup%s/memory.current", group);
    snprintf(text, sizeof text, "%llu\n", (unsigned long long)used * GIB);
    put(root, path, text);
    snprintf(path, sizeof path, "sys/fs/cgroup%s/memory.stat", group);
    snprintf(text, sizeof text, "anon 1\nfile 77\ninactive_file %llu\nactive_file 9\n",
             (unsigned long long)cached * GIB);
    put(root, path, text);
}

static void put_group1(const char *root, const char *group, const char *limit, int used, int cached) {
    char path[256], text[256];
    snprintf(path, sizeof path, "sys/fs/cgroup/memory%s/memory.limit_in_bytes", group);
    put(root, path, limit);
    snprintf(path, sizeof path, "sys/fs/cgroup/memory%s/memory.usage_in_bytes", group);
    snprintf(text, sizeof text, "%llu\n", (unsigned long long)used * GIB);
    put(root, path, text);
    snprintf(path, sizeof path, "sys/fs/cgroup/memory%s/memory.stat", group);
    snprintf(text, sizeof text, "inactive_file 0\ntotal_inactive_file %llu\n", (unsigned long long)cached * GIB);
    put(root, path, text);
}

static void check_free(char *root, uint64_t bytes) {
    assert_int_equal(free_memory_under(root), bytes);
    assert_int_equal(lockable_memory_under(root), bytes);
    assert_int_equal(total_memory_under(root), 32 * GIB);
    remove_folder(root);
}

static void test_without_groups(void **state) {
    (void)state;
    check_free(machine(""), 16 * GIB);
    check_free(machine("0::/\n"), 16 * GIB);
    check_free(machine("no colon\n1:memory\n\n::\n"), 16 * GIB);
    char *root = make_folder(); // a machine that tells nothing
    assert_int_equal(free_memory_under(root), UINT64_MAX);
    assert_int_equal(total_memory_under(root), UINT64_MAX);
    assert_int_equal(lockable_memory_under(root), UINT64_MAX);
    assert_false(running_under_wsl_under(root));
    remove_folder(root);
}

static void test_version_2(void **state) {
    (void)state;
    char *root = machine("0::/user.slice/run.scope\n");
    put_group2(root, "/user.slice/run.scope", "4294967296\n", "max\n", 2, 1); // 4 GiB, 2 used, 1 of these given back
    check_free(root, 3 * GIB);

    root = machine("0::/user.slice/run.scope\n"); // the one above it binds
    put_group2(root, "/user.slice/run.scope", "max\n", "max\n", 1, 0);
    put_group2(root, "/user.slice", "8589934592\n", "max\n", 3, 1);
    check_free(root, 6 * GIB);

    root = machine("0::/user.slice/run.scope\n"); // beyond memory.high the process would stand still
    put_group2(root, "/user.slice/run.scope", "8589934592\n", "2147483648\n", 1, 0);
    check_free(root, 1 * GIB);

    root = machine("0::/full\n");
    put_group2(root, "/full", "1073741824\n", "max\n", 2, 0);
    check_free(root, 0);

    root = machine("0::/large\n"); // the machine has less than the group allows
    put_group2(root, "/large", "68719476736\n", "max\n", 2, 0);
    check_free(root, 16 * GIB);

    root = machine("0::/slice\n"); // of no account to this process
    put_group2(root, "/other", "1073741824\n", "max\n", 0, 0);
    put_group2(root, "/slice/below", "1073741824\n", "max\n", 0, 0);
    check_free(root, 16 * GIB);

    root = machine("1:name=systemd:/x\n0::/x\n"); // version 2 beside version 1
    put_group2(root, "/unified/x", "3221225472\n", "max\n", 0, 0);
    check_free(root, 3 * GIB);
}

// The container's own group is at the mount, whatever its path.
static void test_containers(void **state) {
    (void)state;
    static const char *const lines[] = {"0::/\n", "0::/docker/0123/init\n", "0::/../..\n"};
    for (int i = 0; i < 3; i++) {
        char *root = machine(lines[i]);
        put_group2(root, "", "5368709120\n", "max\n", 1, 0);
        check_free(root, 4 * GIB);
    }
    char *root = machine("9:cpu:/a\n4:cpuacct,memory:/docker/0123\n");
    put_group1(root, "", "5368709120\n", 2, 1);
    check_free(root, 4 * GIB);
}

static void test_version_1(void **state) {
    (void)state;
    char *root = machine("9:cpu:/a\n4:memory:/a/b\n0::/\n");
    put_group1(root, "", UNLIMITED1, 20, 0);
    put_group1(root, "/a", "6442450944\n", 3, 1);
    put_group1(root, "/a/b", UNLIMITED1, 1, 0);
    check_free(root, 4 * GIB);

    root = machine("9:cpu:/a\n4:memory:/a/b\n");
    put_group1(root, "/a", "6442450944\n", 3, 1);
    put_group1(root, "/a/b", "3221225472\n", 1, 0);
    check_free(root, 2 * GIB);

    root = machine("9:cpu,memoryless:/a/b\n");
    put_group1(root, "/a/b", "3221225472\n", 1, 0);
    check_free(root, 16 * GIB);
}

static void test_wsl(void **state) {
    (void)state;
    static const struct {
        const char *release;
        bool wsl;
    } kernels[] = {{"5.15.153.1-microsoft-standard-WSL2\n", true},
                   {"4.4.0-19041-Microsoft\n", true},
                   {"6.6.1-my-wsl2-kernel\n", true},
                   {"6.8.0-45-generic\n", false},
                   {"", false}};
    for (size_t i = 0; i < sizeof kernels / sizeof *kernels; i++) {
        char *root = machine("");
        put(root, "proc/sys/kernel/osrelease", kernels[i].release);
        put(root, "proc/meminfo", "MemTotal: 16777216 kB\nMemAvailable: 12582912 kB\n");
        assert_int_equal(running_under_wsl_under(root), kernels[i].wsl);
        assert_int_equal(free_memory_under(root), 12 * GIB);
        assert_int_equal(lockable_memory_under(root), (kernels[i].wsl ? 8 : 12) * GIB);
        put(root, "proc/meminfo", "MemTotal: 16777216 kB\nMemAvailable: 4194304 kB\n");
        assert_int_equal(lockable_memory_under(root), 4 * GIB);
        remove_folder(root);
    }
}

static void test_this_machine(void **state) {
    (void)state;
    assert_in_range(free_memory(), 1 << 20, total_memory());
    assert_in_range(lockable_memory(), 1, total_memory());
    if (running_under_wsl()) assert_true(lockable_memory() <= total_memory() / 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_without_groups), cmocka_unit_test(test_version_2), cmocka_unit_test(test_containers),
        cmocka_unit_test(test_version_1),      cmocka_unit_test(test_wsl),       cmocka_unit_test(test_this_machine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
