// Counts the memory allocations of chosen threads. Linked into the test program, it interposes malloc and its relatives
// for the whole process, including Swift's runtime, and forwards every call to the C library.
#ifndef CALLOCATIONS_H
#define CALLOCATIONS_H

#include <stdbool.h>

/// Whether this platform's C library can be interposed.
bool callocations_work(void);

/// Sets whether allocations of the calling thread are counted while counting is on.
void callocations_watch(bool watched);

/// Starts counting from 0.
void callocations_begin(void);

/// Stops counting. Returns the number of allocations by the watched threads.
int callocations_end(void);

/// Allocates one byte in a way that the compiler cannot remove.
void *callocations_one(void);

/// Prints backtraces of the first counted allocations to standard error.
void callocations_print(void);

#endif
