/* What the model file says: the bytes and operations of a token, and where the file came from. */
#include "bench/bench.h"

#include "base/status.h"
#include "model/model.h"

#include <string.h>

static double matrix_params(const struct weight *w, double used) {
    return w->data ? (double)w->n_rows * w->n_cols * used : 0;
}

static void count_layers(const struct model *m, struct model_facts *out) {
    double active = 0, products = 0;
    uint64_t experts = 0;
    for (uint32_t i = 0; i < m->n_layer; i++) {
        const struct model_layer *l = &m->layers[i];
        const struct weight *once[] = {&l->wq, &l->wk, &l->wv, &l->wo, &l->in_proj, &l->out_proj, &l->router};
        const struct weight *ffn[] = {&l->gate, &l->up, &l->down};
        for (size_t k = 0; k < sizeof once / sizeof once[0]; k++) {
            products += matrix_params(once[k], 1);
        }
        for (size_t k = 0; k < 3; k++) {
            products += matrix_params(ffn[k], l->is_moe ? m->n_expert_used : 1);
            active += l->is_moe ? matrix_params(ffn[k], (double)m->n_expert - m->n_expert_used) : 0;
            experts += l->is_moe ? ffn[k]->mat_bytes * m->n_expert_used : 0;
        }
    }
    out->n_params_active = m->n_params - (uint64_t)active;
    out->prefill_ops = (uint64_t)(2 * products);
    out->expert_bytes = experts < m->decode_bytes ? experts : 0;
}

/* A hub cache keeps files as .../models--OWNER--NAME/snapshots/COMMIT/FILE. */
static void read_origin(const char *path, struct model_facts *out) {
    static const char marker[] = "models--";
    const char *at = strstr(path, marker);
    const char *snapshots = at ? strstr(at, "/snapshots/") : NULL;
    if (!snapshots) {
        return;
    }
    const char *owner = at + strlen(marker);
    const char *name = strstr(owner, "--");
    const char *commit = snapshots + strlen("/snapshots/");
    size_t n = strcspn(commit, "/");
    if (!name || name > snapshots || commit[n] != '/' || n >= sizeof out->commit) {
        return;
    }
    snprintf(out->repository, sizeof out->repository, "%.*s/%.*s", (int)(name - owner), owner,
             (int)(snapshots - name - 2), name + 2);
    snprintf(out->commit, sizeof out->commit, "%.*s", (int)n, commit);
}

static void copy_info(const sluice_model_info *info, struct model_facts *out) {
    const char *slash = strrchr(info->path, '/');
    snprintf(out->name, sizeof out->name, "%s", slash ? slash + 1 : info->path);
    snprintf(out->architecture, sizeof out->architecture, "%s", info->architecture);
    snprintf(out->quantization, sizeof out->quantization, "%s", info->quantization);
    out->bytes = info->file_bytes;
    out->n_params = info->n_params;
    out->decode_bytes = info->decode_bytes;
    out->kv_bytes_per_token = info->kv_bytes_per_token;
    out->context = info->n_ctx_train;
    out->n_expert = info->n_expert;
    out->n_expert_used = info->n_expert_used;
    out->synthetic = strstr(info->name, "(random weights)") != NULL; /* as `synth` names its models */
}

sluice_status model_facts_read(const char *path, int hash_ms, struct model_facts *out, sluice_error *err) {
    sluice_model *model;
    struct model *weights;
    *out = (struct model_facts){.synthetic = -1};
    TRY(sluice_model_load(path, &model, err));
    copy_info(sluice_model_get_info(model), out);
    read_origin(sluice_model_get_info(model)->path, out);
    if (sluice_model_sha256(model, hash_ms, out->sha256, NULL) != SLUICE_OK) {
        out->sha256[0] = '\0';
    }
    sluice_status status = model_load(sluice_model_get_info(model)->path, &weights, err);
    if (status == SLUICE_OK) {
        count_layers(weights, out);
        model_free(weights);
    }
    sluice_model_free(model);
    return status;
}
