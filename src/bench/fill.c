/* What other parts of the program know about a row. */
#include "bench/bench.h"

#include "record/line.h"

void bench_row_energy(struct buf *l, const struct bench *b, const struct row *row) {
    static const char *const unknown[] = {"source",
                                          "window_s",
                                          "idle_w",
                                          "j_per_prompt_token",
                                          "j_per_output_token",
                                          "j_per_request",
                                          "net_j_per_output_token"};
    static const char *const reasons[] = {"no counter was read while this was measured"};
    (void)b, (void)row;
    line_open(l, "energy", '{');
    line_put_bool(l, "valid", false);
    line_put_texts(l, "reasons", reasons, 1);
    for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++) {
        line_put_null(l, unknown[i]);
    }
    line_close(l, '}');
}

void bench_row_quality(struct buf *l, const struct bench *b, const struct row *row) {
    (void)b, (void)row;
    line_open(l, "quality", '{');
    line_put_bool(l, "qualified", false);
    line_put_text(l, "reason", "the answers were not compared with a reference");
    line_put_null(l, "kind");
    line_put_null(l, "reference_sha256");
    line_put_null(l, "tokens");
    line_put_null(l, "kl_mean");
    line_put_null(l, "kl_p999");
    line_put_null(l, "top1_agreement");
    line_close(l, '}');
}

void bench_watch(const struct bench *b, struct row *row) {
    (void)b;
    row_add_reason(row, ROW_NOISY, "the machine was not watched while this was measured");
}
