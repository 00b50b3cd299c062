#include "bench/prose.h"

#include <stdio.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* In patterns: N a person or body, T a thing (singular, takes a or the), L a place, V a deed done to a thing, W a time,
 * Q a quality of a thing, R a reason, Y a year, # a number. Everything else stands for itself. */
static const char *const patterns[] = {
    "W, N V the T L.",
    "N V a Q T L, R.",
    "In Y the T L was Q; # years later N V it again.",
    "The T that N V L cost # crowns, R.",
    "Nobody knows why N V the T, but the record of Y names # witnesses L.",
    "W the Q T was moved L, R.",
    "Of the # letters that mention the T, only one says that N V it L.",
    "N and N met L; the first wanted a Q T, the second had already V one.",
    "A T of that size weighs # kilograms, so N V it L in # pieces.",
    "The older account says the T was Q and stood L until Y.",
    "If the T had been Q, N would not have V it W.",
    "R, N V neither the T nor the T L.",
    "There were # of them in Y, and by then N had V the last Q T.",
    "N wrote that the T L looked Q W.",
    "Visitors ask for the T, which N V W, and find a Q T instead.",
    "W and without a word, N V the Q T that had been L since Y.",
    "The council asked N for a T; what came # weeks later was Q.",
    "Between Y and Y the price of a T rose to # crowns, R.",
    "It took # people to lift the T, and N V it L before it was Q.",
    "Some say the T L is Q because N V it W.",
};

static const char *const persons[] = {
    "the harbour master",     "a clerk named Orla Venn",    "the ferry company",
    "the widow Tamsin Bray",  "the school's caretaker",     "an engineer from the north",
    "the rope makers",        "the parish council",         "the youngest pilot",
    "Edmund Carrow",          "the museum's keeper",        "two brothers from the mill",
    "the lighthouse keeper",  "a painter on her way south", "the fishing guild",
    "the railway's surveyor", "the baker of Quay Street",   "Doctor Hale",
    "a merchant's daughter",  "the town's only printer",    "the new librarian",
    "a crew of salvagers",    "the county office",          "the old ferryman",
};

static const char *const things[] = {
    "brass bell",     "pump engine", "tide gauge",   "stone stair",  "signal lamp",   "account book", "water wheel",
    "iron gate",      "sail loft",   "weather vane", "plank bridge", "copper boiler", "survey map",   "fog horn",
    "grain scale",    "oak door",    "rope shed",    "garden wall",  "clock face",    "steam winch",  "mooring post",
    "glass negative", "seed chest",  "slate roof",   "milk cart",    "letter press",  "anchor chain", "reading room",
};

static const char *const places[] = {
    "beside the customs house", "under the chapel roof",    "at the foot of the cliff",  "behind the rope works",
    "near the northern mole",   "in the cellar of the inn", "above the salt marsh",      "on the island road",
    "across from the cannery",  "inside the old battery",   "along the upper canal",     "by the second lock",
    "in the yard of the mill",  "between the two quays",    "at the end of Weaver Lane", "on the western point",
};

static const char *const deeds[] = {
    "repaired", "measured", "painted", "sold",    "replaced", "sketched", "inherited", "lost",
    "bought",   "cleaned",  "rebuilt", "weighed", "carried",  "stored",   "described", "returned",
};

static const char *const times[] = {
    "Early one morning",        "After the long winter",   "On the second Sunday in May", "During the great storm",
    "Before the bridge opened", "Late in the autumn",      "A week after the fair",       "While the tide was out",
    "At the turn of the year",  "When the fog had lifted", "Some months later",           "In the middle of the night",
};

static const char *const qualities[] = {
    "heavy", "narrow", "crooked", "polished",  "half-finished", "borrowed", "rusty",     "unusually tall",
    "quiet", "costly", "plain",   "weathered", "bright green",  "damaged",  "well made", "small",
};

static const char *const reasons[] = {
    "since nobody else had the tools for it",   "because the insurance would not pay",
    "although the weather had not changed",     "as the minutes of the meeting show",
    "which surprised even those who had asked", "for the contract left no other way",
    "while the rest of the town was at work",   "just as the letter had promised",
    "because salt water ruins unpainted iron",  "though the drawing shows something else",
};

struct writer {
    struct buf *out;
    uint64_t state;
};

/* splitmix64 */
static uint32_t draw(struct writer *w, size_t below) {
    uint64_t z = w->state += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return (uint32_t)((uint64_t)((z ^ z >> 31) >> 32) * below >> 32);
}

static void put_phrase(struct writer *w, char what) {
    switch (what) {
    case 'N':
        buf_puts(w->out, persons[draw(w, COUNT(persons))]);
        break;
    case 'T':
        buf_puts(w->out, things[draw(w, COUNT(things))]);
        break;
    case 'L':
        buf_puts(w->out, places[draw(w, COUNT(places))]);
        break;
    case 'V':
        buf_puts(w->out, deeds[draw(w, COUNT(deeds))]);
        break;
    case 'W':
        buf_puts(w->out, times[draw(w, COUNT(times))]);
        break;
    case 'Q':
        buf_puts(w->out, qualities[draw(w, COUNT(qualities))]);
        break;
    case 'R':
        buf_puts(w->out, reasons[draw(w, COUNT(reasons))]);
        break;
    case 'Y':
        buf_printf(w->out, "%u", 1690 + draw(w, 270));
        break;
    default: /* '#' */
        buf_printf(w->out, "%u", 3 + draw(w, 900));
        break;
    }
}

static bool is_mark(const char *p, const char *start) {
    bool letter = *p == 'N' || *p == 'T' || *p == 'L' || *p == 'V' || *p == 'W' || *p == 'Q' || *p == 'R' || *p == 'Y';
    bool ends = p[1] == ' ' || p[1] == ',' || p[1] == '.' || p[1] == ';' || p[1] == '\0';
    return *p == '#' || (letter && ends && (p == start || p[-1] == ' '));
}

static void put_sentence(struct writer *w) {
    const char *pattern = patterns[draw(w, COUNT(patterns))];
    size_t first = w->out->len;
    for (const char *p = pattern; *p; p++) {
        size_t at = w->out->len;
        if (!is_mark(p, pattern)) {
            buf_putc(w->out, *p);
            continue;
        }
        put_phrase(w, *p);
        char *c = w->out->failed ? NULL : w->out->data + at;
        if (c && at > first && *p == 'W') { /* a time in mid-sentence */
            *c = (char)(*c | 0x20);
        }
    }
    if (!w->out->failed && w->out->data[first] >= 'a' && w->out->data[first] <= 'z') {
        w->out->data[first] = (char)(w->out->data[first] & ~0x20);
    }
}

void prose_append(struct buf *b, size_t n_bytes, uint64_t seed) {
    struct writer w = {b, seed};
    size_t start = b->len;
    uint32_t left = 0; /* sentences of the paragraph */
    while (!b->failed && b->len - start < n_bytes) {
        if (b->len > start) {
            buf_puts(b, left ? " " : "\n\n");
        }
        left = left ? left - 1 : 4 + draw(&w, 5);
        put_sentence(&w);
    }
}
