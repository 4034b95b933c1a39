// report.cc - see report.h.
#include "report.h"
#include "emulator.h"
#include <link.h>
#include <map>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

namespace emulator {

enum { PRINTED_PER_KIND = 4 };

static long errors;
static std::string first_error;
static std::map<std::string, int> printed; // by kind
static bool quiet, last_was_printed, end_at_fault;
static const char *work_name;

void report_work(const char *name) {
    work_name = name;
}

static std::string format_text(const char *format, va_list arguments) {
    char text[800];
    vsnprintf(text, sizeof text, format, arguments);
    return text;
}

void report_ends() {
    if (end_at_fault) _exit(1);
}

void report(const char *kind, const char *format, ...) {
    va_list arguments;
    report_ends();
    va_start(arguments, format);
    std::string where = running_thread_text();
    if (where.empty() && work_name) where = work_name;
    std::string text = std::string(kind) + ": " + (where.empty() ? "" : where + ": ") + format_text(format, arguments);
    va_end(arguments);
    if (errors++ == 0) first_error = text;
    last_was_printed = !quiet && printed[kind]++ < PRINTED_PER_KIND;
    if (last_was_printed) fprintf(stderr, "emulator: %s\n", text.c_str());
}

void report_again() {
    errors++;
}

void report_more(const char *format, ...) {
    if (!last_was_printed) return;
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "    %s\n", format_text(format, arguments).c_str());
    va_end(arguments);
}

void forget_reports() {
    errors = 0;
    first_error.clear();
    printed.clear();
}

std::string place_text(Place place) {
    return std::string(place.file) + ":" + std::to_string(place.line);
}

// The program's own load address, 0 unless it is position-independent: the first object listed.
static int load_address(dl_phdr_info *info, size_t, void *address) {
    *static_cast<uintptr_t *>(address) = info->dlpi_addr;
    return 1;
}

// addr2line's "file.cu:12 (discriminator 1)" without the rest
static std::string first_word(const char *line) {
    std::string text = line;
    return text.substr(0, text.find_first_of(" \n"));
}

std::string code_place_text(const void *code) {
    uintptr_t base = 0;
    dl_iterate_phdr(load_address, &base);
    char command[200], line[400];
    // a return address lies behind its call, perhaps on the next line
    snprintf(command, sizeof command, "addr2line -s -i -e /proc/%d/exe %#lx 2>/dev/null", static_cast<int>(getpid()),
             static_cast<unsigned long>(reinterpret_cast<uintptr_t>(code) - base - 1));
    FILE *pipe = popen(command, "r");
    if (!pipe) return "?";
    std::string text; // an inlined function's line, then that of its caller, and so on
    while (fgets(line, sizeof line, pipe)) text += (text.empty() ? "" : " called at ") + first_word(line);
    pclose(pipe);
    return text.empty() ? "?" : text;
}

} // namespace emulator

using namespace emulator;

long emulator_errors(void) {
    return errors;
}

const char *emulator_first_error(void) {
    return first_error.c_str();
}

void emulator_quiet(bool on) {
    quiet = on;
}

void emulator_end_at_fault(void) {
    end_at_fault = true;
}
