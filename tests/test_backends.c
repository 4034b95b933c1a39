// test_backends.c - which backend is chosen, how a card is noticed, and for which cards a build is made.
#include "tests/support.h"

#include "base/files.h"
#include "kernels/backends.h"
#include "kernels/cuda/cards.h"
#include "kernels/nvidia.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// ---- noticing a card

// Makes root/path with that text.
static void put(const char *root, const char *path, const char *text) {
    Error error = {0};
    char *file = path_join(root, path), *folder = strdup(file);
    *strrchr(folder, '/') = 0;
    check(directory_create(folder, &error), &error);
    check(file_write_atomic(file, text, strlen(text), &error), &error);
    free(file), free(folder);
}

static void assert_seen(const char *root, const char *expected) {
    const char *seen = nvidia_card_seen(root);
    if (!expected)
        assert_null(seen);
    else
        assert_string_equal(seen ? seen : "nothing", expected);
}

static void a_card_is_noticed_where_it_shows(void **state) {
    (void)state;
    char *root = make_folder();
    assert_seen(root, NULL);
    put(root, "dev/nvidiactl", ""); // not a card's
    put(root, "dev/dxg", "");       // Windows' graphics, of any make
    put(root, "sys/bus/pci/devices/0000:00:02.0/vendor", "0x8086\n");
    put(root, "sys/bus/pci/devices/0000:00:02.0/class", "0x030000\n");
    put(root, "sys/bus/pci/devices/0000:01:00.1/vendor", "0x10de\n"); // the card's sound
    put(root, "sys/bus/pci/devices/0000:01:00.1/class", "0x040300\n");
    assert_seen(root, NULL);
    put(root, "sys/bus/pci/devices/0000:01:00.0/vendor", "0x10de\n");
    put(root, "sys/bus/pci/devices/0000:01:00.0/class", "0x030200\n");
    assert_seen(root, "it is on the PCI bus");
    put(root, "proc/driver/nvidia/gpus/0000:01:00.0/information", "Model: A100\n");
    assert_seen(root, "the driver lists it");
    put(root, "dev/nvidia0", "");
    assert_seen(root, "it has device files");
    put(root, "usr/lib/wsl/lib/libcuda.so.1", "");
    assert_seen(root, "Windows shares it with WSL2");
    remove_folder(root);
}

// ---- choosing

static void a_device_is_named_rightly_or_refused(void **state) {
    (void)state;
    static const char *const wrong[] = {
        "", "gpu", "cuda:", "cuda:x", "cuda:1x", "cuda:-1", "cuda:99999999999999999999", "cuda0", "CPU"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        Error error = {0};
        char expected[128];
        assert_null(backend_open(wrong[i], 1, &error));
        snprintf(expected, sizeof expected, "device: \"%s\" is not auto, cpu, cuda or cuda:<number>", wrong[i]);
        assert_string_equal(error.text, expected);
        assert_string_equal(error.hint, "cards are counted from 0; lisa info lists them");
        assert_int_equal(error.exit_code, ERROR_EXIT_USAGE);
    }
    Error error = {0};
    Backend *b = backend_open("cpu", 2, &error);
    check(b != NULL, &error);
    assert_string_equal(b->name, "cpu");
    assert_int_equal(thread_pool_size(b->threads), 2);
    b->destroy(b);
}

// ---- architectures

// A folder with an nvcc that knows these architectures and an nvidia-smi that names these cards.
static char *make_toolkit(const char *version, const char *known, const char *cards) {
    char *folder = make_folder(), text[512];
    snprintf(text, sizeof text,
             "#!/bin/sh\nif [ \"$1\" = --version ]; then echo 'Cuda compilation tools, release %s, V1'; else\n"
             "for a in %s; do echo compute_$a; done; fi\n",
             version, known);
    free(write_text(folder, "nvcc", text));
    snprintf(text, sizeof text, "#!/bin/sh\n[ \"%s\" ] || exit 9\nprintf '%s'\n", cards, cards);
    free(write_text(folder, "nvidia-smi", text));
    snprintf(text, sizeof text, "chmod +x %s/*", folder);
    Run run = run_shell(text);
    run_free(&run);
    return folder;
}

static void assert_flags(const char *toolkit, const char *arch, int exit_code, const char *names, const char *said) {
    char command[512], *flags;
    snprintf(command, sizeof command, "PATH=%s:$PATH kernels/cuda/architectures %s/nvcc '%s'", toolkit, toolkit, arch);
    Run run = run_shell(command);
    assert_int_equal(run.exit_code, exit_code);
    assert_string_equal(run.err, said);
    if (exit_code == 0) {
        assert_non_null(flags = strstr(run.out, "-DCUDA_ARCHITECTURES="));
        flags[strcspn(flags, "\n")] = 0;
        assert_string_equal(flags + strlen("-DCUDA_ARCHITECTURES="), names);
    }
    run_free(&run);
}

static void a_build_is_made_for_the_cards_here(void **state) {
    (void)state;
    char *new_one = make_toolkit("13.0", "75 80 86 89 90 120", "");
    char *old = make_toolkit("11.5", "35 52 80 86", "12.0\\n8.6\\n12.0\\n");
    char *weak = make_toolkit("13.0", "75 80 86 89 90 120", "7.5\\n");
    assert_flags(new_one, "", 0, "sm_89+compute_89", "");
    assert_flags(new_one, "all", 0, "sm_80+sm_86+sm_89+sm_90+sm_120+compute_120", "");
    assert_flags(new_one, "sm_120,86", 0, "sm_86+sm_120+compute_120", "");
    assert_flags(new_one, "75", 1, "",
                 "make: CUDA_ARCH=75: give all, or numbers from 80 on as in CUDA_ARCH=\"86 89\"\n");
    assert_flags(new_one, "ada", 1, "",
                 "make: CUDA_ARCH=ada: give all, or numbers from 80 on as in CUDA_ARCH=\"86 89\"\n");
    assert_flags(old, "", 0, "sm_86+compute_86",
                 "CUDA: nvcc 11.5 does not know sm_120, which needs CUDA 12.8; it is left out\n");
    assert_flags(old, "all", 0, "sm_80+sm_86+compute_86",
                 "CUDA: nvcc 11.5 does not know sm_89, which needs CUDA 11.8; it is left out\n"
                 "CUDA: nvcc 11.5 does not know sm_90, which needs CUDA 11.8; it is left out\n"
                 "CUDA: nvcc 11.5 does not know sm_120, which needs CUDA 12.8; it is left out\n");
    assert_flags(old, "89", 0, "compute_86",
                 "CUDA: nvcc 11.5 does not know sm_89, which needs CUDA 11.8; it is left out\n");
    assert_flags(weak, "", 0, "compute_80",
                 "CUDA: a card here is sm_75; bf16 needs sm_80 or newer, so it is left out\n");
    remove_folder(new_one), remove_folder(old), remove_folder(weak);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_card_is_noticed_where_it_shows),
        cmocka_unit_test(a_device_is_named_rightly_or_refused),
        cmocka_unit_test(a_build_is_made_for_the_cards_here),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
