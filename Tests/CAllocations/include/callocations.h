// Counts the memory allocations of chosen threads. Linked into the test program, it stands before the C library's
// malloc and its relatives for the whole process, Swift's runtime included, and hands every call on.
#ifndef CALLOCATIONS_H
#define CALLOCATIONS_H

#include <stdbool.h>

/// Whether this platform's C library can be stood before.
bool callocations_work(void);

/// Whether allocations of the calling thread are counted, while counting is on.
void callocations_watch(bool watched);

/// Starts counting from 0.
void callocations_begin(void);

/// Stops counting. Returns how many allocations the watched threads made.
int callocations_end(void);

/// Allocates a byte, which no compiler leaves out.
void *callocations_one(void);

/// Prints to standard error where the first of the allocations came from.
void callocations_print(void);

#endif
