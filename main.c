// main.c - the command table and nothing that computes.
#include "cli/command.h"
#include "kernels/backends.h"
#include "version.h"
#include <stdio.h>

#ifdef __clang__
#define COMPILER "clang " __clang_version__
#else
#define COMPILER "gcc " __VERSION__
#endif

static const Command commands[] = {
    {"train", COMMAND_TRAIN, "[config.yaml] [option=value ...] [--option value ...]", "fine-tune a model",
     "Trains by LISA: embedding and head always, a few decoder layers at a time (finetuning_type=full trains all).\n"
     "A LLaMA-Factory or axolotl YAML can be given as it is. The same command run again goes on from the last\n"
     "checkpoint. Ctrl-C finishes the step, saves and ends with exit code 130.",
     command_train},
    {"preview", COMMAND_PREVIEW, "[config.yaml] [option=value ...]", "what the model will see of the data",
     "Prints examples as the model sees them, with what is learned of them coloured (or between brackets).",
     command_preview},
    {"eval", COMMAND_EVAL, "MODEL [config.yaml] dataset=FILE [option=value ...]", "the loss of a model on a data set",
     "Prints the mean loss over target tokens and the perplexity: on eval_dataset if given, else on what val_size\n"
     "holds out of dataset, else on all of dataset.",
     command_eval},
    {"generate", COMMAND_GENERATE, "MODEL -p PROMPT [option=value ...]", "one prompt, one answer",
     "The prompt is put into the model's chat template, or continued as it is with --raw. Without -p it is read from\n"
     "stdin.",
     command_generate},
    {"chat", COMMAND_CHAT, "MODEL [option=value ...]", "a conversation on the terminal",
     "Inside: /reset starts anew, /system TEXT sets the system text, /exit leaves. With --raw every line is put to "
     "the\n"
     "plain text so far, which the model continues. With --json the conversation is printed at its end.",
     command_chat},
    {"export", COMMAND_EXPORT, "MODEL export_dir=FOLDER [option=value ...]", "the model as a file for other programs",
     "Writes MODEL as a GGUF file with an Ollama Modelfile beside it, as a Hugging Face directory, or as a delta: "
     "only\n"
     "what training changed. base=MODEL delta=FOLDER makes the directory again. docs/use.md has the lines for each "
     "program.",
     command_export},
    {"plan", COMMAND_PLAN, "MODEL|config.yaml [option=value ...]", "what a training run will take of memory",
     "Takes the options of lisa train, and of the model nothing but its config.json. The run then takes these bytes,\n"
     "and none after its first step.",
     command_plan},
    {"bench", COMMAND_BENCH, "[MODEL] [dataset=FILE] [option=value ...]", "measure one training step",
     "Trains in the shape of MODEL (SmolLM2-135M when not given; config.json suffices) and compares the operations a\n"
     "step needs, per second, with the processor's own library on the same matrices, and the memory with the plan.\n"
     "With per_device_train_batch_size B a step takes B sequences of exactly cutoff_len tokens, all learned; without "
     "it\n"
     "one micro-batch of examples of Alpaca's lengths. dataset gives the examples instead.",
     command_bench},
    {"info", COMMAND_INFO, "[MODEL]", "what a model is, or what this machine has",
     "MODEL is a Hugging Face directory, a GGUF file, or an id in the local Hugging Face cache. Without it the\n"
     "backends, threads and memory are shown.",
     command_info},
    {"options", COMMAND_OPTIONS, "", "print docs/options.md", "Prints every option of every command as Markdown.",
     command_options},
};

int main(int argc, char **argv) {
    char built[160], version[256];
    snprintf(version, sizeof version, "lisa %s\ncompiler: %s\nbackends: %s\n", LISA_COMMIT, COMPILER,
             backends_built(built));
    return program_run(commands, sizeof commands / sizeof commands[0], version, argc, argv);
}
