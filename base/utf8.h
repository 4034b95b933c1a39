// utf8.h - what text must be.
#pragma once
#include <stdbool.h>
#include <stddef.h>

// Whether the bytes are UTF-8: no overlong forms, no surrogates, nothing above U+10FFFF.
bool utf8_valid(const char *text, size_t size);
