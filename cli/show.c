// show.c - see show.h.
#include "cli/show.h"
#include "data/preview.h"
#include <unistd.h>

#define COLOUR       "\x1b[32m"
#define COLOUR_RESET "\x1b[0m"

static void print_text(FILE *stream, const char *text, size_t size) {
    for (size_t i = 0; i < size; i++) {
        unsigned char c = (unsigned char)text[i];
        if ((c < 0x20 && c != '\n' && c != '\t') || c == 0x7f)
            fprintf(stream, "\\x%02x", c);
        else
            putc(c, stream);
    }
}

bool show_example(FILE *stream, const Dataset *dataset, int64_t e, const Tokenizer *tokenizer, Error *error) {
    bool colours = isatty(fileno(stream)), trained, good = true;
    int64_t token = dataset->starts[e], end = dataset->starts[e + 1];
    Buffer text = BUFFER_EMPTY;
    while (good && token < end) {
        buffer_clear(&text);
        good = preview_run(dataset, tokenizer, &token, end, &text, &trained, error);
        if (!good) break;
        if (trained) fputs(colours ? COLOUR : SHOW_OPEN, stream);
        print_text(stream, buffer_string(&text), text.size);
        if (trained) fputs(colours ? COLOUR_RESET : SHOW_CLOSE, stream);
    }
    putc('\n', stream);
    buffer_free(&text);
    return good;
}
