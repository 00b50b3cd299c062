/*
 * The sampling settings of the model cards (lfm2.md 4.6). A file does not carry them, so they are found by name and
 * architecture:
 *   LFM2-1.2B-Tool, -Extract, -RAG    greedy
 *   LFM2.5 mixture of experts         temperature 0.2, top_k 80, repetition_penalty 1.05
 *   LFM2.5 dense                      temperature 0.1, top_k 50, top_p 0.1, repetition_penalty 1.05
 *   LFM2-24B-A2B                      temperature 0.1, top_k 50, repetition_penalty 1.05
 *   LFM2 otherwise                    temperature 0.3, min_p 0.15, repetition_penalty 1.05
 */
#include "engine/model_impl.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

/* True if `word` stands alone in the name, between characters that are neither letters nor digits: "Fragment" has no
 * "RAG". */
static bool has_word(const char *name, const char *word) {
    size_t n = strlen(word);
    for (const char *p = name; *p; p++) {
        bool starts = p == name || !isalnum((unsigned char)p[-1]);
        if (starts && strncasecmp(p, word, n) == 0 && !isalnum((unsigned char)p[n])) {
            return true;
        }
    }
    return false;
}

sluice_sampling sampling_recommended(const char *name, const char *architecture, bool is_25) {
    sluice_sampling s = {.temperature = 0.3f, .top_p = 1, .min_p = 0.15f, .repetition_penalty = 1.05f};
    if (has_word(name, "Tool") || has_word(name, "Extract") || has_word(name, "RAG")) {
        return (sluice_sampling){.temperature = 0, .top_p = 1, .repetition_penalty = 1};
    }
    bool moe = strcmp(architecture, "lfm2moe") == 0;
    if ((is_25 || strcasestr(name, "LFM2.5")) && moe) {
        s = (sluice_sampling){.temperature = 0.2f, .top_k = 80, .top_p = 1, .repetition_penalty = 1.05f};
    } else if (is_25 || strcasestr(name, "LFM2.5")) {
        s = (sluice_sampling){.temperature = 0.1f, .top_k = 50, .top_p = 0.1f, .repetition_penalty = 1.05f};
    } else if (has_word(name, "24B")) {
        s = (sluice_sampling){.temperature = 0.1f, .top_k = 50, .top_p = 1, .repetition_penalty = 1.05f};
    }
    return s;
}
