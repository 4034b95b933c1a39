// test_cuda_describe.c - what a plan is told about a card that is not there is what a card's backend says.
#include "kernels/kernels.h"
#include "tests/emulator/emulator.h"
#include "tests/support.h"

static const int64_t TOKENS[] = {0, 1, 7, 8, 31, 32, 33, 127, 128, 129, 2048, 4097, 1000003};

static void the_numbers_are_a_cards(void **state) {
    (void)state;
    Error error = {0};
    Backend *card = backend_cuda_create(0, 1, &error), *said = backend_cuda_describe(&error);
    check(card && said, &error);
    assert_string_equal(said->name, card->name);
    assert_int_equal(said->activation, card->activation);
    assert_int_equal(said->activation_size, card->activation_size);
    assert_int_equal(said->token_multiple, card->token_multiple);
    assert_int_equal(said->head_multiple, card->head_multiple);
    assert_int_equal(said->unified, card->unified);
    assert_int_equal(said->workspace_bytes, card->workspace_bytes);
    for (size_t i = 0; i < sizeof TOKENS / sizeof *TOKENS; i++) {
        for (int n = 1; n < 200; n += 22) {
            assert_int_equal(said->rmsnorm_scratch(said, TOKENS[i], n), card->rmsnorm_scratch(card, TOKENS[i], n));
            assert_int_equal(said->attention_scratch(said, TOKENS[i], n), card->attention_scratch(card, TOKENS[i], n));
        }
        assert_int_equal(said->attention_products(said, TOKENS[i]), card->attention_products(card, TOKENS[i]));
    }
    said->destroy(said);
    card->destroy(card);
}

// What the backend takes of the card's memory at creation is what the plan lists for it.
static void the_workspace_is_what_is_allocated(void **state) {
    (void)state;
    if (!emulator_present()) skip();
    Error error = {0};
    Backend *said = backend_cuda_describe(&error);
    check(said != NULL, &error);
    emulator_memory_limit(said->workspace_bytes - 1);
    assert_null(backend_cuda_create(0, 1, &error));
    emulator_memory_limit(said->workspace_bytes);
    Backend *card = backend_cuda_create(0, 1, &error);
    check(card != NULL, &error);
    assert_int_equal(card->memory_available(card, MEMORY_DEVICE), 0);
    assert_int_equal(card->memory_in_use(card), said->workspace_bytes);
    card->destroy(card);
    emulator_memory_limit((size_t)8 << 30);
    said->destroy(said);
}

static void it_touches_no_card(void **state) {
    (void)state;
    Error error = {0};
    if (emulator_present()) emulator_card(0, 0, 0, 0);
    Backend *said = backend_cuda_describe(&error);
    check(said != NULL, &error);
    assert_int_equal(said->memory_available(said, MEMORY_DEVICE), 0);
    assert_int_equal(said->memory_available(said, MEMORY_PINNED), 0);
    assert_null(said->allocate);
    assert_null(said->copy);
    assert_null(said->linear_forward);
    assert_null(said->threads);
    said->destroy(said);
    if (emulator_present()) emulator_card(1, 8, 9, 13000);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_numbers_are_a_cards),
        cmocka_unit_test(the_workspace_is_what_is_allocated),
        cmocka_unit_test(it_touches_no_card),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
