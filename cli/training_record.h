// training_record.h - training.json, which lies beside a trained model: what it was made from and how.
#pragma once
#include "cli/options.h"

// Appends {"base_model", "dataset", "method", "options": {name: value}} of a training run. Of local paths the last name
// alone is told: the file goes where the model goes.
bool training_record(const Options *options, Buffer *text, Error *error);
