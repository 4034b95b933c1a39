// session.h - a trainer over a model folder with what its checkpoints need, for tests.
#pragma once
#include "tests/tiny_model.h"
#include "train/checkpoint.h"

#define SESSION_MODEL "tests/golden/models/llama_tied"

// A trainer over a model folder, with what its checkpoints need.
typedef struct Session {
    Backend *backend;
    ModelSource *source;
    TrainSettings settings;
    Dataset data;
    Trainer trainer;
    CheckpointFacts facts;
} Session;

// Each fails the test when anything fails.
void open_session(Session *s, const char *model, const TrainSettings *settings);
// On a backend that the session then owns.
void open_session_on(Session *s, Backend *backend, const char *model, const TrainSettings *settings);
void close_session(Session *s);
// A session that goes on from a checkpoint of another, as `lisa train` does; the step that it is at.
int64_t resume_session(Session *s, const char *path, const TrainSettings *settings, int64_t steps);
int64_t resume_session_on(Session *s, Backend *backend, const char *path, const TrainSettings *settings, int64_t steps);
// The same of another model than SESSION_MODEL.
int64_t resume_session_with(Session *s, const char *model, const char *path, const TrainSettings *settings,
                            int64_t steps);
// The tiny settings with draws of `layers` every two steps.
TrainSettings settings_with(int64_t layers, bool keep_low_bits);
// Writes a checkpoint of a session that has trained for `steps` steps; the path is the caller's.
char *save_after(Session *s, const char *folder, int64_t steps);
