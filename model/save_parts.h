// save_parts.h - what save.c and save_config.c share.
#pragma once
#include "model/save.h"

// Serialises a JSON value into directory/name, synced.
bool save_json(const json_t *value, const char *directory, const char *name, Error *error);
