/* Memory bandwidth on paper, from the records that the firmware keeps of its memory modules. */
#include "tools/probe.h"

#include <stdio.h>

enum { RECORD_MAX = 256, MODULES_MAX = 256 };

/* Offsets in an SMBIOS memory device record (type 17); words are little endian. */
enum { AT_TYPE = 0, AT_LENGTH = 1, AT_DATA_WIDTH = 0x0A, AT_SIZE = 0x0C, AT_SPEED = 0x15, AT_CONFIGURED_SPEED = 0x20 };

static unsigned word(const uint8_t *record, size_t length, size_t at) {
    return at + 2 <= length ? record[at] | (unsigned)record[at + 1] << 8 : 0;
}

void probe_theory_read(const char *folder, struct probe_theory *out) {
    *out = (struct probe_theory){0};
    for (int i = 0; i < MODULES_MAX; i++) {
        char path[512];
        uint8_t record[RECORD_MAX];
        int n = snprintf(path, sizeof path, "%s/17-%d/raw", folder, i);
        FILE *f = n > 0 && (size_t)n < sizeof path ? fopen(path, "re") : NULL;
        if (!f) {
            break;
        }
        size_t got = fread(record, 1, sizeof record, f);
        fclose(f);
        if (got < 2 || record[AT_TYPE] != 17) {
            continue;
        }
        size_t length = record[AT_LENGTH] < got ? record[AT_LENGTH] : got;
        unsigned size = word(record, length, AT_SIZE);
        unsigned bits = word(record, length, AT_DATA_WIDTH);
        unsigned mt_s = word(record, length, AT_CONFIGURED_SPEED);
        mt_s = mt_s ? mt_s : word(record, length, AT_SPEED);
        /* an empty slot has size 0; 0xFFFF is "unknown"; no module is wider than 128 bits */
        if (size == 0 || bits == 0 || bits > 128 || mt_s == 0 || mt_s == 0xFFFF) {
            continue;
        }
        out->gb_s += bits / 8.0 * mt_s * 1e-3;
        out->mt_s = out->n_modules == 0 || mt_s < out->mt_s ? mt_s : out->mt_s;
        out->n_modules++;
    }
}
