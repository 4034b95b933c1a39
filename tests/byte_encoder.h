// byte_encoder.h - records to tokens without a tokenizer: one token per byte, so that tests can tell what became of
// them.
#pragma once
#include "data/dataset.h"

#define BYTE_EOS 2 // ends each trained answer and each text

// Conversations: the bytes of all messages, those of answers trained. Texts start with '^' where nothing is before
// them. A prompt "too long" is a bad record, a prompt "broken" a failure.
extern const RecordEncoder byte_encoder;
