/* The company check of engine_rig.h on real backends: a small model of each kind, all backends that run here. */
#include "unit/engine_rig.h"

static const char *const files[] = {"moe-Q4_K_M.gguf", "dense-Q8_0.gguf"};

static sluice_engine *open_engine(sluice_model *model, const char *backend, uint32_t n_slots, uint32_t chunk,
                                  uint32_t n_threads) {
    sluice_engine_options o = sluice_engine_options_default();
    o.backend = backend;
    o.n_slots = n_slots;
    o.prefill_chunk = chunk;
    o.n_threads = n_threads;
    o.ctx_per_slot = 256;
    sluice_engine *e = NULL;
    sluice_error err = {0};
    if (sluice_engine_create(model, &o, &e, &err) != SLUICE_OK) {
        fail_msg("%s: %s", backend, err.text);
    }
    return e;
}

static void test_company(void **state) {
    (void)state;
    for (size_t f = 0; f < sizeof files / sizeof files[0]; f++) {
        char path[512];
        sluice_model *model;
        sluice_error err = {0};
        snprintf(path, sizeof path, "%s/golden/peer/%s", TEST_DATA, files[f]);
        if (sluice_model_load(path, &model, &err) != SLUICE_OK) {
            fail_msg("%s", err.text);
        }
        uint32_t n_vocab = sluice_model_get_info(model)->n_vocab;
        for (const struct backend_ops *const *b = backend_list(); *b; b++) {
            if ((*b)->probe(&err) != SLUICE_OK) {
                continue;
            }
            bool slow = strcmp((*b)->name, "ref") == 0;
            sluice_engine *solo = open_engine(model, (*b)->name, 1, 0, 1);
            sluice_engine *company = open_engine(model, (*b)->name, 5, 24, 2);
            rig_check_company(solo, company, n_vocab, 40 + f, slow ? 4 : 12);
            sluice_engine_free(solo);
            sluice_engine_free(company);
        }
        sluice_model_free(model);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_company)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
