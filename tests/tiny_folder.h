// tiny_folder.h - a model directory and a data set on disk, small enough for the whole program to train in a blink.
#pragma once

// Makes folder/model: 4 layers, hidden 32, tied, random weights, 4096 positions, and the small byte-level vocabulary of
// tests/golden/templates/bpe (400 of the 1000 ids; no chat template). Returns its path (caller's memory).
char *tiny_model_folder(const char *folder);

// Writes folder/data.jsonl: alpaca records, record i asks to count to i and answers "<i * i> is what you get". Returns
// its path (caller's memory).
char *tiny_data_file(const char *folder, int records);
