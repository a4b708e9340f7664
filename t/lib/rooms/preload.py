# The machine on a bad day: libraries that nginx is started with, ruled by files while it runs.
import mmap
import os
import subprocess

# Wall clocks that are ahead by the seconds which the file says; the steady one is as it is.
CLOCK = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <sys/time.h>
#include <time.h>
static long ahead(void) {
    long seconds = 0;
    FILE *file = fopen(CONTROL, "r");
    if (file == NULL) return 0;
    if (fscanf(file, "%ld", &seconds) != 1) seconds = 0;
    fclose(file);
    return seconds;
}
int gettimeofday(struct timeval *tv, void *zone) {
    static int (*real)(struct timeval *, void *);
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, "gettimeofday");
    int result = real(tv, zone);
    tv->tv_sec += ahead();
    return result;
}
int clock_gettime(clockid_t clock, struct timespec *ts) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, ts);
    if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE) ts->tv_sec += ahead();
    return result;
}
time_t time(time_t *to) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (to) *to = now.tv_sec;
    return now.tv_sec;
}
"""

# Memory of which every so-many-th piece is not to be had, as the file's first two octets say; 0: all of it is.
MEMORY = r"""
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>
void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);
void *__libc_memalign(size_t, size_t);
static volatile uint16_t *one_in;
static uint32_t state;
__attribute__((constructor)) static void begin(void) {
    int fd = open(CONTROL, O_RDONLY | O_CLOEXEC);
    void *page = fd < 0 ? MAP_FAILED : mmap(NULL, 2, PROT_READ, MAP_SHARED, fd, 0);
    if (page != MAP_FAILED) one_in = page;
    if (fd >= 0) close(fd);
}
static int fails(void) {
    uint16_t each = one_in ? *one_in : 0;
    if (each == 0) return 0;
    if (state == 0) state = (uint32_t)getpid();
    state = state * 1664525 + 1013904223;
    if ((state >> 8) % each != 0) return 0;
    errno = ENOMEM;
    return 1;
}
void *malloc(size_t size) { return fails() ? NULL : __libc_malloc(size); }
void *calloc(size_t count, size_t size) { return fails() ? NULL : __libc_calloc(count, size); }
void *realloc(void *old, size_t size) { return fails() ? NULL : __libc_realloc(old, size); }
void *memalign(size_t align, size_t size) { return fails() ? NULL : __libc_memalign(align, size); }
void *aligned_alloc(size_t align, size_t size) { return memalign(align, size); }
int posix_memalign(void **to, size_t align, size_t size) {
    if (fails()) return ENOMEM;
    *to = __libc_memalign(align, size);
    return *to ? 0 : ENOMEM;
}
"""


class _Preload:
    """In a directory; `env` is what a process needs to have it."""

    def __init__(self, directory, name, source, control):
        self.control = os.path.join(directory, name)
        library = f"{self.control}.so"
        with open(self.control, "wb") as file:
            file.write(control)
        with open(f"{self.control}.c", "w", encoding="ascii") as file:
            file.write(source)
        subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", f'-DCONTROL="{self.control}"', "-o", library,
                        f"{self.control}.c", "-ldl"], check=True)
        self.env = {"LD_PRELOAD": library}


class Clock(_Preload):
    def __init__(self, directory):
        super().__init__(directory, "clock", CLOCK, b"0")

    def ahead(self, seconds):
        with open(f"{self.control}.new", "w", encoding="ascii") as file:
            file.write(str(seconds))
        os.rename(f"{self.control}.new", self.control)


class Memory(_Preload):
    def __init__(self, directory):
        super().__init__(directory, "memory", MEMORY, b"\0\0")

    def one_in(self, number):
        """Of so many pieces of memory one is not to be had; 0: each is."""
        with open(self.control, "r+b") as file, mmap.mmap(file.fileno(), 2) as page:
            page[:] = number.to_bytes(2, "little")
