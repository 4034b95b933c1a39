// options.h - the one option table: parsing of command lines and YAML, --help and docs/options.md all come from it.
//
// An option has one name (LLaMA-Factory's or the Trainer's where they have one) and aliases; `-` and `_` are alike.
// It can be given as `name: value` in a YAML file, as `name=value` or as `--name value`; what comes later wins.
#pragma once
#include "base/buffer.h"
#include "base/error.h"
#include "base/log.h"
#include "data/settings.h"
#include "train/settings.h"

// The commands, as bits: an option is taken by a set of them.
typedef enum {
    COMMAND_TRAIN = 1,
    COMMAND_PLAN = 2,
    COMMAND_PREVIEW = 4,
    COMMAND_EVAL = 8,
    COMMAND_GENERATE = 16,
    COMMAND_CHAT = 32,
    COMMAND_INFO = 64,
    COMMAND_BENCH = 128,
    COMMAND_EXPORT = 256,
    COMMAND_OPTIONS = 512 // prints the table itself
} CommandSet;

typedef enum { EXPORT_GGUF, EXPORT_HUGGING_FACE, EXPORT_DELTA } ExportFormat;
typedef enum { OUT_AUTO, OUT_BF16, OUT_F16, OUT_Q8_0, OUT_Q4_0 } ExportType;

#define OPTIONS_MAX 96 // rows of the table at most

#define SIZES_MAX 8
typedef struct SizeList {
    uint64_t bytes[SIZES_MAX];
    int count;
} SizeList;

// Every option's value. Strings are owned by the struct and NULL when not given and without default.
typedef struct Options {
    DataSettings data;
    TrainSettings train;
    char *model_name_or_path;
    bool random_weights; // measure with random weights instead of the model's
    char *device;        // auto, cpu, cuda or cuda:<number>
    int64_t threads;     // 0: one per processor
    SizeList vram;       // memory that the run may take, with a card of the card's; empty: most of what is free
    uint64_t ram;        // bytes of host memory that it may take beside a card; 0: most of what is free
    double link_speed;   // GB/s between host and card, for estimates; 0: measured, or a typical card's
    double card_tflops;  // of dense bf16 products in a step, for estimates; 0: likewise
    char *scratch_dir;   // folder for weights that no memory holds; NULL: see setup_scratch_dir
    int64_t preview_samples;
    char *prompt;
    bool raw; // the prompt is continued, without a template
    int64_t max_new_tokens;
    double temperature;
    double top_p;
    char *export_dir;
    ExportFormat export_format;
    ExportType outtype;
    double export_size; // GB (10^9 bytes) of a safetensors file; 0: one file
    char *base;
    char *delta;
    bool json; // one JSON object on stdout
    int log_level;
    bool help;               // -h was given: nothing else is checked then
    bool given[OPTIONS_MAX]; // by row of the table: not left at its default
    Buffer command_line;     // as a shell takes it; empty when the options came from elsewhere
    Buffer without_effect;   // names of known foreign options that were given, ", "-separated
} Options;

// ---- the table

typedef enum {
    VALUE_FLAG,
    VALUE_INTEGER,
    VALUE_SEED,
    VALUE_NUMBER,
    VALUE_SIZE,
    VALUE_SIZES, // ","-separated; 0, which is the default, is an empty list
    VALUE_TEXT,
    VALUE_CHOICE
} ValueType;

typedef enum {
    GROUP_MODEL,
    GROUP_DATA,
    GROUP_METHOD,
    GROUP_LENGTH,
    GROUP_OPTIMIZER,
    GROUP_MEMORY,
    GROUP_REPORT,
    GROUP_ANSWER,
    GROUP_EXPORT,
    GROUP_PROGRAM,
    GROUP_COUNT
} OptionGroup;

typedef struct OptionRow {
    const char *name;
    const char *aliases; // " "-separated, or NULL
    char letter;         // of the short form, or 0
    ValueType type;
    unsigned commands; // a set of CommandSet
    unsigned required; // the commands that cannot do without it
    OptionGroup group;
    size_t offset;              // of the value in struct Options: bool, int64_t, uint64_t, double, char * or an enum
    const char *initial;        // the default as text; NULL: a text without default
    double least, most;         // range of a number, both included; ignored for other types
    const char *const *choices; // VALUE_CHOICE: names in the enum's order, NULL at the end
    const char *placeholder;    // what stands for a text's value in --help
    const char *help;           // one sentence or a few words, without the default
} OptionRow;

extern const OptionRow option_table[];
extern const int option_count;
// The row of a name or an alias, `-` and `_` alike; NULL when there is none.
const OptionRow *option_find(const char *name);
const char *option_group_title(OptionGroup group);

// Options of other tools that lisa knows and does not have.
typedef struct ForeignOption {
    const char *name;     // a `*` at the end stands for any ending
    const char *harmless; // values without effect here, " "-separated; "*": all. false, null, none, no and 0 always are
    const char *becomes;  // "name=value" to set when the value is true, and after a space when it is false; NULL: none
    const char *reason;   // why another value is refused
} ForeignOption;

// The entry for a name (`_` spelling), or NULL.
const ForeignOption *foreign_option_find(const char *name);

// ---- parsing

// Every option at its default. Free with options_free; false only when memory runs out.
bool options_defaults(Options *options, Error *error);
void options_free(Options *options);

// Reads what stands behind the command's name. Errors name the option (and file:line), say what is allowed and end the
// program with exit code 2. Options of other commands are refused on the command line and passed over in a file.
bool options_parse(Options *options, CommandSet command, int count, char *const *arguments, Error *error);
// Sets one option; `where` is put before messages ("config.yaml:3") or is NULL for the command line.
bool options_set(Options *options, CommandSet command, const char *name, const char *value, const char *where,
                 Error *error);
// The options in a YAML file, and in its text (`where` names it).
bool options_read_yaml(Options *options, CommandSet command, const char *path, Error *error);
bool options_parse_yaml(Options *options, CommandSet command, const char *text, size_t size, const char *where,
                        Error *error);
// Whether an option was given (by its table name).
bool options_given(const Options *options, const char *name);

// ---- words about the options

// Appends a command's options by group with their defaults, for --help.
bool options_help(Buffer *text, CommandSet command, Error *error);
// Appends the table of every option as Markdown: docs/options.md.
bool options_markdown(Buffer *text, Error *error);
