// test_cublaslt.c - how the CUDA backend uses cuBLASLt, with a stand-in for the library (tests/cublaslt): that what it
// is told describes the right product, how it is found, and what is said when it fails.
//
// This program alone is linked with gemm_cublaslt.cu. Its calls of dlopen come here (-Wl,--wrap), so that a real
// library on the machine is never opened.
#include "tests/support.h"

#include "base/files.h"
#include "base/numbers.h"
#include "kernels/cuda/cublaslt.h"
#include "kernels/cuda/gemm.h"
#include "tests/cublaslt/fake.h"
#include "tests/emulator/emulator.h"
#include <dlfcn.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// ---- the loader

static char *home;        // only files below this folder are opened
static char opened[8192]; // all that was asked for, a line each

void *__real_dlopen(const char *path, int flags);
char *__real_dlerror(void);
void *__wrap_dlopen(const char *path, int flags);
char *__wrap_dlerror(void);

static bool refused_last;

void *__wrap_dlopen(const char *path, int flags) {
    size_t used = strlen(opened);
    snprintf(opened + used, sizeof opened - used, "%s\n", path);
    refused_last = !home || strncmp(path, home, strlen(home)) != 0;
    return refused_last ? NULL : __real_dlopen(path, flags);
}

char *__wrap_dlerror(void) {
    return refused_last ? "not opened by this test" : __real_dlerror();
}

// A CUDA_HOME that holds this file as its library of that version; "" for the stand-in.
static void install(const char *file, int version) {
    char fake[512], name[64], here[256];
    const char *build = getenv("BUILD");
    assert_non_null(getcwd(here, sizeof here));
    snprintf(fake, sizeof fake, "%s/%s/tests/cublaslt/libcublasLt.so", here, build ? build : "build");
    snprintf(name, sizeof name, "/lib64/libcublasLt.so.%d", version);
    Error error = {0};
    char *folder = path_join(home, "lib64"), *path = path_join(home, name + 1);
    check(directory_create(folder, &error), &error);
    assert_int_equal(symlink(*file ? file : fake, path), 0);
    free(folder), free(path);
}

static int make_home(void **state) {
    (void)state;
    home = make_folder();
    setenv("CUDA_HOME", home, 1);
    unsetenv("CONDA_PREFIX"), unsetenv("VIRTUAL_ENV"), unsetenv("HOME");
    *opened = 0;
    return 0;
}

static int remove_home(void **state) {
    (void)state;
    remove_folder(home);
    home = NULL;
    emulator_memory_limit((size_t)8 << 30);
    return 0;
}

// The stand-in's own view, while a Gemm holds it open.
static FakeCublasLt *fake(void) {
    char *path = path_join(home, "lib64/libcublasLt.so.13");
    void *library = __real_dlopen(path, RTLD_NOW | RTLD_NOLOAD);
    assert_non_null(library);
    FakeCublasLt *state = dlsym(library, "fake_cublaslt");
    assert_non_null(state);
    dlclose(library);
    free(path);
    return state;
}

// ---- products

// Arrays on the host stand for those of a card: the stand-in reads them.
typedef struct Case {
    GemmCall call;
    bf16 *first, *second, *bias;
    void *out, *add;   // float where the call sums, else bf16
    double *reference; // [m, out_stride]; what it was where nothing is written
} Case;

static bf16 *random_halves(uint64_t key, int64_t count) {
    bf16 *values = malloc((size_t)(count + 8) * sizeof *values);
    for (int64_t i = 0; i < count + 8; i++) values[i] = bf16_from_float(noise(key, (uint64_t)i));
    return values;
}

static double value_at(const void *values, bool floats, int64_t index) {
    return floats ? (double)((const float *)values)[index] : (double)bf16_to_float(((const bf16 *)values)[index]);
}

static void *random_output(uint64_t key, int64_t count, bool floats) {
    if (!floats) return random_halves(key, count);
    float *values = malloc((size_t)(count + 8) * sizeof *values);
    for (int64_t i = 0; i < count + 8; i++) values[i] = noise(key, (uint64_t)i);
    return values;
}

// The definition of the layouts in kernels.h, word for word.
static double product_at(const GemmCall *c, int64_t i, int64_t j) {
    double sum = 0;
    for (int64_t p = 0; p < c->k; p++) {
        int64_t a = c->layout == GEMM_BACKWARD_WEIGHT ? p * c->first_stride + i : i * c->first_stride + p;
        int64_t b = c->layout == GEMM_FORWARD ? j * c->second_stride + p : p * c->second_stride + j;
        sum += (double)bf16_to_float(c->first[a]) * (double)bf16_to_float(c->second[b]);
    }
    return sum;
}

typedef enum { PLAIN, ADDED, ADDED_IN_PLACE, BIASED, BIASED_AND_ADDED, SUMMED, VARIANTS } Variant;

static Case make_case(GemmLayout layout, int64_t m, int64_t n, int64_t k, int64_t padding, Variant variant) {
    Case c = {.call = {.layout = layout, .m = m, .n = n, .k = k, .sums = variant == SUMMED}};
    int64_t first_rows = layout == GEMM_BACKWARD_WEIGHT ? k : m, first_columns = layout == GEMM_BACKWARD_WEIGHT ? m : k;
    int64_t second_rows = layout == GEMM_FORWARD ? n : k, second_columns = layout == GEMM_FORWARD ? k : n;
    GemmCall *call = &c.call;
    call->first_stride = first_columns + padding;
    call->second_stride = second_columns + 2 * padding;
    call->out_stride = n + 3 * padding;
    call->first = c.first = random_halves(1, first_rows * call->first_stride);
    call->second = c.second = random_halves(2, second_rows * call->second_stride);
    c.bias = random_halves(3, n);
    if (variant == BIASED || variant == BIASED_AND_ADDED) call->bias = c.bias;
    call->out = c.out = random_output(4, m * call->out_stride, call->sums);
    c.add = random_output(5, m * call->out_stride, call->sums);
    if (variant == ADDED || variant == BIASED_AND_ADDED) call->add = c.add;
    if (variant == ADDED_IN_PLACE || variant == SUMMED) call->add = c.out;
    c.reference = malloc((size_t)(m * call->out_stride) * sizeof *c.reference);
    for (int64_t at = 0; at < m * call->out_stride; at++) {
        int64_t i = at / call->out_stride, j = at % call->out_stride;
        c.reference[at] = j < n ? product_at(call, i, j) : value_at(c.out, call->sums, at);
        if (j < n && call->bias) c.reference[at] += (double)bf16_to_float(c.bias[j]);
        if (j < n && call->add) c.reference[at] += value_at(call->add, call->sums, at);
    }
    return c;
}

static void free_case(Case *c) {
    free(c->first), free(c->second), free(c->bias), free(c->out), free(c->add), free(c->reference);
}

static void check_case(Gemm *gemm, Case *c) {
    Error error = {0};
    check(gemm_multiply(gemm, &c->call, NULL, &error), &error);
    for (int64_t at = 0; at < c->call.m * c->call.out_stride; at++) {
        double value = value_at(c->out, c->call.sums, at), expected = c->reference[at];
        double allowed = (c->call.sums ? 1e-6 : 0x1p-8) * fabs(expected) + 1e-6;
        if (!(fabs(value - expected) <= allowed))
            fail_msg("layout %d, %lld x %lld x %lld, element %lld: %g instead of %g", c->call.layout,
                     (long long)c->call.m, (long long)c->call.n, (long long)c->call.k, (long long)at, value, expected);
    }
}

static void the_descriptors_mean_the_product(void **state) {
    (void)state;
    static const int64_t shapes[][4] = {{1, 1, 1, 0}, {3, 5, 7, 0},  {8, 16, 24, 0}, {16, 8, 8, 8},
                                        {3, 5, 8, 0}, {5, 16, 8, 3}, {31, 9, 2, 64}, {2, 33, 17, 1}};
    Error error = {0};
    install("", 13);
    Gemm *gemm = gemm_create(&error);
    check(gemm != NULL, &error);
    assert_int_equal(gemm_workspace_bytes(gemm), 32 << 20);
    FakeCublasLt *library = fake();
    long before = library->multiplications, done = 0;
    for (int layout = GEMM_FORWARD; layout <= GEMM_BACKWARD_WEIGHT; layout++) {
        for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
            for (int variant = PLAIN; variant < VARIANTS; variant++, done++) {
                Case c = make_case((GemmLayout)layout, shapes[s][0], shapes[s][1], shapes[s][2], shapes[s][3],
                                   (Variant)variant);
                check_case(gemm, &c);
                free_case(&c);
            }
        }
    }
    assert_int_equal(library->multiplications - before, done);
    gemm_free(gemm);
}

// ---- plans

static void a_shape_is_planned_once(void **state) {
    (void)state;
    Error error = {0};
    install("", 13);
    Gemm *gemm = gemm_create(&error);
    check(gemm != NULL, &error);
    FakeCublasLt *library = fake();
    long before = library->heuristics;
    for (int i = 0; i < 3; i++) {
        Case c = make_case(GEMM_FORWARD, 8, 16, 24, 0, BIASED); // each with a bias of its own
        check_case(gemm, &c);
        free_case(&c);
    }
    assert_int_equal(library->heuristics - before, 1);
    // memory that is aligned less may need another algorithm; more than a kernel can use changes nothing
    Case c = make_case(GEMM_FORWARD, 8, 16, 24, 0, PLAIN);
    static const struct { int shift, plans; } places[] = {{0, 1}, {8, 0}, {4, 1}, {2, 1}, {1, 1}};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        int shift = places[i].shift;
        memmove(c.first + shift, c.first, 8 * 24 * sizeof *c.first);
        c.call.first = c.first + shift;
        before = library->heuristics;
        check_case(gemm, &c);
        assert_int_equal(library->heuristics - before, places[i].plans);
        memmove(c.first, c.first + shift, 8 * 24 * sizeof *c.first);
    }
    free_case(&c);
    gemm_free(gemm);
}

// More shapes than are kept: each is right, what is forgotten is freed, and what is used stays.
static void plans_are_bounded(void **state) {
    (void)state;
    Error error = {0};
    install("", 13);
    Gemm *gemm = gemm_create(&error);
    check(gemm != NULL, &error);
    FakeCublasLt *library = fake();
    long most = 0, kept = library->heuristics;
    for (int64_t m = 1; m <= 600; m++) {
        Case c = make_case(GEMM_FORWARD, m, 1, 1, 0, PLAIN), always = make_case(GEMM_FORWARD, 7, 7, 7, 0, PLAIN);
        check_case(gemm, &c);
        check_case(gemm, &always);
        free_case(&c), free_case(&always);
        if (library->live > most) most = library->live;
    }
    assert_int_equal(library->heuristics - kept, 601);
    assert_int_equal(most, 2 + 256 * 4); // the handle, the preferences, and each plan's product and three matrices
    char *path = path_join(home, "lib64/libcublasLt.so.13");
    void *held = __real_dlopen(path, RTLD_NOW); // so that the counts outlive the Gemm
    gemm_free(gemm);
    assert_int_equal(library->live, 0);
    dlclose(held);
    free(path);
}

// ---- failures

static void assert_no_gemm(const char *text, const char *hint) {
    Error error = {0};
    assert_null(gemm_create(&error));
    assert_string_equal(error.text, text);
    assert_string_equal(error.hint, hint);
}

static void a_library_that_is_not_there(void **state) {
    (void)state;
    static const char expected[] =
        "cuBLASLt was not found: no libcublasLt.so.13 (nor of another version) could be opened in $CUDA_HOME/lib64, "
        "$CUDA_HOME/lib, the loader's folders (LD_LIBRARY_PATH, ldconfig), /usr/local/cuda/lib64, "
        "/usr/local/cuda-*/lib64, $CONDA_PREFIX/lib, $CONDA_PREFIX/lib/python3*/site-packages/nvidia/cu*/lib, "
        "$VIRTUAL_ENV/lib/python3*/site-packages/nvidia/cu*/lib, "
        "$HOME/.local/lib/python3*/site-packages/nvidia/cu*/lib, "
        "/usr/local/lib/python3*/dist-packages/nvidia/cu*/lib";
    Error error = {0};
    assert_null(gemm_create(&error));
    error.text[sizeof expected - 1] = 0; // what follows depends on the machine
    assert_string_equal(error.text, expected);
    assert_string_equal(error.hint,
                        "install it (apt install libcublas-13-0, or pip install nvidia-cublas), or name its "
                        "folder in LD_LIBRARY_PATH");
    // the toolkit's version first, everywhere; then the others
    const char *at = opened;
    for (int version = 13; version >= 11; version--) {
        char name[32];
        snprintf(name, sizeof name, "\nlibcublasLt.so.%d\n", version);
        const char *next = version == 13 ? (strncmp(at, name + 1, strlen(name) - 1) ? NULL : at) : strstr(at, name);
        assert_non_null(next);
        at = next;
    }
}

static void a_library_of_another_version(void **state) {
    (void)state;
    Error error = {0};
    CublasLt lt;
    install("", 12);
    check(cublaslt_open(&lt, 13, &error), &error);
    assert_non_null(strstr(lt.path, "/lib64/libcublasLt.so.12"));
    cublaslt_close(&lt);
    install("", 13);
    check(cublaslt_open(&lt, 13, &error), &error);
    assert_non_null(strstr(lt.path, "/lib64/libcublasLt.so.13"));
    cublaslt_close(&lt);
    check(cublaslt_open(&lt, 12, &error), &error);
    assert_non_null(strstr(lt.path, "/lib64/libcublasLt.so.12"));
    cublaslt_close(&lt);
}

static void a_python_package(void **state) {
    (void)state;
    Error error = {0};
    CublasLt lt;
    install("", 13);
    char command[1024];
    snprintf(command, sizeof command,
             "mkdir -p %s/lib/python3.11/site-packages/nvidia/cublas/lib && "
             "mv %s/lib64/* %s/lib/python3.11/site-packages/nvidia/cublas/lib/",
             home, home, home);
    Run run = run_shell(command);
    assert_int_equal(run.exit_code, 0);
    run_free(&run);
    setenv("VIRTUAL_ENV", home, 1);
    check(cublaslt_open(&lt, 13, &error), &error);
    assert_non_null(strstr(lt.path, "/site-packages/nvidia/cublas/lib/libcublasLt.so.13"));
    cublaslt_close(&lt);
}

static void a_library_that_is_none(void **state) {
    (void)state;
    Error error = {0};
    char *text = write_text(home, "text", "no library");
    install(text, 13);
    assert_null(gemm_create(&error));
    assert_non_null(strstr(error.text, "; of the one that is there the loader says: "));
    free(text);
}

static void a_library_that_fails(void **state) {
    (void)state;
    Error error = {0};
    char expected[1024], hint[] = "another version of cuBLAS may do it; --device cpu does without";
    install("", 13);
    Gemm *gemm = gemm_create(&error);
    check(gemm != NULL, &error);
    FakeCublasLt *library = fake();
    Case c = make_case(GEMM_BACKWARD_INPUT, 3, 5, 7, 0, PLAIN);
    library->heuristic_status = LT_NOT_SUPPORTED;
    assert_false(gemm_multiply(gemm, &c.call, NULL, &error));
    snprintf(expected, sizeof expected,
             "cuBLASLt (%s/lib64/libcublasLt.so.13) has no way to compute dout W with m 3, n 5, k 7: status 15, the "
             "requested functionality is not supported",
             home);
    assert_string_equal(error.text, expected);
    assert_string_equal(error.hint, hint);
    library->heuristic_status = 0;
    library->multiply_status = 14;
    assert_false(gemm_multiply(gemm, &c.call, NULL, &error));
    snprintf(expected, sizeof expected,
             "cuBLASLt (%s/lib64/libcublasLt.so.13) failed at dout W with m 3, n 5, k 7: status 14, an error", home);
    assert_string_equal(error.text, expected);
    assert_string_equal(error.hint, hint);
    library->multiply_status = 0;
    check_case(gemm, &c);
    free_case(&c);

    library->create_status = 1;
    snprintf(expected, sizeof expected, "cuBLASLt (%s/lib64/libcublasLt.so.13) could not be started: status 1", home);
    assert_no_gemm(expected, "its version should be that of the driver and of the CUDA toolkit lisa was built with");
    library->create_status = 0;
    size_t in_use = 32 << 20; // of the one that is there
    emulator_memory_limit(in_use + (8 << 20));
    assert_no_gemm("out of memory: the work space of cuBLASLt on the card needs 33554432 bytes",
                   "close other programs, or train with a smaller model, batch or cutoff_len");
    gemm_free(gemm);
}

#define AT_HOME(test) cmocka_unit_test_setup_teardown(test, make_home, remove_home)

int main(void) {
    const struct CMUnitTest tests[] = {
        AT_HOME(the_descriptors_mean_the_product), AT_HOME(a_shape_is_planned_once),      AT_HOME(plans_are_bounded),
        AT_HOME(a_library_that_is_not_there),      AT_HOME(a_library_of_another_version), AT_HOME(a_python_package),
        AT_HOME(a_library_that_is_none),           AT_HOME(a_library_that_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
