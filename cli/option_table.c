// option_table.c - every option: its name, meaning, range and default. The order is that of --help and docs/options.md.
#include "cli/options.h"
#include <stddef.h>

#define RUN       (COMMAND_TRAIN | COMMAND_PLAN)
#define DATA      (COMMAND_TRAIN | COMMAND_PLAN | COMMAND_PREVIEW | COMMAND_EVAL)
#define B         COMMAND_BENCH
#define X         COMMAND_EXPORT
#define SPEAK     (COMMAND_GENERATE | COMMAND_CHAT)
#define ALL       (DATA | COMMAND_GENERATE | COMMAND_CHAT | COMMAND_INFO | COMMAND_BENCH | X)
#define COMPUTING (RUN | COMMAND_EVAL | SPEAK | B)
#define AT(at)    offsetof(Options, at)
#define COUNT     1e12 // more than anyone can count to
#define LARGEST   9e15 // whole numbers up to here are exact in a double

static const char *const formats[] = {"auto", "alpaca", "sharegpt", "openai", "prompt_completion",
                                      "text", "plain",  NULL};
static const char *const auto_true_false[] = {"auto", "true", "false", NULL};
static const char *const methods[] = {"lisa", "full", NULL};
static const char *const samplings[] = {"uniform", "cycle", NULL};
static const char *const schedules[] = {"cosine", "linear", "constant", "constant_with_warmup", NULL};
static const char *const checkpointings[] = {"auto", "true", "mlp", "false", NULL};
static const char *const places[] = {"auto", "device", "host", NULL};
static const char *const stream_sources[] = {"auto", "memory", "file", NULL};
static const char *const optim_bits[] = {"32", "16", NULL};
static const char *const strategies[] = {"no", "steps", "epoch", NULL};
static const char *const export_formats[] = {"gguf", "hf", "delta", NULL};
static const char *const outtypes[] = {"auto", "bf16", "f16", "q8_0", "q4_0", NULL};
static const char *const log_levels[] = {"quiet", "warning", "info", "debug", NULL};

const OptionRow option_table[] = {
    // ---- model
    {"model_name_or_path", "model base_model", 'm', VALUE_TEXT, ALL, ALL & ~(COMMAND_INFO | COMMAND_BENCH | X),
     GROUP_MODEL, AT(model_name_or_path), NULL, 0, 0, NULL, "MODEL",
     "a Hugging Face directory, a GGUF file, or an id in the local Hugging Face cache"},
    {"template", "chat_template conversation_template", 0, VALUE_TEXT, DATA | SPEAK | B | X, 0, GROUP_MODEL,
     AT(data.template_name), NULL, 0, 0, NULL, "NAME", "chat template; not given: the one recognised in the model"},
    {"default_system", "system", 0, VALUE_TEXT, DATA | SPEAK | B | X, 0, GROUP_MODEL, AT(data.default_system), NULL, 0,
     0, NULL, "TEXT", "system text where there is none; not given: the template's own; empty: none"},
    {"random_weights", NULL, 0, VALUE_FLAG, B, 0, GROUP_MODEL, AT(random_weights), "true", 0, 0, NULL, NULL,
     "measure with random weights, of the model take only config.json; false: load its weights"},

    // ---- data
    {"dataset", "data datasets train_file dataset_path", 0, VALUE_TEXT, DATA | B, COMMAND_TRAIN | COMMAND_PREVIEW,
     GROUP_DATA, AT(data.dataset), NULL, 0, 0, NULL, "FILE,...",
     "files, globs or names from dataset_info.json, separated by commas"},
    {"eval_dataset", "test_datasets validation_file", 0, VALUE_TEXT, DATA, 0, GROUP_DATA, AT(data.eval_dataset), NULL,
     0, 0, NULL, "FILE,...", "the same for the data that is only evaluated on"},
    {"dataset_dir", NULL, 0, VALUE_TEXT, DATA | B, 0, GROUP_DATA, AT(data.dataset_dir), "data", 0, 0, NULL, "FOLDER",
     "where dataset_info.json lies"},
    {"formatting", NULL, 0, VALUE_CHOICE, DATA | B, 0, GROUP_DATA, AT(data.formatting), "auto", 0, 0, formats, NULL,
     "record format of the files; auto reads it off the first record"},
    {"max_samples", NULL, 0, VALUE_INTEGER, DATA | B, 0, GROUP_DATA, AT(data.max_samples), "0", 0, COUNT, NULL, NULL,
     "at most so many records of each data set; 0: all"},
    {"val_size", "val_set_size", 0, VALUE_NUMBER, DATA, 0, GROUP_DATA, AT(data.val_size), "0", 0, COUNT, NULL, NULL,
     "records held out for evaluation: below 1 a share, from 1 on a count"},
    {"skip_bad_records", NULL, 0, VALUE_FLAG, DATA | B, 0, GROUP_DATA, AT(data.skip_bad_records), "false", 0, 0, NULL,
     NULL, "leave out and count records that cannot be used, instead of stopping"},
    {"disable_shuffling", NULL, 0, VALUE_FLAG, RUN, 0, GROUP_DATA, AT(data.disable_shuffling), "false", 0, 0, NULL,
     NULL, "keep the order of the file in every epoch"},
    {"cutoff_len", "max_seq_length max_length sequence_len block_size model_max_length", 'c', VALUE_INTEGER,
     DATA | SPEAK | B, 0, GROUP_DATA, AT(data.cutoff_len), "2048", 2, 1e7, NULL, NULL,
     "tokens of a sequence at most; longer examples are cut, answers end"},
    {"packing", "sample_packing", 0, VALUE_CHOICE, DATA, 0, GROUP_DATA, AT(data.packing), "auto", 0, 0, auto_true_false,
     NULL, "several examples share a sequence of cutoff_len tokens; auto: for plain text only"},
    {"train_on_prompt", "train_on_inputs", 0, VALUE_FLAG, DATA | B, 0, GROUP_DATA, AT(data.train_on_prompt), "false", 0,
     0, NULL, NULL, "prompts are learned too, not the answers alone"},
    {"mask_history", NULL, 0, VALUE_FLAG, DATA | B, 0, GROUP_DATA, AT(data.mask_history), "false", 0, 0, NULL, NULL,
     "only the last answer of a conversation is learned"},
    {"preview_samples", "samples", 0, VALUE_INTEGER, COMMAND_PREVIEW, 0, GROUP_DATA, AT(preview_samples), "3", 1, 1e6,
     NULL, NULL, "examples that are shown"},

    // ---- method
    {"finetuning_type", NULL, 0, VALUE_CHOICE, RUN | B, 0, GROUP_METHOD, AT(train.finetuning_type), "lisa", 0, 0,
     methods, NULL, "lisa: embedding, head and a few layers at a time; full: everything"},
    {"lisa_activated_layers", "lisa_n_layers", 0, VALUE_INTEGER, RUN | B, 0, GROUP_METHOD,
     AT(train.lisa_activated_layers), "2", 0, 512, NULL, NULL, "decoder layers that are trained at a time (gamma)"},
    {"lisa_interval_steps", "lisa_step_interval", 0, VALUE_INTEGER, RUN, 0, GROUP_METHOD, AT(train.lisa_interval_steps),
     "20", 1, COUNT, NULL, NULL, "optimizer steps until other layers are drawn (K)"},
    {"lisa_sampling", NULL, 0, VALUE_CHOICE, RUN, 0, GROUP_METHOD, AT(train.lisa_sampling), "uniform", 0, 0, samplings,
     NULL, "uniform: every draw for itself; cycle: along permutations, so that every layer is visited"},
    {"lisa_keep_low_bits", NULL, 0, VALUE_FLAG, RUN, 0, GROUP_METHOD, AT(train.lisa_keep_low_bits), "false", 0, 0, NULL,
     NULL, "keep the low 16 bits of layers that leave in host memory instead of rounding them away"},
    {"seed", NULL, 0, VALUE_SEED, DATA | SPEAK | B, 0, GROUP_METHOD, AT(train.seed), "42", 0, LARGEST, NULL, NULL,
     "of the draws, the order of the examples, the held-out records and the tokens of an answer"},

    // ---- length
    {"num_train_epochs", "epochs num_epochs", 0, VALUE_NUMBER, RUN, 0, GROUP_LENGTH, AT(train.num_train_epochs), "3",
     1e-6, 1e9, NULL, NULL, "passes over the data; may be a fraction"},
    {"max_steps", "iters", 0, VALUE_INTEGER, RUN | B, 0, GROUP_LENGTH, AT(train.max_steps), "-1", -1, COUNT, NULL, NULL,
     "optimizer steps, instead of epochs; -1: as num_train_epochs says"},
    {"per_device_train_batch_size", "batch_size micro_batch_size", 0, VALUE_INTEGER, RUN | B, 0, GROUP_LENGTH,
     AT(train.per_device_train_batch_size), "1", 1, 1e6, NULL, NULL,
     "examples (with packing: sequences of cutoff_len tokens) per accumulation step"},
    {"gradient_accumulation_steps", "grad_accumulation_steps", 0, VALUE_INTEGER, RUN, 0, GROUP_LENGTH,
     AT(train.gradient_accumulation_steps), "8", 1, 1e6, NULL, NULL,
     "an optimizer step takes this times per_device_train_batch_size examples"},

    // ---- optimizer
    {"learning_rate", "lr", 0, VALUE_NUMBER, RUN, 0, GROUP_OPTIMIZER, AT(train.learning_rate), "2e-5", 0, 1, NULL, NULL,
     "the highest learning rate"},
    {"lr_scheduler_type", "lr_scheduler", 0, VALUE_CHOICE, RUN, 0, GROUP_OPTIMIZER, AT(train.lr_scheduler_type),
     "cosine", 0, 0, schedules, NULL, "how it falls after warm-up"},
    {"warmup_ratio", NULL, 0, VALUE_NUMBER, RUN, 0, GROUP_OPTIMIZER, AT(train.warmup_ratio), "0.03", 0, 1, NULL, NULL,
     "share of all steps in which the learning rate rises"},
    {"warmup_steps", NULL, 0, VALUE_INTEGER, RUN, 0, GROUP_OPTIMIZER, AT(train.warmup_steps), "-1", -1, COUNT, NULL,
     NULL, "the same as a number of steps; -1: as warmup_ratio says"},
    {"weight_decay", NULL, 0, VALUE_NUMBER, RUN, 0, GROUP_OPTIMIZER, AT(train.weight_decay), "0", 0, 1e3, NULL, NULL,
     "decoupled, of matrices only"},
    {"adam_beta1", NULL, 0, VALUE_NUMBER, RUN, 0, GROUP_OPTIMIZER, AT(train.adam_beta1), "0.9", 0, 0.999999, NULL, NULL,
     "decay of AdamW's first moment"},
    {"adam_beta2", NULL, 0, VALUE_NUMBER, RUN, 0, GROUP_OPTIMIZER, AT(train.adam_beta2), "0.999", 0, 0.999999, NULL,
     NULL, "decay of AdamW's second moment"},
    {"adam_epsilon", NULL, 0, VALUE_NUMBER, RUN, 0, GROUP_OPTIMIZER, AT(train.adam_epsilon), "1e-8", 1e-30, 1, NULL,
     NULL, "added to the root of the second moment"},
    {"max_grad_norm", NULL, 0, VALUE_NUMBER, RUN | B, 0, GROUP_OPTIMIZER, AT(train.max_grad_norm), "1.0", 0, 1e9, NULL,
     NULL, "the norm of all gradients is clipped to this; 0: never"},
    {"optim_bits", NULL, 0, VALUE_CHOICE, RUN | B, 0, GROUP_OPTIMIZER, AT(train.optim_bits), "32", 0, 0, optim_bits,
     NULL, "of AdamW's two moments: 32, exact, or 16, stochastically rounded, in half their memory"},

    // ---- memory and speed
    {"gradient_checkpointing", "grad_checkpoint", 0, VALUE_CHOICE, RUN | B, 0, GROUP_MEMORY,
     AT(train.gradient_checkpointing), "auto", 0, 0, checkpointings, NULL,
     "keep of each layer its input (true), all but the MLP (mlp) or everything (false); auto: the plan chooses, layer "
     "by layer"},
    {"micro_batch_tokens", NULL, 0, VALUE_INTEGER, RUN | COMMAND_EVAL | B, 0, GROUP_MEMORY,
     AT(train.micro_batch_tokens), "0", 0, 1 << 24, NULL, NULL,
     "tokens that go through a layer at once, a multiple of 128; 0: the plan chooses"},
    {"vram", "memory_limit", 0, VALUE_SIZES, COMPUTING, 0, GROUP_MEMORY, AT(vram), "0", 0, LARGEST, NULL, NULL,
     "memory that the run may take, with a card of the card's; lisa plan takes several, as in 24GiB,8GiB; 0: what is "
     "free"},
    {"ram", NULL, 0, VALUE_SIZE, COMPUTING, 0, GROUP_MEMORY, AT(ram), "0", 0, LARGEST, NULL, NULL,
     "host memory that the run may take beside a card; 0: most of what is free"},
    {"scratch_dir", NULL, 0, VALUE_TEXT, COMPUTING, 0, GROUP_MEMORY, AT(scratch_dir), NULL, 0, 0, NULL, "FOLDER",
     "where a scratch file with weights goes that no memory holds; not given: TMPDIR, else /var/tmp"},
    {"link_speed", NULL, 0, VALUE_NUMBER, RUN, 0, GROUP_MEMORY, AT(link_speed), "0", 0, 1e4, NULL, NULL,
     "GB/s between host and card, for the plan's estimates; 0: measured, or a typical card's"},
    {"card_tflops", NULL, 0, VALUE_NUMBER, RUN, 0, GROUP_MEMORY, AT(card_tflops), "0", 0, 1e6, NULL, NULL,
     "TFLOP/s of the card in bf16 products, for the plan's estimates; 0: measured, or a typical card's"},
    {"sweep_micro_batches", NULL, 0, VALUE_INTEGER, RUN | B, 0, GROUP_MEMORY, AT(train.sweep_micro_batches), "0", 0,
     1e6, NULL, NULL, "micro-batches that go through a layer before the next layer; 0: the plan chooses"},
    {"layers_resident", "n_gpu_layers", 0, VALUE_INTEGER, RUN | COMMAND_EVAL | B, 0, GROUP_MEMORY,
     AT(train.layers_resident), "-1", -1, 512, NULL, NULL,
     "decoder layers whose weights stay on the device, the others are streamed; -1: the plan chooses"},
    {"stream_from", NULL, 0, VALUE_CHOICE, RUN | COMMAND_EVAL | B, 0, GROUP_MEMORY, AT(train.stream_from), "auto", 0, 0,
     stream_sources, NULL, "where the weights of the others are: host memory or a scratch file"},
    {"layer_inputs", NULL, 0, VALUE_CHOICE, RUN | B, 0, GROUP_MEMORY, AT(train.layer_inputs), "auto", 0, 0, places,
     NULL, "where the layers' inputs wait for the backward pass"},
    {"embedding_state", NULL, 0, VALUE_CHOICE, RUN | COMMAND_EVAL | B, 0, GROUP_MEMORY, AT(train.embedding_state),
     "auto", 0, 0, places, NULL, "where the embedding and its optimizer state are; host: the CPU updates it"},
    {"head_state", NULL, 0, VALUE_CHOICE, RUN | B, 0, GROUP_MEMORY, AT(train.head_state), "auto", 0, 0, places, NULL,
     "where the head's optimizer state is"},
    {"layer_state", NULL, 0, VALUE_CHOICE, RUN | B, 0, GROUP_MEMORY, AT(train.layer_state), "auto", 0, 0, places, NULL,
     "where the optimizer state of the layers in training is"},
    {"gradients", NULL, 0, VALUE_CHOICE, RUN | B, 0, GROUP_MEMORY, AT(train.gradients), "auto", 0, 0, places, NULL,
     "where gradients of head and layers wait until the norm of all is known"},
    {"device", NULL, 0, VALUE_TEXT, COMPUTING, 0, GROUP_MEMORY, AT(device), "auto", 0, 0, NULL, "DEVICE",
     "what computes: cpu, cuda, cuda:<number of the card>; auto: the first NVIDIA card if there is one, else the CPU"},
    {"threads", NULL, 't', VALUE_INTEGER, ALL, 0, GROUP_MEMORY, AT(threads), "0", 0, 1024, NULL, NULL,
     "processor threads; 0: one per processor"},

    // ---- results, evaluation, saving
    {"output_dir", NULL, 'o', VALUE_TEXT, RUN, COMMAND_TRAIN, GROUP_REPORT, AT(train.output_dir), NULL, 0, 0, NULL,
     "FOLDER", "where checkpoints, metrics and the trained model go"},
    {"overwrite_output_dir", NULL, 0, VALUE_FLAG, COMMAND_TRAIN, 0, GROUP_REPORT, AT(train.overwrite_output_dir),
     "false", 0, 0, NULL, NULL, "remove what lisa wrote there before and start anew"},
    {"resume_from_checkpoint", NULL, 0, VALUE_TEXT, COMMAND_TRAIN, 0, GROUP_REPORT, AT(train.resume_from_checkpoint),
     NULL, 0, 0, NULL, "FOLDER",
     "a checkpoint-<step> folder; not given: the newest one in output_dir, if there is one; true: there must be one"},
    {"logging_steps", "steps_per_report", 0, VALUE_INTEGER, RUN, 0, GROUP_REPORT, AT(train.logging_steps), "1", 1,
     COUNT, NULL, NULL, "steps between two lines of metrics.jsonl"},
    {"eval_strategy", "evaluation_strategy", 0, VALUE_CHOICE, RUN, 0, GROUP_REPORT, AT(train.eval_strategy), "epoch", 0,
     0, strategies, NULL, "when held-out records are evaluated, besides before step 1 and at the end"},
    {"eval_steps", "steps_per_eval", 0, VALUE_INTEGER, RUN, 0, GROUP_REPORT, AT(train.eval_steps), "0", 0, COUNT, NULL,
     NULL, "steps between two evaluations; giving it sets eval_strategy to steps"},
    {"save_strategy", NULL, 0, VALUE_CHOICE, RUN, 0, GROUP_REPORT, AT(train.save_strategy), "epoch", 0, 0, strategies,
     NULL, "when a checkpoint is written, besides at the end"},
    {"save_steps", "save_every", 0, VALUE_INTEGER, RUN, 0, GROUP_REPORT, AT(train.save_steps), "0", 0, COUNT, NULL,
     NULL, "steps between two checkpoints; giving it sets save_strategy to steps"},
    {"save_minutes", NULL, 0, VALUE_NUMBER, RUN, 0, GROUP_REPORT, AT(train.save_minutes), "30", 0, 1e6, NULL, NULL,
     "a checkpoint is also written when the last one is so old; 0: never because of time"},
    {"save_total_limit", NULL, 0, VALUE_INTEGER, RUN, 0, GROUP_REPORT, AT(train.save_total_limit), "1", 1, 1e6, NULL,
     NULL, "checkpoints that are kept"},
    {"max_shard_size", NULL, 0, VALUE_SIZE, RUN, 0, GROUP_REPORT, AT(train.max_shard_size), "5GiB", 0, LARGEST, NULL,
     NULL, "the largest safetensors file; 0: one file"},

    // ---- answers
    {"prompt", NULL, 'p', VALUE_TEXT, COMMAND_GENERATE, 0, GROUP_ANSWER, AT(prompt), NULL, 0, 0, NULL, "TEXT",
     "what the user says; not given: all of stdin"},
    {"raw", NULL, 0, VALUE_FLAG, SPEAK, 0, GROUP_ANSWER, AT(raw), "false", 0, 0, NULL, NULL,
     "continue the prompt as plain text, without a chat template"},
    {"max_new_tokens", "max_tokens n_predict", 'n', VALUE_INTEGER, SPEAK, 0, GROUP_ANSWER, AT(max_new_tokens), "1024",
     1, COUNT, NULL, NULL, "tokens of an answer at most"},
    {"temperature", "temp", 0, VALUE_NUMBER, SPEAK, 0, GROUP_ANSWER, AT(temperature), "0.95", 0, 100, NULL, NULL,
     "below 1 likely tokens are favoured more; 0: always the likeliest"},
    {"top_p", NULL, 0, VALUE_NUMBER, SPEAK, 0, GROUP_ANSWER, AT(top_p), "0.7", 1e-6, 1, NULL, NULL,
     "draw only from the likeliest tokens that together have this probability"},

    // ---- export
    {"export_dir", NULL, 'o', VALUE_TEXT, X, X, GROUP_EXPORT, AT(export_dir), NULL, 0, 0, NULL, "FOLDER",
     "where the files go; must not exist yet, or be empty"},
    {"export_format", NULL, 0, VALUE_CHOICE, X, 0, GROUP_EXPORT, AT(export_format), "gguf", 0, 0, export_formats, NULL,
     "gguf: for llama.cpp, Ollama and LM Studio; hf: a Hugging Face directory; delta: what differs from base"},
    {"outtype", NULL, 0, VALUE_CHOICE, X, 0, GROUP_EXPORT, AT(outtype), "auto", 0, 0, outtypes, NULL,
     "what a GGUF file's matrices are stored as; auto: as in base, or in the model when it is a GGUF file, else bf16"},
    {"export_size", NULL, 0, VALUE_NUMBER, X, 0, GROUP_EXPORT, AT(export_size), "5", 0, 1e9, NULL, NULL,
     "GB of a safetensors file at most; 0: one file"},
    {"base", NULL, 0, VALUE_TEXT, X, 0, GROUP_EXPORT, AT(base), NULL, 0, 0, NULL, "MODEL",
     "what the model was trained from: a delta is made against it or put onto it; a GGUF file gives its types"},
    {"delta", NULL, 0, VALUE_TEXT, X, 0, GROUP_EXPORT, AT(delta), NULL, 0, 0, NULL, "FOLDER",
     "an exported delta, instead of a model: base and delta give the Hugging Face directory again"},

    // ---- the program
    {"json", NULL, 0, VALUE_FLAG, ALL, 0, GROUP_PROGRAM, AT(json), "false", 0, 0, NULL, NULL,
     "print the result as one JSON object on stdout"},
    {"log_level", NULL, 0, VALUE_CHOICE, ALL, 0, GROUP_PROGRAM, AT(log_level), "info", 0, 0, log_levels, NULL,
     "what is said on stderr"},
    {"help", NULL, 'h', VALUE_FLAG, ALL | COMMAND_OPTIONS, 0, GROUP_PROGRAM, AT(help), "false", 0, 0, NULL, NULL,
     "this list"},
};

const int option_count = sizeof option_table / sizeof option_table[0];
_Static_assert(sizeof option_table / sizeof option_table[0] <= OPTIONS_MAX, "struct Options has a flag for each row");

const char *option_group_title(OptionGroup group) {
    static const char *const titles[GROUP_COUNT] = {
        "Model",   "Data",    "Method", "Length", "Optimizer", "Memory and speed",
        "Results", "Answers", "Export", "Program"};
    return titles[group];
}
