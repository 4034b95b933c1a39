// test_options.c - the option table: names, values, ranges, YAML of other tools, and the page made of it.
#include "base/files.h"
#include "cli/options.h"
#include "tests/support.h"
#include <stdlib.h>
#include <string.h>

// Parses for `lisa train` with what that command cannot do without already there.
static bool parse(Options *options, Error *error, int count, const char *const *arguments) {
    const char *all[32] = {"model=m", "dataset=d.json", "output_dir=o"};
    *error = (Error){0};
    check(options_defaults(options, error), error);
    for (int i = 0; i < count; i++) all[3 + i] = arguments[i];
    return options_parse(options, COMMAND_TRAIN, 3 + count, (char *const *)(uintptr_t)all, error);
}

#define PARSE(options, error, ...)                                                                                     \
    parse(options, error, sizeof((const char *[]){__VA_ARGS__}) / sizeof(char *), (const char *[]){__VA_ARGS__})

// The arguments must be refused with this text and this hint (NULL: any hint), as a wrong use of the program.
#define REFUSED(expected_text, expected_hint, ...)                                                                     \
    do {                                                                                                               \
        Options refused;                                                                                               \
        Error why;                                                                                                     \
        assert_false(PARSE(&refused, &why, __VA_ARGS__));                                                              \
        assert_string_equal(why.text, expected_text);                                                                  \
        if (expected_hint) assert_string_equal(why.hint, expected_hint);                                               \
        assert_int_equal(why.exit_code, ERROR_EXIT_USAGE);                                                             \
        options_free(&refused);                                                                                        \
    } while (0)

static void test_defaults(void **state) {
    (void)state;
    Options options;
    Error error = {0};
    check(options_defaults(&options, &error), &error);
    const TrainSettings *train = &options.train;
    assert_int_equal(train->finetuning_type, METHOD_LISA);
    assert_int_equal(train->lisa_activated_layers, 2);
    assert_int_equal(train->lisa_interval_steps, 20);
    assert_true(train->learning_rate == 2e-5);
    assert_int_equal(train->lr_scheduler_type, SCHEDULE_COSINE);
    assert_true(train->warmup_ratio == 0.03);
    assert_true(train->num_train_epochs == 3);
    assert_int_equal(train->per_device_train_batch_size, 1);
    assert_int_equal(train->gradient_accumulation_steps, 8);
    assert_int_equal(options.data.cutoff_len, 2048);
    assert_true(train->max_grad_norm == 1 && train->weight_decay == 0);
    assert_int_equal(train->optim_bits, OPTIM_BITS_32);
    assert_int_equal(train->logging_steps, 1);
    assert_int_equal(train->save_strategy, WHEN_EPOCH);
    assert_true(train->save_minutes == 30);
    assert_int_equal(train->save_total_limit, 1);
    assert_int_equal(train->seed, 42);
    assert_int_equal(options.data.packing, PACKING_AUTO);
    assert_int_equal(train->max_shard_size, (uint64_t)5 << 30);
    assert_null(train->output_dir);
    assert_false(options_given(&options, "seed"));
    options_free(&options);
}

static void test_spellings(void **state) {
    (void)state;
    Options options;
    Error error;
    check(PARSE(&options, &error, "--learning-rate", "1e-4", "--num_train_epochs=2.5", "packing=true", "-c", "512",
                "--overwrite-output-dir", "--max-steps", "-1", "max-shard-size=512M", "--no-mask-history"),
          &error);
    assert_true(options.train.learning_rate == 1e-4);
    assert_true(options.train.num_train_epochs == 2.5);
    assert_int_equal(options.data.packing, PACKING_ON);
    assert_int_equal(options.data.cutoff_len, 512);
    assert_true(options.train.overwrite_output_dir);
    assert_int_equal(options.train.max_steps, -1);
    assert_int_equal(options.train.max_shard_size, (uint64_t)512 << 20);
    assert_false(options.data.mask_history);
    options_free(&options);

    check(PARSE(&options, &error, "--packing", "false", "--train-on-prompt", "--gradient-checkpointing", "mlp",
                "dataset=a=b.json", "--no-packing", "--lr", "3e-5", "--lr", "4e-5"),
          &error);
    assert_int_equal(options.data.packing, PACKING_OFF);
    assert_true(options.data.train_on_prompt);
    assert_int_equal(options.train.gradient_checkpointing, CHECKPOINT_MLP);
    assert_string_equal(options.data.dataset, "a=b.json");
    assert_true(options.train.learning_rate == 4e-5); // later wins
    options_free(&options);
}

static void test_home(void **state) {
    (void)state;
    Options options;
    Error error;
    setenv("HOME", "/home/me", 1);
    check(PARSE(&options, &error, "model=~/m", "dataset=~/a.json,b~/c,~/d,~", "-o", "~/", "default_system=~/x"),
          &error);
    assert_string_equal(options.model_name_or_path, "/home/me/m");
    assert_string_equal(options.data.dataset, "/home/me/a.json,b~/c,/home/me/d,~");
    assert_string_equal(options.train.output_dir, "/home/me/");
    assert_string_equal(options.data.default_system, "~/x");
    options_free(&options);
}

static void test_aliases(void **state) {
    (void)state;
    Options options;
    Error error;
    check(PARSE(&options, &error, "--base-model", "x", "--epochs", "1", "--batch-size", "4", "--max-seq-length", "256",
                "--iters", "7", "val_set_size=0.1", "lisa_n_layers=4", "lisa_step_interval=5"),
          &error);
    assert_string_equal(options.model_name_or_path, "x");
    assert_true(options.train.num_train_epochs == 1);
    assert_int_equal(options.train.per_device_train_batch_size, 4);
    assert_int_equal(options.data.cutoff_len, 256);
    assert_int_equal(options.train.max_steps, 7);
    assert_true(options.data.val_size == 0.1);
    assert_int_equal(options.train.lisa_activated_layers, 4);
    assert_int_equal(options.train.lisa_interval_steps, 5);
    options_free(&options);
}

static void test_no_two_options_share_a_name(void **state) {
    (void)state;
    for (int i = 0; i < option_count; i++) {
        const OptionRow *row = &option_table[i];
        assert_ptr_equal(option_find(row->name), row);
        assert_null(foreign_option_find(row->name));
        char aliases[256];
        snprintf(aliases, sizeof aliases, "%s", row->aliases ? row->aliases : "");
        for (char *alias = strtok(aliases, " "); alias; alias = strtok(NULL, " ")) {
            assert_ptr_equal(option_find(alias), row);
            assert_null(foreign_option_find(alias));
        }
        for (int j = 0; row->letter && j < i; j++)
            if (option_table[j].letter == row->letter) assert_int_equal(option_table[j].commands & row->commands, 0);
    }
}

static void test_wrong_values(void **state) {
    (void)state;
    REFUSED("learning_rate: value out of range: 5", "learning_rate is between 0 and 1", "--lr", "5");
    REFUSED("learning_rate: value out of range: 1e999", NULL, "--lr", "1e999");
    REFUSED("learning_rate: \"nan\" is not a number", NULL, "--lr", "nan");
    REFUSED("learning_rate: \"fast\" is not a number", NULL, "--lr", "fast");
    REFUSED("cutoff_len: value out of range: 1", "cutoff_len is between 2 and 1e+07", "-c", "1");
    REFUSED("cutoff_len: \"12.5\" is not a whole number", NULL, "-c", "12.5");
    REFUSED("cutoff_len: \"\" is not a whole number", NULL, "cutoff_len=");
    REFUSED("max_steps: value out of range: 99999999999999999999", NULL, "max_steps=99999999999999999999");
    REFUSED("seed: value out of range: -3", NULL, "seed=-3");
    REFUSED("packing: \"maybe\" is not there", "packing is one of auto, true, false", "packing=maybe");
    REFUSED("finetuning_type: \"lora\" is not there", "finetuning_type is one of lisa, full", "finetuning_type=lora");
    REFUSED("optim_bits: \"8\" is not there", "optim_bits is one of 32, 16", "optim_bits=8");
    REFUSED("json: \"perhaps\" is neither true nor false", NULL, "json=perhaps");
    REFUSED("max_shard_size: \"5 apples\" is not a size",
            "sizes are numbers with an optional unit, such as 8GiB, 8G, 512M", "max_shard_size=5 apples");
    REFUSED("micro_batch_tokens: value out of range: 100", "micro_batch_tokens is a multiple of 128, or 0",
            "micro_batch_tokens=100");
    REFUSED("learning-rate needs a value", NULL, "--learning-rate");
    REFUSED("eval_steps is given, but there is nothing to evaluate on", "add val_size=0.1 or eval_dataset=FILE",
            "eval_steps=10");
    REFUSED("save_strategy: steps needs save_steps", NULL, "save_strategy=steps");
}

static void test_unknown_options(void **state) {
    (void)state;
    REFUSED("unknown option lerning-rate", "did you mean learning_rate?", "--lerning-rate", "1");
    REFUSED("unknown option gradient_acumulation_step", "did you mean gradient_accumulation_steps?",
            "gradient_acumulation_step=1");
    REFUSED("unknown option colour", "--help lists the options", "--colour=red");
    REFUSED("unknown option -z", NULL, "-z");
    REFUSED("\"model.gguf\" is neither a .yaml file nor option=value", NULL, "model.gguf");
    REFUSED("preview_samples is not an option of this command", NULL, "--preview-samples", "2");
}

static void test_needed_options(void **state) {
    (void)state;
    Options options;
    Error error = {0};
    check(options_defaults(&options, &error), &error);
    assert_false(options_parse(&options, COMMAND_TRAIN, 0, NULL, &error));
    assert_string_equal(error.text, "model_name_or_path is not given");
    options_free(&options);
    // a positional model for commands that look at one
    char *const arguments[] = {(char[]){"some/model"}};
    check(options_defaults(&options, &error), &error);
    check(options_parse(&options, COMMAND_INFO, 1, arguments, &error), &error);
    assert_string_equal(options.model_name_or_path, "some/model");
    options_free(&options);
}

static void test_rules_between_options(void **state) {
    (void)state;
    Options options;
    Error error;
    check(PARSE(&options, &error, "save_steps=500", "eval_steps=50", "val_size=0.1", "warmup_steps=0"), &error);
    assert_int_equal(options.train.save_strategy, WHEN_STEPS);
    assert_int_equal(options.train.eval_strategy, WHEN_STEPS);
    assert_int_equal(options.train.warmup_steps, 0);
    options_free(&options);
    check(PARSE(&options, &error, "save_steps=500", "save_strategy=epoch", "eval_steps=5", "eval_strategy=no",
                "warmup_steps=0", "warmup_ratio=0.1"),
          &error);
    assert_int_equal(options.train.save_strategy, WHEN_EPOCH);
    assert_int_equal(options.train.save_steps, 0);
    assert_int_equal(options.train.eval_strategy, WHEN_NO);
    assert_int_equal(options.train.warmup_steps, -1); // the Trainer's rule: the ratio counts
    options_free(&options);
}

// ---- YAML

static bool parse_text(Options *options, const char *yaml, Error *error) {
    *error = (Error){0};
    check(options_defaults(options, error), error);
    return options_parse_yaml(options, COMMAND_TRAIN, yaml, strlen(yaml), "run.yaml", error);
}

static void yaml_refused(const char *yaml, const char *text) {
    Options options;
    Error error;
    assert_false(parse_text(&options, yaml, &error));
    assert_string_equal(error.text, text);
    assert_int_equal(error.exit_code, ERROR_EXIT_USAGE);
    options_free(&options);
}

static const char llama_factory_sft[] = "### model\n"
                                        "model_name_or_path: meta-llama/Meta-Llama-3-8B-Instruct\n"
                                        "trust_remote_code: true\n"
                                        "\n"
                                        "### method\n"
                                        "stage: sft\n"
                                        "do_train: true\n"
                                        "finetuning_type: full\n"
                                        "deepspeed: null\n"
                                        "\n"
                                        "### dataset\n"
                                        "dataset: identity,alpaca_en_demo\n"
                                        "template: llama3\n"
                                        "cutoff_len: 2048\n"
                                        "max_samples: 1000\n"
                                        "overwrite_cache: true\n"
                                        "preprocessing_num_workers: 16\n"
                                        "dataloader_num_workers: 4\n"
                                        "\n"
                                        "### output\n"
                                        "output_dir: saves/llama3-8b/full/sft\n"
                                        "logging_steps: 10\n"
                                        "save_steps: 500\n"
                                        "plot_loss: true\n"
                                        "overwrite_output_dir: true\n"
                                        "save_only_model: false\n"
                                        "report_to: none  # choices: [none, wandb, tensorboard, swanlab, mlflow]\n"
                                        "\n"
                                        "### train\n"
                                        "per_device_train_batch_size: 1\n"
                                        "gradient_accumulation_steps: 2\n"
                                        "learning_rate: 1.0e-5\n"
                                        "num_train_epochs: 3.0\n"
                                        "lr_scheduler_type: cosine\n"
                                        "warmup_ratio: 0.1\n"
                                        "bf16: true\n"
                                        "fp16: false\n"
                                        "flash_attn: auto\n"
                                        "ddp_timeout: 180000000\n"
                                        "resume_from_checkpoint: null\n"
                                        "\n"
                                        "### eval\n"
                                        "val_size: 0.1\n"
                                        "per_device_eval_batch_size: 1\n"
                                        "eval_strategy: steps\n"
                                        "eval_steps: 500\n";

static void test_llama_factory_yaml(void **state) {
    (void)state;
    char *folder = make_folder();
    char *path = write_text(folder, "full_sft.yaml", llama_factory_sft);
    Options options;
    Error error;
    check(PARSE(&options, &error, path, "learning_rate=2e-5"), &error);
    assert_string_equal(options.model_name_or_path, "meta-llama/Meta-Llama-3-8B-Instruct");
    assert_string_equal(options.data.dataset, "identity,alpaca_en_demo");
    assert_string_equal(options.data.template_name, "llama3");
    assert_int_equal(options.train.finetuning_type, METHOD_FULL);
    assert_int_equal(options.train.save_strategy, WHEN_STEPS);
    assert_int_equal(options.train.save_steps, 500);
    assert_int_equal(options.train.eval_steps, 500);
    assert_true(options.train.learning_rate == 2e-5); // the command line stands behind the file
    assert_null(options.train.resume_from_checkpoint);
    assert_string_equal(buffer_string(&options.without_effect),
                        "trust_remote_code, stage, do_train, deepspeed, overwrite_cache, preprocessing_num_workers, "
                        "dataloader_num_workers, plot_loss, save_only_model, report_to, bf16, fp16, flash_attn, "
                        "ddp_timeout, per_device_eval_batch_size");
    options_free(&options);
    free(path);
    remove_folder(folder);
}

static void test_axolotl_yaml(void **state) {
    (void)state;
    Options options;
    Error error;
    check(parse_text(&options,
                     "base_model: NousResearch/Llama-2-7b-hf\nmodel_type: LlamaForCausalLM\nload_in_8bit: false\n"
                     "datasets:\n  - path: a.json\n    type: alpaca\n  - path: b.json\n    type: alpaca\n"
                     "val_set_size: 0.05\nadapter:\nlora_r:\nsequence_len: 4096\nsample_packing: true\n"
                     "lisa_n_layers: 4\nlisa_step_interval: 20\nlisa_layers_attribute: model.layers\n"
                     "micro_batch_size: 1\nnum_epochs: 1\noptimizer: adamw_bnb_8bit\nlr_scheduler: cosine\n"
                     "wandb_project:\nbf16: auto\ntf32: false\nearly_stopping_patience:\nlocal_rank:\n"
                     "flash_attention: true\nflash_attn_cross_entropy: false\nflash_attn_fuse_mlp: true\n"
                     "evals_per_epoch: 4\neval_table_size:\nsaves_per_epoch: 1\ndebug:\ndeepspeed:\nfsdp_config:\n"
                     "special_tokens:\n  bos_token: \"<s>\"\n",
                     &error),
          &error);
    assert_non_null(strstr(buffer_string(&options.without_effect), "evals_per_epoch, eval_table_size"));
    assert_string_equal(options.data.dataset, "a.json,b.json");
    assert_int_equal(options.data.cutoff_len, 4096);
    assert_int_equal(options.data.packing, PACKING_ON);
    assert_int_equal(options.train.lisa_activated_layers, 4);
    options_free(&options);
    check(parse_text(&options, "use_lisa: 1\nneat_packing: true\ndataset: [x.json, y.json]\n", &error), &error);
    assert_int_equal(options.train.finetuning_type, METHOD_LISA);
    assert_int_equal(options.data.packing, PACKING_ON);
    assert_string_equal(options.data.dataset, "x.json,y.json");
    assert_int_equal(options.without_effect.size, 0);
    options_free(&options);
    check(parse_text(&options, "use_lisa: 0\nmask_prompt: false\n", &error), &error);
    assert_int_equal(options.train.finetuning_type, METHOD_FULL);
    assert_true(options.data.train_on_prompt);
    options_free(&options);
    check(parse_text(&options, "optim: adamw_8bit\noptim_bits: 16\n", &error), &error);
    assert_int_equal(options.train.optim_bits, OPTIM_BITS_16);
    assert_string_equal(buffer_string(&options.without_effect), "optim");
    options_free(&options);
    check(parse_text(&options, "use_lisa:\nmask_prompt: null\n", &error), &error);
    assert_int_equal(options.train.finetuning_type, METHOD_LISA);
    assert_false(options.data.train_on_prompt);
    assert_string_equal(buffer_string(&options.without_effect), "use_lisa, mask_prompt");
    options_free(&options);
}

static void test_yaml_refused(void **state) {
    (void)state;
    yaml_refused("seed: 1\nquantization_bit: 4\n", "run.yaml:2: quantization_bit: 4: weights are bf16 with exact fp32 "
                                                   "masters; quantised training is not there");
    yaml_refused("finetuning_type: lora\n", "run.yaml:1: finetuning_type: \"lora\" is not there");
    yaml_refused("stage: dpo\n", "run.yaml:1: stage: dpo: only sft is there; plain text is recognised in the data "
                                 "(.txt, or a key \"text\")");
    yaml_refused("deepspeed: ds.json\n", "run.yaml:1: deepspeed: ds.json: training runs in one process on one machine");
    yaml_refused("use_galore: true\n",
                 "run.yaml:1: use_galore: true: this method is not there; finetuning_type is lisa or full");
    yaml_refused("optim: adafactor\n",
                 "run.yaml:1: optim: adafactor: the optimizer is AdamW; optim_bits=16 makes its two "
                 "moments half as large");
    yaml_refused("report_to: wandb\n", "run.yaml:1: report_to: wandb: metrics go to metrics.jsonl in output_dir only");
    yaml_refused("learning_rate: 7\n", "run.yaml:1: learning_rate: value out of range: 7");
    yaml_refused("\nlearning_rat: 7\n", "run.yaml:2: unknown option learning_rat");
    yaml_refused("learning_rate: {a: 1}\n", "run.yaml:1: one value is expected, not a mapping");
    yaml_refused("learning_rate: [1, 2]\n", "run.yaml:1: one value is expected, not a list");
    yaml_refused("datasets:\n  - path: a\n    split: train\n",
                 "run.yaml:3: a data set here has a path and a type, nothing else");
    yaml_refused("datasets:\n  - type: alpaca\n", "run.yaml:2: a data set without a path");
    yaml_refused("- a\n- b\n", "run.yaml:1: no `option: value` lines");
    yaml_refused("a: [1\n", "run.yaml:2:1: not YAML: did not find expected ',' or ']'");
    yaml_refused("output_dir: \"a\\0b\"\n", "run.yaml:1: a value holds a NUL character");
}

static void test_missing_yaml(void **state) {
    (void)state;
    Options options;
    Error error;
    assert_false(PARSE(&options, &error, "/nowhere/run.yaml"));
    assert_string_equal(error.text, "cannot read /nowhere/run.yaml: No such file or directory");
    options_free(&options);
}

// ---- docs/options.md

static void test_page_is_current(void **state) {
    (void)state;
    Error error = {0};
    Buffer made = BUFFER_EMPTY;
    char *page = NULL;
    size_t size = 0;
    check(options_markdown(&made, &error), &error);
    check(file_read("docs/options.md", 1 << 20, &page, &size, &error), &error);
    if (strcmp(page, buffer_string(&made))) fail_msg("run: ./lisa options > docs/options.md");
    free(page);
    buffer_free(&made);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_spellings),
        cmocka_unit_test(test_home),
        cmocka_unit_test(test_aliases),
        cmocka_unit_test(test_no_two_options_share_a_name),
        cmocka_unit_test(test_wrong_values),
        cmocka_unit_test(test_unknown_options),
        cmocka_unit_test(test_needed_options),
        cmocka_unit_test(test_rules_between_options),
        cmocka_unit_test(test_llama_factory_yaml),
        cmocka_unit_test(test_axolotl_yaml),
        cmocka_unit_test(test_yaml_refused),
        cmocka_unit_test(test_missing_yaml),
        cmocka_unit_test(test_page_is_current),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
