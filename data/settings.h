// settings.h - every choice about the data, as the option table (cli/options.c) fills it in.
//
// Names and meanings are LLaMA-Factory's; the table holds the defaults and the ranges, so that values here are in
// range. The seed of the split and of the order is TrainSettings' `seed`, given to the functions that need it.
#pragma once
#include <stdbool.h>
#include <stdint.h>

// The shape of the records of a file. FORMAT_AUTO: read off the first record's keys.
typedef enum {
    FORMAT_AUTO,
    FORMAT_ALPACA,            // {"instruction", "input", "output"}
    FORMAT_SHAREGPT,          // {"conversations": [{"from", "value"}, ...]}
    FORMAT_OPENAI,            // {"messages": [{"role", "content"}, ...]}
    FORMAT_PROMPT_COMPLETION, // {"prompt", "completion"}
    FORMAT_TEXT,              // {"text"}
    FORMAT_PLAIN              // not JSON: the file is one text
} DataFormat;

typedef enum { PACKING_AUTO, PACKING_ON, PACKING_OFF } Packing;

typedef struct DataSettings {
    // ---- where it comes from. Strings belong to the struct Options around this one.
    // One or more of: a name in dataset_info.json, a file, a glob; separated by commas.
    char *dataset;
    char *eval_dataset;    // likewise; NULL when not given
    char *dataset_dir;     // the folder of dataset_info.json and of its files
    DataFormat formatting; // of all files that dataset_info.json says nothing about

    // ---- which records
    int64_t max_samples;   // at most so many records of each data set; 0: all
    double val_size;       // held out for evaluation: below 1 a share, from 1 on a count; 0: none
    bool skip_bad_records; // leave out records that cannot be used, and count them, instead of stopping
    bool disable_shuffling;

    // ---- how they become tokens
    char *template_name;  // `template`; NULL: recognised from the model
    char *default_system; // the system text of records without one; NULL: the template's own; "": none
    int64_t cutoff_len;   // tokens of a sequence at most; >= 2
    bool train_on_prompt; // prompts are targets too
    bool mask_history;    // only the last answer of a conversation is a target
    Packing packing;      // short examples share a sequence of cutoff_len tokens; PACKING_AUTO: for texts only
} DataSettings;
