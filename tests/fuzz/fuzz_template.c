// fuzz_template.c - recognising a chat template in any text; what is recognised must be stable when written by us.
#include "tokenizer/template_table.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    Error error;
    const ChatTemplate *chat, *again;
    char *jinja = malloc(size + 1), *system = NULL, *same = NULL;
    Buffer ours = BUFFER_EMPTY;
    if (!jinja) return 0;
    memcpy(jinja, data, size);
    jinja[size] = 0;
    if (template_recognise(jinja, &chat, &system, &error) && chat &&
        template_write_jinja(chat, false, system, &ours, &error) &&
        template_recognise(buffer_string(&ours), &again, &same, &error)) {
        if (chat != again || (system && same && strcmp(system, same)) || (system && !same)) abort();
    }
    free(same);
    free(system);
    buffer_free(&ours);
    free(jinja);
    return 0;
}
