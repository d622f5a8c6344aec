#define _GNU_SOURCE
#include "callocations.h"

#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>

#ifdef __GLIBC__
#include <execinfo.h>
#include <unistd.h>

enum { places = 16, depth = 24 };

static _Thread_local bool watched = false, inside = false;
static atomic_bool counting = false;
static atomic_int count = 0;
static void *stacks[places][depth];
static int depths[places];

static void note(void) {
  if (!watched || inside || !atomic_load_explicit(&counting, memory_order_relaxed)) return;
  int place = atomic_fetch_add(&count, 1);
  if (place >= places) return;
  inside = true;  // an unwinder may allocate
  depths[place] = backtrace(stacks[place], depth);
  inside = false;
}

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t items, size_t size);
void *__libc_realloc(void *old, size_t size);
void *__libc_memalign(size_t alignment, size_t size);

void *malloc(size_t size) {
  note();
  return __libc_malloc(size);
}

void *calloc(size_t items, size_t size) {
  note();
  return __libc_calloc(items, size);
}

void *realloc(void *old, size_t size) {
  note();
  return __libc_realloc(old, size);
}

void *memalign(size_t alignment, size_t size) {
  note();
  return __libc_memalign(alignment, size);
}

void *aligned_alloc(size_t alignment, size_t size) {
  note();
  return __libc_memalign(alignment, size);
}

int posix_memalign(void **memory, size_t alignment, size_t size) {
  note();
  if (alignment % sizeof(void *) != 0 || (alignment & (alignment - 1)) != 0 || alignment == 0) return EINVAL;
  void *found = __libc_memalign(alignment, size);
  if (found == NULL) return ENOMEM;
  *memory = found;
  return 0;
}

bool callocations_work(void) { return true; }
void callocations_watch(bool on) { watched = on; }

void callocations_begin(void) {
  atomic_store(&count, 0);
  atomic_store(&counting, true);
}

int callocations_end(void) {
  atomic_store(&counting, false);
  return atomic_load(&count);
}

void callocations_print(void) {
  int found = atomic_load(&count);
  for (int place = 0; place < found && place < places; place++) {
    backtrace_symbols_fd(stacks[place], depths[place], STDERR_FILENO);
    if (write(STDERR_FILENO, "\n", 1) != 1) return;
  }
}

#else

bool callocations_work(void) { return false; }
void callocations_watch(bool on) { (void)on; }
void callocations_begin(void) {}
int callocations_end(void) { return 0; }
void callocations_print(void) {}

#endif

void *callocations_one(void) {
  void *(*volatile allocate)(size_t) = malloc;
  return allocate(1);
}
