// What the operating system and the processor say that Foundation does not.
#ifndef CSYSTEM_H
#define CSYSTEM_H

#include <stdint.h>

/// Processors that the launcher bound this process to, ascending. Returns how many; fills at most `capacity`.
int csystem_processors(int *processors, int capacity);

/// Pins the calling thread to one processor. Returns 0, or errno.
int csystem_pin(int processor);

/// Peak resident memory of this process, in bytes.
int64_t csystem_peak_resident(void);

/// The instruction-set baseline that the Swift code was compiled for.
const char *csystem_baseline(void);

#endif
