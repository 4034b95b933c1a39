// plain_stream.h - a plain text file in pieces that can be tokenised apart.
//
// A piece ends where no tokenizer of ours joins what is on both sides: between a line end and a character that is no
// white space, or before a single space. So the ids of the pieces, laid end to end, are those of the whole text. Only
// a run of PIECE_LIMIT bytes without such a place is cut between any two characters.
#pragma once
#include "base/buffer.h"
#include <stdint.h>

#define PIECE_BYTES ((size_t)64 << 10) // a piece ends at the first fit place after so many bytes
#define PIECE_LIMIT ((size_t)256 << 10)

typedef struct PlainStream PlainStream;

PlainStream *plain_stream_open(const char *path, Error *error);
// Appends the next piece to text and gives the line it starts on (from 1); *found is false at the end of the file.
// Errors: reading fails, invalid UTF-8 (with the line).
bool plain_stream_next(PlainStream *stream, Buffer *text, int64_t *line, bool *found, Error *error);
void plain_stream_close(PlainStream *stream); // NULL is allowed
