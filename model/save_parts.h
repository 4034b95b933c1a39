// save_parts.h - what save.c and save_config.c share.
#pragma once
#include "model/save.h"

// config.json and generation_config.json of a saved model.
bool save_configurations(const ModelSource *source, const SaveOptions *options, const char *directory, Error *error);
// Serialises a JSON value into directory/name, synced.
bool save_json(const json_t *value, const char *directory, const char *name, Error *error);
