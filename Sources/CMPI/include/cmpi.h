// MPI: the few calls that the engine makes. Failures do not return: they are reported and end the whole job.
#ifndef CMPI_H
#define CMPI_H

#include <stdint.h>

/// Each purpose has a communicator of its own, so that the order of collectives is the same on every rank whatever
/// runs in between.
enum cmpi_channel { CMPI_CONTROL = 0, CMPI_STATISTICS = 1, CMPI_GRADIENTS = 2 };
enum cmpi_type { CMPI_BYTE = 0, CMPI_INT64 = 1, CMPI_FLOAT = 2, CMPI_DOUBLE = 3 };
enum { CMPI_REQUESTS = 16 };
enum cmpi_operation { CMPI_SUM = 0, CMPI_MAX = 1, CMPI_MIN = 2 };

/// What a call is for, and for which layer; NULL where that is none. Errors say it.
typedef struct { const char *what, *layer; } cmpi_purpose;

/// Starts MPI (serialised threads). Returns 0, or 1 if it is already running.
int cmpi_start(void);
void cmpi_stop(void);
int cmpi_rank(void);
int cmpi_size(void);
/// Ranks on this rank's node, found by shared memory, not by a launcher's variables; this rank's place among them.
int cmpi_node_size(void);
int cmpi_node_rank(void);
/// Ranks on the node that has the fewest, as far as they share memory.
int cmpi_smallest_node(void);
/// Nodes, as far as their ranks share memory; known to the first `cmpi_smallest_node` ranks of each.
int cmpi_node_count(void);
/// Library and version in one line.
const char *cmpi_library(void);
const char *cmpi_host(void);

/// In place, over all ranks. Counts may exceed 2^31.
void cmpi_all_reduce(int channel, void *data, int64_t count, int type, int operation, cmpi_purpose purpose);
/// Memory that the ranks of this node share, which begins with so many zeros. All ranks of the job call it, each with
/// what its node needs, before they sum; another call gives the same. `has_room`: whether there are as many bytes, as
/// the node's first rank found. MPI is not asked for memory that some node has no room for: with Open MPI one rank
/// fails then, and the others wait for it for ever. NULL where a rank has its node for itself; and where some node's
/// ranks cannot share memory: then every rank counts as a node of its own.
void *cmpi_node_memory(int64_t bytes, int64_t zeros, int has_room);
/// Gives every rank of this node the bytes of each, in the order of their places.
void cmpi_gather_on_node(const void *send, void *receive, int64_t bytes);
/// Begins the sum, in place, over those ranks of all nodes that have this one's place, which is among the first
/// `cmpi_smallest_node`. It has the number of a request, 0 ..< CMPI_REQUESTS, whose last sum is done. The data may not
/// be touched until this one is. Nothing moves but within MPI calls. `what` is kept: a text that lives as long as the
/// program.
void cmpi_begin_sum_of_nodes(int request, float *data, int64_t count, const char *what);
/// Moves all that is under way, and says whether the request is done.
int cmpi_is_done(int request);
/// Moves all that is under way, and leaves the processor to others where ranks share it.
void cmpi_advance(void);
/// Concatenates `counts[rank]` bytes of every rank in rank order.
void cmpi_all_gather(int channel, const void *send, void *receive, const int64_t *counts, cmpi_purpose purpose);
void cmpi_broadcast(int channel, void *data, int64_t bytes, int root, cmpi_purpose purpose);
void cmpi_barrier(int channel);

/// Largest count that one MPI call gets; lowered by tests.
void cmpi_set_chunk(int64_t count);

/// Says `[rank 3 of 8, host] message` and ends the whole job with the code, without return.
void cmpi_abort(const char *message, int code) __attribute__((noreturn));

#endif
