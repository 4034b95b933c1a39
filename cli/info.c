// info.c - `lisa info [MODEL]`: what a model is, or what this machine has.
#include "cli/command.h"
#include "cli/report.h"
#include "kernels/backends.h"
#include "kernels/cuda/cards.h"
#include "kernels/nvidia.h"
#include "model/block.h"
#include "model/source.h"
#include "tokenizer/template.h"
#include <stdio.h>
#include <stdlib.h>
#include <sys/sysinfo.h>

static void report_version(Report *report, const char *name, int version) {
    char text[32];
    snprintf(text, sizeof text, "up to CUDA %d.%d", version / 1000, version % 1000 / 10);
    report_text(report, name, version ? text : "none");
}

// One card: its name and capability, memory, and the link to the host, in bytes per second.
static void report_card(Report *report, const Card *card, int number) {
    char name[48], text[192];
    double to_card, to_host;
    Error error = {0};
    snprintf(name, sizeof name, "card_%d", number);
    snprintf(text, sizeof text, "%s, compute capability %d.%d", card->name, card->major, card->minor);
    report_text(report, name, text);
    snprintf(name, sizeof name, "card_%d_free", number);
    report_bytes(report, name, card->free_bytes);
    snprintf(name, sizeof name, "card_%d_memory", number);
    report_bytes(report, name, card->total_bytes);
    snprintf(name, sizeof name, "card_%d_problem", number);
    if (!cuda_check_card(number, &error) || !cuda_measure_link(number, &to_card, &to_host, &error)) {
        report_text(report, name, error.text);
        return;
    }
    snprintf(name, sizeof name, "card_%d_from_host_GB/s", number);
    report_number(report, name, 1e-9 * to_card);
    snprintf(name, sizeof name, "card_%d_to_host_GB/s", number);
    report_number(report, name, 1e-9 * to_host);
}

static void report_cards(Report *report) {
    CardList list;
    Error error = {0};
    cuda_list_cards(&list);
    const char *seen = nvidia_card_seen("");
    if (cuda_build_version()) report_version(report, "driver", list.driver); // nobody to ask otherwise
    report_integer(report, "cards", list.count);
    if (list.count == 0 && seen) {
        report_text(report, "card_seen", seen);
        if (!cuda_check_card(0, &error)) report_text(report, "card_problem", error.text);
    }
    for (int i = 0; i < list.count; i++) report_card(report, &list.cards[i], i);
}

static bool report_machine(Report *report, const Options *options, Error *error) {
    Backend *backend = backend_cpu_create((int)options->threads, false, error);
    if (!backend) return false;
    char built[160];
    report_text(report, "backends", backends_built(built));
    report_integer(report, "threads", thread_pool_size(backend->threads));
    struct sysinfo machine;
    if (!sysinfo(&machine)) report_bytes(report, "memory", (uint64_t)machine.totalram * machine.mem_unit);
    backend->destroy(backend);
    report_cards(report);
    return true;
}

// The shape of the network.
static bool report_shape(Report *report, const ModelConfig *config, Error *error) {
    static const char *const ropes[] = {[ROPE_PLAIN] = "plain", [ROPE_LINEAR] = "linear", [ROPE_LLAMA3] = "llama3"};
    BlockLayout layout;
    if (!block_layout(&layout, config, error)) return false;
    report_text(report, "family", model_family_name(config->family));
    report_integer(report, "parameters", model_parameters(config));
    report_integer(report, "layers", config->layers);
    report_integer(report, "hidden", config->hidden);
    report_integer(report, "intermediate", config->intermediate);
    report_integer(report, "query_heads", config->heads);
    report_integer(report, "key_value_heads", config->kv_heads);
    report_integer(report, "head_size", config->head_dim);
    report_integer(report, "vocabulary", config->vocabulary);
    report_boolean(report, "tied_embeddings", config->tied);
    report_integer(report, "max_positions", config->max_positions);
    if (config->window) report_integer(report, "sliding_window", config->window);
    report_number(report, "rope_theta", config->rope_theta);
    report_text(report, "rope_scaling", ropes[config->rope_scaling]);
    report_bytes(report, "layer_weights", 2 * (uint64_t)layout.layer.elements);
    report_bytes(report, "embedding_weights", 2 * (uint64_t)layout.embedding_elements);
    report_bytes(report, "head_weights", 2 * (uint64_t)layout.head_elements);
    return true;
}

// Ids and texts of the end tokens.
static bool report_end_tokens(Report *report, const ModelConfig *config, const Tokenizer *tokenizer, Error *error) {
    json_t *ids = json_array(), *texts = json_array();
    Buffer text = BUFFER_EMPTY;
    bool good = true;
    for (int i = 0; i < config->eos_count && good; i++) {
        buffer_clear(&text);
        good = tokenizer_decode(tokenizer, config->eos[i], true, &text, error);
        json_array_append_new(ids, json_integer(config->eos[i]));
        json_array_append_new(texts, json_string(buffer_string(&text)));
    }
    report_value(report, "eos", ids);
    report_value(report, "eos_text", texts);
    buffer_free(&text);
    return good;
}

static bool report_tokenizer(Report *report, const ModelSource *source, Error *error) {
    const ModelConfig *config = model_source_config(source);
    Tokenizer *tokenizer = tokenizer_open(model_source_path(source), config->vocabulary, error);
    if (!tokenizer) return false;
    const char *jinja = tokenizer_chat_template(tokenizer);
    const ChatTemplate *chat = NULL;
    char *system = NULL;
    bool good = !jinja || template_recognise(jinja, &chat, &system, error);
    report_text(report, "tokenizer", tokenizer_kind(tokenizer));
    report_integer(report, "tokens", tokenizer_size(tokenizer));
    report_text(report, "template", chat ? template_name(chat) : jinja ? "not recognised" : "none");
    report_text(report, "default_system", system);
    if (tokenizer_bos(tokenizer) >= 0) report_integer(report, "bos", tokenizer_bos(tokenizer));
    good = good && report_end_tokens(report, config, tokenizer, error);
    free(system);
    tokenizer_close(tokenizer);
    return good;
}

static bool report_model(Report *report, const Options *options, Error *error) {
    ModelSource *source = model_source_open(options->model_name_or_path, false, error);
    if (!source) return false;
    report_text(report, "model", model_source_path(source));
    report_text(report, "format", model_source_kind(source) == SOURCE_GGUF ? "GGUF" : "Hugging Face");
    report_text(report, "stored_as", model_source_types(source));
    report_boolean(report, "rounded_to_bf16", model_source_rounds(source));
    bool good = report_shape(report, model_source_config(source), error) && report_tokenizer(report, source, error);
    model_source_close(source);
    return good;
}

int command_info(const Options *options, Error *error) {
    Report report;
    report_start(&report);
    bool good =
        options->model_name_or_path ? report_model(&report, options, error) : report_machine(&report, options, error);
    if (good) return report_print(&report, options->json, error) ? 0 : ERROR_EXIT_FAILED;
    report_free(&report);
    return ERROR_EXIT_FAILED;
}
