/*
 * A made-up byte-level BPE vocabulary of any size: the control tokens at their published ids, the 256 bytes, common
 * English words, then digits and syllables until the rows are used up. Every entry beyond the bytes is one merge of two
 * earlier entries, so the tokenizer section is consistent, and ordinary text takes about one token per word.
 */
#include "base/mem.h"
#include "base/status.h"
#include "base/utf8.h"
#include "gguf/index.h"
#include "tools/synth_parts.h"

#include <ctype.h>
#include <string.h>

#define TOKEN_BYTES_MAX 24
#define SPACE           "\xC4\xA0" /* U+0120 stands for the byte 0x20 */
#define NEWLINE         "\xC4\x8A" /* U+010A for 0x0A */

enum { TYPE_NORMAL = 1, TYPE_CONTROL = 3, TYPE_UNUSED = 5 };

static const char *const control_tokens[] = {
    "<|pad|>",
    "<|startoftext|>",
    "<|endoftext|>",
    "<|fim_pre|>",
    "<|fim_mid|>",
    "<|fim_suf|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|tool_list_start|>",
    "<|tool_list_end|>",
    "<|tool_call_start|>",
    "<|tool_call_end|>",
    "<|tool_response_start|>",
    "<|tool_response_end|>",
};

static const char words[] =
    "the of and to in is that it for was on are as with be at by this have from or one had not but what all were when "
    "we there can an your which their said if do will each about how up out them then she many some so these would "
    "other into has more her two like him see time could no make than first been its who now people my made over did "
    "down only way find use may water long little very after words called just where most know get through back much "
    "go good new write our me man too any day same right look think also around another came come work three word must "
    "because does part even place well such here take why help put different away again off went old number great tell "
    "men say small every found still between name should home big give air line set own under read last never us left "
    "end along while might next sound below saw something thought both few those always show large often together "
    "asked "
    "house world going want school important until form food keep children feet land side without boy once animal life "
    "enough took four head above kind began almost live page got earth need far hand high year mother light country "
    "father let night picture being study second soon story since white ever paper hard near sentence better best "
    "across during today however sure knew try told young sun thing whole hear example heard several change answer "
    "room "
    "sea against top turn learn point city play toward five himself usually money seen car morning body upon family "
    "later move face door cut done group true half red fish plant short remember language question system user "
    "assistant model token computer memory function program value data file list text code test result please explain "
    "describe capital history science music river mountain summer winter reason simple problem order power measure "
    "machine engine speed fast slow early late open close start stop begin follow include continue consider appear "
    "wait serve send expect build stay fall reach remain suggest raise pass sell require report decide pull return "
    "hope develop carry break receive agree support remove happen provide allow add spend grow offer create public "
    "human local social national possible free special clear recent certain able least idea information government "
    "company market week month hour minute party service area business case war community member law policy process "
    "research girl guy moment teacher education person art level office health history effect action industry paper "
    "note table tree stone bird horse garden letter window street bridge island forest ocean";

const char synth_chat_template[] =
    "{{- bos_token -}}"
    "{%- set rest = messages -%}{%- set head = '' -%}"
    "{%- if messages and messages[0].role == 'system' -%}"
    "{%- set head = messages[0].content -%}{%- set rest = messages[1:] -%}"
    "{%- endif -%}"
    "{%- if tools -%}"
    "{%- set head = head ~ ('\\n' if head else '') ~ 'List of tools: <|tool_list_start|>[' -%}"
    "{%- set calls = namespace(text='') -%}"
    "{%- for t in tools -%}"
    "{%- set calls.text = calls.text ~ (', ' if not loop.first else '') ~ (t | tojson) -%}"
    "{%- endfor -%}"
    "{%- set head = head ~ calls.text ~ ']<|tool_list_end|>' -%}"
    "{%- endif -%}"
    "{%- if head -%}{{- '<|im_start|>system\\n' ~ head ~ '<|im_end|>\\n' -}}{%- endif -%}"
    "{%- for m in rest -%}"
    "{{- '<|im_start|>' ~ m.role ~ '\\n' -}}"
    "{%- if m.role == 'tool' -%}{{- '<|tool_response_start|>' ~ m.content ~ '<|tool_response_end|>' -}}"
    "{%- elif m.content -%}{{- m.content -}}{%- endif -%}"
    "{{- '<|im_end|>\\n' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}";

struct vocab_impl {
    struct name_index index;
    char *text; /* what the strings point to */
    size_t used, cap;
    size_t limit; /* tokens before the unused rows */
};

/* Keeps a copy; the room was reckoned beforehand. */
static struct gguf_str keep(struct vocab_impl *im, const char *s, size_t n) {
    char *p = im->text + im->used;
    memcpy(p, s, n);
    im->used += n;
    return (struct gguf_str){p, n};
}

static bool known(const struct synth_vocab *v, const char *s, size_t n) {
    const struct vocab_impl *im = v->impl;
    return name_index_find(&im->index, v->tokens, sizeof *v->tokens, s, n) != INDEX_NONE;
}

static void add(struct synth_vocab *v, const char *s, size_t n, int32_t type) {
    struct vocab_impl *im = v->impl;
    v->tokens[v->n] = keep(im, s, n);
    v->types[v->n] = type;
    name_index_add(&im->index, v->tokens, sizeof *v->tokens, v->n);
    v->n++;
}

/* Makes s[0..n) an entry by merging s[0..k) with the rest, both of them entries. False when the rows are used up. */
static bool add_merge(struct synth_vocab *v, const char *s, size_t k, size_t n) {
    struct vocab_impl *im = v->impl;
    if (v->n >= im->limit) {
        return false;
    }
    if (n > TOKEN_BYTES_MAX || known(v, s, n) || !known(v, s, k) || !known(v, s + k, n - k)) {
        return true;
    }
    char pair[TOKEN_BYTES_MAX + 1];
    memcpy(pair, s, k);
    pair[k] = ' ';
    memcpy(pair + k + 1, s + k, n - k);
    v->merges[v->n_merges++] = keep(im, pair, n + 1);
    add(v, s, n, TYPE_NORMAL);
    return true;
}

/* Makes every beginning of s an entry, letter by letter. */
static bool add_chain(struct synth_vocab *v, const char *s) {
    size_t n = strlen(s);
    for (size_t k = 0; k < n;) {
        size_t step = (uint8_t)s[k] >= 0xC0 ? 2 : 1; /* mapped bytes are below U+0800 */
        if (k > 0 && !add_merge(v, s, k, k + step)) {
            return false;
        }
        k += step;
    }
    return true;
}

static void add_bytes(struct synth_vocab *v) {
    uint32_t shifted = 256;
    for (uint32_t byte = 0; byte < 256; byte++) {
        bool printable = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte != 0xAD);
        char utf8[4];
        size_t n = utf8_encode(printable ? byte : shifted++, utf8);
        add(v, utf8, n, TYPE_NORMAL);
    }
}

struct affixes {
    const char *before, *after;
    bool capital;
};

/* All words with these affixes. */
static bool add_words(struct synth_vocab *v, struct affixes a) {
    for (const char *w = words; *w;) {
        size_t n = strcspn(w, " ");
        char s[TOKEN_BYTES_MAX * 2];
        snprintf(s, sizeof s, "%s%.*s%s", a.before, (int)n, w, a.after);
        if (a.capital) {
            char *first = s + strlen(a.before);
            *first = (char)toupper((unsigned char)*first);
        }
        if (!add_chain(v, s)) {
            return false;
        }
        w += n + (w[n] == ' ');
    }
    return true;
}

/* All strings of `length` letters from `alphabet`. */
static bool add_syllables(struct synth_vocab *v, const char *before, const char *alphabet, int length) {
    size_t base = strlen(alphabet), total = 1;
    for (int i = 0; i < length; i++) {
        total *= base;
    }
    for (size_t k = 0; k < total; k++) {
        char s[16];
        size_t at = strlen(before), rest = k;
        memcpy(s, before, at);
        for (int i = length - 1; i >= 0; i--, rest /= base) {
            s[at + (size_t)i] = alphabet[rest % base];
        }
        s[at + (size_t)length] = '\0';
        if (!add_chain(v, s)) {
            return false;
        }
    }
    return true;
}

static void fill(struct synth_vocab *v) {
    static const char letters[] = "etaoinshrdlcumwfgypbvkjxqz";
    static const char *const spaces[] = {SPACE SPACE SPACE SPACE SPACE SPACE SPACE SPACE, NEWLINE NEWLINE};
    static const struct affixes forms[] = {
        {SPACE, "", false},   {"", "", false},       {SPACE, "", true},    {"", "", true},       {SPACE, "s", false},
        {SPACE, "ed", false}, {SPACE, "ing", false}, {SPACE, "ly", false}, {SPACE, "er", false}, {"", "s", false},
    };
    bool room = add_chain(v, spaces[0]) && add_chain(v, spaces[1]);
    for (size_t i = 0; i < sizeof forms / sizeof forms[0] && room; i++) {
        room = add_words(v, forms[i]);
    }
    room = room && add_syllables(v, "", "0123456789", 3);
    for (int length = 2; length <= 4 && room; length++) {
        room = add_syllables(v, "", letters, length) && add_syllables(v, SPACE, letters, length);
    }
}

static void generate(struct synth_vocab *v, size_t n_vocab) {
    struct vocab_impl *im = v->impl;
    bool large = n_vocab >= 4096; /* the published vocabulary reserves 14..500 and leaves about 1100 rows unused */
    size_t n_special = large ? 501 : 30;
    im->limit = n_vocab - (large ? 1136 : 8);
    for (size_t i = 0; i < sizeof control_tokens / sizeof control_tokens[0]; i++) {
        add(v, control_tokens[i], strlen(control_tokens[i]), TYPE_CONTROL);
    }
    char name[TOKEN_BYTES_MAX];
    while (v->n < n_special) {
        int n = snprintf(name, sizeof name, "<|reserved_%zu|>", v->n - 10);
        add(v, name, (size_t)n, TYPE_CONTROL);
    }
    add_bytes(v);
    fill(v);
    while (v->n < n_vocab) {
        int n = snprintf(name, sizeof name, "[PAD%zu]", v->n);
        add(v, name, (size_t)n, TYPE_UNUSED);
    }
}

sluice_status synth_vocab_new(size_t n_vocab, struct synth_vocab *out, sluice_error *err) {
    *out = (struct synth_vocab){0};
    if (n_vocab < 512 || n_vocab > 65536 * 4) {
        return fail(err, SLUICE_E_ARG, "a made-up vocabulary has 512 to 262144 entries, not %zu", n_vocab);
    }
    struct vocab_impl *im = mem_calloc(1, sizeof *im);
    out->impl = im;
    out->tokens = mem_calloc(n_vocab, sizeof *out->tokens);
    out->types = mem_calloc(n_vocab, sizeof *out->types);
    out->merges = mem_calloc(n_vocab, sizeof *out->merges);
    if (im) {
        im->cap = n_vocab * (2 * TOKEN_BYTES_MAX + 1);
        im->text = mem_alloc(im->cap);
    }
    if (!im || !im->text || !out->tokens || !out->types || !out->merges || !name_index_init(&im->index, n_vocab)) {
        synth_vocab_free(out);
        return fail(err, SLUICE_E_NOMEM, "no memory for a vocabulary of %zu entries", n_vocab);
    }
    generate(out, n_vocab);
    return SLUICE_OK;
}

void synth_vocab_free(struct synth_vocab *v) {
    struct vocab_impl *im = v->impl;
    if (im) {
        name_index_free(&im->index);
        mem_free(im->text);
    }
    mem_free(im);
    mem_free(v->tokens);
    mem_free(v->types);
    mem_free(v->merges);
    *v = (struct synth_vocab){0};
}
