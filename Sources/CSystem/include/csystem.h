// What the operating system and the processor say that Foundation does not.
#ifndef CSYSTEM_H
#define CSYSTEM_H

#include <stdint.h>

/// Processors that the launcher, or MPI, bound this process to, ascending. Returns how many; fills at most `capacity`.
int csystem_processors(int *processors, int capacity);

/// Takes what the calling thread may use now for those; after MPI's start, which may bind the process. Until then they
/// are what the process began with.
void csystem_remember_processors(void);

/// Lets the calling thread use all of them, whichever its maker used last.
void csystem_use_processors(void);

/// A thread's number in the system and the processors that it may use, a bit for each.
typedef struct {
  int32_t thread;
  /// The first processor of those that share their third-level cache and their memory; -1 where they do not share them,
  /// or it is unknown.
  int32_t home;
  /// Where the thread has its number: a container may count for itself.
  uint64_t space;
  uint64_t processors[16];
} csystem_seat;

/// The calling thread's.
csystem_seat csystem_own_seat(void);

/// Moves a thread, of this process or of another of the same user, to the processors of a seat. Returns 0, or errno:
/// ENXIO where the thread may use only some of them.
int csystem_move(int32_t thread, const csystem_seat *seat);

/// For loops that look at memory until another thread changes it: leaves the core's units to others for a moment.
static inline void csystem_pause(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

/// A Swift closure (Int, Int) -> Void as it is in memory: its code, and what it captured.
typedef struct { const void *code, *captures; } csystem_closure;

/// Calls a closure that is lent; see `csystem_lend` in system.c.
static inline void csystem_call(csystem_closure closure, intptr_t first, intptr_t second) {
  typedef __attribute__((swiftcall)) void code(intptr_t, intptr_t, __attribute__((swift_context)) const void *);
  ((code *)closure.code)(first, second, closure.captures);
}

/// Makes standard output hand over every line at once, also into a file.
void csystem_flush_lines(void);

/// Hands over what was printed. Returns 0, errno, or -1 where something was lost earlier.
int csystem_flush_output(void);

/// Peak resident memory of this process, in bytes.
int64_t csystem_peak_resident(void);

/// OpenBLAS's kernels that are faster on this processor than its own choice, or NULL where its choice stands.
const char *csystem_blas_core(void);

/// The processor's model as the system names it.
const char *csystem_processor_name(void);

/// Processors that are online.
int csystem_online(void);

/// The instruction-set baseline that the Swift code was compiled for.
const char *csystem_baseline(void);

/// Whether this processor has AVX-512 and the Swift code was compiled without.
int csystem_leaves_avx512(void);

/// Floats that kernels take at once: a register of AVX-512 or of AVX2, two of NEON.
#if defined(__AVX512F__)
typedef float csystem_lanes __attribute__((ext_vector_type(16)));
#else
typedef float csystem_lanes __attribute__((ext_vector_type(8)));
#endif

/// Asks for a cache line that will be read, or written, soon.
static inline void csystem_prefetch(const void *address) { __builtin_prefetch(address, 0, 2); }
static inline void csystem_prefetch_to_write(const void *address) { __builtin_prefetch(address, 1, 2); }

#endif
