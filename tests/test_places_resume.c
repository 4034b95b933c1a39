// test_places_resume.c - a checkpoint does not know where weights and state lay: a run that is stopped in the middle of
// an interval goes on to the same bits under any placement.
#include "tests/support.h"

#include "tests/places.h"
#include "tests/session.h"
#include <stdlib.h>
#include <string.h>

#define MODEL "tests/golden/models/llama_rope_linear" // not tied

static TrainSettings on_device(bool keep_low_bits) {
    return settings_with(1, keep_low_bits);
}

static TrainSettings on_host(bool keep_low_bits, StreamSource source) {
    TrainSettings s = settings_with(1, keep_low_bits);
    s.embedding_state = s.head_state = s.layer_state = s.layer_inputs = s.gradients = PLACE_HOST;
    s.layers_resident = 0;
    s.stream_from = source;
    return s;
}

static TrainSettings streamed_state_on_device(bool keep_low_bits, StreamSource source) {
    TrainSettings s = settings_with(1, keep_low_bits);
    s.layers_resident = 0;
    s.stream_from = source;
    return s;
}

static void assert_same(Session *a, Session *b) {
    trainer_settle(&a->trainer);
    trainer_settle(&b->trainer);
    tiny_assert_same_weights(&a->trainer, &b->trainer);
    for (int block = 0; block < a->trainer.active.blocks; block++) {
        const Slot *x = a->trainer.active.of_block[block], *y = b->trainer.active.of_block[block];
        assert_int_equal(x != NULL, y != NULL);
        if (!x) continue;
        assert_int_equal(x->steps, y->steps);
        assert_memory_equal(x->m, y->m, (size_t)x->elements * x->moment_size);
        assert_memory_equal(x->v, y->v, (size_t)x->elements * x->moment_size);
        assert_memory_equal(x->low_bits, y->low_bits, (size_t)x->elements * sizeof *x->low_bits);
    }
}

static void placements_go_on_from_each_other(void **state) {
    (void)state;
    for (int keep = 0; keep < 2; keep++) {
        TrainSettings ways[] = {on_device(keep), on_host(keep, STREAM_MEMORY), on_host(keep, STREAM_FILE),
                                streamed_state_on_device(keep, STREAM_MEMORY),
                                streamed_state_on_device(keep, STREAM_FILE)};
        Session whole;
        open_session(&whole, MODEL, &ways[0]);
        tiny_steps(&whole.trainer, &whole.data, 4, 0, 12);
        for (size_t from = 0; from < sizeof ways / sizeof *ways; from++) {
            Session first;
            char *folder = make_folder();
            open_session(&first, MODEL, &ways[from]);
            assert_int_equal(first.trainer.plan.store.streamed > 0, from > 0);
            assert_int_equal(first.trainer.plan.store.in_file, ways[from].stream_from == STREAM_FILE);
            char *path = save_after(&first, folder, 7); // in mid-interval
            close_session(&first);
            for (size_t to = 0; to < sizeof ways / sizeof *ways; to++) {
                Session second;
                assert_int_equal(resume_session_with(&second, MODEL, path, &ways[to], 12), 7);
                tiny_steps(&second.trainer, &second.data, 4, 7, 12);
                assert_same(&whole, &second);
                close_session(&second);
            }
            free(path);
            remove_folder(folder);
        }
        close_session(&whole);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(placements_go_on_from_each_other),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
