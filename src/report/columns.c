#include "report/columns.h"

const struct column columns[COL_COUNT] = {
#define COLUMN_ENTRY(id, name, type, on, place, key) {name, type, on, place, key},
    COLUMNS(COLUMN_ENTRY)
#undef COLUMN_ENTRY
};
