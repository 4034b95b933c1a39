// jinja_statements.h - a Jinja text as a list of statements in one fixed spelling, for comparing. Inside tokenizer/
// only.
#pragma once
#include "base/buffer.h"
#include "base/error.h"

// Appends the statements of a template to `lines`, one a line, each ended by a newline:
//
//   out 'text'+message['content']    what is put out: expressions and the text between tags; neighbours are one line
//   if messages[0]['role']=='system' any other tag: its words
//
// Strings are in single quotes with \n, \\ and \' escaped, neighbouring strings added up; x.role and x.content are
// x['role'], x['content']; x.strip() is x|trim; comments and white space outside strings are gone. White space between
// tags is treated as transformers does (trim_blocks, lstrip_blocks, no trailing newline). *understood is false when the
// text is not well formed; lines is then of no use. false only when memory runs out.
bool jinja_statements(const char *jinja, Buffer *lines, bool *understood, Error *error);
