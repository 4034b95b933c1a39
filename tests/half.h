// half.h - writing halves, for files that a test makes: the program itself only reads them.
#pragma once
#include "base/numbers.h"

// To nearest even, overflow to infinity.
fp16 fp16_from_float(float value);
