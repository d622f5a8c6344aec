#define _GNU_SOURCE
#include "cmpi.h"

#include <mpi.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static MPI_Comm channels[3];
// The ranks of this node, and the ranks of all nodes that have this rank's index on their node.
static MPI_Comm node = MPI_COMM_NULL, nodes = MPI_COMM_NULL;
static MPI_Win window = MPI_WIN_NULL;
static MPI_Request requests[CMPI_REQUESTS];
static const char *request_purposes[CMPI_REQUESTS];
static int rank = 0, size = 1, node_rank = 0, node_size = 1, smallest_node = 1, node_count = 1, running = 0;
static int64_t chunk = 1 << 30;
static char host[256] = "", library[MPI_MAX_LIBRARY_VERSION_STRING] = "none";

static const MPI_Datatype type_of(int type) {
  switch (type) {
  case CMPI_INT64: return MPI_INT64_T;
  case CMPI_FLOAT: return MPI_FLOAT;
  case CMPI_DOUBLE: return MPI_DOUBLE;
  default: return MPI_BYTE;
  }
}

static size_t size_of(int type) { return type == CMPI_BYTE ? 1 : type == CMPI_FLOAT ? 4 : 8; }

static void check_for(int status, const char *call, cmpi_purpose purpose) {
  if (status == MPI_SUCCESS) return;
  char reason[MPI_MAX_ERROR_STRING] = "", message[MPI_MAX_ERROR_STRING + 512];
  int length = 0;
  MPI_Error_string(status, reason, &length);
  snprintf(message, sizeof message,
           "%s for %s%s%s failed: %s; a rank or its host is likely gone: resume from the last checkpoint", call,
           purpose.what, purpose.layer != NULL ? " of " : "", purpose.layer != NULL ? purpose.layer : "", reason);
  cmpi_abort(message, 74);
}

static void check(int status, const char *call, const char *what) {
  check_for(status, call, (cmpi_purpose){what, NULL});
}

int cmpi_start(void) {
  int initialised = 0;
  MPI_Initialized(&initialised);
  if (initialised) return 1;
  int provided = 0;
  gethostname(host, sizeof host - 1);
  check(MPI_Init_thread(NULL, NULL, MPI_THREAD_SERIALIZED, &provided), "MPI_Init_thread", "start");
  running = 1;
  MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  if (provided < MPI_THREAD_SERIALIZED)
    cmpi_abort("this MPI was built without thread support (MPI_THREAD_SERIALIZED): load another build", 70);
  for (int i = 0; i < 3; i++) {
    check(MPI_Comm_dup(MPI_COMM_WORLD, &channels[i]), "MPI_Comm_dup", "start");
    MPI_Comm_set_errhandler(channels[i], MPI_ERRORS_RETURN);
  }
  int status = MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, rank, MPI_INFO_NULL, &node);
  check(status, "MPI_Comm_split_type", "start");
  MPI_Comm_set_errhandler(node, MPI_ERRORS_RETURN);
  MPI_Comm_rank(node, &node_rank);
  MPI_Comm_size(node, &node_size);
  check(MPI_Allreduce(&node_size, &smallest_node, 1, MPI_INT, MPI_MIN, MPI_COMM_WORLD), "MPI_Allreduce", "start");
  int place = node_rank < smallest_node ? node_rank : MPI_UNDEFINED;
  check(MPI_Comm_split(MPI_COMM_WORLD, place, rank, &nodes), "MPI_Comm_split", "start");
  if (nodes != MPI_COMM_NULL) {
    MPI_Comm_set_errhandler(nodes, MPI_ERRORS_RETURN);
    MPI_Comm_size(nodes, &node_count);
  }
  int length = 0;
  MPI_Get_library_version(library, &length);
  library[strcspn(library, ",\n")] = '\0';
  return 0;
}

void cmpi_stop(void) {
  if (!running) return;
  if (window != MPI_WIN_NULL) {
    MPI_Win_unlock_all(window);
    MPI_Win_free(&window);
  }
  if (nodes != MPI_COMM_NULL) MPI_Comm_free(&nodes);
  MPI_Comm_free(&node);
  for (int i = 0; i < 3; i++) MPI_Comm_free(&channels[i]);
  MPI_Finalize();
  running = 0;
}

int cmpi_rank(void) { return rank; }
int cmpi_size(void) { return size; }
int cmpi_node_rank(void) { return node_rank; }
int cmpi_node_size(void) { return node_size; }
int cmpi_smallest_node(void) { return smallest_node; }
int cmpi_node_count(void) { return node_count; }
const char *cmpi_library(void) { return library; }
const char *cmpi_host(void) {
  if (host[0] == '\0') gethostname(host, sizeof host - 1);
  return host;
}

static MPI_Op op_of(int operation) {
  return operation == CMPI_SUM ? MPI_SUM : operation == CMPI_MAX ? MPI_MAX : MPI_MIN;
}

void cmpi_all_reduce(int channel, void *data, int64_t count, int type, int operation, cmpi_purpose purpose) {
  MPI_Op op = op_of(operation);
  for (int64_t done = 0; done < count; done += chunk) {
    int part = (int)(count - done < chunk ? count - done : chunk);
    char *begin = (char *)data + done * (int64_t)size_of(type);
    check_for(MPI_Allreduce(MPI_IN_PLACE, begin, part, type_of(type), op, channels[channel]), "MPI_Allreduce", purpose);
  }
}

static int on_all(int flag) {
  check(MPI_Allreduce(MPI_IN_PLACE, &flag, 1, MPI_INT, MPI_MIN, channels[CMPI_CONTROL]), "MPI_Allreduce", "start");
  return flag;
}

void *cmpi_node_memory(int64_t bytes, int64_t zeros, int has_room) {
  static void *memory = NULL;
  static int asked = 0;
  if (asked || size == 1) return memory;
  asked = 1;
  void *own;
  MPI_Aint length = node_rank == 0 ? (MPI_Aint)bytes : 0;
  int shared = on_all(node_size == 1 || node_rank > 0 || has_room), unit;
  if (shared && node_size > 1)
    shared = MPI_Win_allocate_shared(length, 1, MPI_INFO_NULL, node, &own, &window) == MPI_SUCCESS;
  if (!on_all(shared)) {
    if (rank == 0)
      fprintf(stderr,
              "warning: the ranks of a node cannot share %lld KiB of memory (is /dev/shm full, or small?): "
              "they sum gradients over MPI, slower\n",
              (long long)(bytes >> 10));
    // From now on every rank counts as a node of its own.
    if (window != MPI_WIN_NULL) MPI_Win_free(&window);
    if (nodes != MPI_COMM_NULL) MPI_Comm_free(&nodes);
    check(MPI_Comm_dup(MPI_COMM_WORLD, &nodes), "MPI_Comm_dup", "start");
    MPI_Comm_set_errhandler(nodes, MPI_ERRORS_RETURN);
    smallest_node = 1, node_count = size;
    return NULL;
  }
  if (node_size == 1) return NULL;
  check(MPI_Win_shared_query(window, 0, &length, &unit, &memory), "MPI_Win_shared_query", "start");
  check(MPI_Win_lock_all(MPI_MODE_NOCHECK, window), "MPI_Win_lock_all", "start");
  if (node_rank == 0) memset(memory, 0, (size_t)zeros);
  check(MPI_Barrier(node), "MPI_Barrier", "start");
  return memory;
}

void cmpi_gather_on_node(const void *send, void *receive, int64_t bytes) {
  check(MPI_Allgather(send, (int)bytes, MPI_BYTE, receive, (int)bytes, MPI_BYTE, node), "MPI_Allgather", "start");
}

void cmpi_begin_sum_of_nodes(int request, float *data, int64_t count, const char *what) {
  if (count > chunk) cmpi_abort("a non-blocking all-reduce of more than MPI's counts hold: use smaller buckets", 70);
  request_purposes[request] = what;
  int status = MPI_Iallreduce(MPI_IN_PLACE, data, (int)count, MPI_FLOAT, MPI_SUM, nodes, &requests[request]);
  check(status, "MPI_Iallreduce", what);
}

int cmpi_is_done(int request) {
  int done = 0;
  check(MPI_Test(&requests[request], &done, MPI_STATUS_IGNORE), "MPI_Test", request_purposes[request]);
  return done;
}

void cmpi_advance(void) {
  int found;
  check(MPI_Iprobe(MPI_ANY_SOURCE, MPI_ANY_TAG, node, &found, MPI_STATUS_IGNORE), "MPI_Iprobe", "what is under way");
  sched_yield();
}

void cmpi_all_gather(int channel, const void *send, void *receive, const int64_t *counts, cmpi_purpose purpose) {
  // One MPI_Allgatherv if the total fits into MPI's int counts, else one broadcast in chunks per rank.
  int64_t total = 0;
  for (int r = 0; r < size; r++) total += counts[r];
  if (total <= chunk) {
    int *part = malloc(sizeof(int) * 2 * (size_t)size), *place = part + size;
    for (int r = 0, at = 0; r < size; at += (int)counts[r], r++) part[r] = (int)counts[r], place[r] = at;
    check_for(MPI_Allgatherv(send, part[rank], MPI_BYTE, receive, part, place, MPI_BYTE, channels[channel]),
              "MPI_Allgatherv", purpose);
    free(part);
    return;
  }
  char *at = receive;
  for (int r = 0; r < size; at += counts[r], r++) {
    if (r == rank) memcpy(at, send, (size_t)counts[r]);
    cmpi_broadcast(channel, at, counts[r], r, purpose);
  }
}

void cmpi_broadcast(int channel, void *data, int64_t bytes, int root, cmpi_purpose purpose) {
  for (int64_t done = 0; done < bytes; done += chunk) {
    int part = (int)(bytes - done < chunk ? bytes - done : chunk);
    check_for(MPI_Bcast((char *)data + done, part, MPI_BYTE, root, channels[channel]), "MPI_Bcast", purpose);
  }
}

void cmpi_barrier(int channel) { check(MPI_Barrier(channels[channel]), "MPI_Barrier", "agreement"); }

void cmpi_set_chunk(int64_t count) { chunk = count; }

void cmpi_abort(const char *message, int code) {
  fflush(stdout);
  if (size > 1) fprintf(stderr, "[rank %d of %d, %s] %s\n", rank, size, cmpi_host(), message);
  else fprintf(stderr, "%s\n", message);
  fflush(stderr);
  // With one rank there is no other to end, and MPI_Abort would print more lines after the message.
  if (running && size == 1) MPI_Finalize();
  else if (running) MPI_Abort(MPI_COMM_WORLD, code);
  _exit(code);
}
