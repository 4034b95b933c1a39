// analyser.h - included before every file by `make tidy`: the analyser sees one file at a time and cannot know that the
// functions of base/error.h return false.
#pragma once
#include "base/error.h"

#define error_set(...)     (error_set(__VA_ARGS__), false)
#define error_usage(...)   (error_usage(__VA_ARGS__), false)
#define error_hint(...)    (error_hint(__VA_ARGS__), false)
#define error_context(...) (error_context(__VA_ARGS__), false)
#define error_system(...)  (error_system(__VA_ARGS__), false)
#define error_memory(...)  (error_memory(__VA_ARGS__), false)
