#include "machine/listener.h"

#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The inode of the socket that listens on the port; 0 none. Columns as in proc(5): local address, state 0A is LISTEN. */
static unsigned long socket_inode(const char *table, uint16_t port) {
    char line[512];
    unsigned long found = 0;
    FILE *f = fopen(table, "re");
    while (f && !found && fgets(line, sizeof line, f)) {
        unsigned p, state;
        unsigned long inode;
        if (sscanf(line, " %*u: %*[0-9A-Fa-f]:%x %*[0-9A-Fa-f]:%*x %x %*s %*s %*s %*u %*d %lu", &p, &state, &inode) ==
                3 &&
            p == port && state == 0x0A) {
            found = inode;
        }
    }
    if (f) {
        fclose(f);
    }
    return found;
}

static bool holds(const char *pid, unsigned long inode) {
    char dir[64], path[384], link[64], wanted[64];
    bool found = false;
    snprintf(wanted, sizeof wanted, "socket:[%lu]", inode);
    snprintf(dir, sizeof dir, "/proc/%.20s/fd", pid);
    DIR *d = opendir(dir);
    struct dirent *e;
    while (d && !found && (e = readdir(d))) {
        snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        ssize_t n = readlink(path, link, sizeof link - 1);
        link[n > 0 ? n : 0] = '\0';
        found = strcmp(link, wanted) == 0;
    }
    if (d) {
        closedir(d);
    }
    return found;
}

int listener_pid(uint16_t port) {
    unsigned long inode = socket_inode("/proc/net/tcp", port);
    inode = inode ? inode : socket_inode("/proc/net/tcp6", port);
    int pid = -1;
    DIR *d = inode ? opendir("/proc") : NULL;
    struct dirent *e;
    while (d && pid < 0 && (e = readdir(d))) {
        if (e->d_name[0] >= '1' && e->d_name[0] <= '9' && holds(e->d_name, inode)) {
            pid = atoi(e->d_name);
        }
    }
    if (d) {
        closedir(d);
    }
    return pid;
}

uint16_t listener_port(const char *url) {
    static const char *const here[] = {"http://127.0.0.1:", "http://localhost:", "http://[::1]:"};
    for (size_t i = 0; i < sizeof here / sizeof here[0]; i++) {
        size_t n = strlen(here[i]);
        if (strncmp(url, here[i], n) == 0) {
            long port = strtol(url + n, NULL, 10);
            return port > 0 && port < 65536 ? (uint16_t)port : 0;
        }
    }
    return 0;
}
