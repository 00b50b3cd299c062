/* `sluice inspect`: what is in a GGUF file, and what one decoded token reads of it. */
#ifndef TOOLS_INSPECT_H
#define TOOLS_INSPECT_H

#include "base/buf.h"
#include "gguf/gguf.h"

enum inspect_group { /* as perf.md section 0 sorts the weights */
                     GROUP_EXPERTS_GATE_UP,
                     GROUP_EXPERTS_DOWN,
                     GROUP_CONV_IN,
                     GROUP_CONV_OUT,
                     GROUP_HEAD,
                     GROUP_DENSE_GATE_UP,
                     GROUP_DENSE_DOWN,
                     GROUP_ATTENTION_QKO,
                     GROUP_ATTENTION_V,
                     GROUP_ROUTER,
                     GROUP_NORMS, /* norms and convolution taps */
                     GROUP_OTHER, /* names that no LFM2 model has; assumed to be read whole */
                     N_GROUPS,
};

#define INSPECT_TYPES 64 /* tensor types are below this */

struct inspect_sums {
    uint64_t n_weights;
    uint64_t tensors[INSPECT_TYPES], weights[INSPECT_TYPES], bytes[INSPECT_TYPES]; /* by enum dtype */
    uint64_t read[N_GROUPS][INSPECT_TYPES]; /* bytes per decoded token at batch 1 */
    uint64_t read_total;
    uint64_t kv_bytes; /* F16 K and V per position */
};

/* Only the experts that a token uses count, a tied embedding counts once as the head, an untied one not at all. */
void inspect_sum(const struct gguf_file *file, struct inspect_sums *out);
const char *inspect_group_name(enum inspect_group group);

#define INSPECT_SUMMARY  1u /* sizes, types, bytes per token */
#define INSPECT_METADATA 2u
#define INSPECT_TENSORS  4u

void inspect_text(const struct gguf_file *file, unsigned sections, struct buf *out);
/* One object with everything; arrays of more than 64 elements are given by type, length and first elements. */
void inspect_json(const struct gguf_file *file, struct buf *out);

#endif
