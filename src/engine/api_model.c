/* sluice_model: opening a file, what is told about it, and where the shipped model is. */
#include "engine/model_impl.h"

#include "base/limits.h"
#include "base/mem.h"
#include "base/status.h"
#include "quant/mix.h"
#include "text/chat.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SHIPPED_MODEL "sluice-mini-Q4_K_M.gguf"

/* ---- Where the shipped model is ---------------------------------------------------------------------------- */

static sluice_status put_path(char *out, size_t cap, const char *path, sluice_error *err) {
    if (strlen(path) >= cap) {
        return fail(err, SLUICE_E_LIMIT, "the path of the default model has %zu bytes; the limit is %zu", strlen(path),
                    cap);
    }
    strcpy(out, path);
    return SLUICE_OK;
}

sluice_status sluice_default_model_path(char *out, size_t cap, sluice_error *err) {
    static const char *const places[] = {"../models/", "../../models/", "../share/sluice/", "../share/sluice/models/"};
    const char *named = getenv("SLUICE_MODEL");
    if (named && *named) {
        if (access(named, R_OK) != 0) {
            return fail(err, SLUICE_E_IO, "$SLUICE_MODEL names %s, which cannot be read; correct it or give -m MODEL",
                        named);
        }
        return put_path(out, cap, named, err);
    }
    char exe[4096];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    char *slash = NULL;
    if (n > 0) {
        exe[n] = '\0';
        slash = strrchr(exe, '/');
    }
    for (size_t i = 0; slash && i < sizeof places / sizeof places[0]; i++) {
        char path[sizeof exe + 64];
        snprintf(path, sizeof path, "%.*s%s%s", (int)(slash + 1 - exe), exe, places[i], SHIPPED_MODEL);
        if (access(path, R_OK) == 0) {
            return put_path(out, cap, path, err);
        }
    }
    return fail(err, SLUICE_E_IO,
                "the model that ships with sluice (%s) is not beside the program; name one with -m FILE.gguf or "
                "SLUICE_MODEL",
                SHIPPED_MODEL);
}

/* ---- Facts ------------------------------------------------------------------------------------------------- */

/* The type that most weights have. */
static const char *commonest_type(const struct gguf_file *file) {
    uint64_t elems[64] = {0};
    uint32_t best = DTYPE_F32;
    for (size_t i = 0; i < file->n_tensors; i++) {
        uint32_t type = (uint32_t)file->tensors[i].type;
        if (type < 64) {
            elems[type] += file->tensors[i].n_elems;
            best = elems[type] > elems[best] ? type : best;
        }
    }
    return dtype_get(best)->name;
}

static char *base_name(const char *path) {
    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;
    size_t n = strlen(name);
    if (n > 5 && strcmp(name + n - 5, ".gguf") == 0) {
        n -= 5;
    }
    return mem_strndup(name, n);
}

static sluice_status fill_names(sluice_model *m, const struct gguf_file *file, sluice_error *err) {
    struct gguf_str name = {0};
    TRY(gguf_opt_str(file, "general.name", &name, err));
    m->name = name.n > 0 && name.n < 256 ? mem_strndup(name.s, name.n) : base_name(file->path);
    m->path = mem_strdup(file->path);
    if (!m->name || !m->path) {
        return fail(err, SLUICE_E_NOMEM, "out of memory for the model's tables");
    }
    m->info.name = m->name;
    m->info.path = m->path;
    uint32_t type = UINT32_MAX;
    TRY(gguf_opt_u32(file, "general.file_type", &type, err));
    const struct mix *mix = mix_by_file_type(type);
    m->info.quantization = mix ? mix->name : commonest_type(file);
    return SLUICE_OK;
}

/* A token id of the metadata; out-of-range ids (a defect of some files) count as none. */
static sluice_status special_id(const sluice_model *m, const char *key, int32_t *out, sluice_error *err) {
    uint32_t id = UINT32_MAX;
    TRY(gguf_opt_u32(m->model->file, key, &id, err));
    *out = id < m->info.n_vocab ? (int32_t)id : -1;
    return SLUICE_OK;
}

static sluice_status fill_info(sluice_model *m, sluice_error *err) {
    const struct model *w = m->model;
    TRY(fill_names(m, w->file, err));
    sluice_model_info *i = &m->info;
    i->architecture = w->architecture;
    i->chat_family = "none";
    i->n_params = w->n_params;
    i->file_bytes = w->file->file_bytes;
    i->tensor_bytes = w->file->tensor_bytes;
    i->decode_bytes = w->decode_bytes;
    i->kv_bytes_per_token = model_kv_bytes_per_token(w);
    i->n_vocab = w->n_vocab;
    i->n_layer = w->n_layer;
    i->n_embd = w->n_embd;
    i->n_expert = w->n_expert;
    i->n_expert_used = w->n_expert_used;
    i->n_ctx_train = w->n_ctx_train;
    TRY(special_id(m, "tokenizer.ggml.bos_token_id", &i->bos, err));
    return special_id(m, "tokenizer.ggml.eos_token_id", &i->eos, err);
}

/* ---- Load and free ----------------------------------------------------------------------------------------- */

sluice_status model_tokens_plain(sluice_model *m, sluice_error *err) {
    m->tokens = mem_calloc(m->info.n_vocab, sizeof *m->tokens);
    if (!m->tokens) {
        return fail(err, SLUICE_E_NOMEM, "out of memory for a vocabulary of %u tokens", m->info.n_vocab);
    }
    if (m->info.eos >= 0) {
        m->tokens[m->info.eos].flags = TOKEN_FLAG_END | TOKEN_FLAG_CONTROL;
    }
    return SLUICE_OK;
}

static sluice_status load_weights(const char *path, struct model **out, sluice_error *err) {
    char found[4096];
    if (!path) {
        TRY(sluice_default_model_path(found, sizeof found, err));
        path = found;
    }
    return model_load(path, out, err);
}

static sluice_status load_all(const char *path, sluice_model *m, sluice_error *err) {
    TRY(load_weights(path, &m->model, err));
    TRY(fill_info(m, err));
    TRY(model_hash_open(m, err));
    TRY(model_tokens_plain(m, err));
    TRY(model_text_load(m, err));
    bool is_25 = m->chat_family == CHAT_LFM25 || m->chat_family == CHAT_LFM25_THINKING;
    m->info.recommended = sampling_recommended(m->info.name, m->info.architecture, is_25);
    return SLUICE_OK;
}

sluice_status sluice_model_load(const char *path, sluice_model **out, sluice_error *err) {
    sluice_model *m = mem_calloc(1, sizeof *m);
    if (!m) {
        return fail(err, SLUICE_E_NOMEM, "out of memory for a model");
    }
    sluice_status status = load_all(path, m, err);
    if (status != SLUICE_OK) {
        sluice_model_free(m);
        return status;
    }
    *out = m;
    return SLUICE_OK;
}

void sluice_model_free(sluice_model *m) {
    if (!m) {
        return;
    }
    model_hash_close(m);
    model_text_free(m);
    mem_free(m->tokens);
    mem_free(m->name);
    mem_free(m->path);
    model_free(m->model);
    mem_free(m);
}

const sluice_model_info *sluice_model_get_info(const sluice_model *m) {
    return &m->info;
}
