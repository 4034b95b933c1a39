// places.h - every choice of where weights, state and activations lie and of how many micro-batches a sweep has, and
// one tiny training by such a choice, for tests.
#pragma once
#include "tests/tiny_model.h"

// The choices, each a number below its options.
typedef enum {
    PLACE_KEEPS,     // 0 the input, 1 all but the MLP, 2 all, 3 a mixture of them
    PLACE_INPUTS,    // 0 on the device, 1 on the host
    PLACE_SWEEP,     // 0 one micro-batch, 1 two, 2 all of a step
    PLACE_STREAMED,  // 0 no layer, 1 one, 2 three, 3 all, 4 all from a file
    PLACE_EMBEDDING, // 0 on the device, 1 on the host; so are the next two
    PLACE_HEAD,
    PLACE_LAYERS,
    PLACE_SHARED, // 0 a gradient buffer for each block, 1 one for H and the layers
    // these two are no places: what they change is the training itself
    PLACE_BITS,  // AdamW's moments in 0 32 bits, 1 16 bits
    PLACE_MODEL, // 0 clipped, 1 not clipped; 2 and 3: the same with tied embeddings
    PLACES
} Place;

typedef struct Places {
    int value[PLACES];
} Places;

#define PLACES_BATCH     3  // sequences of a step
#define PLACES_LONGEST   14 // tokens of a sequence
#define PLACES_TRAININGS 8  // of which each row is one, in its places

// ---- a cover of all pairs of choices ----

typedef struct PlacesCover {
    bool possible[PLACES][PLACES][8][8]; // some legal row has both
    bool covered[PLACES][PLACES][8][8];
} PlacesCover;

PlacesCover places_cover(void);
// The legal row that covers most pairs that no row has covered yet; false when none covers any.
bool places_next(PlacesCover *cover, Places *row);
void places_assert_covered(const PlacesCover *cover); // fails the test unless every possible pair is
// Whether the choices go together.
bool places_legal(const Places *row);
// Which of PLACES_TRAININGS a row is, and that training with everything on the device.
int places_training(const Places *row);
Places places_on_device(int training);
// Inputs, E (not a tied one), H and the layers' state on the host, layers keep their input alone, a sweep of all.
Places places_on_host(int streamed, bool shared, int model);
void places_in_words(const Places *row, char text[160]);

// ---- a training by a row ----

// 4 layers of which 2 are active, one head (attention is what an emulated card takes longest for); a redraw every three
// steps, clipping that shows.
ModelConfig places_config(const Places *row);
TrainSettings places_settings(const Places *row);
Dataset places_data(void);
// The choices; sizes are measured by who makes a trainer of them.
Plan places_plan(const Places *row);

typedef struct PlacesOutcome {
    StepReport report;      // of the last step
    double evaluated[2];    // loss in the middle and at the end
    size_t size;            // bytes
    unsigned char *weights; // [size] of all blocks, and the state of those in training
} PlacesOutcome;

// Trains `steps` steps, evaluates in the middle of an interval and at the end; when they are fewer than three, with a
// redraw in each, at the end alone. Fails the test on any error, and when the trainer takes other sizes than its plan
// says. Free with places_outcome_free.
PlacesOutcome places_train(Backend *backend, const Places *row, int64_t steps);
void places_outcome_free(PlacesOutcome *outcome);
// The loss of the first sequences, each by itself.
double places_evaluate(Trainer *trainer, const Dataset *data, int64_t sequences);
// Whether both are the same to the bit.
bool places_same(const PlacesOutcome *a, const PlacesOutcome *b);
// Fails the test with what differs unless places_same; row: for the message.
void places_assert_same(const PlacesOutcome *outcome, const PlacesOutcome *expected, const Places *row);
