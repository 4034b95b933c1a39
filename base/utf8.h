// utf8.h - what text must be.
#pragma once
#include "base/buffer.h"

// Whether the bytes are UTF-8: no overlong forms, no surrogates, nothing above U+10FFFF.
bool utf8_valid(const char *text, size_t size);
// Appends the bytes as UTF-8: each byte that belongs to no character becomes U+FFFD.
bool utf8_append(Buffer *buffer, const char *text, size_t size, Error *error);
