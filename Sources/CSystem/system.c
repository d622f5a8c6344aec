#define _GNU_SOURCE
#include "csystem.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

int csystem_processors(int *processors, int capacity) {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) != 0) {
    int online = (int)sysconf(_SC_NPROCESSORS_ONLN);
    for (int i = 0; i < online && i < capacity; i++) processors[i] = i;
    return online;
  }
  int count = 0;
  for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
    if (!CPU_ISSET(cpu, &set)) continue;
    if (count < capacity) processors[count] = cpu;
    count++;
  }
  return count;
}

int csystem_pin(int processor) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(processor, &set);
  return sched_setaffinity(0, sizeof set, &set) == 0 ? 0 : errno;
}

int64_t csystem_peak_resident(void) {
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return (int64_t)usage.ru_maxrss * 1024;
}

const char *csystem_baseline(void) { return APUS_BASELINE; }

#if defined(__x86_64__)
// Runs before any Swift code, and is itself compiled for plain x86-64: a processor that lacks the baseline gets one
// line instead of an illegal instruction.
__attribute__((constructor)) static void check_processor(void) {
  __builtin_cpu_init();
  const char *lacks = NULL;
  if (strcmp(APUS_BASELINE, "x86-64") != 0 && strcmp(APUS_BASELINE, "x86-64-v2") != 0) {
    if (!__builtin_cpu_supports("avx2")) lacks = "AVX2";
    else if (!__builtin_cpu_supports("fma")) lacks = "FMA";
    else if (!__builtin_cpu_supports("bmi2")) lacks = "BMI2";
  }
  if (strcmp(APUS_BASELINE, "x86-64-v4") == 0 && !__builtin_cpu_supports("avx512f")) lacks = "AVX-512";
  if (lacks == NULL) return;
  fprintf(stderr, "apus was built for %s, but this processor has no %s: rebuild with APUS_CPU=native Scripts/build\n",
          APUS_BASELINE, lacks);
  _exit(70);
}
#endif
