// template_recognise.c - which template a model's Jinja text is.
//
// The text is brought to a fixed spelling (tokenizer/jinja_statements.h) and compared statement by statement: each must
// be known to the rule, and those that a rule requires must occur. What only concerns tools is left out.
#include "tokenizer/jinja_statements.h"
#include "tokenizer/template_table.h"
#include <stdlib.h>
#include <string.h>

// Lists of statements: each on a line of its own, ended by a newline.
typedef struct Rule {
    const char *name;     // of the template
    const char *required; // each must occur
    const char *allowed;  // may occur
    // A default system text is what stands between these two in a statement, where default_if occurs too; NULL: none.
    const char *default_before, *default_after, *default_if;
} Rule;

// Statements that put nothing out, of any rule.
static const char common[] = "else\nendif\nendfor\nif add_generation_prompt\nif loop.last and add_generation_prompt\n"
                             "for message in messages\nfor message in loop_messages\n"
                             "if message['role']=='user'\nelif message['role']=='assistant'\n"
                             "if messages[0]['role']=='system'\nif(message['role']=='user')!=(loop.index0%2==0)\n"
                             "if not add_generation_prompt is defined\nset add_generation_prompt=false\n"
                             "set loop_messages=messages\nset loop_messages=messages[1:]\n"
                             "set system_message=messages[0]['content']\n";

#define CHATML_MESSAGE "out '<|im_start|>'+message['role']+'\\n'+message['content']+'<|im_end|>\\n'\n"
#define CHATML_PROMPT  "out '<|im_start|>assistant\\n'\n"
#define CHATML_DEFAULT .default_before = "out '<|im_start|>system\\n", .default_after = "<|im_end|>\\n'"
#define NOT_FIRST_SYSTEM                                                                                               \
    "if(message['role']=='user')or(message['role']=='system'and not loop.first)or(message['role']=='assistant'and "    \
    "not message.tool_calls)\n"
#define LLAMA31_DATES                                                                                                  \
    "<|start_header_id|>system<|end_header_id|>\\n\\nCutting Knowledge Date: December 2023\\nToday Date: "
#define LLAMA3_PROMPT "out '<|start_header_id|>assistant<|end_header_id|>\\n\\n'\n"
#define LLAMA3_MESSAGE                                                                                                 \
    "'<|start_header_id|>'+message['role']+'<|end_header_id|>\\n\\n'+message['content']|trim+'<|eot_id|>'\n"

static const Rule rules[] = {
    {.name = "chatml",
     .required = CHATML_MESSAGE CHATML_PROMPT,
     .allowed = "if loop.first and messages[0]['role']!='system'\n",
     CHATML_DEFAULT,
     .default_if = "if loop.first and messages[0]['role']!='system'\n"},
    // Qwen2.5, with tools: the system message stands before the loop
    {.name = "chatml",
     .required = CHATML_MESSAGE CHATML_PROMPT NOT_FIRST_SYSTEM
     "if messages[0]['role']=='system'\nout '<|im_start|>system\\n'+messages[0]['content']+'<|im_end|>\\n'\n",
     .allowed = "out '<|im_start|>'+message['role']\nif message['content']\nout '\\n'+message['content']\n"
                "out '<|im_end|>\\n'\n",
     CHATML_DEFAULT,
     .default_if = "if messages[0]['role']=='system'\n"},
    {.name = "llama2",
     .required = "out bos_token+'[INST] '+content|trim+' [/INST]'\nout ' '+content|trim+' '+eos_token\n"
                 "set content='<<SYS>>\\n'+system_message+'\\n<</SYS>>\\n\\n'+message['content']\n"
                 "if loop.index0==0 and system_message!=false\nset content=message['content']\n",
     .allowed = "set system_message=false\nelif message['role']=='system'\n"
                "out '<<SYS>>\\n'+content|trim+'\\n<</SYS>>\\n\\n'\n"},
    {.name = "llama3",
     .required =
         "set content=" LLAMA3_MESSAGE "if loop.index0==0\nset content=bos_token+content\nout content\n" LLAMA3_PROMPT,
     .allowed = ""},
    // 3.1 names the date; 3.2 and later take today's, which training fixes
    {.name = "llama31",
     .required = "out bos_token\nset system_message=messages[0]['content']|trim\nset system_message=''\n"
                 "set date_string='26 Jul 2024'\nout '" LLAMA31_DATES "'+date_string+'\\n\\n'+system_message+"
                 "'<|eot_id|>'\nout " LLAMA3_MESSAGE LLAMA3_PROMPT,
     .allowed = "if not date_string is defined\nif strftime_now is defined\nset messages=messages[1:]\n"
                "set date_string=strftime_now('%d %b %Y')\nif not(message['role']=='ipython'or message['role']=='tool'"
                "or'tool_calls'in message)\n"},
    {.name = "zephyr",
     .required = "out '<|user|>\\n'+message['content']+eos_token+'\\n'\n"
                 "out '<|system|>\\n'+message['content']+eos_token+'\\n'\n"
                 "out '<|assistant|>\\n'+message['content']+eos_token+'\\n'\nout '<|assistant|>\\n'\n",
     .allowed = "elif message['role']=='system'\n"},
    {.name = "mistral_v1",
     .required = "out bos_token\nout ' [INST] '+message['content']+' [/INST]'\nout ' '+message['content']+eos_token\n"
                 "out ' [INST] '+system_message+'\\n\\n'+message['content']+' [/INST]'\n"
                 "if loop.first and system_message is defined\n",
     .allowed = ""},
    {.name = "mistral_old",
     .required = "out bos_token\nout '[INST] '+message['content']+' [/INST]'\nout message['content']+eos_token\n",
     .allowed = ""},
    {.name = "mistral_v3",
     .required = "out bos_token\nout '[INST] '+message['content']+'[/INST]'\n"
                 "out ' '+message['content']|trim+eos_token\n"
                 "out '[INST] '+system_message+'\\n\\n'+message['content']+'[/INST]'\n"
                 "if loop.last and system_message is defined\n",
     .allowed = "set user_messages=loop_messages|selectattr('role','equalto','user')|list\nset ns=namespace()\n"
                "set ns.index=0\nset ns.index=ns.index+1\nif(message['role']=='user')!=(ns.index%2==0)\n"
                "if not(message['role']=='tool'or message['role']=='tool_results'or(message.tool_calls is defined and "
                "message.tool_calls is not none))\n"},
};

// One line of a list.
typedef struct Line {
    const char *text;
    size_t size; // without the newline
} Line;

static bool next_line(const char **list, Line *line) {
    const char *end = strchr(*list, '\n');
    if (!end) return false;
    *line = (Line){*list, (size_t)(end - *list)};
    *list = end + 1;
    return true;
}

static bool listed(const char *list, Line line) {
    Line other;
    while (next_line(&list, &other))
        if (other.size == line.size && !memcmp(other.text, line.text, line.size)) return true;
    return false;
}

static bool contains(Line line, const char *text) {
    return memmem(line.text, line.size, text, strlen(text)) != NULL;
}

static bool begins(Line line, const char *text) {
    return line.size >= strlen(text) && !memcmp(line.text, text, strlen(text));
}

// Whether every branch and loop is closed.
static bool balanced(const char *lines) {
    Line line;
    int depth = 0;
    while (depth >= 0 && next_line(&lines, &line)) {
        if (begins(line, "if") || begins(line, "for ")) depth++;
        if (begins(line, "endif") || begins(line, "endfor")) depth--;
    }
    return depth == 0;
}

// Appends a statement; what is put out right after something else is one statement with it.
static bool keep(Line line, Buffer *kept, bool *output, Error *error) {
    bool joins = *output && begins(line, "out ");
    *output = begins(line, "out ");
    if (!joins) return buffer_append(kept, line.text, line.size + 1, error);
    Line more = {line.text + 4, line.size - 4};
    kept->size--;                                                   // the newline
    if (kept->data[kept->size - 1] == '\'' && *more.text == '\'') { // 'a'+'b' is 'ab'
        kept->size--;
        return buffer_append(kept, more.text + 1, more.size, error);
    }
    return buffer_byte(kept, '+', error) && buffer_append(kept, more.text, more.size + 1, error);
}

// Appends to `kept` the statements that matter to a conversation without tools: not those in branches about tools or in
// one that is switched off.
static bool leave_out_tools(const char *lines, Buffer *kept, Error *error) {
    Line line;
    bool output = false; // the last statement kept puts something out
    int depth = 0;       // of the branches inside one that is left out, it included; 0: none is
    while (next_line(&lines, &line)) {
        bool branch = begins(line, "if") || begins(line, "for ");
        bool other = begins(line, "elif") || begins(line, "else");
        bool end = begins(line, "endif") || begins(line, "endfor");
        bool main_branch = contains(line, "not(") || contains(line, "and not message.tool_calls");
        bool left_out = (contains(line, "tool") && !main_branch) || begins(line, "elif false==true");
        if (depth > 0) {
            if (branch) depth++;
            if (end) depth--;
            if (depth == 1 && other && !left_out) depth = 0;
            if (depth > 0 || end) continue;
        } else if (left_out && (branch || other)) {
            depth = 1;
            continue;
        }
        if (left_out || begins(line, "out raise_exception(")) continue;
        if (!keep(line, kept, &output, error)) return false;
    }
    return true;
}

// Whether the statement puts out a default system text, one literal, as the rule has it; *found is the text as spelt.
static bool brings_default(const Rule *rule, Line line, Line *found) {
    if (!rule->default_before || !begins(line, rule->default_before)) return false;
    size_t before = strlen(rule->default_before), after = strlen(rule->default_after);
    if (line.size < before + after || memcmp(line.text + line.size - after, rule->default_after, after) != 0)
        return false;
    *found = (Line){line.text + before, line.size - before - after};
    for (size_t i = 0; i < found->size; i++) // no quote but escaped ones
        if (found->text[i] == '\'' || (found->text[i] == '\\' && ++i == found->size)) return false;
    return true;
}

// Whether the statements are the rule's; *found is the default system text as it is spelt there, if any.
static bool obeys(const Rule *rule, const char *lines, Line *found) {
    Line line, required;
    *found = (Line){0};
    for (const char *rest = lines; next_line(&rest, &line);) {
        if (listed(common, line) || listed(rule->required, line) || listed(rule->allowed, line)) continue;
        if (found->text || !brings_default(rule, line, found)) return false; // one default at most
    }
    for (const char *rest = rule->required; next_line(&rest, &required);)
        if (!listed(lines, required)) return false;
    if (!found->text) return true;
    const char *condition = rule->default_if;
    return next_line(&condition, &required) && listed(lines, required);
}

// A string of a statement without its escapes; NULL when memory runs out.
static char *unescape(Line text, Error *error) {
    char *plain = malloc(text.size + 1);
    size_t size = 0;
    if (!plain) {
        error_memory(error, "a system text", text.size + 1);
        return NULL;
    }
    for (size_t i = 0; i < text.size; i++) {
        bool escaped = text.text[i] == '\\' && i + 1 < text.size;
        if (escaped) i++;
        plain[size++] = (char)(escaped && text.text[i] == 'n' ? '\n' : text.text[i]);
    }
    plain[size] = 0;
    return plain;
}

// Gives back the row of the same strings whose own default is `system`; else chat itself, with *system left.
static const ChatTemplate *with_default(const ChatTemplate *chat, char **system) {
    for (int i = 0; i < chat_template_count; i++) {
        const ChatTemplate *other = &chat_templates[i];
        bool same = other->system_default && !strcmp(other->system_before, chat->system_before) &&
                    !strcmp(other->end, chat->end) && !strcmp(other->system_default, *system);
        if (!same) continue;
        free(*system);
        *system = NULL;
        return other;
    }
    return chat;
}

// A text that we wrote: it names the template and is what we would write again.
static bool recognise_own(const char *jinja, const ChatTemplate **chat, char **system, Error *error) {
    char name[32];
    const char *rest = jinja + strlen(JINJA_HEAD), *end = strstr(rest, " -#}\n");
    if (!end || (size_t)(end - rest) >= sizeof name) return true;
    memcpy(name, rest, (size_t)(end - rest));
    name[end - rest] = 0;
    const ChatTemplate *named = template_by_name(name);
    const char *text = strstr(end, JINJA_DEFAULT);
    if (!named || !text) return true;
    text += strlen(JINJA_DEFAULT);
    Line literal = {text, 0};
    if (*text == '\'') {
        literal.text = ++text;
        while (text[literal.size] && text[literal.size] != '\'')
            literal.size += text[literal.size] == '\\' && text[literal.size + 1] ? 2 : 1;
    }
    char *given = unescape(literal, error);
    if (!given) return false;
    Buffer again = BUFFER_EMPTY;
    bool ok = true;
    for (int i = 0; i < 4 && ok && !*chat; i++) { // with and without BOS, the template's own default and the given
        buffer_clear(&again);
        ok = template_write_jinja(named, i & 1, i & 2 ? given : NULL, &again, error);
        if (!ok || strcmp(buffer_string(&again), jinja) != 0) continue;
        *chat = named;
        if (i & 2) {
            *system = given;
            given = NULL;
        }
    }
    free(given);
    buffer_free(&again);
    return ok;
}

bool template_recognise(const char *jinja, const ChatTemplate **chat, char **system, Error *error) {
    Buffer all = BUFFER_EMPTY, lines = BUFFER_EMPTY;
    bool understood = false, ok = true;
    *chat = NULL;
    *system = NULL;
    if (!strncmp(jinja, JINJA_HEAD, strlen(JINJA_HEAD))) return recognise_own(jinja, chat, system, error);
    if (!(ok = jinja_statements(jinja, &all, &understood, error)) || !understood) goto done;
    if (!balanced(buffer_string(&all))) goto done;
    if (!(ok = leave_out_tools(buffer_string(&all), &lines, error))) goto done;
    for (size_t i = 0; i < sizeof rules / sizeof *rules && !*chat && ok; i++) {
        Line found;
        if (!obeys(&rules[i], buffer_string(&lines), &found)) continue;
        *chat = template_by_name(rules[i].name);
        if (!found.text) continue;
        *system = unescape(found, error);
        ok = *system != NULL;
        if (ok) *chat = with_default(*chat, system);
    }
done:
    buffer_free(&all);
    buffer_free(&lines);
    return ok;
}
