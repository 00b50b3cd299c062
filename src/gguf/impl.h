/* What the files of this folder share. */
#ifndef GGUF_IMPL_H
#define GGUF_IMPL_H

#include "gguf/index.h"

#define GGUF_MAGIC         "GGUF"
#define GGUF_ALIGNMENT     32u /* where general.alignment is absent */
#define GGUF_ALIGNMENT_KEY "general.alignment"

struct gguf_impl {
    struct name_index kv_index;
    struct name_index tensor_index;
    char label[128]; /* the file's name in messages, shortened at the front */
    bool mapped;     /* file->map is ours to unmap */
};

/* Bytes of one value; 0 for strings, arrays and numbers that are no type. */
size_t gguf_value_bytes(uint32_t type);
/* "u32", "string", ...; never NULL. */
const char *gguf_type_name(uint32_t type);
/* Copies the last bytes of path, "..." in front if it is longer. */
void gguf_short_path(const char *path, char *out, size_t cap);

#endif
