// Calls of the operating system and facts of the processor that Foundation does not offer.
#ifndef CSYSTEM_H
#define CSYSTEM_H

#include <stdint.h>

/// Processors that the launcher or MPI bound this process to, ascending. Returns their number, fills at most
/// `capacity`.
int csystem_processors(int *processors, int capacity);

/// Remembers the calling thread's affinity as the processors of this process. It runs at the start of the process, and
/// must be called again after MPI has started, because MPI may bind the process.
void csystem_remember_processors(void);

/// Lets the calling thread use all processors of the process. A new thread inherits the affinity of its creator, which
/// may be narrower.
void csystem_use_processors(void);

/// A thread's id and its affinity mask.
typedef struct {
  int32_t thread;
  /// The first of the processors that share its third-level cache and its NUMA node; -1 if its own processors do not
  /// share them, or if this is unknown.
  int32_t home;
  /// The PID namespace that `thread` belongs to: containers may have their own.
  uint64_t space;
  uint64_t processors[16];
} csystem_seat;

/// The calling thread's seat.
csystem_seat csystem_own_seat(void);

/// Binds a thread, of this or of another process of the same user, to the processors of a seat. Returns 0 or errno;
/// ENXIO if the thread may use only some of them.
int csystem_move(int32_t thread, const csystem_seat *seat);

/// Spin-loop hint: gives the core's execution units to its other hardware thread for a moment.
static inline void csystem_pause(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

/// A Swift closure (Int, Int) -> Void as it is in memory: its code and its captures.
typedef struct { const void *code, *captures; } csystem_closure;

/// Calls a lent closure; see `csystem_lend` in system.c.
static inline void csystem_call(csystem_closure closure, intptr_t first, intptr_t second) {
  typedef __attribute__((swiftcall)) void code(intptr_t, intptr_t, __attribute__((swift_context)) const void *);
  ((code *)closure.code)(first, second, closure.captures);
}

/// Makes standard output line-buffered, also into a file.
void csystem_flush_lines(void);

/// Flushes standard output. Returns 0, errno, or -1 if an earlier write failed.
int csystem_flush_output(void);

/// Peak resident memory of this process, in bytes.
int64_t csystem_peak_resident(void);

/// Name of the OpenBLAS kernels that are faster on this processor than those OpenBLAS chooses; NULL to keep its choice.
const char *csystem_blas_core(void);

/// The processor's model name; "unknown" if the system does not tell.
const char *csystem_processor_name(void);

/// Number of online processors.
int csystem_online(void);

/// The instruction-set baseline that the Swift code was compiled for.
const char *csystem_baseline(void);

/// Whether this processor has AVX-512 but the code was compiled without it.
int csystem_leaves_avx512(void);

/// The kernels' SIMD vector: one register of AVX-512 or AVX2, two of NEON.
#if defined(__AVX512F__)
typedef float csystem_lanes __attribute__((ext_vector_type(16)));
#else
typedef float csystem_lanes __attribute__((ext_vector_type(8)));
#endif

/// Prefetches a cache line that will soon be read, or written.
static inline void csystem_prefetch(const void *address) { __builtin_prefetch(address, 0, 2); }
static inline void csystem_prefetch_to_write(const void *address) { __builtin_prefetch(address, 1, 2); }

#endif
