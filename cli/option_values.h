// option_values.h - one value of one option: from text into its place, checked.
#pragma once
#include "cli/options.h"

// 1 for true, yes, on, 1; 0 for false, no, off, 0; -1 for anything else. Case is ignored.
int truth_of(const char *text);

// Whether `word` is one of the " "-separated words (NULL: none).
bool has_word(const char *words, const char *word);

// Parses `value` into the row's place in options. Errors name the option and what is allowed.
bool option_store(Options *options, const OptionRow *row, const char *value, Error *error);
// Where the row's value lies.
void *option_place(const Options *options, const OptionRow *row);
