// The MPI calls that the engine needs. They do not return errors: a failure is reported and ends the whole job.
#ifndef CMPI_H
#define CMPI_H

#include <stdint.h>

/// Each channel has its own communicator, so that collectives of different channels may interleave differently on each
/// rank.
enum cmpi_channel { CMPI_CONTROL = 0, CMPI_STATISTICS = 1, CMPI_GRADIENTS = 2 };
enum cmpi_type { CMPI_BYTE = 0, CMPI_INT64 = 1, CMPI_FLOAT = 2, CMPI_DOUBLE = 3 };
enum { CMPI_REQUESTS = 16 };
enum cmpi_operation { CMPI_SUM = 0, CMPI_MAX = 1, CMPI_MIN = 2 };

/// What a call is for, and for which layer (NULL for none). Named in errors.
typedef struct { const char *what, *layer; } cmpi_purpose;

/// Starts MPI with MPI_THREAD_SERIALIZED. Returns 0, or 1 if it is already running.
int cmpi_start(void);
void cmpi_stop(void);
int cmpi_rank(void);
int cmpi_size(void);
/// Number of ranks on this rank's node, and this rank's index among them. A node is what can share memory, whatever the
/// launcher's variables say.
int cmpi_node_size(void);
int cmpi_node_rank(void);
/// Number of ranks on the node that has the fewest; 1 after ranks were found not to share memory.
int cmpi_smallest_node(void);
/// Number of nodes, or of ranks after these were found not to share memory. Valid on the first `cmpi_smallest_node`
/// ranks of each node.
int cmpi_node_count(void);
/// Library and version in one line.
const char *cmpi_library(void);
/// Name of this host.
const char *cmpi_host(void);

/// All-reduce in place over all ranks. Counts may exceed 2^31.
void cmpi_all_reduce(int channel, void *data, int64_t count, int type, int operation, cmpi_purpose purpose);
/// Memory that the ranks of this node share; its first `zeros` bytes are zero. Collective: all ranks of the job call it
/// before the first sum, each with the bytes that its node needs. Later calls return the same memory.
/// `has_room`: whether the node has room for it, as its first rank found. If some node has none, MPI is not asked for
/// the memory: with Open MPI one rank would fail, and the others would wait for it forever.
/// NULL if the rank is alone on its node, or if the ranks of some node cannot share memory; in the latter case every
/// rank counts as a node of its own from then on.
void *cmpi_node_memory(int64_t bytes, int64_t zeros, int has_room);
/// All-gather of `bytes` bytes from every rank of this node, in the order of their indices on the node.
void cmpi_gather_on_node(const void *send, void *receive, int64_t bytes);
/// Begins a sum in place over the ranks of all nodes that have this rank's index on their node, which must be below
/// `cmpi_smallest_node`. `request` is in 0 ..< CMPI_REQUESTS, and its previous sum must be done. The data may not be
/// touched until the sum is done. MPI makes progress only inside MPI calls. The pointer `what` is stored, so the text
/// must live as long as the program.
void cmpi_begin_sum_of_nodes(int request, float *data, int64_t count, const char *what);
/// Lets MPI progress, and returns whether the request is done.
int cmpi_is_done(int request);
/// Lets MPI progress, and yields the processor to other ranks that may share it.
void cmpi_advance(void);
/// Concatenates `counts[r]` bytes of every rank r in rank order.
void cmpi_all_gather(int channel, const void *send, void *receive, const int64_t *counts, cmpi_purpose purpose);
void cmpi_broadcast(int channel, void *data, int64_t bytes, int root, cmpi_purpose purpose);
void cmpi_barrier(int channel);

/// Sets the largest count of one MPI call; tests lower it.
void cmpi_set_chunk(int64_t count);

/// Prints `[rank 3 of 8, host] message` to standard error and ends the whole job with the code.
void cmpi_abort(const char *message, int code) __attribute__((noreturn));

#endif
