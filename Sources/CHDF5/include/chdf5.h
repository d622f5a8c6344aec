// A thin wrapper of HDF5 with plain integers and pointers, and one message buffer for errors.
//
// Not thread-safe: the serial library has global state, so the caller must hold one lock around every call.
// Functions return 0 (or a handle, or a count) on success and -1 on failure, with a message in `message`.
#ifndef CHDF5_H
#define CHDF5_H

#include <stddef.h>
#include <stdint.h>

#define CHDF5_MESSAGE 512
#define CHDF5_MAX_RANK 8

enum {
  CHDF5_FLOAT = 0, CHDF5_DOUBLE, CHDF5_INT8, CHDF5_UINT8, CHDF5_UINT16, CHDF5_INT32, CHDF5_UINT32, CHDF5_INT64,
  CHDF5_UINT64,
  CHDF5_TEXT,    // fixed-length strings
  CHDF5_OTHER,   // any other type; not supported
};

enum { CHDF5_READ = 0, CHDF5_UPDATE, CHDF5_CREATE };

/// Type, shape and place of a dataset or an attribute.
typedef struct {
  int type;                       // one of the types above
  int rank;                       // 0 for a scalar
  int64_t shape[CHDF5_MAX_RANK];
  int64_t count;                  // product of the shape
  int64_t element;                // bytes of one element in the file
  int contiguous;                 // 1 if all of it lies in one range of this file
  int64_t offset;                 // start of that range, -1 if nothing is allocated
  int64_t stored;                 // allocated bytes
} chdf5_info;

/// Stops the library from printing errors. In some builds the switch is per thread, so call it before every call.
void chdf5_quiet(void);

/// Opens or creates a file. `alignment` > 1 starts every allocation at a multiple of it (creating only).
int64_t chdf5_open(const char *path, int mode, int64_t alignment, char *message);
int chdf5_close(int64_t file, char *message);

/// Writes a contiguous dataset and creates missing groups of its path. Without values it only allocates the space.
/// For CHDF5_TEXT, `element` is the fixed length in bytes; shorter strings are null-padded.
int chdf5_write(int64_t file, const char *name, int type, int64_t element, int rank, const int64_t *shape,
                const void *values, char *message);
int chdf5_dataset_info(int64_t file, const char *name, chdf5_info *info, char *message);
int chdf5_read(int64_t file, const char *name, int type, int64_t element, void *values, char *message);

/// Attributes of an object ("/" is the root group), of rank 0 or 1. Writing replaces an existing attribute.
int chdf5_attribute_write(int64_t file, const char *object, const char *name, int type, int64_t element, int64_t count,
                          int scalar, const void *values, char *message);
int chdf5_attribute_info(int64_t file, const char *object, const char *name, chdf5_info *info, char *message);
int chdf5_attribute_read(int64_t file, const char *object, const char *name, int type, int64_t element, void *values,
                         char *message);
/// 1 if the attribute exists, else 0.
int chdf5_attribute_exists(int64_t file, const char *object, const char *name, char *message);

/// Number of links in a group, and the name of one in name order (its length; at most `capacity` - 1 bytes are filled).
int64_t chdf5_group_count(int64_t file, const char *group, char *message);
int64_t chdf5_group_name(int64_t file, const char *group, int64_t index, char *name, int64_t capacity, char *message);

#endif
