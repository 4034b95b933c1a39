// template_table.c - the chat templates.
//
// The strings are those of the Jinja texts published with the models; Stanford's for alpaca, FastChat's for vicuna.
#include "tokenizer/template_table.h"
#include <string.h>

#define CHATML                                                                                                         \
    .tokens = {"<|im_start|>", "<|im_end|>"}, .system_before = "<|im_start|>system\n", .system_after = "<|im_end|>\n", \
    .user_before = "<|im_start|>user\n", .user_after = "<|im_end|>\n", .input_before = "\n",                           \
    .answer_prompt = "<|im_start|>assistant\n", .answer_before = "", .answer_after = "", .end = "<|im_end|>",          \
    .end_after = "\n"

#define LLAMA3_HEADER(role) "<|start_header_id|>" role "<|end_header_id|>\n\n"
#define LLAMA3                                                                                                         \
    .tokens = {"<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"}, .bos = BOS_FIRST,                            \
    .system_after = "<|eot_id|>", .user_before = LLAMA3_HEADER("user"), .user_after = "<|eot_id|>",                    \
    .input_before = "\n", .answer_prompt = LLAMA3_HEADER("assistant"), .answer_before = "", .answer_after = "",        \
    .end = "<|eot_id|>", .end_after = "", .trim = TRIM_SYSTEM | TRIM_USER | TRIM_ANSWER

const ChatTemplate chat_templates[] = {
    {.name = "alpaca",
     .bos = BOS_IF_ADDED,
     .system_default = "Below is an instruction that describes a task. Write a response that appropriately completes "
                       "the request.",
     .system_default_input = "Below is an instruction that describes a task, paired with an input that provides "
                             "further context. Write a response that appropriately completes the request.",
     .system_before = "",
     .system_after = "\n\n",
     .user_before = "### Instruction:\n",
     .user_after = "",
     .user_next_before = "\n\n### Instruction:\n",
     .input_before = "\n\n### Input:\n",
     .answer_prompt = "\n\n### Response:",
     .answer_before = "",
     .answer_after = "",
     .end = "<eos>",
     .end_after = ""},
    {.name = "llama2",
     .bos = BOS_FIRST,
     .bos_each_turn = true,
     .system_place = SYSTEM_FIRST_USER,
     .system_before = "<<SYS>>\n",
     .system_after = "\n<</SYS>>\n\n",
     .user_before = "[INST] ",
     .user_after = " [/INST]",
     .input_before = "\n",
     .answer_prompt = "",
     .answer_before = " ",
     .answer_after = " ",
     .end = "<eos>",
     .end_after = "",
     .trim = TRIM_USER | TRIM_ANSWER},
    {.name = "llama3", .system_before = LLAMA3_HEADER("system"), LLAMA3},
    {.name = "llama31",
     .system_always = true,
     .system_before = LLAMA3_HEADER("system") "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n",
     .stops = {"<|eom_id|>"},
     LLAMA3},
    {.name = "chatml", CHATML},
    {.name = "smollm",
     .system_default = "You are a helpful AI assistant named SmolLM, trained by Hugging Face",
     CHATML},
    {.name = "qwen", .system_default = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.", CHATML},
    {.name = "qwen2", .system_default = "You are a helpful assistant.", CHATML},
    {.name = "zephyr",
     .system_before = "<|system|>\n",
     .system_after = "<eos>\n",
     .user_before = "<|user|>\n",
     .user_after = "<eos>\n",
     .input_before = "\n",
     .answer_prompt = "<|assistant|>\n",
     .answer_before = "",
     .answer_after = "",
     .end = "<eos>",
     .end_after = "\n"},
    {.name = "mistral_v1",
     .bos = BOS_FIRST,
     .system_place = SYSTEM_FIRST_USER,
     .system_before = "",
     .system_after = "\n\n",
     .user_before = " [INST] ",
     .user_after = " [/INST]",
     .input_before = "\n",
     .answer_prompt = "",
     .answer_before = " ",
     .answer_after = "",
     .end = "<eos>",
     .end_after = ""},
    {.name = "mistral_old",
     .bos = BOS_FIRST,
     .system_place = SYSTEM_FIRST_USER,
     .system_before = "",
     .system_after = "\n\n",
     .user_before = "[INST] ",
     .user_after = " [/INST]",
     .input_before = "\n",
     .answer_prompt = "",
     .answer_before = "",
     .answer_after = "",
     .end = "<eos>",
     .end_after = ""},
    // The published Jinja gives the system text to a last user message that waits for its answer and drops it once the
    // answer is there; Mistral's own tokeniser gives it to the last user message in both cases, and so do we.
    {.name = "mistral_v3",
     .tokens = {"[INST]", "[/INST]"},
     .bos = BOS_FIRST,
     .system_place = SYSTEM_LAST_USER,
     .system_before = "",
     .system_after = "\n\n",
     .user_before = "[INST] ",
     .user_after = "[/INST]",
     .input_before = "\n",
     .answer_prompt = "",
     .answer_before = " ",
     .answer_after = "",
     .end = "<eos>",
     .end_after = "",
     .trim = TRIM_ANSWER},
    {.name = "vicuna",
     .bos = BOS_IF_ADDED,
     .system_default = "A chat between a curious user and an artificial intelligence assistant. The assistant gives "
                       "helpful, detailed, and polite answers to the user's questions.",
     .system_before = "",
     .system_after = " ",
     .user_before = "USER: ",
     .user_after = "",
     .input_before = "\n",
     .answer_prompt = " ASSISTANT:",
     .answer_before = " ",
     .answer_after = "",
     .end = "<eos>",
     .end_after = ""},
};

const int chat_template_count = (int)(sizeof chat_templates / sizeof *chat_templates);

const ChatTemplate *template_by_name(const char *name) {
    for (int i = 0; i < chat_template_count; i++)
        if (!strcmp(chat_templates[i].name, name)) return &chat_templates[i];
    return NULL;
}

const char *template_name(const ChatTemplate *chat) {
    return chat->name;
}

const char *template_names(void) {
    return "alpaca, llama2, llama3, llama31, chatml, smollm, qwen, qwen2, zephyr, mistral_v1, mistral_old, "
           "mistral_v3, vicuna";
}

const char *template_system(const ChatTemplate *chat, const char *system) {
    if (system) return *system ? system : NULL;
    return chat->system_default;
}
