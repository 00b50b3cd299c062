/* Table-driven option parsing: long and short forms, "--name=value", "--" ends options, unknown ones get the nearest name. */
#include "cli/cli.h"

#include "base/status.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool is_end(const struct cli_option *o) {
    return !o->letter && !o->name;
}

static void print_help(const struct cli_command *c) {
    printf("usage: %s\n\n%s\n", c->usage, c->about);
    printf("\noptions:\n");
    for (const struct cli_option *o = c->options; !is_end(o); o++) {
        char left[64];
        char flags[40];
        if (o->letter && o->name) {
            snprintf(flags, sizeof flags, "-%c, --%s", o->letter, o->name);
        } else if (o->letter) {
            snprintf(flags, sizeof flags, "-%c", o->letter);
        } else {
            snprintf(flags, sizeof flags, "    --%s", o->name);
        }
        snprintf(left, sizeof left, "%s%s%s", flags, o->arg ? " " : "", o->arg ? o->arg : "");
        if (strlen(left) > 26) {
            printf("  %s\n  %-26s  %s\n", left, "", o->help);
        } else {
            printf("  %-26s  %s\n", left, o->help);
        }
    }
    printf("  -h, --help                  this text\n");
    if (c->example) {
        printf("\nexamples:\n");
        for (const char *line = c->example; *line;) {
            size_t n = strcspn(line, "\n");
            printf("  %.*s\n", (int)n, line);
            line += n + (line[n] == '\n');
        }
    }
}

int cli_usage_error(const struct cli_command *c, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    fprintf(stderr, "sluice %s: ", c->name);
    vfprintf(stderr, fmt, args);
    fprintf(stderr, "\nusage: %s\n`sluice %s --help` explains the options.\n", c->usage, c->name);
    va_end(args);
    return 2;
}

int cli_fail(const sluice_error *err) {
    fprintf(stderr, "sluice: %s\n", err->text);
    return err->status == SLUICE_E_ARG ? 2 : 1;
}

static bool parse_u64(const char *text, uint64_t max, uint64_t *out) {
    if (!isdigit((unsigned char)text[0])) {
        return false;
    }
    char *end;
    errno = 0;
    unsigned long long v = strtoull(text, &end, 10);
    if (errno || *end || v > max) {
        return false;
    }
    *out = v;
    return true;
}

static bool parse_size(const char *text, uint64_t *out) {
    char *end;
    errno = 0;
    double v = strtod(text, &end);
    if (errno || end == text || !(v >= 0) || !isfinite(v)) {
        return false;
    }
    int shift = 0;
    switch (toupper((unsigned char)*end)) {
    case 'K':
        shift = 10;
        break;
    case 'M':
        shift = 20;
        break;
    case 'G':
        shift = 30;
        break;
    case 'T':
        shift = 40;
        break;
    default:
        break;
    }
    if (shift) {
        end++;
        if (strcasecmp(end, "iB") == 0 || strcasecmp(end, "B") == 0) {
            end += strlen(end);
        }
    }
    v *= (double)(1ull << shift);
    if (*end || v > 9e18) {
        return false;
    }
    *out = (uint64_t)v;
    return true;
}

static int set_value(const struct cli_command *c, const struct cli_option *o, const char *shown, const char *text) {
    uint64_t n;
    bool ok = true;
    const char *want = "";
    switch (o->kind) {
    case CLI_FLAG:
        *(bool *)o->value = true;
        break;
    case CLI_STRING:
        *(const char **)o->value = text;
        break;
    case CLI_U32:
        ok = parse_u64(text, UINT32_MAX, &n);
        want = "a whole number from 0 to 4294967295";
        if (ok) {
            *(uint32_t *)o->value = (uint32_t)n;
        }
        break;
    case CLI_U64:
        ok = parse_u64(text, UINT64_MAX, &n);
        want = "a whole number";
        if (ok) {
            *(uint64_t *)o->value = n;
        }
        break;
    case CLI_FLOAT: {
        char *end;
        float v = strtof(text, &end);
        ok = end != text && !*end && isfinite(v);
        want = "a finite number";
        if (ok) {
            *(float *)o->value = v;
        }
        break;
    }
    case CLI_SIZE:
        ok = parse_size(text, &n);
        want = "a size in bytes such as 512M or 2G";
        if (ok) {
            *(uint64_t *)o->value = n;
        }
        break;
    }
    if (!ok) {
        return cli_usage_error(c, "%s takes %s, not \"%s\"", shown, want, text);
    }
    if (o->given) {
        *o->given = true;
    }
    return CLI_RUN;
}

static const struct cli_option *find_long(const struct cli_command *c, const char *name, size_t n) {
    for (const struct cli_option *o = c->options; !is_end(o); o++) {
        if (o->name && strlen(o->name) == n && memcmp(o->name, name, n) == 0) {
            return o;
        }
    }
    return NULL;
}

static const struct cli_option *find_short(const struct cli_command *c, char letter) {
    for (const struct cli_option *o = c->options; !is_end(o); o++) {
        if (o->letter == letter) {
            return o;
        }
    }
    return NULL;
}

/* Handles argv[*i]; advances *i past a separate value. */
static int parse_option(const struct cli_command *c, int argc, char **argv, int *i) {
    const char *a = argv[*i];
    const struct cli_option *o;
    const char *inline_value = NULL;
    char shown[64];
    if (a[1] == '-') {
        size_t n = strcspn(a + 2, "=");
        o = find_long(c, a + 2, n);
        inline_value = a[2 + n] == '=' ? a + 3 + n : NULL;
        snprintf(shown, sizeof shown, "--%.*s", (int)(n > 50 ? 50 : n), a + 2);
    } else {
        o = find_short(c, a[1]);
        inline_value = a[2] ? (a[2] == '=' ? a + 3 : a + 2) : NULL;
        snprintf(shown, sizeof shown, "-%c", a[1]);
    }
    if (!o) {
        return cli_usage_error(c, "there is no option %s", shown);
    }
    if (o->kind == CLI_FLAG) {
        if (inline_value) {
            return cli_usage_error(c, "%s takes no value", shown);
        }
        return set_value(c, o, shown, "");
    }
    if (!inline_value) {
        if (*i + 1 >= argc) {
            return cli_usage_error(c, "%s needs a value (%s)", shown, o->arg ? o->arg : "VALUE");
        }
        inline_value = argv[++*i];
    }
    return set_value(c, o, shown, inline_value);
}

int cli_parse(const struct cli_command *c, int argc, char **argv, struct cli_args *out) {
    bool options_end = false;
    out->n_positional = 0;
    for (int i = 1; i < argc; i++) {
        const char *a = argv[i];
        if (!options_end && strcmp(a, "--") == 0) {
            options_end = true;
        } else if (!options_end && (strcmp(a, "--help") == 0 || strcmp(a, "-h") == 0)) {
            print_help(c);
            return 0;
        } else if (!options_end && a[0] == '-' && a[1]) {
            int code = parse_option(c, argc, argv, &i);
            if (code != CLI_RUN) {
                return code;
            }
        } else {
            int max = c->positional_max < 64 ? c->positional_max : 64;
            if (out->n_positional >= max) {
                return cli_usage_error(c, "unexpected argument \"%s\"", a);
            }
            out->positional[out->n_positional++] = a;
        }
    }
    return CLI_RUN;
}

void cli_format_bytes(uint64_t bytes, char *out, size_t cap) {
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double v = (double)bytes;
    int u = 0;
    while (v >= 1024 && u < 4) {
        v /= 1024;
        u++;
    }
    snprintf(out, cap, u ? "%.2f %s" : "%.0f %s", v, units[u]);
}
