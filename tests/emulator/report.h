// report.h - counting and printing the faults that the emulator finds.
#pragma once
#include "cuda_device.h"
#include <string>

namespace emulator {

// A fault of this kind in what runs now (a kernel's thread, or a copy); at most four of a kind are printed.
// The text of the first one is "kind: where: message".
__attribute__((format(printf, 2, 3))) void report(const char *kind, const char *format, ...);

void report_ends();  // before a text is made for report: ends the process where the next fault shall
void report_again(); // counts one more that need not be told

// A line that belongs to the fault just reported; printed where that was.
__attribute__((format(printf, 1, 2))) void report_more(const char *format, ...);

std::string place_text(Place place);           // "file:line"
std::string code_place_text(const void *code); // the same of a return address, by addr2line

// Of what runs now, for messages. block.cc knows the kernel and thread, streams.cc the queued work.
std::string running_thread_text();
void report_work(const char *name); // null: none
void forget_reports();

} // namespace emulator
