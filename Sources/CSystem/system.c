#define _GNU_SOURCE
#include "csystem.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static cpu_set_t bound;
static int bound_is_known = 0;

__attribute__((constructor)) void csystem_remember_processors(void) {
  bound_is_known = sched_getaffinity(0, sizeof bound, &bound) == 0;
}

int csystem_processors(int *processors, int capacity) {
  if (!bound_is_known) {
    int online = (int)sysconf(_SC_NPROCESSORS_ONLN);
    for (int i = 0; i < online && i < capacity; i++) processors[i] = i;
    return online;
  }
  int count = 0;
  for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
    if (!CPU_ISSET(cpu, &bound)) continue;
    if (count < capacity) processors[count] = cpu;
    count++;
  }
  return count;
}

void csystem_use_processors(void) {
  if (bound_is_known) sched_setaffinity(0, sizeof bound, &bound);
}

// Declared for Swift in ThreadTeam.swift. A non-escaping closure lies on its creator's stack. Swift would copy it to
// the heap before another thread may call it; here it is lent instead. It is valid until `borrow` returns.
__attribute__((swiftcall)) void csystem_lend(const void *code, const void *captures, void *borrower,
                                             void (*borrow)(void *borrower, csystem_closure closure));
void csystem_lend(const void *code, const void *captures, void *borrower,
                  void (*borrow)(void *borrower, csystem_closure closure)) {
  borrow(borrower, (csystem_closure){code, captures});
}

void csystem_flush_lines(void) { setvbuf(stdout, NULL, _IOLBF, 0); }

int csystem_flush_output(void) {
  errno = 0;
  if (fflush(stdout) != 0) return errno != 0 ? errno : -1;
  return ferror(stdout) ? -1 : 0;
}

// If standard input, output or error is closed at the start, the next opened file gets its number, and log lines would
// be written into a checkpoint. So a closed stream is replaced by /dev/null, opened for reading: writing to it fails.
__attribute__((constructor)) static void hold_standard_streams(void) {
  for (int stream = 0; stream <= 2; stream++)
    if (fcntl(stream, F_GETFD) < 0 && errno == EBADF) open("/dev/null", O_RDONLY);
}

int64_t csystem_peak_resident(void) {
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return (int64_t)usage.ru_maxrss * 1024;
}

int csystem_online(void) { return (int)sysconf(_SC_NPROCESSORS_ONLN); }

const char *csystem_blas_core(void) {
#if defined(__x86_64__)
  // OpenBLAS 0.3.21 on Zen 4: its AVX-512 kernels reach 53 GFLOP/s on tall, thin products, its Haswell ones 86.
  __builtin_cpu_init();
  if (__builtin_cpu_is("amd") && __builtin_cpu_supports("avx512f")) return "Haswell";
#endif
  return NULL;
}

static int64_t number_in(const char *path, const char *key) {
  FILE *file = fopen(path, "r");
  if (file == NULL) return -1;
  char line[256];
  int64_t value = -1;
  while (fgets(line, sizeof line, file) != NULL) {
    long long found;
    if (key == NULL ? sscanf(line, "%lld", &found) == 1
                    : strncmp(line, key, strlen(key)) == 0 && sscanf(line + strlen(key), " %lld", &found) == 1) {
      value = found;
      break;
    }
  }
  fclose(file);
  return value;
}

_Static_assert(sizeof(cpu_set_t) == sizeof(uint64_t[16]), "a set of processors");

// The first of the processors that share a third-level cache and a NUMA node with `cpu`. One of the two sets contains
// the other, so the larger first number is that of the smaller set.
static int32_t home_of(int cpu) {
  char path[96];
  snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/cache/index3/shared_cpu_list", cpu);
  int64_t home = number_in(path, NULL);
  glob_t found;
  snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/node*/cpulist", cpu);
  if (home >= 0 && glob(path, 0, NULL, &found) == 0) {
    int64_t first = number_in(found.gl_pathv[0], NULL);
    if (first > home) home = first;
    globfree(&found);
  }
  return (int32_t)home;
}

csystem_seat csystem_own_seat(void) {
  csystem_seat seat = {.thread = (int32_t)syscall(SYS_gettid), .home = -1};
  struct stat space;
  cpu_set_t set;
  if (stat("/proc/self/ns/pid", &space) != 0 || sched_getaffinity(0, sizeof set, &set) != 0) return seat;
  seat.space = (uint64_t)space.st_ino;
  memcpy(seat.processors, &set, sizeof set);
  for (int cpu = 0, found = 0; cpu < CPU_SETSIZE; cpu++) {
    if (!CPU_ISSET(cpu, &set)) continue;
    int32_t home = home_of(cpu);
    seat.home = found++ == 0 || home == seat.home ? home : -1;
    if (seat.home < 0) break;
  }
  return seat;
}

int csystem_move(int32_t thread, const csystem_seat *seat) {
  cpu_set_t set;
  if (sched_setaffinity(thread, sizeof seat->processors, (const cpu_set_t *)seat->processors) != 0) return errno;
  if (sched_getaffinity(thread, sizeof set, &set) != 0) return errno;
  return memcmp(&set, seat->processors, sizeof set) == 0 ? 0 : ENXIO;
}

const char *csystem_processor_name(void) {
  static char name[128] = "";
  if (name[0] != '\0') return name;
  strcpy(name, "unknown");
  FILE *file = fopen("/proc/cpuinfo", "r");
  if (file == NULL) return name;
  char line[256];
  while (fgets(line, sizeof line, file) != NULL) {
    if (strncmp(line, "model name", 10) != 0) continue;
    char *value = strchr(line, ':');
    if (value != NULL) snprintf(name, sizeof name, "%.*s", (int)strcspn(value + 2, "\n"), value + 2);
    break;
  }
  fclose(file);
  return name;
}

const char *csystem_baseline(void) { return APUS_BASELINE; }

int csystem_leaves_avx512(void) {
#if defined(__x86_64__) && !defined(__AVX512F__)
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx512f") != 0;
#else
  return 0;
#endif
}

// With a smaller limit of address space or data, OpenBLAS and Swift's runtime exit silently or hang while they start.
enum { LEAST_MEGABYTES = 384 };

static void check_limit(int resource, const char *option) {
  struct rlimit limit;
  if (getrlimit(resource, &limit) != 0 || limit.rlim_cur >= (rlim_t)LEAST_MEGABYTES << 20) return;
  char text[256];
  int length = snprintf(text, sizeof text,
                        "error: ulimit -%s is %lld MiB, and apus needs %d to start: raise it (ulimit -%s unlimited), "
                        "or ask the batch system for more memory\n",
                        option, (long long)(limit.rlim_cur >> 20), LEAST_MEGABYTES, option);
  if (write(STDERR_FILENO, text, (size_t)length) < 0) _exit(71);
  _exit(1);
}

// Runs before the constructors of shared libraries, such as OpenBLAS.
static void check_limits(int argc, char **argv, char **environment) {
  (void)argc, (void)argv, (void)environment;
  check_limit(RLIMIT_AS, "v");
  check_limit(RLIMIT_DATA, "d");
}
__attribute__((section(".preinit_array"), used)) static void (*const before_libraries)(int, char **, char **) =
    check_limits;

#if defined(__x86_64__)
// Runs before any Swift code, and is itself compiled for plain x86-64. On a CPU without the instructions that the
// program was built for it exits with one line, where the program would die of an illegal instruction.
__attribute__((constructor, target("arch=x86-64"))) static void check_processor(void) {
  __builtin_cpu_init();
  const char *lacks = NULL;
#if defined(__AVX512VL__)
  if (!__builtin_cpu_supports("avx512vl")) lacks = "AVX-512VL";
#endif
#if defined(__AVX512F__)
  if (!__builtin_cpu_supports("avx512f")) lacks = "AVX-512";
#endif
#if defined(__BMI2__)
  if (!__builtin_cpu_supports("bmi2")) lacks = "BMI2";
#endif
#if defined(__FMA__)
  if (!__builtin_cpu_supports("fma")) lacks = "FMA";
#endif
#if defined(__AVX2__)
  if (!__builtin_cpu_supports("avx2")) lacks = "AVX2";
#endif
  if (lacks == NULL) return;
  fprintf(stderr, "apus was built for %s, but this processor has no %s: rebuild with APUS_CPU=native Scripts/build\n",
          APUS_BASELINE, lacks);
  _exit(70);
}
#endif
