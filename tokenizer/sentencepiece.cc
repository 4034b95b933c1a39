// sentencepiece.cc - see sentencepiece.h; the only C++ of the tokenizer, since the library has no C interface.
#include "tokenizer/sentencepiece.h"
#include <exception>
#include <new>
#include <sentencepiece_processor.h>
#include <string>
#include <vector>

struct SentencePiece {
    sentencepiece::SentencePieceProcessor processor;
};

SentencePiece *sentencepiece_open(const void *model, size_t size, Error *error) {
    SentencePiece *pieces = nullptr;
    try {
        pieces = new SentencePiece;
        auto status =
            pieces->processor.LoadFromSerializedProto(absl::string_view(static_cast<const char *>(model), size));
        if (status.ok()) return pieces;
        error_set(error, "libsentencepiece refuses the model: %s", status.error_message());
    } catch (const std::exception &problem) {
        error_set(error, "libsentencepiece failed to read the model: %s", problem.what());
    }
    delete pieces;
    return nullptr;
}

void sentencepiece_close(SentencePiece *pieces) {
    delete pieces;
}

bool sentencepiece_encode(const SentencePiece *pieces, const char *text, size_t size, TokenList *ids, Error *error) {
    try {
        std::vector<int> found;
        auto status = pieces->processor.Encode(absl::string_view(text, size), &found);
        if (!status.ok()) return error_set(error, "libsentencepiece failed to encode: %s", status.error_message());
        for (int id : found) {
            if (!token_list_append(ids, id, error)) return false;
        }
        return true;
    } catch (const std::exception &problem) {
        return error_set(error, "libsentencepiece failed to encode: %s", problem.what());
    }
}
