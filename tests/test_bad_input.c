// test_bad_input.c - wrong files, data and options from outside: the exact message, the exit code, and nothing left
// behind. What the readers refuse in detail is tested beside each of them.
#include "base/buffer.h"
#include "base/files.h"
#include "base/safetensors.h"
#include "tests/loaded_model.h"
#include "tests/support.h"
#include "tests/tiny_folder.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define GGUF     "tests/golden/gguf/qwen2_tied_window.gguf"
#define RUN(...) run_lisa((const char *const[]){__VA_ARGS__, NULL})

static char *folder, *model, *data, *output;

static int set_up(void **state) {
    (void)state;
    folder = make_folder();
    model = tiny_model_folder(folder);
    data = tiny_data_file(folder, 24);
    output = path_join(folder, "out");
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    free(data);
    free(model);
    free(output);
    remove_folder(folder);
    return 0;
}

// The text with each name of the test's folder replaced by "DIR" (caller's memory).
static char *without_folder(const char *text) {
    Buffer out = BUFFER_EMPTY;
    Error error = {0};
    size_t size = strlen(folder);
    for (const char *at; (at = strstr(text, folder)); text = at + size)
        check(buffer_append(&out, text, (size_t)(at - text), &error) && buffer_text(&out, "DIR", &error), &error);
    check(buffer_text(&out, text, &error), &error);
    return out.data;
}

// The program must end with this exit code and this on stderr, with nothing on stdout and no output folder.
static void ends_with(Run run, int exit_code, const char *expected) {
    char *err = without_folder(run.err);
    assert_string_equal(err, expected);
    assert_int_equal(run.exit_code, exit_code);
    assert_string_equal(run.out, "");
    assert_false(path_exists(output));
    free(err);
    run_free(&run);
}

#define TRAIN(...) RUN("train", "--template", "alpaca", "-o", output, "-t", "1", __VA_ARGS__)

// The same for a data file of this content.
static void data_ends_with(const char *name, const char *text, const char *expected) {
    char *path = write_text(folder, name, text);
    ends_with(TRAIN("-m", model, "--dataset", path), 1, expected);
    free(path);
}

// ---- paths

#define NO_FILE(path) "lisa: error: cannot read " path ": No such file or directory\nHINT: check the path\n"
#define NO_MODEL(path)                                                                                                 \
    "lisa: error: model " path ": no such file or folder\nHINT: give a Hugging Face model folder, "                    \
    "a .gguf file or a hub id such as HuggingFaceTB/SmolLM2-135M-Instruct\n"

static void missing_files(void **state) {
    (void)state;
    ends_with(TRAIN("-m", model, "--dataset", "/no/data.json"), 1, NO_FILE("/no/data.json"));
    ends_with(TRAIN("-m", model, "--dataset", data, "--eval-dataset", "/no/data.json"), 1, NO_FILE("/no/data.json"));
    ends_with(TRAIN("/no/run.yaml"), 1, NO_FILE("/no/run.yaml"));
    ends_with(TRAIN("-m", "/no/model", "--dataset", data), 1, NO_MODEL("/no/model"));
    ends_with(RUN("preview", "-m", "/no/model", "--dataset", data), 1, NO_MODEL("/no/model"));
    ends_with(RUN("eval", "/no/model", "--dataset", data), 1, NO_MODEL("/no/model"));
    ends_with(RUN("plan", "/no/model"), 1, NO_MODEL("/no/model"));
    ends_with(RUN("info", "/no/model"), 1, NO_MODEL("/no/model"));
    ends_with(RUN("generate", "/no/model", "-p", "hi"), 1, NO_MODEL("/no/model"));
    ends_with(RUN("chat", "/no/model"), 1, NO_MODEL("/no/model"));
    ends_with(RUN("generate", data, "-p", "hi"), 1,
              "lisa: error: DIR/data.jsonl is neither a GGUF file nor a folder\nHINT: give the folder that holds "
              "config.json and model.safetensors, or a .gguf file\n");
}

static void output_folders_that_cannot_be_used(void **state) {
    (void)state;
    ends_with(RUN("train", "-m", model, "--dataset", data, "-o", data), 1,
              "lisa: error: output_dir: DIR/data.jsonl is a file, not a folder\nHINT: name another folder, or move the "
              "file away\n");
    char *below = path_join(data, "out");
    ends_with(RUN("train", "-m", model, "--dataset", data, "-o", below), 1,
              "lisa: error: output_dir: cannot create DIR/data.jsonl/out: Not a directory\nHINT: check the path\n");
    free(below);
    ends_with(RUN("train", "-m", model, "--dataset", data, "-o", "/proc/lisa"), 1,
              "lisa: error: output_dir: cannot create /proc/lisa: No such file or directory\nHINT: check the path\n");
    ends_with(
        RUN("train", "-m", model, "--dataset", data, "-o", model), 1,
        "lisa: error: output_dir DIR/model is not empty (it holds tokenizer_config.json) and has no checkpoint to "
        "resume\nHINT: name another output_dir, or give overwrite_output_dir=true, which removes only what lisa "
        "wrote there\n");
    ends_with(TRAIN("-m", model, "--dataset", data, "resume_from_checkpoint=true"), 1,
              "lisa: error: resume_from_checkpoint: there is no checkpoint in DIR/out\nHINT: leave "
              "resume_from_checkpoint out to start from the model\n");
    char *resume;
    assert_true(asprintf(&resume, "resume_from_checkpoint=%s", model) > 0);
    ends_with(TRAIN("-m", model, "--dataset", data, resume), 1,
              "lisa: error: resume_from_checkpoint: DIR/model is no checkpoint: it has no manifest.json\nHINT: give a "
              "folder checkpoint-<step> of an output_dir, or true for its newest one\n");
    free(resume);
}

// ---- models

// A model of its own to damage, in folder/bad/model (caller's memory); remove_bad_model takes both away.
static char *bad_model(void) {
    Error error = {0};
    char *bad = path_join(folder, "bad");
    check(directory_create(bad, &error), &error);
    char *path = tiny_model_folder(bad);
    free(bad);
    return path;
}

static void remove_bad_model(char *path) {
    remove_folder(path);
    remove_folder(path_join(folder, "bad"));
}

// Replaces the first occurrence of a text in a file by another.
static void edit(const char *path, const char *name, const char *from, const char *to) {
    Error error = {0};
    char *file = path_join(path, name), *bytes;
    size_t size, from_size = strlen(from), to_size = strlen(to);
    check(file_read(file, 1 << 24, &bytes, &size, &error), &error);
    char *at = memmem(bytes, size, from, from_size);
    if (!at) fail_msg("%s does not hold %s", file, from);
    Buffer edited = BUFFER_EMPTY;
    check(buffer_append(&edited, bytes, (size_t)(at - bytes), &error) && buffer_append(&edited, to, to_size, &error) &&
              buffer_append(&edited, at + from_size, (size_t)(bytes + size - at) - from_size, &error),
          &error);
    free(write_file(path, name, edited.data, edited.size));
    buffer_free(&edited);
    free(bytes);
    free(file);
}

static void cut(const char *path, const char *name, long size) {
    char *file = path_join(path, name);
    assert_int_equal(truncate(file, size), 0);
    free(file);
}

#define DAMAGED "HINT: the file is damaged or was not downloaded completely; download it again\n"

static void weights_that_cannot_be_used(void **state) {
    (void)state;
    char *bad = bad_model();
    edit(bad, "config.json", "\"intermediate_size\": 48", "\"intermediate_size\": 50");
    ends_with(TRAIN("-m", bad, "--dataset", data), 1,
              "lisa: error: DIR/bad/model/model.safetensors: tensor \"model.layers.0.mlp.gate_proj.weight\" has the "
              "shape [48, 32], but the configuration needs [50, 32]\nHINT: the weights do not belong to this "
              "configuration; download the model again\n");
    edit(bad, "config.json", "\"intermediate_size\": 50", "\"intermediate_size\": 48");
    edit(bad, "model.safetensors", "layers.2.mlp.up_proj.weight", "layers.2.mlp.up_porj.weight");
    ends_with(
        TRAIN("-m", bad, "--dataset", data), 1,
        "lisa: error: DIR/bad/model/model.safetensors: tensor \"model.layers.2.mlp.up_proj.weight\" of shape [48, "
        "32] is missing\nHINT: the weights do not belong to this configuration, or the download is not "
        "complete\n");
    cut(bad, "model.safetensors", 60000);
    ends_with(TRAIN("-m", bad, "--dataset", data), 1,
              "lisa: error: DIR/bad/model/model.safetensors: the file is truncated: its tensors need 126016 bytes, "
              "56088 are there\n" DAMAGED);
    free(write_file(bad, "model.safetensors", "\xff\xff\xff\x7f\0\0\0\0{}", 10));
    ends_with(TRAIN("-m", bad, "--dataset", data), 1,
              "lisa: error: DIR/bad/model/model.safetensors: the header should be 2147483647 bytes long, but only 2 "
              "bytes follow\n" DAMAGED);
    char *weights = path_join(bad, "model.safetensors");
    assert_int_equal(remove(weights), 0);
    free(weights);
    free(write_text(bad, "pytorch_model.bin", "PK"));
    ends_with(TRAIN("-m", bad, "--dataset", data), 1,
              "lisa: error: DIR/bad/model: pytorch_model.bin is a pickle checkpoint; reading one can run code that it "
              "contains, so it is refused\nHINT: convert it once, if you trust it: python3 -c \"from transformers "
              "import AutoModelForCausalLM as M; M.from_pretrained('DIR/bad/model').save_pretrained("
              "'DIR/bad/model-safetensors', safe_serialization=True)\"\n");
    remove_bad_model(bad);
}

static void configurations_that_cannot_be_used(void **state) {
    (void)state;
    char *bad = bad_model();
    edit(bad, "config.json", "LlamaForCausalLM", "BertModel");
    ends_with(TRAIN("-m", bad, "--dataset", data), 1,
              "lisa: error: DIR/bad/model/config.json: the architecture BertModel is not supported (supported: "
              "LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM)\nHINT: take a model of the LLaMA, Mistral or "
              "Qwen2 family, for example HuggingFaceTB/SmolLM2-135M-Instruct\n");
    free(write_text(bad, "config.json", "{\n \"a\": }"));
    ends_with(RUN("plan", bad), 1,
              "lisa: error: DIR/bad/model/config.json:2:7: malformed JSON: unexpected token near '}'\nHINT: mend the "
              "file at that place; `python3 -m json.tool FILE` checks it\n");
    char *config = path_join(bad, "config.json");
    assert_int_equal(remove(config), 0);
    free(config);
    ends_with(RUN("info", bad), 1,
              "lisa: error: DIR/bad/model: there is no config.json in this folder\nHINT: give a Hugging Face model "
              "folder, a .gguf file or a hub id\n");
    remove_bad_model(bad);
}

static void tokenizers_that_cannot_be_used(void **state) {
    (void)state;
    char *bad = bad_model();
    edit(bad, "tokenizer.json", "\"added_tokens\":[",
         "\"added_tokens\":[{\"id\":1000,\"content\":\"<x>\",\"special\":true},");
    ends_with(
        TRAIN("-m", bad, "--dataset", data), 1,
        "lisa: error: DIR/bad/model: the tokenizer has 1001 ids, the model's vocabulary only 1000 rows\nHINT: use "
        "the tokenizer files that came with this model, or resize the model's embedding\n");
    char *tokenizer = path_join(bad, "tokenizer.json");
    assert_int_equal(remove(tokenizer), 0);
    free(tokenizer);
    ends_with(RUN("generate", bad, "-p", "hi"), 1,
              "lisa: error: DIR/bad/model has no tokenizer: neither tokenizer.json nor tokenizer.model is there\nHINT: "
              "copy tokenizer.json or tokenizer.model, and tokenizer_config.json, into it from where the model came "
              "from\n");
    remove_bad_model(bad);
}

static void gguf_files_that_cannot_be_used(void **state) {
    (void)state;
    Error error = {0};
    char *bytes, *path;
    size_t size;
    check(file_read(GGUF, 1 << 20, &bytes, &size, &error), &error);
    path = write_file(folder, "cut.gguf", bytes, size - 2000);
    ends_with(
        RUN("info", path), 1,
        "lisa: error: DIR/cut.gguf: the data of tensor \"blk.2.attn_output.weight\" (1152 bytes) does not lie inside "
        "the file (27088 bytes)\n" DAMAGED);
    free(path);
    char *name = memmem(bytes, size, "blk.1.ffn_up.weight", 19);
    assert_non_null(name);
    uint32_t type = 16; // IQ2_XXS
    memcpy(name + 19 + 4 + 2 * 8, &type, sizeof type);
    path = write_file(folder, "odd.gguf", bytes, size);
    ends_with(RUN("info", path), 1,
              "lisa: error: DIR/odd.gguf: tensor \"blk.1.ffn_up.weight\" is stored as IQ2_XXS, which is not supported\n"
              "HINT: take a file of one of these types: F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K, "
              "Q6_K\n");
    free(path);
    path = write_text(folder, "no.gguf", "GGML");
    ends_with(RUN("info", path), 1,
              "lisa: error: DIR/no.gguf: not a GGUF file (it does not start with \"GGUF\")\nHINT: give a .gguf file, a "
              "Hugging Face directory or a hub id as model_name_or_path\n");
    free(path);
    free(bytes);
}

// A number in the weights that is none: the run stops at its first step and says so.
static void a_loss_that_is_not_finite(void **state) {
    (void)state;
    Error error = {0};
    char *bad = bad_model(), *path = path_join(bad, "model.safetensors"), *bytes;
    size_t size;
    SafetensorsFile file;
    check(safetensors_open(&file, path, &error), &error);
    const SafetensorsTensor *norm = safetensors_find(&file, "model.norm.weight");
    assert_non_null(norm);
    size_t offset = norm->offset;
    safetensors_close(&file);
    check(file_read(path, 1 << 24, &bytes, &size, &error), &error);
    memcpy(bytes + offset, "\x80\x7f", 2); // infinity
    free(write_file(bad, "model.safetensors", bytes, size));
    char *begun = path_join(folder, "begun");
    ends_with(TRAIN("-m", bad, "--dataset", data, "--log_level", "quiet", "-o", begun), 1,
              "lisa: error: step 1: the loss is nan and the gradient norm nan, not finite numbers; the step is dropped "
              "(its examples: 22, 1, 6, 2, 14, 5, 4, 11)\nHINT: lower learning_rate (now 2e-05), or look at these "
              "examples with lisa preview; the last checkpoint is untouched\n");
    remove_folder(begun);
    ends_with(RUN("generate", bad, "-p", "hi", "--raw"), 1,
              "lisa: error: the model gives no numbers as logits: its weights are damaged\nHINT: get the model again, "
              "or train it again with a lower learning_rate\n");
    free(bytes);
    free(path);
    remove_bad_model(bad);
}

// ---- data

static void files_of_other_kinds(void **state) {
    (void)state;
    data_ends_with("a.parquet", "PAR1",
                   "lisa: error: DIR/a.parquet: Parquet files are not read\nHINT: convert it: python3 -c \"import "
                   "pandas; pandas.read_parquet('DIR/a.parquet').to_json('DIR/a.parquet.jsonl', orient='records', "
                   "lines=True, force_ascii=False)\"\n");
    data_ends_with("a.csv", "a,b\n",
                   "lisa: error: DIR/a.csv: CSV files are not read\nHINT: convert it: python3 -c \"import pandas; "
                   "pandas.read_csv('DIR/a.csv').to_json('DIR/a.csv.jsonl', orient='records', lines=True, "
                   "force_ascii=False)\"\n");
    data_ends_with("a.json", "[{\"instruction\": \"i\", \"output\": \"o\"},\n {\"instruction\": i}]",
                   "lisa: error: DIR/a.json:2:18: malformed JSON: invalid token near 'i'\nHINT: mend the file at that "
                   "place; `python3 -m json.tool FILE` checks it\n");
    data_ends_with("a.jsonl", "",
                   "lisa: error: DIR/a.jsonl: the file has no records\nHINT: give a data set with at least one record "
                   "(dataset)\n");
    data_ends_with("a.txt", "",
                   "lisa: error: the data set DIR/a.txt is empty: it has no usable record\nHINT: give a data set with "
                   "at least one record (dataset)\n");
    data_ends_with("b.txt", "caf\xe9\n",
                   "lisa: error: DIR/b.txt:1: invalid UTF-8\nHINT: convert it: iconv -f LATIN1 -t UTF-8 'DIR/b.txt' > "
                   "'DIR/b.txt.utf8' (with its encoding for LATIN1)\n");
}

#define USER(text)      "{\"role\": \"user\", \"content\": \"" text "\"}"
#define ASSISTANT(text) "{\"role\": \"assistant\", \"content\": \"" text "\"}"
#define RECORD(turns)   "{\"messages\": [" turns "]}\n"

static const char bad_records[] = RECORD(USER("a") "," ASSISTANT("b"))            //
    RECORD(USER("a"))                                                             //
    RECORD(USER("a") "," ASSISTANT(" "))                                          //
    RECORD(ASSISTANT("a") "," USER("b"))                                          //
    RECORD(USER("a") "," USER("b") "," ASSISTANT("c"))                            //
    RECORD(USER("a") ",{\"role\": \"tool\", \"content\": \"b\"}," ASSISTANT("c")) //
    RECORD(USER("caf\xe9") "," ASSISTANT("b"))                                    //
    RECORD(USER("a") "," ASSISTANT("b"));

#define BAD_RECORDS                                                                                                    \
    "warning: DIR/bad.jsonl:2: no answer: the last turn is the user's\n"                                               \
    "warning: DIR/bad.jsonl:3: empty answer (message 2)\n"                                                             \
    "warning: DIR/bad.jsonl:4: the first turn is the assistant's\n"                                                    \
    "warning: DIR/bad.jsonl:5: two user turns in a row (messages 1 and 2)\n"                                           \
    "warning: DIR/bad.jsonl:6: tool role \"tool\" (message 2): tool calls are not supported\n"                         \
    "warning: DIR/bad.jsonl:7: invalid UTF-8\n"

static void records_that_cannot_be_used(void **state) {
    (void)state;
    data_ends_with("bad.jsonl", bad_records,
                   BAD_RECORDS "lisa: error: 6 of 8 records cannot be used\nHINT: mend them, or leave them out: "
                               "skip_bad_records: true\n");
    char *path = path_join(folder, "bad.jsonl");
    Run run = RUN("preview", "-m", model, "--template", "alpaca", "--dataset", path, "--skip_bad_records", "--json");
    assert_int_equal(run.exit_code, 0);
    char *err = without_folder(run.err);
    assert_string_equal(err, BAD_RECORDS "warning: 6 of 8 records cannot be used and are left out\n");
    assert_non_null(strstr(run.out, "\"records\": 8,\n  \"bad_records\": 6,\n  \"examples\": 2,\n"));
    free(err);
    run_free(&run);
    free(path);
}

// cutoff_len leaves no token of any answer: the same for every record, so nothing is left to learn.
static void answers_that_are_truncated_away(void **state) {
    (void)state;
#define TOO_LONG                                                                                                       \
    "warning: DIR/data.jsonl:1: no target is left: the record has 118 tokens, cutoff_len is 8\n"                       \
    "warning: DIR/data.jsonl:2: no target is left: the record has 117 tokens, cutoff_len is 8\n"
    ends_with(TRAIN("-m", model, "--dataset", data, "-c", "8", "max_samples=2"), 1,
              TOO_LONG "lisa: error: 2 of 2 records cannot be used\nHINT: mend them, or leave them out: "
                       "skip_bad_records: true\n");
    ends_with(TRAIN("-m", model, "--dataset", data, "-c", "8", "max_samples=2", "skip_bad_records=true"), 1,
              TOO_LONG "warning: 2 of 2 records cannot be used and are left out\nlisa: error: the data set "
                       "DIR/data.jsonl is empty: it has no usable record\nHINT: mend the records that are named above, "
                       "or raise cutoff_len where it leaves no target\n");
}

// ---- options

static void values_out_of_range(void **state) {
    (void)state;
    ends_with(TRAIN("-m", model, "--dataset", data, "learning_rate=7"), 2,
              "lisa: error: learning_rate: value out of range: 7\nHINT: learning_rate is between 0 and 1\n");
    ends_with(TRAIN("-m", model, "--dataset", data, "threads=many"), 2,
              "lisa: error: threads: \"many\" is not a whole number\nHINT: lisa train --help lists the options and "
              "their values\n");
    ends_with(TRAIN("-m", model, "--dataset", data, "cutoff_len=5000"), 2,
              "lisa: error: cutoff_len: 5000 is more than the 4096 positions that the model was made for\nHINT: choose "
              "cutoff_len=4096 or less\n");
    ends_with(TRAIN("-m", model, "--dataset", data, "lisa_activated_layers=5"), 2,
              "lisa: error: lisa_activated_layers: 5 is more than the model's 4 layers\nHINT: choose 0 to 4, or train "
              "all of them with finetuning_type=full\n");
    ends_with(TRAIN("-m", model, "--dataset", data, "val_size=24"), 1,
              "lisa: error: val_size 24 leaves nothing to train on: there are 24 examples\nHINT: lower val_size\n");
    ends_with(RUN("generate", model, "-p", "hi", "--temp", "-1"), 2,
              "lisa: error: temperature: value out of range: -1\nHINT: temperature is between 0 and 100\n");
}

// ---- answers

static void prompts_that_cannot_be_answered(void **state) {
    (void)state;
    char words[3001] = "";
    for (int i = 0; i < 600; i++) strcat(words, "word ");
    ends_with(RUN("generate", model, "-p", words, "--raw", "-c", "64"), 1,
              "lisa: error: the text is longer than the 64 tokens that there is room for\nHINT: shorten the prompt, "
              "lower max_new_tokens (-n) or raise cutoff_len (-c)\n");
    Run run = RUN("generate", model, "-p", "hi");
    assert_int_equal(run.exit_code, 1);
    assert_non_null(strstr(run.err, ": the model has no chat template\nHINT: choose the template with template=NAME, "
                                    "one of alpaca, "));
    run_free(&run);
}

// A conversation survives what is wrong with one question, and ends with /exit or the end of stdin.
static void chats(void **state) {
    (void)state;
    char words[3001] = "";
    for (int i = 0; i < 600; i++) strcat(words, "word ");
    char *input;
    assert_true(asprintf(&input, "hi\n\n/what\ncaf\xe9\n%s\n/reset\n/system be kind\nhi\n/exit\nhi\n", words) > 0);
#define CHAT(input)                                                                                                    \
    run_lisa_on(input, (const char *const[]){"chat", model, "--template", "alpaca", "-c", "304", "-n", "3", "--temp",  \
                                             "0", NULL})
    Run run = CHAT(input);
    assert_int_equal(run.exit_code, 0);
    const char *cut_short = "(cut: max_new_tokens or cutoff_len is reached)\n";
    char expected[1024];
    snprintf(expected, sizeof expected,
             "%s/reset starts anew, /system TEXT sets the system text, /exit leaves\nthat is not UTF-8 "
             "text\n/reset starts anew\nthe text is longer than the 304 tokens that there is room for\nshorten the "
             "prompt, lower max_new_tokens (-n) or raise cutoff_len (-c); /reset starts anew\n(new "
             "conversation)\n(system text set, new conversation)\n%s",
             cut_short, cut_short);
    assert_string_equal(run.err, expected);
    int lines = 0;
    for (const char *at = run.out; (at = strchr(at, '\n')); at++) lines++;
    assert_true(lines >= 2);
    run_free(&run);
    run = CHAT("");
    assert_int_equal(run.exit_code, 0);
    assert_string_equal(run.out, "");
    run_free(&run);
    run = CHAT("hi"); // without a line end
    assert_int_equal(run.exit_code, 0);
    assert_string_equal(run.err, cut_short);
    run_free(&run);
    free(input);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(missing_files),
        cmocka_unit_test(output_folders_that_cannot_be_used),
        cmocka_unit_test(weights_that_cannot_be_used),
        cmocka_unit_test(configurations_that_cannot_be_used),
        cmocka_unit_test(tokenizers_that_cannot_be_used),
        cmocka_unit_test(gguf_files_that_cannot_be_used),
        cmocka_unit_test(a_loss_that_is_not_finite),
        cmocka_unit_test(files_of_other_kinds),
        cmocka_unit_test(records_that_cannot_be_used),
        cmocka_unit_test(answers_that_are_truncated_away),
        cmocka_unit_test(values_out_of_range),
        cmocka_unit_test(prompts_that_cannot_be_answered),
        cmocka_unit_test(chats),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
