// test_export_failures.c - what goes wrong in lisa export has its message and leaves nothing half-written.
#include "base/buffer.h"
#include "base/files.h"
#include "base/numbers.h"
#include "model/source.h"
#include "tests/loaded_model.h"
#include "tests/support.h"
#include "tests/tiny_folder.h"
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char *folder, *model, *out;

static int make_model(void **state) {
    (void)state;
    folder = make_folder();
    model = tiny_model_folder(folder);
    out = path_join(folder, "out");
    return 0;
}

static int remove_model(void **state) {
    (void)state;
    free(model);
    free(out);
    remove_folder(folder);
    return 0;
}

// Nothing stands under the name, nor beside it.
static void assert_nothing_written(void) {
    char *partial = path_join(folder, ".out.partial");
    assert_false(path_exists(out));
    assert_false(path_exists(partial));
    free(partial);
}

// Runs lisa export with these arguments, which must fail with these words.
static void fails(int exit_code, const char *text, const char *hint, const char *const *arguments) {
    Run run = run_lisa(arguments);
    if (run.exit_code != exit_code || !strstr(run.err, text) || !strstr(run.err, hint))
        fail_msg("exit code %d, and:\n%s", run.exit_code, run.err);
    assert_string_equal(run.out, "");
    run_free(&run);
}

#define FAILS(exit_code, text, hint, ...)                                                                              \
    fails(exit_code, text, hint, (const char *const[]){"export", __VA_ARGS__, NULL})

static void test_usage(void **state) {
    (void)state;
    FAILS(2, "export_dir is not given", "add export_dir=FOLDER", model);
    FAILS(2, "model_name_or_path is not given", "name the trained model", "--export_dir", out);
    FAILS(2, "base is not given", "add base=MODEL", model, "--export_dir", out, "--export_format", "delta");
    FAILS(2, "both a model and a delta are given", "leave the other model out", model, "--export_dir", out, "--base",
          model, "--delta", folder);
    FAILS(2, "outtype: \"q2_k\" is not there", "auto, bf16, f16, q8_0, q4_0", model, "--export_dir", out, "--outtype",
          "q2_k");
    FAILS(2, "there is no template \"nosuch\"", "chatml", model, "--export_dir", out, "--template", "nosuch");
    FAILS(1, "delta", "name a folder that lisa export --export_format delta has written", "--base", model, "--delta",
          folder, "--export_dir", out);
    assert_nothing_written();
}

static void test_existing_target(void **state) {
    (void)state;
    Error error = {0};
    check(directory_create(out, &error), &error);
    free(write_text(out, "mine.txt", "precious"));
    FAILS(1, "/out is not empty", "nothing was written", model, "--export_dir", out);
    FAILS(1, "/out is not empty", "nothing was written", model, "--export_dir", out, "--export_format", "hf");
    char *file = path_join(out, "mine.txt");
    FAILS(1, "/mine.txt is a file", "nothing was written", model, "--export_dir", file);
    unlink(file);
    free(file);
    Run run = run_lisa((const char *const[]){"export", model, "--export_dir", out, NULL}); // an empty folder is fine
    assert_int_equal(run.exit_code, 0);
    run_free(&run);
    check(directory_remove(out, &error), &error);
    assert_nothing_written();
}

static void test_unknown_architecture(void **state) {
    (void)state;
    Error error = {0};
    char *other = path_join(folder, "other");
    check(directory_create(other, &error), &error);
    free(write_text(other, "config.json", "{\"model_type\": \"gemma3\", \"architectures\": [\"Gemma3ForCausalLM\"]}"));
    FAILS(1, "the architecture Gemma3ForCausalLM is not supported", "LLaMA, Mistral or Qwen2", other, "--export_dir",
          out);
    assert_nothing_written();
    free(other);
}

// The first file that is written cannot grow beyond some kilobytes, as on a full disk.
static void test_full_disk(void **state) {
    (void)state;
    static const char *const FORMATS[] = {"gguf", "hf"};
    char command[1024];
    for (size_t i = 0; i < 2; i++) {
        snprintf(command, sizeof command, "trap '' XFSZ; ulimit -f 8; $LISA export %s export_dir=%s export_format=%s",
                 model, out, FORMATS[i]);
        Run run = run_shell(command);
        assert_int_equal(run.exit_code, 1);
        if (!strstr(run.err, "cannot write") || !strstr(run.err, "File too large")) fail_msg("%s", run.err);
        run_free(&run);
        assert_nothing_written();
    }
}

#define ROWS 16777216 // the most that a vocabulary may have

// Appends a bf16 tensor to the text of a safetensors header; *end is where its data ends.
static void add_tensor(Buffer *header, int64_t *end, const char *name, int64_t rows, int64_t columns) {
    Error error = {0};
    int64_t begin = *end;
    *end += (rows ? rows : 1) * columns * 2;
    check(buffer_format(header, &error, ",\"%s\":{\"dtype\":\"BF16\",\"shape\":[", name), &error);
    if (rows) check(buffer_format(header, &error, "%lld,", (long long)rows), &error);
    check(buffer_format(header, &error, "%lld],\"data_offsets\":[%lld,%lld]}", (long long)columns, (long long)begin,
                        (long long)*end),
          &error);
}

// model.safetensors of one layer with one head of 32; its data is a hole, so that it takes no room.
static void write_hole(const char *large, int64_t hidden) {
    static const char *const INNER[] = {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "mlp.gate_proj",
                                        "mlp.up_proj"};
    static const char *const OUTER[] = {"self_attn.o_proj", "mlp.down_proj"};
    static const char *const NORMS[] = {"layers.0.input_layernorm", "layers.0.post_attention_layernorm", "norm"};
    Error error = {0};
    Buffer header = BUFFER_EMPTY;
    int64_t end = 0;
    char name[96];
    check(buffer_text(&header, "{\"__metadata__\":{\"format\":\"pt\"}", &error), &error);
    add_tensor(&header, &end, "model.embed_tokens.weight", ROWS, hidden);
    for (int i = 0; i < 5; i++) {
        snprintf(name, sizeof name, "model.layers.0.%s.weight", INNER[i]);
        add_tensor(&header, &end, name, 32, hidden);
    }
    for (int i = 0; i < 2; i++) {
        snprintf(name, sizeof name, "model.layers.0.%s.weight", OUTER[i]);
        add_tensor(&header, &end, name, hidden, 32);
    }
    for (int i = 0; i < 3; i++) {
        snprintf(name, sizeof name, "model.%s.weight", NORMS[i]);
        add_tensor(&header, &end, name, 0, hidden);
    }
    check(buffer_byte(&header, '}', &error), &error);
    uint64_t length = header.size;
    char *path = write_file(large, "model.safetensors", &length, sizeof length);
    int file = open(path, O_WRONLY | O_APPEND);
    assert_true(file >= 0 && write(file, header.data, header.size) == (ssize_t)header.size &&
                ftruncate(file, (off_t)(8 + header.size) + end) == 0);
    close(file);
    free(path);
    buffer_free(&header);
}

// A model larger than the disk.
static void test_disk_is_checked_first(void **state) {
    (void)state;
    Error error = {0};
    uint64_t have;
    char config[512], *large = path_join(folder, "large");
    check(disk_free_bytes(folder, &have, &error), &error);
    if (have > (uint64_t)4 << 40) skip(); // a file of that size is more than some file systems have
    int64_t hidden = round_up((int64_t)(have / 2 / ROWS) + 64, 32);
    check(directory_create(large, &error), &error);
    snprintf(config, sizeof config,
             "{\"model_type\": \"llama\", \"vocab_size\": %d, \"hidden_size\": %lld, \"intermediate_size\": 32, "
             "\"num_hidden_layers\": 1, \"num_attention_heads\": 1, \"head_dim\": 32, "
             "\"tie_word_embeddings\": true}",
             ROWS, (long long)hidden);
    free(write_text(large, "config.json", config));
    copy_file("tests/golden/templates/bpe/tokenizer.json", large, "tokenizer.json", -1);
    write_hole(large, hidden);
    FAILS(1, " are needed there, the disk has ", "nothing was written", large, "--export_dir", out, "--export_format",
          "hf");
    assert_nothing_written();
    free(large);
}

static void test_values_that_do_not_fit(void **state) {
    (void)state;
    Error error = {0};
    ModelSource *source = model_source_open(model, false, &error);
    check(source != NULL, &error);
    model_source_close(source);
    char *path = path_join(model, "model.safetensors");
    int file = open(path, O_WRONLY);
    bf16 large = bf16_from_float(70000);
    assert_true(file >= 0 && pwrite(file, &large, 2, path_size(path) - 2 - 64) == 2); // before the last norm
    close(file);
    FAILS(1, "holds a value that F16 cannot hold", "try --outtype bf16", model, "--export_dir", out, "--outtype",
          "f16");
    FAILS(1, "holds a value that Q8_0 cannot hold", "try --outtype bf16", model, "--export_dir", out, "--outtype",
          "q8_0");
    assert_nothing_written();
    free(path);
}

static void test_base_of_other_shapes(void **state) {
    (void)state;
    FAILS(1, "has other shapes than", "name the model that it was trained from as base", model, "--export_dir", out,
          "--export_format", "delta", "--base", "tests/golden/models/llama_tied");
    FAILS(1, "has other shapes than", "name the model that it was trained from as base", model, "--export_dir", out,
          "--base", "tests/golden/gguf/llama_rope_linear.gguf");
    FAILS(1, "base: model nosuch.gguf: no such file or folder", "", model, "--export_dir", out, "--base",
          "nosuch.gguf");
    assert_nothing_written();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_usage),
        cmocka_unit_test(test_existing_target),
        cmocka_unit_test(test_unknown_architecture),
        cmocka_unit_test(test_full_disk),
        cmocka_unit_test(test_disk_is_checked_first),
        cmocka_unit_test(test_base_of_other_shapes),
        cmocka_unit_test(test_values_that_do_not_fit), // last: it damages the model
    };
    return cmocka_run_group_tests(tests, make_model, remove_model);
}
