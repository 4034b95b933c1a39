// show.h - an example as the model will see it, with what is learned of it set apart.
#pragma once
#include "data/batch.h"
#include "tokenizer/tokenizer.h"
#include <stdio.h>

// Prints example e: trained tokens coloured when the stream is a terminal, else between SHOW_OPEN and SHOW_CLOSE.
// Control characters are printed as \xNN.
bool show_example(FILE *stream, const Dataset *dataset, int64_t e, const Tokenizer *tokenizer, Error *error);

#define SHOW_OPEN  "\xe2\x9f\xa6" // U+27E6, a white square bracket, which hardly any text has
#define SHOW_CLOSE "\xe2\x9f\xa7" // U+27E7
