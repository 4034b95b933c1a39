// template_choose.c - the template of a model, and its Jinja text: what asks the tokenizer.
#include "base/log.h"
#include "tokenizer/template_table.h"

static bool list_names(Error *error) {
    return error_hint(error, "choose the template with template=NAME, one of %s", template_names());
}

bool template_choose(const Tokenizer *tokenizer, const char *name, bool alpaca_data, const ChatTemplate **chat,
                     char **system, Error *error) {
    const char *jinja = tokenizer_chat_template(tokenizer);
    *system = NULL;
    if (name) {
        *chat = template_by_name(name);
        if (*chat) return true;
        error_usage(error, "there is no template \"%s\"", name);
        return list_names(error);
    }
    if (jinja) {
        if (!template_recognise(jinja, chat, system, error)) return false;
        if (*chat) return true;
        error_set(error, "the model's chat template is not one that lisa knows");
        return list_names(error);
    }
    if (!alpaca_data) {
        error_set(error, "the model has no chat template");
        return list_names(error);
    }
    log_note("the model has no chat template: alpaca data is put into the template alpaca (template=NAME chooses)");
    *chat = template_by_name("alpaca");
    return true;
}

bool template_jinja(const ChatTemplate *chat, const Tokenizer *tokenizer, const char *system, Buffer *jinja,
                    Error *error) {
    return template_write_jinja(chat, tokenizer_adds_bos(tokenizer), system, jinja, error);
}
