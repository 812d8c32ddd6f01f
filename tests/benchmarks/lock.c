/* Seconds of the processor that threads spend without Python's lock, for decoding.py.

   gcc -O2 -shared -fPIC tests/benchmarks/lock.c -o lock.so
   LD_PRELOAD=./lock.so python -m tests.benchmarks.decoding PHOTOS

   Put before a Python that is linked to libpython: PIL, numpy, torch and Python itself call these two
   functions where they let other threads run Python. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>

static __thread double began;
static double total;

static double used(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return now.tv_sec + 1e-9 * now.tv_nsec;
}

void *PyEval_SaveThread(void) {
    void *state = ((void *(*)(void))dlsym(RTLD_NEXT, "PyEval_SaveThread"))();
    began = used();
    return state;
}

void PyEval_RestoreThread(void *state) {
    double seconds = used() - began;
    ((void (*)(void *))dlsym(RTLD_NEXT, "PyEval_RestoreThread"))(state);
    total += seconds; /* with the lock */
}

double seconds_without_lock(void) { return total; }
